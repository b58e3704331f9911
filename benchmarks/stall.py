"""
The largest gap that a 1 ms ticker on the application's loop sees while a back end hangs, refuses, or takes a lot.

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
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.sinks.otlp.http import OtlpHttpSink

TRIES = 3
SECONDS = 3.0
LIMIT_MS = 5.0
INTERVAL = 0.001
SMALL = 2  # spans a tick of about 400 characters
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


def measured(endpoint: str, *, large: bool) -> Gap:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.stall", "--child", endpoint, *(["--large"] if large else [])]
    # What it logs of the back end that is not there is left out.
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return Gap(*map(float, done.stdout.split()))


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
    if holds is None:
        bar += ": machine too busy"
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
    return [row for name, gaps in tries.items() for row in judged(name, gaps)]


if __name__ == "__main__":
    if "--child" in sys.argv:
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
