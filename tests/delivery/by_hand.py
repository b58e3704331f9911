"""A worker whose calls a test makes one by one, and deliveries whose spool has such a worker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nat_observability.delivery.threads.delivery_thread import DeliveryThread
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.delivery.threads.worker import NewWorker, make_call
from nat_observability.errors import SinkError, ThreadRefusedError
from nat_observability.testing import until


class ByHand:
    """
    A worker whose calls are made by the test, one by one.

    Attributes:
        calls: Those that were submitted and not made.
        is_refused: Whether its thread has died, and the system refuses another one.
    """

    def __init__(self) -> None:
        self.calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.is_refused = False

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        if self.is_refused:
            raise ThreadRefusedError("spool", "can't start new thread", "Raise the limit on threads.")
        future: Future[Any] = Future()
        self.calls.append((future, call))
        return future

    def end(self) -> None:
        """There is no thread to end."""

    async def submitted(self, count: int) -> None:
        """Wait until so many calls were submitted and not made."""
        await until(lambda: len(self.calls) >= count)

    async def make_one(self) -> None:
        future, call = self.calls.popleft()
        # Shielded: a cancelled wait would take a call that no thread has begun away from the executor, and lose it.
        making = asyncio.get_running_loop().run_in_executor(None, lambda: make_call(future, call))
        await asyncio.shield(making)

    def die(self) -> None:
        """Fail every call, as a thread does that is ended from outside."""
        calls, self.calls = self.calls, deque()
        for future, _ in calls:
            future.set_exception(SinkError("The thread 'spool'", "ended", "The next call has a new one."))

    async def make_all_until(self, done: Callable[[], bool]) -> None:
        """Make every call that comes, until a condition holds."""

        async def make() -> None:
            while True:
                await self.submitted(1)
                await self.make_one()

        making = asyncio.create_task(make())
        try:
            await until(done)
        finally:
            making.cancel()
            await asyncio.wait({making})


class _OwnLoop(DeliveryThread):
    """Lends the loop that runs."""

    def acquire(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def release(self) -> None:
        """It goes on."""


class OneWorker(DeliveryThreadGroup):
    """A source for deliveries: the loop that runs, and one worker for all that would block."""

    def __init__(self, worker: ByHand) -> None:
        super().__init__(2)
        self.worker = worker
        self._own = _OwnLoop()

    def thread(self) -> DeliveryThread:
        return self._own

    def workers(self) -> NewWorker:
        return lambda name, after: self.worker
