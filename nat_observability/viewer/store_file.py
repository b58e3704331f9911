"""StoreFile: short reads of a store by several threads, each under a time limit, also while the file is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from nat_observability.errors import ObservabilityError, SinkError
from nat_observability.store.schema import connect_to_read, has_store, schema_version
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, primary_code

_T = TypeVar("_T")
_THREADS = 3
_CACHE_KIB = 2048
_STEPS = 20_000  # of SQLite's virtual machine between two looks at the clock: some 0.2 ms

Row = tuple[Any, ...]


class ReadTimeoutError(ObservabilityError, TimeoutError):
    """Raised when a read has used up its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The store did not answer within {seconds:g} s. Narrow the filter, or try again.")


class Reader:
    """One thread's connection: reads whole answers, so that no transaction outlives a call."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self.version = schema_version(connection)
        self._connection = connection
        self._deadline = 0.0
        self._seconds = 0.0
        for pragma in ("query_only = ON", "trusted_schema = OFF", f"cache_size = -{_CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_progress_handler(self._late, _STEPS)

    @property
    def time_left(self) -> float:
        """Seconds until reads fail."""
        return self._deadline - time.monotonic()

    def limit(self, seconds: float) -> None:
        """Let reads fail in so many seconds from now."""
        self._seconds, self._deadline = seconds, time.monotonic() + seconds

    @contextlib.contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Give the reads of the body less time."""
        before = self._seconds, self._deadline
        self._seconds, self._deadline = seconds, min(self._deadline, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._seconds, self._deadline = before

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """
        Return all rows of a query. Text that is not UTF-8 comes with replacement characters.

        Raises:
            ReadTimeoutError: The time is used up.
            SinkError: The file is damaged, or cannot be read.
        """
        try:
            return self._fetch(query, parameters)
        except DATABASE_ERRORS as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise ReadTimeoutError(self._seconds) from None
            if "decode" not in str(error):
                raise database_error(self.path, "cannot be read", error) from error
        self._connection.text_factory = _lenient
        try:
            return self._fetch(query, parameters)
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error
        finally:
            self._connection.text_factory = str

    def row(self, query: str, *parameters: object) -> Row | None:
        """Return the first row of a query, if there is one."""
        rows = self.rows(query, *parameters)
        return rows[0] if rows else None

    def value(self, query: str, *parameters: object) -> Any:
        """Return the first cell of the first row, None without rows."""
        row = self.row(query, *parameters)
        return None if row is None else row[0]

    def newest(self) -> int:
        """Return the id of the last span that was written, 0 if none was; also if it has been deleted since."""
        if self.version >= 2:
            return self.value("SELECT seq FROM sqlite_sequence WHERE name = 'spans'") or 0
        return self.value("SELECT max(rowid) FROM spans") or 0

    def ends(self) -> tuple[int | None, int | None]:
        """Return the first and the last start of a run, in nanoseconds."""
        # Each by its own query, because both in one would go through the whole index; text counts as above all numbers.
        number = f"FROM runs WHERE start_ns <= {(1 << 63) - 1}"
        row = self.row(f"SELECT (SELECT min(start_ns) {number}), (SELECT max(start_ns) {number})")
        return (None, None) if row is None else (row[0], row[1])

    def close(self) -> None:
        self._connection.close()

    def _fetch(self, query: str, parameters: tuple[object, ...]) -> list[Row]:
        return self._connection.execute(query, parameters).fetchall()

    def _late(self) -> bool:
        return time.monotonic() > self._deadline


class StoreFile:
    """
    The store that a viewer shows, for use by one event loop.

    Each read looks whether the file at the path is still the one that its thread has open. What is not there, foreign,
    damaged or newer is a SinkError of that read alone: the next one tries again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="viewer-read")
        self._own = threading.local()
        self._open: list[Reader] = []
        self._lock = threading.Lock()

    async def read(self, job: Callable[[Reader], _T], seconds: float = 5.0) -> _T:
        """
        Return what `job` makes of a reader, on another thread.

        Raises:
            ReadTimeoutError: It took more than `seconds`.
            SinkError: The store cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, job, seconds)

    def read_here(self, job: Callable[[Reader], _T], seconds: float = 5.0) -> _T:
        """Do as `read`, on the thread that calls."""
        return self._run(job, seconds)

    def close(self) -> None:
        """Wait for the reads under way, and close the connections."""
        self._threads.shutdown()
        with self._lock:
            for reader in self._open:
                reader.close()
            self._open.clear()

    def _run(self, job: Callable[[Reader], _T], seconds: float) -> _T:
        reader = self._reader()
        reader.limit(seconds)
        return job(reader)

    def _reader(self) -> Reader:
        known: tuple[Reader, tuple[int, int]] | None = getattr(self._own, "reader", None)
        identity = file_identity(self.path)
        if known is not None:
            if known[1] == identity:
                return known[0]
            self._own.reader = None
            with self._lock:
                self._open = [each for each in self._open if each is not known[0]]
            known[0].close()
        if not has_store(self.path):
            problem = "does not exist" if identity is None else "is empty"
            raise SinkError(self.path, problem, "Give the path that a SQLite exporter writes to.")
        try:
            reader = Reader(self.path, connect_to_read(self.path))
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error
        self._own.reader = reader, identity
        with self._lock:
            self._open.append(reader)
        return reader


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another one at the same path; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def cut(column: str, most: int) -> str:
    """Return an expression for a column as text of at most so many bytes, beyond NUL characters too."""
    # SQLite's length() and substr() of text end at the first NUL; those of bytes do not.
    whole = f"CAST({column} AS BLOB)"
    return f"iif(length({whole}) > {most}, CAST(substr({whole}, 1, {most}) AS TEXT), CAST({column} AS TEXT))"


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")
