"""HealthRoute: an ASGI application that answers with the runtime's health."""

from __future__ import annotations

import msgspec

from nat_observability.integrations.asgi.source import Source, check_source
from nat_observability.integrations.asgi.types import Receive, Scope, Send
from nat_observability.runtime import RuntimeState

_READ = ("GET", "HEAD")


class HealthRoute:
    """
    Answers GET and HEAD with `runtime.health()` as JSON, at any path that it is mounted at.

    The status is 200 while the runtime is open and 503 while it is not. A back end that is down does not change it: the
    service works without it and should keep getting requests. The JSON shows it.

    Raises:
        MissingContainerError: `source` has no runtime.
    """

    def __init__(self, source: Source) -> None:
        check_source(type(self).__name__, source)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; refuse a websocket."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        status, body = health_response(self._source) if scope["method"] in _READ else (405, b"")
        headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        headers.append((b"content-type", b"application/json") if body else (b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})


def health_response(source: Source) -> tuple[int, bytes]:
    """Return the status and the JSON, for an application that makes its own responses."""
    health = source.runtime_object().health()
    body = {**msgspec.structs.asdict(health), "ledger": health.ledger}
    return 200 if health.state is RuntimeState.OPEN else 503, msgspec.json.encode(body)
