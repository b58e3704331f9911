"""The dependency-injection container, what a service needs to extend it, and what opens one for a whole script."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
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

_HOMES = {
    "nat_observability.builders.exporters": ("ExporterBuilder", "delivering"),
    "nat_observability.builders.processing": ("OwnProcessing",),
    "nat_observability.containers.container": ("ObservabilityContainer",),
    "nat_observability.containers.script": ("observability", "run"),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
