"""The spool's mark: a small file in its directory, which says whose records it holds and where they go."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from nat_observability.errors import SinkError
from nat_observability.spool.database import PATTERN
from nat_observability.spool.directory import alone_in

NAME = "spool-owner.json"


class _Mark(msgspec.Struct, frozen=True):
    """What the file holds; what a newer version adds is ignored."""

    exporter: str
    destination: str | None = None


def claim(directory: Path, exporter: str, destination: str | None) -> None:
    """
    Mark the directory as this exporter's. One without a mark, or without records, is free to take.

    Args:
        directory: It exists, and no other process looks through it.
        exporter: The exporter's name.
        destination: Where its records go; None if that is unknown, which agrees with all.

    Raises:
        SinkError: It holds records of another exporter, or for another destination.
    """
    path, own = directory / NAME, _Mark(exporter, destination)
    known = _read(path)
    if known == own:
        return
    if known is not None and _holds_records(directory):
        if known.exporter != exporter:
            raise SinkError(
                str(directory),
                f"is the spool of exporter {known.exporter!r}, and would let {exporter!r} send what that one has "
                "left there",
                "Give each exporter a spool_path of its own. If the exporter was only renamed, delete "
                f"{NAME} there.",
            )
        if destination is None:
            return
        if known.destination not in (None, destination):
            raise SinkError(
                str(directory),
                f"holds what exporter {exporter!r} has left for {known.destination}, and would send it to "
                f"{destination}",
                f"Give it another spool_path. To send what is there to {destination}, delete {NAME} there.",
            )
    _write(path, own)


def unclaim(directory: Path) -> None:
    """Remove the mark of a directory that holds no records, as far as the system allows."""
    if not _holds_records(directory):
        with contextlib.suppress(OSError), alone_in(directory):
            if not _holds_records(directory):
                os.unlink(directory / NAME)


def _holds_records(directory: Path) -> bool:
    return next(directory.glob(PATTERN), None) is not None


def _read(path: Path) -> _Mark | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Mark)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _write(path: Path, mark: _Mark) -> None:
    # A disk that has no room for the mark may still give out the records; the next one to open it tries again.
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{NAME}-", dir=path.parent)  # with mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(mark))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
