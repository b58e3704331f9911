"""Delivery: the shared part of an exporter, from its queue to its sink; runs on whatever event loop it is given."""

from __future__ import annotations

import asyncio
import atexit
import copy
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from functools import partial

import msgspec

from nat_observability.delivery.ledger import Ledger, LedgerSnapshot
from nat_observability.delivery.queue import BoundedQueue, QueuePolicy, weigh
from nat_observability.delivery.sink import BatchFunction, BlockingSink, Sink, WorkerSink, as_sink
from nat_observability.delivery.thread import DELIVERY_THREAD, LoopSource
from nat_observability.errors import RuntimeStateError, StartTimeoutError, StopTimeoutError, describe
from nat_observability.events import Item
from nat_observability.logs import RepeatedEvent, get_logger

_NEVER = 1 << 62
_REOPEN_AFTER = 5.0  # seconds between two attempts to open a sink that could not be opened


class DeliveryState(StrEnum):
    """Where a delivery is in its life; it may go round more than once."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


_AT_WORK = (DeliveryState.OPENING, DeliveryState.OPEN, DeliveryState.CLOSING)


class DeliveryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bounds of a delivery: counts in items, sizes in bytes, times in seconds.

    `batch_age` is how long an item waits for others before it is written; `write_timeout` is for one batch,
    `open_timeout` for opening the sink, `drain_timeout` for the drain at interpreter exit.
    """

    queue_items: int = 8192
    queue_bytes: int = 64 * 1024 * 1024
    queue_policy: QueuePolicy = "drop_newest"
    batch_items: int = 512
    batch_bytes: int = 4 * 1024 * 1024
    batch_age: float = 1.0
    open_timeout: float = 10.0
    write_timeout: float = 30.0
    drain_timeout: float = 120.0


class DeliveryHealth(msgspec.Struct, frozen=True):
    """What can be asked of a delivery at any moment."""

    state: DeliveryState
    ledger: LedgerSnapshot
    queue_depth: int
    queue_bytes: int
    last_error: str | None


class _Entry:
    __slots__ = ("item", "lease", "size")

    def __init__(self, item: Item, size: int, lease: Lease) -> None:
        self.item = item
        self.size = size
        self.lease = lease


class Lease:
    """
    One user's hold on a delivery, a run's or the runtime's: it opens with the first and closes with the last.

    Every method may be called from any thread.

    Attributes:
        opening: Done when the sink is open, failed with what opening it raised; None where it is open already.
    """

    __slots__ = ("_delivery", "_epoch", "_ledger", "_waiters", "opening")

    def __init__(self, delivery: Delivery, epoch: int | None) -> None:
        self._delivery = delivery
        self._epoch = epoch
        self._ledger = Ledger()
        self._waiters: list[Future[None]] | None = None
        self.opening: Future[None] | None = None

    def accept(self, item: Item) -> None:
        """Queue `item`; what becomes of it is in the ledger. Never blocks, never raises."""
        delivery, ledger = self._delivery, self._ledger
        entry = _Entry(item, weigh(item), self)
        with delivery._lock:
            total, queue = delivery._ledger, delivery._queue
            ledger.accepted += 1
            ledger.pending += 1
            total.accepted += 1
            total.pending += 1
            if not delivery._serving:
                delivery._drop(entry, "closed")
                return
            dropped = queue.put(entry)
            if dropped is not None:
                for each, reason in dropped:
                    delivery._drop(each, reason)
            if queue.queued_bytes >= delivery._wake_bytes or len(queue) >= delivery._wake_items:
                delivery._wake()

    @property
    def ledger(self) -> LedgerSnapshot:
        """What became of the items of this lease."""
        with self._delivery._lock:
            return self._ledger.snapshot()

    def settled(self) -> Future[None]:
        """Return a future that is done when nothing of this lease is pending. What waits is written at once."""
        future: Future[None] = Future()
        delivery = self._delivery
        with delivery._lock:
            if self._ledger.pending:
                self._waiters = [*(self._waiters or ()), future]
                delivery._hurry = True
                delivery._wake()
                return future
        future.set_result(None)
        return future

    def release(self) -> None:
        """Give the lease back. With the last one the delivery writes what is queued and closes, in the background."""
        self._delivery._give_back(self)


class Delivery:
    """
    Queue, batching and writing for one exporter, shared by all runs.

    Args:
        name: The exporter's name, for logs and reports.
        sink: A `Sink`, a `BlockingSink`, or a function or coroutine function that takes a batch.
        limits: Bounds of queue, batches and times.
        loop_source: Where the event loop comes from; the delivery thread by default.

    Raises:
        TypeError: `sink` is none of these.
    """

    def __init__(
        self,
        name: str,
        sink: Sink | BlockingSink | BatchFunction,
        *,
        limits: DeliveryLimits | None = None,
        loop_source: LoopSource = DELIVERY_THREAD,
    ) -> None:
        self.name = name
        self.limits = limits or DeliveryLimits()
        self._sink = as_sink(sink)
        self._loop_source = loop_source
        self._log_failure = RepeatedEvent()
        self._log_drop = RepeatedEvent()
        self._epoch = 0
        self._kept = 0
        self._begin_empty()
        _deliveries.add(self)

    def _begin_empty(self) -> None:
        # Reentrant: the garbage collector may close a generator, and with it a step, in the middle of an accept.
        self._lock = threading.RLock()
        limits = self.limits
        self._queue: BoundedQueue[_Entry] = BoundedQueue(limits.queue_items, limits.queue_bytes, limits.queue_policy)
        self._in_flight: list[_Entry] = []
        self._ledger = Ledger()
        self._state = DeliveryState.NEW
        self._last_error: BaseException | None = None
        self._failed_at = -_REOPEN_AFTER
        self._leases = self._kept
        self._serving = False
        self._server: asyncio.Task[None] | None = None
        self._signal: Callable[[], object] | None = None
        self._opening: list[Future[None]] = []
        self._closing: list[Future[None]] = []
        self._hurry = False
        self._last_call = False
        # The next wake-up: at so many queued items or bytes. Out of reach while the delivery is awake anyway.
        self._wake_items = self._wake_bytes = _NEVER

    def lease(self, *, keep: bool = False) -> Lease:
        """
        Hold the delivery open, opening it where nobody else does. From any thread; returns at once.

        Args:
            keep: Whether the lease holds in a forked child too, as the runtime's does; a run's does not.
        """
        lease = Lease(self, None if keep else self._epoch)
        with self._lock:
            self._leases += 1
            self._kept += keep
            if self._state is DeliveryState.OPEN:
                return lease
            lease.opening = Future()
            if not self._serving and time.monotonic() < self._failed_at + _REOPEN_AFTER and self._last_error:
                lease.opening.set_exception(self._last_error)
                return lease
            self._opening.append(lease.opening)
            if self._serving:
                return lease
            self._serving, self._last_call, self._state = True, False, DeliveryState.OPENING
        loop = self._loop_source.acquire()
        loop.call_soon_threadsafe(self._begin_serving, loop)
        return lease

    def closed(self) -> Future[None]:
        """Return a future that is done when the delivery has closed, or at once where it is not open."""
        future: Future[None] = Future()
        with self._lock:
            if self._serving:
                self._closing.append(future)
                return future
        future.set_result(None)
        return future

    def close(self) -> Future[None]:
        """Write what is queued and close, whoever still holds a lease; return what `closed` does."""
        with self._lock:
            self._last_call = True
            self._wake()
        return self.closed()

    def abandon(self) -> int:
        """
        Give up at once what is not yet written; return how many items that were, dropped as `shutdown_timeout`.

        For when the deadline has passed: it waits for nothing, not even for the delivery thread, which may be what
        is stuck.
        """
        with self._lock:
            if not self._serving:
                return 0
            lost = [*self._in_flight, *self._queue.take(_NEVER, _NEVER)]
            server, self._server = self._server, None
            self._finish(DeliveryState.FAILED, StopTimeoutError(self.name, self.limits.drain_timeout), lost, "shutdown_timeout")
            if server is not None:
                server.get_loop().call_soon_threadsafe(server.cancel)
        return len(lost)

    def health(self) -> DeliveryHealth:
        """Return state, counts and last error as they are now."""
        with self._lock:
            error = self._last_error
            return DeliveryHealth(
                self._state,
                self._ledger.snapshot(),
                len(self._queue),
                self._queue.held_bytes,
                describe(error) if error is not None else None,
            )

    # Under the lock, from any thread:

    def _wake(self) -> None:
        self._wake_items = self._wake_bytes = _NEVER
        if self._signal is not None:
            self._signal()

    def _drop(self, entry: _Entry, reason: str) -> None:
        self._ledger.drop(reason)
        entry.lease._ledger.drop(reason)
        self._notify(entry.lease)
        suppressed = self._log_drop.due()
        if suppressed is not None:
            get_logger().warning("delivery_dropped", exporter=self.name, reason=reason, suppressed=suppressed)

    def _notify(self, lease: Lease) -> None:
        if lease._waiters is not None and not lease._ledger.pending:
            waiters, lease._waiters = lease._waiters, None
            for waiter in waiters:
                _resolve(waiter)

    def _give_back(self, lease: Lease) -> None:
        with self._lock:
            keep = lease._epoch is None
            if lease._epoch != (None if keep else self._epoch):
                return
            lease._epoch = -1
            self._leases -= 1
            self._kept -= keep
            if not self._leases:
                self._wake()

    def _finish(self, state: DeliveryState, error: BaseException | None, lost: Sequence[_Entry], reason: str) -> None:
        self._state = state
        self._serving = False
        self._signal = None
        self._wake_items = self._wake_bytes = _NEVER
        self._in_flight = []
        self._queue.release(lost)
        for entry in lost:
            self._drop(entry, reason)
        if error is not None:
            self._last_error = error
        opening, self._opening = self._opening, []
        for future in opening:
            _resolve(future, error or RuntimeStateError(f"The delivery of {self.name!r} was closed."))
        closing, self._closing = self._closing, []
        for future in closing:
            _resolve(future)

    # On the delivery's own loop:

    def _begin_serving(self, loop: asyncio.AbstractEventLoop) -> None:
        self._server = loop.create_task(self._serve(), name=f"delivery {self.name}")

    async def _serve(self) -> None:
        signal = asyncio.Event()
        wake = partial(asyncio.get_running_loop().call_soon_threadsafe, signal.set)
        me = asyncio.current_task()
        try:
            with self._lock:
                self._signal = wake
            while True:
                await self._open()
                await self._write_batches(signal)
                await self._sink.close()
                with self._lock:
                    if self._server is not me:
                        return
                    if not self._leases or self._last_call:
                        # Between the last batch and here nothing was accepted but by those whose lease outlived it.
                        late = self._queue.take(_NEVER, _NEVER)
                        self._finish(DeliveryState.CLOSED, None, late, "closed")
                        return
                    self._state = DeliveryState.OPENING
        except BaseException as error:
            with self._lock:
                if self._server is me:
                    self._failed_at = time.monotonic()
                    self._finish(DeliveryState.FAILED, error, self._queue.take(_NEVER, _NEVER), "not_open")
            if not isinstance(error, Exception):
                raise
        finally:
            self._loop_source.release()

    async def _open(self) -> None:
        timeout = self.limits.open_timeout
        try:
            await asyncio.wait_for(self._sink.open(), timeout)
        except TimeoutError as error:
            raise StartTimeoutError(self.name, timeout) from error
        with self._lock:
            self._state = DeliveryState.OPEN
            opening, self._opening = self._opening, []
        for future in opening:
            _resolve(future)

    async def _write_batches(self, signal: asyncio.Event) -> None:
        """Write batch after batch; return when nobody holds a lease, or at the last call, and nothing is queued."""
        limits, queue = self.limits, self._queue
        age_ends: float | None = None
        while True:
            signal.clear()
            batch: list[_Entry] = []
            with self._lock:
                wait: float | None = None
                ending = self._last_call or not self._leases
                if not queue:
                    if ending:
                        self._state = DeliveryState.CLOSING
                        return
                    self._hurry, age_ends = False, None
                    self._wake_items = 1
                else:
                    now = time.monotonic()
                    age_ends = age_ends or now + limits.batch_age
                    full = len(queue) >= limits.batch_items or queue.queued_bytes >= limits.batch_bytes
                    if full or ending or self._hurry or now >= age_ends:
                        batch = self._in_flight = queue.take(limits.batch_items, limits.batch_bytes)
                        age_ends = None
                    else:
                        wait = age_ends - now
                        self._wake_items, self._wake_bytes = limits.batch_items, limits.batch_bytes
            if batch:
                await self._write(batch)
                continue
            try:
                async with asyncio.timeout(wait):
                    await signal.wait()
            except TimeoutError:
                continue

    async def _write(self, batch: list[_Entry]) -> None:
        items = [entry.item for entry in batch]
        error: Exception | None = None
        try:
            async with asyncio.timeout(self.limits.write_timeout):
                await self._sink.write(items)
        except Exception as caught:  # foreign code: a sink may raise anything; its batch has failed
            error = caught
        with self._lock:
            if self._in_flight is not batch:
                return  # abandoned meanwhile, and counted
            self._in_flight = []
            self._settle(batch, delivered=error is None)
            if error is None:
                return
            self._last_error = error
            suppressed = self._log_failure.due()
        if suppressed is not None:
            get_logger().error(
                "delivery_failed", exporter=self.name, items=len(batch), error=describe(error), suppressed=suppressed
            )

    def _settle(self, batch: list[_Entry], *, delivered: bool) -> None:
        total, count = self._ledger, len(batch)
        total.pending -= count
        if delivered:
            total.delivered += count
        else:
            total.failed += count
        for entry in batch:
            lease = entry.lease
            ledger = lease._ledger
            ledger.pending -= 1
            if delivered:
                ledger.delivered += 1
            else:
                ledger.failed += 1
            if lease._waiters is not None:
                self._notify(lease)
        self._queue.release(batch)

    # In a forked child:

    def _start_clean(self) -> None:
        # The parent writes what it accepted. Its open files and connections are inherited as they are: closing
        # them here could end what the parent still does with them, so they are kept and never touched.
        _inherited.append(copy.copy(self._sink.blocking if isinstance(self._sink, WorkerSink) else self._sink))
        self._epoch += 1
        self._begin_empty()


def _resolve(future: Future[None], error: BaseException | None = None) -> None:
    if future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()
_inherited: list[object] = []


def _start_clean_in_child() -> None:
    for delivery in list(_deliveries):
        delivery._start_clean()


def _drain_at_exit() -> None:
    """Write what is left where nobody shut the runtime down; each delivery within its drain_timeout."""
    begun = time.monotonic()
    left = [(delivery, delivery.close()) for delivery in list(_deliveries) if delivery.health().state in _AT_WORK]
    if not left:
        return
    held = sorted(delivery.name for delivery, _ in left if delivery._leases)
    if held:
        get_logger().warning("runtime_not_shut_down", exporters=held)
    for delivery, closed in left:
        try:
            closed.result(max(0.0, begun + delivery.limits.drain_timeout - time.monotonic()))
        except TimeoutError:
            get_logger().warning("exporter_abandoned", exporter=delivery.name, lost=delivery.abandon())


os.register_at_fork(after_in_child=_start_clean_in_child)
atexit.register(_drain_at_exit)
