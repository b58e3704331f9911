"""The spool's directory: making it, a mutex for it, and moving a file in it aside."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nat_observability.system.clock import monotonic
from nat_observability.system.disk import disk_error, make_private_directories

try:
    import fcntl
except ImportError:  # Windows, which lacks only the mutex
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 1.0  # seconds
_BESIDE = ("-wal", "-journal")  # what SQLite puts beside a file


def make_spool_directory(path: Path) -> None:
    """
    Create the directory and its missing parents, each with mode 0700; existing ones stay as they are.

    Raises:
        SinkError: The system refused.
    """
    try:
        make_private_directories(str(path.absolute()))
        os.listdir(path)
    except OSError as error:
        raise disk_error(path, "cannot be used for the spool", error) from error


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """
    Keep other processes, and other spools of this one, from looking through the directory at the same time.

    Two that open one file at once may each find it locked by the other, and both leave it. The lock prevents only that,
    so it is optional: if it cannot be taken within a second (its holder is suspended, the file system has no locks),
    the block runs without it.
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
    deadline = monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() >= deadline:
                return
        time.sleep(0.002)


def stamp() -> str:
    """Return the time as it stands in file names: by name, they are in order of time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S%f}"


def move_aside(path: Path, why: str = "corrupt") -> Path | None:
    """
    Rename what is at `path`, and what SQLite put beside it, so that it no longer looks like a spool file.

    Args:
        path: A file, or anything else of that name.
        why: A word for the new name, followed by the time.

    Returns:
        The new path; None if nothing is there any more.

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
