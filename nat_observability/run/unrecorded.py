"""note_unrecorded(): a line, once in a process, about the first run that no exporter takes part in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nat_observability.events import Run
from nat_observability.logs import get_logger

if TYPE_CHECKING:
    from nat_observability.run.manager_options import ManagerOptions

_log = get_logger()
_said: set[str] = set()


def note_unrecorded(run: Run, registry: Mapping[str, object], options: ManagerOptions) -> None:
    """Log that a run is recorded by no exporter: the manager has none, or none selects the run."""
    if registry:
        what, cure = "none_selects_it", "Give the run the tags or ids that one of the exporters selects."
    elif options.observer is None:
        what, cure = "no_exporter", "Call add_exporter(), or take the manager from a container."
    else:
        return  # the runtime has said so
    if what not in _said:
        _said.add(what)
        _log.warning("run_not_recorded", workflow_run_id=run.run_id, reason=what, cure=cure)
