"""
What recording costs by default, redaction and limits on, in CPU time of all threads, beside peers doing the same.

Each contender is a process of its own; they take turns, and no text comes twice. Where redaction is off, the row says
so. The peers redact nothing, but for Logfire, which scrubs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

from benchmarks.default_contenders import (
    FASTOTEL,
    LANGFUSE,
    LOGFIRE,
    OURS,
    PURE,
    RELAY,
    SDK,
    STEPS,
    TURNS,
    UNREDACTED,
    Contender,
    installed,
)
from benchmarks.receiver import running_receiver
from benchmarks.report import Row, missing, of_rounds, report

ROUNDS = 7


@dataclass(frozen=True)
class Work:
    """
    A kind of work, with what it is to cost beside peers.

    Args:
        name: As the contenders know it.
        title: As the table has it.
        times: Repetitions in each round.
        spans: Of one repetition.
        bars: How many times less than each peer it is to cost with the engine of redaction.
        pure: How many times less than the SDK without it.
    """

    name: str
    title: str
    times: int
    spans: int
    bars: dict[str, float]
    pure: float


DISCARDED = (
    Work("bare", "bare step, drained", 3000, 1, {SDK: 3.0}, 2.5),
    Work("text", "step with 2 KB in, 1 KB out, drained", 1000, 1, {SDK: 2.7}, 1.8),
    Work("history", "step with a history of 50 KB, drained", 100, 1, {SDK: 1.7}, 1.0),
)
"""To an exporter that drops what it gets."""
SENT = (
    Work(
        "run",
        f"run of {STEPS} steps to OTLP, gzip, a span",
        150,
        STEPS,
        {SDK: 4.0, FASTOTEL: 2.2, RELAY: 1.7},
        3.5,
    ),
    Work("agent", f"agent of {TURNS} turns to OTLP, gzip, a span", 4, TURNS + 1, {SDK: 15.0}, 12.0),
)
"""To a receiver that only reads."""


def in_turns(
    names: Sequence[str], works: Sequence[Work], endpoint: str | None = None
) -> dict[str, dict[str, list[float]]]:
    """Return the CPU µs a span of each contender in each round, by work."""
    taken: dict[str, dict[str, list[float]]] = {work.name: {name: [] for name in names} for work in works}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Contender(name, endpoint)) for name in names}
        for work in works:
            for number in range(ROUNDS + 1):
                for name, process in processes.items():
                    seconds = process.measure(work.name, work.times)
                    if number:  # the first warms up
                        taken[work.name][name].append(1e6 * seconds / work.spans)
    return taken


def rows_of(work: Work, taken: dict[str, list[float]], peers: Sequence[str]) -> list[Row]:
    """Return a row beside each peer, and those of what else was measured of ours."""
    ours = taken[OURS]
    name = f"{work.title}, CPU"
    rows: list[Row] = []
    for peer in peers:
        bar = work.bars.get(peer)
        if peer in taken:
            rows.append(of_rounds(name, "µs", ours, peer, taken[peer], bar and 1 / bar))
        else:
            rows.append(missing(name, "µs", median(ours), peer, f"at most {1 / bar:.2g}x" if bar else ""))
    if PURE in taken:
        title = f"{work.title}, redaction in pure Python, CPU"
        if SDK in taken:
            rows.append(of_rounds(title, "µs", taken[PURE], SDK, taken[SDK], 1 / work.pure))
        else:
            rows.append(missing(title, "µs", median(taken[PURE]), SDK, f"at most {1 / work.pure:.2g}x"))
    title = f"{work.title}, without redaction, CPU"
    rows.append(of_rounds(title, "µs", taken[UNREDACTED], "with it", ours))
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    ours = [OURS, UNREDACTED]
    if find_spec("hyperscan") is not None:
        ours.append(PURE)
    rows: list[Row] = []
    peers = [SDK, LOGFIRE]
    taken = in_turns([*ours, *filter(installed, peers)], DISCARDED)
    for work in DISCARDED:
        rows += rows_of(work, taken[work.name], peers)
    peers = [SDK, FASTOTEL, RELAY, LANGFUSE, LOGFIRE]
    with running_receiver() as receiver:
        taken = in_turns([*ours, *filter(installed, peers)], SENT, receiver.endpoint)
    for work in SENT:
        rows += rows_of(work, taken[work.name], peers)
    return rows


if __name__ == "__main__":
    sys.exit(report("As users have it: default settings, CPU of all threads, medians and spread", measure))
