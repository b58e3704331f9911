"""
arq: each execution of a job is a run.

`arq examples.workers.arq_orders.WorkerSettings` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.arq_orders tea milk` orders tea and milk. REDIS_URL is the address of Redis. Needs the extra
arq.
"""

import asyncio
import os
import sys
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, run
from nat_observability.integrations.arq import instrument, instrument_pool

container = ObservabilityContainer()
redis = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://localhost:6379"))


async def handle_order(ctx: dict[Any, Any], order: str) -> None:
    """Do the work of one message."""
    with step("tool", "charge", input={"order": order}) as charge:
        await asyncio.sleep(0)
        charge.output = "paid"


class WorkerSettings:
    """What the command `arq` is given."""

    functions: ClassVar = [handle_order]
    redis_settings = redis
    poll_delay = 0.1


instrument(WorkerSettings, container)


async def order(things: list[str]) -> None:
    """Send orders, in this run's trace."""
    pool = instrument_pool(await create_pool(redis))
    for thing in things:
        await pool.enqueue_job("handle_order", thing)
    await pool.aclose(close_connection_pool=True)


if __name__ == "__main__":
    run(order(sys.argv[1:]), container=container, job="order", user_id="somebody")
