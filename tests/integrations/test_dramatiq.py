"""Dramatiq with its own broker for tests and its own worker: a run for each execution, in its sender's trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO, Pipelines, Retries, SkipMessage

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError
from nat_observability.events import Status
from nat_observability.health import RuntimeState
from nat_observability.integrations.dramatiq import MessageMiddleware, instrument
from nat_observability.settings import ObservabilitySettings
from tests.integrations.workers import Observed, observed


def broker_for(worker: Observed, *middleware: dramatiq.Middleware, around: bool = True) -> StubBroker:
    """Return a broker with the middlewares, not yet started."""
    broker = StubBroker(middleware=list(middleware))
    instrument(broker, worker.container, around=around)
    return broker


@contextmanager
def working(broker: StubBroker) -> Iterator[None]:
    """Execute what comes; at the end of the block wait until all is done, and shut down."""
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=5)
    worker.start()
    try:
        yield
        for queue in broker.get_declared_queues():
            broker.join(queue, timeout=10_000, fail_fast=False)
        worker.join()
    finally:
        worker.stop()


def actor(broker: StubBroker, function: Any, **options: Any) -> Any:
    """Declare an actor."""
    return dramatiq.actor(broker=broker, **options)(function)


def test_an_execution_is_a_run_in_its_senders_trace() -> None:
    """With the sender's conversation, user and tags; what an actor sends is in its trace as well."""
    worker = observed(ObservabilitySettings(propagate_tags=["tenant"]))
    broker = broker_for(worker)

    def charge(amount: int) -> None:
        with step("tool", "bank", input=amount):
            billing.send(amount)

    def bill(amount: int) -> None: ...

    charging, billing = actor(broker, charge), actor(broker, bill)
    with working(broker):
        state = ContextState(conversation_id="c-1", user_id="ü/1", tags={"tenant": "acme"})
        state.propagated_tags = ["tenant"]
        with state.attach(), step("tool", "order") as ordering:
            sent = charging.send(7)
        assert worker.state() is RuntimeState.OPEN
    assert worker.state() is RuntimeState.CLOSED
    task, bank, billed = worker.span("charge"), worker.span("bank"), worker.span("bill")
    assert (bank.parent_id, bank.run) == (task.span_id, task.run)
    assert (task.parent_id, task.run.trace_id) == (ordering.step_id, state.run.trace_id)
    assert (billed.parent_id, billed.run.trace_id) == (bank.span_id, state.run.trace_id)
    for run in (task.run, billed.run):
        assert (run.conversation_id, run.user_id, run.tags) == ("c-1", "ü/1", (("tenant", "acme"),))
    assert task.status is Status.OK
    assert json.loads(bytes(task.metadata or b""))["messaging.message.id"] == sent.message_id
    assert ContextState.current() is None


def test_errors_and_tries() -> None:
    """A try is below the one that has failed; asking for one without an error is not a failure."""
    worker = observed()
    broker = broker_for(worker, Retries(min_backoff=1, max_backoff=1))
    tries = 0

    def charge() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("no tea")
        if tries == 2:
            raise dramatiq.errors.Retry(delay=1)

    charging = actor(broker, charge)
    with working(broker):
        charging.send()
    first, second, third = sorted(worker.spans("charge"), key=lambda span: span.start_ns)
    assert [span.error.message if span.error else None for span in (first, second, third)] == [
        "no tea",
        None,
        None,
    ]
    assert (second.parent_id, third.parent_id) == (first.span_id, second.span_id)
    assert len({span.run.run_id for span in (first, second, third)}) == 3
    assert len({span.run.trace_id for span in (first, second, third)}) == 1
    assert b'"dramatiq.retries":2' in bytes(third.metadata or b"")


def test_pipelines_and_asynchronous_actors() -> None:
    """A coroutine is in its run, on the loop of the worker; the next message of a pipeline is in the same trace."""
    worker = observed()
    broker = broker_for(worker, AsyncIO(), Pipelines())

    async def brew(kind: str) -> str:
        with step("tool", "kettle"):
            return kind

    def drink(kind: str) -> None: ...

    brewing, drinking = actor(broker, brew), actor(broker, drink)
    with working(broker):
        dramatiq.pipeline([brewing.message("green"), drinking.message()], broker=broker).run()  # type: ignore[no-untyped-call]
    brewed, kettle, drunk = worker.span("brew"), worker.span("kettle"), worker.span("drink")
    assert (kettle.parent_id, kettle.run) == (brewed.span_id, brewed.run)
    assert (drunk.parent_id, drunk.run.trace_id) == (brewed.span_id, brewed.run.trace_id)


class Skipping(dramatiq.Middleware):
    """Skips every message."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        raise SkipMessage("not this one")


def test_a_skipped_message_ends_its_run() -> None:
    """Whatever another middleware decides before the actor is called."""
    worker = observed()
    broker = broker_for(worker, Skipping())
    charging = actor(broker, lambda: None, actor_name="charge")
    with working(broker):
        charging.send()
    assert worker.span("charge").status is Status.OK
    assert worker.container.runtime_object().health().live_managers == 0


def test_the_callers_message_is_not_changed() -> None:
    """It may be sent once more, in another run; outside every run nothing is added. Malformed headers are ignored."""
    worker = observed()
    broker = broker_for(worker)
    charging = actor(broker, lambda: None, actor_name="charge")
    message = charging.message_with_options(team="a")
    with working(broker):
        with ContextState().attach():
            broker.enqueue(message)
        assert message.options == {"team": "a"}
        broker.enqueue(message)
        broker.enqueue(charging.message_with_options(traceparent=7, baggage=["x"]))
    traces = [span.parent_id is None for span in worker.spans("charge")]
    assert sorted(traces) == [False, True, True]
    assert len({span.run.trace_id for span in worker.spans("charge")}) == 3


class Pool(dramatiq.Middleware):
    """What the application opens and closes with the worker; notes in which state the exporters are."""

    def __init__(self, worker: Observed) -> None:
        self.events: list[RuntimeState] = []
        self._worker = worker

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        self.events.append(self._worker.state())

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        self.events.append(self._worker.state())


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
def test_the_drain_comes_before_the_pool_closes(around: bool) -> None:
    """Inside, before the application's middlewares hear that the worker has ended; around, after that."""
    worker = observed()
    pool = Pool(worker)
    broker = broker_for(worker, pool, around=around)
    charging = actor(broker, lambda: None, actor_name="charge")
    with working(broker):
        charging.send()
    assert pool.events == (
        [RuntimeState.OPEN, RuntimeState.OPEN] if around else [RuntimeState.NEW, RuntimeState.CLOSED]
    )
    assert worker.span("charge").status is Status.OK


def test_a_worker_whose_required_exporters_do_not_open_does_not_start() -> None:
    """Dramatiq logs what a middleware raises and goes on, except for this."""
    exporters = {"main": {"type": "file", "path": "/proc/no/such", "required": True}}
    container = ObservabilityContainer(settings=ObservabilitySettings(exporters=exporters))
    broker = StubBroker(middleware=[])
    instrument(broker, container)
    with pytest.raises(SystemExit, match=r"The worker does not start\. .*main"):
        dramatiq.Worker(broker).start()


def test_instrument_puts_its_middleware_before_the_others() -> None:
    """What those record and send is then part of the run."""
    broker = StubBroker(middleware=[Retries()])
    assert broker.middleware[0] is not instrument(broker, observed().container) is broker.middleware[0]


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """At once, with what is needed, and not when the first message comes."""
    with pytest.raises(MissingContainerError, match=r"MessageMiddleware needs an ObservabilityContainer"):
        MessageMiddleware(given)
