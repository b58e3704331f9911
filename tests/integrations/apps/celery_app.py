"""A Celery application as a service has it, configured by environment variables; for workers of the tests' own."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from celery import Celery

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.celery import instrument

app = Celery("shop", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
app.conf.broker_connection_retry_on_startup = True
app.conf.task_default_queue = os.environ["QUEUE"]
app.conf.task_track_started = True
app.conf.worker_prefetch_multiplier = 1
instrument(app, ObservabilityContainer())


@app.task(name="charge")
def charge(number: int) -> int:
    with step("tool", "bank", input=number):
        return os.getpid()


@app.task(name="order")
def order(number: int) -> None:
    with step("tool", "prepare"):
        charge.delay(number)


@app.task(name="wait")
def wait(seconds: float) -> int:
    with step("tool", "sleep"):
        time.sleep(seconds)
    return os.getpid()


@app.task(name="fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(name="again", bind=True, max_retries=2)
def again(self: Any, message: str) -> None:
    raise self.retry(exc=ValueError(message), countdown=0)


@app.task(name="leave")
def leave() -> None:
    sys.exit(3)
