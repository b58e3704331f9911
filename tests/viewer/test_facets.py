"""Facets: the counts of the list's filters, by the index and by reading alike, as runs come, change and go."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store.deletion import delete_runs
from nat_observability.viewer.facets import facets
from nat_observability.viewer.filtering import Filter
from nat_observability.viewer.runs import list_runs
from nat_observability.viewer.sidecar.index import Index
from nat_observability.viewer.sidecar.run_counts import MOST_WORDS
from nat_observability.viewer.store_file import StoreFile
from tests.viewer.client import Viewer, viewer
from tests.viewer.stores import BEGIN_NS, make_run, make_store, spans_of, write

_HOUR_US = 3_600_000_000
_MINUTE_US = 60_000_000
_BEGIN_US = BEGIN_NS // 1000 // _HOUR_US * _HOUR_US


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "s.sqlite3", 150)


async def _counted(shown: Viewer, **query: object) -> dict[str, Any]:
    """Return the sum of all answers to a question."""
    answer: dict[str, Any] = {"complete": False, "next": None}
    while not answer["complete"]:
        answer = await shown.get("/api/facets", **query)
        assert answer["next"] is None
    return answer


_QUERIES: list[dict[str, object]] = [
    {},
    {"status": "error"},
    {"workflow": "support"},
    {"workflow": "nothing"},
    {"name": "answer"},
    {"status": "ok", "workflow": "search", "name": "answer"},
    {"user": "user-3"},
    {"tag": "team:red"},
    {"tag": "team:red", "status": "error", "user": "user-1"},
    {"q": "run-00001"},
    {"min_ms": 3000, "conversation": "talk-7"},
    {"from_": _BEGIN_US + _HOUR_US},
    {"from_": _BEGIN_US + _HOUR_US, "to": _BEGIN_US + 2 * _HOUR_US, "status": "error"},
    {"from_": BEGIN_NS // 1000 + 7 * _MINUTE_US, "to": BEGIN_NS // 1000 + 90 * _MINUTE_US},
    {"status": "running"},
    {"status": "open"},
]


async def test_index_and_reading_agree_with_the_list(store: Path) -> None:
    """Whatever is filtered, both count the runs that the list has, and the histogram adds up to them."""
    async with viewer(store, index=True) as indexed, viewer(store) as plain:
        for query in _QUERIES:
            runs = (await plain.get("/api/runs", limit=200, **query))["runs"]
            for shown in (indexed, plain):
                counts = await _counted(shown, **query)
                assert (counts["total"], counts["of"]) == (len(runs), 150), query
                for name in ("status", "workflow", "name"):
                    assert dict(counts[name]) == Counter(run[name] for run in runs), query
                bars = counts["histogram"]
                assert sum(bar[1] for bar in bars) == len(runs), query
                assert sum(bar[2] for bar in bars) == sum(run["status"] == "error" for run in runs), query
                for at, _, _ in bars:
                    begin = counts["from"] + at * counts["step"]
                    assert any(begin <= run["start"] < begin + counts["step"] for run in runs), query


async def test_tags_to_choose_from(store: Path) -> None:
    """The tags of a time are listed; with how many runs, unless another filter makes that another question."""
    async with viewer(store, index=True) as shown:
        assert (await _counted(shown))["tag"] == [["team:blue", 75], ["team:red", 75]]
        assert (await _counted(shown, status="error"))["tag"] == [["team:blue", None], ["team:red", None]]
        assert (await _counted(shown, from_=_BEGIN_US + 30 * _HOUR_US))["tag"] == []


async def test_counts_follow_what_changes(tmp_path: Path) -> None:
    """A run that begins, ends, is delivered twice, deleted or recorded again counts once, as it is now."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 4)
    sink = await asyncio.to_thread(SqliteSink, path)

    async def statuses() -> dict[str, int]:
        return dict((await _counted(shown))["status"])

    async with viewer(path, index=True) as shown:
        assert await statuses() == {"ok": 4}
        await asyncio.to_thread(sink.open)
        late = spans_of(make_run(9), 9)
        await asyncio.to_thread(sink.write_running, late[:1])
        assert await statuses() == {"ok": 4, "running": 1}
        assert [run["id"] for run in (await shown.get("/api/runs", status="running"))["runs"]] == [
            "run-000009"
        ]
        assert (await shown.get("/api/runs", status="died"))["runs"] == []
        await asyncio.to_thread(sink.write, late)
        await asyncio.to_thread(sink.write, late)
        assert await statuses() == {"ok": 4, "error": 1}
        await asyncio.to_thread(_delete, path, "run-000009", "run-000000")
        await asyncio.to_thread(sink.write, spans_of(make_run(20), 20))
        assert await statuses() == {"ok": 4}
        await asyncio.to_thread(sink.write, late)
        assert await statuses() == {"ok": 4, "error": 1}
        assert dict((await _counted(shown))["tag"]) == {"team:red": 3, "team:blue": 2}
        await asyncio.to_thread(sink.close)


async def test_deletions_that_nobody_saw(tmp_path: Path) -> None:
    """If the store has forgotten deletions that were not counted yet, everything is counted again."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 6)
    async with viewer(path, index=True) as shown:
        assert (await _counted(shown))["total"] == 6
    await asyncio.to_thread(_delete, path, "run-000001", "run-000002")
    await asyncio.to_thread(_forget, path, "run-000001")
    async with viewer(path, index=True) as shown:
        counts = await _counted(shown)
        assert counts["total"] == 4
        assert dict(counts["tag"]) == {"team:blue": 2, "team:red": 2}


async def test_words_of_runs_that_are_gone(tmp_path: Path) -> None:
    """A workflow, a name or a tag that no run has any more is not kept in the index."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    secret = make_run(5, workflow_name="for-ada", tags=(("patient", "ada"),))
    await asyncio.to_thread(write, path, spans_of(secret, 5))

    async def words() -> set[str]:
        return await asyncio.to_thread(_words, path)

    async with viewer(path, index=True) as shown:
        await _counted(shown)
        assert {"for-ada", "patient:ada", "search"} <= await words()
    await asyncio.to_thread(_delete, path, secret.run_id)
    async with viewer(path, index=True) as shown:
        while {"for-ada", "patient:ada"} & await words():
            await asyncio.sleep(0.02)
        assert (await _counted(shown))["total"] == 3
        assert {"answer", "support", "search", "team:red", "team:blue", "ok"} == await words()


def _words(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"{path}-index")) as connection:
        return {word for (word,) in connection.execute("SELECT word FROM words")}


def _delete(path: Path, *run_ids: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        delete_runs(connection, run_ids, 2)


def _forget(path: Path, run_id: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM deletions WHERE run_id = ?", (run_id,))


def _many(path: Path, runs: int, name: str) -> None:
    """Add runs by SQL, a second apart; `name` is an expression over their number n."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ? - 1) "
            "INSERT INTO runs (run_id, trace_id, name, user_id, status, start_ns, end_ns) "
            f"SELECT 'many-' || n, printf('%032x', n), {name}, 'u' || (n % 3), iif(n % 10, 'ok', 'error'), "
            "? + n * 1000000000, ? + n * 1000000000 + n FROM numbers",
            (runs, BEGIN_NS, BEGIN_NS),
        )


def test_more_names_than_are_kept(tmp_path: Path) -> None:
    """Beyond so many names, runs count all the same; what the index cannot tell apart is read."""
    path = make_store(tmp_path / "s.sqlite3", 1)
    _many(path, MOST_WORDS + 500, "'name-' || n")
    store = StoreFile(path)
    index = Index(store)
    index.start()
    try:
        assert index.wait_complete(10)
        counts = store.read_here(lambda reader: facets(reader, index, Filter(), None))
        assert (counts["total"], counts["complete"]) == (MOST_WORDS + 501, True)
        assert sum(number for _, number in counts["name"]) + counts["rest"]["name"] == MOST_WORDS + 501
        for number in (1, MOST_WORDS + 499):
            wanted = Filter(name=f"name-{number}")
            assert store.read_here(lambda reader: facets(reader, index, wanted, None))["total"] == 1  # noqa: B023
    finally:
        index.close()
        store.close()


def test_what_there_was_no_time_for(tmp_path: Path) -> None:
    """Answers that were cut short by the time add up to all, in bars that they share, and so do pages of the list."""
    path = make_store(tmp_path / "s.sqlite3", 1)
    _many(path, 45_000, "'many'")
    store = StoreFile(path)
    index = Index(store, enabled=False)
    wanted = Filter(user="u1", q="any")
    total, histogram, steps, before, answers = 0, Counter[int](), set(), None, 0
    while answers == 0 or before is not None:
        answer = store.read_here(lambda reader: facets(reader, index, wanted, before, seconds=0))  # noqa: B023
        total += answer["total"]
        histogram.update({at: runs for at, runs, _ in answer["histogram"]})
        steps.add((answer["from"], answer["step"]))
        before, answers = answer["next"], answers + 1
        assert answer["complete"] is (before is None)
    assert (total, sum(histogram.values()), len(steps), answers) == (15_000, 15_000, 1, 3)
    found: list[str] = []
    key = None
    while not found or key is not None:
        page = store.read_here(lambda reader: list_runs(reader, Filter(name="many", q="any-4499"), key, 200))  # noqa: B023
        found += [run["id"] for run in page["runs"]]
        key = page["next"]
    assert found == [f"many-{number}" for number in (*range(44_999, 44_989, -1), 4_499)]
    store.close()
