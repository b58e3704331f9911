"""OpenTelemetry: our steps as its current span, and its spans as our steps."""

from typing import TYPE_CHECKING

from nat_observability.integrations.opentelemetry.current_span import follow_steps, unfollow_steps

if TYPE_CHECKING:
    from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor

__all__ = ["StepSpanProcessor", "follow_steps", "unfollow_steps"]

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's

    def __getattr__(name: str) -> object:
        # It needs the SDK, which the rest does not.
        if name == "StepSpanProcessor":
            from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor

            return StepSpanProcessor
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
