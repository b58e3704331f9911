"""The dependency-injection container, what a service needs to extend it, and what opens one for a whole script."""

from nat_observability.builders.exporters import ExporterBuilder, delivering
from nat_observability.builders.processing import OwnProcessing
from nat_observability.containers.container import ObservabilityContainer
from nat_observability.containers.script import observability, run

__all__ = [
    "ExporterBuilder",
    "ObservabilityContainer",
    "OwnProcessing",
    "delivering",
    "observability",
    "run",
]
