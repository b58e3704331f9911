"""use_manager() and use_manager_for_all(): our managers where workflows of the reference toolkit have its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nat_observability.errors import InvalidWorkflowError, UnknownExporterError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager

_NEEDED_OF_WORKFLOW = ("_exporter_manager", "telemetry_exporters")


def use_manager(workflow: object, manager: ExporterManager) -> ExporterManager:
    """
    Have every later run of a workflow of the toolkit use a copy of `manager`, and return that copy.

    The exporters that the workflow's configuration names (`general.telemetry.tracing`) are in the copy too. One of
    the manager's own that has the name of such an exporter takes its place. The toolkit's have a delivery around them:
    see `deliver`.

    Args:
        workflow: What the toolkit's `WorkflowBuilder.build()` returned.
        manager: Its options, such as timeouts and required exporters, are kept.

    Raises:
        InvalidWorkflowError: A TypeError; `workflow` is none.
    """
    if missing := [each for each in _NEEDED_OF_WORKFLOW if not hasattr(workflow, each)]:
        raise InvalidWorkflowError(workflow, missing)
    owner = cast(Any, workflow)
    # The toolkit has no other way in.
    copy = owner._exporter_manager = _with(manager, owner.telemetry_exporters)
    return copy


def use_manager_for_all(manager: ExporterManager | None) -> None:
    """
    Do the same with every workflow that the toolkit builds from now on, in the whole process; None undoes that.

    For workflows that others build: `nat run`, `nat serve`, `nat eval`. Call it in a module that the toolkit loads
    as a plugin (an entry point of the group `nat.components`).
    """
    from nat.builder import workflow
    from nat.observability import exporter_manager

    workflow.ExporterManager = exporter_manager.ExporterManager if manager is None else Managers(manager)


class Managers:
    """Stands where the toolkit has its own class of managers, which it asks for one when it builds a workflow."""

    def __init__(self, manager: ExporterManager) -> None:
        self._manager = manager

    def from_exporters(self, exporters: Mapping[str, BaseExporter]) -> ExporterManager:
        """Return a manager with these exporters and with ours."""
        return _with(self._manager, exporters)


def _with(manager: ExporterManager, exporters: Mapping[str, BaseExporter]) -> ExporterManager:
    copy = manager.get()
    for name, exporter in exporters.items():
        try:
            copy.get_exporter(name)
        except UnknownExporterError:
            copy.add_exporter(name, exporter)
    return copy
