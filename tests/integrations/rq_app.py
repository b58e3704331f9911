"""What the workers of test_rq.py execute, in processes of their own too."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue, Retry, SpawnWorker, Worker, get_current_job

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.rq import instrument, instrument_queue

__all__ = ["Retry", "SpawnWorker"]


class ForkingWorker(Worker):
    """A worker that forks, with a class of its own."""


class SpawningWorker(SpawnWorker):
    """A worker that spawns."""


instrument(ForkingWorker, ObservabilityContainer())
instrument(SpawningWorker, ObservabilityContainer())


def queue(name: str) -> Queue:
    """An instrumented queue."""
    return instrument_queue(Queue(name, connection=Redis.from_url(os.environ["REDIS_URL"])))


def charge(amount: int) -> int:
    """Charge an amount, and send a bill."""
    with step("tool", "bank", input=amount):
        job = get_current_job()
        assert job is not None
        queue(job.origin).enqueue(bill, amount)
    return amount


def bill(amount: int) -> None:
    """Write a bill."""


async def brew() -> None:
    """A coroutine, which RQ runs in a loop of its own."""
    with step("tool", "kettle"):
        pass


def fails() -> None:
    """Raise."""
    raise LookupError("no milk")
