"""TailSamplingBuffer: holds a run's items until it is decided whether to keep the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.queue import weigh
from nat_observability.events import Item


class TailSamplingBuffer:
    """
    Keeps the items of one run that is not sampled, and lets all of them go as soon as one holds an error.

    They are in no ledger until then. What does not fit, the oldest first, is dropped as `sampling_buffer_full`, and
    what is held when the run ends well as `sampled_out`. Any thread may call it.

    Args:
        accounting: Of the delivery; it counts what is held for all runs.
        accept: Queues an item.
        lease: Of the run; it counts what is dropped.
        run_bytes: Most bytes that are held for this run.
        all_bytes: Most bytes that are held for all runs of the exporter together.
    """

    __slots__ = (
        "_accept",
        "_accounting",
        "_all_bytes",
        "_bytes",
        "_items",
        "_kept",
        "_lease",
        "_lost",
        "_run_bytes",
    )

    def __init__(
        self,
        accounting: Accounting,
        accept: Callable[[Item], None],
        lease: Lease,
        run_bytes: int,
        all_bytes: int,
    ) -> None:
        self._accounting = accounting
        self._accept = accept
        self._lease = lease
        self._run_bytes, self._all_bytes = run_bytes, all_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = self._lost = 0
        self._kept: bool | None = None

    def accept(self, item: Item) -> None:
        """Hold `item`, or accept or discard it if the run is decided. Never blocks, never raises."""
        if self._kept is None and item.error is not None:
            self.decide(keep=True)
        size = weigh(item)
        with locking.lock:
            kept = self._kept
            lost = self._hold(item, size) if kept is None else 0
        if kept:
            self._accept(item)
        elif kept is False:
            self._lease.discard("sampled_out", 1)
        elif lost:
            self._lease.discard("sampling_buffer_full", lost)

    def decide(self, *, keep: bool) -> None:
        """Accept or discard what is held, and what comes from now on; the first decision holds."""
        with locking.lock:
            if self._kept is None:
                self._kept = keep
                if keep and self._lost:
                    # In a run that is sampled out they would have been dropped anyway; this one is delivered
                    # incomplete.
                    self._accounting.losses.kept_without(self._lease, self._lost)
            keep = self._kept
            if not keep:
                dropped = len(self._items)
                while self._items:
                    self._next()
        if not keep:
            if dropped:
                self._lease.discard("sampled_out", dropped)
            return
        # One at a time: a thread that records a step meanwhile waits for the lock.
        while True:
            with locking.lock:
                item = self._next() if self._items else None
            if item is None:
                break
            self._accept(item)
        self._accounting.losses.log()

    def _hold(self, item: Item, size: int) -> int:
        """Hold `item`, and return how many were given up for it. Under the lock."""
        accounting, lost = self._accounting, 0
        self._items.append((item, size))
        self._bytes += size
        accounting.held_back += size
        while self._items and (self._bytes > self._run_bytes or accounting.held_back > self._all_bytes):
            self._next()
            lost += 1
        self._lost += lost
        return lost

    def _next(self) -> Item:
        item, size = self._items.popleft()
        self._bytes -= size
        self._accounting.held_back -= size
        return item
