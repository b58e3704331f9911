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


def erase(
    directory: Path, chosen: Callable[[bytes], bool | None], *, also_rejected: bool = False
) -> tuple[int, list[SpoolFileInfo]]:
    """
    Erase the records that are chosen, from every file that no living process uses, and overwrite them.

    Args:
        directory: The spool's.
        chosen: Whether a record is to go; None if it cannot be read.
        also_rejected: Whether the records that were rejected, and the files that were moved aside, count too.

    Returns:
        How many were erased, and the files in which something may be left.
    """
    erased, skipped = 0, []
    for path in _files(directory):
        with _opened(directory, path) as opened:
            if isinstance(opened, SpoolFileInfo):
                skipped.append(opened)
                continue
            try:
                went, unread = _erase_from(opened, chosen, also_rejected=also_rejected)
            except DamagedDatabaseError as damage:
                skipped.append(SpoolFileInfo(str(path), "damaged", opened.disk_bytes, problem=damage.problem))
                continue
            erased += went
            if unread:
                problem = f"It holds {unread} records that cannot be read, which stay there"
                skipped.append(SpoolFileInfo(str(path), "damaged", opened.disk_bytes, problem=problem))
    if also_rejected:
        problem = "It was moved aside, and may hold what was to be erased: look into it, or remove it"
        skipped += [
            SpoolFileInfo(str(path), "unreadable", _size(path), problem=problem)
            for path in _moved_aside(directory)
        ]
    return erased, skipped


def _erase_from(
    database: SpoolDatabase, chosen: Callable[[bytes], bool | None], *, also_rejected: bool
) -> tuple[int, int]:
    """Return how many records were erased, and how many cannot be read."""
    database.overwrite_erased()
    totals = database.totals()
    low, high = totals.keys
    erased = unread = 0
    while low < high:
        sizes = database.sizes((low, high), _AT_ONCE)
        if not sizes:
            break
        keys = [key for _, key, _ in sizes]
        data = database.data(runs_of(keys))
        verdicts = {key: chosen(data[key]) for key in keys}
        unread += [*verdicts.values()].count(None)
        if going := [key for key, goes in verdicts.items() if goes]:
            database.erase(runs_of(going))
            erased += len(going)
        low = keys[-1] + 1
    is_empty = erased == totals.records
    if also_rejected:
        verdicts = {key: chosen(record) for key, record in database.rejected()}
        unread += [*verdicts.values()].count(None)
        going = [key for key, goes in verdicts.items() if goes]
        database.erase_rejected(going)
        erased += len(going)
    if is_empty and not database.has_rejected():
        database.remove()
    return erased, unread


def _moved_aside(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(
        path
        for path in directory.glob(f"{PATTERN}.*-*")
        if not path.name.endswith(("-wal", "-shm", "-journal"))
    )


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
