"""Looking into spools from outside, and erasing records in them; never in a file that a living process uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from nat_observability.errors import SinkError
from nat_observability.spool.database import PATTERN, DamagedDatabaseError, SpoolDatabase
from nat_observability.spool.directory import alone_in
from nat_observability.spool.key_ranges import runs_of

_AT_ONCE = 1_000  # records

FileState = Literal["waiting", "in use", "damaged", "unreadable"]


class SpoolFileInfo(msgspec.Struct, frozen=True):
    """
    One file of a spool. `records` and `bytes` are None if it could not be looked into.

    A file that is in use belongs to a living process, which delivers what is in it. `problem` says what keeps another
    one from being read. `disk_bytes` includes its log; `oldest` is when its first record came, in seconds since the
    epoch.
    """

    path: str
    state: FileState
    disk_bytes: int
    records: int | None = None
    bytes: int | None = None
    oldest: float | None = None
    problem: str | None = None


def look(directory: Path) -> list[SpoolFileInfo]:
    """
    Return the files of a spool, the oldest first; none if the directory does not exist.

    Each file is locked for the look, so that a process that begins meanwhile leaves it to a later start.
    """
    found: list[SpoolFileInfo] = []
    for path in _files(directory):
        with _opened(directory, path) as opened:
            if isinstance(opened, SpoolFileInfo):
                found.append(opened)
                continue
            try:
                totals = opened.totals()
                first = opened.sizes(totals.keys, 1)
            except DamagedDatabaseError as damage:
                found.append(SpoolFileInfo(str(path), "damaged", opened.disk_bytes, problem=damage.problem))
                continue
            oldest = first[0][0] if first else None
            found.append(
                SpoolFileInfo(str(path), "waiting", opened.disk_bytes, totals.records, totals.bytes, oldest)
            )
    return found


def erase(directory: Path, chosen: Callable[[bytes], bool]) -> tuple[int, list[SpoolFileInfo]]:
    """
    Erase the records that are chosen, from every file that no living process uses.

    Args:
        directory: The spool's.
        chosen: Whether a record is to go.

    Returns:
        How many were erased, and the files that could not be looked into.
    """
    erased, skipped = 0, []
    for path in _files(directory):
        with _opened(directory, path) as opened:
            if isinstance(opened, SpoolFileInfo):
                skipped.append(opened)
                continue
            try:
                erased += _erase_from(opened, chosen)
            except DamagedDatabaseError as damage:
                skipped.append(SpoolFileInfo(str(path), "damaged", opened.disk_bytes, problem=damage.problem))
    return erased, skipped


def _erase_from(database: SpoolDatabase, chosen: Callable[[bytes], bool]) -> int:
    totals = database.totals()
    low, high = totals.keys
    erased = 0
    while low < high:
        sizes = database.sizes((low, high), _AT_ONCE)
        if not sizes:
            break
        keys = [key for _, key, _ in sizes]
        data = database.data(runs_of(keys))
        going = [key for key in keys if chosen(data[key])]
        if going:
            database.erase(runs_of(going))
            erased += len(going)
        low = keys[-1] + 1
    if erased == totals.records and not database.has_rejected():
        database.remove()
    return erased


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob(PATTERN)) if directory.is_dir() else []


@contextmanager
def _opened(directory: Path, path: Path) -> Iterator[SpoolDatabase | SpoolFileInfo]:
    """Yield the database, or why it cannot be had."""
    database: SpoolDatabase | None = None
    info = SpoolFileInfo(str(path), "in use", _size(path))
    with alone_in(directory):
        try:
            database = SpoolDatabase.adopt(path)
        except DamagedDatabaseError as damage:
            damage.database.close()
            info = SpoolFileInfo(str(path), "damaged", _size(path), problem=damage.problem)
        except SinkError as error:
            info = SpoolFileInfo(
                str(path), "unreadable", _size(path), problem=f"{error.problem}. {error.cure}"
            )
    if database is None:
        yield info
        return
    try:
        yield database
    finally:
        database.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
