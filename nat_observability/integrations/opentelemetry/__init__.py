"""OpenTelemetry: our steps as its current span, its spans as our steps, and its SDK's spans through our exporters."""

from importlib import import_module
from typing import TYPE_CHECKING

from nat_observability.integrations.opentelemetry.current_span import follow_steps, unfollow_steps

if TYPE_CHECKING:
    from nat_observability.integrations.opentelemetry.span_exporter import (
        ObservabilitySpanExporter,
        ObservabilitySpanProcessor,
    )
    from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor

__all__ = [
    "ObservabilitySpanExporter",
    "ObservabilitySpanProcessor",
    "StepSpanProcessor",
    "follow_steps",
    "unfollow_steps",
]

# These need the SDK, which the rest does not.
_HOMES = {
    "ObservabilitySpanExporter": "span_exporter",
    "ObservabilitySpanProcessor": "span_exporter",
    "StepSpanProcessor": "span_processor",
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
