"""OpenTelemetry: our steps as its current span, its spans as our steps, and its SDK's spans through our exporters."""

from typing import TYPE_CHECKING

from nat_observability.integrations.opentelemetry.current_span import follow_steps, unfollow_steps
from nat_observability.lazy_names import lazily

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
    "nat_observability.integrations.opentelemetry.span_exporter": (
        "ObservabilitySpanExporter",
        "ObservabilitySpanProcessor",
    ),
    "nat_observability.integrations.opentelemetry.span_processor": ("StepSpanProcessor",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
