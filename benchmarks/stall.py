"""The largest gap that a 1 ms ticker on the application's loop sees while a back end hangs, refuses, or takes a lot."""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
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
from nat_observability.sinks.otlp_http import OtlpHttpSink

TRIES = 7
SECONDS = 3.0
LIMIT_MS = 5.0
INTERVAL = 0.001
SMALL = 2  # spans a tick of about 400 characters
LARGE_EVERY = 10  # ticks between two spans of 100 KB

_ROOT = Path(__file__).parents[1]
_LARGE = [" ".join(work.input for work in WORKS[start : start + 1000])[: 100 * 1024] for start in range(20)]


class Ticker:
    """Wakes every millisecond, and notes the largest gap between two wakes."""

    def __init__(self) -> None:
        self.ticks = 0
        self.largest = 0.0

    async def tick(self, seconds: float) -> None:
        """Tick for so long, and record spans at each tick where a run is current."""
        end = (before := time.perf_counter()) + seconds
        while before < end:
            await asyncio.sleep(INTERVAL)
            now = time.perf_counter()
            self.largest = max(self.largest, now - before)
            self.ticks += 1
            self.work()
            before = now

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


async def largest_gap(endpoint: str, ticker: Ticker) -> float:
    """Return the largest gap in seconds while spans go to `endpoint`; without one, there is no exporter."""
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


def measured(endpoint: str, *, large: bool) -> float:
    """Measure in a process of its own; return milliseconds."""
    command = [sys.executable, "-m", "benchmarks.stall", "--child", endpoint, *(["--large"] if large else [])]
    # What it logs of the back end that is not there is left out.
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return float(done.stdout)


def judged(name: str, ours: float, none: float) -> Row:
    """Return a row that holds where ours is within the limit; on a machine too busy to tell it does neither."""
    bar = f"at most {LIMIT_MS:g} ms"
    if ours > LIMIT_MS and none > LIMIT_MS / 2:
        return Row(name, "ms", ours, "no exporter", none, f"{bar}: machine too busy", None)
    return Row(name, "ms", ours, "no exporter", none, bar, ours <= LIMIT_MS)


def measure() -> list[Row]:
    """Measure everything, in turns."""
    with ExitStack() as stack:
        hangs = stack.enter_context(running_receiver(delay=2.0)).endpoint
        takes = stack.enter_context(running_receiver()).endpoint
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # bound, so that nobody else gets the port, and not listening
        refuses = f"http://127.0.0.1:{closed.getsockname()[1]}"
        cases = {
            "a back end hangs for 2 s": (hangs, False),
            "connections are refused": (refuses, False),
            "spans of 100 KB go out": (takes, True),
            "small spans go out": (takes, False),
        }
        gaps: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(TRIES):
            for name, (endpoint, large) in cases.items():
                gaps[name].append((measured(endpoint, large=large), measured("", large=large)))
    return [
        judged(
            f"largest gap while {name}", median(ours for ours, _ in pairs), median(none for _, none in pairs)
        )
        for name, pairs in gaps.items()
    ]


if __name__ == "__main__":
    if "--child" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--child")
        parser.add_argument("--large", action="store_true")
        given = parser.parse_args()
        gap = asyncio.run(largest_gap(given.child, LargeTicker() if given.large else Ticker()))
        print(gap * 1000)
    else:
        sys.exit(
            report(f"Largest gap that a 1 ms ticker sees in {SECONDS:g} s: median of {TRIES} tries", measure)
        )
