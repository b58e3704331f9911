"""From settings to exporters, processors and sampling: constructors only, nothing is opened."""

from nat_observability.builders.exporters import (
    BUILT_IN_TYPES,
    ENTRY_POINT_GROUP,
    ExporterBuilder,
    build_exporters,
    check_exporter_types,
    delivering,
    delivery_limits,
    exporter_types,
    required_exporters,
    warn_of_no_exporter,
)
from nat_observability.builders.processing import EVERY, OwnProcessing

__all__ = [
    "BUILT_IN_TYPES",
    "ENTRY_POINT_GROUP",
    "EVERY",
    "ExporterBuilder",
    "OwnProcessing",
    "build_exporters",
    "check_exporter_types",
    "delivering",
    "delivery_limits",
    "exporter_types",
    "required_exporters",
    "warn_of_no_exporter",
]
