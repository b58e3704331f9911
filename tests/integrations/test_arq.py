"""arq over a real redis-server: a run for each execution, in its sender's trace."""

from __future__ import annotations

import asyncio
import json
import pickle
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from arq import Retry, Worker, cron, func
from arq.connections import ArqRedis, RedisSettings
from redis.asyncio import ConnectionPool

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import ExporterStartError, MissingContainerError
from nat_observability.events import Status
from nat_observability.health import RuntimeState
from nat_observability.integrations.arq import instrument, instrument_pool
from nat_observability.settings import ObservabilitySettings
from tests.brokers import running_redis
from tests.integrations.workers import Observed, observed


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


@asynccontextmanager
async def pool_of(url: str, **options: Any) -> AsyncIterator[ArqRedis]:
    """A pool with a queue of its own, which knows nothing of runs yet."""
    pool = ArqRedis(ConnectionPool.from_url(url), default_queue_name=uuid.uuid4().hex, **options)
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


async def work(pool: ArqRedis, settings: dict[str, Any], **options: Any) -> Worker:
    """Execute what is in the queue, as `arq --burst` would; shut down as it does, but leave the pool open."""
    worker = Worker(
        **settings,
        redis_pool=pool,
        queue_name=None,
        burst=True,
        poll_delay=0.01,
        handle_signals=False,
        **options,
    )
    try:
        await worker.async_run()
    finally:
        # Worker.close() without closing the pool, which the test goes on with.
        if worker.on_shutdown is not None:
            await worker.on_shutdown(worker.ctx)
    return worker


def settings_for(worker: Observed, *functions: Any, around: bool = True, **settings: Any) -> dict[str, Any]:
    """The settings of an instrumented worker."""
    settings = {"functions": list(functions), **settings}
    instrument(settings, worker.container, around=around)
    return settings


async def charge(ctx: dict[str, Any], amount: int) -> int:
    """Charge an amount, and send a bill."""
    with step("tool", "bank", input=amount):
        await ctx["redis"].enqueue_job("bill", amount)
    return amount


async def bill(ctx: dict[str, Any], amount: int) -> None:
    """Write a bill."""


async def test_an_execution_is_a_run_in_its_senders_trace(redis: str) -> None:
    """With the sender's conversation, user and tags; what a job sends is in its trace as well."""
    worker = observed(ObservabilitySettings(propagate_tags=["tenant"]))
    async with pool_of(redis) as pool:
        instrument_pool(pool)
        state = ContextState(conversation_id="c-1", user_id="ü/1", tags={"tenant": "acme"})
        state.propagated_tags = ["tenant"]
        with state.attach(), step("tool", "order") as ordering:
            sent = await pool.enqueue_job("charge", 7)
        assert sent is not None
        await work(pool, settings_for(worker, charge, bill))
        assert await sent.result(timeout=5) == 7
    assert worker.state() is RuntimeState.CLOSED
    task, bank, billed = worker.span("charge"), worker.span("bank"), worker.span("bill")
    assert (bank.parent_id, bank.run) == (task.span_id, task.run)
    assert (task.parent_id, task.run.trace_id) == (ordering.step_id, state.run.trace_id)
    assert (billed.parent_id, billed.run.trace_id) == (bank.span_id, state.run.trace_id)
    for run in (task.run, billed.run):
        assert (run.conversation_id, run.user_id, run.tags) == ("c-1", "ü/1", (("tenant", "acme"),))
    assert task.status is Status.OK
    assert json.loads(bytes(task.metadata or b""))["messaging.message.id"] == sent.job_id


async def again(ctx: dict[str, Any]) -> None:
    """Ask for another try, the first time because of an error and the second time without one."""
    if ctx["job_try"] == 1:
        try:
            raise ValueError("no tea")
        except ValueError as error:
            raise Retry() from error
    if ctx["job_try"] == 2:
        raise Retry()


async def fails(ctx: dict[str, Any]) -> None:
    """Raise."""
    raise LookupError("no milk")


async def hangs(ctx: dict[str, Any]) -> None:
    """Never return."""
    await asyncio.Event().wait()


async def test_errors_tries_and_timeouts(redis: str) -> None:
    """An error ends the step; asking for another try is one only if it has a cause; the tries are in one trace."""
    worker = observed()
    settings = settings_for(worker, fails, again, func(hangs, timeout=0.01))
    async with pool_of(redis) as pool:
        instrument_pool(pool)
        with ContextState().attach():
            for name in ("fails", "again", "hangs"):
                await pool.enqueue_job(name)
        await work(pool, settings)
    failed, hung = worker.span("fails"), worker.span("hangs")
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("LookupError", "no milk")
    assert hung.error is not None
    assert hung.error.type == "asyncio.exceptions.CancelledError"
    tries = sorted(worker.spans("again"), key=lambda span: span.start_ns)
    assert [span.error.message if span.error else None for span in tries] == ["no tea", None, None]
    assert len({span.run.run_id for span in tries}) == 3
    assert len({span.run.trace_id for span in [*tries, failed, hung]}) == 1


async def test_jobs_of_others_are_executed_as_any(redis: str) -> None:
    """Without headers, with malformed ones, of a cron, and ours in a worker without an integration."""
    worker = observed()
    seen = []

    async def job(ctx: dict[str, Any], number: int = 0) -> None:
        seen.append(number)

    def malformed(message: dict[str, Any]) -> bytes:
        return pickle.dumps({**message, "nat_observability": {"traceparent": 7, "baggage": b"\xff"}})

    async with pool_of(redis) as plain, pool_of(redis, job_serializer=malformed) as broken:
        broken.default_queue_name = plain.default_queue_name
        await plain.enqueue_job("job", 1)
        await broken.enqueue_job("job", 2)
        with ContextState().attach():
            await plain.enqueue_job("job", 3)
        # Not at the next full minute as well.
        crons = [cron(job, minute=(datetime.now(UTC).minute + 30) % 60, run_at_startup=True)]
        settings = settings_for(worker, func(job, name="job"), cron_jobs=crons)
        await work(plain, settings)
        instrument_pool(plain)
        with ContextState().attach():
            await plain.enqueue_job("job", 4)
        await work(plain, {"functions": [func(job, name="job")]})
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert [span.parent_id for span in worker.spans()] == 4 * [None]
    assert {span.name for span in worker.spans()} == {
        "job",
        next(each.name for each in settings["cron_jobs"]),
    }


class Pool:
    """Stands for what the worker opens and closes; notes what happens to whom in which state."""

    def __init__(self) -> None:
        self.worker = observed()
        self.events: list[tuple[str, RuntimeState]] = []

    def note(self, event: str) -> Callable[[dict[str, Any]], Awaitable[None]]:
        async def noted(ctx: dict[str, Any]) -> None:
            self.events.append((event, self.worker.state()))

        return noted


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
@pytest.mark.parametrize("kind", ["class", "dict", "worker"])
async def test_the_drain_comes_before_the_pools_close(redis: str, around: bool, kind: str) -> None:
    """Inside, it comes before the worker's own shutdown; around, after it. Before arq closes its pool in any case."""
    pool = Pool()
    settings: Any = {
        "functions": [bill],
        "on_startup": pool.note("starts"),
        "on_shutdown": pool.note("ends"),
    }
    async with pool_of(redis) as queue:
        await queue.enqueue_job("bill", 1)
        if kind == "worker":
            settings = Worker(
                **settings,
                redis_pool=queue,
                queue_name=None,
                burst=True,
                poll_delay=0.01,
                handle_signals=False,
            )
            instrument(settings, pool.worker.container, around=around)
            await settings.async_run()
            await settings.on_shutdown(settings.ctx)
        else:
            settings = type("WorkerSettings", (), settings) if kind == "class" else settings
            instrument(settings, pool.worker.container, around=around)
            changed = settings if kind == "dict" else {k: v for k, v in vars(settings).items() if k[0] != "_"}
            await work(queue, changed)
    open_then = RuntimeState.OPEN if around else RuntimeState.NEW
    assert pool.events == [
        ("starts", open_then),
        ("ends", RuntimeState.OPEN if around else RuntimeState.CLOSED),
    ]
    assert pool.worker.state() is RuntimeState.CLOSED
    assert pool.worker.span("bill").status is Status.OK


def required(worker: Observed) -> ObservabilityContainer:
    """A container with a required exporter that cannot be opened."""
    exporters = {"main": {"type": "file", "path": "/proc/no/such", "required": True}}
    return ObservabilityContainer(settings=ObservabilitySettings(exporters=exporters))


@pytest.mark.may_block  # settings are read once, when the process starts
async def test_a_worker_whose_required_exporters_do_not_open_does_not_start(redis: str) -> None:
    """In a loop that has other tasks, by the error itself: those go on."""
    settings = {"functions": [bill]}
    instrument(settings, required(observed()))
    async with pool_of(redis) as pool:
        other = asyncio.create_task(asyncio.Event().wait())
        with pytest.raises(ExporterStartError, match="main"):
            await work(pool, settings)
        other.cancel()


@pytest.mark.may_block  # as above
@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # by arq
def test_the_command_ends_with_one_message(redis: str) -> None:
    """`arq` has a loop to itself."""
    host, port = redis.removeprefix("redis://").split(":")

    class WorkerSettings:
        functions = [bill]  # noqa: RUF012
        redis_settings = RedisSettings(host=host, port=int(port))

    instrument(WorkerSettings, required(observed()))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        worker = Worker(
            **{name: value for name, value in vars(WorkerSettings).items() if name[0] != "_"},
            handle_signals=False,
        )
        with pytest.raises(SystemExit, match="main") as ended:
            worker.run()
        assert isinstance(ended.value, ExporterStartError)
        assert str(ended.value.code).startswith("The worker does not start. ")
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """At once, and not when the first job comes."""
    with pytest.raises(MissingContainerError, match=r"needs an ObservabilityContainer"):
        instrument({"functions": [bill]}, given)
