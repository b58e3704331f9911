"""The run thread: a background event loop for the runs of synchronous code; and the fallbacks without one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from nat_observability.context import ContextState
from nat_observability.delivery.threads.delivery_thread import DeliveryThread, new_loop
from nat_observability.errors import (
    ExporterStartError,
    GreenThreadsError,
    StartTimeoutError,
    ThreadRefusedError,
)
from nat_observability.exporter.step_exporter import StepSubscription
from nat_observability.exporter.subscription import Subscription
from nat_observability.exporter_manager import ExporterManager
from nat_observability.foreign_errors import describe, reraise_signal
from nat_observability.logs import get_logger
from nat_observability.run.exporter_record import ExporterRecord
from nat_observability.run.isolation import traits
from nat_observability.run.report import ExporterState, ManagerReport
from nat_observability.system.clock import perf_counter, wait
from nat_observability.system.waiting_threads import waiting_here

ResultT = TypeVar("ResultT")

# Not the delivery thread: an exporter's `start` is foreign code, which must not stall a delivery.
_thread = DeliveryThread(name="nat-observability-runs")
_log = get_logger()


class ThreadLease:
    """
    Keeps the run thread alive, from its creation until `release`; void in a forked child.

    Attributes:
        runs_by_itself: Whether the loop runs without anyone waiting.

    Raises:
        ThreadRefusedError: No thread can be started.
    """

    runs_by_itself = True

    def __init__(self) -> None:
        self.loop = _thread.acquire()
        self._pid = os.getpid()

    @property
    def void(self) -> bool:
        """Whether this is a forked child, where the parent's thread does not exist."""
        return self._pid != os.getpid()

    def begin(self, coroutine: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        """Run `coroutine` on the loop, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def wait(self, future: Future[Any], timeout: float | None = None) -> None:
        """Wait until `future` is done, for at most this many seconds."""
        with waiting_here():
            futures.wait([future], timeout)

    def call(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run `coroutine` on the loop; return what it returns, raise what it raises."""
        future = self.begin(coroutine)
        try:
            self.wait(future)
            return future.result(0)
        except BaseException:
            future.cancel()  # if the caller was interrupted while waiting; otherwise a no-op
            raise

    def release(self) -> None:
        """Let the thread end if nothing else needs it."""
        if not self.void:
            _thread.release()


class CallersLoop(ThreadLease):
    """
    An event loop on the caller's own thread, for when no other thread can be started. It runs during each wait.

    Raises:
        OSError: No file handle is left for it, or it does not run.
        RuntimeError: An event loop is already running in this thread.
    """

    runs_by_itself = False

    def __init__(self) -> None:
        if _loop_runs():
            raise RuntimeError("An event loop runs in this thread already.")
        loop = new_loop()
        try:
            # Prove now that the loop runs, and not in the middle of a run.
            loop.call_soon(loop.stop)
            loop.run_forever()
        except BaseException:
            loop.close()
            raise
        self._runner = asyncio.Runner(loop_factory=lambda: loop)
        self.loop = self._runner.get_loop()
        self._pid = os.getpid()
        self._waits = self._released = False

    def wait(self, future: Future[Any], timeout: float | None = None) -> None:
        if _loop_runs():
            return  # it began without a running loop, and cannot run inside one
        self._waits = True
        try:
            self._runner.run(_done(future, timeout))
        except BaseException:
            self._released = True
            raise
        finally:
            self._waits = False
            if self._released:
                self._runner.close()

    def release(self) -> None:
        self._released = True
        if not (self._waits or self.void or _loop_runs()):
            self._runner.close()


async def _done(future: Future[Any], timeout: float | None) -> None:
    await wait([asyncio.wrap_future(future)], timeout)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_loop() -> ThreadLease:
    """
    Return a loop for synchronous code: on the run thread or, if that cannot be started, on the caller's.

    Raises:
        ThreadRefusedError: Neither is available.
    """
    try:
        return ThreadLease()
    except GreenThreadsError:
        # Greenlets share a thread, and asyncio has one current loop per thread: two callers' loops would collide.
        raise
    except ThreadRefusedError as refused:
        try:
            return CallersLoop()
        except Exception:  # noqa: BLE001  whatever the system refuses, as above
            raise refused from None


class BackgroundRun:
    """
    One run whose exporters start, live and stop on the run thread, while the caller's own thread does the work.

    The run does not become current: the caller sees to that, in its own context.

    Raises:
        ThreadRefusedError: Neither a thread nor a loop is available.
    """

    def __init__(self, manager: ExporterManager, state: ContextState) -> None:
        self._manager = manager
        self._state = state
        self._over = asyncio.Event()
        self._started: Future[None] = Future()
        self._lease = run_loop()

    @property
    def report(self) -> ManagerReport:
        """What the run's exporters have done so far, or in total once it has ended."""
        return self._manager.report

    def start(self) -> None:
        """
        Start the exporters and wait until they are ready.

        Raises:
            ExporterStartError: A required one did not start; those that had are stopped.
        """
        self._ended = self._lease.begin(self._live())
        self._ended.add_done_callback(lambda _: self._lease.release())
        try:
            self._lease.wait(self._started)
            self._started.result(0)
        except BaseException:
            # If the caller was interrupted, the run may have begun: it ends in the background.
            self._tell_over()
            raise

    def stop(self, timeout: float) -> None:
        """
        Stop the exporters.

        Args:
            timeout: The maximum wait in seconds. An exporter that blocks the run thread for longer is left behind with
                it.
        """
        if self._lease.void:
            return
        self._tell_over()
        if not self._ended.done():
            self._lease.wait(self._ended, timeout)
        if not self._ended.done():
            _log.warning("run_abandoned", workflow_run_id=self._state.run.run_id, waited_s=timeout)

    def let_go(self, timeout: float) -> None:
        """Stop the exporters without waiting, unless the loop runs only while someone waits: then as `stop` does."""
        if self._lease.runs_by_itself and not self._lease.void:
            self._tell_over()
        else:
            self.stop(timeout)

    def _tell_over(self) -> None:
        with suppress(RuntimeError):  # the run has ended already, and with the last one the loop
            self._lease.loop.call_soon_threadsafe(self._over.set)

    async def _live(self) -> None:
        try:
            async with self._manager.start(self._state):
                self._started.set_result(None)
                await self._over.wait()
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


class LooplessRun:
    """
    One run without an event loop, for when none is available: only with the exporters that merely subscribe.

    What they record is queued if the delivery is open, and otherwise counted as dropped. An exporter with a `start` of
    its own is left out.

    Args:
        manager: The run's manager.
        state: The run's ids and its stream.
        refused: The reason for having no loop.
    """

    def __init__(self, manager: ExporterManager, state: ContextState, refused: ThreadRefusedError) -> None:
        self._manager, self._state, self._refused = manager, state, refused
        self._records = {
            name: ExporterRecord(name, exporter) for name, exporter in manager.taking_part(state.run).items()
        }
        self._pid = os.getpid()
        self._running = False
        self._began_at = perf_counter()
        self._started_s: float | None = None
        self._ending_at: float | None = None
        self._stopped_s: float | None = None

    @property
    def report(self) -> ManagerReport:
        """What the run's exporters have done so far, or in total once it has ended."""
        run = self._state.run
        return ManagerReport(
            self._running,
            run.run_id,
            run.trace_id,
            self._started_s,
            self._stopped_s,
            self._state.stream.unheard,
            {name: record.report(self._began_at, self._ending_at) for name, record in self._records.items()},
        )

    def start(self) -> None:
        """
        Subscribe the exporters; wait until their deliveries are open, within the start timeout.

        Raises:
            ExporterStartError: A required one did not start; those that had are stopped.
        """
        options = self._manager.options
        self._state.propagated_tags = options.propagate_tags
        if options.observer is not None:
            options.observer.run_started()
        self._running = True
        self._state.stream.attend()
        try:
            deadline = self._began_at + options.start_timeout
            openings = {name: self._begin(record) for name, record in self._records.items()}
            for name, opening in openings.items():
                self._await(self._records[name], opening, deadline)
            self._started_s = perf_counter() - self._began_at
            missing = {
                name: record.error
                for name, record in self._records.items()
                if record.error is not None and name in options.required
            }
            if missing:
                raise ExporterStartError(missing)
        except BaseException:
            self.stop(options.shutdown_timeout)
            raise

    def _begin(self, record: ExporterRecord) -> Future[None] | None:
        exporter = record.exporter
        try:
            if not traits(type(exporter)).plain:
                raise self._refused
            record.subscription = subscription = exporter.subscription(self._state)
            if isinstance(subscription, StepSubscription):
                return subscription.begin_anywhere()
            if subscription.begin() is not None:
                subscription.end()
                raise self._refused
        except BaseException as error:  # noqa: BLE001  foreign code: a subscription may raise anything
            record.fail(error)
            reraise_signal(error)
        return None

    def _await(self, record: ExporterRecord, opening: Future[None] | None, deadline: float) -> None:
        if opening is not None:
            try:
                opening.result(max(0.0, deadline - perf_counter()))
            except TimeoutError as error:
                late = not opening.done()
                record.fail(
                    StartTimeoutError(record.name, self._manager.options.start_timeout) if late else error
                )
            except Exception as error:  # noqa: BLE001  foreign code: opening a sink may raise anything
                record.fail(error)
        if record.error is None:
            record.ready_at, record.state = perf_counter(), ExporterState.RUNNING
            return
        record.state = ExporterState.FAILED
        _log.error(
            "exporter_start_failed",
            exporter=record.name,
            workflow_run_id=self._state.run.run_id,
            error=describe(record.error),
        )

    def stop(self, timeout: float) -> None:
        """
        End the subscriptions.

        Args:
            timeout: The maximum wait, in seconds, for what an exporter waits for.
        """
        if self._pid != os.getpid() or not self._running:
            return
        self._running = False
        self._ending_at = perf_counter()
        endings = {
            name: self._end(record, record.subscription)
            for name, record in self._records.items()
            if record.subscription is not None
        }
        futures.wait([ending for ending in endings.values() if ending is not None], timeout)
        for name, record in self._records.items():
            ending = endings.get(name)
            if ending is not None and not ending.done():
                record.state = ExporterState.ABANDONED
                _log.warning("run_abandoned", workflow_run_id=self._state.run.run_id, waited_s=timeout)
            elif record.state is ExporterState.RUNNING:
                record.state = ExporterState.STOPPED
            record.ended_at = perf_counter()
        self._stopped_s = perf_counter() - self._ending_at
        if (observer := self._manager.options.observer) is not None:
            observer.run_ended()

    def let_go(self, timeout: float) -> None:
        """End the subscriptions as `stop` does: nothing of this run goes on in the background."""
        self.stop(timeout)

    def _end(self, record: ExporterRecord, subscription: Subscription) -> Future[None] | None:
        try:
            if isinstance(subscription, StepSubscription):
                return subscription.end_anywhere()
            subscription.end()
        except BaseException as error:  # noqa: BLE001  foreign code: a subscription may raise anything
            record.fail(error)
            reraise_signal(error)
        return None


def sync_run(manager: ExporterManager, state: ContextState) -> BackgroundRun | LooplessRun:
    """Return a run for synchronous code, not yet started."""
    try:
        return BackgroundRun(manager, state)
    except ThreadRefusedError as refused:
        return LooplessRun(manager, state, refused)
