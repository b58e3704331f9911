"""AdoptedState: a run that another framework has begun, as one of ours, and run_state(), which finds the way to it."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from nat_observability.context import ContextState
from nat_observability.errors import UnknownContextStateError

# By the full name of the framework's own class: where the function is that adopts an object of it. Named and not
# imported, because the core imports no framework; the integration is imported when the first such object comes.
_ADAPTERS = {"nat.builder.context.ContextState": ("nat_observability.integrations.nat", "adopt")}


class AdoptedState(ContextState):
    """
    The state of a run whose ids and steps come from another framework.

    An integration derives from it; the core knows no more of the framework than this.
    """

    __slots__ = ()

    def ended(self, error: BaseException | None) -> None:
        """
        End what the framework leaves open; the exporters still take steps.

        Never raises.

        Args:
            error: What the run's block raised, None where it ended well.
        """


class _Adapter(Protocol):
    def __call__(self, foreign: object) -> AdoptedState: ...


def run_state(given: object) -> ContextState:
    """
    Return the run that a context state stands for: itself, where it is ours.

    That of another framework gives each time the same run, while that lasts.

    Raises:
        UnknownContextStateError: A TypeError; no supported framework has such a context state.
        UnsupportedVersionError: It is that of a version that is not supported.
    """
    if isinstance(given, ContextState):
        return given
    adapter = _adapter(type(given))
    if adapter is None:
        raise UnknownContextStateError(given, _ADAPTERS)
    return adapter(given)


def _adapter(kind: type) -> _Adapter | None:
    for each in kind.__mro__:
        if (found := _ADAPTERS.get(f"{each.__module__}.{each.__qualname__}")) is not None:
            module, function = found
            return cast(_Adapter, getattr(importlib.import_module(module), function))
    return None
