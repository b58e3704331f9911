"""Exporters on a pool that the application opens and closes: everything is delivered before the pool closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from celery import Celery, signals
from dependency_injector import providers
from fastapi import FastAPI
from faststream import FastStream, TestApp
from faststream.nats import NatsBroker, TestNatsBroker
from litestar import Litestar, get
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from taskiq import InMemoryBroker, TaskiqEvents

from nat_observability import SpanExporter, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.health import RuntimeState
from nat_observability.integrations import (
    asgi,
    celery,
    fastapi,
    faststream,
    litestar,
    quart,
    starlette,
    taskiq,
)
from nat_observability.integrations.asgi import ObservabilityLifespan, RequestMiddleware
from nat_observability.sinks.protocol import Batch

pytestmark = pytest.mark.may_block  # taskiq and FastStream look at the handlers' source files


class Pool:
    """A pool that is open from the application's start to its end, and an exporter's sink."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.container = ObservabilityContainer()
        self.container.exporters.override(providers.Object({"main": SpanExporter(self.write, name="main")}))

    def note(self, event: str) -> None:
        """Note an event of the application, and whether the runtime is open then."""
        is_open = self.container.runtime_object().state is RuntimeState.OPEN
        self.events.append(f"{event}, runtime {'open' if is_open else 'not open'}")

    async def write(self, batch: Batch) -> None:
        """Note what is delivered."""
        self.events += ["delivered"] * len(batch)

    async def start(self, *given: object) -> None:
        """Open the pool, in the application's start."""
        self.note("pool opens")

    async def stop(self, *given: object) -> None:
        """Close the pool, in the application's end."""
        self.note("pool closes")

    @asynccontextmanager
    async def lifespan(self, *given: object) -> AsyncIterator[None]:
        """Do both, as a lifespan."""
        await self.start()
        yield
        await self.stop()


AROUND = ["pool opens, runtime open", "pool closes, runtime open", "delivered"]
INSIDE = ["pool opens, runtime not open", "delivered", "pool closes, runtime not open"]


async def served(app: Any) -> None:
    """Start the application, send it one request, and stop it, as a server does."""
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": state}
    life = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    request = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/tea",
        "raw_path": b"/tea",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": dict(state),
    }
    answers: list[dict[str, Any]] = []
    done = asyncio.Event()
    received = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await app(request, receive, send)
    done.set()
    assert answers[0]["status"] == 200
    await incoming.put({"type": "lifespan.shutdown"})
    assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
    await life


def starlette_app(pool: Pool, around: bool) -> Any:
    async def tea(request: object) -> PlainTextResponse:
        return PlainTextResponse("tea")

    app = Starlette(routes=[Route("/tea", tea)], lifespan=pool.lifespan)
    starlette.instrument(app, pool.container, around=around)
    return app


def fastapi_app(pool: Pool, around: bool) -> Any:
    app = FastAPI(lifespan=pool.lifespan)

    @app.get("/tea")
    async def tea() -> str:
        return "tea"

    fastapi.instrument(app, pool.container, around=around)
    return app


def litestar_app(pool: Pool, around: bool) -> Any:
    @get("/tea")
    async def tea() -> str:
        return "tea"

    app = Litestar([tea], logging_config=None, lifespan=[pool.lifespan])
    litestar.instrument(app, pool.container, around=around)
    return app


def litestar_hooks(pool: Pool, around: bool) -> Any:
    @get("/tea")
    async def tea() -> str:
        return "tea"

    app = Litestar([tea], logging_config=None, on_startup=[pool.start], on_shutdown=[pool.stop])
    litestar.instrument(app, pool.container, around=around)
    return app


def quart_app(pool: Pool, around: bool) -> Any:
    app = Quart("shop")

    @app.get("/tea")
    async def tea() -> str:
        return "tea"

    quart.instrument(app, pool.container, around=around)
    app.before_serving(pool.start)
    app.after_serving(pool.stop)
    return app


def quart_while(pool: Pool, around: bool) -> Any:
    app = Quart("shop")

    @app.get("/tea")
    async def tea() -> str:
        return "tea"

    @app.while_serving
    async def serving() -> AsyncGenerator[None, None]:
        await pool.start()
        yield
        await pool.stop()

    quart.instrument(app, pool.container, around=around)
    return app


def plain_app(pool: Pool, around: bool) -> Any:
    async def tea(request: object) -> PlainTextResponse:
        return PlainTextResponse("tea")

    app = Starlette(routes=[Route("/tea", tea)], lifespan=pool.lifespan)
    return ObservabilityLifespan(RequestMiddleware(app, pool.container), pool.container, around=around)


APPS = [starlette_app, fastapi_app, litestar_app, litestar_hooks, quart_app, quart_while, plain_app]


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
@pytest.mark.parametrize("make", APPS, ids=lambda make: make.__name__)
async def test_a_web_application(make: Callable[[Pool, bool], Any], around: bool) -> None:
    """Around, what the start and the end record is delivered too; inside, everything is before the pool closes."""
    pool = Pool()
    await served(make(pool, around))
    assert pool.events == (AROUND if around else INSIDE)


def record() -> None:
    """Do a piece of work."""
    with step("tool", "brew"):
        pass


def calls_middlewares() -> bool:
    """Whether the broker in memory does at its end, as all others do."""
    return "middlewares" in InMemoryBroker.shutdown.__code__.co_names


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
@pytest.mark.parametrize("early", [True, False], ids=["handlers first", "handlers later"])
async def test_taskiq(around: bool, early: bool) -> None:
    """Handlers of the broker's events, added before or after `instrument`."""
    if around and not calls_middlewares():
        pytest.skip("The broker in memory of Taskiq 0.12 calls no middleware when it stops.")
    pool, broker = Pool(), InMemoryBroker(await_inplace=True)

    def handlers() -> None:
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, pool.start)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, pool.stop)

    broker.is_worker_process = True
    if early:
        handlers()
    taskiq.instrument(broker, pool.container, around=around)
    if not early:
        handlers()
    task = broker.register_task(record, task_name="brew")
    await broker.startup()
    await task.kiq()
    await broker.shutdown()
    opens, *others = AROUND if around else INSIDE
    assert [event for event in pool.events if event != "delivered"] == [
        opens,
        *(event for event in others if event != "delivered"),
    ]
    assert pool.events.count("delivered") == 2
    assert pool.events[-1] == others[-1]


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
@pytest.mark.parametrize("place", ["lifespan", "hooks"])
async def test_faststream(around: bool, place: str) -> None:
    """A lifespan, or hooks of the start and the end."""
    pool, broker = Pool(), NatsBroker()

    @broker.subscriber("orders")
    async def brew(body: str) -> None:
        record()

    if place == "lifespan":
        app = FastStream(broker, logger=None, lifespan=pool.lifespan)
    else:
        app = FastStream(broker, logger=None, on_startup=[pool.start], after_shutdown=[pool.stop])
    faststream.instrument(app, pool.container, around=around)
    async with TestNatsBroker(broker), TestApp(app):
        await broker.publish("tea", "orders")
    opens, *others = AROUND if around else INSIDE
    assert pool.events[0] == opens
    assert pool.events.count("delivered") >= 1
    assert pool.events[-1] == others[-1]


@pytest.mark.parametrize("early", [True, False], ids=["receivers first", "receivers later"])
def test_celery(early: bool) -> None:
    """The exporters are drained before the application's receivers close the pool, whichever was connected first."""
    pool, app = Pool(), Celery("shop", broker="memory://")

    def close_pool(**_: object) -> None:
        pool.note("pool closes")

    observability = None
    try:
        if early:
            signals.worker_process_shutdown.connect(close_pool)
        observability = celery.instrument(app, pool.container)
        signals.worker_process_shutdown.connect(close_pool)
        task = app.task(name="brew")(record)
        signals.worker_process_init.send(None)
        task.apply()
        signals.worker_process_shutdown.send(None, pid=1, exitcode=0)
    finally:
        signals.worker_process_shutdown.disconnect(close_pool)
        if observability is not None:
            observability.disconnect()
    assert pool.events == ["delivered", "delivered", "pool closes, runtime not open"]


async def test_a_failing_start_closes_what_was_opened() -> None:
    """Inside or around: the runtime is closed if the application does not start."""

    @asynccontextmanager
    async def fails(_: object) -> AsyncIterator[None]:
        raise RuntimeError("no tea")
        yield  # type: ignore[unreachable]  # this makes it a generator

    for around in (True, False):
        pool = Pool()
        with pytest.raises(RuntimeError, match="no tea"):
            async with asgi.lifespan(pool.container, fails, around=around)(None):
                pass
        assert pool.container.runtime_object().state in (RuntimeState.NEW, RuntimeState.CLOSED)
