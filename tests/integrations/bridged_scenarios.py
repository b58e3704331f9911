"""What a scenario of bridged spans is: what it calls, and which instrumentors of which module see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from opentelemetry.sdk.trace import SpanProcessor

Calls = Callable[[str], Awaitable[None]]
"""Makes spans; is given the URL of the servers."""

Scenarios = dict[str, tuple[Calls, str, tuple[str, ...]]]
"""By name: what is called, and the instrumentors of which module; none if it instruments itself."""

PROCESSORS: list[SpanProcessor] = []
"""Those whose spans are compared, for a scenario with a tracer provider of its own."""
