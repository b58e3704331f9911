"""The examples of workers, run as they are: a real broker, a worker and a sender in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nat_observability.errors import SinkError
from nat_observability.events import Span, Status
from nat_observability.store import Store
from nat_observability.testing import wait_until
from tests.brokers import running_nats, running_redis
from tests.processes import run_program

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
PYTHON: tuple[str, ...] = (sys.executable, "-W", "error")
WORKERS: dict[str, list[str]] = {
    "asyncio_orders": [*PYTHON, "-m", "examples.workers.asyncio_orders"],
    "faststream_orders": [*PYTHON, "-m", "examples.workers.faststream_orders"],
    "taskiq_orders": [
        str(SCRIPTS / "taskiq"),
        "worker",
        "examples.workers.taskiq_orders:broker",
        "--workers=2",
    ],
    "celery_orders": [
        str(SCRIPTS / "celery"),
        "-A",
        "examples.workers.celery_orders",
        "worker",
        "--concurrency=2",
    ],
    "arq_orders": [*PYTHON[:1], "-m", "arq", "examples.workers.arq_orders.WorkerSettings"],
    "rq_orders": [
        *(sys.executable, "-m", "rq.cli", "worker"),
        *("--worker-class", "examples.workers.rq_orders.OrdersWorker", "orders"),
    ],
    "dramatiq_orders": [
        *(sys.executable, "-m", "dramatiq", "examples.workers.dramatiq_orders"),
        *("--processes=2", "--threads=2"),
    ],
}

# RQ names a job after its function, with the module.
MODULE = "examples.workers.rqorders."


@pytest.fixture(scope="module")
def brokers() -> Iterator[dict[str, str]]:
    """The variables that say where the brokers are."""
    with running_nats() as nats, running_redis() as redis:
        yield {"NATS_URL": nats, "REDIS_URL": redis}


def stored(path: Path, name: str) -> list[Span]:
    """Return the spans of that name in the store, none if there is no store yet."""
    with suppress(SinkError), Store(path) as store:
        spans = [span for each in store.runs() for span in store.spans(each.run.run_id)]
        return [span for span in spans if span.name.lower().replace("_", "").removeprefix(MODULE) == name]
    return []


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "example",
    [
        "asyncio_orders",
        pytest.param("faststream_orders", marks=pytest.mark.slow),
        pytest.param("taskiq_orders", marks=pytest.mark.slow),
        pytest.param("celery_orders", marks=pytest.mark.slow),
        pytest.param("arq_orders", marks=pytest.mark.slow),
        pytest.param("rq_orders", marks=pytest.mark.slow),
        pytest.param("dramatiq_orders", marks=pytest.mark.slow),
    ],
)
def test_an_example_works_and_ends(example: str, brokers: dict[str, str], tmp_path: Path) -> None:
    """An order is handled in the trace of its sender, and stored when SIGTERM has ended the worker."""
    store = tmp_path / "store.sqlite3"
    environment = {
        **os.environ,
        **brokers,
        "RQ_REDIS_URL": brokers["REDIS_URL"],
        "PYTHONPATH": str(ROOT),
        "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
        "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(store),
    }
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            WORKERS[example], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        things = [str(number) for number in range(20)]
        sending = [*PYTHON, "-m", f"examples.workers.{example}"]
        if example == "faststream_orders":  # NATS keeps nothing for who is not there yet
            wait_until(lambda: "started" in (tmp_path / "log").read_text(), timeout=30)
        subprocess.run([*sending, *things], cwd=ROOT, env=environment, check=True, timeout=30)
        wait_until(lambda: stored(store, "handleorder"), timeout=30)
        wait_until(lambda: len(stored(store, "handleorder")) == 20 or worker.poll() is not None, timeout=30)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0, (tmp_path / "log").read_text()
        # The drain at the interpreter's exit, the last resort, warns about it.
        assert "runtime_not_shut_down" not in (tmp_path / "log").read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    (order,) = stored(store, "order")
    handled, charged = stored(store, "handleorder"), stored(store, "charge")
    assert {span.run.trace_id for span in handled} == {order.run.trace_id}
    assert {(span.parent_id, span.run.user_id) for span in handled} == {(order.span_id, "somebody")}
    assert sorted(span.parent_id or "" for span in charged) == sorted(span.span_id for span in handled)
    assert {span.status for span in (order, *handled, *charged)} == {Status.OK}
    assert len(handled) == 20


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_the_example_of_grpc(tmp_path: Path) -> None:
    """A call is a run in its caller's trace; what it has recorded is stored when SIGTERM has ended the server."""
    store = tmp_path / "store.sqlite3"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "ADDRESS": address,
        "PYTHONPATH": str(ROOT),
        "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
        "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(store),
    }
    command = [*PYTHON, "-m", "examples.grpc.orders"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        printed = subprocess.run(
            [*command, "tea", "milk"],
            cwd=ROOT,
            env=environment,
            check=True,
            timeout=30,
            capture_output=True,
            text=True,
        )
        assert printed.stdout.splitlines() == ["a bill for tea", "a bill for milk"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
    finally:
        server.kill()
        server.wait()
    (order,), (handled,) = stored(store, "order"), stored(store, "shop.orders/handleorder")
    assert (handled.parent_id, handled.run.trace_id, handled.run.user_id) == (
        order.span_id,
        order.run.trace_id,
        "somebody",
    )
    assert {span.parent_id for span in stored(store, "charge")} == {handled.span_id}
    assert len(stored(store, "charge")) == 2


def test_the_example_of_aws_lambda(tmp_path: Path) -> None:
    """Two messages of one sender are an invocation in its trace, delivered when the handler has returned."""
    store = tmp_path / "store.sqlite3"
    run_program(
        """
        import os, sys
        os.environ["NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE"] = "sqlite"
        os.environ["NAT_OBSERVABILITY_EXPORTERS__STORE__PATH"] = sys.argv[1]
        from nat_observability import ContextState
        from nat_observability.store import Store
        from examples.aws_lambda.handler import handler, message, received

        state = ContextState(user_id="somebody")
        with state.attach():
            records = [received(message(order)) for order in ("tea", "milk")]
        assert handler({"Records": records}, None)["body"] == '{"paid": 2}'
        with Store(sys.argv[1]) as found:  # before anything is shut down
            (run,) = found.runs()
            invocation, *charges = sorted(found.spans(run.run.run_id), key=lambda span: span.start_ns)
        assert (run.run.trace_id, run.run.user_id) == (state.run.trace_id, "somebody")
        assert [(span.name, span.parent_id) for span in charges] == 2 * [("charge", invocation.span_id)]
        """,
        store,
    )
