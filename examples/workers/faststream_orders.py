"""
A FastStream application on NATS: each order is a run.

`python -m examples.workers.faststream_orders` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.faststream_orders tea milk` orders tea and milk. NATS_URL is the address of NATS. Needs the
extra faststream, and nats-py.
"""

import asyncio
import os
import sys

from faststream import FastStream
from faststream.nats import NatsBroker

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, run
from nat_observability.integrations.faststream import instrument

container = ObservabilityContainer()
broker = NatsBroker(os.environ.get("NATS_URL", "nats://localhost:4222"))
app = FastStream(broker)
instrument(app, container)


@broker.subscriber("orders")
@broker.publisher("bills")
async def handle_order(order: str) -> str:
    """Do the work of one message; the bill goes out in the same trace."""
    with step("tool", "charge", input={"order": order}) as charge:
        await asyncio.sleep(0)
        charge.output = "paid"
    return f"a bill for {order}"


@broker.subscriber("bills")
async def handle_bill(bill: str) -> None:
    """Take a bill, in a run of its own."""
    with step("tool", "print", input=bill):
        await asyncio.sleep(0)


async def order(things: list[str]) -> None:
    """Send orders, in this run's trace."""
    async with broker:
        for thing in things:
            await broker.publish(thing, "orders")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(order(sys.argv[1:]), container=container, job="order", user_id="somebody")
    else:
        asyncio.run(app.run())
