"""Lifecycle of telemetry exporters for asynchronous Python workflows."""

from typing import TYPE_CHECKING

from nat_observability.context import ContextState, outgoing_headers
from nat_observability.delivery.delivery import Delivery, DeliveryHealth
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.errors import (
    ExporterStartError,
    InvalidExporterError,
    InvalidExporterNameError,
    InvalidTimeoutError,
    ManagerRunningError,
    MissingExtraError,
    ObservabilityError,
    RuntimeStateError,
    SettingsError,
    SettingsWarning,
    SinkError,
    UnknownExporterError,
    UnknownExporterTypeError,
    UnknownStepKindError,
)
from nat_observability.events import (
    Boundary,
    ErrorDetails,
    IntermediateStep,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeHealth, RuntimeReport
from nat_observability.recording.bound_context import bind_context
from nat_observability.recording.step import step
from nat_observability.run.report import ExporterReport, ExporterState, FlushReceipt, ManagerReport
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import BlockingSink, Sink

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> object:
        # Reading it takes longer than everything else here.
        if name == "__version__":
            from nat_observability.version import package_version

            return package_version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BaseExporter",
    "BlockingSink",
    "Boundary",
    "ContextState",
    "Delivery",
    "DeliveryHealth",
    "DeliveryLimits",
    "ErrorDetails",
    "ExporterManager",
    "ExporterReport",
    "ExporterStartError",
    "ExporterState",
    "FlushReceipt",
    "IntermediateStep",
    "InvalidExporterError",
    "InvalidExporterNameError",
    "InvalidTimeoutError",
    "LedgerSnapshot",
    "ManagerReport",
    "ManagerRunningError",
    "MissingExtraError",
    "ObservabilityError",
    "ObservabilityRuntime",
    "Run",
    "RuntimeHealth",
    "RuntimeReport",
    "RuntimeStateError",
    "Sampling",
    "SettingsError",
    "SettingsWarning",
    "Sink",
    "SinkError",
    "Span",
    "SpanEvent",
    "SpanExporter",
    "SpanKind",
    "SpanLink",
    "SpanOrigin",
    "Status",
    "StepExporter",
    "StepKind",
    "TokenCost",
    "TokenUsage",
    "UnknownExporterError",
    "UnknownExporterTypeError",
    "UnknownStepKindError",
    "bind_context",
    "outgoing_headers",
    "step",
]
