"""ASGI applications: a run for each request, and the runtime in the application's lifespan."""

from nat_observability.integrations.asgi.health import HealthRoute, MetricsRoute, health_response
from nat_observability.integrations.asgi.lifespan import ObservabilityLifespan, lifespan
from nat_observability.integrations.asgi.middleware import RequestMiddleware
from nat_observability.integrations.asgi.options import Options
from nat_observability.integrations.asgi.request import (
    RequestState,
    current_manager,
    current_source,
    current_state,
    keep_open,
)
from nat_observability.integrations.asgi.request_headers import header
from nat_observability.integrations.asgi.source import RuntimeSource, Source

__all__ = [
    "HealthRoute",
    "MetricsRoute",
    "ObservabilityLifespan",
    "Options",
    "RequestMiddleware",
    "RequestState",
    "RuntimeSource",
    "Source",
    "current_manager",
    "current_source",
    "current_state",
    "header",
    "health_response",
    "keep_open",
    "lifespan",
]
