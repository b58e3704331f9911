"""OpenTelemetry: our steps as its current span, and its spans as our steps."""

from nat_observability.integrations.opentelemetry.current_span import follow_steps, unfollow_steps

__all__ = ["follow_steps", "unfollow_steps"]
