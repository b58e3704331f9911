"""From settings to exporters: which type name makes which exporter; constructors only, nothing connects."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nat_observability.builders.processing import OwnProcessing, ProcessingPlan, sampling_of, without_secrets
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.errors import (
    MissingExtraError,
    SettingsError,
    SinkError,
    UnknownExporterTypeError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.selection import Selection
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter_manager import check_exporter
from nat_observability.logs import RepeatedEvent, get_logger, set_level
from nat_observability.propagation.formats import use_propagators
from nat_observability.recording.capture.limits import set_limits
from nat_observability.settings.error_messages import option_problems
from nat_observability.settings.exporters.base import ExporterSettings
from nat_observability.settings.exporters.models import PRESET_NAMES
from nat_observability.settings.misspelt_variables import unused_hints
from nat_observability.settings.observability import ObservabilitySettings
from nat_observability.settings.standard_variables.opentelemetry import SERVICE_NAME
from nat_observability.settings.variables import EXPORTERS, variable
from nat_observability.sinks.protocol import BlockingSink, Sink
from nat_observability.validation import secret_text

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from nat_observability.processors import PriceTable
    from nat_observability.resource import Resource
    from nat_observability.settings import (
        ConsoleExporterSettings,
        FileExporterSettings,
        LangfuseExporterSettings,
        MemoryExporterSettings,
        MetricsExporterSettings,
        OtlpExporterSettings,
        PhoenixExporterSettings,
        PresetExporterSettings,
        SqliteExporterSettings,
    )
    from nat_observability.sinks.otlp.presets import OtlpTarget

ExporterBuilder = Callable[[str, Any, ObservabilitySettings], BaseExporter]
"""Makes an exporter from its name, its settings and those of the process, without opening anything."""

ENTRY_POINT_GROUP = "nat_observability.exporters"
"""Entry points of this group add exporter types: the name is the type, the object an `ExporterBuilder`."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,15}")  # as long a text is secret only by its name


# Of the sinks, and of what they need, only those are imported that are configured.


def _resource(own: ExporterSettings, settings: ObservabilitySettings) -> Resource:
    """Return the resource's attributes, those that somebody wrote without their secrets."""
    written = {SERVICE_NAME: settings.service_name, **settings.resource_attributes}
    if _PLAIN.fullmatch(settings.service_name) is not None and not settings.resource_attributes:
        return settings.resource
    found = {name: value for name, value in settings.resource.items() if name not in written}
    return {**found, **without_secrets(own, written)}


def _memory(name: str, own: MemoryExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.memory import MemorySink

    return delivering(name, own, settings, MemorySink(own.limit))


def _metrics(name: str, own: MetricsExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.metrics import MetricsSink

    return delivering(name, own, settings, MetricsSink())


def _console(name: str, own: ConsoleExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.console import ConsoleSink

    stream = sys.stdout if own.stream == "stdout" else sys.stderr
    return delivering(name, own, settings, ConsoleSink(stream, color=own.color))


def _file(name: str, own: FileExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.file import FileSink

    sink = FileSink(
        own.path,
        max_bytes=own.max_bytes,
        backups=own.backups,
        format=own.format,
        resource=_resource(own, settings),
        resource_schema_url=settings.resource_schema_url,
        dialect=own.dialect,
    )
    return delivering(name, own, settings, sink)


def _sqlite(name: str, own: SqliteExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.sqlite import SqliteSink

    sink = SqliteSink(own.path, synchronous=own.synchronous, keep_for=own.keep_for, keep_size=own.keep_size)
    return delivering(name, own, settings, sink)


def _otlp(name: str, own: OtlpExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    traces_endpoint = None if own.traces_endpoint is None else secret_text(own.traces_endpoint)
    sink: Sink
    if own.protocol == "grpc":
        from nat_observability.sinks.otlp.grpc import OtlpGrpcSink

        sink = OtlpGrpcSink(
            traces_endpoint or secret_text(own.endpoint),
            headers=own.headers,
            compression=own.compression,
            timeout=own.timeout,
            resource=_resource(own, settings),
            resource_schema_url=settings.resource_schema_url,
            dialect=own.dialect,
            ca_file=own.ca_file,
            client_certificate=own.client_certificate,
            client_key=own.client_key,
        )
    else:
        from nat_observability.sinks.otlp.http import OtlpHttpSink

        sink = OtlpHttpSink(
            secret_text(own.endpoint),
            traces_endpoint=traces_endpoint,
            headers=own.headers,
            compression=own.compression,
            encoding="json" if own.protocol == "http/json" else "protobuf",
            timeout=own.timeout,
            resource=_resource(own, settings),
            resource_schema_url=settings.resource_schema_url,
            dialect=own.dialect,
            ca_file=own.ca_file,
            client_certificate=own.client_certificate,
            client_key=own.client_key,
        )
    return delivering(name, own, settings, sink)


def _phoenix(name: str, own: PhoenixExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.otlp.presets import phoenix

    target = phoenix(secret_text(own.endpoint), own.api_key, project=own.project)
    return _to_target(name, own, settings, target)


def _langfuse(name: str, own: LangfuseExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.sinks.otlp.presets import langfuse

    target = langfuse(
        own.public_key,
        own.secret_key,
        secret_text(own.host),
        environment=own.environment,
        release=own.release,
    )
    return _to_target(name, own, settings, target)


def _preset(name: str, own: PresetExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    from nat_observability.builders.presets import target_of
    from nat_observability.sinks.otlp.http import OtlpHttpSink

    target = target_of(own)
    sink = OtlpHttpSink(
        traces_endpoint=target.traces_endpoint,
        headers=target.headers,
        timeout=own.timeout,
        resource={**_resource(own, settings), **target.resource},
        resource_schema_url=settings.resource_schema_url,
        dialect=own.dialect,
        ca_file=own.ca_file,
        client_certificate=own.client_certificate,
        client_key=own.client_key,
    )
    return delivering(name, own, settings, sink)


def _to_target(
    name: str,
    own: PhoenixExporterSettings | LangfuseExporterSettings,
    settings: ObservabilitySettings,
    target: OtlpTarget,
) -> BaseExporter:
    from nat_observability.sinks.otlp.http import OtlpHttpSink

    sink = OtlpHttpSink(
        target.endpoint,
        headers=target.headers,
        timeout=own.timeout,
        resource={**_resource(own, settings), **target.resource},
        resource_schema_url=settings.resource_schema_url,
        dialect=own.dialect,
        ca_file=own.ca_file,
        client_certificate=own.client_certificate,
        client_key=own.client_key,
    )
    return delivering(name, own, settings, sink)


BUILT_IN_TYPES: Mapping[str, ExporterBuilder] = {
    "console": _console,
    "file": _file,
    "langfuse": _langfuse,
    "memory": _memory,
    "metrics": _metrics,
    "otlp": _otlp,
    "phoenix": _phoenix,
    "sqlite": _sqlite,
    **dict.fromkeys(PRESET_NAMES, _preset),
}


# Set while exporters are built. A service's own builder calls `delivering` with only what it was given itself.
_plan: ContextVar[ProcessingPlan | None] = ContextVar("nat_observability_processing_plan", default=None)


def delivering(
    name: str, own: ExporterSettings, settings: ObservabilitySettings, sink: Sink | BlockingSink
) -> BaseExporter:
    """
    Return the exporter of steps or spans that the settings describe, writing to `sink`, with its processors.

    While the exporters of a process are built, those with equal processing share it, including what a service adds in
    code; and those of one type that take part in some runs only share their threads.
    """
    plan = _plan.get() or ProcessingPlan({name: own}, {})
    delivery = Delivery(
        name,
        sink,
        limits=delivery_limits(own, settings),
        loop_source=plan.threads(own.type) if own.select else None,
        processors=plan.intake(name),
    )
    kind = StepExporter if own.record == "steps" else SpanExporter
    return kind(delivery, flush=own.flush, sampling=sampling_of(own))


def delivery_limits(own: ExporterSettings, settings: ObservabilitySettings) -> DeliveryLimits:
    """Return the limits that every exporter's settings have, and those of the process."""
    of_the_process: dict[str, Any] = {
        "open_timeout": settings.start_timeout,
        "drain_timeout": settings.shutdown_timeout,
    }
    of_its_own = set(DeliveryLimits.__struct_fields__) - set(of_the_process)
    return DeliveryLimits(**of_the_process, **{field: getattr(own, field) for field in of_its_own})


def exporter_types(
    settings: ObservabilitySettings, own: Mapping[str, ExporterBuilder]
) -> dict[str, ExporterBuilder]:
    """
    Return a builder for every configured exporter type, the caller's own before entry points before built-in ones.

    Raises:
        UnknownExporterTypeError: An exporter's type is not known.
        Exception: Whatever an entry point's package raises on import, with a note that names the entry point.
    """
    known: dict[str, ExporterBuilder] = {**BUILT_IN_TYPES, **own}
    # Entry points are looked up only for unknown types: the look-up reads the metadata of every package.
    if wanted := {exporter.type for exporter in settings.exporters.values()} - known.keys():
        from importlib.metadata import entry_points

        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name in wanted:
                known[point.name] = _load(point)
    for name, exporter in settings.exporters.items():
        if exporter.type not in known:
            raise UnknownExporterTypeError(variable(EXPORTERS, name, "type"), exporter.type, known)
    return known


def checked_types(own: object) -> Mapping[str, ExporterBuilder]:
    """
    Return a service's own exporter types.

    Raises:
        TypeError: It is not a mapping of names to functions that can be called as builders.
    """
    if not isinstance(own, Mapping):
        raise TypeError(
            f"exporter_types is a mapping of names to functions, not of type {type(own).__name__}. "
            "Pass providers.Object({'own': build})."
        )
    for name, build in own.items():
        try:
            if not callable(build):
                raise TypeError("it is not a function")
            inspect.signature(build).bind("name", None, None)
        except ValueError:  # it has no signature that could be read
            continue
        except TypeError as problem:
            raise TypeError(
                f"exporter_types: what makes exporters of type {name!r} cannot be called with their name, their "
                f"settings and those of the process ({problem}). Pass a function that takes these three."
            ) from None
    return own


def check_exporter_types(settings: ObservabilitySettings, own: Collection[str] | None) -> None:
    """
    Check that every exporter's type is known, without making any.

    Args:
        settings: Of the process.
        own: The names of the caller's own types; None if they are not known yet.

    Raises:
        UnknownExporterTypeError: An exporter's type is not known.
    """
    if settings.enabled and own is not None:
        exporter_types(settings, dict.fromkeys(own, _memory))


def _load(point: EntryPoint) -> ExporterBuilder:
    try:
        builder: ExporterBuilder = point.load()
    except Exception as error:
        error.add_note(
            f"Exporter type {point.name!r} is the entry point {point.value!r}. Mend or remove its package."
        )
        raise
    return builder


def build_exporters(
    settings: ObservabilitySettings,
    own_types: Mapping[str, ExporterBuilder] | None = None,
    own_processing: Mapping[str, OwnProcessing] | None = None,
) -> dict[str, BaseExporter]:
    """
    Return the configured exporters by name, none if observability is switched off.

    Also sets, for the process, what recording a value may take, which headers a trace travels in, and the level of
    the package's own log lines.

    Args:
        settings: Of the process.
        own_types: Builders by type.
        own_processing: A service's own processors and rules, by the name of the exporter; `*` for every exporter.

    Raises:
        UnknownExporterError: A name in `own_processing` is not that of an exporter.
        UnknownExporterTypeError: An exporter's type is not known.
        InvalidExporterError: A builder returned something else.
        MissingExtraError: An exporter needs a package that is not installed.
        SettingsError: The settings are well-formed, but a builder refused them: a certificate that does not exist, say.
            It lists what each builder said, under the name of the exporter's variables.
    """
    set_limits(settings.capture_node_limit, settings.capture_bytes_limit)
    use_propagators(settings.propagators)
    set_level(settings.log_level)
    if not settings.enabled:
        return {}
    types = exporter_types(settings, checked_types(own_types or {}))
    exporters: dict[str, BaseExporter] = {}
    problems: list[str] = []
    prices = None if settings.prices is None else _prices(settings.prices)
    plan = ProcessingPlan(settings.exporters, own_processing or {}, prices)
    for name, entry in settings.exporters.items():
        token = _plan.set(plan)
        try:
            made: Any = types[entry.type](name, entry, settings)
            if inspect.iscoroutine(made):
                made.close()  # nothing would ever await it
            check_exporter(name, made)
            exporters[name] = exporter = made
            plan.complete(name, exporter)
            if entry.select:
                problems += _select(name, exporter, entry.select)
        except MissingExtraError as error:
            raise MissingExtraError(f"Exporter {name!r} of type {entry.type!r}", error.extra) from error
        except ValidationError as error:  # from a custom type's own model
            problems += option_problems(error, name)
        except SettingsError as error:
            problems += error.problems
        except (SinkError, ValueError) as error:
            problems.append(f"{variable(EXPORTERS, name)}: {error}")
        finally:
            _plan.reset(token)
    if not problems:
        return exporters
    # Outside the handlers: a cause may hold values, and would travel along as the error's context.
    raise SettingsError(problems)


def _prices(path: Path) -> PriceTable:
    from nat_observability.processors import PriceTable

    return PriceTable.load(path)


def _select(name: str, exporter: object, select: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Have an exporter take part in the runs that its settings select; return what prevents it."""
    if not isinstance(exporter, BaseExporter):
        return [f"{variable(EXPORTERS, name, 'select')} needs an exporter that derives from BaseExporter."]
    exporter.select = Selection(select, globs=True)
    return []


def warn_of_no_exporter(settings: ObservabilitySettings) -> None:
    """
    Log, once per process, that nothing is recorded because no exporter is configured, with what may have been meant.

    Does nothing if observability is switched off. It reads the file system.
    """
    if settings.enabled and not settings.exporters and _no_exporter.due() is not None:
        _log.warning(
            "no_exporter_configured",
            seen=unused_hints(type(settings)),
            cure=f"Set {variable(EXPORTERS, 'main', 'type')}, or {variable('enabled')}=false.",
        )


_log = get_logger()
_no_exporter = RepeatedEvent(math.inf)


def required_exporters(settings: ObservabilitySettings) -> frozenset[str]:
    """Return the names of the exporters without which nothing may start."""
    return frozenset(
        name for name, exporter in settings.exporters.items() if settings.enabled and exporter.required
    )
