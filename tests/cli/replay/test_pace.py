"""Pace: a producer that asks it never overflows a queue, and is not held forever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nat_observability.cli.replay.pace import Pace
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.events import Item
from nat_observability.testing import until
from tests.sinks.builders import make_span


class Gate:
    """A sink that takes nothing until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, batch: Sequence[Item]) -> None:
        self.opened.wait()


@asynccontextmanager
async def held(gate: Gate, limits: DeliveryLimits) -> AsyncIterator[tuple[Delivery, Lease]]:
    delivery = Delivery("gated", gate, limits=limits)
    lease = delivery.lease()
    if lease.opening is not None:
        await asyncio.wrap_future(lease.opening)
    try:
        yield delivery, lease
    finally:
        gate.opened.set()
        lease.release()
        await asyncio.wrap_future(delivery.closed())


SMALL = DeliveryLimits(queue_items=20, batch_items=5, batch_age=0.0)


async def produce(pace: Pace, lease: Lease, items: int) -> None:
    for _ in range(items):
        await pace.keep()
        lease.accept(make_span())


async def test_a_full_queue_holds_the_producer() -> None:
    """While the back end takes nothing, the producer stops before the queue is full; then all is delivered."""
    gate = Gate()
    async with held(gate, SMALL) as (delivery, lease):
        producer = asyncio.create_task(produce(Pace([delivery]), lease, 200))
        await until(lambda: delivery.health().queue_depth >= 10)
        assert not producer.done()
        gate.opened.set()
        await producer
        await asyncio.wrap_future(lease.settled())
        assert lease.ledger.delivered == 200


async def test_a_queue_that_waits_for_its_batch_gets_more() -> None:
    """A queue no larger than a batch does not have to wait for the batch's age at every half."""
    gate = Gate()
    gate.opened.set()
    limits = DeliveryLimits(queue_items=10, batch_items=10, batch_age=3600)
    async with held(gate, limits) as (delivery, lease):
        await produce(Pace([delivery]), lease, 100)
        assert lease.ledger.dropped == {}


async def test_room_is_kept_for_those_who_reserved_it() -> None:
    """What one task has reserved, another one does not take."""
    gate = Gate()
    async with held(gate, SMALL) as (delivery, lease):
        pace = Pace([delivery])
        await pace.reserve(20)
        first = asyncio.create_task(produce(pace, lease, 10))
        await until(lambda: delivery.health().queue_depth > 0)
        pace.release(20)
        await until(lambda: delivery.health().queue_depth >= 5)
        gate.opened.set()
        await first
        assert lease.ledger.dropped == {}


async def test_a_dead_back_end_is_given_up() -> None:
    """A back end that takes nothing any more is waited for once, and its queue then drops."""
    gate = Gate()
    async with held(gate, SMALL) as (delivery, lease):
        await produce(Pace([delivery], patience=0.01), lease, 100)
        ledger = lease.ledger
        assert ledger.adds_up
        assert ledger.dropped["queue_full"] > 0


async def test_without_deliveries_a_producer_does_not_wait() -> None:
    """With nothing to fall behind, the producer goes on."""
    pace = Pace([])
    await pace.keep()
    await pace.reserve(5)
    pace.release(5)
