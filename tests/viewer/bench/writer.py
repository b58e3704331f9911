"""What a writer of the store pays for its counters and for a viewer that looks on, and how long its log gets."""

from __future__ import annotations

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store import Store
from tests.viewer.bench.server import ViewerServer
from tests.viewer.bench.table import Table
from tests.viewer.browser.chromium import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_BATCH = 512
_STEPS = 10  # of a run
_ROUNDS = 20
_BATCHES = 8  # of a round
_PACED_ROUNDS = 12
_PACED_BATCHES = 4
_PACE = 0.25  # seconds between two of these, 2,048 spans a second
_READERS = 3
_LOGGED = 48_000  # spans
_LOG_BAR = 32.0  # MiB

_ids = count(1)


def _batch(*, text: int) -> list[Span]:
    """Return new spans, in runs of ten: a workflow, and model calls and tools inside it."""
    made: list[Span] = []
    while len(made) < _BATCH:
        number = next(_ids)
        if len(made) % _STEPS == 0:
            run, root = Run(f"run-{number}", f"{number:032x}", f"talk-{number // 50}", "user", "chat"), None
        else:
            root = made[len(made) - len(made) % _STEPS].span_id
        kind = StepKind.WORKFLOW if root is None else StepKind.LLM if number % 3 else StepKind.TOOL
        now = time.time_ns()
        span = Span(run, kind, "work", f"{number:016x}", root, now, now + 1000, Status.OK)
        if text:
            span = msgspec.structs.replace(span, input=f"{number} why? " * (text // 12), output="because")
        if kind is StepKind.LLM:
            span = msgspec.structs.replace(span, usage=TokenUsage(300, 60, 0, 0, 360))
        made.append(span)
    return made


def _took(sink: SqliteSink, text: int) -> tuple[float, float]:
    """Write some batches; return the processor time and the time of a span, in microseconds."""
    batches = [_batch(text=text) for _ in range(_BATCHES)]
    cpu, began = time.process_time(), time.monotonic()
    for batch in batches:
        sink.write(batch)
    spans = _BATCH * _BATCHES
    return (time.process_time() - cpu) / spans * 1e6, (time.monotonic() - began) / spans * 1e6


def _paced(sink: SqliteSink) -> float:
    """Write some batches, one after the other with time between them; return that of a span, in microseconds."""
    took = []
    for _ in range(_PACED_BATCHES):
        batch = _batch(text=1000)
        began = time.monotonic()
        sink.write(batch)
        took.append((time.monotonic() - began) / _BATCH * 1e6)
        time.sleep(max(0.0, began + _PACE - time.monotonic()))
    return statistics.median(took)


def _row(
    table: Table,
    what: str,
    ours: Sequence[float],
    beside: Sequence[float],
    bar: float | None,
    *,
    cpu: bool = True,
) -> None:
    """Add how many per cent more is taken: the median of the rounds, each beside the other one of the same moment."""
    ratios = [100 * (mine / other - 1) for mine, other in zip(ours, beside, strict=True)]
    busy = os.getloadavg()[0] > 2 * (os.cpu_count() or 1)
    lower, median, _ = statistics.quantiles(ratios, n=4)
    what = f"{what} ({statistics.median(ours):.1f} beside {statistics.median(beside):.1f} µs)"
    table.row(what, median, bar, "%", noisy=bar is not None and (lower <= bar or (busy and not cpu)))


def measure_writer(table: Table) -> None:
    """Measure all of it, in stores of its own."""
    table.heading("the writer, a span")
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        _counters(table, Path(folder))
        _looked_on(table, Path(folder))
        _log(table, Path(folder))


def _counters(table: Table, folder: Path) -> None:
    """A store beside one with the same tables in which nothing is counted, in turns."""
    counted, bare = SqliteSink(folder / "counted.sqlite3"), SqliteSink(folder / "bare.sqlite3")
    bare.open()
    bare.close()
    with closing(sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)) as connection:
        # Of version 1, a writer counts nothing; triggers that only count down would cost its way of inserting.
        for drop in ("TRIGGER span_removed", "TRIGGER run_removed", "INDEX runs_by_depth"):
            connection.execute(f"DROP {drop}")
        connection.execute("PRAGMA user_version = 1")
    with ExitStack() as opened:
        for sink in (counted, bare):
            sink.open()
            opened.callback(sink.close)
            _took(sink, 1000)
        rounds = [(_took(counted, 1000)[0], _took(bare, 1000)[0]) for _ in range(_ROUNDS)]
    mine, other = zip(*rounds, strict=True)
    _row(table, "counters of runs and kinds, CPU", mine, other, 10)


def _looked_on(table: Table, folder: Path) -> None:
    """With a viewer and a page that follow the store, and while both of them are stopped, in turns."""
    path = folder / "watched.sqlite3"
    sink = SqliteSink(path)
    sink.open()
    _took(sink, 1000)
    server = ViewerServer(path)
    onlooker = subprocess.Popen(
        [sys.executable, "-m", "tests.viewer.bench.onlooker", server.base, server.token], cwd=ROOT
    )
    others = (server.process.pid, onlooker.pid)
    full: list[list[tuple[float, float]]] = [[], []]
    paced: list[list[float]] = [[], []]
    try:
        for at in range(_ROUNDS + _PACED_ROUNDS):
            if at == _ROUNDS:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)
                server.wait_for_index()  # what came as fast as it could is not to cost those that follow
            for stopped in (False, True):
                for pid in others:
                    os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
                if at < _ROUNDS:
                    full[stopped].append(_took(sink, 1000))
                else:
                    paced[stopped].append(_paced(sink))
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        onlooker.terminate()
        onlooker.wait(10)
        server.end()
        sink.close()
    with_viewer, alone = full
    for at, what, bar in ((0, "CPU", 5.0), (1, "time, as fast as it can", None)):
        _row(
            table,
            f"viewer looking on, {what}",
            [each[at] for each in with_viewer],
            [each[at] for each in alone],
            bar,
        )
    _row(table, "viewer looking on, time, 2,048 a second", paced[False], paced[True], 5, cpu=False)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Readers that never stop: one answer after the other, from several connections."""
    ended = threading.Event()

    def read() -> None:
        with closing(ExitStack()) as stack:
            store = stack.enter_context(Store(path))
            while not ended.is_set():
                store.counts()

    readers = [threading.Thread(target=read) for _ in range(_READERS)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def _log(table: Table, folder: Path) -> None:
    path = folder / "read.sqlite3"
    sink = SqliteSink(path)
    sink.open()
    sink.write(_batch(text=1000))
    longest = 0
    with _reading(path):
        for _ in range(_LOGGED // _BATCH):
            sink.write(_batch(text=1000))
            longest = max(longest, os.stat(f"{path}-wal").st_size)
    sink.close()
    table.row(
        f"log at its longest, {_LOGGED:,} spans, {_READERS} readers that never stop",
        longest / (1 << 20),
        _LOG_BAR,
        "MiB",
    )
