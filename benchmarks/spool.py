"""The spool beside bare SQLite and beside appending to a file, both as durable; and its records."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec

from benchmarks.report import Row, at_least, beside, report
from benchmarks.timing import best_of_calls
from nat_observability.delivery.spool import Spool
from nat_observability.delivery.spool_record import decode_item, encode_item
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage

ROUNDS = 60
TRANSACTIONS = 10
RECORD = os.urandom(512)


@contextmanager
def spool_appends(directory: Path, count: int, *, finish: bool = False) -> Iterator[Callable[[], None]]:
    """Append `count` records a transaction to a spool; erase them again where `finish`."""
    with Spool(directory / f"spool-{count}-{finish}", exporter="main", max_bytes=1 << 40) as spool:

        def append() -> None:
            for _ in range(TRANSACTIONS):
                keys = spool.append([RECORD] * count, taken=True)
                if finish:
                    spool.done(keys)

        yield append


@contextmanager
def bare_appends(directory: Path, count: int, *, finish: bool = False) -> Iterator[Callable[[], None]]:
    """The same with the sqlite3 module alone: WAL, full sync for what is appended, none for what is erased."""
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
    descriptor = os.open(directory / f"file-{count}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append() -> None:
        for _ in range(TRANSACTIONS):
            os.write(descriptor, RECORD * count)
            os.fdatasync(descriptor)

    try:
        yield append
    finally:
        os.close(descriptor)


def appends(directory: Path) -> list[Row]:
    """Measure appends, of one record and of a hundred a transaction, and of a hundred that are done at once."""
    rows: list[Row] = []
    with ExitStack() as stack:
        for count in (1, 100):
            ours, bare, file = best_of_calls(
                ROUNDS,
                stack.enter_context(spool_appends(directory, count)),
                stack.enter_context(bare_appends(directory, count)),
                stack.enter_context(file_appends(directory, count)),
            )
            records = count * TRANSACTIONS
            name = f"append 512 B records, {count} a transaction"
            rows += [
                at_least(name, "records/s", records / ours, "bare executemany", records / bare, 0.7),
                beside(name, "records/s", records / ours, "append and fdatasync", records / file),
            ]
        ours, bare = best_of_calls(
            ROUNDS,
            stack.enter_context(spool_appends(directory, 100, finish=True)),
            stack.enter_context(bare_appends(directory, 100, finish=True)),
        )
        records = 100 * TRANSACTIONS
        name = "append 100 and done with them"
        rows.append(at_least(name, "records/s", records / ours, "bare executemany", records / bare, 0.7))
    return rows


def takes(directory: Path) -> list[Row]:
    """Measure how fast a backlog is read and erased."""
    with Spool(directory / "takes", exporter="main", max_bytes=1 << 40) as spool:

        def fill() -> None:
            for _ in range(TRANSACTIONS):
                spool.append([RECORD] * 100, taken=False)

        def empty() -> None:
            while batch := spool.take(512, 1 << 22):
                spool.done(key for key, _ in batch)

        best = float("inf")
        for _ in range(ROUNDS):
            fill()
            best = min(best, best_of_calls(1, empty)[0])
    return [beside("take 512 at a time and done with them", "records/s", 100 * TRANSACTIONS / best, "", None)]


def records() -> list[Row]:
    """Measure a span to a record and back, beside the JSON that it would be."""
    text = msgspec.Raw(msgspec.json.encode({"messages": [{"role": "user", "content": "x" * 200}]}))
    run = Run("run", "0" * 32, "conversation", "user", "workflow")
    usage = TokenUsage(12, 30, total_tokens=42)
    span = Span(
        run, StepKind.LLM, "model", "1" * 16, "2" * 16, 1, 2, Status.OK, text, "answer" * 20, usage=usage
    )
    record, count = encode_item(span), 2000
    runs: dict[bytes, Run] = {}
    encode_json = msgspec.json.Encoder().encode
    encoding, json, decoding = best_of_calls(
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
    """Return the rows; what is written lies in the current directory's file system, and is deleted."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        directory = Path(name).resolve()
        return [*appends(directory), *takes(directory), *records()]


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure))
