"""Whose a spool is: a mark in its directory for other processes, and a claim on it for the exporters of this one."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import msgspec

from nat_observability.errors import SinkError
from nat_observability.spool.database import PATTERN
from nat_observability.spool.directory import alone_in
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

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


class Claim:
    """
    One exporter's claim on a directory, once it is taken and for as long as this object lives.

    Args:
        directory: Absolute; it need not exist.
        exporter: The exporter's name.
    """

    def __init__(self, directory: Path, exporter: str) -> None:
        self._directory, self._exporter = directory, exporter

    def take(self) -> None:
        """
        Claim the directory. From any thread.

        Raises:
            SinkError: Another exporter of this process has claimed it.
        """
        with _claiming:
            for other in _claims.all():
                if other._exporter != self._exporter and _same(other._directory, self._directory):
                    raise SinkError(
                        str(self._directory),
                        f"is the spool of exporter {other._exporter!r}, and would let {self._exporter!r} send what "
                        "that one has left there",
                        "Give each exporter a spool_path of its own.",
                    )
            _claims.add(self)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)


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


def _renew_lock() -> None:
    global _claiming
    _claiming = threading.Lock()


_claims: WeakRegistry[Claim] = WeakRegistry()
_claiming = threading.Lock()
# A thread that is not in the child may hold it.
at_fork(after_in_child=_renew_lock)
