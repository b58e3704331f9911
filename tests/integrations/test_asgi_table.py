"""The run of a request, for each way in which a request may go, in each framework, under real servers."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nat_observability.store import Store
from tests.integrations.asgi_servers import Server, hypercorn, running_server, runs_of, uvicorn

# Style: the steps within, the response's status, and how the run ended: None for well, or the error's last word.
TABLE: dict[str, tuple[list[str], int, str | None]] = {
    "plain": (["plain"], 200, None),
    "stream": (["after the last", "between"], 200, None),
    "background": (["in the background"], 200, None),
    "websocket": (["message", "message"], 101, None),
    "websocket fails": ([], 101, "RuntimeError"),
    "exception": ([], 500, "RuntimeError"),
    "refused": ([], 403, None),
    "unavailable": ([], 503, "5xx"),
    "client disconnects": (["cleanup"], 200, "ClientDisconnectedError"),
    "thread": (["in a thread"], 200, None),
    "sub-application": (["deep"], 200, None),
    "no route": ([], 404, None),
    "server shuts down": (["before the shutdown"], 0, "CancelledError"),
}
ROUTES = {
    "starlette": {
        "plain": "GET /plain/{item}",
        "sub-application": "GET /sub/{tenant}/deep/{item}",
        "websocket": "WEBSOCKET /ws",
        "no route": "GET",
    },
    "litestar": {
        "plain": "GET /plain/{item}",
        "sub-application": "GET /sub/{tenant}/deep/{item}",
        "websocket": "WEBSOCKET /ws",
        "no route": "GET",
    },
    "quart": {
        "plain": "GET /plain/<item>",
        "sub-application": "GET /sub/<tenant>/deep/<item>",
        "websocket": "WEBSOCKET /ws",
        "no route": "GET",
    },
}
ROUTES["fastapi"] = ROUTES["starlette"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PATHS = {
    "plain": "/plain/3",
    "stream": "/stream",
    "background": "/background",
    "exception": "/boom",
    "refused": "/refused",
    "unavailable": "/unavailable",
    "thread": "/thread",
    "sub-application": "/sub/t1/deep/7",
    "no route": "/nowhere",
}


async def use(server: Server, *, until_the_end: bool) -> None:
    """Make one request of each style, and stop the server, `until_the_end` while the last one goes on."""
    async with aiohttp.ClientSession(server.address) as client:

        async def get(style: str) -> None:
            headers = {"conversation-id": style, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            async with client.get(PATHS[style], headers=headers) as response:
                text = await response.text()
                assert response.status == TABLE[style][1], (style, text)
                if style == "plain":
                    assert TRACE in text

        async def websocket(style: str, path: str) -> None:
            async with client.ws_connect(path, headers={"conversation-id": style}) as socket:
                await socket.send_str("1")
                if style == "websocket":
                    assert await socket.receive_str() == "1"
                    await socket.send_str("2")
                    assert await socket.receive_str() == "2"
                else:
                    await socket.receive()

        async def leave() -> None:
            async with client.get("/leaving", headers={"conversation-id": "client disconnects"}) as response:
                await response.content.readany()
                response.close()

        await asyncio.gather(
            *map(get, PATHS),
            websocket("websocket", "/ws"),
            websocket("websocket fails", "/ws-boom"),
            leave(),
        )
        async with client.get("/refused-tracing/x", headers={"conversation-id": "excluded"}):
            pass
        async with client.get("/health") as response:
            health = json.loads(await response.text())
            assert (response.status, health["state"]) == (200, "open")
        if not until_the_end:
            return
        hanging = asyncio.ensure_future(
            client.get("/hanging", headers={"conversation-id": "server shuts down"})
        )
        await _until_one_run_is_live(client)
        try:
            await asyncio.to_thread(server.stop)
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)


async def _until_one_run_is_live(client: aiohttp.ClientSession) -> None:
    for _ in range(1000):
        async with client.get("/health") as response:
            if json.loads(await response.text())["live_managers"] == 1:
                return
        await asyncio.sleep(0.01)
    raise TimeoutError("the other requests have not ended, or the last one has not begun")


def found(store: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the table of what is in the store, and the names of the root spans, by style."""
    table: dict[str, Any] = {}
    names: dict[str, str] = {}
    with Store(store) as reader:
        for style, (run_id, *others) in runs_of(store).items():
            assert not others, f"{style}: more than one run"
            (root,) = [span for span in reader.spans(run_id) if span.kind == "WORKFLOW"]
            within = [span for span in reader.spans(run_id) if span is not root and span.kind != "WORKFLOW"]
            assert all(span.end_ns <= root.end_ns and span.parent_id == root.span_id for span in within), (
                style
            )
            metadata = json.loads(bytes(root.metadata or b"{}"))
            error = None if root.error is None else root.error.type.rpartition(".")[2]
            if style == "unavailable" and error is not None:
                error = "5xx"  # HTTPException where the framework tells it, else the status
            table[style] = (
                sorted(span.name for span in within),
                metadata.get("http.response.status_code", 0),
                error,
            )
            names[style] = root.name
    return table, names


@pytest.mark.parametrize(
    ("framework", "command"),
    [
        pytest.param("starlette", uvicorn, id="starlette-uvicorn"),
        pytest.param("fastapi", uvicorn, id="fastapi-uvicorn"),
        pytest.param("litestar", uvicorn, id="litestar-uvicorn"),
        pytest.param("quart", uvicorn, id="quart-uvicorn"),
        pytest.param("starlette", hypercorn, id="starlette-hypercorn"),
        pytest.param("quart", hypercorn, id="quart-hypercorn", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(60)
def test_each_style_is_one_run(framework: str, command: Any, tmp_path: Path) -> None:
    """It is open as long as work goes on, ends exactly once, has the right status, and loses nothing."""
    # On Python 3.12 and later hypercorn waits for its last connection for good, whatever its graceful timeout says.
    until_the_end = command is uvicorn or sys.version_info < (3, 12)
    with running_server(command(f"tests.integrations.asgi_apps:{framework}"), tmp_path) as server:
        asyncio.run(use(server, until_the_end=until_the_end))
        server.stop()
        table, names = found(server.store)
    expected = {style: row for style, row in TABLE.items() if until_the_end or style != "server shuts down"}
    assert table == expected
    assert {style: names[style] for style in ROUTES[framework]} == ROUTES[framework]
