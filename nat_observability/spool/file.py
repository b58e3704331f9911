"""SpoolFile: one database of the spool, and which of its records were taken."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

from nat_observability.errors import SinkError
from nat_observability.spool.database import MAX_KEY, DamagedDatabaseError, SpoolDatabase
from nat_observability.spool.key_ranges import KeyRanges, runs_of

_SHRINK_AFTER = 4 * 1024 * 1024  # bytes erased between two looks at whether the file can shrink
_SALVAGE_ROWS = 256

WaitingRecord = tuple[float, int, int, int]
"""When a record was appended, the number of its file, its key there, its size in bytes."""


class SpoolFile:
    """
    A database and, in memory, which of its records were taken; the others wait.

    It raises what the database raises.

    Args:
        database: Open; the file closes it.
        number: What tells the files of one spool apart.

    Attributes:
        records: How many there are, taken or waiting; `bytes` are their sizes.
        taken: How many are taken; `taken_bytes` are their sizes.
        first_own: The first key that this process has appended, or will.
    """

    def __init__(self, database: SpoolDatabase, number: int) -> None:
        self.database, self.number = database, number
        self.records = self.bytes = self.taken_bytes = 0
        self._taken: dict[int, int] = {}
        self._waiting = KeyRanges()
        self.first_own = self._next = 0
        # Erased here, but still in the database: the disk had no room to record it.
        self._unerased: list[tuple[int, int]] = []
        self._erased_bytes = 0

    @property
    def taken(self) -> int:
        return len(self._taken)

    @property
    def is_empty(self) -> bool:
        """Whether every record was erased, though a full disk may have had no room to note that."""
        return not self.records

    def whole(self, keys: Iterable[int]) -> list[int]:
        """Return keys of this file as keys of the spool, which include the file's number."""
        return [self.number * MAX_KEY + key for key in keys]

    def own_keys(self) -> list[int]:
        """Return the keys of what this process has appended, taken or waiting, as keys of the spool."""
        ranges = ((max(low, self.first_own), high) for low, high in self._waiting)
        waiting = [key for low, high in ranges for key in range(low, high)]
        return self.whole([*waiting, *(key for key in self._taken if key >= self.first_own)])

    def load(self) -> None:
        """Make the records that a former owner has left wait."""
        totals = self.database.totals()
        self.records, self.bytes = totals.records, totals.bytes
        self._waiting.add(*totals.keys)
        self.first_own = self._next = totals.keys[1]

    def append(self, records: Sequence[bytes], now: float, *, taken: bool, durable: bool) -> range:
        """Add records, which are on the disk when this returns if `durable`; return their keys."""
        keys = range(self._next, self._next + len(records))
        self.database.insert(zip(keys, itertools.repeat(now), records, strict=False), durable=durable)
        self._next = keys.stop
        size = sum(map(len, records))
        self.records += len(records)
        self.bytes += size
        if taken:
            self._taken.update(zip(keys, map(len, records), strict=True))
            self.taken_bytes += size
        else:
            self._waiting.add(keys.start, keys.stop)
        return keys

    def waiting(self, chunk: int = 256) -> Iterator[WaitingRecord]:
        """Yield what waits in the order of keys, `chunk` at a read; not to be used on after a change."""
        number = self.number
        for start, stop in self._waiting:
            low = start
            while low < stop:
                rows = self.database.sizes((low, stop), chunk)
                for time, key, size in rows:
                    yield time, number, key, size
                low = rows[-1][1] + 1 if len(rows) == chunk else stop

    def data(self, keys: Iterable[int]) -> dict[int, bytes]:
        """Return these records."""
        return self.database.data(runs_of(keys))

    def take(self, sizes: dict[int, int]) -> None:
        """Note that these, which waited and are given with their sizes, are taken."""
        self._taken.update(sizes)
        self.taken_bytes += sum(sizes.values())
        for low, high in runs_of(sizes):
            self._waiting.remove(low, high)

    def put_back(self, keys: Iterable[int]) -> None:
        """Let these wait again, as far as they are taken."""
        back = set(keys) & self._taken.keys()
        self.taken_bytes -= sum(self._taken.pop(key) for key in back)
        for low, high in runs_of(back):
            self._waiting.add(low, high)

    def finish(self, keys: Iterable[int]) -> None:
        """Erase these, as far as they are taken."""
        self._erase(self._let_go(keys))

    def reject(self, keys: Iterable[int]) -> int:
        """Put these aside, as far as they are taken, and return how many that were."""
        rejected = set(keys) & self._taken.keys()
        self.database.reject(runs_of(rejected))
        self._uncount(self._let_go(rejected))
        return len(rejected)

    def drop(self, sizes: dict[int, int]) -> None:
        """Erase these, given with their sizes, which wait."""
        for low, high in runs_of(sizes):
            self._waiting.remove(low, high)
        self._erase(sizes)

    def tidy(self) -> None:
        """Try again to erase what the disk refused to."""
        self._erase({})

    def close(self) -> None:
        """Close the database. If it is empty it is deleted, or moved aside if it holds rejected records."""
        with contextlib.suppress(SinkError, DamagedDatabaseError):  # then it stays, to be taken over
            self.tidy()
            if self.is_empty:
                if self.database.has_rejected():
                    self.database.retire()
                else:
                    self.database.remove()
        self.database.close()

    def replace(self, damaged: SpoolFile) -> tuple[list[int], set[int]]:
        """
        Take the place of a damaged file, under its number and its keys, with what can be read of it.

        Returns:
            The keys that waited and could not be read, as far as this process has appended them; and those that
            were taken and could not be read.
        """
        lost = KeyRanges((max(low, damaged.first_own), high) for low, high in damaged._waiting)
        self.first_own, self._next = damaged.first_own, damaged._next
        erased = {key for low, high in damaged._unerased for key in range(low, high)}
        readable = (row for row in damaged.database.readable() if row[0] not in erased)
        while rows := list(itertools.islice(readable, _SALVAGE_ROWS)):
            self.database.insert(rows)
            sizes = {key: len(data) for key, _, data in rows}
            self.records += len(sizes)
            self.bytes += sum(sizes.values())
            for low, high in runs_of(sizes):
                self._waiting.add(low, high)
                self._next = max(self._next, high)
                lost.remove(low, high)
            self.take({key: size for key, size in sizes.items() if key in damaged._taken})
        waited = [key for low, high in lost for key in range(low, high)]
        return waited, damaged._taken.keys() - self._taken.keys()

    def _let_go(self, keys: Iterable[int]) -> dict[int, int]:
        sizes = {key: self._taken.pop(key) for key in set(keys) & self._taken.keys()}
        self.taken_bytes -= sum(sizes.values())
        return sizes

    def _erase(self, sizes: dict[int, int]) -> None:
        self._uncount(sizes)
        self._unerased += runs_of(sizes)
        if not self._unerased:
            return
        # If the disk refuses, they are erased along with the next ones; until then they are hidden. Damage is left for
        # the next append or take to find, where it matters.
        with contextlib.suppress(SinkError, DamagedDatabaseError):
            self.database.erase(self._unerased)
            self._unerased.clear()
            if self._erased_bytes >= _SHRINK_AFTER:
                self._erased_bytes = 0
                self.database.shrink()

    def _uncount(self, sizes: dict[int, int]) -> None:
        size = sum(sizes.values())
        self.records -= len(sizes)
        self.bytes -= size
        self._erased_bytes += size
