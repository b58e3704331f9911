"""grpcio: what is called inside a run carries the run's headers, in the metadata of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc
import grpc.aio

from nat_observability.context import outgoing_headers
from nat_observability.propagation.formats import BAGGAGE, formats

__all__ = ["aio_interceptors", "interceptors"]


def interceptors() -> list[Any]:
    """
    Return the interceptors for a channel: `grpc.intercept_channel(channel, *interceptors())`.

    Outside a run nothing happens.
    """
    return [_Interceptor()]


def aio_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Return those for an asynchronous channel: `grpc.aio.insecure_channel(target, interceptors=...)`."""
    return [_AioUnaryUnary(), _AioUnaryStream(), _AioStreamUnary(), _AioStreamStream()]


def _completed(metadata: Iterable[tuple[str, Any]] | None) -> list[tuple[str, Any]]:
    """Return a call's metadata with the headers of the current run, in place of others of those names."""
    given = list(metadata or ())
    own = outgoing_headers()
    if not own:
        return given
    # The application's own baggage stays beside ours, as in the headers of HTTP.
    written = formats().written
    theirs = [
        value
        for name, value in given
        if BAGGAGE in written and name.lower() == BAGGAGE and isinstance(value, str)
    ]
    if theirs and BAGGAGE in own:
        own[BAGGAGE] = ",".join([*theirs, own[BAGGAGE]])
    elif theirs:
        own[BAGGAGE] = ",".join(theirs)
    return [*((name, value) for name, value in given if name.lower() not in written), *own.items()]


class _Details(NamedTuple):
    """What a call is made with, as grpc's own; those of grpcio have no way to be changed."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def _intercept(self, call: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        with_headers = _Details(
            details.method,
            details.timeout,
            _completed(details.metadata),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return call(with_headers, request)

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


def _aio_details(details: Any) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method,
        details.timeout,
        grpc.aio.Metadata(*_completed(details.metadata)),
        details.credentials,
        details.wait_for_ready,
    )


async def _intercept_any(self: object, call: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    return await call(_aio_details(details), request)


_intercept_aio: Any = _intercept_any


class _AioUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _intercept_aio


class _AioUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _intercept_aio


class _AioStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = _intercept_aio


class _AioStreamStream(grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _intercept_aio
