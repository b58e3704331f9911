"""What a request costs more with a run for each, beside opentelemetry-instrumentation-asgi and its SDK."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.report import Row, at_most, beside, missing, report
from benchmarks.timing import rounds
from nat_observability import ExporterManager, ObservabilityRuntime, SpanExporter
from nat_observability.integrations.asgi import RequestMiddleware, RuntimeSource
from nat_observability.integrations.asgi.types import Application, Message, Receive, Scope, Send
from nat_observability.run.manager_options import ManagerOptions

PEER = "opentelemetry-instrumentation-asgi"
EXPORTERS = (0, 1, 3)
ROUNDS = rounds(9)
REQUESTS = 400  # a round; more at once than one, as a server has them
AT_ONCE = 20
BAR = 1 / 3

HEADERS = [
    (b"host", b"api.example.com"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"connection", b"keep-alive"),
    (b"content-length", b"27"),
    (b"content-type", b"application/json"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
REQUEST: Message = {"type": "http.request", "body": b'{"question":"green or black"}', "more_body": False}
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY: Message = {"type": "http.response.body", "body": b"green", "more_body": False}


class Route:
    """What a framework leaves in the scope of the route that it took."""

    path = path_format = "/items/{item}"


ROUTE = Route()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Read a request and answer it, as the smallest framework would."""
    scope["route"] = ROUTE
    await receive()
    await send(START)
    await send(BODY)


async def receive() -> Message:
    """Say what the client sent."""
    return REQUEST


async def send(message: Message) -> None:
    """Take what the client is sent."""


def scope_of(number: int) -> Scope:
    """Return the scope of a request as a server makes it."""
    path = f"/items/{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(HEADERS),
        "state": {},
    }


async def client(app: Application, requests: int) -> None:
    """Send that many requests, one after the other."""
    for number in range(requests):
        await app(scope_of(number), receive, send)


async def cpu_of(app: Application) -> float:
    """Return the CPU seconds of the whole process, delivery threads included, for each of a round's requests."""
    began = time.process_time()
    await asyncio.gather(*(client(app, REQUESTS // AT_ONCE) for _ in range(AT_ONCE)))
    return (time.process_time() - began) / REQUESTS


async def discard(batch: Sequence[Any]) -> None:
    """Take a batch of spans, and do no more."""


async def ours(stack: AsyncExitStack, exporters: int) -> Application:
    """Return the application with a run for each request, whose span that many exporters take."""
    registry: dict[str, Any] = {f"exporter_{index}": SpanExporter(discard) for index in range(exporters)}
    runtime = await stack.enter_async_context(ObservabilityRuntime(registry))
    options = ManagerOptions(observer=runtime)
    source = RuntimeSource(runtime, lambda: ExporterManager.with_options(registry, options))
    return RequestMiddleware(application, source)


def theirs(stack: AsyncExitStack, exporters: int, *left_out: str) -> Application:
    """
    Return the application with the peer's middleware, whose spans that many batch processors take.

    Args:
        stack: Shuts the provider down.
        exporters: How many take the spans.
        left_out: Its spans for each message, "receive" and "send", that it is not to make.
    """
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    middleware = importlib.import_module("opentelemetry.instrumentation.asgi").OpenTelemetryMiddleware

    class Discarding(export.SpanExporter):  # type: ignore[misc, name-defined]
        def export(self, spans: Sequence[Any]) -> Any:
            return export.SpanExportResult.SUCCESS

    provider = sdk.TracerProvider()
    for _ in range(exporters):
        provider.add_span_processor(export.BatchSpanProcessor(Discarding()))
    stack.callback(provider.shutdown)
    wrapped: Application = middleware(
        application, tracer_provider=provider, exclude_spans=list(left_out) or None
    )
    return wrapped


def _installed() -> bool:
    try:
        return find_spec("opentelemetry.instrumentation.asgi") is not None
    except ModuleNotFoundError:
        return False


async def measured(contenders: Sequence[Application]) -> list[float]:
    """Return the median CPU seconds of each contender's request, measured in turns."""
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for figures, contender in zip(taken, contenders, strict=True):
            figures.append(await cpu_of(contender))
    return list(map(median, taken))


async def rows() -> list[Row]:
    """Measure everything."""
    found: list[Row] = []
    for exporters in EXPORTERS:
        async with AsyncExitStack() as stack:
            contenders: list[Application] = [application, await ours(stack, exporters)]
            if _installed():
                contenders += [theirs(stack, exporters), theirs(stack, exporters, "receive", "send")]
            gc.collect()
            bare, *others = await measured(contenders)
        own, *peers = [(seconds - bare) * 1e6 for seconds in others]
        name = f"added to a request, {exporters} exporters"
        if peers:
            found.append(at_most(name, "µs CPU", own, PEER, peers[0], BAR))
            found.append(beside(name, "µs CPU", own, "its span of the request alone", peers[1]))
        else:
            found.append(missing(name, "µs CPU", own, PEER, f"at most {BAR:g}x"))
    return found


def measure() -> list[Row]:
    """Measure everything, in one process."""
    return asyncio.run(rows())


if __name__ == "__main__":
    sys.exit(report("Added CPU of an HTTP request", measure))
