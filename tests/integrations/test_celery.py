"""Celery over a real redis-server, with real workers: a run for each execution, in its sender's trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.contrib.testing.worker import start_worker

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError, SinkError
from nat_observability.events import Span, Status
from nat_observability.health import RuntimeState
from nat_observability.integrations.celery import instrument
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.store import Store
from nat_observability.testing import wait_until
from tests.brokers import running_redis
from tests.integrations.workers import observed
from tests.otlp_receiver import Answer, OtlpReceiver

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
CELERY = (sys.executable, "-m", "celery", "-A", "tests.integrations.apps.celery_app", "worker")


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


class Worker:
    """A worker in a process of its own, a client that sends it tasks, and the store that it writes."""

    def __init__(self, url: str, folder: Path, *arguments: str, settings: Mapping[str, str] = {}) -> None:
        queue = uuid.uuid4().hex
        self.log = folder / "worker.log"
        self._store = folder / "store.sqlite3"
        self.client = Celery("shop", broker=url, backend=url)
        self.client.conf.task_default_queue = queue
        self.instrumented = instrument(self.client, observed().container)
        kept = {
            "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
            "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(self._store),
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*CELERY, "--loglevel=warning", "--without-gossip", "--without-mingle", *arguments],
                cwd=ROOT,
                env={**os.environ, "BROKER_URL": url, "QUEUE": queue, **(settings or kept)},
                stdout=log,
                stderr=log,
            )

    def send(self, task: str, *arguments: object) -> Any:
        """Send a task; return what its result can be waited for with."""
        return self.client.send_task(task, arguments)

    def result(self, task: str, *arguments: object) -> Any:
        """Send a task, and wait for its result."""
        return self.send(task, *arguments).get(timeout=15)

    def stop(self) -> int:
        """Have the worker shut down warmly, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def spans(self, enough: Callable[[list[Span]], bool] = bool) -> list[Span]:
        """Return the spans in the store, as soon as they are enough, those of one run together."""
        found: list[Span] = []

        def read() -> bool:
            with suppress(SinkError), Store(self._store) as store:
                found[:] = [span for each in store.runs() for span in store.spans(each.run.run_id)]
            return enough(found)

        wait_until(read)
        return found

    def close(self) -> None:
        """End what is left of it."""
        self.instrumented.disconnect()
        self.process.kill()
        self.process.wait()
        self.client.backend.client.close()
        self.client.close()


@contextmanager
def running(*arguments: Any, **settings: Any) -> Iterator[Worker]:
    worker = Worker(*arguments, **settings)
    try:
        yield worker
    finally:
        worker.close()


@pytest.fixture(
    params=[
        "prefork",
        pytest.param("threads", marks=pytest.mark.slow),
        pytest.param("solo", marks=pytest.mark.slow),
    ]
)
def worker(request: pytest.FixtureRequest, redis: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker of each kind, with two processes or threads."""
    with running(redis, tmp_path, f"--pool={request.param}", "--concurrency=2") as worker:
        yield worker


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def test_executions_are_runs_in_their_senders_trace(worker: Worker) -> None:
    """A step for the task, what it records below it, what it sends in its trace; its tries and its errors too."""
    state = ContextState(conversation_id="c-1", user_id="ü/1")
    with state.attach(), step("tool", "shop") as shopping:
        worker.result("order", 7)
    with pytest.raises(ValueError, match="no tea"):
        worker.result("fail", "no tea")
    with pytest.raises(ValueError, match="no milk"):
        worker.result("again", "no milk")
    assert worker.stop() == 0
    spans = worker.spans()
    assert len(spans) == 4 + 1 + 3
    (order,), (prepare,), (charge,), (bank,) = (
        named(spans, name) for name in ("order", "prepare", "charge", "bank")
    )
    assert (order.parent_id, order.run.trace_id) == (shopping.step_id, state.run.trace_id)
    assert (charge.parent_id, charge.run.trace_id) == (prepare.span_id, state.run.trace_id)
    assert (bank.parent_id, bank.run.run_id) == (charge.span_id, charge.run.run_id)
    assert {(each.run.conversation_id, each.run.user_id) for each in (order, charge)} == {("c-1", "ü/1")}
    assert order.run.run_id != charge.run.run_id
    assert {each.status for each in (order, prepare, charge, bank)} == {Status.OK}

    (fail,), tries = named(spans, "fail"), sorted(named(spans, "again"), key=lambda span: span.start_ns)
    assert fail.error is not None
    assert (fail.error.type, fail.error.message) == ("ValueError", "no tea")
    assert "celery_app.py" in (fail.error.traceback or "")
    assert [each.error.message for each in tries if each.error] == 3 * ["no milk"]
    assert [each.parent_id for each in tries[1:]] == [each.span_id for each in tries[:2]]
    assert len({each.run.trace_id for each in tries}) == 1


def test_malformed_headers_start_a_new_trace() -> None:
    """The task is executed as any other."""
    worker, app = observed(), Celery("eager", set_as_current=False)
    task = app.task(current_run)
    instrumented = instrument(app, worker.container)
    try:
        with ProcessScope(worker.container, "the test"):
            for header in ("", "00-zz-01", 7, {"a": 1}):
                # A worker hands the headers of a message over like this.
                request = {"id": "1", "traceparent": header, "baggage": header}
                build_tracer(task.name, task, app=app)("1", [], {}, request)
    finally:
        instrumented.disconnect()
    assert [span.parent_id for span in worker.spans(task.name)] == 4 * [None]


def test_a_warm_shutdown_loses_nothing(redis: str, tmp_path: Path) -> None:
    """SIGTERM while tasks are executed and a slow back end has not yet taken those before: all of them arrive."""
    receiver = OtlpReceiver()
    with receiver:
        receiver.behave(*(100 * [Answer(delay=0.3)]))
        settings = {
            "NAT_OBSERVABILITY_EXPORTERS__OTLP__TYPE": "otlp",
            "NAT_OBSERVABILITY_EXPORTERS__OTLP__ENDPOINT": receiver.url,
            "NAT_OBSERVABILITY_EXPORTERS__OTLP__BATCH_ITEMS": "4",
            "NAT_OBSERVABILITY_EXPORTERS__OTLP__BATCHES_IN_FLIGHT": "1",
        }
        with running(redis, tmp_path, "--pool=prefork", "--concurrency=2", settings=settings) as worker:
            charged = [worker.send("charge", number) for number in range(16)]
            assert all(each.get(timeout=15) for each in charged)
            waiting = worker.send("wait", 0.5)
            wait_until(lambda: waiting.state != "PENDING")
            assert worker.stop() == 0
            assert waiting.get(timeout=5)
        assert len(receiver.spans) == 2 * (16 + 1)


@pytest.mark.slow
def test_a_child_that_has_executed_enough_is_drained(redis: str, tmp_path: Path) -> None:
    """With max-tasks-per-child each child ends after its task, and leaves nothing behind."""
    with running(redis, tmp_path, "--concurrency=1", "--max-tasks-per-child=1") as worker:
        children = {worker.result("charge", number) for number in range(3)}
        assert worker.stop() == 0
        assert len(children) == 3
        assert len(worker.spans()) == 2 * 3


@pytest.mark.slow
def test_a_task_that_ends_its_process_is_recorded(redis: str, tmp_path: Path) -> None:
    """With what it raised, before the process ends."""
    with running(redis, tmp_path, "--concurrency=1") as worker:
        worker.send("leave")
        (leave,) = worker.spans()
        assert leave.error is not None
        assert (leave.error.type, leave.error.message) == ("SystemExit", "3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            ["--pool=custom"],
            {"CELERY_CUSTOM_WORKER_POOL": "celery.concurrency.base:BasePool"},
            "pool celery.concurrency.base.BasePool is not supported",
        ),
        (
            ["--pool=prefork"],
            {
                "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
                "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": "/proc/none/store.sqlite3",
                "NAT_OBSERVABILITY_EXPORTERS__STORE__REQUIRED": "true",
            },
            "Required exporters did not start: 'store'",
        ),
        (["--pool=solo"], {"NAT_OBSERVABILITY_START_TIMEOUT": "never"}, "NAT_OBSERVABILITY_START_TIMEOUT"),
    ],
    ids=["pool", "required", "settings"],
)
def test_a_worker_that_cannot_be_observed_does_not_start(
    redis: str, tmp_path: Path, arguments: list[str], settings: dict[str, str], message: str
) -> None:
    """And says why."""
    with running(redis, tmp_path, *arguments, settings=settings) as worker:
        assert worker.process.wait(timeout=15) != 0
        assert message in worker.log.read_text()


def current_run() -> ContextState | None:
    return ContextState.current()


def test_an_eager_task_is_a_run_below_its_caller() -> None:
    """It is executed in place, in the caller's trace, and the caller's run goes on after it."""
    worker = observed()
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    task = app.task(current_run)
    instrumented = instrument(app, worker.container)
    state = ContextState(conversation_id="c-1")
    try:
        with ProcessScope(worker.container, "the test"), state.attach(), step("tool", "shop") as shopping:
            inside = task.delay().get()
            assert ContextState.current() is state
    finally:
        instrumented.disconnect()
    assert inside is not state
    charge = worker.span(task.name)
    assert (charge.run, charge.parent_id) == (inside.run, shopping.step_id)
    assert (charge.run.trace_id, charge.run.conversation_id) == (state.run.trace_id, "c-1")


def end_worker() -> None:
    raise SystemExit(3)


def test_an_eager_task_in_a_handler_fails_only_for_its_own_error() -> None:
    """The exception that its caller handles is not the task's; what ends the task without another signal is."""
    worker = observed()
    app = Celery("eager", set_as_current=False)
    tidy, end = app.task(current_run), app.task(end_worker)
    instrumented = instrument(app, worker.container)
    try:
        with ProcessScope(worker.container, "the test"):
            try:
                raise KeyError("shelf")
            except KeyError:
                assert tidy.apply().successful()
                with pytest.raises(SystemExit):
                    end.apply()
    finally:
        instrumented.disconnect()
    assert (worker.span(tidy.name).status, worker.span(tidy.name).error) == (Status.OK, None)
    ended = worker.span(end.name).error
    assert ended is not None
    assert ended.type == "SystemExit"


def test_an_application_that_is_not_instrumented_is_left_alone() -> None:
    """The signals are those of every application in the process."""
    worker, other = observed(), Celery("other", set_as_current=False)
    other.conf.task_always_eager = True
    task = other.task(current_run)
    instrumented = instrument(Celery("shop", set_as_current=False), worker.container)
    try:
        assert task.delay().get() is None
    finally:
        instrumented.disconnect()


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """At once, with what is needed, and not when the first task comes."""
    with pytest.raises(MissingContainerError, match=r"instrument\(\) needs an ObservabilityContainer"):
        instrument(Celery("shop", set_as_current=False), given)


def leave_logging_alone(**_: object) -> None:
    """Connected, it keeps a worker from configuring the logging of the whole process."""


class BeginningWorker:
    """What Celery sends `worker_init` with, as far as it is asked."""

    def __init__(self, app: Celery, pool_cls: object) -> None:
        self.app, self.pool_cls = app, pool_cls


class NoMilkError(Exception):
    """What a task fails with, and is tried again."""


def test_each_try_is_a_run_that_says_which_it_was() -> None:
    """A worker in this process: the tries of a task are runs in one trace, with the queue that they came through."""
    worker, app = (
        observed(),
        Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://"),
    )

    @app.task(name="again", bind=True, max_retries=1)
    def again(self: Any) -> None:
        raise self.retry(exc=NoMilkError("no milk"), countdown=0)

    instrumented = instrument(app, worker.container)
    signals.setup_logging.connect(leave_logging_alone)
    try:
        with (
            ProcessScope(worker.container, "the test"),
            start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30),
            pytest.raises(NoMilkError, match="no milk"),
        ):
            again.delay().get(timeout=15)
    finally:
        signals.setup_logging.disconnect(leave_logging_alone)
        instrumented.disconnect()
    first, second = [msgspec.json.decode(span.metadata or b"") for span in worker.spans("again")]
    assert "celery.retries" not in first
    assert (second["celery.retries"], second["messaging.destination.name"]) == (1, "celery")
    assert [span.error.type for span in worker.spans("again") if span.error] == 2 * [
        f"{__name__}.NoMilkError"
    ]
    assert len({span.run.trace_id for span in worker.spans("again")}) == 1


@pytest.mark.parametrize("pool", ["solo", ThreadPool])
def test_a_worker_without_children_opens_the_exporters_itself(pool: object) -> None:
    """And drains them when it ends; another application's worker in the same process does neither."""
    worker, app, other = (
        observed(),
        Celery("shop", set_as_current=False),
        Celery("other", set_as_current=False),
    )
    instrumented = instrument(app, worker.container)
    try:
        signals.worker_init.send(sender=BeginningWorker(other, pool))
        assert worker.state() is RuntimeState.NEW
        signals.worker_init.send(sender=BeginningWorker(app, pool))
        assert worker.state() is RuntimeState.OPEN
        signals.worker_shutdown.send(sender=None)
        assert worker.state() is RuntimeState.CLOSED
    finally:
        instrumented.disconnect()


def test_a_child_of_a_worker_opens_them_and_drains_them() -> None:
    """Not the worker that it is forked from, if nothing is required."""
    worker, app = observed(), Celery("shop", set_as_current=False)
    instrumented = instrument(app, worker.container)
    try:
        signals.worker_init.send(sender=BeginningWorker(app, "prefork"))
        assert worker.state() is RuntimeState.NEW
        signals.worker_process_init.send(sender=None)
        assert worker.state() is RuntimeState.OPEN
        signals.worker_process_shutdown.send(sender=None)
        assert worker.state() is RuntimeState.CLOSED
    finally:
        instrumented.disconnect()


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("gevent", "pool gevent is not supported"),
        (BasePool, r"pool celery\.concurrency\.base\.BasePool is not supported"),
        (7, "pool .*7 is not supported"),
        (PreforkPool, "Required exporters did not start: 'store'"),
        (SoloPool, "Required exporters did not start: 'store'"),
    ],
    ids=["name", "class", "nonsense", "prefork", "solo"],
)
def test_a_worker_that_cannot_be_observed_is_kept_from_starting(
    monkeypatch: pytest.MonkeyPatch, pool: object, message: str
) -> None:
    """Celery lets SystemExit alone through, whatever else a receiver raises."""
    for setting, value in (("TYPE", "sqlite"), ("PATH", "/proc/none/store"), ("REQUIRED", "true")):
        monkeypatch.setenv(f"NAT_OBSERVABILITY_EXPORTERS__STORE__{setting}", value)
    app = Celery("shop", set_as_current=False)
    instrumented = instrument(app, ObservabilityContainer())
    try:
        with pytest.raises(SystemExit, match=f"The worker does not start. .*{message}"):
            signals.worker_init.send(sender=BeginningWorker(app, pool))
    finally:
        instrumented.disconnect()
