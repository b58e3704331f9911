"""Web responses whose body is still to be sent: the step stays open until it is, and its text is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nat_observability.recording.returned.native_generators import follow_body
from nat_observability.recording.returned.open_call import BodyChunks, OpenCall
from nat_observability.recording.returned.stream_class import RESPONSE_METHODS, follow_object

# Known by their attributes, without importing a framework. The response stays the same object: its body is replaced.


def may_be_response(kind: type) -> bool:
    """Whether the objects of a class may be responses of a supported framework."""
    return any(callable(getattr(kind, name, None)) for name in ("__call__", "to_asgi_response")) or any(
        hasattr(kind, name) for name in ("is_streamed", "streaming_content", "iterable_body_class")
    )


def response_way(response: Any) -> Callable[[Any, OpenCall], Any] | None:
    """Return how to follow a response; None if it is none, or if its body is complete."""
    kind = type(response)
    held = getattr(response, "__dict__", {})
    if hasattr(held.get("body_iterator"), "__aiter__"):
        return _follow_starlette
    if hasattr(kind, "streaming_content") and getattr(response, "streaming", False):
        return _follow_django
    body = held.get("response")
    if hasattr(kind, "iterable_body_class"):
        return _follow_quart if hasattr(getattr(body, "iter", None), "__anext__") else None
    if hasattr(kind, "is_streamed"):
        streamed = response.is_streamed and not getattr(response, "direct_passthrough", False)
        return _follow_werkzeug if streamed and body is not None else None
    if hasattr(kind, "to_asgi_response") and hasattr(kind, "iterator"):
        return _follow_litestar
    return None


def _follow(holder: Any, attribute: str, call: OpenCall) -> None:
    call.chunks = BodyChunks(call.recorder)
    setattr(holder, attribute, follow_body(getattr(holder, attribute), call))


def _follow_starlette(response: Any, call: OpenCall) -> Any:
    _follow(response, "body_iterator", call)
    follow_object(response, call, RESPONSE_METHODS)
    return response


def _follow_litestar(response: Any, call: OpenCall) -> Any:
    if callable(response.iterator):
        response.iterator = response.iterator()
    _follow(response, "iterator", call)
    return response


def _follow_django(response: Any, call: OpenCall) -> Any:
    _follow(response, "streaming_content", call)
    return response


def _follow_werkzeug(response: Any, call: OpenCall) -> Any:
    _follow(response, "response", call)
    response.call_on_close(call.end)
    return response


def _follow_quart(response: Any, call: OpenCall) -> Any:
    _follow(response.response, "iter", call)
    return response
