"""
RQ: each execution of a job is a run.

`rq worker --worker-class examples.workers.rq_orders.OrdersWorker orders` runs until it is stopped (SIGTERM, Ctrl-C),
and `python -m examples.workers.rq_orders tea milk` orders tea and milk. REDIS_URL is the address of Redis, and
RQ_REDIS_URL that of the command. Needs the extra rq.
"""

import os
import sys

from redis import Redis
from rq import Queue, Worker

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, observability
from nat_observability.integrations.rq import instrument, instrument_queue

container = ObservabilityContainer()


class OrdersWorker(Worker):
    """A worker of this service; RQ's own class stays as it is."""


instrument(OrdersWorker, container)


def handle_order(order: str) -> None:
    """Do the work of one message, in a work horse."""
    with step("tool", "charge", input={"order": order}) as charge:
        charge.output = "paid"


def order(things: list[str]) -> None:
    """Send orders, in this run's trace."""
    with (
        Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379")) as redis,
        observability(container=container, job="order", user_id="somebody"),
    ):
        orders = instrument_queue(Queue("orders", connection=redis))
        for thing in things:
            # By name: a function of the program that was started cannot be imported by a worker.
            orders.enqueue("examples.workers.rq_orders.handle_order", thing)


if __name__ == "__main__":
    order(sys.argv[1:])
