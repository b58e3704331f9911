"""Index: follows a store and keeps its sidecar: trigrams for search, counts for statistics and for the list of runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from nat_observability.errors import SinkError
from nat_observability.store.schema import INDEX_SUFFIX
from nat_observability.system.disk import OPEN_FLAGS
from nat_observability.system.sqlite_errors import is_busy
from nat_observability.viewer.sidecar.hours import HOURS_SCHEMA, Hours
from nat_observability.viewer.sidecar.run_counts import HOUR_NS, RUN_COUNTS_SCHEMA, RunCounts
from nat_observability.viewer.store_file import Reader, ReadTimeoutError, StoreFile, cut

BLOCK = 100_000
"""So many span ids share one table of trigrams, which is dropped when the store has none of them any more."""

MOST_INDEXED = 65_536
"""Bytes of one part of a span that are indexed; spans with more are looked at by every search."""

SEARCHED = (
    "name",
    "input",
    "output",
    "error_type",
    "error_message",
    "attributes",
    "metadata",
    "tags",
    "events",
    "status_message",
    "error_traceback",
)
"""The columns of `spans` that search looks into; a store of version 1 may lack some."""

_VERSION = "2"
_PERIOD = 0.5
_COUNTING = 1.0  # seconds of a batch for the counts of runs, which take far less than the rest
_LEAST, _MOST = 50, 2_000  # spans of one transaction
_WANTED_BYTES = 2_000_000

_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE long (id INTEGER PRIMARY KEY)",
    "CREATE TABLE seen (key INTEGER PRIMARY KEY, block INTEGER NOT NULL)",
    *HOURS_SCHEMA,
    *RUN_COUNTS_SCHEMA,
)


class Index:
    """
    Follows a store on a thread of its own: first what is new, then what was there before, newest first.

    It covers the spans with ids in (low, high]. Several viewers of one store share the file. If its folder cannot be
    written, it is made in a temporary folder, which `close` removes.

    Attributes:
        low, high: The ids that are covered; both 0 before the first batch.
        newest: The newest id of the store at the last look.
        counts: Which runs are counted.
        problem: Why there is no index, in a sentence; None while it works.
    """

    def __init__(self, store: StoreFile, *, enabled: bool = True) -> None:
        self.store = store
        self.path = store.path + INDEX_SUFFIX
        self.enabled = enabled
        self.low = self.high = self.newest = 0
        self.counts = RunCounts(store)
        self.problem: str | None = None if enabled else "It is switched off."
        self._folder: str | None = None
        self._identity = ""
        self._inode = 0
        self._renewed = False  # since something last worked
        self._connection: sqlite3.Connection | None = None
        self._ended = False
        self._wanted = threading.Event()  # ends a pause
        self._thread: threading.Thread | None = None
        self._batch = _LEAST
        self._pruned = 0.0
        self._caught_up = threading.Condition()

    @property
    def complete(self) -> bool:
        """Whether it covers every span that the store had at the last look."""
        return self.enabled and self.problem is None and self.low == 0 and self.high >= self.newest > 0

    @property
    def usable(self) -> bool:
        """Whether it covers anything."""
        return self.enabled and self.problem is None and self.high > self.low

    def start(self) -> None:
        """Begin to follow the store."""
        if self.enabled:
            self._thread = threading.Thread(target=self._follow, name="viewer-index", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop, and wait for the batch under way."""
        self._ended = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def wait_complete(self, timeout: float) -> bool:
        """Return whether it covers the whole store within so many seconds."""
        with self._caught_up:
            return self._caught_up.wait_for(lambda: self.complete or self.problem is not None, timeout)

    def wait_counted(self, newest: int, timeout: float) -> bool:
        """Return whether the runs are counted as they were with this newest span, within so many seconds."""
        if not self.counts.covers(newest):
            self._wanted.set()
            with self._caught_up:
                self._caught_up.wait_for(
                    lambda: self.counts.covers(newest) or self.problem is not None, timeout
                )
        return self.problem is None and self.counts.covers(newest)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one answer, on any thread."""
        connection = sqlite3.connect(f"file:{_quoted(self.path)}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            yield connection
        finally:
            connection.close()

    def covered(self) -> tuple[int, int]:
        """Return `low` and `high` as the file has them, so that a new file is not taken for a full one."""
        if self.usable:
            with contextlib.suppress(sqlite3.Error), self.reading() as connection:
                return self._covered(connection)
        return 0, 0

    def size(self) -> int:
        """Return the bytes that it takes on disk, with its log."""
        size = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size += os.stat(self.path + suffix).st_size
        return size

    def _follow(self) -> None:
        while not self._ended:
            try:
                worked = self._step()
                self.problem, self._renewed = None, False
            except ReadTimeoutError:
                self._batch, worked = _LEAST, False
            except SinkError as error:
                # The store is missing, damaged or being replaced: what reads it says so.
                worked, self.problem = False, str(error)
                self._disconnect()
            except (sqlite3.Error, OSError) as error:
                worked = False
                if not is_busy(error):
                    self._give_up(error)
            except (ArithmeticError, TypeError, ValueError) as error:
                # A cell of a damaged page, which SQLite returns as it is.
                worked = False
                self.problem = f"The index cannot be made: {error}. Search and statistics go without it."
            self._tell()
            if not worked:
                self._wanted.wait(_PERIOD)
                self._wanted.clear()
        self._disconnect()

    def _tell(self) -> None:
        with self._caught_up:
            self._caught_up.notify_all()

    def _step(self) -> bool:
        """Count and index one batch. Returns whether there was one."""
        connection = self._connected()
        newest = self.store.read_here(lambda reader: reader.newest())
        self.newest = newest
        low, high = self._covered(connection)
        if newest < high:
            raise sqlite3.DatabaseError("the store was replaced")
        until = time.monotonic() + _COUNTING
        while (counted := self.counts.step(connection)) and time.monotonic() < until and not self._ended:
            pass
        self._tell()
        if high == 0 and newest:
            low = high = newest
        if newest > high:
            first, last = high, min(high + self._batch, newest)
            low_after, high_after = low, last
        elif low > 0:
            first, last = max(0, low - self._batch), low
            low_after, high_after = first, high
        else:
            self.low, self.high = low, high
            self._prune(connection)
            return counted
        rows = self.store.read_here(lambda reader: _texts(reader, first, last), 10.0)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._covered(connection) not in ((low, high), (0, 0)):
                return True  # another viewer was quicker
            taken = self._add(connection, rows)
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("low", str(low_after)), ("high", str(high_after))],
            )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self.low, self.high = low_after, high_after
        wanted = self._batch * _WANTED_BYTES // max(taken, 1)
        self._batch = max(_LEAST, min(_MOST, wanted, self._batch * 2))
        return True

    def _add(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> int:
        taken = 0
        hours = Hours(connection)
        texts: dict[int, list[tuple[int, str]]] = {}
        for row in rows:
            hours.add(row)
            parts = [part for part in row[-len(SEARCHED) :] if part]
            text = "\n".join(parts)
            taken += len(text)
            if any(len(part) >= MOST_INDEXED // 4 and len(part.encode()) >= MOST_INDEXED for part in parts):
                connection.execute("INSERT OR IGNORE INTO long VALUES (?)", (row[0],))
            texts.setdefault(row[0] // BLOCK, []).append((row[0], text))
        for block, pairs in texts.items():
            connection.execute(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS text_{block} "
                "USING fts5(body, content='', detail=none, tokenize='trigram')"
            )
            connection.executemany(f"INSERT INTO text_{block} (rowid, body) VALUES (?, ?)", pairs)
        hours.save()
        return taken

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Forget what the store no longer has, once a minute."""
        if time.monotonic() - self._pruned < 60:
            return
        self._pruned = time.monotonic()
        oldest, start = self.store.read_here(
            lambda reader: (
                reader.value("SELECT min(rowid) FROM spans") or 0,
                reader.value("SELECT min(start_ns) FROM runs"),
            )
        )
        gone = [block for block in blocks(connection) if (block + 1) * BLOCK <= oldest]
        for block in gone:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"DROP TABLE text_{block}")
            connection.execute("DELETE FROM seen WHERE block = ?", (block,))
            connection.execute(
                "DELETE FROM long WHERE id >= ? AND id < ?", (block * BLOCK, (block + 1) * BLOCK)
            )
            connection.execute("COMMIT")
        if start is not None:
            connection.execute("DELETE FROM hours WHERE hour < ?", (start // HOUR_NS,))
        self.counts.prune(connection)
        if gone:
            connection.executescript("PRAGMA incremental_vacuum")

    def _covered(self, connection: sqlite3.Connection) -> tuple[int, int]:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        return int(meta.get("low", 0)), int(meta.get("high", 0))

    def _connected(self) -> sqlite3.Connection:
        identity = self.store.read_here(_store_identity)
        if self._connection is not None:
            with contextlib.suppress(OSError):
                # The file may have been deleted, and the store replaced.
                if os.stat(self.path).st_ino == self._inode and identity == self._identity:
                    return self._connection
            self._disconnect()
        self.low = self.high = 0
        self.counts.forget()
        try:
            self._connection = self._open(identity)
        except (OSError, sqlite3.OperationalError):
            if self._folder is not None:
                raise
            self._folder = tempfile.mkdtemp(prefix="nat-observability-viewer-")
            self.path = os.path.join(self._folder, "index")
            self._connection = self._open(identity)
        self._identity, self._inode = identity, os.stat(self.path).st_ino
        return self._connection

    def _open(self, identity: str) -> sqlite3.Connection:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600))
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # it can be made again
            connection.execute("PRAGMA journal_size_limit = 4194304")
            connection.execute("PRAGMA cache_size = -4096")
            connection.execute("BEGIN IMMEDIATE")
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
            if not made:
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)", [("version", _VERSION), ("store", identity)]
                )
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            connection.execute("COMMIT")
            if (meta.get("version"), meta.get("store")) != (_VERSION, identity):
                raise sqlite3.DatabaseError("it is of another store")
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _give_up(self, error: Exception) -> None:
        """Make a new file in place of one that cannot be used; without success, do without until the next look."""
        self._disconnect()
        self.low = self.high = 0
        self.counts.forget()
        if not self._renewed:
            self._renewed = True
            # The viewer is to start at once, and structlog takes a while to import.
            from nat_observability.logs import get_logger

            get_logger().info("viewer_index_renewed", path=self.path, reason=str(error))
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    os.unlink(self.path + suffix)
        self.problem = f"The index cannot be made: {error}. Search and statistics go without it."


def blocks(connection: sqlite3.Connection) -> list[int]:
    """Return the blocks that have a table, newest first."""
    rows = connection.execute(
        "SELECT substr(name, 6) FROM sqlite_master WHERE name GLOB 'text_[0-9]*' AND sql LIKE 'CREATE VIRTUAL%'"
    )
    return sorted((int(number) for (number,) in rows), reverse=True)


def searched_columns(reader: Reader, most: int | None = MOST_INDEXED) -> str:
    """Return the columns to search as text, of at most so many bytes each; those that the store lacks as NULL."""
    present = {name for (name,) in reader.rows("SELECT name FROM pragma_table_info('spans')")}
    whole = [each if each in present else "NULL" for each in SEARCHED]
    return ", ".join(f"CAST({each} AS TEXT)" if most is None else cut(each, most) for each in whole)


def _texts(reader: Reader, first: int, last: int) -> list[tuple[Any, ...]]:
    cost = "spans.cost" if reader.version >= 2 else "NULL"
    columns = searched_columns(reader)
    # A running span comes again under another id when it has ended.
    return reader.rows(
        "SELECT spans.rowid, CAST(spans.run_id AS TEXT), CAST(span_id AS TEXT), CAST(kind AS TEXT), "
        "CAST(spans.status AS TEXT), CAST(spans.start_ns AS INTEGER), CAST(spans.end_ns AS INTEGER), "
        "CAST(spans.total_tokens AS INTEGER), CAST(spans.prompt_tokens AS INTEGER), "
        f"CAST(spans.completion_tokens AS INTEGER), CAST({cost} AS REAL), CAST(workflow AS TEXT), "
        f"parent_id IS NULL OR parent_id IS above, {columns} FROM spans LEFT JOIN (SELECT run_id AS r, "
        "workflow_name AS workflow, parent_span_id AS above FROM runs) ON r = spans.run_id "
        "WHERE spans.rowid > ? AND spans.rowid <= ? AND spans.status <> 'running' ORDER BY spans.rowid",
        first,
        last,
    )


def _store_identity(reader: Reader) -> str:
    if reader.version >= 2:
        return str(reader.value("SELECT value FROM store WHERE name = 'store_id'"))
    # The first run of a store of version 1 tells it from others, wherever it is moved.
    return str(reader.row("SELECT run_id, start_ns FROM runs ORDER BY rowid LIMIT 1"))


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
