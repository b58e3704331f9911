"""SpoolFiles: the files that one spool has open, as one queue."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from nat_observability.errors import SinkError
from nat_observability.logs import Logger
from nat_observability.spool.database import MAX_KEY, PATTERN, DamagedDatabaseError, SpoolDatabase
from nat_observability.spool.file import SpoolFile, WaitingRecord
from nat_observability.spool.recovery import RecoveryReport, Replacement, replace_damaged, take_over

_ASTRAY = "was deleted or moved away"


class SpoolFiles:
    """
    One file to append to, and those that were taken over; a key identifies the file as well as the record.

    It raises what the files raise. A file other than its own that has become empty is closed.

    Args:
        directory: Absolute; it exists when files are opened.
        logger: Carries the exporter's name.
    """

    def __init__(self, directory: Path, logger: Logger) -> None:
        self._directory, self._logger = directory, logger
        self._files: dict[int, SpoolFile] = {}
        self._own: SpoolFile | None = None
        self._numbers = 0
        # What was left at the last close: number and first own key, which the file gets again, and how many records.
        self._left: dict[Path, tuple[int, int, int]] = {}
        self._skipped: set[Path] = set()

    def __iter__(self) -> Iterator[SpoolFile]:
        """Yield the open files, as they were at the call; from any thread."""
        return iter(tuple(self._files.values()))

    @property
    def is_open(self) -> bool:
        """Whether there is a file to append to."""
        return self._own is not None

    @property
    def held_bytes(self) -> int:
        """The sizes of all records, taken or waiting."""
        return sum(file.bytes for file in self)

    def begin(self) -> None:
        """Have a file to append to: the newest of those taken over, so that repeated crashes pile up no files."""
        # Not one of an older version, which that version may take over again, and read only in part.
        current = (file for file in reversed(self._files.values()) if file.database.is_current)
        self._own = next(current, None) or self._create()

    def adopt(self, max_bytes: int) -> RecoveryReport:
        """Take over the files that have no owner, the oldest first, as far as they fit into `max_bytes` in all."""
        for file in self:
            file.tidy()
            self._close_if_empty(file)
        held = {file.database.path for file in self}
        files = records = size = returned = 0
        set_aside: list[str] = []
        for path in sorted(self._directory.glob(PATTERN)):
            if path in held:
                continue
            number, first_own, left = self._left.get(path, (self._numbers + 1, None, 0))
            self._numbers = max(self._numbers, number)
            try:
                found, moved_to = take_over(path, number, self._logger)
            except SinkError as error:
                self._warn_skipped(path, error)
                continue
            if moved_to is not None:
                set_aside.append(str(moved_to))
            if found is None:
                continue
            if self.held_bytes and self.held_bytes + found.bytes > max_bytes:
                found.database.close()  # for another process, or for later
                continue
            files, records, size = files + 1, records + found.records, size + found.bytes
            if first_own is not None:
                del self._left[path]
                returned += min(left, found.records)
                found.first_own = first_own
            self._files[found.number] = found
            self._close_if_empty(found)
        if records:
            self._logger.info(
                "spool_recovered", directory=str(self._directory), files=files, records=records, bytes=size
            )
        return RecoveryReport(files, records, size, tuple(set_aside), returned)

    def replace(self, damage: DamagedDatabaseError) -> Replacement:
        """Put what can be read of a damaged file into a new one, under the same keys."""
        damaged = next(file for file in self if file.database is damage.database)
        replacement = replace_damaged(damaged, damage.problem, self._logger)
        self._files[damaged.number] = replacement.file
        if damaged is self._own:
            self._own = replacement.file
        self._close_if_empty(replacement.file)
        return replacement

    def astray(self) -> list[DamagedDatabaseError]:
        """Return what is wrong with each file that holds records and is no longer in its place."""
        return [
            DamagedDatabaseError(file.database, _ASTRAY)
            for file in self
            if file.records and not file.database.in_place
        ]

    def forget(self, damage: DamagedDatabaseError) -> tuple[int, list[int]]:
        """Let go of a file with all that is in it; return how many records, and the keys of those appended here."""
        file = next(file for file in self if file.database is damage.database)
        del self._files[file.number]
        if file is self._own:
            self._own = None
        file.database.close()
        return file.records, file.own_keys()

    def append(self, records: Sequence[bytes], now: float, *, taken: bool, durable: bool) -> list[int]:
        """Add records to the file of its own; return their keys."""
        own = self._own
        if own is None:
            raise SinkError(
                str(self._directory), "is not open", "Call Spool.open first, and again after a fork."
            )
        if not own.database.in_place:
            raise DamagedDatabaseError(own.database, _ASTRAY)
        return own.whole(own.append(records, now, taken=taken, durable=durable))

    def waiting(self) -> Iterator[WaitingRecord]:
        """Yield what waits, the oldest first; not to be used on after a change."""
        return heapq.merge(*(file.waiting() for file in self))

    def take(self, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Take the oldest that wait, up to these bounds, but always one if there is one."""
        self._opened()
        chosen: list[WaitingRecord] = []
        total = 0
        for record in islice(self.waiting(), max_records):
            total += record[3]
            if chosen and total > max_bytes:
                break
            chosen.append(record)
        sizes = _sizes(chosen)
        # All are read before any is marked, so that damage in one file leaves nothing of another half taken.
        data = {number: self._files[number].data(sizes[number]) for number in sizes}
        for number in sizes:
            self._files[number].take(sizes[number])
        return [(number * MAX_KEY + key, data[number][key]) for _, number, key, _ in chosen]

    def put_back(self, keys: Iterable[int]) -> None:
        """Let these wait again, as far as they are taken."""
        for file, local in self._by_file(keys):
            file.put_back(local)

    def finish(self, keys: Iterable[int]) -> None:
        """Erase these, as far as they are taken."""
        for file, local in self._by_file(keys):
            file.finish(local)
            self._close_if_empty(file)

    def reject(self, keys: Iterable[int]) -> int:
        """Put these aside, as far as they are taken; return how many that were."""
        count = 0
        for file, local in self._by_file(keys):
            count += file.reject(local)
            self._close_if_empty(file)
        return count

    def drop(self, records: Iterable[WaitingRecord]) -> list[int]:
        """Erase these, which wait; return the keys of those that this process has appended."""
        own: list[int] = []
        for number, sizes in _sizes(records).items():
            file = self._files[number]
            file.drop(sizes)
            own += file.whole(key for key in sizes if key >= file.first_own)
            self._close_if_empty(file)
        return own

    def close(self) -> None:
        """Close all files; their contents are left to the process that takes them over."""
        files, self._files, self._own = self._files, {}, None
        for file in files.values():
            if file.records:
                self._left[file.database.path] = file.number, file.first_own, file.records
            file.close()

    def _opened(self) -> SpoolFile:
        if self._own is None:
            raise SinkError(
                str(self._directory), "is not open", "Call Spool.open first, and again after a fork."
            )
        return self._own

    def _create(self) -> SpoolFile:
        self._numbers += 1
        file = SpoolFile(SpoolDatabase.create(self._directory), self._numbers)
        self._files[file.number] = file
        return file

    def _close_if_empty(self, file: SpoolFile) -> None:
        if file is not self._own and file.is_empty:
            del self._files[file.number]
            file.close()

    def _by_file(self, keys: Iterable[int]) -> list[tuple[SpoolFile, list[int]]]:
        grouped: dict[int, list[int]] = {}
        for key in keys:
            number, local = divmod(key, MAX_KEY)
            grouped.setdefault(number, []).append(local)
        return [(self._files[number], local) for number, local in grouped.items() if number in self._files]

    def _warn_skipped(self, path: Path, error: SinkError) -> None:
        if path not in self._skipped:
            self._skipped.add(path)
            self._logger.warning("spool_skipped", path=str(path), problem=error.problem, cure=error.cure)


def _sizes(records: Iterable[WaitingRecord]) -> dict[int, dict[int, int]]:
    sizes: dict[int, dict[int, int]] = {}
    for _, number, key, size in records:
        sizes.setdefault(number, {})[key] = size
    return sizes
