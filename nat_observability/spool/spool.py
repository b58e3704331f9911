"""Spool: the durable queue of one exporter, a directory of SQLite files."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import msgspec

from nat_observability.errors import SinkError
from nat_observability.logs import get_logger
from nat_observability.spool.database import DamagedDatabaseError
from nat_observability.spool.directory import alone_in, make_spool_directory
from nat_observability.spool.file import WaitingRecord
from nat_observability.spool.fork_safety import watch
from nat_observability.spool.mark import claim, unclaim
from nat_observability.spool.open_files import SpoolFiles
from nat_observability.spool.recovery import RecoveryReport

ResultT = TypeVar("ResultT")

SpoolDropReason = Literal["spool_damaged", "spool_expired", "spool_full", "spool_rejected"]
"""Why records were dropped: the file was damaged, they were too old, there was no room, they cannot be read."""

_DROP_RECORDS = 4096  # at a time: dropping a million must not take memory for a million
_REPAIRS = 3


class SpoolStats(msgspec.Struct, frozen=True):
    """
    What a spool holds at one moment: the number of `records`, how many of them are `taken`, and their `bytes`.

    `disk_bytes` is the disk space of its `files`. `dropped` counts records since the spool was made, by reason:
    `spool_full` (the oldest, for want of room), `spool_expired`, `spool_damaged` and `spool_rejected`.
    """

    records: int
    taken: int
    bytes: int
    disk_bytes: int
    files: int
    dropped: dict[SpoolDropReason, int]


class Spool:
    """
    Keeps records on the disk until they are done, and gives them out oldest first.

    A record is given out at least once: what was taken and not done when the process ended, however it ended, is
    given out again by the process that takes the file over. Each open spool appends to a file of its own and has it
    locked, so no record is given out by two; files without an owner are taken over by `open` and `adopt`. Any number of
    processes may use one directory.

    Calls block. They may come from any thread; one waits for the other. A fork waits, for a second at most, for
    the call under way; in the child the spool is closed and empty, and what the parent has open is left to it. The
    child itself cannot take over its parent's files, for SQLite goes on taking them for locked there; every other
    process can.

    No code of this process may open the files by other means: closing them would release the lock.

    Args:
        directory: Of this exporter alone; created with mode 0700 if it is missing, files with 0600.
        exporter: The exporter's name. What another one has left in the directory is left alone.
        max_bytes: Most bytes of records, taken or waiting. The files hold somewhat more: see `SpoolStats`.
        max_age: Seconds after which a record that waits is dropped; None for never.
        on_drop: Called, within the call that dropped them, with the keys of records that were dropped and that this
            process has appended, and the reason. It must not call the spool.
        clock: Seconds since the epoch.
        destination: Where the records go, without any secret; None if that is unknown.

    Raises:
        ValueError: `max_bytes` or `max_age` is not positive.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        exporter: str,
        max_bytes: int,
        max_age: float | None = None,
        on_drop: Callable[[Sequence[int], SpoolDropReason], None] | None = None,
        clock: Callable[[], float] = time.time,
        destination: str | None = None,
    ) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes is a positive number of bytes, not {max_bytes!r}.")
        if max_age is not None and not max_age > 0:
            raise ValueError(f"max_age is a positive number of seconds, or None for never, not {max_age!r}.")
        path = Path(directory)
        self.directory = path if path.is_absolute() else Path(os.path.abspath(path))
        self._max_bytes, self._max_age, self._on_drop, self._clock = max_bytes, max_age, on_drop, clock
        self._exporter, self._destination = exporter, destination
        self._logger = get_logger().bind(exporter=exporter)
        self.start_clean()
        watch(self)

    def start_clean(self) -> None:
        """Reset to the initial, empty state."""
        # Held for a whole call, and over a fork. Reentrant, because the thread that forks may be in a call.
        self.lock = threading.RLock()
        self._files = SpoolFiles(self.directory, self._logger)
        self._dropped: Counter[SpoolDropReason] = Counter()
        # The keys of records that were taken when their file was damaged, and could not be read.
        self._lost: set[int] = set()
        # No record that waits is older than this; None if it is not known.
        self._oldest: float | None = None

    @property
    def left_to_parent(self) -> object:
        """What a forked child must never close."""
        return self._files

    def open(self) -> RecoveryReport:
        """
        Create the directory, take over what former owners have left, and be ready to append.

        Does nothing if it is open already.

        Raises:
            SinkError: The directory cannot be created or written, or holds records of another exporter or destination.
        """
        with self.lock:
            if self._files.is_open:
                return RecoveryReport()
            make_spool_directory(self.directory)
            try:
                with alone_in(self.directory):
                    claim(self.directory, self._exporter, self._destination)
                    report = self._files.adopt(self._max_bytes)
                    self._files.begin()
            except BaseException:
                self._files.close()
                raise
            self._oldest = None
            self._limit()
            return report

    def adopt(self) -> RecoveryReport:
        """
        Take over the files of processes that have died since; to be called now and then.

        Its own that were deleted meanwhile, or moved away, are written again. Files that would not fit into `max_bytes`
        are left until there is room. Does nothing if it is not open.
        """
        with self.lock:
            if not self._files.is_open:
                return RecoveryReport()
            self._replace_astray()
            with alone_in(self.directory):
                report = self._files.adopt(self._max_bytes)
            self._oldest = None
            self._limit()
            return report

    def append(self, records: Sequence[bytes], *, taken: bool, durable: bool = True) -> list[int | None]:
        """
        Add records in one transaction.

        The oldest that wait are dropped if there is no room.

        Args:
            records: Preferably of many runs at once, because the commit is the cost.
            taken: Whether the caller delivers them itself, from memory, until it puts them back. Otherwise they
                wait, to be taken.
            durable: Whether they are on the disk when this returns. Otherwise they survive this process, however it
                ends, and a power cut only from the next durable transaction on.

        Returns:
            For each record its key; None for one that was not stored, because with those that are taken it would
            exceed `max_bytes`. Such a record is not counted as dropped.

        Raises:
            SinkError: The disk refused, or the spool is not open. Nothing was stored, and the spool stays usable.
        """
        with self.lock:
            room = self._max_bytes - sum(file.taken_bytes for file in self._files)
            fits: list[bool] | None = None
            if sum(map(len, records)) > room:
                fits = _fits(records, room)
                records = list(compress(records, fits))
            keys = self._mending(
                lambda: self._files.append(records, self._clock(), taken=taken, durable=durable)
            )
            self._limit()
            if fits is None:
                return list(keys)
            stored = iter(keys)
            return [next(stored) if fit else None for fit in fits]

    def take(self, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """
        Take the oldest that wait, up to these bounds, but always one if there is one.

        Raises:
            SinkError: The disk cannot be read. Nothing was taken.
        """
        with self.lock:
            self._limit()
            return self._mending(lambda: self._files.take(max_records, max_bytes))

    def done(self, keys: Iterable[int | None]) -> None:
        """
        Erase what was taken and delivered. Never raises; a key that is not taken, and None, is ignored.

        This does not wait for the disk: after a power cut, though not after a kill, the last ones may be given out
        again.
        """
        with self.lock:
            finished = [key for key in keys if key is not None]
            self._lost.difference_update(finished)
            self._files.finish(finished)

    def put_back(self, keys: Iterable[int | None]) -> None:
        """
        Let what was taken wait again, in its old place. Never raises; a key that is not taken, and None, is ignored.
        """
        with self.lock:
            back = [key for key in keys if key is not None]
            self._files.put_back(back)
            lost = self._lost.intersection(back)
            self._lost -= lost
            self._tell_dropped("spool_damaged", len(lost), sorted(lost))
            self._oldest = None
            self._limit()

    def reject(self, keys: Iterable[int | None]) -> None:
        """
        Put aside what was taken and cannot be decoded: it is never given out again, and never deleted.

        It stays in a table of its file, `rejected`; when all else in the file is done, the file is moved aside.
        Never raises: if the disk refuses, the records stay taken. A key that is not taken, and None, is ignored.
        """
        with self.lock, contextlib.suppress(SinkError):
            rejected = [key for key in keys if key is not None]
            self._dropped["spool_rejected"] += self._mending(lambda: self._files.reject(rejected))

    @property
    def waiting(self) -> int:
        """The number of records that can be taken; from any thread, and without waiting for a call under way."""
        return sum(file.records - file.taken for file in self._files)

    @property
    def dropped(self) -> dict[SpoolDropReason, int]:
        """The number of records dropped, as in `stats`."""
        return {reason: count for reason, count in self._dropped.copy().items() if count}

    def stats(self) -> SpoolStats:
        """Return what the spool holds now. From any thread, and without waiting for a call under way."""
        files = list(self._files)
        return SpoolStats(
            records=sum(file.records for file in files),
            taken=sum(file.taken for file in files),
            bytes=sum(file.bytes for file in files),
            disk_bytes=sum(file.database.disk_bytes for file in files),
            files=len(files),
            dropped=self.dropped,
        )

    def close(self) -> None:
        """
        Let go of the files; their contents go to the process that takes them over. An empty file is deleted.

        What cannot be left, because its file was deleted and the disk refuses another one, is dropped.
        """
        with self.lock:
            was_open = self._files.is_open
            # No process finds a file that has lost its name, nor what stayed in memory because its file was damaged.
            self._replace_astray(give_up=True)
            lost, self._lost = self._lost, set()
            self._tell_dropped("spool_damaged", len(lost), sorted(lost))
            self._files.close()
            if was_open:
                unclaim(self.directory)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _limit(self) -> None:
        # A disk that refuses now will refuse the next call too, which reports it.
        with contextlib.suppress(SinkError):
            self._mending(self._drop_expired)
            self._mending(self._drop_excess)

    def _drop_expired(self) -> None:
        if self._max_age is None:
            return
        now = self._clock()
        limit = now - self._max_age
        while self._oldest is None or self._oldest < limit:
            expired: list[WaitingRecord] = []
            oldest = now
            for record in self._files.waiting():
                if record[0] >= limit or len(expired) == _DROP_RECORDS:
                    oldest = record[0]
                    break
                expired.append(record)
            self._tell_dropped("spool_expired", len(expired), self._files.drop(expired))
            self._oldest = oldest

    def _drop_excess(self) -> None:
        while (excess := self._files.held_bytes - self._max_bytes) > 0:
            oldest: list[WaitingRecord] = []
            for record in islice(self._files.waiting(), _DROP_RECORDS):
                oldest.append(record)
                excess -= record[3]
                if excess <= 0:
                    break
            if not oldest:
                return
            self._tell_dropped("spool_full", len(oldest), self._files.drop(oldest))

    def _tell_dropped(self, reason: SpoolDropReason, count: int, own: Sequence[int]) -> None:
        self._dropped[reason] += count
        if own and self._on_drop is not None:
            self._on_drop(own, reason)

    def _mending(self, work: Callable[[], ResultT]) -> ResultT:
        """Make a repeatable call, again if a file was found damaged and replaced."""
        for _ in range(_REPAIRS):
            try:
                return work()
            except DamagedDatabaseError as damage:
                self._replace(damage)
        problem = f"was damaged {_REPAIRS} times in a row"
        raise SinkError(str(self.directory), problem, "Check that disk, and who else writes there.")

    def _replace(self, damage: DamagedDatabaseError) -> None:
        make_spool_directory(self.directory)
        with alone_in(self.directory):
            claim(self.directory, self._exporter, self._destination)  # the mark may be gone too
            replacement = self._files.replace(damage)
        self._oldest = None
        self._lost.update(replacement.lost_taken)
        lost = replacement.lost - len(replacement.lost_taken)
        self._tell_dropped("spool_damaged", lost, replacement.lost_waiting)

    def _replace_astray(self, *, give_up: bool = False) -> None:
        """
        Write the files again that have lost their names.

        Args:
            give_up: Whether to drop what is in those that the disk refuses. Otherwise the next call finds them again.
        """
        for damage in self._files.astray():
            try:
                self._replace(damage)
            except (SinkError, DamagedDatabaseError):
                if give_up:
                    self._tell_dropped("spool_damaged", *self._files.forget(damage))


def _fits(records: Sequence[bytes], room: int) -> list[bool]:
    fits: list[bool] = []
    for record in records:
        fits.append(len(record) <= room)
        room -= len(record) if fits[-1] else 0
    return fits
