"""The file exporter beside a bare loop that serialises the same steps and writes them through a buffer."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.report import Row, at_least, beside, report
from benchmarks.timing import rounds
from benchmarks.workload import STEPS, WORKS, works_of_run
from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    IntermediateStep,
    ObservabilityRuntime,
    StepExporter,
    step,
)
from nat_observability.sinks.file import FileSink
from nat_observability.testing import recorded_run

ROUNDS = rounds(5)
RUNS = 1000
EVENTS = RUNS * STEPS * 2


def record(run: int) -> None:
    """Record what the run of this number does, with real steps."""
    first, *others = works_of_run(run)
    with step("function", first.name, input=first.input, metadata=first.metadata) as outer:
        for work in others:
            with step("function", work.name, input=work.input, metadata=work.metadata) as inner:
                inner.output = work.output
        outer.output = first.output


async def recorded_steps() -> list[IntermediateStep]:
    """Return as many steps as are recorded in a round."""
    steps: list[IntermediateStep] = []
    for run in range(RUNS):
        async with recorded_run() as captured:
            record(run)
        steps += captured.steps
    return steps


def json_loop(path: Path, dicts: list[Any]) -> float:
    """Serialise plain dicts with the standard library; return the seconds."""
    began = time.perf_counter()
    with path.open("w", encoding="utf-8") as file:
        for each in dicts:
            file.write(json.dumps(each))
            file.write("\n")
    return time.perf_counter() - began


def plain(metadata: Any) -> Any:
    """Return what ready-made JSON says."""
    return json.loads(bytes(metadata))


def lines_in(path: Path) -> int:
    """Return the number of lines."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


async def json_subscriber(path: Path) -> float:
    """Record runs; a bare subscriber turns each step into a dict, serialises and writes it. Return the seconds."""
    with path.open("w", encoding="utf-8") as file:

        def write(each: IntermediateStep) -> None:
            file.write(json.dumps(msgspec.to_builtins(each, enc_hook=plain)))
            file.write("\n")

        began = time.perf_counter()
        for run in range(RUNS):
            state = ContextState()
            state.stream.subscribe("bare", write)
            with state.attach():
                record(run)
    took = time.perf_counter() - began
    assert lines_in(path) == EVENTS
    return took


def msgspec_loop(path: Path, steps: list[IntermediateStep]) -> float:
    """Serialise steps with msgspec; return the seconds."""
    encode = msgspec.json.Encoder().encode
    began = time.perf_counter()
    with path.open("wb") as file:
        for each in steps:
            file.write(encode(each))
            file.write(b"\n")
    return time.perf_counter() - began


async def exported(path: Path, feed: Callable[[ExporterManager], Any]) -> float:
    """Return the seconds from the first step until everything is in the file."""
    limits = DeliveryLimits(queue_items=EVENTS, queue_bytes=1024 * 1024 * 1024)
    exporter = StepExporter(FileSink(path, max_bytes=1024 * 1024 * 1024), limits=limits)
    manager = ExporterManager()
    manager.add_exporter("file", exporter)
    async with ObservabilityRuntime({"file": exporter}):
        began = time.perf_counter()
        await feed(manager)
        took = time.perf_counter() - began
    ledger = exporter.delivery.health().ledger
    assert ledger.delivered == EVENTS, ledger
    assert lines_in(path) == EVENTS
    return took


async def feed_by_step(manager: ExporterManager) -> None:
    """Record runs; the end of the last one waits until everything is written."""
    for run in range(RUNS):
        each = manager.get()
        async with each.start(ContextState()):
            record(run)
            if run == RUNS - 1:
                await each.flush()


async def measure_all() -> list[Row]:
    """Measure in turns."""
    steps = await recorded_steps()
    assert len(steps) == EVENTS == 2 * STEPS * RUNS >= len(WORKS)
    dicts = msgspec.json.decode(msgspec.json.encode(steps))

    async def feed_by_publish(manager: ExporterManager) -> None:
        state = ContextState()
        async with manager.start(state):
            publish = state.stream.publish
            for each in steps:
                publish(each)
            await manager.flush()

    rates: dict[str, list[float]] = {
        name: [] for name in ("publish", "step", "json", "subscriber", "msgspec")
    }
    with tempfile.TemporaryDirectory() as directory:
        names = count()
        for _ in range(ROUNDS):
            path = Path(directory) / str(next(names))
            for name, seconds in (
                ("json", json_loop(path.with_suffix(".json"), dicts)),
                ("publish", await exported(path.with_suffix(".publish"), feed_by_publish)),
                ("subscriber", await json_subscriber(path.with_suffix(".subscriber"))),
                ("msgspec", msgspec_loop(path.with_suffix(".msgspec"), steps)),
                ("step", await exported(path.with_suffix(".step"), feed_by_step)),
            ):
                rates[name].append(EVENTS / seconds)
            for written in Path(directory).iterdir():  # noqa: ASYNC240  nothing else is to run meanwhile
                written.unlink()
    rate = {name: median(each) for name, each in rates.items()}
    unit = "events/s"
    finished, recording = "file exporter, finished steps", "file exporter, recording them"
    return [
        at_least(finished, unit, rate["publish"], "json.dumps, write", rate["json"], 0.8),
        at_least(recording, unit, rate["step"], "the same as a subscriber", rate["subscriber"], 0.8),
        beside(recording, unit, rate["step"], "json.dumps, write", rate["json"]),
        beside(finished, unit, rate["publish"], "msgspec, write", rate["msgspec"]),
    ]


def measure() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure_all())


if __name__ == "__main__":
    sys.exit(
        report(
            "Steps to a file, until all are in it; the bare loops are given finished dicts and steps", measure
        )
    )
