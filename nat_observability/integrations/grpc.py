"""gRPC servers of grpcio, synchronous and asynchronous: each call is a run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn, Self

from nat_observability.errors import ClientDisconnectedError, MissingExtraError, RpcFailedError
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.run_scope import Container, RunScope, check_container, run_scope
from nat_observability.recording.step import step

try:
    import grpc
    import grpc.aio
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.grpc", "grpc") from error

__all__ = ["aio_interceptors", "interceptors"]

check_version("grpcio", at_least="1.67", below="2")

_Code = grpc.StatusCode
# Those that the OpenTelemetry conventions for RPC (1.38) call errors of a server; the others are the caller's.
_FAILURES = frozenset(
    (
        _Code.UNKNOWN,
        _Code.DEADLINE_EXCEEDED,
        _Code.UNIMPLEMENTED,
        _Code.INTERNAL,
        _Code.UNAVAILABLE,
        _Code.DATA_LOSS,
    )
)


def interceptors(
    container: Container, *, excluded: tuple[str, ...] = (), trusted: bool = True
) -> list[grpc.ServerInterceptor]:
    """
    Return the interceptors for a server: `grpc.server(pool, interceptors=interceptors(container))`.

    A run lasts until the last message of the answer. The exporters open with `with ProcessScope(container, "grpc")`
    around the serving; otherwise each run opens what it needs.

    Args:
        container: An `ObservabilityContainer`.
        excluded: Calls without a run: `"/grpc.health.v1.Health/Check"` means itself, `"/grpc.health.v1.Health/*"` all
            that begins so.
        trusted: Whether to believe the metadata about trace, conversation, user and tags.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """
    return [_Interceptor(_Calls(container, excluded, trusted))]


def aio_interceptors(
    container: Container, *, excluded: tuple[str, ...] = (), trusted: bool = True
) -> list[grpc.aio.ServerInterceptor]:
    """
    Return those for an asynchronous server: `grpc.aio.server(interceptors=aio_interceptors(container))`.

    The exporters open with `async with ProcessScope(container, "grpc")`. See `interceptors`.
    """
    return [_AioInterceptor(_Calls(container, excluded, trusted))]


class _Calls:
    """Makes the runs of a server's calls."""

    def __init__(self, container: Container, excluded: tuple[str, ...], trusted: bool) -> None:
        check_container("interceptors()", container)
        self._container = container
        self._exact = {each for each in excluded if not each.endswith("*")}
        self._below = tuple(each[:-1] for each in excluded if each.endswith("*"))
        self._trusted = trusted

    def observes(self, method: str) -> bool:
        return method not in self._exact and not method.startswith(self._below or "\0")

    def begin(self, method: str, context: Any) -> _Call:
        headers = list(context.invocation_metadata() or ()) if self._trusted else None
        # What the server has a handler for: no caller can invent a name.
        name = method.lstrip("/")
        return _Call(run_scope(self._container, headers=headers, workflow_name=name), name, context)


class _Call:
    """The run of one call, and its outermost step."""

    def __init__(self, scope: RunScope, name: str, context: Any) -> None:
        self._scope = scope
        self._context = context
        service, _, method = name.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        self._root = step("workflow", name, attributes=attributes, span_kind="server")

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._root.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._end(error)
        self._scope.__exit__(None, None, None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._root.__enter__()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._end(error)
        await self._scope.__aexit__(None, None, None)

    def _end(self, error: BaseException | None) -> None:
        code = _code(self._context, error)
        self._root.set_attribute("rpc.grpc.status_code", int(code.value[0]))
        failure: BaseException | None = None
        if code is _Code.CANCELLED:
            failure = (
                ClientDisconnectedError() if error is None or isinstance(error, GeneratorExit) else error
            )
        elif code in _FAILURES:
            failure = RpcFailedError(code.name, _details(self._context)) if _says_less(error) else error
        self._root.__exit__(type(failure) if failure is not None else None, failure, None)
        if failure is not None:
            self._scope.state.failed = True


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return what serves a call: the server's own handler, inside a run."""
        method = handler_call_details.method
        handler = continuation(handler_call_details)
        return handler if handler is None else _wrapped(handler, self._calls, method, _synchronous)


class _AioInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return what serves a call: the server's own handler, inside a run."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        return handler if handler is None else _wrapped(handler, self._calls, method, _asynchronous)


def _wrapped(handler: Any, calls: _Calls, method: str, wrap: Callable[..., Any]) -> Any:
    if not calls.observes(method):
        return handler
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behavior = wrap(getattr(handler, kind), calls, method, handler.response_streaming)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _synchronous(behavior: Any, calls: _Calls, method: str, streams: bool) -> Callable[..., Any]:
    def unary(request: Any, context: Any) -> Any:
        context = _readable(context)
        with calls.begin(method, context):
            return behavior(request, context)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        context = _readable(context)
        with calls.begin(method, context):
            yield from behavior(request, context)

    return stream if streams else unary


def _asynchronous(behavior: Any, calls: _Calls, method: str, streams: bool) -> Callable[..., Any]:
    async def unary(request: Any, context: Any) -> Any:
        async with calls.begin(method, context):
            return await behavior(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async with calls.begin(method, context):
            async for message in behavior(request, context):
                yield message

    # The server looks at what it is given: what is not asynchronous goes to a thread.
    if inspect.isasyncgenfunction(behavior):
        return stream
    return unary if inspect.iscoroutinefunction(behavior) else _synchronous(behavior, calls, method, streams)


class _ReadableContext:
    """The context of a function that an asynchronous server calls in a thread, which can be written only."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None
        self._details = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_code(self, code: Any) -> None:
        self._code = code
        self._context.set_code(code)

    def set_details(self, details: str) -> None:
        self._details = details
        self._context.set_details(details)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self._code, self._details = code, details
        self._context.abort(code, details, trailing_metadata)
        # Some versions of grpcio end the call and return, and what follows would run, and fail in some other way.
        raise grpc.aio.AbortError(details)

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return self._details


def _readable(context: Any) -> Any:
    return context if hasattr(context, "code") else _ReadableContext(context)


def _code(context: Any, error: BaseException | None) -> grpc.StatusCode:
    """Return the code that the caller gets."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return _Code.CANCELLED
    found = context.code()  # None, a code, or its number
    code = next((each for each in _Code if found in (each, each.value[0])), _Code.OK)
    if error is not None and code is _Code.OK:
        return _Code.UNKNOWN
    active = getattr(context, "is_active", None)  # of synchronous servers
    return _Code.CANCELLED if code is _Code.OK and active is not None and not active() else code


def _details(context: Any) -> str:
    details = context.details()
    return details.decode("utf-8", "replace") if isinstance(details, bytes) else str(details or "")


def _says_less(error: BaseException | None) -> bool:
    """Whether the code and its details say more than what was raised: `abort` raises something empty."""
    return (
        error is None
        or isinstance(error, grpc.aio.AbortError)
        or (type(error) is Exception and not error.args)
    )
