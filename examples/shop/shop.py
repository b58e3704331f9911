"""Shop: the application and the broker of one container, with a run for each request and each task."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from taskiq import AsyncBroker, TaskiqEvents, TaskiqState

from examples.shop.containers import DELIVER, ShopContainer
from examples.shop.orders import Deliveries, Orders
from nat_observability import step
from nat_observability.integrations import fastapi, taskiq
from nat_observability.integrations.asgi import header


def tenant_of(scope: Any) -> dict[str, str]:
    """Return the tags of a request's run."""
    tenant = header(scope, "x-tenant")
    return {"tenant": tenant} if tenant else {}


def make_broker(container: ShopContainer) -> AsyncBroker:
    """
    Return the broker, which opens the container when a worker or a client starts.

    `around=False`: what the container opens is opened before the exporters, and closed after they are drained.
    """
    broker: AsyncBroker = container.gateways.broker()

    async def deliver(order: int) -> None:
        deliveries: Deliveries = await container.work.deliveries()
        await deliveries.deliver(order)

    async def opens(_: TaskiqState) -> None:
        await container.init_resources()  # type: ignore[misc]

    async def closes(_: TaskiqState) -> None:
        await container.shutdown_resources()  # type: ignore[misc]

    broker.register_task(deliver, task_name=DELIVER)
    for start, end in (
        (TaskiqEvents.WORKER_STARTUP, TaskiqEvents.WORKER_SHUTDOWN),
        (TaskiqEvents.CLIENT_STARTUP, TaskiqEvents.CLIENT_SHUTDOWN),
    ):
        broker.add_event_handler(start, opens)
        broker.add_event_handler(end, closes)
    taskiq.instrument(broker, container.observability, around=False)
    return broker


def make_app(container: ShopContainer, broker: AsyncBroker) -> FastAPI:
    """Return the application, whose lifespan starts the broker, and so opens the container."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await broker.startup()
        yield
        await broker.shutdown()

    app = FastAPI(lifespan=lifespan)
    fastapi.instrument(app, container.observability, around=False, health="/health", tags=tenant_of)

    async def orders() -> Orders:
        counter: Any = container.work.counter
        made: Orders = await counter.orders()
        return made

    @app.post("/orders/{degrees}")
    async def order(degrees: int, later: BackgroundTasks) -> str:
        counter = await orders()
        placed = await counter.place(degrees)
        later.add_task(counter.remember, placed)
        return placed

    @app.get("/teas/{tea}")
    async def describe(tea: str) -> StreamingResponse:
        return StreamingResponse((await orders()).describe(tea), media_type="text/plain")

    @app.websocket("/counter")
    async def counter(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                degrees = int(await websocket.receive_text())
                with step("task", "question", input=degrees):
                    await websocket.send_text(await (await orders()).place(degrees))
        except WebSocketDisconnect:
            pass

    return app
