"""SpoolDatabase: the SQLite database that holds records, locked by one process."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from nat_observability.errors import ObservabilityError, SinkError
from nat_observability.spool.directory import (
    delete,
    move_aside,
    stamp,
)
from nat_observability.system.disk import disk_error
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, is_busy, is_damage

PATTERN = "spool-*.sqlite3"
"""The pattern of the file names; by name the files are in the order of their creation."""

MAX_KEY = 2**40

_APPLICATION_ID = int.from_bytes(b"NaSp")
# Each version reads the files of those before it, and leaves later ones alone: version 1 would lose what records hold
# now, such as attributes.
_SCHEMA_VERSION = 2
_SCHEMA = (
    "CREATE TABLE records (key INTEGER PRIMARY KEY, time REAL NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE rejected (key INTEGER PRIMARY KEY, time REAL NOT NULL, data BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_WELL_FORMED = f"typeof(time) = 'real' AND typeof(data) = 'blob' AND key BETWEEN 0 AND {MAX_KEY - 1}"
_LOG_LIMIT = 16 * 1024 * 1024  # bytes that an empty log keeps on the disk
_ATTEMPTS = 3
_MANY = 64
_INSERT = "INSERT INTO records VALUES (?, ?, ?)"
_INSERT_MANY = _INSERT + ", (?, ?, ?)" * (_MANY - 1)
_SHRINK_PAGES = 2048  # 8 MB: some milliseconds

KeyRange = tuple[int, int]
"""A first key, and the key after the last."""


class DamagedDatabaseError(ObservabilityError):
    """Raised when a database is damaged, or was never a spool's; `database` is still open."""

    def __init__(self, database: SpoolDatabase, problem: str) -> None:
        self.database, self.problem = database, problem
        super().__init__(f"{database.path}: {problem}")


class Totals(msgspec.Struct, frozen=True):
    """What a database holds: how many records, of how many bytes, between which keys."""

    records: int
    bytes: int
    keys: KeyRange


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    return there.st_dev, there.st_ino


class SpoolDatabase:
    """
    Records by key; open, and exclusively locked, from `create` or `adopt` to `close`.

    The lock is SQLite's own, which its exclusive locking mode holds from the first access on: a POSIX record lock
    on the file. It ends with the process, however that ends; a forked child neither inherits it nor releases it by
    closing its copy of the descriptor; and a second connection within the process is refused too. The price: code of
    this process that opened and closed the file by other means would release it
    (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_). In this
    mode, SQLite shares no memory with other processes either.

    Attributes:
        is_current: Whether it is of this version of the package, and not of an older one.

    Every method raises SinkError if the disk refuses, and DamagedDatabaseError if what is read is not what was written.
    Nothing has changed then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_current = True
        self._durable: bool | None = None
        self._identity = _identity_of(path)
        try:
            # No isolation level: the sqlite3 module begins no transactions of its own.
            self._connection = sqlite3.connect(
                f"{path.as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
        except DATABASE_ERRORS as error:
            raise database_error(path, "cannot be opened", error) from error

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make an empty database that only its owner can read, of mode 0600."""
        for _ in range(_ATTEMPTS - 1):
            # Another process may find the file before it is locked, and delete it.
            with contextlib.suppress(SinkError):
                return cls._create(directory)
        return cls._create(directory)

    @classmethod
    def _create(cls, directory: Path) -> Self:
        path = directory / PATTERN.replace("*", f"{stamp()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            os.close(os.open(path, flags, 0o600))
        except OSError as error:
            raise disk_error(directory, "cannot be written", error) from error
        try:
            database = cls(path)
            try:
                database._begin_empty()
            except BaseException:
                database.close()
                raise
        except BaseException:
            delete(path)
            raise
        return database

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """
        Take over a database whose owner has died or closed it.

        Returns:
            None if its owner lives; if the file is gone; and if it was never finished, which deletes it.

        Raises:
            SinkError: This user cannot write it, or a newer version of the package did. It is left as it was.
            DamagedDatabaseError: It is not what a spool writes. It stays open, for what can be salvaged.
        """
        database = cls(path)
        try:
            if database._take_over():
                return database
        except DamagedDatabaseError:
            raise
        except BaseException:
            database.close()
            raise
        database.close()
        return None

    @property
    def in_place(self) -> bool:
        """Whether the file is still at its path, and not a copy of it or nothing; without opening it."""
        return self._identity is not None and _identity_of(self.path) == self._identity

    @property
    def disk_bytes(self) -> int:
        """The bytes that the file and its log take up; from any thread."""
        size = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size += os.stat(f"{self.path}{suffix}").st_size
        return size

    def insert(self, rows: Iterable[tuple[int, float, bytes]], *, durable: bool = True) -> None:
        """Add records in one transaction, which is on the disk when this returns, or with the next durable one."""
        with self._transaction(durable=durable) as connection:
            left = iter(rows)
            # Many with one statement: Python releases its lock (the GIL) for each, and under load gets it back 5 ms
            # later.
            while many := list(itertools.islice(left, _MANY)):
                if len(many) == _MANY:
                    connection.execute(_INSERT_MANY, list(itertools.chain.from_iterable(many)))
                else:
                    connection.executemany(_INSERT, many)

    def erase(self, ranges: Sequence[KeyRange]) -> None:
        """Delete records, without waiting for the disk: after a power cut they may be there again."""
        with self._transaction(durable=False) as connection:
            connection.executemany("DELETE FROM records WHERE key >= ? AND key < ?", ranges)

    def reject(self, ranges: Sequence[KeyRange]) -> None:
        """Move records to a table that nothing takes from, and where a person can look at them."""
        with self._transaction(durable=False) as connection:
            connection.executemany(
                "INSERT INTO rejected (time, data) SELECT time, data FROM records WHERE key >= ? AND key < ?",
                ranges,
            )
            connection.executemany("DELETE FROM records WHERE key >= ? AND key < ?", ranges)

    def sizes(self, keys: KeyRange, limit: int) -> list[tuple[float, int, int]]:
        """Return time, key and size in bytes of the first records in this range."""
        return self._read(
            "SELECT time, key, length(data) FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (*keys, limit),
        )

    def data(self, ranges: Iterable[KeyRange]) -> dict[int, bytes]:
        """Return the records of these ranges, in which every key exists."""
        found: dict[int, bytes] = {}
        wanted = 0
        for low, high in ranges:
            wanted += high - low
            found.update(self._read("SELECT key, data FROM records WHERE key >= ? AND key < ?", (low, high)))
        if len(found) != wanted or set(map(type, found.values())) - {bytes}:
            raise DamagedDatabaseError(self, "records are missing, or are not what was written")
        return found

    def totals(self) -> Totals:
        """Look at every record, and count them."""
        try:
            [(count, size, low, high, odd)] = self._read(
                "SELECT count(*), coalesce(sum(length(data)), 0), coalesce(min(key), 0), coalesce(max(key), -1), "
                f"coalesce(sum(NOT ({_WELL_FORMED})), 0) FROM records"
            )
            self.has_rejected()
        except SinkError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                raise DamagedDatabaseError(self, f"has other tables: {error.__cause__}") from error
            raise
        if odd:
            raise DamagedDatabaseError(self, f"{odd} of its records are not what a spool writes")
        return Totals(count, size, (low, high + 1))

    def has_rejected(self) -> bool:
        """Whether it holds records that were rejected."""
        [(rejected,)] = self._read("SELECT EXISTS (SELECT 1 FROM rejected)")
        return bool(rejected)

    def rejected(self) -> list[tuple[int, bytes]]:
        """Return the records that were rejected, with keys of their own."""
        return self._read("SELECT key, data FROM rejected ORDER BY key")

    def erase_rejected(self, keys: Iterable[int]) -> None:
        """Delete records that were rejected."""
        with self._transaction(durable=False) as connection:
            connection.executemany("DELETE FROM rejected WHERE key = ?", [(key,) for key in keys])

    def overwrite_erased(self) -> None:
        """Have what is deleted from now on overwritten, also where SQLite was not built to do so."""
        with self._using() as connection:
            connection.execute("PRAGMA secure_delete = ON")

    def readable(self) -> Iterator[tuple[int, float, bytes]]:
        """Yield what can be read: from the oldest up to the damage, and then from the newest back."""
        query = f"SELECT key, time, data FROM records WHERE {_WELL_FORMED} AND key > ? ORDER BY key"
        last = -1
        for order in ("", " DESC"):
            with contextlib.suppress(*DATABASE_ERRORS):
                for row in self._connection.execute(query + order, (last,)):
                    if not order:
                        last = row[0]
                    yield row
                return

    def shrink(self) -> None:
        """Give pages back to the disk, a few at a time, if more than half of them are free."""
        [(pages,)] = self._read("PRAGMA page_count")
        [(free,)] = self._read("PRAGMA freelist_count")
        if 2 * free > pages:
            with self._using() as connection:
                # As a script: execute() would take one step of it, which is one page.
                connection.executescript(f"PRAGMA incremental_vacuum({_SHRINK_PAGES})")

    def close(self) -> None:
        """Close the database, and let go of the lock. What is in it can be taken over."""
        self._connection.close()

    def remove(self) -> None:
        """Close the database, and delete it with all that is in it."""
        # The log goes first, while the lock is held: without it, the file holds what was checkpointed.
        with contextlib.suppress(*DATABASE_ERRORS):
            self._connection.execute("PRAGMA journal_mode = DELETE")
        delete(self.path)
        self._connection.close()

    def move_aside(self) -> Path | None:
        """Close a damaged database, and rename it as it is; return its new path, None if it is gone."""
        try:
            return move_aside(self.path)
        finally:
            self._connection.close()

    def retire(self) -> None:
        """Close the database, and rename it, for the sake of the rejected records in it."""
        try:
            with self._using() as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
            with contextlib.suppress(OSError):
                os.unlink(f"{self.path}-journal")  # which stays in exclusive mode, and means nothing
            move_aside(self.path, "rejected")
        finally:
            self._connection.close()

    def _begin_empty(self) -> None:
        with self._using() as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._lock(connection)
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
            self._use_log(connection)
        if not self.in_place:
            raise SinkError(str(self.path), "was deleted while it was created", "Try again.")

    def _take_over(self) -> bool:
        try:
            with self._using() as connection:
                self._lock(connection)
                [(application,)] = connection.execute("PRAGMA application_id")
                [(version,)] = connection.execute("PRAGMA user_version")
                [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_master")
                connection.execute("COMMIT")
        except SinkError as error:
            if is_busy(error.__cause__):
                return False
            raise
        if not self.in_place:
            return False
        if not application and not tables:
            delete(self.path)  # its owner died while it was created
            return False
        if application != _APPLICATION_ID:
            raise DamagedDatabaseError(self, "is another program's database")
        if version > _SCHEMA_VERSION:
            problem = f"has version {version}, and this version of the package knows {_SCHEMA_VERSION}"
            cure = "It was left as it is: upgrade nat-observability to deliver what is in it."
            raise SinkError(str(self.path), problem, cure)
        self.is_current = version == _SCHEMA_VERSION
        with self._using() as connection:
            self._use_log(connection)
        return True

    def _lock(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")

    def _use_log(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
        connection.execute("PRAGMA cell_size_check = ON")

    def _read(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._using() as connection:
            return connection.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            if connection.in_transaction:  # a disk that refused to write may have refused to roll back too
                connection.execute("ROLLBACK")
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(*DATABASE_ERRORS):
                    if connection.in_transaction:  # SQLite itself rolls back if the disk is full
                        connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except DATABASE_ERRORS as error:
            if is_damage(error):
                raise DamagedDatabaseError(self, str(error)) from error
            raise database_error(self.path, "was refused by the disk", error) from error
