"""Joining and Leaving: what one may wait for when an exporter joins or leaves a runtime that is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.losses import log_abandoned
from nat_observability.delivery.state import DeliveryHealth
from nat_observability.delivery.threads.worker import call_apart, call_elsewhere
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger
from nat_observability.system.clock import wait

_LOG_SECONDS = 0.5
_log = get_logger()


class Joining:
    """
    An exporter on its way into a runtime. Await it to learn whether it is open; it opens anyway.

    Args:
        name: The exporter's.
        lease: The runtime's hold on its delivery; None if there is nothing to open.
        timeout: Most seconds that an await takes.
    """

    def __init__(self, name: str, lease: Lease | None, timeout: float) -> None:
        self._opening = None if lease is None else lease.opening
        self._timeout = timeout
        if self._opening is not None:
            self._opening.add_done_callback(lambda opening: _log_failure(name, opening))

    def __await__(self) -> Generator[object, None, bool]:
        return self._opened().__await__()

    async def _opened(self) -> bool:
        if self._opening is None:
            return True
        waiting = asyncio.wrap_future(self._opening)
        waiting.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # noted, however late it comes
        await wait([waiting], self._timeout)
        return self._opening.done() and self._opening.exception() is None


class Leaving:
    """
    An exporter that has left a runtime: runs that are under way with it go on, then it drains and is closed.

    Await it to wait for that, and for its health by then. An await also sets a limit: after half of the timeout it does
    not wait for those runs any more, and at the end of it drops what is left, and counts it.

    Args:
        name: The exporter's.
        lease: The runtime's hold on its delivery, which is given back; None if it has none.
        delivery: None if it has none, or if another exporter uses it too.
        timeout: Most seconds that an await takes.
    """

    def __init__(self, name: str, lease: Lease | None, delivery: Delivery | None, timeout: float) -> None:
        self.name, self._timeout = name, timeout
        self.delivery = delivery
        if lease is not None:
            lease.release()

    def __await__(self) -> Generator[object, None, DeliveryHealth | None]:
        return self._left().__await__()

    async def _left(self) -> DeliveryHealth | None:
        delivery = self.delivery
        if delivery is None:
            return None
        lost: list[tuple[str, int]] = []
        if not await _within(delivery.closed(), self._timeout / 2) and not await _within(
            delivery.close(), self._timeout / 2
        ):
            lost.append((self.name, delivery.abandon(self._timeout)))
        await log_end(lost, [delivery])
        return delivery.health()


async def log_end(
    abandoned: Sequence[tuple[str, int]],
    deliveries: Iterable[Delivery],
    more: Callable[[], None] | None = None,
) -> None:
    """
    Log what exporters have lost by their end, and more.

    If any was abandoned, its stream may be a pipe that nothing reads, and the log may go there too: the lines are then
    written on a thread of their own, and not waited for longer than half a second.

    Args:
        abandoned: The names of those that were abandoned at a deadline, with the number of items lost by that.
        deliveries: Those that have ended.
        more: Called afterwards.
    """

    def log() -> None:
        log_abandoned(abandoned)
        for delivery in deliveries:
            delivery.log_losses()
        if more is not None:
            more()

    if abandoned:
        await call_elsewhere(call_apart(log, _LOG_SECONDS))
    else:
        log()


async def _within(closed: Future[None], timeout: float) -> bool:
    done, _ = await wait([asyncio.wrap_future(closed)], timeout)
    return bool(done)


def _log_failure(name: str, opening: Future[None]) -> None:
    if not opening.cancelled() and (error := opening.exception()) is not None:
        _log.error("exporter_start_failed", exporter=name, error=describe(error))
