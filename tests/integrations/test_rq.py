"""RQ over a real redis-server: a run for each execution, in its sender's trace, in all kinds of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue, SimpleWorker, Worker

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError, UnsupportedPoolError
from nat_observability.events import Span, Status
from nat_observability.health import RuntimeState
from nat_observability.integrations.rq import instrument, instrument_queue
from nat_observability.settings import ObservabilitySettings
from nat_observability.store import Store
from tests.brokers import running_redis
from tests.integrations import rq_app
from tests.integrations.workers import Observed, observed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def queue(redis: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue of its own, which knows nothing of runs yet."""
    monkeypatch.setenv("REDIS_URL", redis)
    # A worker that works in this process leaves its own.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Redis.from_url(redis) as connection:
        yield Queue(uuid.uuid4().hex, connection=connection)
    for number, handler in handlers.items():
        signal.signal(number, handler)


class DeafWorker(SimpleWorker):
    """A worker without commands from outside: the thread that listens for them outlives the worker."""

    def subscribe(self) -> None:
        """Do not listen."""


def work(queue: Queue, worker: Observed) -> None:
    """Execute what is in the queue, in this process."""
    simple = DeafWorker([queue], connection=queue.connection)
    instrument(simple, worker.container).work(burst=True, logging_level="ERROR")


def test_an_execution_is_a_run_in_its_senders_trace(queue: Queue) -> None:
    """With the sender's conversation, user and tags; what a job sends is in its trace as well."""
    worker = observed(ObservabilitySettings(propagate_tags=["tenant"]))
    instrument_queue(queue)
    state = ContextState(conversation_id="c-1", user_id="ü/1", tags={"tenant": "acme"})
    state.propagated_tags = ["tenant"]
    with state.attach(), step("tool", "order") as ordering:
        sent = queue.enqueue(rq_app.charge, 7)
    work(queue, worker)
    assert worker.state() is RuntimeState.CLOSED
    task, bank, billed = (
        worker.span(name)
        for name in ("tests.integrations.rq_app.charge", "bank", "tests.integrations.rq_app.bill")
    )
    assert (bank.parent_id, bank.run) == (task.span_id, task.run)
    assert (task.parent_id, task.run.trace_id) == (ordering.step_id, state.run.trace_id)
    assert (billed.parent_id, billed.run.trace_id) == (bank.span_id, state.run.trace_id)
    for run in (task.run, billed.run):
        assert (run.conversation_id, run.user_id, run.tags) == ("c-1", "ü/1", (("tenant", "acme"),))
    assert json.loads(bytes(task.metadata or b""))["messaging.message.id"] == sent.id


@pytest.mark.skipif(version("rq") < "3", reason="RQ before 3.0 leaves the loop of a coroutine open")
def test_a_coroutine_and_jobs_that_are_sent_together(queue: Queue) -> None:
    """In the run of the job, in a loop of its own; `enqueue_many` sends as `enqueue` does."""
    worker, state = observed(), ContextState()
    instrument_queue(queue)
    with state.attach():
        queue.enqueue_many([Queue.prepare_data(rq_app.brew), Queue.prepare_data(rq_app.bill, (1,))])
    work(queue, worker)
    brewed, kettle = worker.span("tests.integrations.rq_app.brew"), worker.span("kettle")
    assert (kettle.parent_id, kettle.run) == (brewed.span_id, brewed.run)
    assert {span.run.trace_id for span in worker.spans()} == {state.run.trace_id}
    assert len({span.run.run_id for span in worker.spans()}) == 2


def test_errors_and_tries(queue: Queue) -> None:
    """What a job raises ends its step, in each of its tries; they are in one trace."""
    worker = observed()
    instrument_queue(queue)
    with ContextState().attach():
        queue.enqueue(rq_app.fails, retry=rq_app.Retry(max=1))
    work(queue, worker)
    first, second = worker.spans()
    assert {(each.error.type, each.error.message) for each in (first, second) if each.error} == {
        ("LookupError", "no milk")
    }
    assert {each.status for each in (first, second)} == {Status.ERROR}
    assert first.run.trace_id == second.run.trace_id
    assert first.run.run_id != second.run.run_id


def test_the_callers_meta_is_not_changed(queue: Queue) -> None:
    """It goes out again with the next job, in another run; outside every run nothing is added."""
    worker, meta = observed(), {"team": "a"}
    queue.enqueue(rq_app.bill, 1, meta={"traceparent": 7, "baggage": b"\xff"})
    instrument_queue(queue)
    with ContextState().attach():
        sent = queue.enqueue(rq_app.bill, 1, meta=meta)
    again = queue.enqueue(rq_app.bill, 1, meta=meta)
    assert (meta, again.meta) == ({"team": "a"}, {"team": "a"})
    assert sent.meta.keys() == {"team", "traceparent"}
    work(queue, worker)
    assert len({span.run.trace_id for span in worker.spans()}) == 3


def stored(path: Path) -> dict[str, Span]:
    """Return the spans of a store by the last part of their names."""
    with Store(path) as store:
        spans = [span for each in store.runs() for span in store.spans(each.run.run_id)]
    return {span.name.rpartition(".")[2]: span for span in spans}


class DeafForkingWorker(Worker):
    """A worker that forks, without commands from outside."""

    def subscribe(self) -> None:
        """Do not listen."""


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of a fork with threads, as RQ does it
def test_a_work_horse_delivers_before_it_ends(queue: Queue, tmp_path: Path) -> None:
    """It ends with os._exit() right after its job, and the worker's own exporters were closed before the fork."""
    exporters = {"store": {"type": "sqlite", "path": str(tmp_path / "store.sqlite3"), "required": True}}
    container = ObservabilityContainer(settings=ObservabilitySettings(exporters=exporters))
    instrument_queue(queue)
    state = ContextState(user_id="u-1")
    with state.attach():
        queue.enqueue(rq_app.brew)
        queue.enqueue(rq_app.fails)
    worker = instrument(DeafForkingWorker([queue], connection=queue.connection), container)
    worker.work(burst=True, logging_level="CRITICAL")
    assert container.runtime_object().state is RuntimeState.CLOSED
    spans = stored(tmp_path / "store.sqlite3")
    assert spans.keys() == {"brew", "kettle", "fails"}
    assert {(span.run.trace_id, span.run.user_id) for span in spans.values()} == {(state.run.trace_id, "u-1")}
    assert spans["fails"].status is Status.ERROR


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["ForkingWorker", "SpawningWorker"])
def test_the_command_and_its_work_horses(kind: str, queue: Queue, tmp_path: Path) -> None:
    """The command is RQ's own; a class of workers is instrumented wherever it is imported."""
    path = tmp_path / "store.sqlite3"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
        "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(path),
        "NAT_OBSERVABILITY_EXPORTERS__STORE__REQUIRED": "true",
    }
    instrument_queue(queue)
    state = ContextState(user_id="u-1")
    with state.attach(), step("tool", "order") as ordering:
        queue.enqueue(rq_app.charge, 7)
    command = ["worker", "--burst", "--worker-class", f"tests.integrations.rq_app.{kind}", queue.name]
    ran = subprocess.run(
        [sys.executable, "-m", "rq.cli", *command],
        cwd=ROOT, env=environment | {"RQ_REDIS_URL": environment["REDIS_URL"]},
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "runtime_not_shut_down" not in ran.stdout + ran.stderr
    spans = stored(path)
    assert spans.keys() == {"charge", "bank", "bill"}
    assert (spans["charge"].parent_id, spans["charge"].run.user_id) == (ordering.step_id, "u-1")
    assert {span.run.trace_id for span in spans.values()} == {state.run.trace_id}
    assert spans["bill"].parent_id == spans["bank"].span_id


@pytest.mark.parametrize("kind", [SimpleWorker, Worker])
def test_a_worker_whose_required_exporters_do_not_open_does_not_start(kind: Any, queue: Queue) -> None:
    """One that forks tries them before its first job."""
    exporters = {"main": {"type": "file", "path": "/proc/no/such", "required": True}}
    container = ObservabilityContainer(settings=ObservabilitySettings(exporters=exporters))
    worker = instrument(kind([queue], connection=queue.connection), container)
    with pytest.raises(SystemExit, match=r"The worker does not start\. .*main"):
        worker.work(burst=True, logging_level="ERROR")


def test_an_instance_that_spawns_is_refused(queue: Queue) -> None:
    """Its work horses know its class only."""
    with pytest.raises(UnsupportedPoolError, match=r"its class, given to instrument\(\)"):
        instrument(rq_app.SpawnWorker([queue], connection=queue.connection), observed().container)


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """At once, and not when the first job comes."""
    with pytest.raises(MissingContainerError, match=r"needs an ObservabilityContainer"):
        instrument(Worker, given)
