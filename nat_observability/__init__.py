"""Lifecycle of telemetry exporters for asynchronous Python workflows."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.context import ContextState, outgoing_headers
    from nat_observability.delivery.delivery import Delivery
    from nat_observability.delivery.ledger import LedgerSnapshot
    from nat_observability.delivery.limits import DeliveryLimits
    from nat_observability.delivery.state import DeliveryHealth
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

    __version__: str

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

# A program uses few of them, and what it does not use need not be read from the disk.
_HOMES = {
    "nat_observability.context": (
        "ContextState",
        "outgoing_headers",
    ),
    "nat_observability.delivery.delivery": ("Delivery",),
    "nat_observability.delivery.ledger": ("LedgerSnapshot",),
    "nat_observability.delivery.limits": ("DeliveryLimits",),
    "nat_observability.delivery.state": ("DeliveryHealth",),
    "nat_observability.errors": (
        "ExporterStartError",
        "InvalidExporterError",
        "InvalidExporterNameError",
        "InvalidTimeoutError",
        "ManagerRunningError",
        "MissingExtraError",
        "ObservabilityError",
        "RuntimeStateError",
        "SettingsError",
        "SettingsWarning",
        "SinkError",
        "UnknownExporterError",
        "UnknownExporterTypeError",
        "UnknownStepKindError",
    ),
    "nat_observability.events": (
        "Boundary",
        "ErrorDetails",
        "IntermediateStep",
        "Run",
        "Span",
        "SpanEvent",
        "SpanKind",
        "SpanLink",
        "SpanOrigin",
        "Status",
        "StepKind",
        "TokenCost",
        "TokenUsage",
    ),
    "nat_observability.exporter.base_exporter": ("BaseExporter",),
    "nat_observability.exporter.sampling": ("Sampling",),
    "nat_observability.exporter.span_exporter": ("SpanExporter",),
    "nat_observability.exporter.step_exporter": ("StepExporter",),
    "nat_observability.exporter_manager": ("ExporterManager",),
    "nat_observability.health": (
        "RuntimeHealth",
        "RuntimeReport",
    ),
    "nat_observability.recording.bound_context": ("bind_context",),
    "nat_observability.recording.step": ("step",),
    "nat_observability.run.report": (
        "ExporterReport",
        "ExporterState",
        "FlushReceipt",
        "ManagerReport",
    ),
    "nat_observability.runtime": ("ObservabilityRuntime",),
    "nat_observability.sinks.protocol": (
        "BlockingSink",
        "Sink",
    ),
    "nat_observability.version": ("__version__",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(
        __name__, _HOMES, modules=("context", "errors", "exporter", "exporter_manager", "sinks")
    )
