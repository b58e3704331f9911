"""What the sinks that write to a disk share: directories of the owner's alone, and errors that name the cure."""

from __future__ import annotations

import contextlib
import errno
import os

from nat_observability.errors import SinkError

_CURES = {
    errno.EACCES: "Give this user write permission, or choose another path.",
    errno.EDQUOT: "Free some of this user's quota, or choose a path on another disk.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f), or lower max_bytes.",
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
