"""
A consumer without a framework: orders in a list of Redis, each of them a run.

`python -m examples.workers.asyncio_orders` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.asyncio_orders tea milk` orders tea and milk. REDIS_URL is Redis' address. Needs redis.
"""

import asyncio
import json
import os
import signal
import sys

from redis.asyncio import Redis

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, run
from nat_observability.integrations import run_scope, write_headers

QUEUE = "orders"


def connection() -> Redis:
    """Return a client of Redis, to be closed."""
    return Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379"))


async def handle(order: str) -> None:
    """Do the work of one message."""
    with step("tool", "charge", input={"order": order}) as charge:
        await asyncio.sleep(0)
        charge.output = "paid"


async def work() -> None:
    """Handle orders until the process is asked to stop; an order in progress is finished."""
    container, ending = ObservabilityContainer(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    # From here on the exporters are open, until this block drains them.
    async with container.runtime_object(), connection() as redis:
        while not ending.is_set():
            message = await redis.brpop([QUEUE], timeout=0.5)
            if message is not None:
                sent = json.loads(message[1])
                async with run_scope(container, headers=sent["headers"], job="handle_order"):
                    await handle(sent["body"])


async def order(things: list[str]) -> None:
    """Send orders; the runs that handle them continue the trace of this one."""
    async with connection() as redis:
        for thing in things:
            headers: dict[str, str] = {}
            write_headers(headers)
            await redis.lpush(QUEUE, json.dumps({"headers": headers, "body": thing}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(order(sys.argv[1:]), job="order", user_id="somebody")
    else:
        asyncio.run(work())
