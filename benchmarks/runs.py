"""What a whole run costs in CPU time of all threads, by default, beside spans of the OpenTelemetry SDK."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.default_contenders import OURS, UNREDACTED, Contender, installed
from benchmarks.default_peers import SDK
from benchmarks.report import Row, missing, of_rounds, report
from benchmarks.timing import in_turns, microseconds, rounds
from nat_observability.events import Item

ROUNDS = rounds(9)
RUNS = 3000  # of each measurement
SPEEDS = {1: 0.8, 5: 0.7, 20: 0.6}
"""Span exporters, and the share of the SDK's speed that is asked for."""
AT_ONCE = (10, 100, 1000, 10_000)
THREADS = (2, 8, 32)
STEPS = 16_000
"""Of all threads together."""
FLAT = 1.2


class Discarding:
    """A sink that takes each batch and does nothing with it."""

    async def open(self) -> None:
        """Do nothing."""

    async def write(self, batch: Sequence[Item]) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def beside_spans() -> list[Row]:
    """Measure a run with one root step beside one span with as many processors."""
    rows: list[Row] = []
    for exporters, speed in SPEEDS.items():
        name = f"run with one root step, {exporters} span exporters, CPU"
        bar, key = 1 / speed, f"root-{exporters}"
        with (
            Contender(OURS, exporters=exporters) as ours,
            Contender(UNREDACTED, exporters=exporters) as plain,
        ):
            if not installed(SDK):
                figure = 1e6 * median(ours.measure("root", RUNS) for _ in range(ROUNDS))
                rows.append(missing(name, "µs", figure, f"{SDK}, one span", f"at most {bar:.3g}x").under(key))
                continue
            with Contender(SDK, exporters=exporters) as theirs:
                taken = in_turns(
                    ROUNDS,
                    *(partial(each.measure, "root", RUNS) for each in (ours, theirs, plain)),
                    warm_up=True,
                )
        mine, peer, unredacted = map(microseconds, taken)
        peer_name = f"{SDK}, one span, {exporters} processors"
        rows.append(of_rounds(name, "µs", mine, peer_name, peer, bar).under(key, unredacted))
    return rows


def at_once() -> list[Row]:
    """Measure many runs that are open at the same time beside runs one at a time."""
    rows: list[Row] = []
    with Contender(OURS, exporters=5) as ours, Contender(UNREDACTED, exporters=5) as plain:
        for open_runs in AT_ONCE:
            runs = max(RUNS, open_runs)
            many, single, unredacted = in_turns(
                ROUNDS,
                partial(ours.measure, f"root:{open_runs}", runs),
                partial(ours.measure, "root:1", RUNS),
                partial(plain.measure, f"root:{open_runs}", runs),
                warm_up=True,
            )
            name = f"{open_runs:,} runs at once, 5 span exporters, CPU of each"
            row = of_rounds(name, "µs", microseconds(many), "one at a time", microseconds(single), 1.3)
            rows.append(row.under(f"at-once-{open_runs}", microseconds(unredacted)))
    return rows


def redaction() -> list[Row]:
    """Measure runs whose step has new texts to be redacted, with exporters of equal rules."""
    with (
        Contender(OURS) as one,
        Contender(OURS, exporters=3) as three,
        Contender(UNREDACTED, exporters=3) as plain,
    ):
        of_one, of_three, unredacted = in_turns(
            ROUNDS, *(partial(each.measure, "texts", RUNS // 3) for each in (one, three, plain)), warm_up=True
        )
    row = of_rounds(
        "run of one step, 1.7 KB in and out, 3 exporters of equal rules, CPU",
        "µs",
        microseconds(of_three),
        "1 exporter",
        microseconds(of_one),
        1.3,
    )
    return [row.under("equal-rules", microseconds(unredacted))]


def threads() -> list[Row]:
    """Measure steps that several threads record beside one thread."""
    rows: list[Row] = []
    with Contender(OURS) as ours, Contender(UNREDACTED) as plain:
        for count in THREADS:
            many, single, unredacted = in_turns(
                ROUNDS,
                partial(ours.measure, f"threads:{count}", STEPS),
                partial(ours.measure, "threads:1", STEPS),
                partial(plain.measure, f"threads:{count}", STEPS),
                warm_up=True,
            )
            name = f"bare step, {count} threads record, CPU"
            row = of_rounds(name, "µs", microseconds(many), "1 thread", microseconds(single), FLAT)
            rows.append(row.under(f"threads-{count}", microseconds(unredacted)))
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    return [*beside_spans(), *at_once(), *redaction(), *threads()]


if __name__ == "__main__":
    sys.exit(report("Whole runs", measure))
