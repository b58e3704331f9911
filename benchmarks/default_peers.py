"""Peers that record as users have them by default: the OpenTelemetry SDK and those made of it, NeMo Relay, a floor."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.payloads import Message

SDK, FASTOTEL, RELAY, LOGFIRE, LANGFUSE = "opentelemetry-sdk", "fastotel", "nemo-relay", "logfire", "langfuse"
FLOOR, FLOOR_IN_C = "a floor in pure Python", "a floor in C"
QUEUE, BATCH, DELAY = 16_384, 512, 1.0
"""Of every contender that can be told."""


class Recorder(Protocol):
    """A contender that is open: what it does for each kind of work."""

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        """Record a step for each pair of input and output, all in one run."""

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        """Record a run for each, whose first step encloses the others."""

    async def root(self) -> None:
        """Record a run of one step, which waits for a turn of the loop."""

    async def agent(self, turns: Sequence[Message]) -> None:
        """Record a run with a model call for each message, whose input is the conversation until then."""

    async def flush(self) -> None:
        """Return when all that was recorded has been exported."""


# Those that are OpenTelemetry's, or have its interface


class _Spans:
    """Records through a tracer, as an application would by hand."""

    def __init__(self, tracer: Any, flush: Callable[[], Any]) -> None:
        self._span = tracer.start_as_current_span
        self._flush = flush

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        with self._span("run"):
            for given, answered in payloads:
                self._step(given, answered)

    def _step(self, given: Any, answered: Any) -> None:
        with self._span("work", attributes=_attributes(given)) as span:
            if answered is not None:
                span.set_attribute("output.value", answered)

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        for (given, answered), *others in payloads:
            with self._span("work", attributes=_attributes(given)) as outer:
                for inner_given, inner_answered in others:
                    self._step(inner_given, inner_answered)
                outer.set_attribute("output.value", answered)

    async def root(self) -> None:
        with self._span("root"):
            await asyncio.sleep(0)

    async def agent(self, turns: Sequence[Message]) -> None:
        history: list[Message] = []
        with self._span("agent"):
            for message in turns:
                history.append(message)
                with self._span("gpt-5", attributes=_attributes(history)) as span:
                    span.set_attribute("output.value", message["content"])

    async def flush(self) -> None:
        await asyncio.to_thread(self._flush)


def _attributes(given: Any) -> dict[str, Any]:
    if given is None:
        return {"openinference.span.kind": "CHAIN"}
    text = given if isinstance(given, str) else json.dumps(given)
    return {"openinference.span.kind": "CHAIN", "input.value": text}


def _discarding() -> Any:
    export = importlib.import_module("opentelemetry.sdk.trace.export")

    class Discarding(export.SpanExporter):  # type: ignore[misc, name-defined]
        def export(self, spans: Sequence[Any]) -> Any:
            return export.SpanExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    return Discarding()


def _batching(endpoint: str) -> Any:
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    if endpoint:
        http = importlib.import_module("opentelemetry.exporter.otlp.proto.http")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        exporter = otlp.OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=http.Compression.Gzip)
    else:
        exporter = _discarding()
    return export.BatchSpanProcessor(
        exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH, schedule_delay_millis=DELAY * 1000
    )


@asynccontextmanager
async def _provided(*processors: Any) -> AsyncIterator[Recorder]:
    trace = importlib.import_module("opentelemetry.sdk.trace")
    provider = trace.TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)

    def flush() -> None:
        if not provider.force_flush(60_000):
            raise RuntimeError("Not everything was exported.")

    try:
        yield _Spans(provider.get_tracer("benchmark"), flush)
    finally:
        provider.shutdown()


@asynccontextmanager
async def _sdk(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    async with _provided(*(_batching(endpoint) for _ in range(exporters))) as recorder:
        yield recorder


@asynccontextmanager
async def _fastotel(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    processor = importlib.import_module("fastotel").OTLPSpanProcessor(
        endpoint=f"{endpoint}/v1/traces",
        compression="gzip",
        max_queue_size=QUEUE,
        max_export_batch_size=BATCH,
        schedule_delay_millis=DELAY * 1000,
    )
    async with _provided(processor) as recorder:
        yield recorder


class _Logfire(_Spans):
    """Records through Logfire's own interface, which encodes structured values and scrubs."""

    def __init__(self, library: Any) -> None:
        self._library = library

        def span(name: str, attributes: dict[str, Any] | None = None) -> Any:
            return library.span(
                name, **{key.replace(".", "_"): value for key, value in (attributes or {}).items()}
            )

        self._span = span
        self._flush = library.force_flush


@asynccontextmanager
async def _logfire(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    library = importlib.import_module("logfire")
    library.configure(
        send_to_logfire=False, console=False, metrics=False, additional_span_processors=[_batching(endpoint)]
    )
    try:
        yield _Logfire(library)
    finally:
        library.shutdown()


class _Langfuse(_Spans):
    def __init__(self, client: Any) -> None:
        self._client = client
        self._flush = client.flush

    def _observed(self, name: str, given: Any) -> Any:
        return self._client.start_as_current_observation(name=name, input=given)

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        with self._observed("run", None):
            for given, answered in payloads:
                self._step(given, answered)

    def _step(self, given: Any, answered: Any) -> None:
        with self._observed("work", given) as span:
            if answered is not None:
                span.update(output=answered)

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        for (given, answered), *others in payloads:
            with self._observed("work", given) as outer:
                for inner_given, inner_answered in others:
                    self._step(inner_given, inner_answered)
                outer.update(output=answered)

    async def root(self) -> None:
        with self._observed("root", None):
            await asyncio.sleep(0)

    async def agent(self, turns: Sequence[Message]) -> None:
        history: list[Message] = []
        with self._observed("agent", None):
            for message in turns:
                history.append(message)
                with self._observed("gpt-5", history) as span:
                    span.update(output=message["content"])


@asynccontextmanager
async def _langfuse(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    client = importlib.import_module("langfuse").Langfuse(
        public_key="pk-lf-benchmark",
        secret_key="sk-lf-benchmark",
        base_url=endpoint,
        flush_at=BATCH,
        flush_interval=DELAY,
        otel_compression="gzip",
    )
    try:
        yield _Langfuse(client)
    finally:
        client.shutdown()


# The maker of the reference toolkit's own recorder, in Rust


class _Relay:
    def __init__(self, library: Any, subscriber: Any) -> None:
        self._scope = library.scope
        self._kinds = library.ScopeType
        self._subscriber = subscriber

    def _step(self, given: Any, answered: Any) -> None:
        handle = self._scope.push("work", self._kinds.Function, input=given)
        self._scope.pop(handle, output=answered)

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        handle = self._scope.push("run", self._kinds.Agent)
        for given, answered in payloads:
            self._step(given, answered)
        self._scope.pop(handle)

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        for (given, answered), *others in payloads:
            outer = self._scope.push("work", self._kinds.Function, input=given)
            for inner_given, inner_answered in others:
                self._step(inner_given, inner_answered)
            self._scope.pop(outer, output=answered)

    async def root(self) -> None:
        handle = self._scope.push("root", self._kinds.Agent)
        await asyncio.sleep(0)
        self._scope.pop(handle)

    async def agent(self, turns: Sequence[Message]) -> None:
        history: list[Message] = []
        outer = self._scope.push("agent", self._kinds.Agent)
        for message in turns:
            history.append(message)
            call = self._scope.push("gpt-5", self._kinds.Llm, input=history)
            self._scope.pop(call, output=message["content"])
        self._scope.pop(outer)

    async def flush(self) -> None:
        await asyncio.to_thread(self._subscriber.force_flush)


@asynccontextmanager
async def _relay(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    library = importlib.import_module("nemo_relay")
    config = library.OpenTelemetryConfig("openinference", f"{endpoint}/v1/traces")
    config.service_name = "benchmark"
    subscriber = library.OpenTelemetrySubscriber(config)
    subscriber.register("benchmark")
    try:
        yield _Relay(library, subscriber)
    finally:
        subscriber.shutdown()


# The least that a recorder could do

_parent: ContextVar[str | None] = ContextVar("parent", default=None)


class _FloorSpan:
    """Has ids, two times, an input and an output, is the parent of what is recorded inside, and is queued."""

    __slots__ = ("_queue", "_token", "end_ns", "input", "output", "parent_id", "span_id", "start_ns")

    def __init__(self, queue: list[_FloorSpan], given: Any) -> None:
        self._queue = queue
        self.input = given
        self.output: Any = None
        self.span_id = f"{random.getrandbits(64):016x}"

    def __enter__(self) -> Self:
        self.parent_id = _parent.get()
        self._token: Token[str | None] = _parent.set(self.span_id)
        self.start_ns = time.time_ns()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end_ns = time.time_ns()
        _parent.reset(self._token)
        self._queue.append(self)


class _Floor:
    """
    Queues spans, which a thread takes in batches and drops; nothing is captured, counted, limited or redacted.

    Args:
        span: Makes a span, given the queue and an input.
    """

    def __init__(self, span: Callable[[list[Any], Any], Any] = _FloorSpan) -> None:
        self._span = span
        self._queue: list[Any] = []
        self._wake, self._empty, self._closed = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while not self._closed:
            self._wake.wait(DELAY)
            self._wake.clear()
            while self._queue:
                del self._queue[:BATCH]
            self._empty.set()

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        queue, make = self._queue, self._span
        for given, answered in payloads:
            with make(queue, given) as span:
                span.output = answered

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        for (given, answered), *others in payloads:
            with self._span(self._queue, given) as outer:
                await self.steps(others)
                outer.output = answered

    async def root(self) -> None:
        with self._span(self._queue, None):
            await asyncio.sleep(0)

    async def agent(self, turns: Sequence[Message]) -> None:
        history: list[Message] = []
        for message in turns:
            history.append(message)
            with self._span(self._queue, list(history)) as span:
                span.output = message["content"]

    async def flush(self) -> None:
        self._empty.clear()
        self._wake.set()
        await asyncio.to_thread(self._empty.wait)

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()


@asynccontextmanager
async def _floor(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    recorder = _Floor()
    try:
        yield recorder
    finally:
        recorder.close()


def can_compile() -> bool:
    """Whether there is a C compiler, and Python's headers."""
    return shutil.which("cc") is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def _compiled() -> Any:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "benchmarks_floor.so")
        source = str(Path(__file__).with_name("floor.c"))
        include = sysconfig.get_paths()["include"]
        command = ["cc", "-O2", "-shared", "-fPIC", f"-I{include}", source, "-o", str(path)]
        subprocess.run(command, check=True)
        spec = importlib.util.spec_from_file_location("benchmarks_floor", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def _floor_in_c(endpoint: str, exporters: int) -> AsyncIterator[Recorder]:
    recorder = _Floor(_compiled().Span)
    try:
        yield recorder
    finally:
        recorder.close()


PEERS: dict[str, Callable[[str, int], AbstractAsyncContextManager[Recorder]]] = {
    SDK: _sdk,
    FASTOTEL: _fastotel,
    LOGFIRE: _logfire,
    LANGFUSE: _langfuse,
    RELAY: _relay,
    FLOOR: _floor,
    FLOOR_IN_C: _floor_in_c,
}
"""What opens each, given its OTLP receiver, or an empty text if its exporters drop what they get, and their number."""
