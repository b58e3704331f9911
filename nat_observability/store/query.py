"""ReadConnection: queries to a store, each of them bounded in time, none of which leaves a transaction open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nat_observability.errors import SinkError
from nat_observability.store.schema import connect_to_read, has_store, missing_columns, schema_version
from nat_observability.system.clock import monotonic
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, primary_code

Parameters = tuple[object, ...] | Mapping[str, object]

_INSTRUCTIONS = (
    2_000  # of SQLite's virtual machine between two looks at the clock: a fraction of a millisecond
)


class ReadConnection:
    """
    An open store, for one thread at a time.

    Attributes:
        version: The store's schema version.
        lacking: Columns of spans that a store of version 1 does not have.
        has_tags: Whether runs have tags, which early stores have not.

    Raises:
        SinkError: The file is missing, damaged, another program's or newer than this package.
    """

    def __init__(self, path: str, time_limit: float) -> None:
        self.path = path
        self.time_limit = time_limit
        self._until: float | None = None
        if not has_store(path):
            problem = "is empty" if os.path.exists(path) else "does not exist"
            raise SinkError(path, problem, "Give the path that a SQLite exporter writes to.")
        try:
            self._connection = connect_to_read(path)
            try:
                self._file = os.stat(path)
                self.version = schema_version(self._connection)
                old = self.version == 1
                self.lacking = frozenset(missing_columns(self._connection, "spans") if old else ())
                self.has_tags = not (old and missing_columns(self._connection, "runs"))
                self._connection.set_progress_handler(self._is_late, _INSTRUCTIONS)
            except BaseException:
                self._connection.close()
                raise
        except DATABASE_ERRORS as error:
            raise database_error(path, "cannot be read", error) from error

    @property
    def is_replaced(self) -> bool:
        """Whether another file, or none, is at the path now."""
        try:
            return not os.path.samestat(self._file, os.stat(self.path))
        except OSError:
            return True

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self, query: str, parameters: Parameters = ()) -> list[Any]:
        """
        Return all rows of one query.

        Raises:
            SinkError: It took longer than the time limit, or the file cannot be read.
        """
        if self._until is not None:
            return self._fetched(query, parameters)
        with self.limited(self.time_limit):
            return self._fetched(query, parameters)

    def first(self, query: str, parameters: Parameters = ()) -> Any:
        """Return the first row of one query, None if there is none; as `rows`."""
        rows = self.rows(query, parameters)
        return rows[0] if rows else None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Give all the queries of a block so many seconds together, instead of the time limit to each."""
        outer, self._until = self._until, monotonic() + seconds
        if outer is not None:
            self._until = min(self._until, outer)
        try:
            yield
        finally:
            self._until = outer

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let the queries of a block see one state of the store, within the time limit."""
        with self.limited(self.time_limit):
            self._fetched("BEGIN", ())
            try:
                yield
            finally:
                # A reader that kept its transaction would let the writer's log grow without bound.
                if self._connection.in_transaction:
                    self._connection.rollback()

    def _is_late(self) -> bool:
        return self._until is not None and monotonic() >= self._until

    def _fetched(self, query: str, parameters: Parameters) -> list[Any]:
        try:
            return self._executed(query, parameters)
        except sqlite3.OperationalError as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise SinkError(
                    self.path,
                    "took too long to read",
                    "Ask for less, or give more time: Store(path, time_limit=...).",
                ) from error
            raise database_error(self.path, "cannot be read", error) from error
        except OverflowError as error:
            cure = "Give a number that fits into 64 bits."
            raise SinkError(self.path, f"was asked for a number that is too large: {error}", cure) from error
        except UnicodeEncodeError as error:
            cure = "Nothing in a store is like that: check the encoding of what you are looking for."
            raise SinkError(
                self.path, f"was asked for text that is not valid Unicode: {error}", cure
            ) from error
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error

    def _executed(self, query: str, parameters: Parameters) -> list[Any]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if not str(error).startswith("Could not decode to UTF-8"):
                raise
        # Another program's bytes: one cell of them must not hide every other row.
        self._connection.text_factory = _lenient
        try:
            return self._connection.execute(query, parameters).fetchall()
        finally:
            self._connection.text_factory = str


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def is_out_of_time(error: SinkError) -> bool:
    """Whether a query was ended because the time had run out."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and primary_code(cause) == sqlite3.SQLITE_INTERRUPT
