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
    OURS,
    PURE,
    SPOOLED,
    STEPS,
    STORED,
    TURNS,
    UNREDACTED,
    Contender,
    Taken,
    installed,
)
from benchmarks.default_peers import FASTOTEL, FLOOR, FLOOR_IN_C, LANGFUSE, LOGFIRE, RELAY, SDK
from benchmarks.receiver import running_receiver
from benchmarks.report import Row, missing, of_rounds, report
from benchmarks.timing import rounds

ROUNDS = rounds(9)


@dataclass(frozen=True)
class Work:
    """
    A kind of work, with what it is to cost beside peers.

    Args:
        name: As the contenders know it, and its rows' place in the pages' tables.
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
    Work("history", "step with a history of 50 KB, drained", 60, 1, {SDK: 1.7}, 1.0),
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
    Work("agent", f"agent of {TURNS} turns to OTLP, gzip, a span", 2, TURNS + 1, {SDK: 15.0}, 12.0),
)
"""To a receiver that only reads."""
OWN_ONLY = (
    Work("run", f"run of {STEPS} steps, a span", 200, STEPS, {}, 0.0),
    Work("bare", "bare step", 3000, 1, {}, 0.0),
    Work("text", "step with 2 KB in, 1 KB out", 1000, 1, {}, 0.0),
)
"""For what stands beside ourselves."""
SPOOL_BAR = 1.2
CALLER_BAR, CALLER_ENOUGH = 1.2, 1.7

Figures = dict[str, dict[str, list[Taken]]]
"""What one repetition took in each round, by work and contender."""


def in_turns(names: Sequence[str], works: Sequence[Work], endpoint: str | None = None) -> Figures:
    """Measure every contender in turns, in processes that stay."""
    taken: Figures = {work.name: {name: [] for name in names} for work in works}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Contender(name, endpoint)) for name in names}
        for work in works:
            for number in range(ROUNDS + 1):
                for name, process in processes.items():
                    figures = process.take(work.name, work.times)
                    if number:  # the first warms up
                        taken[work.name][name].append(figures)
    return taken


def of_all(work: Work, taken: Sequence[Taken]) -> list[float]:
    """Return the CPU µs of all threads, a span."""
    return [1e6 * each.all / work.spans for each in taken]


def of_caller(work: Work, taken: Sequence[Taken]) -> list[float]:
    """Return the CPU µs of the thread that records, a span."""
    return [1e6 * each.caller / work.spans for each in taken]


def rows_of(work: Work, taken: dict[str, list[Taken]], peers: Sequence[str]) -> list[Row]:
    """Return a row beside each peer, and those of what else was measured of ours."""
    ours, unredacted = of_all(work, taken[OURS]), of_all(work, taken[UNREDACTED])
    name = f"{work.title}, CPU"
    rows: list[Row] = []
    for peer in peers:
        bar = work.bars.get(peer)
        if peer in taken:
            row = of_rounds(name, "µs", ours, peer, of_all(work, taken[peer]), bar and 1 / bar)
        else:
            row = missing(name, "µs", median(ours), peer, f"at most {1 / bar:.2g}x" if bar else "")
        rows.append(row.under(work.name, unredacted))
    if PURE in taken:
        title, pure = f"{work.title}, redaction in pure Python, CPU", of_all(work, taken[PURE])
        if SDK in taken:
            row = of_rounds(title, "µs", pure, SDK, of_all(work, taken[SDK]), 1 / work.pure)
        else:
            row = missing(title, "µs", median(pure), SDK, f"at most {1 / work.pure:.2g}x")
        rows.append(row.under(f"{work.name}-pure", unredacted))
    rows.append(of_rounds(f"{work.title}, without redaction, CPU", "µs", unredacted, "with it", ours))
    return rows


def callers(taken: Figures) -> list[Row]:
    """Return what a bare step takes of the thread that records it, beside the least that Python allows."""
    work = DISCARDED[0]
    figures = {name: of_caller(work, each) for name, each in taken[work.name].items()}
    title = "bare step, the caller's thread, CPU"
    rows = [
        of_rounds(title, "µs", figures[OURS], FLOOR, figures[FLOOR], CALLER_BAR, enough=CALLER_ENOUGH).under(
            "caller", figures[UNREDACTED]
        )
    ]
    others = [peer for peer in (FLOOR_IN_C, SDK) if peer in figures]
    return rows + [
        of_rounds(title, "µs", figures[OURS], peer, figures[peer]).under("caller") for peer in others
    ]


def own() -> list[Row]:
    """Return what spool and store cost: a run's thread that spools, and a step until it is in the store."""
    taken = in_turns([OURS, SPOOLED, STORED], OWN_ONLY)
    rows: list[Row] = []
    for work in OWN_ONLY:
        figures = taken[work.name]
        rows.append(
            of_rounds(
                f"{work.title}, spooled always, the caller's thread, CPU",
                "µs",
                of_caller(work, figures[SPOOLED]),
                "unspooled",
                of_caller(work, figures[OURS]),
                SPOOL_BAR,
            ).under(f"spooled-{work.name}")
        )
        whole = {name: of_all(work, each) for name, each in figures.items()}
        title = f"{work.title}, until it is in the store, CPU"
        rows.append(of_rounds(title, "µs", whole[STORED], "until it is dropped", whole[OURS]))
        title = f"{work.title}, spooled always, CPU"
        rows.append(of_rounds(title, "µs", whole[SPOOLED], "unspooled", whole[OURS]))
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    ours = [OURS, UNREDACTED]
    if find_spec("hyperscan") is not None:
        ours.append(PURE)
    rows: list[Row] = []
    peers = [SDK, LOGFIRE]
    taken = in_turns([*ours, *filter(installed, [FLOOR, FLOOR_IN_C, *peers])], DISCARDED)
    for work in DISCARDED:
        rows += rows_of(work, taken[work.name], peers)
    rows += callers(taken)
    work, figures = DISCARDED[0], {name: of_all(DISCARDED[0], each) for name, each in taken["bare"].items()}
    for floor in filter(installed, (FLOOR, FLOOR_IN_C)):
        rows.append(of_rounds(f"{work.title}, CPU", "µs", figures[OURS], floor, figures[floor]))
    rows += own()
    peers = [SDK, FASTOTEL, RELAY, LANGFUSE, LOGFIRE]
    with running_receiver() as receiver:
        taken = in_turns([*ours, *filter(installed, peers)], SENT, receiver.endpoint)
    for work in SENT:
        rows += rows_of(work, taken[work.name], peers)
    return rows


if __name__ == "__main__":
    sys.exit(report("As users have it: default settings, CPU of all threads, medians and spread", measure))
