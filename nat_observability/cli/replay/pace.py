"""Pace: holds a producer back if the deliveries do not keep up with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from nat_observability.delivery.delivery import Delivery
from nat_observability.system.clock import monotonic

_POLL = 0.005  # seconds between two checks of queues that are too full


class Pace:
    """
    Lets a producer continue while there is room in every queue, so that nothing is dropped.

    It serves one event loop, whose tasks publish only what they have reserved. A back end that takes nothing for
    `patience` seconds is not waited for until it makes progress again; its queue then drops and counts.

    Args:
        deliveries: All deliveries that receive the items.
        patience: Seconds.
    """

    def __init__(self, deliveries: Collection[Delivery], *, patience: float = 30.0) -> None:
        self._deliveries = deliveries
        self._patience = patience
        self._reserved = 0
        self._given_up_at: int | None = None

    async def keep(self) -> None:
        """Wait until one item may be produced."""
        await self._wait(1)

    async def reserve(self, items: int) -> None:
        """Wait until this many items may be produced at once; the room for them is kept until `release`."""
        if items:
            self._reserved += items
            await self._wait(0)

    def release(self, items: int) -> None:
        """Report that the reserved items have been produced."""
        self._reserved = max(0, self._reserved - items)

    async def _wait(self, items: int) -> None:
        before: int | None = None
        deadline = 0.0
        while (written := self._written_while_behind(items)) not in (None, self._given_up_at):
            if written != before:
                before, deadline = written, monotonic() + self._patience
            elif monotonic() > deadline:
                self._given_up_at = written
                return
            await asyncio.sleep(_POLL)

    def _written_while_behind(self, items: int) -> int | None:
        """Return the number of items written by the deliveries that are behind; None if none is behind."""
        behind = [delivery for delivery in self._deliveries if self._is_behind(delivery, items)]
        ledgers = [delivery.health().ledger for delivery in behind]
        return sum(ledger.delivered + ledger.failed for ledger in ledgers) if behind else None

    def _is_behind(self, delivery: Delivery, items: int) -> bool:
        health, limits = delivery.health(), delivery.limits
        depth = health.queue_depth
        # A queue that waits for a full batch has to get more items, however small it is.
        enough = max(limits.queue_items // 2, limits.batch_items)
        return (
            depth >= enough
            or (depth > 0 and depth + self._reserved + items > limits.queue_items)
            or health.queue_bytes > limits.queue_bytes // 2
        )
