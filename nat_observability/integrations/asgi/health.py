"""HealthRoute and MetricsRoute: ASGI applications that answer with the runtime's health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from nat_observability.health import RuntimeHealth
from nat_observability.integrations.asgi.prometheus import prometheus_text
from nat_observability.integrations.asgi.source import Source, check_source
from nat_observability.integrations.asgi.types import Receive, Scope, Send

Check = Literal["live", "ready"]

_READ = ("GET", "HEAD")
_JSON = b"application/json"
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


class HealthRoute:
    """
    Answers GET and HEAD with `runtime.health()` as JSON, at any path that it is mounted at.

    A path that ends in `/live` asks whether the process lives: it is 200 as long as it can answer. Any other path asks
    whether it is ready: 503 if the runtime is not open, if a required exporter delivers nothing, or if none of them
    does. `failing` in the JSON says which and why.

    Args:
        source: The container, or a `RuntimeSource`.
        check: Which of the two it answers, whatever the path.
        max_age: Seconds for which items may wait while a back end takes nothing.

    Raises:
        MissingContainerError: `source` has no runtime.
    """

    def __init__(self, source: Source, *, check: Check | None = None, max_age: float = 60.0) -> None:
        check_source(type(self).__name__, source)
        self._source = source
        self._check = check
        self._max_age = max_age

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; refuse a websocket."""
        asked: Check = "live" if scope.get("path", "").rstrip("/").endswith("/live") else "ready"
        check = self._check or asked
        await _answer(
            scope, send, _JSON, lambda: health_response(self._source, check=check, max_age=self._max_age)
        )


class MetricsRoute:
    """
    Answers GET and HEAD with the counts of the exporters as text for Prometheus, at any path that it is mounted at.

    Raises:
        MissingContainerError: `source` has no runtime.
    """

    def __init__(self, source: Source) -> None:
        check_source(type(self).__name__, source)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; refuse a websocket."""
        await _answer(
            scope, send, _PROMETHEUS, lambda: (200, prometheus_text(self._source.runtime_object().health()))
        )


async def _answer(
    scope: Scope, send: Send, content_type: bytes, respond: Callable[[], tuple[int, bytes]]
) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
        return
    status, body = respond() if scope["method"] in _READ else (405, b"")
    headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    headers.append((b"content-type", content_type) if body else (b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})


def health_response(source: Source, *, check: Check = "ready", max_age: float = 60.0) -> tuple[int, bytes]:
    """
    Return the status and the JSON, for an application that makes its own responses.

    The arguments are those of `HealthRoute`.
    """
    health: RuntimeHealth = source.runtime_object().health()
    body = {
        **msgspec.structs.asdict(health),
        "ledger": health.ledger,
        "failing": health.failing(max_age=max_age),
    }
    ready = check == "live" or health.ready(max_age=max_age)
    return 200 if ready else 503, msgspec.json.encode(body)
