"""Opening: opens the spool and the sink of a delivery, in as many tries as there is time for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import NEVER
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sending.retry import LAST_TRY, backoff, cancelled
from nat_observability.delivery.state import END_EARLY, State
from nat_observability.delivery.threads.worker import as_exception
from nat_observability.errors import SinkError, StartTimeoutError, ThreadRefusedError
from nat_observability.foreign_errors import EXITS
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import Sink

if TYPE_CHECKING:
    from nat_observability.delivery.entry_mover import EntryMover
    from nat_observability.delivery.spool_client import SpoolClient

_FIRST = 1.0  # seconds at most before the second try
_MOST = 30.0  # seconds at most before any later one
# Errors that the time of a shutdown does not mend: a wrong configuration, or a process that is at its limit of threads.
_FINAL = (ImportError, TypeError, ValueError, ThreadRefusedError)
_log = get_logger()


class Opening:
    """
    Opens spool and sink. On the delivery's loop.

    What cannot be opened is tried again with backoff while a runtime holds the delivery. What is accepted meanwhile
    waits in the queue, or is saved if there is a spool.

    A last call has the sink tried at once, and then with backoff until half a second before its end, for as long as
    something is in memory alone and time may mend the error. What the spool has is worth two seconds, and then waits
    there. A delivery that nothing holds any more has one last try, for what is in memory alone.

    Args:
        name: The exporter's, for logs.
        state: Of the delivery.
        accounting: Its queue and counts.
        sink: What is opened.
        limits: Of the time that one try has.
        loop: On which everything here is called.
        spool: None if nothing is spooled.
        mover: Saves what waits, and begins when the sink is open.

    Attributes:
        is_open: Whether the sink is open, and the loop has to close it.
        is_superseded: Whether sink and spool are another loop's by now.
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
        mover: EntryMover,
    ) -> None:
        self._name = name
        self._state = state
        self._accounting = accounting
        self._sink = sink
        self._limits = limits
        self._loop = loop
        self._spool = spool
        self._mover = mover
        self._try_until: asyncio.Timeout | None = None
        self._is_last_try = False  # whether the try under way began after a last call
        self._saved_until: float | None = None  # the end of the last try of what the spool has
        self.is_open = self.is_superseded = False

    async def run(self) -> Exception | None:
        """Return None when spool and sink are open, or if the loop was dismissed; else why they are given up."""
        tries = in_row = 0
        is_last = False
        self._saved_until = None
        while True:
            self._is_last_try = self._state.last_call
            problem = await self._try()
            if self._is_last_try and not is_last:
                is_last, in_row = True, 0
            with locking.lock:
                if self._mover.dismissed:
                    return None
                if problem is None:
                    self._state.opened()
                goes_on = problem is not None and self._state.not_opened(problem)
            if problem is None:
                self._mover.begin()
                if tries:
                    _log.info("exporter_reopened", exporter=self._name, tries=tries)
                return None
            tries, in_row = tries + 1, in_row + 1
            ends = is_last and isinstance(problem, _FINAL)
            if ends or not (goes_on and await self._wait(backoff(in_row, _FIRST, _MOST), is_last=is_last)):
                await self._save_the_rest()
                if self._spool is not None:
                    with suppress(SinkError):
                        await self._spool.close()
                return problem

    async def _save_the_rest(self) -> None:
        """Save what waits, if there is a spool, before the sink is given up: that it cannot be opened loses nothing."""
        signal, until = self._mover.signal, self._loop.time() + LAST_TRY
        while self._spool is not None and self._spool.is_open:
            signal.clear()
            with locking.lock:
                accounting = self._accounting
                saves, upstream = accounting.queue.items > 0, accounting.upstream > 0
                if self._mover.dismissed or not (saves or upstream):
                    return
                accounting.wake_items = 1
                accounting.hasten_upstream()
                ends_at = self._state.ends_at(self._loop.time())
            if saves:
                await self._mover.save_queued()
                continue
            try:
                async with asyncio.timeout_at(until if ends_at is None else ends_at):
                    await signal.wait()
            except TimeoutError:
                return

    async def _try(self) -> Exception | None:
        try:
            await self._open()
        except BaseException as error:
            if cancelled(error) or isinstance(error, GeneratorExit):
                raise
            return as_exception(error)
        return None

    async def _open(self) -> None:
        if self._spool is not None:
            try:
                await self._spool.open()
            finally:
                # It may have been opened just after the delivery was put to rest, which had nothing to close then.
                if self._mover.dismissed and not self.is_superseded:
                    self._spool.end()
        if self._mover.dismissed:
            return
        # A sink that hangs must neither keep what runs have recorded from the disk, for which their ends wait, nor use
        # up the time of a shutdown.
        watching = self._loop.create_task(self._watch())
        try:
            await self._open_sink()
        except asyncio.CancelledError:
            watching.cancel()
            raise
        finally:
            self._mover.signal.set()
            await asyncio.gather(watching, return_exceptions=True)

    async def _open_sink(self) -> None:
        seconds, began = self._limits.open_timeout, self._loop.time()
        with locking.lock:
            ends_at = self._end_of_try(began + seconds)
            self._is_last_try = self._state.last_call  # which may have come while the spool was opened
        try:
            async with asyncio.timeout_at(ends_at) as self._try_until:
                await self._sink.open()
        except TimeoutError as error:
            had = min(seconds, round(self._loop.time() - began, 2))  # less, if a last call has cut it short
            raise StartTimeoutError(self._name, had) from error
        except EXITS as error:
            # It would leave this task, and end a turn of the event loop with it.
            raise as_exception(error) from error
        finally:
            self._try_until = None
        self.is_open = True

    async def _watch(self) -> None:
        """Save what comes while the sink is being opened, if there is a spool, and end the try in time."""
        signal = self._mover.signal
        try:
            while (under_way := self._try_until) is not None:
                signal.clear()
                with locking.lock:
                    saves = not self._mover.dismissed and self._saves()
                    if not under_way.expired() and (ends_at := under_way.when()) is not None:
                        under_way.reschedule(self._end_of_try(ends_at))
                if saves:
                    await self._mover.save_queued()
                else:
                    await signal.wait()
        except EXITS as error:
            raise as_exception(error) from error

    async def _wait(self, seconds: float, *, is_last: bool) -> bool:
        """Wait until the next try, and meanwhile save what comes, if there is a spool; return whether there is one."""
        due_at, signal = self._loop.time() + seconds, self._mover.signal
        while True:
            signal.clear()
            with locking.lock:
                if self._mover.dismissed:
                    return False
                saves = self._saves()
                next_at = self._next_try(due_at, is_last=is_last)
            if saves:
                await self._mover.save_queued()
                continue
            if next_at is None or next_at <= self._loop.time():
                return next_at is not None
            try:
                async with asyncio.timeout_at(next_at):
                    await signal.wait()
            except TimeoutError:
                return True

    # Under the lock:

    def _next_try(self, due_at: float, *, is_last: bool) -> float | None:
        """Return when to try again; None for not at all. `is_last`: the try before began after a last call."""
        accounting, state, now = self._accounting, self._state, self._loop.time()
        if not state.unwanted:
            return due_at
        ends_at = state.ends_at(now)
        if ends_at is not None:
            if now >= ends_at + (0.0 if is_last else END_EARLY / 2):
                return None
            # However long the backoff has become, the end is worth a try.
            due_at = min(due_at, ends_at)
        elif is_last:
            return None
        if accounting.upstream:
            accounting.hasten_upstream()
            return due_at
        if accounting.only_in_memory:
            return due_at if is_last or self._is_saving else now
        worth_it = state.last_call and accounting.ledger.pending > 0 and not is_last
        return now if worth_it and now < self._end_of_saved(now) else None

    def _end_of_try(self, ends_at: float) -> float:
        """Return when a try ends that would end at that time if there was no last call."""
        state, now = self._state, self._loop.time()
        if not state.last_call:
            return ends_at
        if self._is_saved:
            return min(ends_at, self._end_of_saved(now))
        last_at = state.ends_at(now)
        # The very last try begins half a second before the end. One that hangs leaves time to count what is lost.
        return ends_at if last_at is None else min(ends_at, last_at + END_EARLY / 2)

    def _end_of_saved(self, now: float) -> float:
        if self._saved_until is None:
            self._saved_until = now + LAST_TRY
        return self._saved_until

    @property
    def _is_saved(self) -> bool:
        """Whether nothing would be lost if the sink was not opened any more."""
        accounting = self._accounting
        return not (accounting.upstream or accounting.only_in_memory)

    @property
    def _is_saving(self) -> bool:
        return self._spool is not None and self._spool.is_saving

    def _saves(self) -> bool:
        """Return whether to save while the sink is not open; set when to be woken."""
        accounting = self._accounting
        accounting.wake_items = accounting.wake_bytes = NEVER
        accounting.tell_room()
        if self._state.unwanted:
            accounting.wake_items = 1  # what is processed yet
        if self._spool is None or not self._spool.is_open:
            return False
        if accounting.saves_all or self._state.unwanted or accounting.is_filled(0.5):
            if accounting.queue.items:
                return True
            accounting.wake_items = 1
        else:
            accounting.wake_items = (self._limits.queue_items + 1) // 2
        return False
