"""The run thread: an event loop in the background, for the runs of synchronous code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from nat_observability.context import ContextState
from nat_observability.delivery.thread import DeliveryThread
from nat_observability.exporter_manager import ExporterManager
from nat_observability.logs import get_logger

ResultT = TypeVar("ResultT")

# Not the delivery thread: what an exporter does in its `start` is foreign code, which must not stall a delivery.
_thread = DeliveryThread(name="nat-observability-runs")
_log = get_logger()


class ThreadLease:
    """Keeps the run thread alive, from when it is made until `release`; in a forked child it is void."""

    def __init__(self) -> None:
        self.loop = _thread.acquire()
        self._pid = os.getpid()

    @property
    def void(self) -> bool:
        """Whether this is a forked child, where the parent's thread does not exist."""
        return self._pid != os.getpid()

    def begin(self, coroutine: Coroutine[object, object, ResultT]) -> Future[ResultT]:
        """Run `coroutine` on the run thread, and do not wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, coroutine: Coroutine[object, object, ResultT]) -> ResultT:
        """Run `coroutine` on the run thread; return what it returns, raise what it raises."""
        future = self.begin(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller was interrupted while it waited; otherwise nothing happens
            raise

    def release(self) -> None:
        """Let the thread end, where nobody else needs it."""
        if not self.void:
            _thread.release()


class BackgroundRun:
    """
    One run whose exporters start, live and stop on the run thread, while the caller's own thread does the work.

    The run is not made current: that is for the caller to do, in its own context.
    """

    def __init__(self, manager: ExporterManager, state: ContextState) -> None:
        self._manager = manager
        self._state = state
        self._over = asyncio.Event()
        self._started: Future[None] = Future()

    def start(self) -> None:
        """
        Start the exporters; return when they are ready.

        Raises:
            ExporterStartError: A required one did not start; those that had are stopped.
        """
        self._lease = ThreadLease()
        self._ended = self._lease.begin(self._live())
        self._ended.add_done_callback(lambda _: self._lease.release())
        try:
            self._started.result()
        except BaseException:
            # Where the caller was interrupted the run may have begun: it ends in the background.
            self._tell_over()
            raise

    def stop(self, timeout: float) -> None:
        """
        Stop the exporters.

        Args:
            timeout: Most seconds to wait. An exporter that blocks the run thread for longer is left alone with it.
        """
        if self._lease.void:
            return
        self._tell_over()
        futures.wait([self._ended], timeout)
        if not self._ended.done():
            _log.warning("run_abandoned", workflow_run_id=self._state.run.run_id, waited_s=timeout)

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
