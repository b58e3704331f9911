"""What a whole run costs in CPU time of all threads, by default, beside spans of the OpenTelemetry SDK."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from benchmarks.report import Row, missing, of_rounds, report
from nat_observability import ContextState, step
from nat_observability.builders import delivering
from nat_observability.containers import ObservabilityContainer
from nat_observability.events import Item

ROUNDS = 7
RUNS = 3000  # of each measurement
QUEUE = 16384
OURS, TEXTS, SDK = "ours", "ours with texts", "opentelemetry-sdk"
TEXT = "the agent answered a question about the weather in Paris and looked up some documents. " * 20
SPEEDS = {1: 0.8, 5: 0.7, 20: 0.6}
_ROOT = Path(__file__).parents[1]


class Discarding:
    """A sink that takes each batch and does nothing with it."""

    async def open(self) -> None:
        """Do nothing."""

    async def write(self, batch: Sequence[Item]) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Process:
    """A contender in a process of its own, which measures on request; a context manager."""

    def __init__(self, contender: str, exporters: int) -> None:
        command = [sys.executable, "-m", "benchmarks.runs", "--contender", contender, str(exporters)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def measure(self, runs: int, at_once: int = 1, *, in_tasks: bool = False) -> float:
        """
        Return the CPU seconds of one of that many runs.

        Args:
            runs: How many there are.
            at_once: How many are open at the same time.
            in_tasks: Whether each is in a task of its own, as those are that are open at the same time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d %d %d\n" % (runs, at_once, in_tasks))
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The end of its input is the end of its work.
        self._process.communicate()


# In the contenders' processes:


async def _measured(
    run: Callable[[], Awaitable[None]],
    flushed: Callable[[], Awaitable[object]],
    runs: int,
    at_once: int,
    in_tasks: int = 0,
) -> float:
    began = time.process_time()
    if at_once == 1 and not in_tasks:
        for _ in range(runs):
            await run()
    else:
        for _ in range(max(1, runs // at_once)):
            await asyncio.gather(*(run() for _ in range(at_once)))
    await flushed()
    return (time.process_time() - began) / (max(1, runs // at_once) * at_once)


async def _serve(run: Callable[[], Awaitable[None]], flushed: Callable[[], Awaitable[object]]) -> None:
    await _measured(run, flushed, 500, 1)
    loop = asyncio.get_running_loop()
    while order := await loop.run_in_executor(None, sys.stdin.readline):
        print(await _measured(run, flushed, *map(int, order.split())), flush=True)


async def _ours(exporters: int, text: str | None = None) -> None:
    for index in range(exporters):
        os.environ[f"NAT_OBSERVABILITY_EXPORTERS__E{index}__TYPE"] = "discarding"
        # As the default, but for 10,000 runs that end at the same moment.
        os.environ[f"NAT_OBSERVABILITY_EXPORTERS__E{index}__QUEUE_ITEMS"] = str(QUEUE)
    container = ObservabilityContainer()
    container.exporter_types.override(
        {"discarding": lambda name, options, settings: delivering(name, options, settings, Discarding())}
    )
    await _done(container.init_resources())
    runtime = container.unopened_runtime()

    async def run() -> None:
        async with container.exporter_manager().start(ContextState()):
            with step("workflow", "root", input=text) as root:
                await asyncio.sleep(0)
                root.output = text

    async def flushed() -> None:
        while runtime.health().ledger.pending:  # noqa: ASYNC110  a ledger is asked, and has no event
            await asyncio.sleep(0.02)

    await _serve(run, flushed)
    ledger = runtime.health().ledger
    lost = ledger.accepted - ledger.delivered
    await _done(container.shutdown_resources())
    if lost:
        raise SystemExit(f"{lost} spans were not delivered.")


async def _done(resources: Awaitable[object] | None) -> None:
    if resources is not None:
        await resources


async def _theirs(exporters: int) -> None:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(shutdown_on_exit=False)
    for _ in range(exporters):
        provider.add_span_processor(
            BatchSpanProcessor(
                Discard(), max_queue_size=QUEUE, schedule_delay_millis=1000, max_export_batch_size=512
            )
        )
    tracer = provider.get_tracer("benchmark")

    async def run() -> None:
        with tracer.start_as_current_span("root"):
            await asyncio.sleep(0)

    async def flushed() -> None:
        provider.force_flush()

    await _serve(run, flushed)
    provider.shutdown()


# In the process that compares them:


def _in_turns(rounds: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Return what each contender took in each round, all of them in turns, so that all meet the same machine."""
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for figures, contender in zip(taken, contenders, strict=True):
            figures.append(contender())
    return taken


def _microseconds(figures: Sequence[float]) -> list[float]:
    return [1e6 * each for each in figures]


def beside_spans() -> list[Row]:
    """Measure a run with one root step beside one span with as many processors."""
    rows: list[Row] = []
    with_sdk = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None
    for exporters, speed in SPEEDS.items():
        name = f"run with one root step, {exporters} span exporters, CPU"
        bar = 1 / speed
        with Process(OURS, exporters) as ours:
            if not with_sdk:
                rows.append(
                    missing(name, "µs", 1e6 * ours.measure(RUNS), f"{SDK}, one span", f"at most {bar:.3g}x")
                )
                continue
            with Process(SDK, exporters) as theirs:
                taken = _in_turns(ROUNDS, lambda: ours.measure(RUNS), lambda: theirs.measure(RUNS))
        mine, peer = map(_microseconds, taken)
        rows.append(of_rounds(name, "µs", mine, f"{SDK}, one span, {exporters} processors", peer, bar))
    return rows


def at_once() -> list[Row]:
    """Measure many runs that are open at the same time beside runs one at a time."""
    rows: list[Row] = []
    with Process(OURS, 5) as ours:
        for open_runs in (10, 100, 1000, 10_000):
            runs = max(RUNS, open_runs)
            many, single = _in_turns(
                ROUNDS, partial(ours.measure, runs, open_runs), partial(ours.measure, RUNS, 1, in_tasks=True)
            )
            name = f"{open_runs:,} runs at once, 5 span exporters, CPU of each"
            rows.append(
                of_rounds(name, "µs", _microseconds(many), "one at a time", _microseconds(single), 1.3)
            )
    return rows


def redaction() -> list[Row]:
    """Measure runs whose step has texts to be redacted, with exporters of equal rules."""
    with Process(TEXTS, 1) as one, Process(TEXTS, 3) as three:
        of_one, of_three = _in_turns(ROUNDS, lambda: one.measure(RUNS), lambda: three.measure(RUNS))
    return [
        of_rounds(
            f"redaction of 2 x {len(TEXT):,} characters, 3 exporters of equal rules, CPU",
            "µs",
            _microseconds(of_three),
            "1 exporter",
            _microseconds(of_one),
            1.3,
        )
    ]


def measure() -> list[Row]:
    """Measure everything."""
    return [*beside_spans(), *at_once(), *redaction()]


def main() -> int:
    """Measure, or be a contender."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--contender", nargs=2)
    contender = parser.parse_known_args()[0].contender
    if contender is None:
        return report("Whole runs", measure)
    who, exporters = contender[0], int(contender[1])
    if who == SDK:
        asyncio.run(_theirs(exporters))
    else:
        asyncio.run(_ours(exporters, TEXT if who == TEXTS else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
