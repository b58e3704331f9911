"""Lifecycle: the tasks of one start-to-stop cycle, their deadlines and their outcomes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine, Mapping
from contextvars import Context
from typing import Any

from nat_observability.context import ContextState
from nat_observability.errors import RuntimeStateError, StartTimeoutError, StopTimeoutError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.subscription import Subscription
from nat_observability.foreign_errors import reraise_signal
from nat_observability.run.abandoned_tasks import abandon
from nat_observability.run.exporter_record import ExporterRecord
from nat_observability.run.report import ExporterReport, ExporterState
from nat_observability.run.shutdown_event import ShutdownEvent, finish
from nat_observability.system import clock

_HURRIED = 1.0  # seconds, at most, for a stop whose caller was cancelled
_LAST_PART = 0.1  # the part of a stop's time left for cancelled tasks to end; at most this many seconds:
_LAST_SECONDS = 1.0

INTERRUPTIONS = (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""
What may be raised in a caller that waits. In each case the exporters' tasks must be ended; a coroutine that is closed
(GeneratorExit) must not wait any more.
"""

_STARTING, _RUNNING, _STOPPED = ExporterState.STARTING, ExporterState.RUNNING, ExporterState.STOPPED
_FAILED, _ABANDONED = ExporterState.FAILED, ExporterState.ABANDONED


class Lifecycle:
    """
    Runs one task per exporter from `begin` to `end`, except for those that never wait: these need none.

    Each task calls `ready` when its exporter takes steps, and `ended` last of all. Without a task `begin_here` does
    the one, and `stopped` the other.

    Args:
        exporters: By name.
        loop: In which the run is.
        began_at: When it began, in seconds of `clock.perf_counter()`.
    """

    __slots__ = (
        "_is_given_up",
        "_left",
        "_loop",
        "_now",
        "_shutdown",
        "_unready",
        "_waiter",
        "began_at",
        "ending_at",
        "records",
        "troubled",
    )

    def __init__(
        self, exporters: Mapping[str, BaseExporter], loop: asyncio.AbstractEventLoop, began_at: float
    ) -> None:
        self.records = {name: ExporterRecord(name, exporter) for name, exporter in exporters.items()}
        self._left = self._unready = len(self.records)
        self._loop = loop
        self._now = clock.clock_of(loop)
        self._waiter: asyncio.Future[None] | None = None
        self._shutdown: ShutdownEvent | None = None
        self.began_at = began_at
        self.ending_at: float | None = None
        self._is_given_up = False
        self.troubled = False  # whether any exporter failed, was cancelled or was abandoned

    @property
    def shutdown(self) -> ShutdownEvent:
        """What the tasks wait for. Made on first use: a run without tasks never needs it."""
        if self._shutdown is None:
            self._shutdown = ShutdownEvent(self._loop)
            if self.ending_at is not None:
                self._shutdown.set()
        return self._shutdown

    @property
    def is_in_its_loop(self) -> bool:
        """Whether the calling code runs in the event loop in which the cycle began."""
        return runs_in(self._loop)

    def begin_here(self, record: ExporterRecord, state: ContextState) -> bool:
        """
        Begin the subscription of an exporter that does nothing else, in the caller's task.

        Returns:
            Whether it needs no task: False if there is something to wait for, which is then in `record.opening`.
        """
        try:
            subscription = record.subscription = record.exporter.subscription(state)
            try:
                record.opening = subscription.begin()
            except BaseException:
                subscription.end()
                raise
        except BaseException as error:  # noqa: BLE001  foreign code: a subscription may raise anything
            reraise_signal(error)
            record.fail(error)
            self.ended(record)
            return True
        if record.opening is not None:
            return False
        self.ready(record)
        return True

    def add_running(self, name: str, exporter: BaseExporter, subscription: Subscription) -> None:
        """Add the record of an exporter that runs already."""
        record = self.records[name] = ExporterRecord(name, exporter)
        record.subscription = subscription
        record.state, record.ready_at = _RUNNING, self.began_at
        self._left += 1

    def begin(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start the task of one exporter."""
        record = self.records[name]
        if self._loop.get_task_factory() is not None:
            task = self._loop.create_task(coroutine, name=name)
        elif sys.version_info >= (3, 12):
            # It runs up to its first real wait at once, which for most exporters is all that starting takes.
            task = asyncio.Task(coroutine, loop=self._loop, name=name, eager_start=True)
        else:
            task = asyncio.Task(coroutine, loop=self._loop, name=name)
        record.task = task
        return task

    def ready(self, record: ExporterRecord) -> None:
        """
        Count one exporter as started.

        Raises:
            StartTimeoutError: It was late and left out, and swallowed its cancellation.
        """
        if record.error is not None:
            raise record.error
        record.state = _RUNNING
        record.ready_at = clock.perf_counter()
        self._unready -= 1
        if not self._unready:
            self._wake()

    async def opened(self, record: ExporterRecord, opening: Awaitable[None]) -> None:
        """Wait until the delivery of an exporter is open, has failed to open, or is late, and count it accordingly."""
        try:
            await opening
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if record.error is None or (task is not None and task.cancelling()):
                raise
            self.left_out(record, error)
        except Exception as error:  # noqa: BLE001  foreign code: opening a sink may raise anything
            if (trace := error.__traceback__) is not None:
                # Every run that waits gets the same error: with this frame in it, it would keep all of them in memory.
                error.__traceback__ = trace.tb_next
            self.left_out(record, error)
        else:
            self.ready(record)
        finally:
            record.opening = None

    def left_out(self, record: ExporterRecord, error: BaseException) -> None:
        """Count one exporter as failed to start. Its subscription lasts until the run's end, and counts the losses."""
        record.fail(error)
        record.state = _FAILED
        self.troubled = True
        self._unready -= 1
        if not self._unready:
            self._wake()

    def ended(self, record: ExporterRecord) -> None:
        """Count the task of one exporter as ended, once."""
        if record.ended_at is not None:
            return
        record.ended_at = clock.perf_counter()
        was = record.state
        if was is _RUNNING and record.error is None:
            record.state = _STOPPED
        else:
            self.troubled = True
            if was is not _ABANDONED:
                record.state = _FAILED
        self._left -= 1
        if was is _STARTING:
            self._unready -= 1
        if not self._left or not self._unready:
            self._wake()

    def give_up_starting(self) -> None:
        """End the wait in `started`: the run is about to stop."""
        self._is_given_up = True
        self._wake()

    async def started(self, timeout: float) -> None:
        """
        Wait until each exporter has started or failed; cancel those that have not done so in time.

        One that only waits for its delivery to open keeps its subscription: what it gets is queued for when that opens,
        or counted as lost.
        """
        if not self._unready:
            return
        # Most need only one turn of the event loop; it saves the timer.
        await asyncio.sleep(0)
        if not self._unready:
            return
        self._notice_unbegun()
        deadline = self._now() + timeout
        while self._unready and not self._is_given_up and self._now() < deadline:
            await self._wait(deadline)
        late = [record for record in self.records.values() if record.state is _STARTING]
        for record in late:
            record.error = (
                RuntimeStateError(f"The run was stopped while exporter {record.name!r} started.")
                if self._is_given_up
                else StartTimeoutError(record.name, timeout)
            )
            if not self._is_given_up and isinstance(record.opening, asyncio.Future):
                record.opening.cancel()
            else:
                self.cancel(record)
        if late:
            # One turn of the loop lets what was cancelled clean up; what is left is stopped with the rest.
            await asyncio.sleep(0)

    async def stopped(self, timeout: float, began: float, *, hurried: bool = False) -> BaseException | None:
        """
        Tell every exporter to stop and wait for it: until shortly before the deadline, when what is left is
        cancelled, and from there to the deadline, when what is left is abandoned.

        Args:
            timeout: Seconds to the deadline.
            began: From when on they count, by the clock of the loop: before now if something was waited for already.
            hurried: Whether the caller was cancelled, so that the deadline comes within a second.

        Returns:
            The first cancellation or interruption of the caller meanwhile, which also hurries. The caller raises it
            when its own work is done.
        """
        self.ending_at = clock.perf_counter()
        began = self._now() if hurried else began
        interruption: BaseException | None = None
        if self._shutdown is not None:
            self._shutdown.set()
        for record in self.records.values():
            if record.ended_at is None:
                if record.task is None:
                    self._end_here(record)
                elif record.state is _STARTING:
                    self.cancel(record)
        if not self._left:
            return None
        cut_at, deadline = _within(min(timeout, _HURRIED) if hurried else timeout, began)
        turned = cut = False
        while self._left:
            now = self._now()
            if turned and cut and now >= deadline:
                self._abandon(deadline - began)
                break
            if turned and not cut and now >= cut_at:
                self._cut_short(deadline - began)
                turned, cut = False, True
            try:
                if turned:
                    await self._wait(deadline if cut else cut_at)
                else:
                    # Even past the deadline, each gets one turn of the event loop; for most that is enough.
                    turned = True
                    await asyncio.sleep(0)
                    self._notice_unbegun()
            except INTERRUPTIONS as error:
                interruption = error if interruption is None else interruption
                if deadline > self._now() + _HURRIED:
                    cut_at, deadline = _within(_HURRIED, self._now())
        return interruption

    def dropped(self) -> None:
        """End what can be ended without waiting: the run's coroutine was destroyed, and its loop does not run."""
        self.ending_at = clock.perf_counter()
        for record in self._running():
            if record.subscription is not None:
                self._leave(record, record.subscription)
            self.ended(record)

    def _end_here(self, record: ExporterRecord) -> None:
        """End the subscription of an exporter that has no task; it gets one if there is something to wait for."""
        settling = self._leave(record, record.subscription) if record.subscription is not None else None
        if settling is not None:
            self.begin(record.name, self._settle(record, settling))
        else:
            self.ended(record)

    def _leave(self, record: ExporterRecord, subscription: Subscription) -> Awaitable[None] | None:
        """End a subscription; return what to wait for, None if nothing."""
        try:
            return subscription.end()
        except BaseException as error:  # noqa: BLE001  foreign code: a subscription may raise anything
            reraise_signal(error)
            record.fail(error)
            return None

    async def _settle(self, record: ExporterRecord, settling: Awaitable[None]) -> None:
        try:
            await settling
        except asyncio.CancelledError as error:
            record.fail(error)
            raise
        except BaseException as error:  # noqa: BLE001  foreign code: what a subscription waits for may raise anything
            record.fail(error)
            reraise_signal(error)
        finally:
            self.ended(record)

    def reports(self) -> dict[str, ExporterReport]:
        """Return the exporters' reports as of now, by name."""
        return {name: record.report(self.began_at, self.ending_at) for name, record in self.records.items()}

    def subscriptions(self) -> dict[str, Subscription]:
        """Return the subscriptions of those exporters that have one, by name."""
        return {
            name: record.subscription
            for name, record in self.records.items()
            if record.subscription is not None
        }

    def cancel(self, record: ExporterRecord) -> None:
        """Cancel the task of one exporter, if it has one."""
        if record.readiness is not None:
            # This comes first: the exporter's task then finds it ended, and ends in the same turn of the event loop.
            record.readiness.cancel()
        if record.task is not None:
            record.task.cancel()

    def _running(self) -> list[ExporterRecord]:
        return [record for record in self.records.values() if record.ended_at is None]

    def _notice_unbegun(self) -> None:
        # A task that was cancelled before its first step never ran its coroutine, which would have called `ended`.
        for record in self._running() if self._left else ():
            if record.task is not None and record.task.done():
                if record.subscription is not None:
                    # It was begun before the task was made. Nothing waits for its items yet.
                    self._leave(record, record.subscription)
                self.ended(record)

    def _cut_short(self, seconds: float) -> None:
        self.troubled = True
        for record in self._running():
            if record.state is _RUNNING:
                record.state, record.error = _ABANDONED, StopTimeoutError(record.name, seconds)
            self.cancel(record)

    def _abandon(self, seconds: float) -> None:
        for record in self._running():
            record.state, record.error = _ABANDONED, StopTimeoutError(record.name, seconds)
            if record.task is not None:
                abandon(record.task)

    async def _wait(self, deadline: float) -> None:
        """Wait until the deadline, or until the last exporter has started or ended."""
        self._waiter = waiter = self._loop.create_future()
        # In a context of its own: a timer that was cancelled stays in the loop until its time, and with it the run.
        timer = clock.call_after(self._loop, deadline - self._now(), finish, waiter, context=Context())
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def runs_in(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the calling code runs in this event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # no event loop runs in this thread
        return False


def _within(seconds: float, began: float) -> tuple[float, float]:
    """Return the time at which to cancel what is left, and the deadline, by the loop's clock."""
    return began + seconds - min(_LAST_SECONDS, _LAST_PART * seconds), began + seconds
