"""
Dramatiq on Redis: each execution of a message is a run.

`dramatiq examples.workers.dramatiq_orders` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.dramatiq_orders tea milk` orders tea and milk. REDIS_URL is the address of Redis. Needs the
extra dramatiq, and redis.
"""

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, observability
from nat_observability.integrations.dramatiq import instrument

container = ObservabilityContainer()
url = os.environ.get("REDIS_URL", "redis://localhost:6379")
broker: dramatiq.Broker = RedisBroker(url=url)  # type: ignore[no-untyped-call]
instrument(broker, container)
dramatiq.set_broker(broker)


@dramatiq.actor
def handle_order(order: str) -> None:
    """Do the work of one message."""
    with step("tool", "charge", input={"order": order}) as charge:
        charge.output = "paid"


def order(things: list[str]) -> None:
    """Send orders, in this run's trace."""
    with observability(container=container, job="order", user_id="somebody"):
        for thing in things:
            handle_order.send(thing)
    broker.close()


if __name__ == "__main__":
    order(sys.argv[1:])
