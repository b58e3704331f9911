"""EntryMover: moves a delivery's entries from the queue to the spool and the sink, while the sink is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import SAVE_ITEMS, Accounting
from nat_observability.delivery.lease import NEVER, Entry
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sending.deferral import Deferral
from nat_observability.delivery.sending.retry import LAST_TRY, Outcome, Retry, Saved
from nat_observability.delivery.state import State
from nat_observability.delivery.threads.worker import as_exception, suppress_instrumentation
from nat_observability.events import Item
from nat_observability.foreign_errors import EXITS, describe
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import Sink

if TYPE_CHECKING:
    from nat_observability.delivery.spool_client import SpoolClient

_ADOPT_EVERY = 30.0  # seconds between two searches for spool files of processes that died
_DISK_PAUSE = 1.0  # seconds to wait after a failed write to the disk
_log = get_logger()


class BatchObserver(Protocol):
    """Measures each batch, if `measure` is set: called with the seconds that it took, and with these attributes."""

    measure: Callable[[float, Mapping[str, str]], object] | None
    measured_as: Mapping[str, str]


class EntryMover:
    """
    Saves and sends what is due, until the delivery is unwanted and nothing waits.

    With `spool="always"` each entry is saved before it is sent. With `spool="spill"` the oldest are saved when the
    queue is half full and the sink does not keep up, and everything in memory when the delivery is asked to close for
    good. What was saved is sent from memory while there is room for it, and otherwise read back. If both memory and
    spool have something to send, they take turns.

    Args:
        name: The exporter's, for logs.
        state: Of the delivery.
        accounting: Its queue and counts.
        sink: Where batches are written.
        limits: Of batches, tries, times and the spool.
        loop: On which everything here is called.
        spool: None if nothing is spooled.
        observer: Measures each batch.

    Attributes:
        dismissed: Whether it was given up, and what is under way no longer counts. Set under the lock.
        signal: Set to have the queue looked at again.
        retry: Decides about a batch that is not taken at once.
        sends: The tasks of the batches that are being sent.
        last_batch_s: Seconds that the last batch took.
        last_batch_failed: Whether the back end took nothing of the last batch.
        last_success: The loop's time when the back end last took something, or else when this began.
    """

    def __init__(
        self,
        name: str,
        state: State,
        accounting: Accounting,
        sink: Sink,
        limits: DeliveryLimits,
        loop: asyncio.AbstractEventLoop,
        spool: SpoolClient | None,
        observer: BatchObserver | None,
    ) -> None:
        self._name = name
        self._state = state
        self._accounting = accounting
        self._sink = sink
        self._limits = limits
        self._loop = loop
        self._spool = spool
        self._observer = observer
        self.dismissed = False
        self.signal = asyncio.Event()
        self._is_suppressed = False
        self.last_batch_s: float | None = None
        self.last_batch_failed = False
        self.last_success = loop.time()
        # A queue hardly larger in bytes than a batch would fill up, and drop, before a batch is complete.
        self._due_bytes = min(limits.batch_bytes, max(1, limits.queue_bytes * 3 // 4))
        self.retry = Retry(name, self._write, limits, loop)
        self._deferral = Deferral(name, limits, loop.time, accounting, self.retry)
        # The writes under way, and whether a spool has their items.
        self._writes: dict[asyncio.Timeout, Saved] = {}
        self.sends: set[asyncio.Task[None]] = set()
        self._gave_up = self._leaves_saved = False  # at the end, for everything or for what the spool has
        self._unsent = 0  # batches in a row that came back
        self._memory_is_next = self._fetch_is_next = False
        self._due_at: float | None = None
        # The earliest times to send, to read the spool, to spill into it, and to look for files that others left.
        self._send_at = self._fetch_at = self._spill_at = self._adopt_at = 0.0

    def begin(self) -> None:
        """Begin with a sink that was just opened."""
        self._gave_up = self._leaves_saved = False
        self._deferral.take()  # keys of a spool that was closed since: they wait there
        self.retry.begin()
        self._adopt_at = self._loop.time() + _ADOPT_EVERY

    def wake(self) -> None:
        """Have the queue looked at again, and let the age of the next batch begin. From any thread, under the lock."""
        if self._due_at is None:
            # Beside a thread that computes, it takes the loop a while to notice it.
            inlet = self._accounting.inlet
            since = None if inlet is None else inlet.passing_since
            self._due_at = (self._loop.time() if since is None else since) + self._limits.batch_age
        with suppress(RuntimeError):  # this loop has ended, or broke and another one takes over
            self._loop.call_soon_threadsafe(self.signal.set)

    async def run(self) -> bool:
        """
        Save and send until the delivery is unwanted and nothing waits. In a task of its own.

        Returns whether to close the sink: not if the loop was dismissed.
        """
        try:
            self._is_suppressed = suppress_instrumentation()
            while True:
                self.signal.clear()
                if self._state.last_call and not self.retry.is_ending:
                    await self._begin_to_end()
                with locking.lock:
                    if self.dismissed:
                        return False
                    move = self._next_move(self._loop.time())
                    if move is None:
                        self._state.closing()
                        if self._spool is not None:
                            # What a lease that is taken from now on accepts waits in the queue, to open this again.
                            self._spool.stop_saving()
                        return True
                await move()
                if self._accounting.losses.unlogged:
                    self._accounting.log_losses()
        except EXITS as error:
            # It would leave this task, and end a turn of the event loop with it.
            raise as_exception(error) from error

    async def _begin_to_end(self) -> None:
        """Have the last tries begin."""
        with locking.lock:
            self.retry.end_by(self._state.ends_at(self._loop.time()))
        await self._save_what_is_sent()
        self.cut_saved()
        self._try_deferred_again()

    def _next_move(self, now: float) -> Callable[[], Awaitable[None]] | None:
        """Take what is due, and return the calls to make with it; None if everything is done. Under the lock."""
        accounting, state, limits, spool = self._accounting, self._state, self._limits, self._spool
        if self._deferral.unsaved:
            return self._save_deferred
        # At the end each has had its last try; more rounds would use up the time, or never end.
        deferred_until = self._deferral.due_at
        if deferred_until is not None and now >= deferred_until and not state.unwanted:
            self._try_deferred_again()
        free = len(self.sends) < limits.batches_in_flight and not self._gave_up
        free = free and (now >= self._send_at or state.last_call)
        queued = self._is_due(now)
        if accounting.awaiting_room:
            accounting.tell_room()
        spooled = spool is not None and spool.waiting > 0 and not self._leaves_saved
        saves = queued and self._is_to_be_saved(now, free=free)
        in_memory = bool(accounting.ready) or (queued and not saves)
        fetches = free and spooled and now >= self._fetch_at and not (self._memory_is_next and in_memory)
        # With steady traffic there is always something to save, which must not keep saved entries from being sent.
        waits = not state.last_call and (
            (free and (accounting.ready or accounting.fetched)) or (fetches and self._fetch_is_next)
        )
        if saves and not waits:
            self._due_at = None
            self._fetch_is_next = True
            if accounting.saves_all or state.last_call:
                return self.save_queued
            accounting.spills = True
            accounting.wake_items = accounting.wake_bytes = NEVER
            return self._spill
        if free and accounting.fetched:
            self._memory_is_next = True
            return self._send_soon(accounting.take_fetched(limits.batch_items))
        if fetches:
            self._fetch_is_next = False
            return self._fetch
        if free and in_memory:
            self._memory_is_next = False
            if accounting.ready:
                return self._send_soon(accounting.take_ready(limits.batch_items, limits.batch_bytes))
            self._due_at = None
            return self._send_soon(accounting.queue.take(limits.batch_items, limits.batch_bytes))
        if state.unwanted and accounting.upstream:
            accounting.hasten_upstream()
        elif state.unwanted and not self.sends and not accounting.queue.items:
            left = spooled or accounting.ready or accounting.fetched
            saves_itself = spool is not None and spool.is_saving
            if not saves_itself and (self._gave_up or not left):
                return None
        elif spool is not None and now >= self._adopt_at and not state.unwanted:
            return self._adopt
        return partial(self._sleep, now)

    def _is_due(self, now: float) -> bool:
        """Return whether what is queued is due now; set when to be woken."""
        accounting, limits, queue = self._accounting, self._limits, self._accounting.queue
        if not queue.items:
            accounting.hurry = accounting.hurry and accounting.upstream > 0
            self._due_at = None
            accounting.wake_items, accounting.wake_bytes = 1, NEVER
            return False
        if self._due_at is None:
            self._due_at = now + limits.batch_age
        full = queue.items >= limits.batch_items or queue.queued_bytes >= self._due_bytes
        if full or accounting.hurry or self._state.unwanted or now >= self._due_at:
            # Nothing more can be done until a batch comes back, unless the queue should spill.
            spills = self._spool is not None and not accounting.saves_all and now >= self._spill_at
            taken_bytes = queue.held_bytes - queue.queued_bytes
            accounting.wake_items = (limits.queue_items + 1) // 2 if spills else NEVER
            accounting.wake_bytes = (limits.queue_bytes + 1) // 2 - taken_bytes if spills else NEVER
            return True
        accounting.wake_items, accounting.wake_bytes = limits.batch_items, self._due_bytes
        return False

    def _is_to_be_saved(self, now: float, *, free: bool) -> bool:
        if self._spool is None or self._accounting.saves_all or self._state.last_call:
            return self._spool is not None
        return not free and now >= self._spill_at and self._accounting.is_filled(0.5)

    async def _sleep(self, now: float) -> None:
        """Wait for a signal, or for the next time at which something may be due."""
        fixed = (self._send_at, self._fetch_at, self._spill_at, self._adopt_at)
        times = (*fixed, self._due_at, self._deferral.due_at)
        coming = [time - now for time in times if time is not None and time > now]
        try:
            async with asyncio.timeout(min(coming, default=None)):
                await self.signal.wait()
        except TimeoutError:
            pass

    # Sending:

    def _send_soon(self, batch: list[Entry]) -> Callable[[], Awaitable[None]]:
        self._accounting.in_flight.update(dict.fromkeys(batch))

        async def start() -> None:
            # For the tasks that send, each in a copy of this context.
            self._is_suppressed = self._is_suppressed or suppress_instrumentation()
            self.sends.add(self._loop.create_task(self._send(batch)))

        return start

    async def _send(self, batch: list[Entry]) -> None:
        began = self._loop.time()
        try:
            outcomes = await self._outcomes(batch)
            self.last_batch_s = duration = self._loop.time() - began
            self.last_batch_failed = failed = Outcome.DELIVERED not in outcomes
            if not failed:
                self.last_success = self._loop.time()
            observer = self._observer
            if observer is not None and observer.measure is not None:
                # Before the items are settled: a caller that waits for them then finds the batch measured.
                last_error = self.retry.last_error if failed else None
                more = {} if last_error is None else {"error.type": type(last_error).__name__}
                try:
                    observer.measure(duration, {**observer.measured_as, **more})
                except BaseException as error:  # noqa: BLE001  foreign code: the application's meter may raise anything
                    _log.warning("batch_not_measured", exporter=self._name, error=describe(error))
            with locking.lock:
                if not self.dismissed:
                    self._settle(batch, outcomes)
            if self._accounting.losses.unlogged:
                self._accounting.log_losses()
            if Outcome.DEFERRED in outcomes:
                self._deferral.log()
        finally:
            task = asyncio.current_task(self._loop)
            if task is not None:
                self.sends.discard(task)
            self.signal.set()

    async def _outcomes(self, batch: Sequence[Entry]) -> list[Outcome]:
        items = [entry.item for entry in batch]
        try:
            return await self.send(items, lambda: all(entry.key is not None for entry in batch))
        except BaseException as error:
            # A send is cancelled for good only after the loop was dismissed. Here the sink has cancelled the task that
            # it runs in.
            with locking.lock:
                if self.dismissed:
                    raise
            return self.retry.refused(error, items)

    async def send(self, items: Sequence[Item], saved: Saved) -> list[Outcome]:
        """Write a batch and return the outcome of each item, in order. Raises nothing but a cancellation."""
        retry, began = self.retry, self._loop.time()
        if retry.breaker.failures or self._state.last_call:
            return await retry.send(items, saved)
        try:
            rejected = await self._write(items, saved, self._limits.write_timeout)
        except BaseException as error:  # noqa: BLE001  a sink is foreign code, and may raise anything
            return await retry.send_again(items, saved, error, began)
        if rejected or retry.breaker.failures:
            return retry.answered(items, rejected)
        return [Outcome.DELIVERED] * len(items)

    async def _write(self, items: Sequence[Item], saved: Saved, seconds: float) -> int:
        async with asyncio.timeout(seconds) as write:
            self._writes[write] = saved
            try:
                # A list of its own, which it may change.
                rejected = await self._sink.write(list(items))
            finally:
                del self._writes[write]
        return rejected if type(rejected) is int else 0  # a function may return anything at all

    def cut_saved(self) -> None:
        """Wait no longer than for a last try for writes under way whose items a spool has."""
        self.retry.cut_at = cut_at = self._loop.time() + LAST_TRY
        for write, saved in self._writes.items():
            # One whose time is over may go on, if the sink swallows its cancellation.
            if saved() and not write.expired() and (end := write.when()) is not None:
                write.reschedule(min(end, cut_at))

    def _settle(self, batch: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        accounting, spool, failures = self._accounting, self._spool, self.retry.failures
        if spool is None:
            accounting.settle_all(batch, outcomes, failures)
            return
        done: list[int] = []
        to_spool: list[int] = []
        deferred: list[int] = []
        to_queue: list[Entry] = []
        gone: list[Entry] = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            del accounting.in_flight[entry]
            waits = outcome is Outcome.UNSENT or outcome is Outcome.DEFERRED
            if waits and entry.key is None:
                if outcome is Outcome.UNSENT:
                    to_queue.append(entry)
                else:
                    self._deferral.add_unsaved(entry)
                continue
            gone.append(entry)
            if waits and entry.key is not None:
                accounting.own(entry.key, entry.lease)
                (to_spool if outcome is Outcome.UNSENT else deferred).append(entry.key)
            else:
                accounting.settle(entry, outcome, failures)
                if entry.key is not None:
                    done.append(entry.key)
        # They wait at the head of the queue to be tried again or saved.
        accounting.queue.put_back(to_queue)
        accounting.queue.release(gone)
        spool.done(done)
        spool.put_back(to_spool)
        self._deferral.add(deferred)
        if Outcome.DELIVERED in outcomes:
            self._deferral.taken_by_back_end()
        if not (to_spool or to_queue):
            self._unsent = 0
        elif self._state.last_call:
            # What is in memory alone still has its tries.
            self._gave_up, self._leaves_saved = self._gave_up or bool(to_queue), True
            accounting.leave_to_spool()
        else:
            self._back_off()

    def _back_off(self) -> None:
        """Pause sending for a while: the sender has given up on a batch, which is the next one to be sent."""
        now = self._loop.time()
        if now >= self._send_at:  # else another batch has come back just before
            self._unsent += 1
            self._send_at = now + self.retry.pause_after(self._unsent)

    def _try_deferred_again(self) -> None:
        keys = self._deferral.take()
        if keys and self._spool is not None:
            self._spool.put_back(keys)

    # The spool:

    async def save_queued(self) -> None:
        """Save the oldest of what is queued."""
        if self._spool is not None:
            await self._try(self._spool.save_queued(stay=self._state.last_call and not self._leaves_saved))

    async def _save_deferred(self) -> None:
        if self._spool is not None:
            await self._try(self._deferral.save(self._spool, lambda: self.dismissed))

    async def _spill(self) -> None:
        accounting = self._accounting

        def next_entries() -> list[Entry]:
            with locking.lock:
                accounting.tell_room()
                # Until there is room again, or something else to do.
                if self.signal.is_set() or self.dismissed or not accounting.is_filled(0.25):
                    return []
                return accounting.take_to_save()

        if self._spool is not None and not await self._try(self._spool.spill(next_entries)):
            self._spill_at = self._loop.time() + _DISK_PAUSE
            accounting.spills = False

    async def _save_what_is_sent(self) -> None:
        """Save what is being sent and is only in memory: the deadline may come before an answer does."""
        spool, accounting = self._spool, self._accounting
        if spool is None:
            return
        with locking.lock:
            entries = [entry for entry in (*accounting.in_flight, *accounting.ready) if entry.key is None]
        for start in range(0, len(entries), SAVE_ITEMS):
            if not await self._try(spool.save(entries[start : start + SAVE_ITEMS], stay=True)):
                return

    async def _fetch(self) -> None:
        limits, spool = self._limits, self._spool
        if spool is not None and not await self._try(spool.fetch(limits.batch_items, limits.batch_bytes)):
            self._fetch_at = self._loop.time() + _DISK_PAUSE
            self._leaves_saved = self._leaves_saved or self._state.last_call

    async def _adopt(self) -> None:
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        if self._spool is not None:
            await self._try(self._spool.adopt())

    async def _try(self, call: Awaitable[Exception | None]) -> bool:
        """Make a call of the spool, and log what it returns or raises; return whether the disk did not refuse."""
        refused = False
        try:
            problem = await call
        except Exception as error:  # noqa: BLE001  memory may have run out, or the thread has died
            problem, refused = error, True
        if problem is not None and self._spool is not None:
            self._spool.log_failure(problem)
        return not refused
