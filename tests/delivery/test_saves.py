"""Saving what is queued: in which order, and what is left if the spool's thread or the delivery ends meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.spool_client import SpoolClient
from nat_observability.delivery.state import DeliveryState
from nat_observability.delivery.threads.worker import make_call
from nat_observability.sinks.protocol import Batch
from nat_observability.system.clock import monotonic
from nat_observability.testing import until
from tests.delivery import leases
from tests.delivery.backends import Backend, quick_limits
from tests.delivery.by_hand import ByHand, OneWorker
from tests.delivery.virtual import RunningLoop, settle, virtual_time
from tests.sinks.builders import make_span


@asynccontextmanager
async def delivering(directory: Path, sink: Any, **others: Any) -> AsyncIterator[tuple[Delivery, ByHand]]:
    """A delivery that saves everything, with a spool whose calls are made by hand; at the end they are all made."""
    worker = ByHand()
    limits = quick_limits(directory, "always", **others)
    delivery = Delivery("main", sink, limits=limits, loop_source=OneWorker(worker))
    try:
        yield delivery, worker
    finally:
        worker.is_refused = False
        closed = delivery.close()
        await worker.make_all_until(closed.done)
        await worker.make_all_until(lambda: not worker.calls)


async def test_what_two_calls_save_is_sent_in_the_order_in_which_it_was_recorded(tmp_path: Path) -> None:
    """A run's end and the delivery's loop both ask for a save; whichever comes first takes the oldest."""
    sink = Backend()
    async with delivering(tmp_path, sink) as (delivery, worker):
        lease = delivery.lease()
        await worker.submitted(1)
        await worker.make_one()
        await until(lambda: delivery.health().state is DeliveryState.OPEN)
        lease.accept(make_span(name="0"))
        ended = lease.saved()
        await worker.submitted(2)
        lease.accept(make_span(name="1"))
        await worker.make_all_until(lambda: len(sink.taken) == 2)
        assert sink.names == ["0", "1"]
        assert ended.done()
        lease.release()


async def test_g4_a_spool_without_a_thread_costs_nothing_but_the_safety(tmp_path: Path) -> None:
    """The thread has died, and the system refuses another: what is recorded is sent from memory, and runs end."""
    sink = Backend()
    async with delivering(tmp_path, sink) as (delivery, worker):
        lease = delivery.lease()
        await worker.submitted(1)
        await worker.make_one()
        await until(lambda: delivery.health().state is DeliveryState.OPEN)
        worker.is_refused = True
        with capture_logs() as lines:
            for number in range(30):
                lease.accept(make_span(name=str(number)))
            await asyncio.wait_for(asyncio.wrap_future(lease.saved()), 10.0)
            await until(lambda: len(sink.taken) == 30)
        assert {line["event"] for line in lines} == {"spool_failed"}
        assert delivery.health().state is DeliveryState.OPEN
        worker.is_refused = False
        lease.accept(make_span(name="30"))
        await worker.make_all_until(lambda: len(sink.taken) == 31)
        lease.release()
    assert delivery.health().ledger == LedgerSnapshot(31, 31)


async def test_g5_a_save_whose_thread_dies_loses_nothing(tmp_path: Path) -> None:
    """Neither what was to be saved when the thread died, nor what was to wait again in the spool."""
    sink = Backend(down=True)
    async with delivering(tmp_path, sink, retry_for=0) as (delivery, worker):
        lease = delivery.lease()
        await worker.submitted(1)
        await worker.make_one()
        await until(lambda: delivery.health().state is DeliveryState.OPEN)
        lease.accept(make_span())
        ended = lease.saved()
        await worker.submitted(1)
        worker.die()
        await worker.make_all_until(ended.done)
        for _ in range(3):
            # The back end gives it back, and it is to wait in the spool again.
            await worker.submitted(1)
            worker.die()
        sink.down = False
        settled = lease.settled()
        await worker.make_all_until(settled.done)
        lease.release()
    assert delivery.health().ledger == LedgerSnapshot(1, 1)


@contextmanager
def at_first_call(function: Callable[..., object], act: Callable[[], None]) -> Iterator[None]:
    """Have `act` called on this thread when a function is called for the first time, before its first line."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is function.__code__:
            sys.setprofile(None)
            act()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.may_block  # the test makes the spool's calls on the loop's thread
async def test_g6_a_lease_that_comes_just_before_the_spool_closes_leaves_nothing_there(
    tmp_path: Path,
) -> None:
    """A run that begins and ends between the last look at the queue and the close is delivered by this process."""
    sink = Backend()
    async with delivering(tmp_path, sink) as (delivery, worker):
        first = delivery.lease()
        await worker.submitted(1)
        await worker.make_one()
        await until(lambda: delivery.health().state is DeliveryState.OPEN)
        second = []

        def run() -> None:
            lease = delivery.lease()
            lease.accept(make_span())
            lease.saved()  # as the run's end does
            while worker.calls:
                make_call(*worker.calls.popleft())
            lease.release()
            second.append(lease)

        with at_first_call(SpoolClient.close, run):
            first.release()
            await until(lambda: bool(second))
        closed = delivery.closed()
        await worker.make_all_until(closed.done)
        assert second[0].ledger == delivery.health().ledger == LedgerSnapshot(1, 1)


class _SwallowsCancellation:
    """A sink that goes on when its time is over, until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.names: list[str] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: Batch) -> None:
        while not self.let_go.is_set():
            with suppress(asyncio.CancelledError):
                await self.let_go.wait()
        self.names += [item.name for item in batch]

    async def close(self) -> None:
        """Nothing to close."""


@virtual_time
async def test_g6_a_last_call_while_a_write_has_outlasted_its_time_loses_nothing(tmp_path: Path) -> None:
    """A sink that swallows its cancellation is waited for; what it is writing is on the disk meanwhile."""
    sink = _SwallowsCancellation()
    limits = DeliveryLimits(spool="always", spool_path=tmp_path, write_timeout=5.0, batch_age=0.0)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    lease = await leases.opened(delivery)
    lease.accept(make_span(name="0"))
    await asyncio.wrap_future(lease.saved())
    await asyncio.sleep(10.0)
    lease.accept(make_span(name="1"))
    await asyncio.wrap_future(lease.saved())
    closed = delivery.close(monotonic() + 60.0)
    await settle()
    assert delivery.health().state is DeliveryState.DRAINING
    sink.let_go.set()
    await asyncio.wrap_future(closed)
    assert delivery.health().state is DeliveryState.CLOSED
    assert delivery.health().ledger == LedgerSnapshot(2, 2)
    assert sink.names == ["0", "1"]
