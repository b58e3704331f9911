"""`nat_observability.containers` under the name it has in this repository; not part of the distribution."""

from nat_observability.containers import (
    ExporterBuilder,
    ObservabilityContainer,
    OwnProcessing,
    delivering,
    observability,
    run,
)

__all__ = [
    "ExporterBuilder",
    "ObservabilityContainer",
    "OwnProcessing",
    "delivering",
    "observability",
    "run",
]
