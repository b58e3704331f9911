"""From settings to exporters: which type name makes which exporter; constructors only, no I/O."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sink import BlockingSink, Sink
from nat_observability.errors import UnknownExporterTypeError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter_manager import check_exporter
from nat_observability.settings import (
    ConsoleExporterSettings,
    ExporterSettings,
    FileExporterSettings,
    MemoryExporterSettings,
    ObservabilitySettings,
    SqliteExporterSettings,
)
from nat_observability.sinks import ConsoleSink, FileSink, MemorySink, SqliteSink

ExporterBuilder = Callable[[str, Any, ObservabilitySettings], BaseExporter]
"""Makes an exporter from its name, its own settings and those of the process, without opening anything."""

ENTRY_POINT_GROUP = "nat_observability.exporters"
"""Entry points of this group add exporter types: the name is the type, the object an `ExporterBuilder`."""


def _memory(name: str, own: MemoryExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    return delivering(name, own, settings, MemorySink(own.limit))


def _console(name: str, own: ConsoleExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    stream = sys.stdout if own.stream == "stdout" else sys.stderr
    return delivering(name, own, settings, ConsoleSink(stream, color=own.color))


def _file(name: str, own: FileExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    return delivering(name, own, settings, FileSink(own.path, max_bytes=own.max_bytes, backups=own.backups))


def _sqlite(name: str, own: SqliteExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    return delivering(name, own, settings, SqliteSink(own.path, synchronous=own.synchronous))


BUILT_IN_TYPES: Mapping[str, ExporterBuilder] = {
    "console": _console,
    "file": _file,
    "memory": _memory,
    "sqlite": _sqlite,
}


def delivering(
    name: str, own: ExporterSettings, settings: ObservabilitySettings, sink: Sink | BlockingSink
) -> BaseExporter:
    """Return the exporter of steps or spans that its settings describe, writing to `sink`."""
    kind = StepExporter if own.record == "steps" else SpanExporter
    return kind(sink, name=name, limits=delivery_limits(own, settings), flush=own.flush)


def delivery_limits(own: ExporterSettings, settings: ObservabilitySettings) -> DeliveryLimits:
    """Return the limits that are part of every exporter's settings, and those of the process."""
    of_the_process = {"open_timeout": settings.start_timeout, "drain_timeout": settings.shutdown_timeout}
    of_its_own = set(DeliveryLimits.__struct_fields__) - set(of_the_process)
    return DeliveryLimits(**of_the_process, **{field: getattr(own, field) for field in of_its_own})


def exporter_types(
    settings: ObservabilitySettings, own: Mapping[str, ExporterBuilder]
) -> dict[str, ExporterBuilder]:
    """
    Return a builder for every configured exporter type, the caller's own before entry points before built-in ones.

    Raises:
        UnknownExporterTypeError: An exporter's type is not known.
    """
    known: dict[str, ExporterBuilder] = {**BUILT_IN_TYPES, **own}
    # Entry points are looked up, and loaded, only for what nobody else knows: it reads the metadata of every package.
    if any(exporter.type not in known for exporter in settings.exporters.values()):
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name not in known:
                known[point.name] = point.load()
    for name, exporter in settings.exporters.items():
        if exporter.type not in known:
            raise UnknownExporterTypeError(f"NAT_OBSERVABILITY_EXPORTERS__{name.upper()}__TYPE", exporter.type, known)
    return known


def build_exporters(
    settings: ObservabilitySettings, own_types: Mapping[str, ExporterBuilder] | None = None
) -> dict[str, BaseExporter]:
    """
    Return the configured exporters by name, none where observability is switched off.

    Raises:
        UnknownExporterTypeError: An exporter's type is not known.
        InvalidExporterError: A builder returned something else.
    """
    if not settings.enabled:
        return {}
    types = exporter_types(settings, own_types or {})
    exporters: dict[str, BaseExporter] = {}
    for name, entry in settings.exporters.items():
        exporters[name] = types[entry.type](name, entry, settings)
        check_exporter(name, exporters[name])
    return exporters


def required_exporters(settings: ObservabilitySettings) -> frozenset[str]:
    """Return the names of the exporters without which nothing is to start."""
    return frozenset(name for name, exporter in settings.exporters.items() if settings.enabled and exporter.required)
