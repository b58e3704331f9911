"""What the spool asks of the disk besides SQLite: a directory, a mutex for it, and errors that name the cure."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from nat_observability.errors import SinkError

try:
    import fcntl
except ImportError:  # Windows, where nothing but the mutex is missed
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 1.0  # seconds
_BESIDE = ("-wal", "-journal")  # what SQLite puts beside a file

_FREE = "Free space on that disk, or choose a directory on another one."
_LIMIT = "Check that disk, and the limit on file sizes (ulimit -f)."
_WRITABLE = "Choose a directory that this user can write."
_DIRECTORY = "Choose the path of a directory: a file is in the way."
_OPEN_FILES = "Raise the limit on open files (ulimit -n), or close what is not needed."
_OS_CURES = {
    errno.EACCES: _WRITABLE,
    errno.EDQUOT: _FREE,
    errno.EEXIST: _DIRECTORY,
    errno.EFBIG: _LIMIT,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.ENOSPC: _FREE,
    errno.ENOTDIR: _DIRECTORY,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
}
_DATABASE_CURES = {
    sqlite3.SQLITE_BUSY: "Another process has it: nothing is to be done.",
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_FULL: _FREE,
    sqlite3.SQLITE_IOERR: _LIMIT,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_READONLY: _WRITABLE,
}
_ELSE = "Check that path and the disk that it is on."


def disk_error(path: Path, doing: str, error: OSError) -> SinkError:
    """Return the error to raise when the system refused `doing` with `path`."""
    return SinkError(str(path), f"{doing}: {error.strerror or error}", _OS_CURES.get(error.errno or 0, _ELSE))


def database_error(path: Path, doing: str, error: Exception) -> SinkError:
    """Return the error to raise when SQLite refused `doing` with the file at `path`."""
    return SinkError(str(path), f"{doing}: {error}", _DATABASE_CURES.get(_code(error), _ELSE))


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite refused because another connection has the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What Python's module raises: it cannot always decode what SQLite says of a damaged file."""


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite found the file damaged, or not to be one of its own."""
    return isinstance(error, UnicodeDecodeError) or _code(error) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _code(error: BaseException | None) -> int:
    # The primary code is the low byte. It is absent where Python's own module raised the error.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def make_private_directory(path: Path) -> None:
    """
    Create the directory and its missing parents, each with mode 0700; existing ones stay as they are.

    Raises:
        SinkError: The system refused.
    """
    try:
        for each in reversed([path, *path.parents]):
            if not each.is_dir():
                with contextlib.suppress(
                    FileExistsError
                ):  # of another process's making, or a file: see below
                    each.mkdir(0o700)
        os.listdir(path)
    except OSError as error:
        raise disk_error(path, "cannot be used for the spool", error) from error


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """
    Keep other processes, and other spools of this one, from looking through the directory at the same time.

    Two that open one file at once may both be told that the other has it, and leave it. That is all that it
    prevents, so it is not insisted upon: where the lock is not to be had within a second (its holder is
    suspended, the file system has none), things go on without it.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                descriptor = os.open(directory, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
                _wait_for(descriptor)
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile holds it open too
            os.close(descriptor)


def _wait_for(descriptor: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
        time.sleep(0.002)


def stamp() -> str:
    """Return the time as it stands in file names: by name, they are in order of time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S%f}"


def move_aside(path: Path, why: str = "corrupt") -> Path | None:
    """
    Rename what is at `path`, and what SQLite put beside it, so that nobody takes it for a spool file.

    Args:
        path: A file, or whatever has its name.
        why: A word for the new name, which goes on with the time.

    Returns:
        The new path; None where nothing is there any more.

    Raises:
        SinkError: The system refused.
    """
    aside = path.with_name(f"{path.name}.{why}-{stamp()}")
    try:
        path.rename(aside)
        for suffix in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(path, "cannot be moved aside", error) from error
    return aside


def delete(path: Path) -> None:
    """Delete the file, and what SQLite put beside it, as far as the system allows."""
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(OSError):
            os.unlink(f"{path}{suffix}")
