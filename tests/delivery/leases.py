"""A delivery on the running loop, leases of it, and items for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.events import Item
from tests.delivery.virtual import RunningLoop, settle
from tests.sinks.builders import make_step


@asynccontextmanager
async def delivering(sink: Any, *, options: Any = None, **limits: Any) -> AsyncIterator[Delivery]:
    """A delivery on the running loop, which is given back at the end, when everything is written."""
    source = RunningLoop()
    delivery = Delivery("main", sink, limits=DeliveryLimits(**limits), loop_source=source, **(options or {}))
    yield delivery
    await asyncio.wrap_future(delivery.closed())
    await settle()
    assert source.users == 0
    assert delivery.health().ledger.adds_up
    assert delivery.health().ledger.pending == 0
    assert delivery.health().queue_bytes == 0


async def opened(delivery: Delivery, *, keep: bool = False) -> Lease:
    lease = delivery.lease(keep=keep)
    if lease.opening is not None:
        await asyncio.wrap_future(lease.opening)
    return lease


def accept(lease: Lease, count: int) -> list[Item]:
    items: list[Item] = [make_step() for _ in range(count)]
    for item in items:
        lease.accept(item)
    return items
