"""Recording steps: to finished spans beside the OpenTelemetry SDK, to raw exporters, and outside every run."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from queue import SimpleQueue
from statistics import median
from typing import Any

from benchmarks.contenders import OURS, SDK, batching, detailing, discarding, installed
from benchmarks.model_calls import CALLS, TURNS, ours, real_answer, sdk
from benchmarks.report import Row, beside, missing, of_rounds, report
from benchmarks.timing import rounds
from nat_observability import (
    BaseExporter,
    ContextState,
    DeliveryLimits,
    ExporterManager,
    IntermediateStep,
    ObservabilityRuntime,
    SpanExporter,
    StepExporter,
    step,
)
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import recorded_run

ROUNDS = rounds(20)
COUNT = 1000

Round = Callable[[], Awaitable[None]]


class Raw(BaseExporter):
    """Looks at each step, and does nothing."""

    def export(self, event: IntermediateStep) -> None:
        """Do nothing."""


async def discard(batch: Batch) -> None:
    """Take a batch, and do nothing."""


async def one_step() -> IntermediateStep:
    """Return one finished step."""
    async with recorded_run() as captured:
        with step("function", "work"):
            pass
    return captured.steps[0]


def bare_queue(each: IntermediateStep) -> None:
    """Put steps into a queue of the standard library, and get them out again."""
    queue: SimpleQueue[IntermediateStep] = SimpleQueue()
    for _ in range(COUNT):
        queue.put(each)
    for _ in range(COUNT):
        queue.get()


def outside() -> None:
    """Record steps outside every run."""
    for _ in range(COUNT):
        with step("function", "work"):
            pass


def sdk_outside() -> None:
    """Make spans without a provider."""
    tracer = importlib.import_module("opentelemetry.trace").NoOpTracer()
    for _ in range(COUNT):
        with tracer.start_as_current_span("work"):
            pass


@asynccontextmanager
async def raw_run(exporters: int) -> AsyncIterator[Round]:
    """Yield what hands steps to that many exporters that are called directly."""
    manager, state, each = ExporterManager(), ContextState(), await one_step()
    for index in range(exporters):
        manager.add_exporter(f"raw_{index}", Raw())

    async def handed_over() -> None:
        for _ in range(COUNT):
            state.stream.publish(each)

    async with manager.start(state):
        yield handed_over


@asynccontextmanager
async def delivered_run(exporters: int) -> AsyncIterator[Round]:
    """Yield what hands steps to that many exporters with a delivery, and waits until their sinks have them."""
    manager, state, each = ExporterManager(), ContextState(), await one_step()
    shared = {
        f"exporter_{index}": StepExporter(discard, limits=DeliveryLimits()) for index in range(exporters)
    }
    for name, exporter in shared.items():
        manager.add_exporter(name, exporter)

    async def drained() -> None:
        for _ in range(COUNT):
            state.stream.publish(each)
        await manager.flush()

    async with ObservabilityRuntime(shared), manager.start(state):
        yield drained


async def in_rounds(*contenders: Round, times: int = ROUNDS) -> list[list[float]]:
    """Return the CPU time of one step, all threads included, in µs, of each round of each contender."""
    took: list[list[float]] = [[] for _ in contenders]
    for _ in range(times):
        for index, contender in enumerate(contenders):
            began = time.process_time()
            await contender()
            took[index].append((time.process_time() - began) / COUNT * 1e6)
    return took


async def in_turns(*contenders: Round, times: int = ROUNDS) -> list[float]:
    """Return the medians of `in_rounds`."""
    return [median(each) for each in await in_rounds(*contenders, times=times)]


def awaited(call: Callable[[], object]) -> Round:
    """Return a plain function as one to be awaited."""

    async def calling() -> None:
        call()

    return calling


async def spans(*, payload: bool) -> Row:
    """Measure pairs of START and END to finished spans, until all are drained."""
    name = f"START and END to a drained span{', input and output' if payload else ''}"
    unit, ratio = "µs a span", 0.2
    async with discarding(OURS, payload=payload) as ours:
        if not installed(SDK):
            return missing(name, unit, (await in_turns(partial(ours, COUNT)))[0], SDK, f"at most {ratio:g}x")
        async with discarding(SDK, payload=payload) as sdk:
            mine, theirs = await in_rounds(partial(ours, COUNT), partial(sdk, COUNT))
    return of_rounds(name, unit, mine, SDK, theirs, ratio).under("joined-text" if payload else "joined")


async def detailed() -> Row:
    """Measure a step with ten attributes and two events: the CPU time of the thread that records it."""
    name, unit, ratio = "a step with 10 attributes and 2 events, its caller", "µs a span", 0.6
    async with detailing(OURS) as ours:
        if not installed(SDK):
            return missing(name, unit, median((await callers(ours))[0]), SDK, f"at most {ratio:g}x")
        async with detailing(SDK) as sdk:
            mine, theirs = await callers(ours, sdk)
    return of_rounds(name, unit, mine, SDK, theirs, ratio)


async def callers(*contenders: Callable[[int], Callable[[], Awaitable[object]]]) -> list[list[float]]:
    """Return the CPU time of one step on the thread that records it, in µs, of each round of each contender."""
    took: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for index, record in enumerate(contenders):
            began = time.thread_time()
            drained = record(COUNT)
            took[index].append((time.thread_time() - began) / COUNT * 1e6)
            await drained()
    return took


async def model_calls() -> list[Row]:
    """Measure calls of a model with a whole answer, and an agent of 50 turns: the CPU time of their thread."""
    answer, exporter, manager = real_answer(), SpanExporter(discard), ExporterManager()
    manager.add_exporter("discarding", exporter)
    figures: list[list[float]] = []
    async with ObservabilityRuntime({"discarding": exporter}), manager.start(ContextState()):
        figures.append(await threads_times(*ours(answer), manager.flush))
    if installed(SDK):
        async with batching() as (tracer, flush):
            figures.append(await threads_times(*sdk(tracer, answer), flush))
    return [
        beside(name, unit, figures[0][at], SDK, figures[1][at] if len(figures) > 1 else None)
        for at, (name, unit) in enumerate(
            [
                ("a model call with a whole answer, its caller", "µs a call"),
                ("a model call of an agent of 50 turns with its history, its caller", "µs a call"),
            ]
        )
    ]


async def threads_times(
    calls: Callable[[], None], agent: Callable[[], None], flush: Callable[[], Awaitable[object]]
) -> list[float]:
    """Return the medians of the CPU time of one call, in µs, on the thread that records it."""
    took: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS):
        for record, count, times in ((calls, CALLS, took[0]), (agent, TURNS, took[1])):
            began = time.thread_time()
            record()
            times.append((time.thread_time() - began) / count * 1e6)
            await flush()
    return [median(times) for times in took]


async def unheard() -> list[Row]:
    """Measure steps of a run that no exporter takes, beside steps outside every run, with inputs of any size."""
    rows: list[Row] = []
    for name, key, given in (
        ("no input", "unheard-0", None),
        ("a history of 50 KB", "unheard-50", [{"role": "user", "content": "x" * 1000}] * 50),
        ("a history of 1 MB", "unheard-1000", [{"role": "user", "content": "x" * 1000}] * 1000),
    ):
        say = awaited(partial(saying, given))
        figures: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            async with ExporterManager().start(ContextState()):
                figures[0] += await in_turns(say, times=1)
            figures[1] += await in_turns(say, times=1)
        what = f"a step without a listener, {name}"
        rows.append(
            of_rounds(what, "µs", figures[0], "outside every run", figures[1], 1.0, more=0.5).under(key)
        )
    return rows


def saying(given: object) -> None:
    """Record steps with an input and an output."""
    for _ in range(COUNT):
        with step("llm", "work", input=given) as recorded:
            recorded.output = given


async def measure_all() -> list[Row]:
    """Measure everything."""
    rows = [
        await spans(payload=False),
        await spans(payload=True),
        await detailed(),
        *await model_calls(),
        *await unheard(),
    ]
    each = await one_step()
    queue = awaited(partial(bare_queue, each))
    for count in (1, 3):
        async with raw_run(count) as raw, delivered_run(count) as delivered:
            direct, drained, bare = await in_turns(raw, delivered, queue)
        rows += [
            beside(f"one step to {count} exporters, called", "µs", direct, "a queue's put and get", bare),
            beside(f"one step to {count} deliveries, drained", "µs", drained, "a queue's put and get", bare),
        ]
    contenders: list[Any] = [outside, *([sdk_outside] if installed(SDK) else [])]
    figures = await in_turns(*map(awaited, contenders))
    theirs = figures[1] if len(figures) > 1 else None
    rows.append(beside("a step outside every run", "µs", figures[0], "SDK, no provider", theirs))
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure_all())


if __name__ == "__main__":
    sys.exit(report("Recording steps: CPU time, medians", measure))
