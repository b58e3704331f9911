"""Names of requests: the routes' templates, whatever the routers and mounts in between, and bounded for any caller."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from litestar import Litestar
from litestar import WebSocket as LitestarSocket
from litestar import asgi as litestar_asgi
from litestar import get as litestar_get
from litestar import websocket as litestar_websocket
from quart import Blueprint, Quart
from quart import websocket as quart_websocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from nat_observability import ExporterManager, ObservabilityRuntime, Span, SpanExporter
from nat_observability.integrations.asgi import RuntimeSource
from nat_observability.integrations.fastapi import instrument as instrument_fastapi
from nat_observability.integrations.litestar import instrument as instrument_litestar
from nat_observability.integrations.quart import instrument as instrument_quart
from nat_observability.integrations.starlette import instrument as instrument_starlette

mimetypes.init()  # reads files, which Starlette would do in its event loop


def ok(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def socket(websocket: Any) -> None:
    await websocket.accept()
    await websocket.close()


async def pure(scope: Any, receive: Any, send: Any) -> None:
    """An application without routes, behind a mount."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def wrapped(app: Any) -> Any:
    """A middleware that hides an application's routes."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def starlette_routes() -> list[BaseRoute]:
    inner = Starlette(routes=[Route("/deep/{item:int}", ok), WebSocketRoute("/ws/{room}", socket)])
    return [
        Route("/plain/{item}", ok, methods=["GET"]),
        WebSocketRoute("/ws/{room}", socket),
        Mount("/static", StaticFiles(directory="docs", check_dir=False)),
        Mount("/pure/{kind}", pure),
        Mount("/users/{name}/users", routes=[Route("/users/{name2}", ok), Mount("/{more}", app=inner)]),
        Mount("/hidden/{id}", wrapped(Router([Mount("/in", routes=[Route("/x", ok)])]))),
        Host("api.example", Router([Mount("/v1", routes=[Route("/h/{x}", ok)])])),
        Mount("", routes=[Mount("/empty", routes=[Route("/", ok), Route("/{y}", ok)])]),
    ]


def starlette_app(source: RuntimeSource) -> Any:
    app = Starlette(routes=starlette_routes())
    instrument_starlette(app, source)
    return app


def fastapi_app(source: RuntimeSource) -> Any:
    leaf = APIRouter(prefix="/leaf")
    leaf.add_api_route("/{item}", lambda item: item)
    leaf.add_api_websocket_route("/ws/{room}", fastapi_socket)
    leaf.routes.append(Mount("/mnt/{a}", routes=[Route("/{b}", ok)]))
    branch = APIRouter(prefix="/branch/{tenant}")
    branch.include_router(leaf, prefix="/twice")
    branch.include_router(leaf)
    sub = FastAPI()
    sub.include_router(leaf, prefix="/in")
    sub.add_api_route("/{own}", lambda own: own)
    app = FastAPI()
    app.add_api_route("/plain/{item}", lambda item: item)
    app.include_router(branch, prefix="/api")
    app.mount("/sub/{tenant}", sub)
    app.mount("/static", StaticFiles(directory="docs", check_dir=False))
    instrument_fastapi(app, source)
    return app


async def fastapi_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def litestar_app(source: RuntimeSource) -> Any:
    @litestar_get("/plain/{item:str}")
    async def plain() -> str:
        return "ok"

    @litestar_websocket("/ws/{room:str}")
    async def chat(socket: LitestarSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    mounted = litestar_asgi("/pure", is_mount=True, copy_scope=False)(pure)
    inner = Starlette(routes=[Route("/deep/{item}/", ok)])  # as Litestar passes paths on

    async def starlette(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    @litestar_get("/")
    async def root() -> str:
        return "ok"

    app = Litestar(
        [root, plain, chat, mounted, litestar_asgi("/inner", is_mount=True, copy_scope=False)(starlette)],
        logging_config=None,
    )
    instrument_litestar(app, source)
    return app


def quart_app(source: RuntimeSource) -> Any:
    app = Quart(__name__)
    blueprint = Blueprint("b", __name__, url_prefix="/api/<tenant>")

    @blueprint.get("/plain/<int:item>")
    async def plain(tenant: str, item: int) -> str:
        return "ok"

    @blueprint.websocket("/ws/<room>")
    async def chat(tenant: str, room: str) -> None:
        await quart_websocket.accept()

    app.register_blueprint(blueprint)
    instrument_quart(app, source)
    return app


Requests = list[tuple[str, str]]
TABLE: dict[str, tuple[Callable[[RuntimeSource], Any], dict[str, str | None]]] = {
    "starlette": (
        starlette_app,
        {
            "GET /plain/3": "GET /plain/{item}",
            "DELETE /plain/3": "DELETE",
            "WEBSOCKET /ws/plain": "WEBSOCKET /ws/{room}",
            "WEBSOCKET /nowhere": "WEBSOCKET",
            "GET /nowhere/a/b": "GET",
            "GET /static/index.md": "GET /static/{path}",
            "GET /static/sub/a.js": "GET /static/{path}",
            "GET /pure/static/pure": "GET /pure/{kind}/{path}",
            "GET /users/users/users/users/static": "GET /users/{name}/users/users/{name2}",
            "GET /users/a/users/nowhere/x": "GET /users/{name}/users/{more}/{path}",
            "GET /users/a/users/deep/deep/7": "GET /users/{name}/users/{more}/deep/{item}",
            "WEBSOCKET /users/a/users/ws/ws/ws": "WEBSOCKET /users/{name}/users/{more}/ws/{room}",
            "GET /hidden/in/in/x": "GET /hidden/{id}/{path}",
            "GET /hidden/in/nowhere": "GET /hidden/{id}/{path}",
            "GET /empty/": "GET /empty/",
            "GET /empty/empty": "GET /empty/{y}",
            "GET /v1/h/v1 api.example": "GET /v1/h/{x}",
        },
    ),
    "fastapi": (
        fastapi_app,
        {
            "GET /plain/3": "GET /plain/{item}",
            "PUT /plain/3": "PUT /plain/{item}",
            "GET /api/branch/branch/twice/leaf/leaf": "GET /api/branch/{tenant}/twice/leaf/{item}",
            "GET /api/branch/t/leaf/1": "GET /api/branch/{tenant}/leaf/{item}",
            "WEBSOCKET /api/branch/t/leaf/ws/1": "WEBSOCKET /api/branch/{tenant}/leaf/ws/{room}",
            "GET /api/branch/t/leaf/x/y/z": "GET",
            "GET /sub/sub/in/leaf/in": "GET /sub/{tenant}/in/leaf/{item}",
            "WEBSOCKET /sub/a/in/leaf/ws/leaf": "WEBSOCKET /sub/{tenant}/in/leaf/ws/{room}",
            "GET /sub/a/1": "GET /sub/{tenant}/{own}",
            "GET /sub/a/no/where/at/all": "GET /sub/{tenant}/{path}",
            "GET /static/sub/a.js": "GET /static/{path}",
        },
    ),
    "litestar": (
        litestar_app,
        {
            "GET /plain/plain": "GET /plain/{item}",
            "WEBSOCKET /ws/ws": "WEBSOCKET /ws/{room}",
            "GET /nowhere/x": "GET",
            "GET /": "GET /",
            "GET /pure/a/b": "GET /pure",
            "GET /inner/deep/inner": "GET /inner/deep/{item}/",
            "GET /inner/nowhere": "GET /inner/{path}",
        },
    ),
    "quart": (
        quart_app,
        {
            "GET /api/api/plain/3": "GET /api/<tenant>/plain/<int:item>",
            "WEBSOCKET /api/a/ws/b": "WEBSOCKET /api/<tenant>/ws/<room>",
            "GET /api/a/nowhere": "GET",
            "GET /static/sub/a.js": "GET /static/<path:filename>",
        },
    ),
}


async def roots(make: Callable[[RuntimeSource], Any], requests: Requests, root_path: str = "") -> list[Span]:
    """Return the outermost span of each request, of a method and a path."""
    spans: list[Any] = []
    exporter = SpanExporter(spans.extend)
    runtime = ObservabilityRuntime({"kept": exporter})
    source = RuntimeSource(runtime, lambda: ExporterManager.from_exporters({"kept": exporter}))
    app = make(source)
    async with runtime:
        for method, path in requests:
            await request(app, method, path, root_path)
    found = [span for span in spans if span.kind == "WORKFLOW"]
    assert len(found) == len(requests)
    return found


async def request(app: Any, method: str, path: str, root_path: str) -> None:
    path, _, host = path.partition(" ")
    kind = "websocket" if method == "WEBSOCKET" else "http"
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "ws" if kind == "websocket" else "http",
        "path": root_path + path,
        "raw_path": (root_path + path).encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"host", host.encode() or b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
        "state": {},
    }
    if kind == "websocket":
        scope.pop("method")
    messages: list[dict[str, Any]] = [{"type": "websocket.connect"}] if kind == "websocket" else []
    messages += [{"type": "http.request", "body": b"", "more_body": False}] if kind == "http" else []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": f"{kind}.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        """Answer nobody."""

    await app(scope, receive, send)


@pytest.mark.may_block  # what frameworks read on the first request
@pytest.mark.parametrize("root_path", ["", "/outer"])
@pytest.mark.parametrize("framework", TABLE)
async def test_a_request_is_named_by_its_route(framework: str, root_path: str) -> None:
    """Below included routers, mounts and applications; what a caller makes up is never part of it."""
    make, table = TABLE[framework]
    if root_path and framework == "quart":
        pytest.skip("Quart does not take a root path into account")
    requests: Requests = [tuple(each.split(" ", 1)) for each in table]  # type: ignore[misc]
    spans = await roots(make, requests, root_path)
    assert {each: span.name for each, span in zip(table, spans, strict=True)} == table
    for (method, path), span in zip(requests, spans, strict=True):
        metadata = json.loads(bytes(span.metadata or b""))
        assert metadata["url.path"] == root_path + path.partition(" ")[0]
        assert metadata["http.request.method"] == method
        route = span.name.partition(" ")[2]
        assert metadata.get("http.route", "") == route


@pytest.mark.parametrize("framework", TABLE)
async def test_names_are_bounded(framework: str) -> None:
    """Two hundred methods and paths that a caller has made up have a handful of names."""
    make, _ = TABLE[framework]
    methods = [f"M{n}" for n in range(100)] + ["get", "PROPFIND"]
    requests = [(method, f"/plain/{method}") for method in methods]
    requests += [("GET", f"/static/{n}/{n}.js") for n in range(50)] + [("GET", f"/{n}") for n in range(50)]
    spans = await roots(make, requests)
    assert len({span.name for span in spans}) <= 5
    by_method = [json.loads(bytes(span.metadata or b"")) for span in spans[: len(methods)]]
    assert {each["http.request.method"] for each in by_method} == {"_OTHER"}
    assert [each["http.request.method_original"] for each in by_method] == methods
    assert {span.name.partition(" ")[0] for span in spans[: len(methods)]} == {"HTTP"}
