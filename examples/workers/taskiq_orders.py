"""
Taskiq on Redis: each execution of a task is a run.

`taskiq worker examples.workers.taskiq_orders:broker` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.taskiq_orders tea milk` orders tea and milk. REDIS_URL is the address of Redis. Needs the
extra taskiq, and taskiq-redis.
"""

import asyncio
import os
import sys

from taskiq_redis import ListQueueBroker

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, run
from nat_observability.integrations.taskiq import instrument

container = ObservabilityContainer()
broker = ListQueueBroker(os.environ.get("REDIS_URL", "redis://localhost:6379"))
instrument(broker, container)


@broker.task(task_name="handle_order")
async def handle_order(order: str) -> None:
    """Do the work of one message."""
    with step("tool", "charge", input={"order": order}) as charge:
        await asyncio.sleep(0)
        charge.output = "paid"


async def order(things: list[str]) -> None:
    """Send orders, in this run's trace. The exporters of this process are open already, and stay so."""
    await broker.startup()
    for thing in things:
        await handle_order.kiq(thing)
    await broker.shutdown()


if __name__ == "__main__":
    run(order(sys.argv[1:]), container=container, job="order", user_id="somebody")
