"""ObservabilitySpanExporter, ObservabilitySpanProcessor: spans of OpenTelemetry's SDK, delivered by this package."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from nat_observability.builders import build_exporters, warn_of_no_exporter
from nat_observability.errors import MissingExtraError, SettingsError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter as OwnSpanExporter
from nat_observability.integrations.opentelemetry.hand_over import HandOver
from nat_observability.resource import ResourceValue
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.variables import EXPORTERS, variable
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
except ModuleNotFoundError:
    raise MissingExtraError("ObservabilitySpanExporter", "opentelemetry-sdk") from None

_ONE = "nat_observability"
"""The name of the exporter that is configured where the SDK's own exporter is."""


class _Way:
    """
    From the SDK's spans to the exporters that the settings name, opened with the first span, or earlier.

    Args:
        settings: Of the process.
        exporters: Instead of those that the settings name.
        resource: Attributes of the SDK's resource; None to take those of the first span.
    """

    def __init__(
        self,
        settings: ObservabilitySettings,
        exporters: Mapping[str, BaseExporter] | None,
        resource: Resource | None,
    ) -> None:
        self.settings, self._given = settings, exporters
        self._hand_over: HandOver | None = None
        self._closed = False
        self.start_clean()
        _ways.add(self)
        # What is wrong is to stop the start, and not the first span.
        _checked(exporters if exporters is not None else build_exporters(settings))
        if settings.enabled and not exporters:
            warn_of_no_exporter(settings)
        if resource is not None:
            self._open(resource)

    def start_clean(self) -> None:
        """In a forked child: a thread that was opening the exporters is not there."""
        # The first spans may end in several threads at once, and each exporter is opened once.
        self._opening = threading.Lock()

    def take(self, span: ReadableSpan) -> None:
        hand_over = self._hand_over
        if hand_over is None:
            if not self.settings.enabled:
                return
            with self._opening:
                hand_over = self._hand_over
                if hand_over is None:
                    if self._closed:
                        return
                    hand_over = self._open(span.resource)
        hand_over.take(span)

    def flush(self, timeout_millis: int | None) -> bool:
        seconds = self.settings.shutdown_timeout if timeout_millis is None else timeout_millis / 1000
        return self._hand_over is None or self._hand_over.flush(seconds)

    def close(self) -> None:
        with self._opening:
            self._closed = True
        if self._hand_over is not None:
            self._hand_over.close(self.settings.shutdown_timeout)

    def _open(self, resource: Resource) -> HandOver:
        exporters = self._given
        if exporters is None:
            own = self.settings
            # What the SDK found out about the process, unless our settings say it.
            found = {name: _of_resource(value) for name, value in resource.attributes.items()}
            theirs = found.pop("service.name", None)
            name = (
                own.service_name if "service_name" in own.model_fields_set or theirs is None else str(theirs)
            )
            update = {
                "resource_attributes": {**found, **own.resource_attributes},
                "resource_schema_url": own.resource_schema_url or resource.schema_url or None,
                "service_name": name or own.service_name,
            }
            exporters = build_exporters(own.model_copy(update=update))
        self._hand_over = HandOver(exporters)
        return self._hand_over


_ways: WeakRegistry[_Way] = WeakRegistry()


def _start_clean_in_child() -> None:
    for each in _ways.all():
        each.start_clean()


at_fork(after_in_child=_start_clean_in_child)


class ObservabilitySpanProcessor(SpanProcessor):
    """
    Hands each span that ends to the exporters of this package, at once.

    For `TracerProvider.add_span_processor`, in place of a BatchSpanProcessor and an exporter: queue, batches, spool,
    retry, redaction, limits and the ledger are those of the exporters. The sampler is the provider's: ratios of the
    settings do not count, and `select` does not either, for there is no run.

    Args:
        settings: Of the process; by default those of the environment.
        exporters: Exporters with a delivery, instead of those that the settings name.
        resource: The provider's resource, to open the exporters at once; by default the first span's.

    Raises:
        SettingsError: A setting is not valid, or an exporter cannot be made, or cannot take spans.
    """

    def __init__(
        self,
        settings: ObservabilitySettings | None = None,
        *,
        exporters: Mapping[str, BaseExporter] | None = None,
        resource: Resource | None = None,
    ) -> None:
        self._way = _Way(settings or ObservabilitySettings(), exporters, resource)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span counts when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self._way.take(span)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Wait until every span so far is delivered; return whether it was."""
        return self._way.flush(timeout_millis)

    def shutdown(self) -> None:
        """Deliver what waits, within the settings' `shutdown_timeout`."""
        self._way.close()


class ObservabilitySpanExporter(SpanExporter):
    """
    Exports the SDK's spans through the exporters of this package.

    `OTEL_TRACES_EXPORTER=nat_observability` and the exporter `nat_observability` of a configuration file mean this
    class. A BatchSpanProcessor hands spans over seconds after they have ended; an `ObservabilitySpanProcessor` does so
    at once, and is what an application that may be killed uses.

    Args:
        settings: Of the process; by default those of the environment.
        exporters: Exporters with a delivery, instead of those that the settings name.
        resource: The provider's resource, to open the exporters at once; by default the first span's.
        **exporter: The settings of one exporter, as `NAT_OBSERVABILITY_EXPORTERS__NAME__…` has them, instead of those
            that the settings name: `type="sqlite", path="spans.sqlite3"`.

    Raises:
        SettingsError: A setting is not valid, or an exporter cannot be made, or cannot take spans.
    """

    def __init__(
        self,
        settings: ObservabilitySettings | None = None,
        *,
        exporters: Mapping[str, BaseExporter] | None = None,
        resource: Resource | None = None,
        **exporter: Any,
    ) -> None:
        if settings is None:
            settings = (
                ObservabilitySettings(exporters={_ONE: exporter}) if exporter else ObservabilitySettings()
            )
        self._way = _Way(settings, exporters, resource)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand spans over. It waits for nothing: the deliveries retry, and their ledgers count."""
        for span in spans:
            self._way.take(span)
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until every span so far is delivered; return whether it was."""
        return self._way.flush(timeout_millis)

    def shutdown(self) -> None:
        """Deliver what waits, within the settings' `shutdown_timeout`."""
        self._way.close()


class EnvironmentSpanExporter(ObservabilitySpanExporter):
    """
    What the SDK makes for `OTEL_TRACES_EXPORTER=nat_observability`: hands spans over when they end.

    The SDK puts it behind a BatchSpanProcessor, in whose queue spans would wait for seconds. The provider exists by
    then, so this adds a processor of ours to it, and has nothing left to do when the batch comes. Without such a
    provider it exports what it is given.
    """

    def __init__(self, settings: ObservabilitySettings | None = None, **exporter: Any) -> None:
        provider = trace.get_tracer_provider()
        resource = provider.resource if isinstance(provider, TracerProvider) else None
        super().__init__(settings, resource=resource, **exporter)
        self._seen_by_processor = resource
        if isinstance(provider, TracerProvider):
            provider.add_span_processor(_AtTheEnd(self._way))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand over those that the processor has not seen: spans of another provider."""
        return super().export([span for span in spans if span.resource is not self._seen_by_processor])


class _AtTheEnd(ObservabilitySpanProcessor):
    def __init__(self, way: _Way) -> None:
        self._way = way


def _checked(exporters: Mapping[str, BaseExporter]) -> None:
    problems = [
        f"{variable(EXPORTERS, name)} cannot take the SDK's spans; allowed: an exporter that records spans."
        for name, exporter in exporters.items()
        if not isinstance(exporter, OwnSpanExporter)
    ]
    if problems:
        raise SettingsError(problems)


def _of_resource(value: Any) -> ResourceValue:
    if isinstance(value, tuple | list):
        return [_of_resource(each) for each in value]  # type: ignore[return-value]
    return value if isinstance(value, str | bool | int | float) else str(value)
