"""Beside the reference toolkit, NVIDIA NeMo Agent Toolkit, which is installed in an environment of its own."""

from __future__ import annotations

import asyncio
import gc
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import NAT, installed
from benchmarks.report import Row, at_most, beside, report
from benchmarks.timing import medians_of, rounds
from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    IntermediateStep,
    SpanExporter,
    StepExporter,
    step,
)
from nat_observability.sinks.file import FileSink
from nat_observability.sinks.protocol import Batch

ROUNDS = rounds(5)
EVENTS = 1000

_HERE = Path(__file__).parents[1]
_IMPORT = "import time; began = time.process_time(); import {}; print((time.process_time() - began) * 1000)"


class NoOp(BaseExporter):
    """Exports nothing."""

    def export(self, event: IntermediateStep) -> None:
        """Do nothing."""


async def discard(batch: Batch) -> None:
    """Take a batch, and do nothing."""


class Toolkit:
    """What is needed of the toolkit, imported when it is there."""

    def __init__(self) -> None:
        load = importlib.import_module
        self.manager: Any = load("nat.observability.exporter_manager").ExporterManager
        self.state: Any = load("nat.builder.context").ContextState
        self.steps: Any = load("nat.data_models.intermediate_step")
        self.pusher: Any = load("nat.builder.intermediate_step_manager").IntermediateStepManager
        base: Any = load("nat.observability.exporter.base_exporter").BaseExporter
        raw: Any = load("nat.observability.exporter.raw_exporter").RawExporter
        span: Any = load("nat.observability.exporter.span_exporter").SpanExporter
        self.file: Any = load("nat.observability.exporter.file_exporter").FileExporter
        of_step, of_span = self.steps.IntermediateStep, load("nat.data_models.span").Span

        class NoOpExporter(base):  # type: ignore[misc]
            def export(self, event: object) -> None:
                """Do nothing."""

        class RawNoOp(raw[of_step, of_step]):  # type: ignore[misc]
            async def export_processed(self, item: object) -> None:
                """Do nothing."""

        class SpanNoOp(span[of_span, of_span]):  # type: ignore[misc]
            async def export_processed(self, item: object) -> None:
                """Do nothing."""

        self.no_op, self.raw_no_op, self.span_no_op = NoOpExporter, RawNoOp, SpanNoOp

    def manager_of(self, *exporters: Any) -> Any:
        """Return one of its managers with these exporters."""
        return self.manager.from_exporters({f"exporter_{n}": each for n, each in enumerate(exporters)})

    def payloads(self) -> list[Any]:
        """Return a START and an END of each of that many functions."""
        kind, payload = self.steps.IntermediateStepType, self.steps.IntermediateStepPayload
        return [
            payload(event_type=event_type, name="work", UUID=f"{number}")
            for number in range(EVENTS)
            for event_type in (kind.FUNCTION_START, kind.FUNCTION_END)
        ]


async def _shared_run(manager: Any) -> None:
    async with manager.start():
        pass


async def _isolated_run(manager: Any, state: Any) -> None:
    async with manager.get().start(context_state=state()):
        pass


async def _drained(exporters: Any) -> None:
    """Wait until the toolkit's exporters have no task left."""
    for exporter in exporters:
        while tasks := list(exporter._tasks):
            await asyncio.wait(tasks)


def _ours(*exporters: Any) -> ExporterManager:
    return ExporterManager.from_exporters({f"exporter_{n}": each for n, each in enumerate(exporters)})


async def _in_turns(*contenders: Callable[[], Awaitable[float]]) -> list[float]:
    took: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for index, contender in enumerate(contenders):
            gc.collect()
            took[index].append(await contender())
    return [median(each) for each in took]


async def lifecycles(toolkit: Toolkit) -> list[Row]:
    """A run's start and stop: as it is alone, and isolated, as the toolkit's Runner has it."""
    rows: list[Row] = []
    for count, ratio in ((1, 4), (5, 5), (20, 5)):
        mine = _ours(*(NoOp() for _ in range(count)))
        other = toolkit.manager_of(*(toolkit.no_op() for _ in range(count)))
        contenders = {
            "": (partial(_shared_run, mine), partial(_shared_run, other)),
            ", isolated": (
                partial(_isolated_run, mine, ContextState),
                partial(_isolated_run, other, toolkit.state),
            ),
        }
        for how, (ours, theirs) in contenders.items():
            taken = [each * 1e6 for each in await medians_of(ROUNDS, 100, ours, theirs)]
            name = f"start and stop, {count} exporters{how}"
            rows.append(at_most(name, "µs", taken[0], NAT, taken[1], 1 / ratio))
    return rows


async def handing_over(toolkit: Toolkit) -> list[Row]:
    """One finished step to exporters that look at it, until each has."""
    rows: list[Row] = []
    for count in (1, 3):

        async def ours(count: int = count) -> float:
            state, event = ContextState(), await _one_step()
            async with _ours(*(NoOp() for _ in range(count))).start(state):
                began = time.process_time()
                for _ in range(EVENTS):
                    state.stream.publish(event)
                return time.process_time() - began

        async def theirs(count: int = count) -> float:
            state = toolkit.state()
            event = toolkit.steps.IntermediateStep(
                parent_id="root",
                function_ancestry=importlib.import_module("nat.data_models.invocation_node").InvocationNode(
                    function_id="f", function_name="f"
                ),
                payload=toolkit.payloads()[0],
            )
            manager = toolkit.manager_of(*(toolkit.raw_no_op() for _ in range(count)))
            async with manager.start(context_state=state):
                stream = state.event_stream.get()
                began = time.process_time()
                for _ in range(EVENTS):
                    stream.on_next(event)
                await _drained(manager._active_isolated_exporters.values())
                return time.process_time() - began

        mine, other = await _in_turns(ours, theirs)
        rows.append(
            at_most(
                f"one step to {count} raw exporters",
                "µs",
                mine / EVENTS * 1e6,
                NAT,
                other / EVENTS * 1e6,
                1 / 5,
            )
        )
    return rows


async def _one_step() -> IntermediateStep:
    taken: list[IntermediateStep] = []
    state = ContextState()
    state.stream.subscribe("one", taken.append)
    with state.attach(), step("function", "work"):
        pass
    state.stream.unsubscribe("one")
    return taken[0]


async def spans(toolkit: Toolkit) -> list[Row]:
    """A START and an END recorded, to a finished span in the exporter, drained."""

    async def ours() -> float:
        manager = _ours(SpanExporter(discard))
        async with manager.start(ContextState()):
            began = time.process_time()
            for _ in range(EVENTS):
                with step("function", "work"):
                    pass
            await manager.flush()
            return time.process_time() - began

    async def theirs() -> float:
        state, payloads = toolkit.state(), toolkit.payloads()
        manager = toolkit.manager_of(toolkit.span_no_op())
        async with manager.start(context_state=state):
            pusher = toolkit.pusher(state)
            began = time.process_time()
            for payload in payloads:
                pusher.push_intermediate_step(payload)
            await _drained(manager._active_isolated_exporters.values())
            return time.process_time() - began

    mine, other = await _in_turns(ours, theirs)
    name = "START and END to a drained span"
    return [at_most(name, "µs a span", mine / EVENTS * 1e6, NAT, other / EVENTS * 1e6, 1 / 10)]


async def files(toolkit: Toolkit) -> list[Row]:
    """Steps to a file, until all lines are in it."""
    with tempfile.TemporaryDirectory() as directory:

        async def ours() -> float:
            path = Path(directory, "ours")
            manager = _ours(StepExporter(FileSink(path)))
            async with manager.start(ContextState()):
                began = time.perf_counter()
                for _ in range(EVENTS):
                    with step("function", "work"):
                        pass
                await manager.flush()
                took = time.perf_counter() - began
            return _counted(path, took)

        async def theirs() -> float:
            path = Path(directory, "theirs")
            state, payloads = toolkit.state(), toolkit.payloads()
            manager = toolkit.manager_of(toolkit.file(output_path=str(path), project="p"))
            async with manager.start(context_state=state):
                pusher = toolkit.pusher(state)
                began = time.perf_counter()
                for payload in payloads:
                    pusher.push_intermediate_step(payload)
                await _drained(manager._active_isolated_exporters.values())
                took = time.perf_counter() - began
            return _counted(path, took)

        mine, other = await _in_turns(ours, theirs)
    lines = 2 * EVENTS
    return [beside("steps to a file", "events/s", lines / mine, NAT, lines / other)]


def _counted(path: Path, took: float) -> float:
    """Return the seconds, once it is sure that every line is there; the file goes."""
    lines = path.read_bytes().count(b"\n")
    assert lines == 2 * EVENTS, f"{path.name}: {lines} lines"
    path.unlink()
    return took


def importing() -> list[Row]:
    """Import both, each in fresh interpreters."""
    took: dict[str, list[float]] = {"nat_observability": [], "nat.observability.exporter_manager": []}
    for _ in range(ROUNDS):
        for module, each in took.items():
            done = subprocess.run(
                [sys.executable, "-c", _IMPORT.format(module)], cwd=_HERE, check=True, stdout=subprocess.PIPE
            )
            each.append(float(done.stdout))
    ours, theirs = (median(each) for each in took.values())
    return [beside("import, CPU", "ms", ours, NAT, theirs)]


async def _measure(toolkit: Toolkit) -> list[Row]:
    return [
        *await lifecycles(toolkit),
        *await handing_over(toolkit),
        *await spans(toolkit),
        *await files(toolkit),
    ]


def measure() -> list[Row]:
    """Measure everything; nothing if the toolkit is missing."""
    if not installed(NAT):
        print(f"{NAT} is not installed here. Cure: make bench\n")
        return []
    return asyncio.run(_measure(Toolkit())) + importing()


if __name__ == "__main__":
    sys.exit(report(f"Beside the reference toolkit, {NAT}", measure))
