"""A module as an application has it: functions that a container injects into."""

# Without postponed annotations: dependency-injector reads them when it wires.
from typing import Annotated

from dependency_injector.wiring import Closing, Provide, inject

from nat_observability.containers import ObservabilityContainer
from nat_observability.exporter_manager import ExporterManager


@inject
def annotated(
    manager: Annotated[ExporterManager, Provide[ObservabilityContainer.exporter_manager]],
) -> ExporterManager:
    """A function with its dependency in the annotation."""
    return manager


@inject
async def handler(
    manager: ExporterManager = Closing[Provide[ObservabilityContainer.exporter_manager]],
) -> ExporterManager:
    """A request handler that closes its dependency when it ends, which is one of the traps."""
    return manager
