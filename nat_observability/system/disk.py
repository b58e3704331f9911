"""Disk access: private directories, locks, positioned reads, and errors that name the cure."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from nat_observability.errors import SinkError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags for opening any file: Windows lacks the first, and without the second it ends a line in two characters."""

HAS_FLOCK = fcntl is not None
"""Whether `lock` does anything. If it does not, `lock_beside` does."""

_RETRY_AFTER = 0.01  # seconds between two attempts to lock a file on Windows
_positioning = threading.Lock()

OPEN_FILES = "Raise the limit on open files (ulimit -n), or close files that are not needed."
FILE_SIZES = "Raise the limit on file sizes (ulimit -f), or lower the size that this file may have."
WRITABLE = "Give this user write permission, or choose another path that it can write."
ANOTHER_DISK = "Free space on that disk, or choose a path on another one."
ELSE = "Check that path and the disk that it is on."
"""Cures for what a disk refuses, SQLite's errors included."""

_IN_THE_WAY = "In this path, a file is in the way of a directory: choose another path."
_NO_LOCKS = "Choose a path on a file system that has file locks, such as a local disk."
_CURES = {
    errno.EACCES: WRITABLE,
    errno.EDQUOT: "Free some of this user's quota, or choose a path on another disk.",
    errno.EEXIST: _IN_THE_WAY,
    errno.EFBIG: FILE_SIZES,
    errno.EISDIR: "Give the path of a file, not of a directory.",
    errno.EMFILE: OPEN_FILES,
    errno.ENFILE: OPEN_FILES,
    errno.ENOLCK: _NO_LOCKS,
    errno.ENOSPC: ANOTHER_DISK,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ENOTSUP: _NO_LOCKS,
    errno.EPERM: WRITABLE,
    errno.EROFS: WRITABLE,
}


def disk_error(path: str | os.PathLike[str], doing: str, error: OSError) -> SinkError:
    """Return the error to raise when the system refused `doing` with the file or directory at `path`."""
    return SinkError(str(path), f"{doing}: {error.strerror or error}", _CURES.get(error.errno or 0, ELSE))


def file_path(path: str | os.PathLike[str]) -> str:
    """
    Return the absolute path of a file to write.

    Raises:
        ValueError: It is empty, a URL, or one of the names that databases have for what is no file.
    """
    text = os.fsdecode(path)
    if not is_file_path(text) or text.endswith(("/", os.sep)):
        raise ValueError(
            f"{text!r} is not a path of a file. Write one without a scheme, as in 'var/spans.jsonl'; to keep spans in "
            "memory use MemorySink."
        )
    return os.path.abspath(text)


def is_file_path(text: str) -> bool:
    """Whether a text names a file: it is not empty, no URL, and not one of the names that SQLite has for memory."""
    return (
        bool(text.strip())
        and "://" not in text
        and "\0" not in text
        and not text.startswith((":memory:", "file:"))
    )


def make_private_directories(path: str) -> None:
    """
    Create the directory `path` and its missing parents, each with mode 0700; existing ones stay as they are.

    `path` is absolute. `os.makedirs` applies its mode to the last directory only, and leaves the parents readable by
    anyone.
    """
    if os.path.isdir(path):
        return
    make_private_directories(os.path.dirname(path))
    # Another process may create it in between. If a file has this name, opening the path below it says so.
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def lock(fd: int) -> None:
    """Wait for the exclusive lock on an open file."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX)


def unlock(fd: int) -> None:
    """Release the exclusive lock."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextlib.contextmanager
def lock_beside(path: str) -> Iterator[None]:
    """
    Hold the lock of `path` on systems without `flock`; do nothing if there is one.

    It locks the file `path.lock`. On Windows a locked file cannot be read, nor an open one renamed: a lock on the file
    itself would keep it from being read and rolled.
    """
    if HAS_FLOCK:
        yield
        return
    try:
        import msvcrt
    except ImportError:  # neither kind of lock: writes are still appended in one go
        yield
        return
    make_private_directories(os.path.dirname(path))
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
    try:
        _wait_for(msvcrt, fd)
        try:
            yield
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    finally:
        os.close(fd)


def _wait_for(msvcrt: Any, fd: int) -> None:
    while True:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
        time.sleep(_RETRY_AFTER)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes, starting at `offset`. From any thread."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    with _positioning:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
