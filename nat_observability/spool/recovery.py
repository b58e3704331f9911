"""Recovery: taking over the files of former owners, and saving what can be read of damaged ones."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from nat_observability.logs import Logger
from nat_observability.spool.database import DamagedDatabaseError, SpoolDatabase
from nat_observability.spool.directory import move_aside
from nat_observability.spool.file import SpoolFile
from nat_observability.system.disk import disk_error


class RecoveryReport(msgspec.Struct, frozen=True):
    """
    What was taken over from former owners: the number of `records`, `bytes` and `files`.

    `set_aside` are the new paths of what was damaged or foreign; what could be read of it is in `records`. `returned`
    counts the `records` that the same spool had when it was closed. They keep their keys.
    """

    files: int = 0
    records: int = 0
    bytes: int = 0
    set_aside: tuple[str, ...] = ()
    returned: int = 0


class Replacement(msgspec.Struct, frozen=True):
    """
    What stands in for a damaged file: `file`, open, with what could be read; the damaged one is at `moved_to`.

    `lost` records could not be read, as far as is known. Of those, `lost_waiting` are the spool's keys of those that
    waited and that this process had appended, `lost_taken` of those that were taken.
    """

    file: SpoolFile
    moved_to: Path | None
    lost: int
    lost_waiting: list[int]
    lost_taken: list[int]


def take_over(path: Path, number: int, logger: Logger) -> tuple[SpoolFile | None, Path | None]:
    """
    Take over what is at `path`, under this number, if it has no owner.

    Returns:
        The file, if there is something in it; and the path to which the original was moved if it was damaged.

    Raises:
        SinkError: The disk refused, or a newer version of the package wrote the file. It was left as it was.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            moved_to = move_aside(path)
            _warn(logger, path, moved_to, "is not a file", salvaged=0, lost=0)
            return None, moved_to
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise disk_error(path, "cannot be opened", error) from error
    try:
        database = SpoolDatabase.adopt(path)
    except DamagedDatabaseError as damage:
        database, problem = damage.database, damage.problem
        file = SpoolFile(database, number)
    else:
        if database is None:
            return None, None
        file = SpoolFile(database, number)
        try:
            file.load()
            return file, None
        except DamagedDatabaseError as damage:
            problem = damage.problem
        except BaseException:
            database.close()
            raise
    try:
        replacement = replace_damaged(file, problem, logger)
    except BaseException:
        database.close()
        raise
    return replacement.file, replacement.moved_to


def replace_damaged(damaged: SpoolFile, problem: str, logger: Logger) -> Replacement:
    """
    Copy what can be read of a damaged file into a new one, and move the damaged one aside.

    Raises:
        SinkError: The disk refused. Nothing has changed.
    """
    file = SpoolFile(SpoolDatabase.create(damaged.database.path.parent), damaged.number)
    try:
        lost_waiting, lost_taken = file.replace(damaged)
        moved_to = damaged.database.move_aside()
    except BaseException:
        file.database.remove()
        raise
    lost = max(0, damaged.records - file.records)
    _warn(logger, damaged.database.path, moved_to, problem, salvaged=file.records, lost=lost)
    return Replacement(file, moved_to, lost, file.whole(lost_waiting), file.whole(lost_taken))


def _warn(
    logger: Logger, path: Path, moved_to: Path | None, problem: str, *, salvaged: int, lost: int
) -> None:
    logger.warning(
        "spool_set_aside",
        path=str(path),
        moved_to=str(moved_to),
        problem=problem,
        salvaged=salvaged,
        lost=lost,
    )
