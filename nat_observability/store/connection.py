"""WriterConnection: the connection through which a process writes a store, across forks and moved files."""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator

from nat_observability.errors import SinkError
from nat_observability.store.schema import create_schema, has_store, prepare_empty
from nat_observability.system.clock import monotonic
from nat_observability.system.disk import OPEN_FLAGS, disk_error, make_private_directories
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, primary_code

_BUSY_TIMEOUT = 10.0
_FORK_PATIENCE = 1.0
_LOG_LIMIT = 64 * 1024 * 1024
_LOG_LONG = 16 * 1024 * 1024
_LOG_STEP = 2 * 1024 * 1024  # between two attempts to shorten it
_LOG_PATIENCE = 0.5


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
