"""Upkeep: what a blocking sink does now and then while it is open."""

from __future__ import annotations

import asyncio

from nat_observability.delivery.sending.sink_adapters import WorkerSink
from nat_observability.sinks.protocol import Batch
from tests.delivery.by_hand import ByHand
from tests.delivery.virtual import virtual_time


class Tidying:
    """A sink that has something to tidy."""

    def __init__(self) -> None:
        self.tidied = 0

    def open(self) -> None:
        """Open nothing."""

    def write(self, batch: Batch) -> None:
        """Write nothing."""

    def tidy(self) -> float:
        self.tidied += 1
        return 0.0

    def close(self) -> None:
        """Close nothing."""


@virtual_time
async def test_a_round_that_never_ends_keeps_a_new_worker_from_none() -> None:
    """The one that was under way at a fork never ends in the child, whose sink is opened with a worker of its own."""
    workers = [ByHand(), ByHand()]
    later = iter(workers)
    tidying = Tidying()
    sink = WorkerSink(tidying, lambda name, after: next(later))
    for worker in workers:
        opening = asyncio.create_task(sink.open())
        await worker.make_all_until(opening.done)
        await asyncio.sleep(3.0)
        assert len(worker.calls) == 1, "a round, and not another one while it is under way"
        sink.end()
    assert tidying.tidied == 0
    await workers[1].make_one()
    assert tidying.tidied == 1
