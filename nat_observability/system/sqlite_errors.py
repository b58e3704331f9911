"""Errors of SQLite: whether a file is busy or damaged, and an error that names the cure."""

from __future__ import annotations

import os
import sqlite3

from nat_observability.errors import SinkError
from nat_observability.system.disk import ANOTHER_DISK, ELSE, FILE_SIZES, WRITABLE

DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What Python's module raises: it cannot always decode what SQLite says about a damaged file."""

_MOVE_AWAY = "Move it away, with its -wal and -shm files, or choose another path."
_CURES = {
    sqlite3.SQLITE_BUSY: "Another process keeps it locked: end that process, or choose another path.",
    sqlite3.SQLITE_CANTOPEN: WRITABLE,
    sqlite3.SQLITE_CORRUPT: _MOVE_AWAY,
    sqlite3.SQLITE_ERROR: _MOVE_AWAY,
    sqlite3.SQLITE_FULL: ANOTHER_DISK,
    sqlite3.SQLITE_IOERR: f"Check that disk. {FILE_SIZES}",
    sqlite3.SQLITE_NOTADB: _MOVE_AWAY,
    sqlite3.SQLITE_PERM: WRITABLE,
    sqlite3.SQLITE_READONLY: WRITABLE,
}


def database_error(path: str | os.PathLike[str], doing: str, error: Exception) -> SinkError:
    """Return the error to raise when SQLite refused `doing` with the file at `path`."""
    return SinkError(str(path), f"{doing}: {error}", _CURES.get(primary_code(error), ELSE))


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite refused because another connection has locked the file."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite found that the file is damaged, or not a database."""
    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def primary_code(error: BaseException | None) -> int:
    """Return which of SQLite's primary result codes an error has; 0 if it is none of SQLite's."""
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    # The primary code is the low byte. An error of Python's own module has none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
