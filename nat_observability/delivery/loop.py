"""DeliveryLoop: one period of a delivery's work on its event loop, from opening its sink to closing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.entry_mover import BatchObserver, EntryMover
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loss_reasons import NamedDropReason
from nat_observability.delivery.pipeline.intake import Intake
from nat_observability.delivery.sending.opening import Opening
from nat_observability.delivery.sending.retry import Retry, cancelled
from nat_observability.delivery.state import DeliveryState, State, resolve
from nat_observability.delivery.threads.delivery_thread import LoopSource, is_forgotten
from nat_observability.delivery.threads.worker import (
    as_exception,
    background_context,
    suppress_instrumentation,
)
from nat_observability.foreign_errors import EXITS, describe
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import Sink

if TYPE_CHECKING:
    from nat_observability.delivery.spool_client import SpoolClient

_LET_GO = 1.0  # seconds for closing the sink of a delivery that was given up; nothing waits for it
_log = get_logger()


class DeliveryLoop:
    """
    Opens spool and sink, moves entries until the delivery is no longer needed, and closes both.

    Args:
        name: The exporter's, for logs.
        state: Of the delivery.
        accounting: Its queue and counts.
        sink: Where batches are written.
        limits: Of batches, tries, times and the spool.
        loop_source: Where its event loop comes from.
        spool: None if nothing is spooled.
        intake: Where items wait for their processors; None if there are no processors.
        observer: Measures each batch, on the loop.
        after: A loop that was given up, and may still have to close the sink.

    Raises:
        ThreadRefusedError: No event loop could be started. Nothing is left behind.
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
        observer: BatchObserver | None = None,
        after: DeliveryLoop | None = None,
    ) -> None:
        self._name = name
        self._state = state
        self._accounting = accounting
        self._sink = sink
        self._limits = limits
        self._spool = spool
        self._intake = intake
        self._after = after
        self._loop_source = loop_source
        self._ended: Future[None] = Future()
        self._task: asyncio.Task[None] | None = None
        self._has_run = False
        self._loop = loop_source.acquire()
        try:
            self._mover = EntryMover(name, state, accounting, sink, limits, self._loop, spool, observer)
            self._opening = Opening(name, state, accounting, sink, limits, self._loop, spool, self._mover)
            if intake is not None:
                intake.loop.acquire()
        except BaseException:
            if not is_forgotten(self._loop):
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
            # Not in the context of the run that took the first lease: it would record its own export.
            self._loop.call_soon_threadsafe(self._begin, context=background_context())
        except RuntimeError:
            # The delivery is about to learn that this loop broke, and to move to another one.
            if not is_forgotten(self._loop):
                raise

    @property
    def wake(self) -> Callable[[], None]:
        """Has the queue looked at again. Called under the lock."""
        return self._mover.wake

    @property
    def dismissed(self) -> bool:
        """Whether it was given up: what is under way no longer counts."""
        return self._mover.dismissed

    def dismiss(self) -> None:
        """Stop counting what is under way. Under the lock."""
        self._mover.dismissed = True

    @property
    def retry(self) -> Retry:
        """What decides about batches that are not taken at once."""
        return self._mover.retry

    @property
    def last_batch_s(self) -> float | None:
        """Seconds that the last batch took; None before the first."""
        return self._mover.last_batch_s

    @property
    def last_batch_failed(self) -> bool:
        """Whether the back end took nothing of the last batch."""
        return self._mover.last_batch_failed

    @property
    def last_success_s(self) -> float:
        """Seconds since the back end last took something, or else since this began."""
        return max(0.0, self._loop.time() - self._mover.last_success)

    def cancel(self) -> None:
        """Cancel everything under way, without waiting."""
        self._soon(self._cancel)

    @property
    def is_cut_off(self) -> bool:
        """Whether the event loop no longer runs."""
        return self._loop.is_closed()

    def give_up(self) -> None:
        """Let go of an event loop on which this could not be started, or that broke."""
        if self._intake is not None:
            self._intake.loop.release()
        if not is_forgotten(self._loop):
            self._loop_source.release()
        resolve([self._ended])

    def _soon(self, callback: Callable[[], object]) -> None:
        # This one and its event loop have ended meanwhile; or the loop broke, and another one is about to take over.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    # On the loop:

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run(), name=f"delivery {self._name}")
        # Not at the end of the task itself, which never begins if it is cancelled at once.
        self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        with locking.lock:
            if not self.dismissed and self._state.phase.at_work and not self._has_run:
                # A sink has cancelled every task of the loop, this one before it began.
                error = RuntimeError("A task of the delivery was cancelled before it began.")
                self._state.not_opened(error)
                self._finish(DeliveryState.FAILED, error, "not_open")
        report(self._state, self._accounting)
        if self._intake is not None:
            self._intake.loop.release()
        self._loop_source.release()
        resolve([self._ended])

    def _cancel(self) -> None:
        for task in (self._task, *self._mover.sends):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        self._has_run = True
        try:
            await self._take_over()
            while True:
                suppress_instrumentation()
                if not await self._open():
                    return
                # A task of its own: what wakes it need not pass through this one.
                moving = self._loop.create_task(self._mover.run(), name=f"entries of {self._name}")
                try:
                    if not await moving:
                        return
                finally:
                    moving.cancel()
                if self._spool is not None:
                    await self._spool.close()
                await self._close()
                with locking.lock:
                    if self.dismissed:
                        return
                    waiting = len(self._accounting.queue) + self._accounting.upstream
                    if not self._state.reopens(waiting=bool(waiting)):
                        # The queue now holds only what was recorded after its lease had ended.
                        self._finish(DeliveryState.CLOSED, None, "closed")
                        return
        except BaseException as error:
            # Foreign code: opening a sink may raise anything, even SystemExit, and cancel this very task.
            with locking.lock:
                if not self.dismissed:
                    if self._state.phase.opening:
                        self._state.not_opened(as_exception(error))
                    self._finish(DeliveryState.FAILED, as_exception(error), "not_open")
                    # What is being sent was given up, and is not to be counted once more.
                    self.dismiss()
                    for task in self._mover.sends:
                        task.cancel()
                elif not isinstance(error, Exception):
                    raise
        finally:
            # Before letting go of the sink: a caller that waits for the end, of the process for example, waits only for
            # the log.
            report(self._state, self._accounting)
            await self._let_go()

    async def _take_over(self) -> None:
        """Wait for the loops before: a sink is not opened while it is being closed, which may never end."""
        before: list[DeliveryLoop] = []
        each = self._after
        while each is not None:
            before.append(each)
            each = each._after  # one that was itself given up while it waited
        if before:
            ended = [asyncio.wrap_future(each._ended) for each in before]
            await asyncio.wait(ended, timeout=2 * _LET_GO)
            for each in before:
                # From now on the sink is this loop's: if another one closed it, this one would lose it.
                each._opening.is_superseded = True
        self._after = None

    async def _open(self) -> bool:
        problem = await self._opening.run()
        with locking.lock:
            if problem is not None and not self.dismissed:
                self._finish(DeliveryState.FAILED, problem, "not_open")
            return problem is None and not self.dismissed

    def _finish(self, phase: DeliveryState, error: BaseException | None, reason: NamedDropReason) -> None:
        finish(self._state, self._accounting, self._spool, phase, error, reason)

    async def _close(self) -> None:
        """Close the sink, which has written everything: nothing is lost if that raises, or never ends."""
        self._opening.is_open = False
        suppress_instrumentation()
        try:
            async with asyncio.timeout(self._limits.open_timeout):
                await self._sink.close()
        except BaseException as error:
            # Foreign code may raise anything, even SystemExit. A cancellation of this very task is not the sink's.
            if cancelled(error) or isinstance(error, GeneratorExit):
                raise
            _log.warning("sink_close_failed", exporter=self._name, error=describe(error))

    async def _let_go(self) -> None:
        """Close a sink that is still open, because the delivery was given up: its connections would stay open."""
        if not self._opening.is_open or self._opening.is_superseded:
            return
        self._opening.is_open = False
        # In a task of its own: this one may be cancelled just now, and the sink would be left half closed.
        closing = self._loop.create_task(self._close_sink())
        deadline = self._loop.time() + _LET_GO
        while not closing.done() and self._loop.time() < deadline:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({closing}, timeout=deadline - self._loop.time())
        if not closing.done():
            closing.cancel()
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            _log.debug("sink_not_closed", exporter=self._name, error=describe(error))

    async def _close_sink(self) -> None:
        try:
            await self._sink.close()
        except EXITS as error:
            raise as_exception(error) from error


def finish(
    state: State,
    accounting: Accounting,
    spool: SpoolClient | None,
    phase: DeliveryState,
    error: BaseException | None,
    reason: NamedDropReason,
) -> int:
    """Put a delivery to rest; return how many items were dropped. Under the lock."""
    accounting.wake = None
    accounting.refusal = "not_open" if reason == "not_open" else "closed"
    accounting.tell_room()
    dropped = accounting.drop_all(accounting.in_hand(), reason) + accounting.forget_upstream(reason)
    if spool is not None:
        # Before a new lease is taken, which would open it again.
        spool.end()
    state.finish(phase, error)
    return dropped


def report(state: State, accounting: Accounting) -> None:
    """Log every loss, and then wake those who wait for the end of a delivery that is at rest."""
    accounting.log_losses(last=True)
    with locking.lock:
        # Another thread may just be writing what this one has found nothing left of.
        accounting.losses.when_written(state.reported)
