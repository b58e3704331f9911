"""isolate(): a run's own instances of its exporters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

from nat_observability.context import ContextState, framework_state
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.foreign_errors import locate, reraise_signal
from nat_observability.logs import RepeatedEvent, get_logger

_log = get_logger()


def isolate(
    registry: Mapping[str, BaseExporter], state: ContextState, given: ContextState | None
) -> dict[str, BaseExporter]:
    """
    Return an instance of every exporter, or the exporter itself, with a warning, if it cannot be isolated.

    Args:
        registry: The exporters, by name.
        state: The state that our exporters are bound to.
        given: The state that the exporters of the run's framework are bound to; None for its current one.
    """
    isolated: dict[str, BaseExporter] = {}
    for name, exporter in registry.items():
        try:
            kind = type(exporter)
            if state is given or traits(kind).ours:
                own = state
            else:
                own = given if given is not None else framework_state(kind) or state
                if (around := delivery_around(kind)) is not None:
                    around(name, exporter)
            isolated[name] = exporter.create_isolated_instance(own)
        except BaseException as error:  # noqa: BLE001  foreign code may raise anything, or lacks the method
            reraise_signal(error)
            isolated[name] = exporter
            if (suppressed := unsupported(type(exporter)).due()) is not None:
                _log.warning(
                    "exporter_isolation_unsupported",
                    exporter=name,
                    workflow_run_id=state.run.run_id,
                    error=locate(error),
                    suppressed=suppressed,
                )
    return isolated


@lru_cache(maxsize=256)
def delivery_around(kind: type) -> Callable[[str, object], None] | None:
    """Return what puts a delivery around an exporter of a framework's own class; None if there is no such framework."""
    for each in kind.__mro__:
        if (found := _AROUND.get(each.__module__.partition(".")[0])) is not None:
            module, function = found
            return cast(Callable[[str, object], None], getattr(importlib.import_module(module), function))
    return None


_AROUND = {"nat": ("nat_observability.integrations.nat.delivered", "deliver")}
"""By the top-level package of a framework; imported only if it is there."""


@lru_cache(maxsize=256)
def unsupported(kind: type[BaseExporter]) -> RepeatedEvent:
    """Return the limiter of the warning about a class that cannot isolate itself; each run repeats it."""
    return RepeatedEvent()


class Traits(NamedTuple):
    """What the manager needs to know about an exporter's class."""

    ours: bool  # derived from BaseExporter, so that it has subscriptions
    plain: bool  # ours, with nothing of its own at a run's start and end
    stops: bool  # has a `stop` of its own, beyond the end of its subscription


@lru_cache(maxsize=256)
def traits(kind: type[BaseExporter]) -> Traits:
    """Return what the manager needs to know about an exporter's class."""
    ours = issubclass(kind, BaseExporter)
    stops = not ours or kind.stop is not BaseExporter.stop
    return Traits(ours, ours and not stops and kind.start is BaseExporter.start, stops)
