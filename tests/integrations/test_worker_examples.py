"""The examples of workers, run as they are: a real broker, a worker and a sender in processes of their own."""

from __future__ import annotations

import os
import signal
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
}


@pytest.fixture(scope="module")
def brokers() -> Iterator[dict[str, str]]:
    """The variables that say where the brokers are."""
    with running_nats() as nats, running_redis() as redis:
        yield {"NATS_URL": nats, "REDIS_URL": redis}


def stored(path: Path, name: str) -> list[Span]:
    """Return the spans of that name in the store, none if there is no store yet."""
    with suppress(SinkError), Store(path) as store:
        spans = [span for each in store.runs() for span in store.spans(each.run.run_id)]
        return [span for span in spans if span.name.lower().replace("_", "") == name]
    return []


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "example",
    [
        "asyncio_orders",
        "faststream_orders",
        pytest.param("taskiq_orders", marks=pytest.mark.slow),
        pytest.param("celery_orders", marks=pytest.mark.slow),
    ],
)
def test_an_example_works_and_ends(example: str, brokers: dict[str, str], tmp_path: Path) -> None:
    """An order is handled in the trace of its sender, and stored when SIGTERM has ended the worker."""
    store = tmp_path / "store.sqlite3"
    environment = {
        **os.environ,
        **brokers,
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
