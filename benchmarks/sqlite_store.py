"""What a batch costs until it is in the embedded store, beside executemany of the same columns into the same tables."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.payloads import Payloads
from benchmarks.report import Row, of_rounds, report
from benchmarks.timing import in_turns, microseconds, rounds
from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.sinks import SqliteSink
from nat_observability.store.schema import SPAN_COLUMNS

ROUNDS = rounds(15)
BATCH = 512
BATCHES = 4  # of each measurement
STEPS = 10
BAR = 1.5
_INSERT = (
    f"INSERT INTO spans ({SPAN_COLUMNS}, cost) VALUES ({', '.join('?' * (SPAN_COLUMNS.count(',') + 2))})"
)
_ids = count(1)


def spans(payloads: Payloads, *, texts: bool, of_run: int) -> list[Span]:
    """Return a batch of new spans, in runs of that many: bare ones, or with 2 KB in and 1 KB out."""
    made: list[Span] = []
    while len(made) < BATCH:
        number = next(_ids)
        if len(made) % of_run == 0:
            run, root = Run(f"run-{number}", f"{number:032x}", None, None, "workflow"), None
        else:
            root = made[len(made) - len(made) % of_run].span_id
        span_id, now = f"{number:016x}", time.time_ns()
        span = Span(run, StepKind.FUNCTION, "work", span_id, root, now, now + 1000, Status.OK)
        if texts:
            span = msgspec.structs.replace(span, input=payloads.text(2000), output=payloads.text(1000))
        made.append(span)
    return made


def columns_of(path: Path) -> list[tuple[object, ...]]:
    """Return the columns of every span of a store, as they were given to SQLite; the store is emptied."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute(f"SELECT {SPAN_COLUMNS}, cost FROM spans").fetchall()
        for table in ("spans", "runs", "kinds"):
            connection.execute(f"DELETE FROM {table}")
    return rows


def rows_for(what: str, key: str, *, texts: bool, of_run: int = BATCH) -> Row:
    """Measure batches in turns: ours from spans, the floor from tuples that are ready."""
    payloads = Payloads()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        path, bare, columns = (Path(directory, f"{name}.sqlite3") for name in ("ours", "bare", "columns"))
        sink, template = SqliteSink(path), SqliteSink(columns)
        for each in (sink, template, empty := SqliteSink(bare)):
            each.open()
        empty.close()
        # A store of its own, which grows as ours does: inserting into pages that were emptied takes half the time.
        with closing(sqlite3.connect(bare, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")

            def ours() -> float:
                took = 0.0
                for _ in range(BATCHES):
                    batch = spans(payloads, texts=texts, of_run=of_run)
                    began = time.process_time()
                    sink.write(batch)
                    took += time.process_time() - began
                return took / BATCHES / BATCH

            def floor() -> float:
                took = 0.0
                for _ in range(BATCHES):
                    template.write(spans(payloads, texts=texts, of_run=of_run))
                    rows = columns_of(columns)
                    began = time.process_time()
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(_INSERT, rows)
                    connection.execute("COMMIT")
                    took += time.process_time() - began
                return took / BATCHES / BATCH

            contenders: tuple[Callable[[], float], ...] = (ours, floor)
            mine, theirs = in_turns(ROUNDS, *contenders, warm_up=True)
        sink.close()
        template.close()
    row = of_rounds(
        what,
        "µs",
        microseconds(mine),
        "executemany of the same columns",
        microseconds(theirs),
        BAR if key else None,
    )
    return row.under(key) if key else row


def measure() -> list[Row]:
    """Measure everything."""
    return [
        rows_for("batch into the store, bare spans of one run, CPU a span", "store-bare", texts=False),
        rows_for("batch into the store, spans of 3 KB of one run, CPU a span", "store-text", texts=True),
        rows_for(
            f"batch into the store, bare spans in runs of {STEPS}, CPU a span", "", texts=False, of_run=STEPS
        ),
    ]


if __name__ == "__main__":
    sys.exit(report("Into the embedded store", measure))
