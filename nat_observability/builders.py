"""From settings to exporters: which type name makes which exporter; constructors only, no I/O."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sink import BlockingSink
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

ExporterBuilder = Callable[[str, Any], BaseExporter]
"""Makes an exporter from its name and its settings, without opening anything."""

ENTRY_POINT_GROUP = "nat_observability.exporters"
"""Entry points of this group add exporter types: the name is the type, the object an `ExporterBuilder`."""


def _memory(name: str, settings: MemoryExporterSettings) -> BaseExporter:
    return delivering(name, settings, MemorySink(settings.limit))


def _console(name: str, settings: ConsoleExporterSettings) -> BaseExporter:
    stream = sys.stdout if settings.stream == "stdout" else sys.stderr
    return delivering(name, settings, ConsoleSink(stream, color=settings.color))


def _file(name: str, settings: FileExporterSettings) -> BaseExporter:
    return delivering(name, settings, FileSink(settings.path, max_bytes=settings.max_bytes, backups=settings.backups))


def _sqlite(name: str, settings: SqliteExporterSettings) -> BaseExporter:
    return delivering(name, settings, SqliteSink(settings.path, synchronous=settings.synchronous))


BUILT_IN_TYPES: Mapping[str, ExporterBuilder] = {
    "console": _console,
    "file": _file,
    "memory": _memory,
    "sqlite": _sqlite,
}


def delivering(name: str, settings: ExporterSettings, sink: BlockingSink) -> BaseExporter:
    """Return the exporter of steps or spans that `settings` describes, writing to `sink`."""
    kind = StepExporter if settings.record == "steps" else SpanExporter
    return kind(sink, name=name, limits=delivery_limits(settings), flush=settings.flush)


def delivery_limits(settings: ExporterSettings) -> DeliveryLimits:
    """Return the limits that are part of every exporter's settings."""
    return DeliveryLimits(
        queue_items=settings.queue_items,
        queue_bytes=settings.queue_bytes,
        queue_policy=settings.queue_policy,
        batch_items=settings.batch_items,
        batch_bytes=settings.batch_bytes,
        batch_age=settings.batch_age,
        write_timeout=settings.write_timeout,
    )


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
        exporters[name] = types[entry.type](name, entry)
        check_exporter(name, exporters[name])
    return exporters


def required_exporters(settings: ObservabilitySettings) -> frozenset[str]:
    """Return the names of the exporters without which nothing is to start."""
    return frozenset(name for name, exporter in settings.exporters.items() if settings.enabled and exporter.required)
