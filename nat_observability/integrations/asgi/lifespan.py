"""ObservabilityLifespan and lifespan(): the runtime is open from an application's start to its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from nat_observability.errors import ObservabilityError
from nat_observability.foreign_errors import describe
from nat_observability.health import RuntimeState
from nat_observability.integrations.asgi.source import OPENS, Source, check_source, close_source, open_source
from nat_observability.integrations.asgi.types import Application, Message, Receive, Scope, Send
from nat_observability.logs import get_logger

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_STARTUP_COMPLETE, _SHUTDOWN = "lifespan.startup.complete", "lifespan.shutdown"
_SHUTDOWN_COMPLETE, _SHUTDOWN_FAILED = "lifespan.shutdown.complete", "lifespan.shutdown.failed"
_STARTUP_FAILED = "lifespan.startup.failed"
_log = get_logger()


def short_failures(send: Send) -> Send:
    """
    Return a `send` for a lifespan, called where the exception of a failed start is handled.

    If that is an error of this package, the server gets its message. Frameworks send the whole traceback, in which the
    cure comes last. A server that raises in `send`, as Hypercorn does, ends with a traceback of its own: before it the
    message is logged.
    """

    async def short(message: Message) -> None:
        error = _own(sys.exception()) if message["type"] == _STARTUP_FAILED else None
        if error is None:
            await send(message)
            return
        try:
            await send({**message, "message": str(error)})
        except Exception as refused:
            _log.error("application_not_started", error=str(error))
            raise refused from None

    return short


def _own(error: BaseException | None) -> ObservabilityError | None:
    """Return the error of this package that an exception is, or that is alone in a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ObservabilityError) else None


def lifespan(source: Source, inner: Lifespan | None = None, *, around: bool = True) -> Lifespan:
    """
    Return a lifespan for Starlette, FastAPI or Litestar, in which the runtime is open.

    Args:
        source: The container, or a `RuntimeSource`.
        inner: The application's own lifespan, whose state is passed on.
        around: Whether the runtime is opened before the application's own lifespan begins, and drained after it has
            ended. With False it is opened after that has begun, and drained before it ends: for exporters that need
            something which the application opens there, such as its pool.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
    """
    check_source("lifespan()", source)

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        await open_source(source)
        try:
            yield
        finally:
            await close_source(source)

    @asynccontextmanager
    async def outside(app: Any) -> AsyncIterator[Any]:
        async with opened():
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state

    @asynccontextmanager
    async def inside(app: Any) -> AsyncIterator[Any]:
        if inner is None:
            async with opened():
                yield
        else:
            async with inner(app) as state, opened():
                yield state

    return outside if around else inside


class ObservabilityLifespan:
    """
    A pure ASGI wrapper that opens the runtime before the application starts, and drains it after it has ended, or
    inside that if it is not `around`.

    It also works for an application without a lifespan. If the server sends no lifespan events either, the first
    request opens the runtime, and what is queued is written when the interpreter exits.

    Args:
        app: The application to wrap. Make this the outermost wrapper, so that every request finds the runtime open.
        source: The container, or a `RuntimeSource`.
        around: As for `lifespan`.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
    """

    def __init__(self, app: Application, source: Source, *, around: bool = True) -> None:
        check_source(type(self).__name__, source)
        self._app = app
        self._source = source
        self._around = around
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan, or pass on a request."""
        if scope["type"] == "lifespan":
            await self._serve(scope, receive, send)
            return
        if self._source.runtime_object().state is RuntimeState.NEW:
            async with self._opening:  # one of the first requests opens it, and the others wait
                if self._source.runtime_object().state is RuntimeState.NEW:
                    await open_source(self._source)
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        startup = await receive()
        inner = _Inner(startup, receive, send)
        if not self._around:
            scope = {**scope, OPENS: True}
            inner.begins, inner.ends = partial(self._open, send), partial(close_source, self._source)
        else:
            await self._open(send)
        try:
            try:
                await self._app(scope, inner.receive, inner.send)
            except Exception as error:
                if inner.answered:
                    raise
                # What a server does with an application without a lifespan: it goes on.
                _log.info("application_has_no_lifespan", error=describe(error))
            if not inner.answered:
                if not self._around:
                    await self._open(send)
                await send({"type": "lifespan.startup.complete"})
                await receive()
                inner.ended = {"type": _SHUTDOWN_COMPLETE}
        finally:
            await close_source(self._source)
            if inner.ended is not None:
                await send(inner.ended)

    async def _open(self, send: Send) -> None:
        try:
            await open_source(self._source)
        except Exception as error:
            await short_failures(send)({"type": _STARTUP_FAILED, "message": describe(error)})
            raise


class _Inner:
    """Run the application's own lifespan; keep how it ended until everything has ended."""

    def __init__(self, startup: Message, receive: Receive, send: Send) -> None:
        self._startup: Message | None = startup
        self._receive = receive
        self._send = send
        self.answered = False
        self.ended: Message | None = None
        self.begins: Callable[[], Awaitable[None]] | None = None
        self.ends: Callable[[], Awaitable[None]] | None = None

    async def receive(self) -> Message:
        """Return the server's messages, from the first on."""
        startup, self._startup = self._startup, None
        if startup is not None:
            return startup
        message = await self._receive()
        if self.ends is not None and message["type"] == _SHUTDOWN:
            await self.ends()
        return message

    async def send(self, message: Message) -> None:
        """Pass on how the application started; keep how it ended."""
        if message["type"] in (_SHUTDOWN_COMPLETE, _SHUTDOWN_FAILED):
            self.ended = message
            return
        if self.begins is not None and message["type"] == _STARTUP_COMPLETE:
            await self.begins()
        await self._send(message)
        self.answered = True
