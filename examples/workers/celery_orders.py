"""
Celery on Redis: each execution of a task is a run.

`celery -A examples.workers.celery_orders worker` runs until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.workers.celery_orders tea milk` orders tea and milk. REDIS_URL is the address of Redis. Needs the
extra celery, and redis.
"""

import os
import sys
from typing import Any

from celery import Celery

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, observability
from nat_observability.integrations.celery import instrument

container = ObservabilityContainer()
app = Celery("shop", broker=os.environ.get("REDIS_URL", "redis://localhost:6379"))
app.conf.broker_connection_retry_on_startup = True
instrument(app, container)


def charge_order(order: str) -> None:
    """Do the work of one message, in a process of the worker's pool."""
    with step("tool", "charge", input={"order": order}) as charge:
        charge.output = "paid"


handle_order: Any = app.task(name="handle_order")(charge_order)


def order(things: list[str]) -> None:
    """Send orders, in this run's trace."""
    with observability(container=container, job="order", user_id="somebody"):
        for thing in things:
            handle_order.delay(thing)


if __name__ == "__main__":
    order(sys.argv[1:])
