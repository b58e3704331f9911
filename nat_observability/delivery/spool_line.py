"""SpoolLine: a delivery's way to its spool: calls on a worker thread, and whose the records are."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.spool import Spool
from nat_observability.delivery.spool_record import UnreadableRecordError, decode_item, encode_item
from nat_observability.delivery.thread import BlockingWorker
from nat_observability.errors import SinkError
from nat_observability.events import Item, Run

OwnerT = TypeVar("OwnerT")
ResultT = TypeVar("ResultT")


class Owners(Generic[OwnerT]):
    """Whose each key is, for keys that come in long runs of one owner: it costs what the runs cost."""

    __slots__ = ("_runs", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[tuple[int, int, OwnerT]] = []  # the key after the last, how many are left, the owner

    def add(self, key: int, owner: OwnerT) -> None:
        """Say whose `key` is, which is not in here yet."""
        at = bisect.bisect_right(self._starts, key)
        if at:
            end, left, before = self._runs[at - 1]
            if end == key and before is owner:
                self._runs[at - 1] = (end + 1, left + 1, owner)
                return
        self._starts.insert(at, key)
        self._runs.insert(at, (key + 1, 1, owner))

    def pop(self, key: int) -> OwnerT | None:
        """Forget `key`, each key once; return whose it was, None where nobody said."""
        at = bisect.bisect_right(self._starts, key) - 1
        if at < 0 or key >= self._runs[at][0]:
            return None
        end, left, owner = self._runs[at]
        if left == 1:
            del self._starts[at], self._runs[at]
        else:
            self._runs[at] = (end, left - 1, owner)
        return owner

    def peek(self, key: int) -> OwnerT | None:
        """Return whose `key` is, None where nobody said."""
        at = bisect.bisect_right(self._starts, key) - 1
        return self._runs[at][2] if at >= 0 and key < self._runs[at][0] else None


class SpoolLine:
    """
    The spool as coroutines. Everything is called on the delivery's loop, `on_drop` on the worker thread.

    Args:
        name: The exporter's.
        limits: With a `spool_path`.
        on_drop: Told of records that the spool dropped: the keys of those this process appended, and the reason.
    """

    def __init__(
        self, name: str, limits: DeliveryLimits, on_drop: Callable[[Sequence[int], str], None]
    ) -> None:
        if limits.spool_path is None:
            raise ValueError(
                f"Exporter {name!r} has a spool and no spool_path. Set spool_path, or spool to 'off'."
            )
        self._spool = Spool(
            limits.spool_path,
            exporter=name,
            max_bytes=limits.spool_bytes,
            max_age=limits.spool_age,
            on_drop=on_drop,
        )
        self._name = name
        self._worker: BlockingWorker | None = None

    async def open(self) -> int:
        """
        Open the spool; return how many records others, or this process before it ended, have left.

        Raises:
            SinkError: The directory cannot be used.
        """
        self._worker = BlockingWorker(f"nat-observability-spool-{self._name}")
        try:
            report = await self._call(self._spool.open)
        except BaseException:
            self.end()
            raise
        return report.records

    async def adopt(self) -> int:
        """Take over what processes that died since have left; return how many records that is."""
        report = await self._call(self._spool.adopt)
        return report.records

    @property
    def waiting(self) -> int:
        """The number of records that can be taken."""
        stats = self._spool.stats()
        return stats.records - stats.taken

    @property
    def dropped(self) -> dict[str, int]:
        """Records dropped since the line was made, by reason; those that `on_drop` was told of included."""
        return self._spool.stats().dropped

    async def save(self, items: Sequence[Item], *, taken: bool) -> list[int | None]:
        """Put items on the disk in one transaction; see `Spool.append`."""
        return await self._call(
            lambda: self._spool.append([encode_item(item) for item in items], taken=taken)
        )

    async def take(self, max_items: int, max_bytes: int) -> tuple[list[tuple[int, Item]], list[int]]:
        """Take the oldest; return them by key, and the keys of those that were unreadable and put aside."""

        def taken() -> tuple[list[tuple[int, Item]], list[int]]:
            items: list[tuple[int, Item]] = []
            unreadable: list[int] = []
            runs: dict[bytes, Run] = {}
            for key, record in self._spool.take(max_items, max_bytes):
                try:
                    items.append((key, decode_item(record, runs)))
                except UnreadableRecordError:
                    unreadable.append(key)
            if unreadable:
                self._spool.reject(unreadable)
            return items, unreadable

        return await self._call(taken)

    def done(self, keys: Sequence[int]) -> None:
        """Erase what was delivered, in the background."""
        self._later(partial(self._spool.done, keys))

    def put_back(self, keys: Sequence[int]) -> None:
        """Let what was taken wait again, in the background."""
        self._later(partial(self._spool.put_back, keys))

    async def close(self) -> None:
        """Let go of the files when what was said before is done."""
        if self._worker is not None:
            await self._call(self._spool.close)
            self.end()

    def end(self) -> None:
        """Let go of the files in the background, and let the thread end. From any thread."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.submit(self._spool.close)
            worker.end()

    def _later(self, call: Callable[[], None]) -> None:
        if self._worker is not None:
            self._worker.submit(call)

    async def _call(self, call: Callable[[], ResultT]) -> ResultT:
        if self._worker is None:
            raise SinkError(str(self._spool.directory), "is not open", "Take a lease of the delivery first.")
        return await asyncio.wrap_future(self._worker.submit(call))
