"""The example shop as two servers, two workers and its suppliers, stopped in the middle of a load: nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from nat_observability.events import Span
from nat_observability.store import Store
from nat_observability.testing import wait_until
from tests.brokers import running_redis
from tests.integrations.asgi_servers import ROOT, Server, running_server

TENANTS = ("acme", "globex")
PLACED = ["order", "choose", "price", "deliver", "carry"]
NAMES = {
    "order": sorted(["POST /orders/{degrees}", "remember", *PLACED]),
    "stream": sorted(["GET /teas/{tea}", "house-model"]),
    "socket": sorted(["WEBSOCKET /counter", "question", *PLACED]),
}


class Answered(NamedTuple):
    """A request that was answered: what it was, on whose behalf, and the ids of its caller's span."""

    kind: str
    tenant: str
    trace_id: str
    span_id: str


async def ask(session: aiohttp.ClientSession, kind: str, tenant: str) -> Answered:
    """Make one request of a kind, in a trace of its own."""
    asked = Answered(kind, tenant, secrets.token_hex(16), secrets.token_hex(8))
    headers = {"x-tenant": tenant, "traceparent": f"00-{asked.trace_id}-{asked.span_id}-01"}
    if kind == "socket":
        async with session.ws_connect("/counter", headers=headers) as websocket:
            await websocket.send_str("75")
            assert await websocket.receive_str() == "green for 5 coins"
        return asked
    method, path = ("POST", "/orders/75") if kind == "order" else ("GET", "/teas/green")
    async with session.request(method, path, headers=headers) as response:
        assert await response.text() in ('"green for 5 coins"', "green is warm")
        assert response.status == 200
    return asked


async def load(server: Server, clients: int, answers: int) -> list[Answered]:
    """Ask from so many clients at once, stop the server after so many answers; return what was answered."""
    answered: list[Answered] = []
    enough, stopping = asyncio.Event(), asyncio.Event()

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        # Each has a request under way when the server is stopped, and then makes no other.
        for count in itertools.count(number):
            if stopping.is_set():
                return
            try:
                answered.append(await ask(session, [*NAMES][count % 3], TENANTS[number % 2]))
            except (
                aiohttp.ClientError,
                ConnectionError,
                TypeError,
            ):  # the last: a websocket that is closed early
                return
            if len(answered) >= answers:
                enough.set()

    async with aiohttp.ClientSession(server.address, connector=aiohttp.TCPConnector(limit=0)) as session:
        asking = [asyncio.ensure_future(client(number, session)) for number in range(clients)]
        waiting = asyncio.ensure_future(enough.wait())
        await asyncio.wait([waiting, *asking], return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        assert waiting.done(), [each.exception() for each in asking if each.done()]
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.gather(*asking)
    return answered


@contextmanager
def running_worker(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the shop's worker, with two processes, for a block."""
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskiq", "worker", "examples.shop.service:broker", "--workers=2"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def spans_of(store: Path) -> dict[str, list[Span]]:
    """Return the spans of a store by their traces."""
    traces: dict[str, list[Span]] = {}
    with Store(store) as reader:
        for run in reader.runs(limit=100_000):
            traces.setdefault(run.run.trace_id, []).extend(reader.spans(run.run.run_id))
    return traces


def wrong(asked: Answered, spans: list[Span]) -> str | None:
    """Return what is wrong with the trace of a request that was answered."""
    if sorted(span.name for span in spans) != NAMES[asked.kind]:
        return f"{asked}: {sorted(span.name for span in spans)}"
    by_name = {span.name: span for span in spans}
    (root,) = (span for span in spans if span.parent_id == asked.span_id)
    parents = {
        "choose": "order",
        "price": "order",
        "deliver": "order",
        "carry": "deliver",
        "question": root.name,
    }
    parents |= {"order": "question" if asked.kind == "socket" else root.name}
    parents |= {"remember": root.name, "house-model": root.name}
    for span in spans:
        if span is not root and span.parent_id != by_name[parents[span.name]].span_id:
            return f"{asked}: {span.name} is below {span.parent_id}"
        if dict(span.run.tags) != {"tenant": asked.tenant}:
            return f"{asked}: {span.name} has the tags {span.run.tags}"
    if "deliver" in by_name and by_name["deliver"].run.run_id == root.run.run_id:
        return f"{asked}: the worker's execution is no run of its own"
    return None


def undelivered(database: Path) -> int:
    """Return how many orders the worker has not delivered yet."""
    with closing(sqlite3.connect(database)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM orders WHERE NOT delivered").fetchone()
    return int(number)


def processes_with(text: str) -> list[str]:
    """Return the processes whose environment has a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Processes are found in /proc")
def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """Every answered request is there with its tree, what the worker did for it is in its trace, and all has ended."""
    database, suppliers = tmp_path / "shop.sqlite3", tmp_path / "suppliers"
    suppliers.mkdir()
    stores = {tenant: tmp_path / f"{tenant}.sqlite3" for tenant in TENANTS}
    command = ["uvicorn", "examples.shop.service:app", "--port={port}", "--workers=2", "--ws=wsproto"]
    # On a busy machine too, no request is cut off, and no process is replaced while it starts.
    command += ["--log-level=warning", "--timeout-graceful-shutdown=60", "--timeout-worker-healthcheck=60"]
    with running_redis() as redis_url:
        prices = ["uvicorn", "examples.shop.suppliers:app", "--port={port}", "--log-level=warning"]
        with running_server(prices, suppliers) as supplying:
            environment = {
                "SHOP_DATABASE": str(database),
                "SHOP_REDIS_URL": redis_url,
                "SHOP_SUPPLIERS_URL": supplying.address,
                "SHOP_TENANTS": "{%s}" % ", ".join(f'"{name}": "{path}"' for name, path in stores.items()),  # noqa: UP031
                "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
                "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(tmp_path / "store.db"),
            }
            with (
                running_server(command, tmp_path, environment=environment) as server,
                running_worker(tmp_path, environment) as worker,
            ):
                answered = asyncio.run(load(server, clients=20, answers=150))
                # What is ordered waits for the worker, which may still be starting.
                wait_until(lambda: not undelivered(database) or worker.poll() is not None, timeout=60)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(60) == 0, (tmp_path / "worker.log").read_text()
            assert supplying.stop() in (0, -signal.SIGTERM)
    assert not processes_with(str(tmp_path))
    # A worker of taskiq that waits in vain for its client's timeout ends with a traceback, and is started again.
    served, worked = ((tmp_path / name).read_text() for name in ("server.log", "worker.log"))
    assert "Traceback" not in served, served
    trouble = r"^.*(?:runtime_not_shut_down|_dropped|_failed|_abandoned|_refused).*$"
    assert not re.findall(trouble, served + worked, re.MULTILINE)

    traces = spans_of(tmp_path / "store.db")
    problems = [wrong(asked, traces.get(asked.trace_id, [])) for asked in answered]
    assert not [problem for problem in problems if problem is not None]
    with closing(sqlite3.connect(database)) as connection:
        rows = {row for (row,) in connection.execute("SELECT span_id FROM span")}
    assert rows == {span.span_id for spans in traces.values() for span in spans}
    for tenant, path in stores.items():
        found = spans_of(path)
        assert {dict(span.run.tags)["tenant"] for spans in found.values() for span in spans} == {tenant}
        assert {each.trace_id for each in answered if each.tenant == tenant} <= found.keys()
    looked_up = spans_of(suppliers / "store.db")
    for asked in answered:
        if asked.kind != "stream":
            (asking,) = (span for span in traces[asked.trace_id] if span.name == "price")
            (root,) = (span for span in looked_up[asked.trace_id] if span.name == "GET /price/{tea}")
            assert root.parent_id == asking.span_id
