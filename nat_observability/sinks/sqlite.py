"""SqliteSink: keeps spans in the embedded store, over a connection that outlives forks and moved files."""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Literal

from nat_observability.errors import SinkError
from nat_observability.events import Span
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import Batch, RunLedger
from nat_observability.store.deletion import Retention, delete_runs, give_back
from nat_observability.store.open_steps import OpenStepRows
from nat_observability.store.schema import create_schema, has_store, prepare_empty
from nat_observability.store.writing import BatchRows, write_ledgers
from nat_observability.system.clock import monotonic
from nat_observability.system.disk import OPEN_FLAGS, disk_error, file_path, make_private_directories
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, primary_code

Synchronous = Literal["off", "normal", "full"]

_TIDY_EVERY = 1.0  # seconds between two looks, if there is nothing to delete
_TIDY_LATER = 60.0  # if there are no limits, or the store cannot follow them
_TIDY_FOR = 0.2  # seconds of deleting at a stretch
_BUSY_TIMEOUT = 10.0
_FORK_PATIENCE = 1.0
_LOG_LIMIT = 64 * 1024 * 1024
_LOG_LONG = 16 * 1024 * 1024
_LOG_STEP = 2 * 1024 * 1024  # between two attempts to shorten it
_LOG_PATIENCE = 0.5

_log = get_logger()


class SqliteSink:
    """
    Stores spans in a SQLite file that `Store` and the CLI read, also while it is written.

    The file, and the log and the index that SQLite puts beside it, can be read by their owner alone (0600, and
    0700 for directories that are created). Several processes may write to one file; each waits for the others.

    A batch is one transaction: it is stored whole or, if `write` raises, not at all. A span that is delivered again
    replaces itself. The store also keeps the run of each span: it starts with its first span and ends with its last;
    its name is that of its first root span (one whose parent is None or `Run.parent_span_id`); its status is 'open'
    until a root span has come, 'error' as soon as one has failed or is incomplete, and else 'ok'. Its error is that of
    the failed root span; of several, the first in alphabetical order.

    A file that is deleted or moved while the sink is open is created again. A fork while it is open waits for the
    batch under way, for a second at most; both processes may then write.

    A store that an earlier release has made (version 1) is written as that release did: without counters, ledgers, open
    steps and limits, until `nat-observability migrate` has made it one of version 2.

    Args:
        path: The file; a relative path is resolved when the sink is made.
        synchronous: When SQLite waits for the disk (https://sqlite.org/pragma.html#pragma_synchronous). With
            "normal" a power cut can lose the newest batches, and the end of the process none; "full" waits at
            each batch; with "off" a power cut can damage the file.
        keep_for: Seconds after its end for which a run is kept; None keeps it.
        keep_size: Bytes that the store may hold; what is over goes, whole finished runs, the oldest first. The free
            space goes back to the file system. None has no limit.

    Raises:
        ValueError: A setting is out of its range, or the path is that of no file, such as `:memory:` or a URL.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "normal",
        keep_for: float | None = None,
        keep_size: int | None = None,
    ) -> None:
        if synchronous not in ("off", "normal", "full"):
            raise ValueError(f"synchronous is 'off', 'normal' or 'full', not {synchronous!r}.")
        if keep_for is not None and not keep_for > 0:
            raise ValueError(f"keep_for is more than 0 seconds or None, not {keep_for!r}.")
        if keep_size is not None and not keep_size > 0:
            raise ValueError(f"keep_size is more than 0 bytes or None, not {keep_size!r}.")
        self.path = file_path(path)
        self._connection = WriterConnection(self.path, synchronous)
        self._retention = Retention(keep_for, keep_size)
        self._is_limited = bool(self._retention)
        self._open_steps = OpenStepRows()
        self._has_shown_steps = False

    def open(self) -> None:
        """
        Open the store, and create it and its directories if they are missing.

        Raises:
            SinkError: The path cannot be opened, or the file is damaged, another program's, or newer. It is not
                changed.
        """
        self._connection.open()
        if self._connection.version == 1 and self._is_limited:
            _log.warning(
                "store_not_migrated",
                path=self.path,
                cure=f"It keeps everything until it is of version 2: nat-observability migrate {self.path}",
            )

    def write(self, batch: Batch) -> None:
        """
        Store the spans of the batch, and what they say about their runs.

        Raises:
            SinkError: The batch holds something other than spans, or a value that SQLite cannot hold; or SQLite
                refused to write. No part of the batch was stored, and the sink remains usable.
        """
        spans: list[Span] = []
        for span in batch:
            if not isinstance(span, Span):
                problem = f"stores spans, and was given an item of type {type(span).__name__}"
                raise SinkError(self.path, problem, "Use SqliteSink with an exporter that makes spans.")
            spans.append(span)
        try:
            with self._connection.transaction() as connection:
                again = self._has_shown_steps and self._open_steps.has_any(spans)
                BatchRows(spans, self._connection.version, again=again).write(connection)
        except (OverflowError, UnicodeEncodeError) as error:
            cure = "Mend what recorded it: text has to be valid Unicode, and integers fit into 64 bits."
            raise SinkError(self.path, f"a span of the batch cannot be stored: {error}", cure) from error

    def write_report(self, reports: Sequence[RunLedger]) -> None:
        """
        Store what became of the items of runs that have ended, for the runs that the store knows.

        Raises:
            SinkError: As `write`.
        """
        with self._connection.transaction() as connection:
            if self._connection.version > 1:
                write_ledgers(connection, reports)

    def write_running(self, spans: Sequence[Span]) -> None:
        """
        Store the steps that are open now, as spans with the status 'running'; those of the call before end with this.

        The finished span of such a step replaces it.

        Raises:
            SinkError: As `write`.
        """
        if self._connection.version == 1 or not (spans or self._has_shown_steps):
            return
        if not self._open_steps.is_due(spans):
            return
        self._has_shown_steps = True
        try:
            with self._connection.transaction() as connection:
                self._open_steps.update(connection, self._connection.version, spans)
        except (OverflowError, UnicodeEncodeError) as error:
            cure = "Mend what recorded it: text has to be valid Unicode, and integers fit into 64 bits."
            raise SinkError(self.path, f"an open step cannot be stored: {error}", cure) from error

    def tidy(self) -> float:
        """
        Delete runs that are over the limits, for a fifth of a second at most, and give free space back.

        Returns:
            Seconds after which it is to be called again.

        Raises:
            SinkError: As `write`.
        """
        if not self._is_limited or self._connection.version == 1:
            return _TIDY_LATER
        until = monotonic() + _TIDY_FOR
        while monotonic() < until:
            with self._connection.transaction() as connection:
                outdated = self._retention.outdated(connection)
                delete_runs(connection, outdated, self._connection.version)
            with self._connection.outside_transaction() as connection:
                more = give_back(connection)
            if not outdated and not more:
                return _TIDY_EVERY
        return 0.0

    def close(self) -> None:
        """Close the store; does nothing if it is not open."""
        if self._has_shown_steps and self._open_steps.has_reported:
            try:
                with self._connection.transaction() as connection:
                    if self._connection.version > 1:
                        self._open_steps.end(connection)
            except SinkError as error:
                # Readers see by the heartbeat that the process has ended.
                _log.info("store_close_incomplete", path=self.path, error=str(error))
        self._connection.close()


class _State(enum.Enum):
    CLOSED = enum.auto()
    OPEN = enum.auto()
    DETACHED = enum.auto()  # open, but not connected since a fork
    LOST = enum.auto()  # in a forked child: the parent was writing, and its connection was copied


class WriterConnection:
    """
    Writes to the store at `path`, one transaction at a time, from any thread.

    SQLite cannot carry a connection across a fork: its record of the locks that the process holds would be copied, and
    parent and child would overwrite each other's transactions
    (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_). So a fork waits for the
    transaction under way, for a second at most, and closes the connection; each side opens its own when it needs one.
    If the second was not enough, the child cannot use the store.

    Attributes:
        version: The version of the store's schema, as of the last transaction or `open`.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        self.path = path
        self._synchronous = synchronous
        self._state = _State.CLOSED
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self.version = 0
        self._log_limit = _LOG_LONG
        # Held for a whole transaction, and during a fork: the thread that forks is not the one that writes.
        self._lock = threading.Lock()
        self._held_for_fork = False
        with _registry:
            _connections.add(self)

    def open(self) -> None:
        """
        Connect, and create the store and its directories if they are missing.

        Raises:
            SinkError: The path cannot be opened, or the file is damaged, another program's, or newer.
        """
        with self._lock:
            self._disconnect(_State.CLOSED)
            self._connect()

    def close(self) -> None:
        """Disconnect; does nothing if nothing is open."""
        with self._lock:
            if self._state is not _State.LOST:
                self._disconnect(_State.CLOSED)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Yield the connection for one transaction, which is rolled back if the body raises.

        Raises:
            SinkError: The connection is not open, or SQLite refused; no part of the transaction was stored.
        """
        with self._lock:
            connection = self._current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    # Another process may have migrated it meanwhile.
                    self.version = connection.execute("PRAGMA user_version").fetchone()[0]
                    yield connection
                    connection.execute("COMMIT")
                    self._shorten_log(connection)
                except BaseException:
                    if connection.in_transaction:  # SQLite itself rolls back if the disk is full
                        connection.execute("ROLLBACK")
                    raise
            except DATABASE_ERRORS as error:
                raise database_error(self.path, "cannot be written", error) from error

    @contextlib.contextmanager
    def outside_transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Yield the connection for statements that are transactions of their own.

        Raises:
            SinkError: The connection is not open, or SQLite refused.
        """
        with self._lock:
            connection = self._current()
            try:
                yield connection
            except DATABASE_ERRORS as error:
                raise database_error(self.path, "cannot be written", error) from error

    def before_fork(self) -> None:
        """Wait for the transaction under way, and disconnect."""
        self._held_for_fork = self._lock.acquire(timeout=_FORK_PATIENCE)
        if self._held_for_fork and self._state is _State.OPEN:
            self._disconnect(_State.DETACHED)

    def after_fork(self, *, in_child: bool) -> None:
        """Allow transactions again."""
        if self._held_for_fork:
            self._lock.release()
        elif in_child:
            self._lock = threading.Lock()  # the thread that holds the old one does not exist in this process
            self._state = _State.LOST

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """
        Begin the log anew once it is long.

        SQLite does so by itself only while no reader looks on: with readers that come one after another, never. This
        waits for those of the moment, while new ones read the file itself.
        """
        with contextlib.suppress(OSError, *DATABASE_ERRORS):
            size = os.stat(f"{self.path}-wal").st_size
            if size < self._log_limit:
                return
            connection.execute(f"PRAGMA busy_timeout = {int(_LOG_PATIENCE * 1000)}")
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1000)}")
            # Someone reads for long: not each batch is to wait for that.
            self._log_limit = size + _LOG_STEP if busy else _LOG_LONG

    def _current(self) -> sqlite3.Connection:
        if self._state is _State.CLOSED:
            raise SinkError(self.path, "is not open", "Call open() before write().")
        if self._connection is not None and self._file is not None and self._state is _State.OPEN:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._file, os.stat(self.path)):
                    return self._connection
            # The file was deleted or moved, and further writes would be invisible. The newest spans are still in the
            # log, which is bound to the path: a moved file would lack them.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect(_State.DETACHED)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._state is _State.LOST:
            cure = "Fork before the exporters start, or start processes with 'spawn'."
            raise SinkError(self.path, "was being written when this process was forked off", cure)
        try:
            make_private_directories(os.path.dirname(self.path))
            if not has_store(self.path):
                # SQLite gives its log and its index the mode of this file.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600))
        except OSError as error:
            raise disk_error(self.path, "cannot be opened", error) from error
        try:
            # No isolation level: our transactions are explicit, and the sqlite3 module begins none of its own.
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                prepare_empty(connection)
                _use_log(connection)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                # What an erasure overwrites must not be left where a step was replaced before.
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
                self.version = create_schema(connection, self.path)
                self._file = os.stat(self.path)
            except BaseException:
                connection.close()
                raise
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be opened", error) from error
        self._connection, self._state = connection, _State.OPEN
        return connection

    def _disconnect(self, state: _State) -> None:
        if self._state is _State.LOST:
            return
        connection, self._connection, self._state = self._connection, None, state
        if connection is not None:
            connection.close()


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait by itself for this if another process is creating the same store."""
    deadline = monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
        time.sleep(0.01)


_registry = threading.Lock()
_connections: weakref.WeakSet[WriterConnection] = weakref.WeakSet()
_over_fork: list[WriterConnection] = []


def _before_fork() -> None:
    _registry.acquire()
    _over_fork[:] = _connections
    for connection in _over_fork:
        connection.before_fork()


def _after_fork(*, in_child: bool) -> None:
    for connection in _over_fork:
        connection.after_fork(in_child=in_child)
    _over_fork.clear()
    _registry.release()


at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)
