"""Exchange and route_template: how a request went, and which route it took, by what was said and what was left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nat_observability.errors import (
    ClientDisconnectedError,
    ResponseIncompleteError,
    ServerStatusError,
    WebsocketClosedError,
)
from nat_observability.integrations.asgi.exchange import Exchange
from nat_observability.integrations.asgi.types import Message


class WebSocketDisconnect(Exception):  # noqa: N818  as Starlette names it
    """What a framework raises if the client has closed its websocket."""


async def after(sent: Sequence[Message], received: Sequence[Message] = ()) -> Exchange:
    """Return what has passed these on: what the application sent, then what it asked for."""
    waiting = list(received)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        pass

    exchange = Exchange(receive, send)
    for message in sent:
        await exchange.send(message)
    for _ in received:
        await exchange.receive()
    return exchange


def start(status: int = 200, **more: object) -> Message:
    return {"type": "http.response.start", "status": status, **more}


def body(**more: object) -> Message:
    return {"type": "http.response.body", "body": b"x", **more}


def of(kind: str, **more: object) -> Message:
    return {"type": kind, **more}


@pytest.mark.parametrize(
    "sent",
    [
        [start(), body()],
        [start(204), body(more_body=True), body()],
        [start(), of("http.response.pathsend", path="/file")],
        [
            start(),
            of("http.response.zerocopysend", file=1, more_body=True),
            of("http.response.zerocopysend", file=1),
        ],
        [start(trailers=True), body(), of("http.response.trailers", headers=[])],
        [
            start(trailers=True),
            body(),
            of("http.response.trailers", headers=[], more_trailers=True),
            of("http.response.trailers", headers=[]),
        ],
    ],
    ids=["body", "pieces", "path", "zero copy", "trailers", "more trailers"],
)
async def test_a_complete_response_went_well(sent: list[Message]) -> None:
    """Whichever message is its last one, and not before that."""
    exchange = await after(sent)
    assert exchange.went_well
    assert exchange.failure(None) is None
    early = await after(sent[:-1])
    assert not early.went_well
    assert isinstance(early.failure(None), ResponseIncompleteError)


@pytest.mark.parametrize(
    ("sent", "received", "failure"),
    [
        ([start(500), body()], [], ServerStatusError),
        ([start(), body(more_body=True)], [of("http.disconnect")], ClientDisconnectedError),
        ([start(), body()], [of("http.disconnect")], None),
        ([start(404), body()], [], None),
        ([of("websocket.accept"), of("websocket.close", code=1011)], [], WebsocketClosedError),
        ([of("websocket.accept"), of("websocket.close", code=4500)], [], WebsocketClosedError),
        ([of("websocket.accept"), of("websocket.close")], [], None),
        ([of("websocket.accept")], [of("websocket.disconnect", code=1011)], None),
        ([of("websocket.accept")], [], None),
        ([of("websocket.close")], [], None),
    ],
    ids=[
        "server error",
        "client gone",
        "client gone afterwards",
        "not found",
        "internal error",
        "application error",
        "closed",
        "closed by the client",
        "open",
        "refused",
    ],
)
async def test_how_it_ended(
    sent: list[Message], received: list[Message], failure: type[Exception] | None
) -> None:
    """An application's error counts as an error, and what the client may do does not."""
    found = (await after(sent, received)).failure(None)
    assert type(found) is (failure or type(None))


async def test_a_websocket_may_be_refused_with_a_response() -> None:
    """Whose status is that of the exchange."""
    start_of = of("websocket.http.response.start", status=401)
    exchange = await after([start_of, of("websocket.http.response.body", body=b"x", more_body=True)])
    assert (exchange.status, exchange.complete) == (401, False)
    await exchange.send(of("websocket.http.response.body", body=b"x"))
    assert exchange.complete


async def test_an_exception_over_a_websocket_is_its_failure() -> None:
    """But for one that says no more than that the client has closed it normally."""
    left = await after([of("websocket.accept")], [of("websocket.disconnect", code=1001)])
    assert left.failure(WebSocketDisconnect()) is None
    broken = ValueError("no milk")
    assert left.failure(broken) is broken
    lost = await after([of("websocket.accept")], [of("websocket.disconnect", code=1006)])
    gone = WebSocketDisconnect()
    assert lost.failure(gone) is gone


async def test_the_server_answers_for_an_application_that_raises_before_it_has_answered() -> None:
    """With the status 500; a status that was sent stays."""
    silent, answered = await after([]), await after([start(202)])
    for exchange in (silent, answered):
        exchange.fail(ValueError())
    assert (silent.status, answered.status) == (500, 202)
    cancelled = await after([])
    cancelled.fail(KeyboardInterrupt())
    assert cancelled.status is None
