"""The spool beside bare SQLite and beside appending to a file, both as durable; and its records."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.report import Row, at_most, beside, report
from benchmarks.timing import medians_of_calls, rounds
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.spool.record import decode_item, encode_item
from nat_observability.spool.spool import Spool

ROUNDS = rounds(20)
TRANSACTIONS = 10
RECORD = os.urandom(512)


@contextmanager
def spool_appends(directory: Path, count: int, *, finish: bool = False) -> Iterator[Callable[[], None]]:
    """Append `count` records a transaction to a spool; erase them again if `finish`."""
    with Spool(directory / f"spool-{count}-{finish}", exporter="main", max_bytes=1 << 40) as spool:

        def append() -> None:
            for _ in range(TRANSACTIONS):
                keys = spool.append([RECORD] * count, taken=True)
                if finish:
                    spool.done(keys)

        yield append


@contextmanager
def bare_appends(directory: Path, count: int, *, finish: bool = False) -> Iterator[Callable[[], None]]:
    """The same with the sqlite3 module alone: WAL, full sync for appends, none for deletions."""
    with closing(sqlite3.connect(directory / f"bare-{count}-{finish}", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE records (key INTEGER PRIMARY KEY, time REAL, data BLOB)")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        last = 0

        def append() -> None:
            nonlocal last
            for _ in range(TRANSACTIONS):
                now = time.time()
                rows = [(key, now, RECORD) for key in range(last, last + count)]
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")
                if finish:
                    connection.execute("PRAGMA synchronous = NORMAL")
                    connection.execute("DELETE FROM records WHERE key >= ? AND key < ?", (last, last + count))
                    connection.execute("PRAGMA synchronous = FULL")
                last += count

        yield append


@contextmanager
def file_appends(directory: Path, count: int) -> Iterator[Callable[[], None]]:
    """Append the same bytes to a file, with one fdatasync each time."""
    descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append() -> None:
        for _ in range(TRANSACTIONS):
            os.write(descriptor, RECORD * count)
            os.fdatasync(descriptor)

    try:
        yield append
    finally:
        os.close(descriptor)


def cpu_of(call: Callable[[], None]) -> float:
    """Return the CPU seconds of one call: the median of many, and nothing of what other users of the disk cost."""
    taken: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return median(taken)


def appends(directory: Path) -> list[Row]:
    """Measure appends, of one record and of a hundred a transaction, and of a hundred that are done at once."""
    rows: list[Row] = []
    for count, finish in ((1, False), (100, False), (100, True)):
        name = f"append {count} x 512 B a transaction" + (", and done" if finish else "")
        records = count * TRANSACTIONS
        with ExitStack() as stack:
            spool = stack.enter_context(spool_appends(directory, count, finish=finish))
            bare = stack.enter_context(bare_appends(directory, count, finish=finish))
            file = stack.enter_context(file_appends(directory, count))
            ours, beside_bare, beside_file = medians_of_calls(ROUNDS, spool, bare, file)
            cpu, bare_cpu = cpu_of(spool), cpu_of(bare)
        rows += [
            beside(name, "records/s", records / ours, "bare executemany", records / beside_bare),
            beside(name, "records/s", records / ours, "append and fdatasync", records / beside_file),
            _cpu_row(name, count, cpu / records * 1e6, bare_cpu / records * 1e6),
        ]
    return rows


def _cpu_row(name: str, count: int, ours: float, bare: float) -> Row:
    # One record a transaction is all waiting, whose CPU is the kernel's and varies: no bar for that.
    row = beside if count == 1 else partial(at_most, ratio=2)
    return row(name, "CPU µs a record", ours, "bare executemany", bare)


def takes(directory: Path) -> list[Row]:
    """Measure how fast a backlog is read and erased."""
    with Spool(directory / "takes", exporter="main", max_bytes=1 << 40) as spool:

        def fill() -> None:
            for _ in range(TRANSACTIONS):
                spool.append([RECORD] * 100, taken=False)

        def empty() -> None:
            while batch := spool.take(512, 1 << 22):
                spool.done(key for key, _ in batch)

        taken: list[float] = []
        for _ in range(ROUNDS):
            fill()
            taken += medians_of_calls(1, empty)
    rate = 100 * TRANSACTIONS / median(taken)
    return [beside("take 512 at a time and done with them", "records/s", rate, "", None)]


def records() -> list[Row]:
    """Measure a span to a record and back, beside the JSON that it would be."""
    text = msgspec.Raw(msgspec.json.encode({"messages": [{"role": "user", "content": "x" * 200}]}))
    run = Run("run", "0" * 32, "conversation", "user", "workflow")
    usage = TokenUsage(12, 30, total_tokens=42)
    kind = StepKind.LLM
    span = Span(
        run,
        kind,
        "model",
        "1" * 16,
        "2" * 16,
        1,
        2,
        Status.OK,
        text,
        "answer" * 20,
        usage=usage,
        span_kind=kind.span_kind,
    )
    record, count = encode_item(span), 2000
    runs: dict[bytes, Run] = {}
    encode_json = msgspec.json.Encoder().encode
    encoding, json, decoding = medians_of_calls(
        ROUNDS,
        lambda: [encode_item(span) for _ in range(count)],
        lambda: [encode_json(span) for _ in range(count)],
        lambda: [decode_item(record, runs) for _ in range(count)],
    )
    return [
        beside("a span to its record", "µs", encoding / count * 1e6, "msgspec JSON", json / count * 1e6),
        beside("a record to its span", "µs", decoding / count * 1e6, "", None),
    ]


def measure() -> list[Row]:
    """Return the rows; the files are in the current directory's file system, and are deleted."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        directory = Path(name).resolve()
        return [*appends(directory), *takes(directory), *records()]


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure))
