"""The same application in four frameworks: one path for each way in which a request may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.responses import StreamingResponse as StarletteStreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.asgi import current_manager, current_state
from nat_observability.integrations.fastapi import CurrentManager, CurrentState

_WHILE = 0.02  # seconds that work goes on after its response has begun, or ended


def record(name: str) -> None:
    """Do a piece of work."""
    with step("function", name):
        pass


async def later(name: str) -> None:
    """Do a piece of work when the response has long been sent."""
    await asyncio.sleep(_WHILE)
    record(name)


async def streamed() -> AsyncIterator[str]:
    """Yield a body, and do some work between its first and its last byte."""
    yield "first"
    await later("between")
    yield "last"
    record("after the last")


async def endless() -> AsyncIterator[str]:
    """Yield a body that has no end."""
    try:
        while True:
            yield "more"
            await asyncio.sleep(0.001)
    finally:
        record("cleanup")


async def hang() -> None:
    """Wait for what never happens."""
    record("before the shutdown")
    await asyncio.Event().wait()


def starlette() -> Starlette:
    """Return the application of Starlette."""
    from nat_observability.integrations.starlette import instrument

    async def plain(request: Request) -> PlainTextResponse:
        state = await current_state()
        assert (await current_manager()) is state.manager
        record("plain")
        return PlainTextResponse(state.traceparent)

    async def stream(request: Request) -> StarletteStreamingResponse:
        return StarletteStreamingResponse(streamed())

    async def background(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok", background=BackgroundTask(later, "in the background"))

    async def echo(websocket: Any) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            record("message")
            await websocket.send_text(text)

    async def raising_echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.receive_text()
        raise RuntimeError("boom")

    async def boom(request: Request) -> PlainTextResponse:
        raise RuntimeError("boom")

    async def refused(request: Request) -> PlainTextResponse:
        raise StarletteHTTPException(403)

    async def unavailable(request: Request) -> PlainTextResponse:
        raise StarletteHTTPException(503)

    async def leaving(request: Request) -> StarletteStreamingResponse:
        return StarletteStreamingResponse(endless())

    async def hanging(request: Request) -> PlainTextResponse:
        await hang()
        return PlainTextResponse("never")

    def thread(request: Request) -> PlainTextResponse:
        record("in a thread")
        return PlainTextResponse("ok")

    async def deep(request: Request) -> PlainTextResponse:
        record("deep")
        return PlainTextResponse("ok")

    app = Starlette(
        routes=[
            Route("/plain/{item}", plain),
            Route("/stream", stream),
            Route("/background", background),
            WebSocketRoute("/ws", echo),
            WebSocketRoute("/ws-boom", raising_echo),
            Route("/boom", boom),
            Route("/refused", refused),
            Route("/unavailable", unavailable),
            Route("/leaving", leaving),
            Route("/hanging", hanging),
            Route("/thread", thread),
            Mount("/sub/{tenant}", Starlette(routes=[Route("/deep/{item}", deep)])),
        ]
    )
    instrument(app, ObservabilityContainer(), excluded=["/refused-tracing/*"], health="/health")
    return app


def fastapi() -> FastAPI:
    """Return the application of FastAPI."""
    from nat_observability.integrations.fastapi import instrument

    app, sub = FastAPI(), FastAPI()

    async def plain(item: int, state: CurrentState, manager: CurrentManager) -> str:
        assert manager is state.manager
        record("plain")
        return state.traceparent

    async def stream() -> StreamingResponse:
        return StreamingResponse(streamed())

    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(later, "in the background")
        return "ok"

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:  # its WebSocketDisconnect goes on, as in most applications
            text = await websocket.receive_text()
            record("message")
            await websocket.send_text(text)

    async def raising_echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            return
        raise RuntimeError("boom")

    async def boom() -> str:
        raise RuntimeError("boom")

    async def refused() -> str:
        raise HTTPException(403)

    async def unavailable() -> str:
        raise HTTPException(503)

    async def leaving() -> StreamingResponse:
        return StreamingResponse(endless())

    async def hanging() -> str:
        await hang()
        return "never"

    def thread() -> str:
        record("in a thread")
        return "ok"

    async def deep(item: int) -> str:
        record("deep")
        return "ok"

    handlers: dict[str, Any] = {
        "/plain/{item}": plain,
        "/stream": stream,
        "/background": background,
        "/boom": boom,
        "/refused": refused,
        "/unavailable": unavailable,
        "/leaving": leaving,
        "/hanging": hanging,
        "/thread": thread,
    }
    for path, handler in handlers.items():
        app.get(path, response_model=None)(handler)
    app.websocket("/ws")(echo)
    app.websocket("/ws-boom")(raising_echo)
    sub.get("/deep/{item}")(deep)
    app.mount("/sub/{tenant}", sub)
    instrument(app, ObservabilityContainer(), excluded=["/refused-tracing/*"], health="/health")
    return app


def litestar() -> Any:
    """Return the application of Litestar."""
    # Postponed annotations hide a function's own imports from Litestar, which reads them: it has its own module.
    from tests.integrations.asgi_litestar_app import litestar as make

    return make()


def quart() -> Any:
    """Return the application of Quart."""
    from quart import Blueprint, Quart, abort, websocket

    from nat_observability.integrations.quart import instrument

    app, sub = Quart(__name__), Blueprint("sub", __name__)

    async def plain(item: str) -> str:
        state = await current_state()
        assert (await current_manager()) is state.manager
        record("plain")
        return state.traceparent

    async def stream() -> AsyncIterator[str]:
        return streamed()

    async def background() -> str:
        app.add_background_task(later, "in the background")
        return "ok"

    async def echo() -> None:
        while True:
            text = await websocket.receive()
            record("message")
            await websocket.send(text)

    async def raising_echo() -> None:
        await websocket.receive()
        raise RuntimeError("boom")

    async def boom() -> str:
        raise RuntimeError("boom")

    async def refused() -> str:
        abort(403)

    async def unavailable() -> str:
        abort(503)

    async def leaving() -> AsyncIterator[str]:
        return endless()

    async def hanging() -> str:
        await hang()
        return "never"

    def thread() -> str:
        record("in a thread")
        return "ok"

    async def deep(tenant: str, item: str) -> str:
        record("deep")
        return "ok"

    handlers: dict[str, Any] = {
        "/plain/<item>": plain,
        "/stream": stream,
        "/background": background,
        "/boom": boom,
        "/refused": refused,
        "/unavailable": unavailable,
        "/leaving": leaving,
        "/hanging": hanging,
        "/thread": thread,
    }
    for path, handler in handlers.items():
        app.add_url_rule(path, view_func=handler)
    app.add_websocket("/ws", view_func=echo)
    app.add_websocket("/ws-boom", view_func=raising_echo)
    sub.add_url_rule("/deep/<item>", view_func=deep)
    app.register_blueprint(sub, url_prefix="/sub/<tenant>")
    instrument(app, ObservabilityContainer(), excluded=["/refused-tracing/*"], health="/health")
    return app
