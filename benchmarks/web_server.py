"""
What a run for each request costs a FastAPI application under uvicorn, beside opentelemetry-instrumentation-asgi.

Every contender is a server of its own, in its default settings; a client of several connections sends them requests of
2 KB in turns. The exporters drop what they get.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Self

from benchmarks.payloads import Payloads
from benchmarks.report import Row, missing, of_rounds, report
from benchmarks.timing import rounds

OURS, UNREDACTED, BARE = "ours", "ours without redaction", "no observability"
PEER, WHOLE_PEER = "one span a request", "its spans as they come"
EXPORTERS = {1: 2.5, 3: 2.0}
"""Exporters of each request, and how many times less than the peer's one span a request ours is to cost."""
ROUNDS = rounds(9)
REQUESTS = 1000  # of each round
CONNECTIONS = 8
_INSTRUMENTATION = "opentelemetry-instrumentation-asgi"
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Round:
    """What one round measured: the server's CPU seconds and the whole seconds of a request, and the slowest percent."""

    cpu: float
    seconds: float
    p99: float


class Server:
    """A contender's server in a process of its own; a context manager."""

    def __init__(self, contender: str, exporters: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "benchmarks.web_server",
            "--serve",
            contender,
            str(exporters),
            str(self._port),
        ]
        environment = {
            each: value for each, value in os.environ.items() if not each.startswith(("NAT_", "OTEL_"))
        }
        self._process = subprocess.Popen(command, cwd=_ROOT, env=environment)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError("The server did not start.")

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    async def measure(self, bodies: Sequence[bytes]) -> Round:
        """Send the requests over several connections, each the next when the last was answered."""
        waiting = iter(bodies)
        took: list[float] = []

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            for body in waiting:
                began = time.perf_counter()
                await _post(reader, writer, body)
                took.append(time.perf_counter() - began)
            writer.close()

        before = await self._cpu()
        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        seconds = time.perf_counter() - began
        cpu = await self._cpu() - before
        return Round(cpu / len(bodies), seconds / len(bodies), sorted(took)[len(took) * 99 // 100])

    async def _cpu(self) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /cpu HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = await _answer(reader)
        writer.close()
        return float(json.loads(answer))


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(
        b"POST /items/7 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    await _answer(reader)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"The server answered {head.splitlines()[0]!r}")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


# In the servers' processes:


def _application(**options: Any) -> Any:
    fastapi = importlib.import_module("fastapi")
    application = fastapi.FastAPI(**options)

    async def ask(item: int, question: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"item": item, "answer": question["text"][:1000]}

    async def cpu() -> float:
        return time.process_time()

    application.post("/items/{item}")(ask)
    application.get("/cpu")(cpu)
    return application


def _ours(exporters: int, *, redact: bool) -> Any:
    from benchmarks.runs import Discarding
    from nat_observability.builders import delivering
    from nat_observability.containers import ObservabilityContainer
    from nat_observability.integrations.fastapi import instrument

    os.environ["NAT_OBSERVABILITY_REDACT"] = str(redact).lower()
    for index in range(exporters):
        os.environ[f"NAT_OBSERVABILITY_EXPORTERS__E{index}__TYPE"] = "discarding"
    container = ObservabilityContainer()
    container.exporter_types.override(
        {"discarding": lambda name, options, settings: delivering(name, options, settings, Discarding())}
    )
    application = _application()
    instrument(application, container)
    return application


def _theirs(exporters: int, left_out: Sequence[str]) -> Any:
    trace = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    middleware = importlib.import_module("opentelemetry.instrumentation.asgi").OpenTelemetryMiddleware

    class Discarding(export.SpanExporter):  # type: ignore[misc, name-defined]
        def export(self, spans: Sequence[Any]) -> Any:
            return export.SpanExportResult.SUCCESS

    provider = trace.TracerProvider()
    for _ in range(exporters):
        provider.add_span_processor(export.BatchSpanProcessor(Discarding()))

    @asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[None]:
        yield
        provider.shutdown()

    return middleware(
        _application(lifespan=lifespan), tracer_provider=provider, exclude_spans=list(left_out) or None
    )


def _serve(contender: str, exporters: int, port: int) -> None:
    uvicorn = importlib.import_module("uvicorn")
    if contender in (OURS, UNREDACTED):
        application = _ours(exporters, redact=contender == OURS)
    elif contender == BARE:
        application = _application()
    else:
        application = _theirs(exporters, ["receive", "send"] if contender == PEER else [])
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", access_log=False)


# In the process that compares them:


async def _in_turns(servers: dict[str, Server]) -> dict[str, list[Round]]:
    payloads = Payloads()
    taken: dict[str, list[Round]] = {name: [] for name in servers}
    for number in range(ROUNDS + 1):
        for name, server in servers.items():
            bodies = [json.dumps({"text": payloads.text(2000)}).encode() for _ in range(REQUESTS)]
            measured = await server.measure(bodies)
            if number:  # the first warms up
                taken[name].append(measured)
    return taken


def _rows(exporters: int, bar: float, taken: dict[str, list[Round]]) -> list[Row]:
    def added(name: str) -> list[float]:
        return [1e6 * (each.cpu - bare.cpu) for each, bare in zip(taken[name], taken[BARE], strict=True)]

    title, key = f"added to a web request, {exporters} exporters, CPU", f"web-{exporters}"
    if PEER not in taken:
        bar_in_words = f"at most {1 / bar:.2g}x"
        row = missing(title, "µs", median(added(OURS)), f"{_INSTRUMENTATION}, {PEER}", bar_in_words)
        return [row.under(key, added(UNREDACTED))]
    row = of_rounds(title, "µs", added(OURS), f"{_INSTRUMENTATION}, {PEER}", added(PEER), 1 / bar)
    rows = [
        row.under(key, added(UNREDACTED)),
        of_rounds(title, "µs", added(OURS), f"{_INSTRUMENTATION}, {WHOLE_PEER}", added(WHOLE_PEER)),
    ]
    for name, unit, figure in (
        ("throughput", "requests/s", lambda each: 1 / each.seconds),
        ("slowest percent of requests", "ms", lambda each: 1000 * each.p99),
    ):
        for peer in (PEER, BARE):
            figures = [list(map(figure, taken[each])) for each in (OURS, peer)]
            title = f"{name} of the web server, {exporters} exporters"
            row = of_rounds(title, unit, figures[0], peer, figures[1])
            rows.append(row.under(key, list(map(figure, taken[UNREDACTED]))))
    return rows


def measure() -> list[Row]:
    """Measure everything; nothing if there is no server."""
    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        print(
            "uvicorn or fastapi is not installed: no web server is measured. Cure: make bench",
            file=sys.stderr,
        )
        return []
    try:
        peers = [PEER, WHOLE_PEER] if find_spec("opentelemetry.instrumentation.asgi") else []
    except ModuleNotFoundError:  # of a parent package
        peers = []
    rows: list[Row] = []
    for exporters, bar in EXPORTERS.items():
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(Server(name, exporters))
                for name in (BARE, OURS, UNREDACTED, *peers)
            }
            rows += _rows(exporters, bar, asyncio.run(_in_turns(servers)))
    return rows


def main() -> int:
    """Measure, or serve."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--serve", nargs=3)
    serve = parser.parse_known_args()[0].serve
    if serve is None:
        return report("A run for each request of a FastAPI application under uvicorn", measure)
    _serve(serve[0], int(serve[1]), int(serve[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
