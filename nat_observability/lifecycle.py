"""Lifecycle: the tasks of one start-to-stop cycle, how long they may take, and what became of each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.errors import StartTimeoutError, StopTimeoutError, describe
from nat_observability.exporter.base_exporter import Subscription
from nat_observability.reports import ExporterReport, ExporterState

# What did not stop in time; held until it ends, because an event loop holds its tasks only weakly.
_abandoned: set[asyncio.Task[None]] = set()

_CANCEL_GRACE = 1.0  # seconds, at most, for what was cancelled to end

_STARTING, _RUNNING, _STOPPED = ExporterState.STARTING, ExporterState.RUNNING, ExporterState.STOPPED
_FAILED, _ABANDONED = ExporterState.FAILED, ExporterState.ABANDONED


class ShutdownEvent(asyncio.Event):
    """
    An event whose waiters may also be plain futures.

    Waiting for a future of one's own costs half of what `wait` does, and each exporter of each run waits once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._future = loop.create_future
        self._futures: list[asyncio.Future[None]] = []

    def future(self) -> asyncio.Future[None]:
        """Return a new future that is done when the event is set."""
        future = self._future()
        if self.is_set():
            future.set_result(None)
        else:
            self._futures.append(future)
        return future

    def set(self) -> None:
        super().set()
        futures, self._futures = self._futures, []
        for future in futures:
            _set(future)


class Record:
    """One exporter in one cycle. Times are `time.perf_counter()` seconds."""

    __slots__ = ("cleaned_up", "ended_at", "error", "name", "ready_at", "state", "subscription", "task")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = _STARTING
        self.error: BaseException | None = None
        self.subscription: Subscription | None = None
        self.task: asyncio.Task[None] | None = None
        self.ready_at: float | None = None
        self.ended_at: float | None = None
        self.cleaned_up = False

    def report(self, began_at: float, ending_at: float | None) -> ExporterReport:
        """Return what is known of it now."""
        subscription = self.subscription
        ledger: LedgerSnapshot | None = None
        error, oddities = self.error, {}
        if subscription is not None:
            ledger, oddities = subscription.ledger, subscription.oddities
            error = error or subscription.error
        return ExporterReport(
            self.state,
            None if self.ready_at is None else self.ready_at - began_at,
            None if self.ended_at is None or ending_at is None else max(0.0, self.ended_at - ending_at),
            ledger,
            None if error is None else describe(error),
            oddities,
        )


class Lifecycle:
    """
    Runs one task per exporter from `begin` to `end`.

    Each task calls `ready` when its exporter takes steps, and `ended` last of all.
    """

    __slots__ = ("_left", "_loop", "_unready", "_waiter", "_plain_tasks", "began_at", "ending_at", "records", "shutdown", "troubled")

    def __init__(self, names: Iterable[str]) -> None:
        self.records = {name: Record(name) for name in names}
        self._left = self._unready = len(self.records)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.shutdown = ShutdownEvent(self._loop)
        self.began_at = time.perf_counter()
        self.ending_at: float | None = None
        self.troubled = False  # whether any exporter failed, was cancelled or was abandoned
        self._plain_tasks = self._loop.get_task_factory() is None

    def begin(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start the task of one exporter."""
        record = self.records[name]
        if not self._plain_tasks:
            task = self._loop.create_task(coroutine, name=name)
        elif sys.version_info >= (3, 12):
            # It runs up to its first real wait at once, which for most exporters is all that starting takes.
            task = asyncio.Task(coroutine, loop=self._loop, name=name, eager_start=True)
        else:
            task = asyncio.Task(coroutine, loop=self._loop, name=name)
        record.task = task
        return task

    def ready(self, record: Record) -> None:
        """Count one exporter as started."""
        record.state = _RUNNING
        record.ready_at = time.perf_counter()
        self._unready -= 1
        if not self._unready:
            self._wake()

    def ended(self, record: Record) -> None:
        """Count the task of one exporter as ended."""
        record.ended_at = time.perf_counter()
        was = record.state
        if was is _RUNNING and record.error is None:
            record.state = _STOPPED
        else:
            self.troubled = True
            record.state = was if was is _ABANDONED else _FAILED
        self._left -= 1
        if was is _STARTING:
            self._unready -= 1
        if not self._left or not self._unready:
            self._wake()

    async def started(self, timeout: float) -> None:
        """Wait until each exporter has started or failed; cancel those that have not done so in time."""
        if not self._unready:
            return
        # One turn of the event loop is all that most need; it spares them the timer.
        await asyncio.sleep(0)
        await self._wait(self._loop.time() + timeout, lambda: not self._unready)
        late = [record for record in self.records.values() if record.state is _STARTING]
        for record in late:
            record.error = StartTimeoutError(record.name, timeout)
            self._cancel(record)
        if late:
            # One turn of the loop lets what was cancelled clean up; what holds on is stopped with the rest.
            await asyncio.sleep(0)

    async def stopped(self, deadline: float, timeout: float, *, cancel: bool = False) -> bool:
        """
        Wait until every task has ended; cancel what is left shortly before the deadline, abandon it at the deadline.

        Args:
            deadline: In the event loop's time.
            timeout: The seconds that the deadline came from, for the message.
            cancel: Whether to cancel at once.

        Returns:
            Whether the caller was cancelled meanwhile. The caller raises that when its own work is done.
        """
        self.ending_at = time.perf_counter()
        cancelled = False
        if not cancel:
            cancelled = await self._hold(deadline - min(_CANCEL_GRACE, timeout / 10), give_way=True)
        if self._left:
            if cancel or cancelled:
                deadline = min(deadline, self._loop.time() + _CANCEL_GRACE)
            for record in self._running():
                self._cancel(record)
            cancelled = await self._hold(deadline, give_way=False) or cancelled
            for record in self._running():
                self._abandon(record, timeout)
        return cancelled

    async def last(self, deadline: float, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what is left to do until the deadline; what then goes on is abandoned."""
        task = self._loop.create_task(coroutine)
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=max(0.0, deadline - self._loop.time()))
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)

    def subscriptions(self) -> dict[str, Subscription]:
        """Return the subscriptions of those exporters that have one, by name."""
        return {
            name: record.subscription
            for name, record in self.records.items()
            if record.subscription is not None
        }

    def _running(self) -> list[Record]:
        return [record for record in self.records.values() if record.ended_at is None]

    def _cancel(self, record: Record) -> None:
        if record.task is not None:
            record.task.cancel()

    def _abandon(self, record: Record, timeout: float) -> None:
        self.troubled = True
        record.state = _ABANDONED
        record.error = StopTimeoutError(record.name, timeout)
        if record.task is not None:
            _abandoned.add(record.task)
            record.task.add_done_callback(_forget)

    async def _hold(self, deadline: float, *, give_way: bool) -> bool:
        """Wait for all to end, until the deadline, or until a cancellation to `give_way` to; return whether one came."""
        cancelled = tried = False
        while self._left and not (tried and self._loop.time() >= deadline):
            try:
                if tried:
                    await self._wait(deadline, lambda: not self._left)
                else:
                    tried = True
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                cancelled = True
                if give_way:
                    break
        return cancelled

    async def _wait(self, deadline: float, done: Callable[[], bool]) -> None:
        while not done():
            self._waiter = waiter = self._loop.create_future()
            timer = self._loop.call_at(deadline, _set, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
            if self._loop.time() >= deadline:
                return

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _forget(task: asyncio.Task[None]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that the event loop does not report it as unheard
