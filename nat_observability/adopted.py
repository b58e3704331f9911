"""AdoptedState: a run that another framework has begun, as one of ours; run_state() finds the run of a state."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from nat_observability.context import ContextState
from nat_observability.errors import UnknownContextStateError
from nat_observability.events import Run

# By the full name of the framework's own class: where the function is that adopts an object of it. Named and not
# imported, because the core imports no framework; the integration is imported when the first such object comes.
_ADAPTERS = {"nat.builder.context.ContextState": ("nat_observability.integrations.nat", "adopt")}
# By the package in which a framework's exporters are: the module and the class of its context state.
_STATES = {"nat": ("nat.builder.context", "ContextState")}


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

    That of another framework gives each time the same run, while that lasts. A test's stand-in for either
    (`Mock(spec=ContextState)`) has no run, and gives a new one.

    Raises:
        UnknownContextStateError: A TypeError; no supported framework has such a context state.
        UnsupportedVersionError: It is that of a version that is not supported.
    """
    # By `__class__` a stand-in says for what it stands; a proxy of a run does too, and has the run.
    stands_for = given.__class__
    if issubclass(stands_for, ContextState):
        state = cast(ContextState, given)
        return state if type(given) is stands_for or type(state.run) is Run else ContextState()
    found = _adapter(stands_for)
    if found is None:
        raise UnknownContextStateError(given, _ADAPTERS)
    if type(given) is not stands_for:
        return ContextState()
    module, function = found
    return cast(_Adapter, getattr(importlib.import_module(module), function))(given)


def framework_state(kind: type) -> Any:
    """Return the current context state of the framework that an exporter's class is of; None for a class of none."""
    for each in kind.__mro__:
        if (found := _STATES.get(each.__module__.partition(".")[0])) is not None:
            module, name = found
            return getattr(importlib.import_module(module), name).get()
    return None


def _adapter(kind: type) -> tuple[str, str] | None:
    for each in kind.__mro__:
        if (found := _ADAPTERS.get(f"{each.__module__}.{each.__qualname__}")) is not None:
            return found
    return None
