"""ShutdownEvent: what the tasks of a run wait for, each in the cheapest way that it can."""

from __future__ import annotations

import asyncio


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
            finish(future)


def finish(waiter: asyncio.Future[None]) -> None:
    """Let whoever waits for a future go on, if nobody has yet."""
    if not waiter.done():
        waiter.set_result(None)
