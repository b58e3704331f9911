"""
The largest gap that a 1 ms ticker on the application's loop sees while a back end hangs, refuses, or takes a lot, and
how much later four exporters deliver beside one whose sink computes without a pause.

Two figures for each case. `ours` is what this process can be blamed for: no gap is longer than the millisecond that
was asked for and the processor time that all threads of the process used meanwhile, which is how long they can have
held the interpreter. It is the same on a busy machine. What goes beyond is another process's or the hypervisor's, or
a call that blocks the loop and uses no processor: `by the clock` counts that too, and is judged if the same
ticker without an exporter, measured in turns with it, found the machine quiet enough. Both run ahead of the
machine's other processes if that is allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.receiver import running_receiver
from benchmarks.report import Row, report
from benchmarks.workload import WORKS
from nat_observability import (
    BaseExporter,
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.events import Item
from nat_observability.sinks.otlp.http import OtlpHttpSink

TRIES = 3
SECONDS = 3.0
LIMIT_MS = 5.0
INTERVAL = 0.001
SMALL = 2  # spans a tick of about 400 characters
BESIDE = 4  # exporters beside one that computes
BESIDE_RUNS = 20
BESIDE_LIMIT_MS = 100.0
BATCH_AGE = 0.05  # seconds
LARGE_EVERY = 10  # ticks between two spans of 100 KB

_ROOT = Path(__file__).parents[1]
_LARGE = [" ".join(work.input for work in WORKS[start : start + 1000])[: 100 * 1024] for start in range(20)]


@dataclass
class Gap:
    """The largest between two wakes of a ticker, in milliseconds: by the clock, and as far as it is our doing."""

    clock: float = 0.0
    ours: float = 0.0


class Ticker:
    """Wakes every millisecond, and notes the largest gaps between two wakes."""

    def __init__(self) -> None:
        self.ticks = 0
        self.largest = Gap()

    async def tick(self, seconds: float) -> None:
        """Tick for so long, and record spans at each tick if a run is current."""
        largest = self.largest
        end = (before := time.perf_counter()) + seconds
        used_before = time.process_time()
        while before < end:
            await asyncio.sleep(INTERVAL)
            now, used = time.perf_counter(), time.process_time()
            gap = now - before
            largest.clock = max(largest.clock, gap * 1000)
            largest.ours = max(largest.ours, min(gap, INTERVAL + used - used_before) * 1000)
            self.ticks += 1
            self.work()
            before, used_before = now, used

    def work(self) -> None:
        """Record a few small spans."""
        for offset in range(SMALL):
            work = WORKS[(SMALL * self.ticks + offset) % len(WORKS)]
            with step("function", work.name, input=work.input, metadata=work.metadata) as recorded:
                recorded.output = work.output


class LargeTicker(Ticker):
    """Records spans of 100 KB."""

    def work(self) -> None:
        if self.ticks % LARGE_EVERY == 0:
            with step("llm", "model", input=_LARGE[self.ticks // LARGE_EVERY % len(_LARGE)]):
                pass


async def largest_gap(endpoint: str, ticker: Ticker) -> Gap:
    """Return the largest gap while spans go to `endpoint`; without one, no exporter is used."""
    if not endpoint:
        with ContextState().attach():
            await ticker.tick(SECONDS)
        return ticker.largest
    limits = DeliveryLimits(batch_age=0.2, queue_items=100_000, drain_timeout=1.0)
    exporter = SpanExporter(OtlpHttpSink(endpoint, timeout=5.0), limits=limits)
    manager = ExporterManager()
    manager.add_exporter("otlp", exporter)
    async with ObservabilityRuntime({"otlp": exporter}, shutdown_timeout=1.0):
        async with manager.start(ContextState()):
            await ticker.tick(SECONDS)
        return ticker.largest


class Takes:
    """Notes when each item came."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: list[Item]) -> None:
        now = time.perf_counter()
        self.at.update((item.name, now) for item in batch)

    async def close(self) -> None:
        """Nothing to close."""


class Computes(Takes):
    """Computes from its first item on, until it is told to end."""

    def __init__(self, *, does: bool) -> None:
        super().__init__()
        self.ends = not does

    async def write(self, batch: list[Item]) -> None:
        await super().write(batch)
        number = 0
        while not self.ends:
            number += 1


async def latest_beside(*, computes: bool) -> float:
    """Return how many milliseconds after its age a batch comes to the last of the exporters beside one."""
    limits = DeliveryLimits(batch_age=BATCH_AGE)
    guilty, others = Computes(does=computes), [Takes() for _ in range(BESIDE)]
    exporters: dict[str, BaseExporter] = {
        f"{number}": SpanExporter(sink, name=f"{number}", limits=limits)
        for number, sink in enumerate([guilty, *others])
    }
    manager = ExporterManager.from_exporters(exporters)
    late: list[float] = []
    async with ObservabilityRuntime(exporters, shutdown_timeout=2.0):
        for run in range(BESIDE_RUNS):
            async with manager.get().start(ContextState()):
                with step("tool", f"{run}"):
                    pass
            recorded = time.perf_counter()
            while not all(f"{run}" in sink.at for sink in (others if run else [guilty, *others])):  # noqa: ASYNC110  a sink is asked, and has no event
                await asyncio.sleep(2 * BATCH_AGE)
            if run:
                late.append(max(sink.at[f"{run}"] for sink in others) - recorded - BATCH_AGE)
        guilty.ends = True
    return max(late) * 1000


def in_a_process(*arguments: str) -> list[float]:
    """Measure in a process of its own."""
    # What it logs of the back end that is not there is left out.
    command = [sys.executable, "-m", "benchmarks.stall", *arguments]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return [float(word) for word in done.stdout.split()]


def measured(endpoint: str, *, large: bool) -> Gap:
    """Measure the gaps of a case."""
    return Gap(*in_a_process("--child", endpoint, *(["--large"] if large else [])))


def beside() -> list[Row]:
    """Measure what a sink that computes costs the exporters beside it, in turns with one that does not."""
    tries = [(in_a_process("--beside", "yes"), in_a_process("--beside", "no")) for _ in range(TRIES)]
    with_it, without = (median(late for [late] in each) for each in zip(*tries, strict=True))
    holds = True if with_it <= BESIDE_LIMIT_MS else None if without > BESIDE_LIMIT_MS / 10 else False
    bar = f"at most {BESIDE_LIMIT_MS:g} ms"
    return [
        Row(
            f"latest of {BESIDE} beside a sink that computes",
            "ms",
            with_it,
            "one that does not",
            without,
            bar,
            holds,
        )
    ]


def go_first() -> None:
    """Run ahead of all other processes, if this one may."""
    with suppress(AttributeError, PermissionError):  # elsewhere than on Linux, and without the privilege
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def judged(name: str, tries: list[tuple[Gap, Gap]]) -> list[Row]:
    """Return the rows of a case, from what was measured with and without an exporter."""
    ours, none = (median(gap.ours for gap in gaps) for gaps in zip(*tries, strict=True))
    clock, clock_none = (median(gap.clock for gap in gaps) for gaps in zip(*tries, strict=True))
    bar = f"at most {LIMIT_MS:g} ms"
    rows = [Row(f"largest gap while {name}, ours", "ms", ours, "no exporter", none, bar, ours <= LIMIT_MS)]
    holds = True if clock <= LIMIT_MS else None if clock_none > LIMIT_MS / 2 else False
    # A machine on which an idle loop waits as long cannot tell, unless it is far longer: then something blocks.
    if holds is None and clock > clock_none + 10 * LIMIT_MS:
        holds = False
    return [
        *rows,
        Row(f"largest gap while {name}, by the clock", "ms", clock, "no exporter", clock_none, bar, holds),
    ]


def measure() -> list[Row]:
    """Measure everything, in turns."""
    with ExitStack() as stack:
        hangs = stack.enter_context(running_receiver(delay=2.0)).endpoint
        takes = stack.enter_context(running_receiver()).endpoint
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # bound, so that no other process gets the port, and not listening
        refuses = f"http://127.0.0.1:{closed.getsockname()[1]}"
        cases = {
            "a back end hangs for 2 s": (hangs, False),
            "connections are refused": (refuses, False),
            "spans of 100 KB go out": (takes, True),
            "small spans go out": (takes, False),
        }
        tries: dict[str, list[tuple[Gap, Gap]]] = {name: [] for name in cases}
        for _ in range(TRIES):
            for name, (endpoint, large) in cases.items():
                tries[name].append((measured(endpoint, large=large), measured("", large=large)))
    return [row for name, gaps in tries.items() for row in judged(name, gaps)] + beside()


if __name__ == "__main__":
    if "--beside" in sys.argv:
        go_first()
        print(asyncio.run(latest_beside(computes=sys.argv[-1] == "yes")))
    elif "--child" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--child")
        parser.add_argument("--large", action="store_true")
        given = parser.parse_args()
        go_first()
        gap = asyncio.run(largest_gap(given.child, LargeTicker() if given.large else Ticker()))
        print(gap.clock, gap.ours)
    else:
        sys.exit(
            report(f"Largest gap that a 1 ms ticker sees in {SECONDS:g} s: median of {TRIES} tries", measure)
        )
