"""What the sinks that write to a disk share: private directories, locks, and errors that name the cure."""

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
"""To open any file with: the first is missing on Windows, where without the second a line ends in two characters."""

HAS_FLOCK = fcntl is not None
"""Whether `lock` does anything. Where it does not, `lock_beside` does."""

_RETRY_AFTER = 0.01  # seconds between two attempts to lock a file on Windows
_positioning = threading.Lock()
_OPEN_FILES = "Raise the limit on open files (ulimit -n), or close what is not needed."
_CURES = {
    errno.EACCES: "Give this user write permission, or choose another path.",
    errno.EDQUOT: "Free some of this user's quota, or choose a path on another disk.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f), or lower max_bytes.",
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.EISDIR: "Give the path of a file, not of a directory.",
    errno.ENOLCK: "Choose a path on a file system that has file locks, such as a local disk.",
    errno.ENOSPC: "Free space on that disk, or choose a path on another one.",
    errno.ENOTDIR: "One of the directories in this path is a file: choose another path.",
    errno.ENOTSUP: "Choose a path on a file system that has file locks, such as a local disk.",
    errno.EPERM: "Give this user write permission, or choose another path.",
    errno.EROFS: "Choose a path on a file system that can be written.",
}


def disk_error(path: str, doing: str, error: OSError) -> SinkError:
    """Return the error to raise when the system refused `doing` with the file at `path`."""
    cure = _CURES.get(error.errno or 0, "Check that path and the disk that it is on.")
    return SinkError(path, f"{doing}: {error.strerror or error}", cure)


def make_private_directories(path: str) -> None:
    """
    Create the directory `path` and its missing parents, each with mode 0700; existing ones stay as they are.

    `os.makedirs` gives its mode to the last directory only, and parents that anyone can read.
    """
    if os.path.isdir(path):
        return
    make_private_directories(os.path.dirname(path))
    # Another process may make it in between. Where a file has this name, opening the path below it says so.
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def lock(fd: int) -> None:
    """Wait for the exclusive lock on an open file."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX)


def unlock(fd: int) -> None:
    """Give the exclusive lock back."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextlib.contextmanager
def lock_beside(path: str) -> Iterator[None]:
    """
    Hold the lock of `path` on systems without `flock`; do nothing where there is one.

    It is a lock on the file `path.lock`. Windows lets nobody read what is locked, nor rename what is open: a lock on
    the file itself would keep it from being read and rolled.
    """
    if HAS_FLOCK:
        yield
        return
    try:
        import msvcrt
    except ImportError:  # neither kind of lock: writes are appended in one go all the same
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
    """Return up to `size` bytes from `offset` on. From any thread."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    with _positioning:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
