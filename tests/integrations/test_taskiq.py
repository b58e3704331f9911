"""Taskiq over a real redis-server: a run for each execution, in its sender's trace."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from taskiq import InMemoryBroker, NoResultError, SimpleRetryMiddleware, TaskiqMessage, TaskiqMiddleware
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from nat_observability import ContextState, step
from nat_observability.errors import MissingContainerError
from nat_observability.events import Status
from nat_observability.health import RuntimeState
from nat_observability.integrations.taskiq import TaskMiddleware, instrument
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.testing import until
from nat_observability.testing.leak_check import tasks_left
from tests.brokers import running_redis
from tests.integrations.workers import Observed, observed


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


def broker_for(url: str, worker: Observed) -> Any:
    """Return a broker with a queue of its own, not yet started."""
    broker = ListQueueBroker(url, queue_name=uuid.uuid4().hex)
    broker = broker.with_result_backend(RedisAsyncResultBackend(url))
    instrument(broker, worker.container)
    return broker


@asynccontextmanager
async def working(broker: Any) -> AsyncIterator[None]:
    """Start the broker and a receiver of its messages; stop both at the end of the block."""
    before = asyncio.all_tasks()
    receiver = asyncio.create_task(run_receiver_task(broker, run_startup=True))
    try:
        yield
    finally:
        receiver.cancel()
        with suppress(asyncio.CancelledError):
            await receiver
        # An execution whose result can be read already may not have ended: it would open a connection again after the
        # broker has closed them all.
        assert not await tasks_left(before)
        await broker.shutdown()


async def test_an_execution_is_a_run_in_its_senders_trace(redis: str) -> None:
    """With the sender's conversation and user, a step for the task, and what the task records below it."""
    worker = observed()
    broker = broker_for(redis, worker)

    @broker.task(task_name="charge")
    async def charge(amount: int) -> int:
        with step("tool", "bank", input=amount):
            return amount

    async with working(broker):
        state = ContextState(conversation_id="c-1", user_id="ü/1")
        with state.attach(), step("tool", "order") as ordering:
            sent = await charge.kiq(7)
        assert (await sent.wait_result(timeout=10)).return_value == 7
        assert worker.state() is RuntimeState.OPEN
    assert worker.state() is RuntimeState.CLOSED
    task, bank = worker.span("charge"), worker.span("bank")
    assert (bank.parent_id, bank.run) == (task.span_id, task.run)
    assert (task.parent_id, task.run.trace_id) == (ordering.step_id, state.run.trace_id)
    assert (task.run.conversation_id, task.run.user_id) == ("c-1", "ü/1")
    assert task.status is Status.OK
    assert sent.task_id.encode() in bytes(task.metadata or b"")


@pytest.mark.parametrize(
    ("raised", "status"),
    [(ValueError("no tea"), Status.ERROR), (NoResultError(), Status.OK)],
    ids=lambda each: type(each).__name__,
)
async def test_what_a_task_raises_is_the_error_of_its_step(raised: Exception, status: Status) -> None:
    """Unless it only says what becomes of the result."""
    worker = observed()
    broker = InMemoryBroker(await_inplace=True).with_middlewares(TaskMiddleware(worker.container))

    @broker.task(task_name="charge")
    async def charge() -> None:
        raise raised

    async with ProcessScope(worker.container, "the test"):
        await charge.kiq()
    span = worker.span("charge")
    assert span.status is status
    if status is Status.ERROR:
        assert span.error is not None
        assert (span.error.type, span.error.message) == ("ValueError", "no tea")
    assert ContextState.current() is None


async def test_each_try_is_a_run_of_the_same_trace(redis: str) -> None:
    """The next try is below the one that has failed."""
    worker = observed()
    broker = broker_for(redis, worker).with_middlewares(SimpleRetryMiddleware(default_retry_count=3))

    tries = 0

    @broker.task(task_name="charge", retry_on_error=True)
    async def charge() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError(str(tries))

    async with working(broker):
        await charge.kiq()
        runtime = worker.container.runtime_object()
        await until(lambda: tries == 3 and not runtime.health().live_managers)
    first, second, third = sorted(worker.spans("charge"), key=lambda span: span.start_ns)
    assert [span.status for span in (first, second, third)] == [Status.ERROR, Status.ERROR, Status.OK]
    assert {span.run.trace_id for span in (first, second, third)} == {first.run.trace_id}
    assert (second.parent_id, third.parent_id) == (first.span_id, second.span_id)
    assert len({span.run.run_id for span in (first, second, third)}) == 3
    assert b'"taskiq.retries"' in bytes(third.metadata or b"")


async def test_a_task_in_a_thread_is_in_its_run(redis: str) -> None:
    """A task that is not a coroutine function runs in a thread; what it records is in the task's run."""
    worker = observed()
    broker = broker_for(redis, worker)

    @broker.task(task_name="charge")
    def charge() -> None:
        with step("tool", "bank"):
            pass

    async with working(broker):
        await (await charge.kiq()).wait_result(timeout=10)
    assert worker.span("bank").parent_id == worker.span("charge").span_id


@pytest.mark.parametrize("label", ["", "00-zz-01", 7])
async def test_a_malformed_traceparent_starts_a_new_trace(redis: str, label: object) -> None:
    """The task is executed as any other."""
    worker = observed()
    broker = broker_for(redis, worker)

    @broker.task(task_name="charge")
    async def charge() -> int:
        return 1

    async with working(broker):
        sent = await charge.kicker().with_labels(traceparent=label, baggage=label).kiq()
        assert (await sent.wait_result(timeout=10)).return_value == 1
    assert worker.span("charge").parent_id is None


class Refusing(TaskiqMiddleware):
    """Raises before a task is executed."""

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        raise ValueError("not this one")


async def test_a_run_ends_if_another_middleware_refuses_the_task() -> None:
    """Taskiq then says nothing more about the execution."""
    worker = observed()
    broker = InMemoryBroker(await_inplace=False).with_middlewares(
        TaskMiddleware(worker.container), Refusing()
    )

    @broker.task(task_name="charge")
    async def charge() -> None:
        raise AssertionError("executed")

    async with ProcessScope(worker.container, "the test"):
        await charge.kiq()
        with suppress(ValueError):
            await broker.wait_all()
    assert worker.span("charge").status is Status.ERROR


async def test_the_callers_labels_are_not_changed() -> None:
    """They go out again with the next execution, in another run; outside every run nothing is added at all."""
    worker, seen = observed(), list[dict[str, Any]]()

    class Looking(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            seen.append(message.labels)
            return message

    broker = InMemoryBroker(await_inplace=True).with_middlewares(TaskMiddleware(worker.container), Looking())

    @broker.task(task_name="charge", team="a")
    async def charge() -> None: ...

    async with ProcessScope(worker.container, "the test"):
        with ContextState().attach():
            await charge.kiq()
        await charge.kiq()
    inside, outside = seen
    assert "traceparent" in inside
    assert "traceparent" not in outside
    assert charge.labels == {"team": "a"}


def test_instrument_puts_its_middleware_before_the_others() -> None:
    """What those record and send is then part of the run, whenever they were added."""
    other = SimpleRetryMiddleware()
    broker = InMemoryBroker().with_middlewares(other)
    middleware = instrument(broker, observed().container)
    assert broker.middlewares == [middleware, other]
    assert middleware.broker is broker


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """At once, with what is needed, and not when the first task comes."""
    with pytest.raises(MissingContainerError, match=r"TaskMiddleware needs an ObservabilityContainer"):
        TaskMiddleware(given)
