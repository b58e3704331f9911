"""DeliveryLoop: moves a delivery's items from its queue to its spool and its sink, from opening to closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from nat_observability.delivery import guard
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import NEVER, Entry
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.pipeline.intake import Intake
from nat_observability.delivery.retry import Outcome, Retry, backoff, cancelled, longest_backoff
from nat_observability.delivery.state import DeliveryState, State, resolve
from nat_observability.delivery.thread import (
    LoopSource,
    as_exception,
    background_context,
    is_forgotten,
    suppress_instrumentation,
)
from nat_observability.errors import RetryableWriteError, SinkError, StartTimeoutError, describe
from nat_observability.events import Item
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.sinks.protocol import Sink

if TYPE_CHECKING:
    from nat_observability.delivery.spool_client import SpoolClient

_ADOPT_EVERY = 30.0  # seconds between two looks for what processes that died have left in the spool
_DISK_PAUSE = 1.0  # seconds after the disk has refused
_REOPEN_FIRST, _REOPEN_MOST = (
    1.0,
    30.0,
)  # seconds at most before the first, and before any, try to open a sink again
_LET_GO = 1.0  # seconds for closing the sink of a delivery that was given up, for which nobody waits
_SAVE_ITEMS = 1024
_SAVE_BYTES = 1024 * 1024  # what is encoded and not yet on the disk is in memory twice
_log = get_logger()


class DeliveryLoop:
    """
    Opens the sink, and the spool where there is one; moves entries on until the delivery is unwanted; closes both.

    With `spool="always"` each entry is saved before it is sent. With `spool="spill"` the oldest are saved when the
    queue is half full and the sink does not keep up, and everything that is in memory when the last call comes.
    What was saved is sent from memory while there is room for it there, and otherwise read again. While there is
    something to be sent from both memory and spool, they take turns.

    A sink that cannot be opened is tried again in the background, if a runtime holds the delivery; what is accepted
    meanwhile waits in the queue.

    Args:
        name: The exporter's, for logs.
        state: Of the delivery.
        accounting: Its queue and counts.
        sink: Where batches are written.
        limits: Of batches, tries, times and the spool.
        loop_source: Where its event loop comes from.
        spool: None where nothing is spooled.
        intake: Where items wait for their processors; None where there are none.
        on_batch: Called on the loop with the seconds that a batch took and what it failed with.
        after: A loop that was given up, and may have to close the sink yet.

    Attributes:
        dismissed: Whether it was given up. What is under way then counts no more. Set under the lock.

    Raises:
        ThreadRefusedError: There is no event loop to be had. Nothing is left of it then.
    """

    def __init__(
        self,
        name: str,
        state: State,
        accounting: Accounting,
        sink: Sink,
        limits: DeliveryLimits,
        loop_source: LoopSource,
        *,
        spool: SpoolClient | None = None,
        intake: Intake | None = None,
        on_batch: Callable[[float, BaseException | None], None] | None = None,
        after: DeliveryLoop | None = None,
    ) -> None:
        self._name = name
        self._state = state
        self._accounting = accounting
        self._sink = sink
        self._limits = limits
        self._spool = spool
        self._intake = intake
        self._on_batch = on_batch
        self._after = after
        self.dismissed = False
        self._save_bytes = min(_SAVE_BYTES, limits.queue_bytes // 16)
        self._loop_source = loop_source
        self._is_open = False
        # A queue of hardly more bytes than a batch would be full, and drop, before a batch is.
        self._due_bytes = min(limits.batch_bytes, max(1, limits.queue_bytes * 3 // 4))
        self._ended: Future[None] = Future()
        self._signal = asyncio.Event()
        self._last_tries = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self.last_batch_s: float | None = None
        self._has_run = self._gave_up = False
        self._unsent = 0  # batches in a row that came back
        self._memory_is_next = self._fetch_is_next = False
        self._spool_failed = RepeatedEvent()
        self._due_at: float | None = None
        # Not before these: sending, reading the spool, spilling into it, looking for what others have left.
        self._send_at = self._fetch_at = self._spill_at = self._adopt_at = 0.0
        self._loop = loop_source.acquire()
        try:
            self.retry = Retry(name, sink, limits, self._loop, self._last_tries)
            if intake is not None:
                intake.acquire()
        except BaseException:
            loop_source.release()
            raise

    # From any thread:

    def start(self) -> None:
        """
        Begin, on the loop.

        Raises:
            RuntimeError: The loop is closed.
        """
        try:
            # Not in the context of whoever took the first lease: its run would record what its own export does.
            self._loop.call_soon_threadsafe(self._begin, context=background_context())
        except RuntimeError:
            # The delivery learns of a loop that broke just now, and goes on on another one.
            if not is_forgotten(self._loop):
                raise

    def wake(self) -> None:
        """Look at the queue again."""
        self._soon(self._signal.set)

    def cancel(self) -> None:
        """End whatever goes on, without waiting."""
        self._soon(self._cancel)

    @property
    def is_cut_off(self) -> bool:
        """Whether the event loop does not run any more."""
        return self._loop.is_closed()

    def give_up(self) -> None:
        """Let go of an event loop on which this could not be started, or that broke."""
        if self._intake is not None:
            self._intake.release()
        if not is_forgotten(self._loop):
            self._loop_source.release()
        resolve([self._ended])

    def _soon(self, callback: Callable[[], object]) -> None:
        # This has ended meanwhile, and with it its loop; or the loop broke, and another one is about to take over.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    # On the loop:

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run(), name=f"delivery {self._name}")
        # Not at the end of the task itself, which does not even begin where it is cancelled at once.
        self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        with guard.lock:
            if not self.dismissed and self._state.phase.at_work and not self._has_run:
                # A sink has cancelled every task of the loop, this one before it began.
                error = RuntimeError("A task of the delivery was cancelled before it began.")
                self._state.not_opened(error)
                self._finish(DeliveryState.FAILED, error, "not_open")
        report(self._state, self._accounting)
        if self._intake is not None:
            self._intake.release()
        self._loop_source.release()
        resolve([self._ended])

    def _cancel(self) -> None:
        for task in (self._task, *self._sends):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        self._has_run = True
        try:
            while True:
                suppress_instrumentation()
                if not await self._open_at_last():
                    return
                if not await self._move_entries():
                    return
                if self._spool is not None:
                    await self._spool.close()
                await self._close()
                with guard.lock:
                    if self.dismissed:
                        return
                    if not self._state.reopens(queued=bool(len(self._accounting.queue))):
                        # In the queue is now only what those recorded whose lease had ended.
                        self._finish(DeliveryState.CLOSED, None, "closed")
                        return
                self._gave_up = False
                self._last_tries.clear()
        except BaseException as error:
            # Foreign code: opening a sink may raise anything, an exit too, and cancel this very task.
            with guard.lock:
                if not self.dismissed:
                    self._state.not_opened(as_exception(error))
                    self._finish(DeliveryState.FAILED, as_exception(error), "not_open")
                elif not isinstance(error, Exception):
                    raise
        finally:
            # Before the sink is let go of: who waits for the end, of the process for example, waits for the log only.
            report(self._state, self._accounting)
            await self._let_go()

    def _finish(self, phase: DeliveryState, error: BaseException | None, reason: str) -> None:
        finish(self._state, self._accounting, self._spool, phase, error, reason)

    async def _open_at_last(self) -> bool:
        """Open spool and sink, in as many tries as a runtime has patience for; return whether they are open."""
        tries = 0
        while True:
            try:
                await self._open()
            except BaseException as error:
                if cancelled(error) or isinstance(error, GeneratorExit):
                    raise
                problem = as_exception(error)
            else:
                with guard.lock:
                    if self.dismissed:
                        return False
                    self._state.opened()
                if tries:
                    _log.info("exporter_reopened", exporter=self._name, tries=tries)
                return True
            await self._let_go()
            with guard.lock:
                if self.dismissed:
                    return False
                if not self._state.not_opened(problem):
                    self._finish(DeliveryState.FAILED, problem, "not_open")
                    return False
            tries += 1
            if not await self._wait_to_reopen(backoff(tries, _REOPEN_FIRST, _REOPEN_MOST)):
                with guard.lock:
                    if not self.dismissed:
                        self._finish(DeliveryState.FAILED, problem, "not_open")
                return False

    async def _wait_to_reopen(self, seconds: float) -> bool:
        """Save what comes, if there is a spool; return early, and False, if nobody holds the delivery any more."""
        accounting, state = self._accounting, self._state
        deadline = self._loop.time() + seconds
        while True:
            self._signal.clear()
            with guard.lock:
                if self.dismissed:
                    return False
                entries, unwanted = self._to_save_while_closed(), state.unwanted
                if unwanted and accounting.upstream:
                    accounting.hasten_upstream()
                elif unwanted and not entries:
                    return False
            if entries:
                await self._save(entries)
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await self._signal.wait()
            except TimeoutError:
                return True

    def _to_save_while_closed(self) -> list[Entry]:
        """Take what the spool is to keep while the sink is not open, and set when to be woken. Under the lock."""
        accounting, queue = self._accounting, self._accounting.queue
        accounting.wake_items = accounting.wake_bytes = NEVER
        if self._state.unwanted:
            accounting.wake_items = 1  # what is processed yet
        if self._spool is None or not self._spool.is_open:
            return []
        if accounting.saves_all or self._state.unwanted or accounting.is_filled(0.5):
            if len(queue):
                return self._take_to_save()
            accounting.wake_items = 1
        else:
            accounting.wake_items = (self._limits.queue_items + 1) // 2
        return []

    async def _close(self) -> None:
        """Close the sink, which has written everything: nothing is lost where that raises, or never ends."""
        self._is_open = False
        suppress_instrumentation()
        try:
            async with asyncio.timeout(self._limits.open_timeout):
                await self._sink.close()
        except BaseException as error:
            # Foreign code may raise anything, an exit too. What tells this very task to end is not the sink's.
            if cancelled(error) or isinstance(error, GeneratorExit):
                raise
            _log.warning("sink_close_failed", exporter=self._name, error=describe(error))

    async def _let_go(self) -> None:
        """Close a sink that is still open, because the delivery was given up: its connections would stay open."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(_LET_GO):
                await self._sink.close()
        except BaseException as error:  # noqa: BLE001  foreign code, and nobody waits for it any more
            _log.debug("sink_not_closed", exporter=self._name, error=describe(error))

    async def _open(self) -> None:
        if self._after is not None:
            # A sink is not opened while it is closed; but one that is stuck may never be.
            await asyncio.wait([asyncio.wrap_future(self._after._ended)], timeout=2 * _LET_GO)
            self._after = None
        if self._spool is not None:
            await self._spool.open()
            if self.dismissed:
                await self._spool.close()
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        try:
            async with asyncio.timeout(self._limits.open_timeout):
                await self._sink.open()
        except TimeoutError as error:
            raise StartTimeoutError(self._name, self._limits.open_timeout) from error
        self._is_open = True

    async def _move_entries(self) -> bool:
        """
        Save and send until the delivery is unwanted and nothing waits.

        Returns:
            Whether the sink is to be closed: False where the loop was dismissed.
        """
        state = self._state
        while True:
            self._signal.clear()
            if state.last_call and not self._last_tries.is_set():
                self._last_tries.set()
                await self._save_what_is_sent()
            with guard.lock:
                if self.dismissed:
                    return False
                move = self._next_move(self._loop.time())
                if move is None:
                    state.closing()
                    return True
            await move()
            self._accounting.log_losses()

    def _next_move(self, now: float) -> Callable[[], Awaitable[None]] | None:
        """Take what is to move on, and return what is to be done with it; None where all is done. Under the lock."""
        accounting, state, limits, spool = self._accounting, self._state, self._limits, self._spool
        free = len(self._sends) < limits.batches_in_flight and not self._gave_up
        free = free and (now >= self._send_at or state.last_call)
        queued = self._is_due(now)
        accounting.tell_room()
        spooled = spool is not None and spool.waiting > 0
        saves = queued and self._is_to_be_saved(now, free=free)
        in_memory = bool(accounting.ready) or (queued and not saves)
        fetches = free and spooled and now >= self._fetch_at and not (self._memory_is_next and in_memory)
        # Runs that never pause always leave something to save, which must not keep what was saved from being sent.
        waits = not state.last_call and (
            (free and (accounting.ready or accounting.fetched)) or (fetches and self._fetch_is_next)
        )
        if saves and not waits:
            self._due_at = None
            self._fetch_is_next = True
            if accounting.saves_all or state.last_call:
                return partial(self._save, self._take_to_save())
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
        elif state.unwanted and not self._sends and not len(accounting.queue):
            if self._gave_up or not (spooled or accounting.ready or accounting.fetched):
                return None
        elif spool is not None and now >= self._adopt_at and not state.unwanted:
            return self._adopt
        return partial(self._sleep, now)

    def _is_due(self, now: float) -> bool:
        """Say whether what is queued is to move on now; set when to be woken."""
        accounting, limits, queue = self._accounting, self._limits, self._accounting.queue
        if not len(queue):
            accounting.hurry = accounting.hurry and accounting.upstream > 0
            self._due_at = None
            accounting.wake_items, accounting.wake_bytes = 1, NEVER
            return False
        if self._due_at is None:
            self._due_at = now + limits.batch_age
        full = len(queue) >= limits.batch_items or queue.queued_bytes >= self._due_bytes
        if full or accounting.hurry or self._state.unwanted or now >= self._due_at:
            # Nothing more can be done until a batch comes back, unless the queue is to spill.
            spills = self._spool is not None and not accounting.saves_all and now >= self._spill_at
            taken_bytes = queue.held_bytes - queue.queued_bytes
            accounting.wake_items = (limits.queue_items + 1) // 2 if spills else NEVER
            accounting.wake_bytes = (limits.queue_bytes + 1) // 2 - taken_bytes if spills else NEVER
            return True
        accounting.wake_items, accounting.wake_bytes = limits.batch_items, self._due_bytes
        return False

    def _is_to_be_saved(self, now: float, *, free: bool) -> bool:
        if self._spool is None:
            return False
        if self._accounting.saves_all or self._state.last_call:
            return True
        return not free and now >= self._spill_at and self._accounting.is_filled(0.5)

    def _take_to_save(self) -> list[Entry]:
        return self._accounting.take_to_save(_SAVE_ITEMS, self._save_bytes)

    async def _sleep(self, now: float) -> None:
        """Wait for a signal, or for the next time at which something may be due."""
        times = (self._due_at, self._send_at, self._fetch_at, self._spill_at, self._adopt_at)
        coming = [time - now for time in times if time is not None and time > now]
        try:
            async with asyncio.timeout(min(coming, default=None)):
                await self._signal.wait()
        except TimeoutError:
            pass

    # Sending:

    def _send_soon(self, batch: list[Entry]) -> Callable[[], Awaitable[None]]:
        self._accounting.in_flight.update(dict.fromkeys(batch))

        async def start() -> None:
            suppress_instrumentation()  # for what is sent, in a copy of this context
            self._sends.add(self._loop.create_task(self._send(batch)))

        return start

    async def _send(self, batch: list[Entry]) -> None:
        began = self._loop.time()
        try:
            outcomes = await self._outcomes([entry.item for entry in batch])
            self.last_batch_s = duration = self._loop.time() - began
            if self._on_batch is not None:
                # Before the items are settled: whoever waits for them then finds the batch measured.
                failed = Outcome.DELIVERED not in outcomes
                try:
                    self._on_batch(duration, self.retry.last_error if failed else None)
                except Exception as error:  # noqa: BLE001  foreign code: the application's meter
                    _log.warning("batch_not_measured", exporter=self._name, error=describe(error))
            with guard.lock:
                if not self.dismissed:
                    self._settle(batch, outcomes)
            self._accounting.log_losses()
        finally:
            task = asyncio.current_task(self._loop)
            if task is not None:
                self._sends.discard(task)
            self._signal.set()

    async def _outcomes(self, items: Sequence[Item]) -> list[Outcome]:
        try:
            return await self.retry.send(items)
        except BaseException as error:
            # A send is cancelled for good only after the loop was dismissed. Here it is the sink that cancelled the
            # task that it runs in.
            with guard.lock:
                if self.dismissed:
                    raise
            return self.retry.refused(error, items)

    def _settle(self, batch: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        accounting, spool, failures = self._accounting, self._spool, self.retry.failures
        if spool is None:
            accounting.settle_all(batch, outcomes, failures)
            return
        done: list[int] = []
        to_spool: list[int] = []
        to_queue: list[Entry] = []
        gone: list[Entry] = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            del accounting.in_flight[entry]
            if outcome is Outcome.UNSENT and entry.key is None:
                to_queue.append(entry)
                continue
            gone.append(entry)
            if outcome is Outcome.UNSENT and entry.key is not None:
                accounting.own(entry.key, entry.lease)
                to_spool.append(entry.key)
            else:
                accounting.settle(entry, outcome, failures)
                if entry.key is not None:
                    done.append(entry.key)
        # They wait at the head of the queue for the next try, or for being saved.
        accounting.queue.put_back(to_queue)
        accounting.queue.release(gone)
        spool.done(done)
        spool.put_back(to_spool)
        if not (to_spool or to_queue):
            self._unsent = 0
        elif self._state.last_call:
            self._gave_up = True
        else:
            self._back_off()

    def _back_off(self) -> None:
        """Let nothing be sent for a while: the sender has given a batch up, which is the next one to be sent."""
        now, limits, error = self._loop.time(), self._limits, self.retry.last_error
        if now < self._send_at:
            return  # another batch has come back just before
        pause = longest_backoff(self._unsent + 1, limits.retry_initial, limits.retry_max)
        asked = error.retry_after if isinstance(error, RetryableWriteError) else None
        self._unsent += 1
        self._send_at = now + max(pause, asked or 0.0)

    # The spool:

    async def _save(self, entries: list[Entry]) -> None:
        spool, accounting, last_call = self._spool, self._accounting, self._state.last_call
        if spool is None or not entries:
            return
        # What cannot be sent soon need not stay in memory: it is read again when its turn comes.
        room = accounting.queue.held_bytes * 2 < self._limits.queue_bytes
        try:
            problem = await spool.save(entries, stay=last_call or room)
        except SinkError as error:
            problem = error
        if problem is not None:
            self._log_spool_failure(problem)

    async def _spill(self) -> None:
        accounting = self._accounting

        def next_entries() -> list[Entry]:
            with guard.lock:
                accounting.tell_room()
                # Until there is room for a while, or something else to do.
                if self._signal.is_set() or self.dismissed or not accounting.is_filled(0.25):
                    return []
                return self._take_to_save()

        try:
            problem = await self._spool.spill(next_entries) if self._spool is not None else None
        except SinkError as error:
            self._spill_at = self._loop.time() + _DISK_PAUSE
            accounting.spills = False
            problem = error
        if problem is not None:
            self._log_spool_failure(problem)

    async def _save_what_is_sent(self) -> None:
        """Save what is being sent and is in memory alone: the deadline may come before an answer does."""
        spool, accounting = self._spool, self._accounting
        if spool is None:
            return
        with guard.lock:
            entries = [entry for entry in (*accounting.in_flight, *accounting.ready) if entry.key is None]
        for start in range(0, len(entries), _SAVE_ITEMS):
            try:
                await spool.save(entries[start : start + _SAVE_ITEMS], stay=True)
            except SinkError as error:
                self._log_spool_failure(error)
                return

    async def _fetch(self) -> None:
        limits = self._limits
        try:
            if self._spool is not None:
                await self._spool.fetch(limits.batch_items, limits.batch_bytes)
        except SinkError as error:
            self._log_spool_failure(error)
            self._fetch_at = self._loop.time() + _DISK_PAUSE
            self._gave_up = self._gave_up or self._state.last_call

    async def _adopt(self) -> None:
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        try:
            if self._spool is not None:
                await self._spool.adopt()
        except SinkError as error:
            self._log_spool_failure(error)

    def _log_spool_failure(self, error: Exception) -> None:
        suppressed = self._spool_failed.due()
        if suppressed is not None:
            _log.error("spool_failed", exporter=self._name, error=describe(error), suppressed=suppressed)


def finish(
    state: State,
    accounting: Accounting,
    spool: SpoolClient | None,
    phase: DeliveryState,
    error: BaseException | None,
    reason: str,
) -> int:
    """Put a delivery to rest; return how many items were dropped. Under the lock."""
    accounting.wake = None
    accounting.refusal = "not_open" if reason == "not_open" else "closed"
    accounting.tell_room()
    dropped = accounting.drop_all(accounting.in_hand(), reason) + accounting.forget_upstream(reason)
    if spool is not None:
        # Before anybody takes a lease again, which opens it again.
        spool.end()
    state.finish(phase, error)
    return dropped


def report(state: State, accounting: Accounting) -> None:
    """Log everything that was lost, and then tell those who wait for the end of a delivery that is at rest."""
    accounting.log_losses(last=True)
    with guard.lock:
        state.reported()
