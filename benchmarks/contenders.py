"""Who exports spans over OTLP: this library, the OpenTelemetry SDK, fastotel; each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from benchmarks.workload import STEPS, WORKS, works_of_run
from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.sinks.otlp.body import Compression
from nat_observability.sinks.otlp.http import OtlpHttpSink

OURS, SDK, FASTOTEL = "nat_observability", "opentelemetry-sdk", "fastotel"
LANGFUSE, NAT = "langfuse", "nvidia-nat-core"

_ROOT = Path(__file__).parents[1]
_NEEDS = {
    OURS: ("aiohttp",),
    SDK: ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    FASTOTEL: ("opentelemetry.sdk", "fastotel"),
    LANGFUSE: ("langfuse",),
    NAT: ("nat.observability",),
}
_BATCH, _DELAY = 512, 1.0  # the defaults of this library; the SDK's are 512 and 5 s


class Measured(msgspec.Struct, frozen=True):
    """What one process measured: CPU time of the process, wall time and the growth of its peak resident memory."""

    spans: int
    cpu_s: float
    wall_s: float
    peak_bytes: int


class Recorder(Protocol):
    """A contender that is open."""

    async def record(self, run: int, steps: int = STEPS) -> None:
        """Record the run with this number and that many steps."""

    async def flush(self) -> None:
        """Return when everything that was recorded has been answered."""


def installed(contender: str) -> bool:
    """Whether what the contender needs is installed."""
    try:
        return all(find_spec(module) is not None for module in _NEEDS[contender])
    except ModuleNotFoundError:  # of a parent package
        return False


class Contender:
    """
    A contender in a process of its own, which records on request and is idle otherwise; a context manager.

    Args:
        contender: Its name.
        endpoint: Where the receiver listens.
        queue: Spans that its queue holds.
        compression: Of what it sends.
        steps: Spans of each run.
    """

    def __init__(
        self,
        contender: str,
        endpoint: str,
        *,
        queue: int = 2048,
        compression: Compression = "gzip",
        steps: int = STEPS,
    ) -> None:
        options = [contender, endpoint, str(queue), compression, str(steps)]
        command = [sys.executable, "-m", "benchmarks.contenders", *options]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def record(self, runs: int) -> Measured:
        """Have it record that many runs, and return what that took until every span was answered."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % runs)
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Measured)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The end of its input is the end of its work.
        self._process.communicate()


@asynccontextmanager
async def discarding(contender: str, *, payload: bool) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """
    Yield what records that many spans of this library or of the SDK, until an exporter has dropped them.

    Args:
        payload: Whether they have an input and an output.
    """
    given, answered = (WORKS[0].input, WORKS[0].output) if payload else (None, None)
    if contender == OURS:

        async def discard(batch: Sequence[Any]) -> None:
            pass

        exporter = SpanExporter(discard)
        manager = ExporterManager()
        manager.add_exporter("discarding", exporter)

        async def record(count: int) -> None:
            for _ in range(count):
                with step("function", "work", input=given) as recorded:
                    recorded.output = answered
            await manager.flush()

        async with ObservabilityRuntime({"discarding": exporter}), manager.start(ContextState()):
            yield record
        return
    async with batching() as (tracer, flush):
        attributes = {"input.value": given} if payload else None

        async def record_sdk(count: int) -> None:
            for _ in range(count):
                with tracer.start_as_current_span("work", attributes=attributes) as span:
                    if payload:
                        span.set_attribute("output.value", answered)
            await flush()

        yield record_sdk


_ATTRIBUTES: dict[str, Any] = {
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 1024,
    "gen_ai.response.finish_reasons": ["stop"],
    "server.address": "api.example.com",
    "server.port": 443,
    "cache.hit": False,
    "tenant": "acme",
}


@asynccontextmanager
async def detailing(contender: str) -> AsyncIterator[Callable[[int], Callable[[], Awaitable[object]]]]:
    """
    Yield what records that many spans, each with ten attributes and two events, in the calling thread.

    It returns what waits until an exporter has dropped them.
    """
    if contender == OURS:

        async def discard(batch: Sequence[Any]) -> None:
            pass

        exporter = SpanExporter(discard)
        manager = ExporterManager()
        manager.add_exporter("discarding", exporter)

        async def drained() -> None:
            await manager.flush()

        def record(count: int) -> Callable[[], Awaitable[object]]:
            for _ in range(count):
                with step("function", "work", attributes=_ATTRIBUTES) as recorded:
                    recorded.event("request.sent", {"attempt": 1})
                    recorded.event("response.received", {"status": 200, "bytes": 1234})
                    recorded.set_attribute("gen_ai.response.id", "resp_1")
            return drained

        async with ObservabilityRuntime({"discarding": exporter}), manager.start(ContextState()):
            yield record
        return
    async with batching() as (tracer, drained_sdk):

        def record_sdk(count: int) -> Callable[[], Awaitable[object]]:
            for _ in range(count):
                with tracer.start_as_current_span("work", attributes=_ATTRIBUTES) as span:
                    span.add_event("request.sent", {"attempt": 1})
                    span.add_event("response.received", {"status": 200, "bytes": 1234})
                    span.set_attribute("gen_ai.response.id", "resp_1")
            return drained_sdk

        yield record_sdk


@asynccontextmanager
async def batching() -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    """Yield a tracer of the SDK whose spans are dropped in batches, and what waits until they are."""
    processor = importlib.import_module("opentelemetry.sdk.trace.export").BatchSpanProcessor(_Discarding())
    async with _provider(processor) as provider:
        yield provider.get_tracer("benchmark"), partial(asyncio.to_thread, provider.force_flush)


class _Discarding:
    """An exporter of the SDK's kind, which does nothing."""

    def export(self, spans: Sequence[Any]) -> object:
        return importlib.import_module("opentelemetry.sdk.trace.export").SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class _Ours:
    def __init__(self, exporter: SpanExporter) -> None:
        self._manager = ExporterManager()
        self._manager.add_exporter("otlp", exporter)
        self._exporter = exporter
        self._latest = self._manager

    async def record(self, run: int, steps: int = STEPS) -> None:
        self._latest = manager = self._manager.get()
        async with manager.start(ContextState()):
            first, *others = works_of_run(run, steps)
            with step("function", first.name, input=first.input, metadata=first.metadata) as outer:
                for work in others:
                    with step("function", work.name, input=work.input, metadata=work.metadata) as inner:
                        inner.output = work.output
                outer.output = first.output

    async def flush(self) -> None:
        await self._latest.flush()
        health = self._exporter.delivery.health
        # Of earlier runs, whose batches may be on their way.
        while health().ledger.pending:  # noqa: ASYNC110  a ledger is asked, and has no event
            await asyncio.sleep(0.01)
        ledger = health().ledger
        if ledger.delivered != ledger.accepted:
            raise RuntimeError(f"Not everything was delivered: {ledger}")


@asynccontextmanager
async def ours(endpoint: str, queue: int, compression: Compression) -> AsyncIterator[Recorder]:
    """Open a SpanExporter with an OtlpHttpSink."""
    sink = OtlpHttpSink(endpoint, compression=compression, resource={"service.name": "benchmark"})
    limits = DeliveryLimits(
        queue_items=queue, batch_items=_BATCH, batch_age=_DELAY, queue_bytes=1024 * 1024 * 1024
    )
    exporter = SpanExporter(sink, limits=limits)
    async with ObservabilityRuntime({"otlp": exporter}):
        yield _Ours(exporter)


class _Sdk:
    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("benchmark")

    async def record(self, run: int, steps: int = STEPS) -> None:
        # The attributes that this library gives such a step. Metadata comes as finished JSON, in the SDK's favour.
        span = self._tracer.start_as_current_span
        run_id = str(uuid.uuid4())
        first, *others = _sdk_works(run, steps)
        name, attributes, output = first
        with span(name, attributes={**attributes, "nat.workflow.run_id": run_id}) as outer:
            for name, attributes, inner_output in others:
                with span(name, attributes={**attributes, "nat.workflow.run_id": run_id}) as inner:
                    inner.set_attributes({"output.value": inner_output, "output.mime_type": "text/plain"})
            outer.set_attributes({"output.value": output, "output.mime_type": "text/plain"})

    async def flush(self) -> None:
        if not self._provider.force_flush(60_000):
            raise RuntimeError("Not everything was delivered.")


_made: dict[int, list[tuple[str, dict[str, Any], str]]] = {}


def _sdk_works(run: int, steps: int) -> list[tuple[str, dict[str, Any], str]]:
    """Return a run's names, attributes and outputs, which are made once."""
    run %= len(WORKS) // steps
    if run not in _made:
        _made[run] = [
            (
                work.name,
                {
                    "openinference.span.kind": "CHAIN",
                    "nat.span.kind": "FUNCTION",
                    "input.value": work.input,
                    "input.mime_type": "text/plain",
                    "metadata": json.dumps(work.metadata, separators=(",", ":")),
                },
                work.output,
            )
            for work in works_of_run(run, steps)
        ]
    return _made[run]


@asynccontextmanager
async def sdk(endpoint: str, queue: int, compression: Compression) -> AsyncIterator[Recorder]:
    """Open a TracerProvider with a BatchSpanProcessor and an OTLPSpanExporter."""
    http = importlib.import_module("opentelemetry.exporter.otlp.proto.http")
    exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    sends = exporter.OTLPSpanExporter(
        endpoint=f"{endpoint}/v1/traces",
        compression=http.Compression.Gzip if compression == "gzip" else http.Compression.NoCompression,
    )
    async with _provider(
        export.BatchSpanProcessor(
            sends,
            max_queue_size=queue,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_DELAY * 1000,
        )
    ) as provider:
        yield _Sdk(provider)


@asynccontextmanager
async def fastotel(endpoint: str, queue: int, compression: Compression) -> AsyncIterator[Recorder]:
    """Open a TracerProvider with fastotel's OTLPSpanProcessor."""
    library = importlib.import_module("fastotel")
    async with _provider(
        library.OTLPSpanProcessor(
            endpoint=f"{endpoint}/v1/traces",
            compression=compression,
            max_queue_size=queue,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_DELAY * 1000,
        )
    ) as provider:
        yield _Sdk(provider)


class _Langfuse:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def record(self, run: int, steps: int = STEPS) -> None:
        observed = self._client.start_as_current_observation
        first, *others = works_of_run(run, steps)
        with observed(name=first.name, input=first.input, metadata=first.metadata) as outer:
            for work in others:
                with observed(name=work.name, input=work.input, metadata=work.metadata) as inner:
                    inner.update(output=work.output)
            outer.update(output=first.output)

    async def flush(self) -> None:
        self._client.flush()


@asynccontextmanager
async def langfuse(endpoint: str, queue: int, compression: Compression) -> AsyncIterator[Recorder]:
    """Open Langfuse's client; its queue has the size that it has."""
    client = importlib.import_module("langfuse").Langfuse(
        public_key="pk-lf-benchmark",
        secret_key="sk-lf-benchmark",
        base_url=endpoint,
        flush_at=_BATCH,
        flush_interval=_DELAY,
        otel_compression=compression,
    )
    try:
        yield _Langfuse(client)
    finally:
        client.shutdown()


@asynccontextmanager
async def _provider(processor: Any) -> AsyncIterator[Any]:
    resource = importlib.import_module("opentelemetry.sdk.resources").Resource({"service.name": "benchmark"})
    provider = importlib.import_module("opentelemetry.sdk.trace").TracerProvider(
        resource=resource, shutdown_on_exit=False
    )
    provider.add_span_processor(processor)
    try:
        yield provider
    finally:
        provider.shutdown()


_OPEN: dict[str, Callable[[str, int, Compression], AbstractAsyncContextManager[Recorder]]] = {
    OURS: ours,
    SDK: sdk,
    FASTOTEL: fastotel,
    LANGFUSE: langfuse,
}


async def _serve(contender: str, endpoint: str, queue: int, compression: Compression, steps: int) -> None:
    """Record as many runs as each line of the standard input says; print what that took."""
    recorded = 0
    async with _OPEN[contender](endpoint, queue, compression) as recorder:
        # Nothing else is to run on this loop meanwhile.
        for line in sys.stdin.buffer:
            runs = int(line)
            before = _forget_peak()
            cpu, wall = time.process_time(), time.perf_counter()
            for run in range(recorded, recorded + runs):
                await recorder.record(run, steps)
            await recorder.flush()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            recorded += runs
            measured = Measured(runs * steps, cpu, wall, _resident("VmHWM") - before)
            sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
            sys.stdout.buffer.flush()


def _forget_peak() -> int:
    """Let the peak of the resident memory begin anew; return what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # see proc(5)
    return _resident("VmRSS")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=_OPEN)
    parser.add_argument("endpoint")
    parser.add_argument("queue", type=int)
    parser.add_argument("compression", choices=("gzip", "none"))
    parser.add_argument("steps", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.contender, given.endpoint, given.queue, given.compression, given.steps))
