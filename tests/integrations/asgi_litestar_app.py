"""The application of `asgi_apps` in Litestar, whose handlers' annotations are read when they are made."""

from typing import Any

from litestar import Litestar, Response, Router, WebSocket, get, websocket
from litestar.background_tasks import BackgroundTask
from litestar.di import Provide
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.response import Stream

from nat_observability import ExporterManager
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.asgi import RequestState, current_manager, current_state
from nat_observability.integrations.litestar import instrument
from tests.integrations.asgi_apps import endless, hang, later, record, streamed


@get(
    "/plain/{item:int}",
    dependencies={"run": Provide(current_state), "manager": Provide(current_manager)},
    media_type="text/plain",
)
async def _plain(item: int, run: RequestState, manager: ExporterManager) -> str:
    assert manager is run.manager
    record("plain")
    return run.traceparent


@get("/stream")
async def _stream() -> Stream:
    return Stream(streamed())


@get("/background")
async def _background() -> Response[str]:
    return Response("ok", background=BackgroundTask(later, "in the background"))


@websocket("/ws")
async def _echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            record("message")
            await socket.send_text(text)
    except WebSocketDisconnect:
        pass


@websocket("/ws-boom")
async def _raising_echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.receive_text()
    raise RuntimeError("boom")


@get("/boom")
async def _boom() -> str:
    raise RuntimeError("boom")


@get("/refused")
async def _refused() -> str:
    raise HTTPException(status_code=403)


@get("/unavailable")
async def _unavailable() -> str:
    raise HTTPException(status_code=503)


@get("/leaving")
async def _leaving() -> Stream:
    return Stream(endless())


@get("/hanging")
async def _hanging() -> str:
    await hang()
    return "never"


@get("/thread", sync_to_thread=True)
def _thread() -> str:
    record("in a thread")
    return "ok"


@get("/deep/{item:int}")
async def _deep(tenant: str, item: int) -> str:
    record("deep")
    return "ok"


def litestar() -> Litestar:
    """Return the application."""
    app = Litestar(
        route_handlers=[
            _plain,
            _stream,
            _background,
            _echo,
            _raising_echo,
            _boom,
            _refused,
            _unavailable,
            _leaving,
            _hanging,
            _thread,
            Router("/sub/{tenant:str}", route_handlers=[_deep]),
        ]
    )
    instrument(app, ObservabilityContainer(), excluded=["/refused-tracing/*"], health="/health")
    return app
