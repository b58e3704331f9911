"""Many connections to several real worker processes, which are stopped in the middle of it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import aiohttp
import pytest

from tests.integrations.asgi_servers import Server, running_server, runs_of, uvicorn

APPLICATION = "tests.integrations.asgi_apps:starlette"
PATIENT = "--timeout-graceful-shutdown=30"  # on a busy machine too, no request is cut off: none may be lost
GUNICORN = [
    "gunicorn",
    f"{APPLICATION}()",
    "--bind=127.0.0.1:{port}",
    "--worker-class=uvicorn_worker.UvicornWorker",
    "--workers=2",
    "--preload",
    "--graceful-timeout=30",
]


async def load(server: Server, connections: int, answers: int) -> list[str]:
    """Send requests over so many connections, stop the server after so many answers; return whose were answered."""
    answered: list[str] = []
    enough, stopping = asyncio.Event(), asyncio.Event()

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        # Each has a request under way when the server is stopped, and then makes no other: uvicorn goes on to serve
        # a connection that it had not noticed by then, for as long as requests come.
        for count in itertools.count():
            if stopping.is_set():
                return
            name = f"{number}-{count}"
            try:
                async with session.get("/stream", headers={"conversation-id": name}) as response:
                    await response.read()
            except (aiohttp.ClientError, ConnectionError):
                return  # the server ends
            if response.status == 200:
                answered.append(name)
                if len(answered) >= answers:
                    enough.set()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.address, connector=connector) as session:
        clients = [asyncio.ensure_future(client(number, session)) for number in range(connections)]
        await enough.wait()
        stopping.set()
        await asyncio.to_thread(server.stop)
        await asyncio.gather(*clients)
    return answered


def lost(answered: list[str], store: Path) -> set[str]:
    """Return whose answered requests are not in the store."""
    runs = runs_of(store)
    assert all(len(found) == 1 for name, found in runs.items() if name), "a request is two runs"
    return set(answered) - set(runs)


@pytest.mark.timeout(60)
def test_stop_in_the_middle_loses_no_answered_request(tmp_path: Path) -> None:
    """SIGTERM while two workers are busy: each request that was answered is in the store (the short form)."""
    with running_server(uvicorn(APPLICATION, "--workers=2", PATIENT), tmp_path) as server:
        answered = asyncio.run(load(server, connections=20, answers=200))
        assert len(answered) >= 200
        assert not lost(answered, server.store)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_stop_under_200_connections_loses_no_answered_request(tmp_path: Path) -> None:
    """The same with 4 workers and 200 connections."""
    with running_server(uvicorn(APPLICATION, "--workers=4", PATIENT), tmp_path) as server:
        answered = asyncio.run(load(server, connections=200, answers=4000))
        assert len(answered) >= 4000
        assert not lost(answered, server.store)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_gunicorn_forks_an_application_that_was_loaded_before(tmp_path: Path) -> None:
    """G15: with --preload the container is made in the parent, and each worker opens and drains its own runtime."""
    with running_server(GUNICORN, tmp_path) as server:
        answered = asyncio.run(load(server, connections=20, answers=200))
        assert not lost(answered, server.store)
