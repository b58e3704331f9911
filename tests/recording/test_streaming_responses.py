"""step() above a handler that returns a streaming response: the step stays open until the body has been sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from flask import Response as FlaskResponse
from litestar import Litestar, get
from litestar.response import Stream
from quart import Quart
from quart import Response as QuartResponse
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from werkzeug.test import Client

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter, StepNode, until

EURO = "€".encode()


def leaf(name: str) -> None:
    with step("tool", name):
        pass


def handled(run: CapturingExporter) -> StepNode:
    return run.tree.one("workflow", "handle")


async def async_body() -> AsyncIterator[bytes]:
    leaf("first")
    yield b"a" + EURO[:1]
    await asyncio.sleep(0)
    leaf("second")
    yield EURO[1:] + b"b"


def body() -> Iterator[bytes]:
    leaf("first")
    yield b"a" + EURO[:1]
    leaf("second")
    yield EURO[1:] + b"b"


def assert_handled(run: CapturingExporter) -> None:
    done = handled(run)
    assert (done.status, done.output, done.error) == (Status.OK, "a€b", None)
    assert [child.name for child in done.children] == ["first", "second"]


async def sent_by(app: Any, **scope: Any) -> bytes:
    """Serve one request; return the body."""
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if requested:
            await over.wait()
            return {"type": "http.disconnect"}
        requested.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            over.set()

    requested, over = list[bool](), asyncio.Event()
    given = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app({**given, **scope}, receive, send)
    return b"".join(sent)


async def test_fastapi_sends_the_response_that_it_got(run: CapturingExporter) -> None:
    """The handler's response is the same object; the step ends before the background task, and has the text."""
    app, made = FastAPI(), list[StreamingResponse]()

    def afterwards() -> None:
        statuses.append(handled(run).status)

    statuses: list[Status] = []

    @app.get("/")
    @step("workflow", "handle")
    async def handle() -> Any:
        made.append(StreamingResponse(async_body(), background=BackgroundTask(afterwards)))
        return made[0]

    response = await handle()
    assert response is made[0]
    assert isinstance(response, StreamingResponse)
    assert handled(run).status is Status.INCOMPLETE
    assert await sent_by(response) == b"a" + EURO + b"b"
    assert statuses == [Status.OK]
    assert_handled(run)
    run.clear()
    made.clear()
    assert await sent_by(app) == b"a" + EURO + b"b"
    assert_handled(run)


async def test_a_synchronous_body(run: CapturingExporter) -> None:
    """What Starlette reads in a thread lies in the step too."""
    response = step("workflow", "handle")(lambda: StreamingResponse(body()))()
    assert await sent_by(response) == b"a" + EURO + b"b"
    assert_handled(run)


@pytest.mark.parametrize("version", ["2.3", "2.4"])
async def test_a_client_that_leaves(run: CapturingExporter, version: str) -> None:
    """The step ends with what was sent until then, without an error of its own."""
    response = step("workflow", "handle")(lambda: StreamingResponse(async_body()))()

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            left.set()
            if version == "2.4":
                raise OSError("gone")
            await asyncio.Event().wait()

    left = asyncio.Event()
    try:
        await response({"type": "http", "asgi": {"spec_version": version}}, receive, send)
    except Exception as error:  # noqa: BLE001  Starlette's own, with the newer protocol
        assert type(error).__name__ == "ClientDisconnect"  # noqa: PT017
    done = handled(run)
    assert (done.status, done.error, done.chunks) == (Status.OK, None, ["a", "<1 bytes>"])
    del response
    await asyncio.sleep(0)


async def test_a_body_that_fails(run: CapturingExporter) -> None:
    """Its error is the step's."""

    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("broke")

    response = step("workflow", "handle")(lambda: StreamingResponse(failing()))()
    with pytest.raises(ValueError, match="broke"):
        await sent_by(response, asgi={"spec_version": "2.4"})
    done = handled(run)
    assert done.error is not None
    assert (done.error.message, done.output) == ("broke", "a")


async def test_bytes_that_are_no_text(run: CapturingExporter) -> None:
    """Only their number is recorded."""

    async def binary() -> AsyncIterator[bytes]:
        yield b"\xff\xfe\xfd"
        yield b"a"
        yield EURO[:2]

    response = step("workflow", "handle")(lambda: StreamingResponse(binary()))()
    await sent_by(response)
    assert handled(run).chunks == ["<3 bytes>", "a", "<2 bytes>"]


async def test_a_response_of_any_class_with_a_body_iterator(run: CapturingExporter) -> None:
    """As of sse-starlette, which is not derived from Starlette's."""

    class EventSourceResponse:
        def __init__(self) -> None:
            self.body_iterator = async_body()

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece})

    made = EventSourceResponse()
    assert step("workflow", "handle")(lambda: made)() is made
    assert await sent_by(made) == b"a" + EURO + b"b"
    assert_handled(run)


def test_complete_responses_are_values(run: CapturingExporter) -> None:
    """Nothing of their body is still to be made."""
    for made in (
        PlainTextResponse("a"),
        FileResponse(__file__),
        FlaskResponse("a"),
        FlaskResponse(["a", "b"]),
    ):
        assert step("workflow", "handle")(lambda made=made: made)() is made
        assert handled(run).status is Status.OK
        run.clear()


@pytest.mark.parametrize("content", [body, async_body, body(), lambda: async_body()])
async def test_litestar_stream(run: CapturingExporter, content: Any) -> None:
    """Given as an iterator or as what makes one."""

    @get("/")
    @step("workflow", "handle")
    async def handle() -> Stream:
        return Stream(content)

    assert await sent_by(Litestar([handle], openapi_config=None, logging_config=None)) == b"a" + EURO + b"b"
    assert_handled(run)


async def test_quart_response(run: CapturingExporter) -> None:
    """Given an asynchronous body, or a synchronous one, which Quart reads in a thread."""
    app = Quart("test")

    @app.get("/async")
    @step("workflow", "handle")
    async def handle() -> Any:
        return QuartResponse(async_body())

    @app.get("/sync")
    @step("workflow", "handle")
    async def handle_sync() -> Any:
        return QuartResponse(body())

    for path in ("/async", "/sync"):
        assert await (await app.test_client().get(path)).get_data() == b"a" + EURO + b"b"
        await until(lambda: handled(run).status is Status.OK)
        assert_handled(run)
        run.clear()


def test_flask_response(run: CapturingExporter) -> None:
    """A response, or a generator that Flask makes one of; a client that does not want the body ends the step too."""
    app = Flask("test")

    @app.get("/response")
    @step("workflow", "handle")
    def handle() -> Any:
        return FlaskResponse(body())

    @app.get("/generator")
    @step("workflow", "handle")
    def handle_generator() -> Any:
        return body()

    for path in ("/response", "/generator"):
        response = Client(app).get(path)
        assert response.get_data() == b"a" + EURO + b"b"
        response.close()
        done = handled(run)
        assert (done.status, [child.name for child in done.children]) == (Status.OK, ["first", "second"])
        run.clear()
    Client(app).head("/response").close()
    assert (handled(run).status, handled(run).chunks) == (Status.OK, [])
