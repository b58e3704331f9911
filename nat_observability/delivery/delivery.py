"""Delivery and Lease: the shared part of an exporter, from its queue to its sink, on the event loop that it is given."""

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
from typing import Any

import msgspec

from nat_observability.delivery.breaker import BreakerState
from nat_observability.delivery.ledger import Ledger, LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.queue import BoundedQueue, weigh
from nat_observability.delivery.sender import Outcome, Sender
from nat_observability.delivery.sink import BatchFunction, BlockingSink, Sink, WorkerSink, as_sink
from nat_observability.delivery.thread import DeliveryThread, LoopSource
from nat_observability.errors import RuntimeStateError, StartTimeoutError, StopTimeoutError, describe
from nat_observability.events import Item
from nat_observability.logs import RepeatedEvent, get_logger

_NEVER = 1 << 62
_REOPEN_AFTER = 5.0  # seconds between two attempts to open a sink that could not be opened
_log = get_logger()


class DeliveryState(StrEnum):
    """Where a delivery is in its life; it may go round more than once."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


class DeliveryHealth(msgspec.Struct, frozen=True):
    """
    What can be asked of a delivery at any moment.

    `queue_bytes` includes what is being written, `in_flight` is the number of items of which that is so.
    `last_batch_s` is how many seconds the last batch took, all its tries included.
    """

    state: DeliveryState
    ledger: LedgerSnapshot
    queue_depth: int
    queue_capacity: int
    queue_bytes: int
    in_flight: int
    last_batch_s: float | None
    breaker: BreakerState
    last_error: str | None
    blocking: bool
    """Whether the sink was found to block the delivery thread, since when it has a thread of its own."""


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
            if delivery._serving:
                dropped = queue.put(entry)
                if dropped is None:
                    if queue.queued_bytes >= delivery._wake_bytes or len(queue) >= delivery._wake_items:
                        delivery._wake()
                    return
            else:
                dropped = [(entry, "closed")]
            for each, reason in dropped:
                delivery._drop(each, reason)
        delivery._log_drops()

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
                delivery._flush = True
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
        limits: Bounds of queue, batches, tries and times.
        loop_source: Where the event loop comes from; the delivery thread by default.

    Attributes:
        on_batch: Called on the delivery's loop with the seconds that a batch took and what it failed with.

    Raises:
        TypeError: `sink` is none of these.
    """

    def __init__(
        self,
        name: str,
        sink: Sink | BlockingSink | BatchFunction,
        *,
        limits: DeliveryLimits | None = None,
        loop_source: LoopSource | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or DeliveryLimits()
        self._sink = as_sink(sink)
        self._loop_source = loop_source or DELIVERY_THREAD
        self._epoch = 0
        self._kept = 0
        self._blocking = False
        self.on_batch: Callable[[float, BaseException | None], None] | None = None
        self._begin_empty()
        _deliveries.add(self)

    def _begin_empty(self) -> None:
        # Reentrant: the garbage collector may close a generator, and with it a step, in the middle of an accept.
        self._lock = threading.RLock()
        limits = self.limits
        self._queue: BoundedQueue[_Entry] = BoundedQueue(limits.queue_items, limits.queue_bytes, limits.queue_policy)
        self._in_flight: set[_Entry] = set()
        self._ledger = Ledger()
        self._state = DeliveryState.NEW
        self._open_error: BaseException | None = None
        self._open_failed_at = -_REOPEN_AFTER
        self._leases = self._kept
        self._serving = False
        self._server: _Server | None = None
        self._opening: list[Future[None]] = []
        self._closing: list[Future[None]] = []
        self._flush = False  # write what is queued without waiting for more
        self._last_call = False  # write what is queued, with one try for each batch, and close
        self._log_drop = RepeatedEvent()
        self._dropped_since = 0
        self._last_batch_s: float | None = None
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
            if not self._serving and self._open_error and time.monotonic() < self._open_failed_at + _REOPEN_AFTER:
                lease.opening.set_exception(self._open_error)
                return lease
            self._opening.append(lease.opening)
            if self._serving:
                return lease
            self._serving, self._last_call, self._state = True, False, DeliveryState.OPENING
            self._server = server = _Server(self, self._loop_source)
        server.start()
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
        """Write what is queued, each batch with one last try, and close, whoever holds a lease; see `closed`."""
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
            server = self._server
            if server is None:
                return 0
            lost = [*self._in_flight, *self._queue.take(_NEVER, _NEVER)]
            self._finish(DeliveryState.FAILED, StopTimeoutError(self.name, self.limits.drain_timeout), lost, "shutdown_timeout")
        server.cancel()
        self._log_drops()
        return len(lost)

    @property
    def held(self) -> bool:
        """Whether the delivery is at work, or somebody counts on it being so."""
        return self._serving and self._leases > 0

    def health(self) -> DeliveryHealth:
        """Return state, counts and last error as they are now. From any thread."""
        with self._lock:
            sender = self._server.sender if self._server is not None else None
            error = (sender.last_error if sender is not None else None) or self._open_error
            return DeliveryHealth(
                self._state,
                self._ledger.snapshot(),
                len(self._queue),
                self.limits.queue_items,
                self._queue.held_bytes,
                len(self._in_flight),
                self._last_batch_s,
                sender.breaker_state if sender is not None else BreakerState.CLOSED,
                describe(error) if error is not None else None,
                self._blocking,
            )

    # Under the lock, from any thread:

    def _wake(self) -> None:
        self._wake_items = self._wake_bytes = _NEVER
        if self._server is not None:
            self._server.wake()

    def _drop(self, entry: _Entry, reason: str) -> None:
        self._ledger.drop(reason)
        entry.lease._ledger.drop(reason)
        self._dropped_since += 1
        self._notify(entry.lease)

    def _notify(self, lease: Lease) -> None:
        if lease._waiters is not None and not lease._ledger.pending:
            waiters, lease._waiters = lease._waiters, None
            for waiter in waiters:
                _resolve(waiter)

    def _finish(self, state: DeliveryState, error: BaseException | None, lost: Sequence[_Entry], reason: str) -> None:
        """End the serving: whatever is lost is dropped, whoever waits is told."""
        self._state = state
        self._serving = False
        self._server = None
        self._wake_items = self._wake_bytes = _NEVER
        self._in_flight.clear()
        self._queue.release(lost)
        for entry in lost:
            self._drop(entry, reason)
        opening, self._opening = self._opening, []
        for future in opening:
            _resolve(future, error or RuntimeStateError(f"The delivery of {self.name!r} was closed while it opened."))
        closing, self._closing = self._closing, []
        for future in closing:
            _resolve(future)

    # Not under the lock, from any thread:

    def _log_drops(self) -> None:
        """Log what was dropped; outside the lock, because the application's log processors are foreign code."""
        if self._dropped_since and self._log_drop.due() is not None:
            dropped, self._dropped_since = self._dropped_since, 0
            _log.warning("delivery_dropped", exporter=self.name, items=dropped, dropped=self.health().ledger.dropped)

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

    def _move(self) -> None:
        """Go on in another loop, because somebody else blocks the one that this delivery is on."""
        with self._lock:
            stuck = self._server
            if stuck is None:
                return
            # What was being written is written again: whether it arrived can no longer be known.
            self._queue.put_back(self._in_flight)
            self._in_flight.clear()
            if self._state is DeliveryState.OPEN and not isinstance(self._sink, WorkerSink):
                self._state = DeliveryState.OPENING
            stuck.leave()
            self._server = server = _Server(self, self._loop_source, reopen=not isinstance(self._sink, WorkerSink))
        server.start()

    def _keep_to_itself(self, loop_source: LoopSource) -> None:
        with self._lock:
            self._blocking = True
            self._loop_source = loop_source
            if self._server is not None:
                self._server.loop_source = loop_source

    def _start_clean(self) -> None:
        """Forget what belongs to the parent, in a forked child."""
        # The parent writes what it accepted. Its open files and connections are inherited as they are: closing
        # them here could end what the parent still does with them, so they are kept and never touched.
        _inherited.append(copy.copy(self._sink.blocking if isinstance(self._sink, WorkerSink) else self._sink))
        self._epoch += 1
        self._begin_empty()


def delivery_thread(*, blocked_after: float) -> DeliveryThread:
    """Return a delivery thread of one's own, whose deliveries are separated from one that blocks it so long."""
    return DeliveryThread(_separate, blocked_after=blocked_after)


class _Server:
    """One opening-to-closing of a delivery, on the delivery's loop."""

    def __init__(self, delivery: Delivery, loop_source: LoopSource, *, reopen: bool = True) -> None:
        self._delivery = delivery
        self.loop_source: LoopSource | None = loop_source
        self._loop = loop_source.acquire()
        self._opens = reopen
        self._signal = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self.sender = Sender(delivery.name, delivery._sink, delivery.limits, self._loop, self._hurry)

    def start(self) -> None:
        """Begin, on the loop. From any thread."""
        self._loop.call_soon_threadsafe(self._begin)

    def wake(self) -> None:
        """Look at the queue again. From any thread."""
        self._loop.call_soon_threadsafe(self._signal.set)

    def cancel(self) -> None:
        """End whatever goes on, without waiting. From any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def leave(self) -> None:
        """Have nothing more to do with the loop, which is somebody else's from now on. From any thread."""
        self.loop_source = None
        self.cancel()

    def runs(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` is one of this server's."""
        return task is self._task or task in self._sends

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._serve(), name=f"delivery {self._delivery.name}")

    def _cancel(self) -> None:
        for task in (self._task, *self._sends):
            if task is not None:
                task.cancel()

    @property
    def _current(self) -> bool:
        return self._delivery._server is self

    async def _serve(self) -> None:
        delivery = self._delivery
        try:
            while True:
                if self._opens:
                    await self._open()
                self._opens = True
                if not await self._write_batches():
                    return
                await delivery._sink.close()
                with delivery._lock:
                    if not self._current:
                        return
                    if not delivery._leases or delivery._last_call:
                        # Since the last batch only those recorded whose lease had ended.
                        late = delivery._queue.take(_NEVER, _NEVER)
                        delivery._finish(DeliveryState.CLOSED, None, late, "closed")
                        return
                    delivery._state = DeliveryState.OPENING
        except Exception as error:  # noqa: BLE001  foreign code: opening and closing a sink may raise anything
            with delivery._lock:
                if self._current:
                    delivery._open_error, delivery._open_failed_at = error, time.monotonic()
                    lost = delivery._queue.take(_NEVER, _NEVER)
                    delivery._finish(DeliveryState.FAILED, error, lost, "not_open")
        finally:
            if self.loop_source is not None:
                self.loop_source.release()
            delivery._log_drops()

    async def _open(self) -> None:
        delivery = self._delivery
        timeout = delivery.limits.open_timeout
        try:
            async with asyncio.timeout(timeout):
                await delivery._sink.open()
        except TimeoutError as error:
            raise StartTimeoutError(delivery.name, timeout) from error
        with delivery._lock:
            if not self._current:
                return
            delivery._state = DeliveryState.OPEN
            delivery._open_error = None
            opening, delivery._opening = delivery._opening, []
        for future in opening:
            _resolve(future)

    async def _write_batches(self) -> bool:
        """
        Write batch after batch until nobody holds a lease, or the last call came, and nothing is queued.

        Returns:
            Whether the sink is to be closed: False where another server has taken the delivery over.
        """
        delivery = self._delivery
        limits, queue = delivery.limits, delivery._queue
        age_ends: float | None = None
        while True:
            self._signal.clear()
            batch: list[_Entry] = []
            wait: float | None = None
            with delivery._lock:
                if not self._current:
                    return False
                if delivery._last_call:
                    self._hurry.set()
                ending = delivery._last_call or not delivery._leases
                if not queue:
                    delivery._flush, age_ends = False, None
                    if ending and not self._sends:
                        delivery._state = DeliveryState.CLOSING
                        return True
                    delivery._wake_items = 1
                elif len(self._sends) < limits.batches_in_flight:
                    now = self._loop.time()
                    age_ends = age_ends or now + limits.batch_age
                    full = len(queue) >= limits.batch_items or queue.queued_bytes >= limits.batch_bytes
                    if full or ending or delivery._flush or now >= age_ends:
                        batch = queue.take(limits.batch_items, limits.batch_bytes)
                        delivery._in_flight.update(batch)
                        age_ends = None
                    else:
                        wait = age_ends - now
                        delivery._wake_items, delivery._wake_bytes = limits.batch_items, limits.batch_bytes
            if batch:
                task = self._loop.create_task(self._send(batch))
                self._sends.add(task)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._signal.wait()
            except TimeoutError:
                continue

    async def _send(self, batch: list[_Entry]) -> None:
        delivery = self._delivery
        began = self._loop.time()
        try:
            outcomes = await self.sender.send([entry.item for entry in batch])
            duration = self._loop.time() - began
            with delivery._lock:
                if not self._current:
                    return
                self._settle(batch, outcomes)
                delivery._last_batch_s = duration
            if delivery.on_batch is not None:
                failed = Outcome.DELIVERED not in outcomes
                delivery.on_batch(duration, self.sender.last_error if failed else None)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._sends.discard(task)
            self._signal.set()

    def _settle(self, batch: list[_Entry], outcomes: list[Outcome]) -> None:
        delivery = self._delivery
        total = delivery._ledger
        delivered = outcomes.count(Outcome.DELIVERED)
        total.pending -= len(batch)
        total.delivered += delivered
        total.failed += len(batch) - delivered
        for entry, outcome in zip(batch, outcomes, strict=True):
            lease = entry.lease
            ledger = lease._ledger
            ledger.pending -= 1
            if outcome is Outcome.DELIVERED:
                ledger.delivered += 1
            else:
                ledger.failed += 1
            if lease._waiters is not None:
                delivery._notify(lease)
        delivery._in_flight.difference_update(batch)
        delivery._queue.release(batch)


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
    began = time.monotonic()
    at_work = [delivery for delivery in list(_deliveries) if delivery._serving]
    held = sorted(delivery.name for delivery in at_work if delivery.held)
    if held:
        _log.warning("runtime_not_shut_down", exporters=held)
    for delivery, closed in [(delivery, delivery.close()) for delivery in at_work]:
        try:
            closed.result(max(0.0, began + delivery.limits.drain_timeout - time.monotonic()))
        except TimeoutError:
            _log.warning("exporter_abandoned", exporter=delivery.name, lost=delivery.abandon())


def _separate(thread: DeliveryThread, task: asyncio.Task[Any]) -> None:
    """Leave a delivery thread to the delivery whose sink blocks it, and go on with the others on a new one."""
    shared = [each for each in list(_deliveries) if each._loop_source is thread]
    culprit = next((each for each in shared if each._server is not None and each._server.runs(task)), None)
    if culprit is None:
        return
    culprit._keep_to_itself(thread.split_off())
    _log.error("delivery_thread_blocked", exporter=culprit.name)
    for delivery in shared:
        if delivery is not culprit:
            delivery._move()


DELIVERY_THREAD = DeliveryThread(_separate)
"""The one background thread of the process, for every delivery that was given no other."""

os.register_at_fork(after_in_child=_start_clean_in_child)
atexit.register(_drain_at_exit)
