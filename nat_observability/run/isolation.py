"""taking_part() and isolate(): which exporters a run is for, and the instances that it gets of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from nat_observability.context import ContextState, framework_state
from nat_observability.events import Run
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.foreign_errors import locate
from nat_observability.logs import RepeatedEvent, get_logger

_log = get_logger()
_log_selection = RepeatedEvent()


def taking_part(registry: dict[str, BaseExporter], run: Run) -> dict[str, BaseExporter]:
    """Return those that take part in a run: the registry itself, which is not to be changed, where that is all."""
    selecting = [name for name, exporter in registry.items() if getattr(exporter, "select", None) is not None]
    left_out = [name for name in selecting if not _selected(name, registry[name], run)]
    return {name: registry[name] for name in registry if name not in left_out} if left_out else registry


def _selected(name: str, exporter: object, run: Run) -> bool:
    # A class written for the reference toolkit may have a `select` that means something else.
    if not isinstance(exporter, BaseExporter) or exporter.select is None:
        return True
    try:
        return bool(exporter.select(run))
    except Exception as error:  # noqa: BLE001  foreign code
        if (suppressed := _log_selection.due()) is not None:
            _log.warning(
                "exporter_selection_failed",
                exporter=name,
                workflow_run_id=run.run_id,
                error=locate(error),
                suppressed=suppressed,
            )
        return False


def isolate(
    registry: Mapping[str, BaseExporter], state: ContextState, given: ContextState | None
) -> dict[str, BaseExporter]:
    """
    Return an instance of every exporter, or itself, with a warning, where there is none.

    Args:
        registry: The exporters, by name.
        state: What ours are bound to.
        given: What those of the framework are bound to that the run belongs to; None for what is current there.
    """
    isolated: dict[str, BaseExporter] = {}
    for name, exporter in registry.items():
        try:
            kind = type(exporter)
            if state is given or traits(kind).ours:
                own = state
            else:
                own = given if given is not None else framework_state(kind) or state
            isolated[name] = exporter.create_isolated_instance(own)
        except Exception as error:  # noqa: BLE001  foreign code, or an exporter without the method
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
def unsupported(kind: type[BaseExporter]) -> RepeatedEvent:
    """Return what says when the warning about a class that cannot isolate itself is due; each run repeats it."""
    return RepeatedEvent()


class Traits(NamedTuple):
    """What the manager has to know of an exporter's class."""

    ours: bool  # derived from BaseExporter, so that it has subscriptions
    plain: bool  # ours, with nothing of its own at a run's start and end
    stops: bool  # has a `stop` of its own, beyond the end of its subscription


@lru_cache(maxsize=256)
def traits(kind: type[BaseExporter]) -> Traits:
    """Return what is to be known of an exporter's class."""
    ours = issubclass(kind, BaseExporter)
    stops = not ours or kind.stop is not BaseExporter.stop
    return Traits(ours, ours and not stops and kind.start is BaseExporter.start, stops)
