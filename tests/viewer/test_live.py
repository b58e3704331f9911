"""The stream of changes: what it says of a store that is replaced, taken away, or left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nat_observability.viewer import live
from nat_observability.viewer.store_file import StoreFile
from tests.viewer.stores import make_run, make_store, spans_of, write


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PERIOD", 0.01)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreFile]:
    """A store of two runs and ten spans."""
    file = StoreFile(make_store(tmp_path / "s.sqlite3", 2))
    yield file
    file.close()


async def next_change(changes: Any) -> Any:
    """Return the next line that is more than a beat."""
    async for change in changes:
        if change["runs"]:
            return change
    pytest.fail("The stream has ended.")


async def test_an_unchanged_store_is_reported_too(store: StoreFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a connection that broke is noticed; and the stream ends when it is told to."""
    monkeypatch.setattr(live, "_BEAT", 3)
    ended = asyncio.Event()
    changes = live.changes(store, None, ended)
    assert [await anext(changes) for _ in range(3)] == [{"cursor": 10, "runs": []}] * 3
    ended.set()
    assert [change async for change in changes] == []


async def test_a_cursor_from_the_future_is_now(store: StoreFile) -> None:
    """It was given for a file that was at this path before."""
    changes = live.changes(store, 1000, asyncio.Event())
    assert await anext(changes) == {"cursor": 10, "runs": []}
    await changes.aclose()


async def test_a_store_that_is_moved_away_and_replaced(store: StoreFile, tmp_path: Path) -> None:
    """While it is away nothing is said; of the one that takes its place all runs are."""
    changes = live.changes(store, None, asyncio.Event())
    await anext(changes)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{store.path}{suffix}").unlink(missing_ok=True)
    coming = asyncio.create_task(next_change(changes))
    await asyncio.sleep(0.1)
    assert not coming.done()
    await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 1)
    assert await coming == {"cursor": 5, "runs": ["run-000000"]}
    await asyncio.to_thread(write, tmp_path / "s.sqlite3", spans_of(make_run(7), 7))
    assert (await next_change(changes))["runs"] == ["run-000007"]
    await changes.aclose()
