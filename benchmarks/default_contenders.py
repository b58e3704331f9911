"""Who records as users have it by default: this library from its settings, and peers; each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.payloads import Message, Payloads

OURS, UNREDACTED, PURE = "ours", "ours without redaction", "ours, redaction in pure Python"
SDK, FASTOTEL, RELAY, LOGFIRE, LANGFUSE = "opentelemetry-sdk", "fastotel", "nemo-relay", "logfire", "langfuse"
NEEDS = {
    SDK: "opentelemetry.sdk",
    FASTOTEL: "fastotel",
    RELAY: "nemo_relay",
    LOGFIRE: "logfire",
    LANGFUSE: "langfuse",
}
QUEUE, BATCH, DELAY = 16_384, 512, 1.0
"""Of every contender that can be told."""
STEPS = 10
TURNS = 50
_ROOT = Path(__file__).parents[1]
_PREFIX = "NAT_OBSERVABILITY_"


def installed(contender: str) -> bool:
    """Whether what the contender needs is installed."""
    if contender not in NEEDS:
        return True
    try:
        return find_spec(NEEDS[contender]) is not None
    except ModuleNotFoundError:  # of a parent package
        return False


class Contender:
    """
    A contender in a process of its own, which records on request and is idle otherwise; a context manager.

    Args:
        name: Which.
        endpoint: The OTLP receiver that it sends to; None if its exporter drops what it gets.
    """

    def __init__(self, name: str, endpoint: str | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.default_contenders", name, endpoint or ""]
        environment = {
            each: value
            for each, value in os.environ.items()
            if not each.startswith((_PREFIX, "OTEL_", "LOGFIRE_", "LANGFUSE_"))
        }
        self._process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, work: str, times: int) -> float:
        """Return the CPU seconds of all threads for each of that many repetitions of a work, until all is exported."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work} {times}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The end of its input is the end of its work.
        self._process.communicate()


class Recorder(Protocol):
    """A contender that is open: what it does for each kind of work."""

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        """Record a step for each pair of input and output, all in one run."""

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        """Record a run for each, whose first step encloses the others."""

    async def agent(self, turns: Sequence[Message]) -> None:
        """Record a run with a model call for each message, whose input is the conversation until then."""

    async def flush(self) -> None:
        """Return when all that was recorded has been exported."""


def _work(name: str, times: int, payloads: Payloads, recorder: Recorder) -> Callable[[], Awaitable[None]]:
    """Return what does a work that many times; its payloads are made before."""
    if name == "bare":
        return partial(recorder.steps, [(None, None)] * times)
    if name == "text":
        return partial(recorder.steps, [(payloads.text(2000), payloads.text(1000)) for _ in range(times)])
    if name == "history":
        return partial(recorder.steps, [(payloads.history(50_000), None) for _ in range(times)])
    if name == "run":
        works = [[(payloads.text(120), payloads.text(240)) for _ in range(STEPS)] for _ in range(times)]
        return partial(recorder.runs, works)
    if name == "agent":
        conversations = [payloads.turns(TURNS) for _ in range(times)]

        async def agents() -> None:
            for turns in conversations:
                await recorder.agent(turns)

        return agents
    raise SystemExit(f"There is no work {name!r}.")


# Ours


class _Ours:
    def __init__(self, container: Any) -> None:
        self._container = container
        self._latest: Any = None

    def _start(self) -> AbstractAsyncContextManager[Any]:
        from nat_observability import ContextState

        self._latest = self._container.exporter_manager()
        started: AbstractAsyncContextManager[Any] = self._latest.start(ContextState())
        return started

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        from nat_observability import step

        async with self._start():
            for given, answered in payloads:
                with step("function", "work", input=given) as current:
                    if answered is not None:
                        current.output = answered

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        from nat_observability import step

        for (given, answered), *others in payloads:
            async with self._start():
                with step("function", "work", input=given) as outer:
                    for inner_given, inner_answered in others:
                        with step("function", "work", input=inner_given) as inner:
                            inner.output = inner_answered
                    outer.output = answered

    async def agent(self, turns: Sequence[Message]) -> None:
        from nat_observability import step

        history: list[Message] = []
        async with self._start():
            with step("workflow", "agent"):
                for message in turns:
                    history.append(message)
                    with step("llm", "gpt-5", input=history) as call:
                        call.output = message["content"]

    async def flush(self) -> None:
        await self._latest.flush()
        runtime = self._container.runtime_object()
        # Of earlier runs, whose batches may be on their way.
        while runtime.health().ledger.pending:  # noqa: ASYNC110  a ledger is asked, and has no event
            await asyncio.sleep(0.01)
        ledger = runtime.health().ledger
        if ledger.delivered != ledger.accepted:
            raise RuntimeError(f"Not everything was delivered: {ledger}")


@asynccontextmanager
async def _ours(endpoint: str, *, redact: bool = True, engine: bool = True) -> AsyncIterator[Recorder]:
    from benchmarks.runs import Discarding
    from nat_observability.builders import delivering
    from nat_observability.containers import ObservabilityContainer

    main = f"{_PREFIX}EXPORTERS__MAIN__"
    os.environ[f"{main}TYPE"] = "otlp" if endpoint else "discarding"
    if endpoint:
        os.environ[f"{main}ENDPOINT"] = endpoint
    # As it is by default, but for the length of the queue, which is every contender's.
    os.environ[f"{main}QUEUE_ITEMS"] = str(QUEUE)
    os.environ[f"{main}QUEUE_BYTES"] = str(1 << 30)
    os.environ[f"{_PREFIX}REDACT"] = str(redact).lower()
    if not engine:
        sys.modules["hyperscan"] = None  # type: ignore[assignment]
    container = ObservabilityContainer()
    if not endpoint:
        container.exporter_types.override(
            {"discarding": lambda name, given, settings: delivering(name, given, settings, Discarding())}
        )
    opened: Any = container.init_resources()
    await opened
    try:
        yield _Ours(container)
    finally:
        closed: Any = container.shutdown_resources()
        await closed


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
async def _provided(processor: Any) -> AsyncIterator[Recorder]:
    trace = importlib.import_module("opentelemetry.sdk.trace")
    provider = trace.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)

    def flush() -> None:
        if not provider.force_flush(60_000):
            raise RuntimeError("Not everything was exported.")

    try:
        yield _Spans(provider.get_tracer("benchmark"), flush)
    finally:
        provider.shutdown()


@asynccontextmanager
async def _sdk(endpoint: str) -> AsyncIterator[Recorder]:
    async with _provided(_batching(endpoint)) as recorder:
        yield recorder


@asynccontextmanager
async def _fastotel(endpoint: str) -> AsyncIterator[Recorder]:
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
async def _logfire(endpoint: str) -> AsyncIterator[Recorder]:
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

    async def agent(self, turns: Sequence[Message]) -> None:
        history: list[Message] = []
        with self._observed("agent", None):
            for message in turns:
                history.append(message)
                with self._observed("gpt-5", history) as span:
                    span.update(output=message["content"])


@asynccontextmanager
async def _langfuse(endpoint: str) -> AsyncIterator[Recorder]:
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
async def _relay(endpoint: str) -> AsyncIterator[Recorder]:
    library = importlib.import_module("nemo_relay")
    config = library.OpenTelemetryConfig("openinference", f"{endpoint}/v1/traces")
    config.service_name = "benchmark"
    subscriber = library.OpenTelemetrySubscriber(config)
    subscriber.register("benchmark")
    try:
        yield _Relay(library, subscriber)
    finally:
        subscriber.shutdown()


_OPEN: dict[str, Callable[[str], AbstractAsyncContextManager[Recorder]]] = {
    OURS: _ours,
    UNREDACTED: partial(_ours, redact=False),
    PURE: partial(_ours, engine=False),
    SDK: _sdk,
    FASTOTEL: _fastotel,
    LOGFIRE: _logfire,
    LANGFUSE: _langfuse,
    RELAY: _relay,
}


async def _serve(name: str, endpoint: str) -> None:
    """Do each work that a line of the standard input names, and print the CPU seconds that one took."""
    payloads = Payloads()
    async with _OPEN[name](endpoint) as recorder:
        loop = asyncio.get_running_loop()
        while order := await loop.run_in_executor(None, sys.stdin.readline):
            work, times = order.split()
            do = _work(work, int(times), payloads, recorder)
            began = time.process_time()
            await do()
            await recorder.flush()
            print((time.process_time() - began) / int(times), flush=True)


def main() -> int:
    """Be a contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=_OPEN)
    parser.add_argument("endpoint")
    given = parser.parse_args()
    asyncio.run(_serve(given.name, given.endpoint))
    return 0


if __name__ == "__main__":
    sys.exit(main())
