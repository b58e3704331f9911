"""The index beside a store: exact search, statistics, and what becomes of the file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability.cli.maintenance.erasing import erase_runs
from nat_observability.viewer.search import trigrams
from nat_observability.viewer.sidecar.hours import bucket_of, merge, pack, percentiles
from tests.viewer.client import Viewer, viewer
from tests.viewer.stores import make_run, make_store, spans_of, write


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "s.sqlite3")


@pytest.fixture(params=["index", "no index"])
async def shown(store: Path, request: pytest.FixtureRequest) -> AsyncIterator[Viewer]:
    async with viewer(store, index=request.param == "index") as opened:
        if request.param == "index":
            await opened.indexed()
        yield opened


async def _hits(shown: Viewer, text: str, **query: object) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = []
    before: object = 0
    while before is not None:
        page = await shown.get("/api/search", q=text, before=before, **query)
        hits += page["hits"]
        before = page["next"]
    return hits


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Where is parcel 7?", 3),
        ("where IS parcel 7?", 3),
        ("“Schlüssel”", 36),
        ("SCHLÜSSEL", 36),
        ("鍵", 36),
        ("鍵 and م", 36),
        ("مفتاح", 36),
        ("depot", 16),
        ('"messages"', 36),
        ("Bern (4)", 1),
        ("in", 60),
        ("nothing like this", 0),
        ("a%b_c", 0),
        ("redacted:api", 12),
        ("depot.py, line 7", 4),
        ("\\", 24),
        ("find_documents", 12),
        ('{"parcel": 7}', 24),
    ],
)
async def test_any_substring_is_found(shown: Viewer, text: str, number: int) -> None:
    """Search finds a text in any case and script, in every part of a span, with and without the index alike."""
    hits = await _hits(shown, text)
    assert len({hit["id"] for hit in hits}) == len(hits)
    assert [hit["id"] for hit in hits] == sorted((hit["id"] for hit in hits), reverse=True)
    expected = {True: number, False: len(hits)}[number < 60]
    assert len(hits) == expected
    for hit in hits:
        assert hit["match"].lower().replace('\\"', '"').replace("\\\\", "\\") == text.lower()
        assert len(hit["before"]) <= 40
        assert len(hit["after"]) <= 40


async def test_search_in_one_run(shown: Viewer) -> None:
    """With a run, only its spans are found."""
    hits = await _hits(shown, "parcel", run="run-000003")
    assert {hit["run"] for hit in hits} == {"run-000003"}
    assert len(hits) == 5
    assert await _hits(shown, "parcel", run="none") == []


async def test_ids_are_found_without_reading_content(shown: Viewer) -> None:
    """The beginning of a run's or a trace's id leads to it."""
    assert [run["id"] for run in (await shown.get("/api/search", q="run-000003"))["runs"]] == ["run-000003"]
    assert [run["id"] for run in (await shown.get("/api/search", q=f"{5:032x}"))["runs"]] == ["run-000004"]


async def test_statistics(store: Path) -> None:
    """Statistics count each span once, tokens of model calls alone, and percentiles to within a bucket."""
    async with viewer(store, index=True) as shown:
        await shown.indexed()
        names = {row["key"]: row for row in (await shown.get("/api/stats"))["rows"]}
        assert (names["answer"]["count"], names["answer"]["errors"]) == (12, 2)
        assert names["swift-1"]["tokens"] == 12 * 370
        assert abs(names["answer"]["p50"] - 3_000_000) <= 3_000_000 * 0.03
        assert abs(names["track"]["p99"] - 700_000) <= 700_000 * 0.03
        models = {row["key"]: row["count"] for row in (await shown.get("/api/stats", by="model"))["rows"]}
        assert models == {"swift-1": 12, "slow-1": 12}
        workflows = {row["key"]: row for row in (await shown.get("/api/stats", by="workflow"))["rows"]}
        assert {key: row["count"] for key, row in workflows.items()} == {"support": 6, "search": 6}
        assert workflows["support"]["tokens"] == 6 * 370
        over = (await shown.get("/api/stats", by="kind", only="LLM"))["over"]
        assert sum(point["count"] for point in over) == 24
        assert (await shown.get("/api/stats", from_=10**17))["rows"] == []
        assert "by is one of" in (await shown.get("/api/stats", 400, by="moon"))["error"]


async def test_what_is_delivered_twice_counts_once(tmp_path: Path) -> None:
    """A span that replaces itself is found once and counted once."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 2)
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        await asyncio.to_thread(write, path, spans_of(make_run(1), 1))
        while (await shown.get("/api/store"))["sidecar"]["total"] < 15:
            await asyncio.sleep(0.02)
        await shown.indexed()
        assert sum(row["count"] for row in (await shown.get("/api/stats"))["rows"]) == 10
        assert len(await _hits(shown, "find_documents")) == 2


async def test_the_file_is_private_and_can_be_deleted(tmp_path: Path) -> None:
    """The index is 0600; deleted, damaged or of another store, it is made again."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    index = tmp_path / "s.sqlite3-index"
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        assert stat.S_IMODE(index.stat().st_mode) == 0o600
        size = index.stat().st_size
        for suffix in ("", "-wal", "-shm"):
            Path(f"{index}{suffix}").unlink(missing_ok=True)
        while not index.exists() or index.stat().st_size < size:
            await asyncio.sleep(0.02)
        await shown.indexed()
        assert len(await _hits(shown, "find_documents")) == 3
    for content in (b"no database at all" * 200, index.read_bytes()[:4096] + b"\xff" * 20_000):
        for suffix in ("-wal", "-shm"):
            Path(f"{index}{suffix}").unlink(missing_ok=True)
        index.write_bytes(content)
        async with viewer(path, index=True) as shown:
            await shown.indexed()
            assert len(await _hits(shown, "find_documents")) == 3
    (await asyncio.to_thread(make_store, tmp_path / "other.sqlite3", 1)).rename(path)
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        assert len(await _hits(shown, "find_documents")) == 1


async def test_a_deleted_newest_run_leaves_the_index(tmp_path: Path) -> None:
    """That the newest spans are gone, as after a check of the configuration, does not make the index anew."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    index = tmp_path / "s.sqlite3-index"
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        before = index.stat().st_ino
        await asyncio.to_thread(erase_runs, path, ["run-000002"])
        while (await shown.get("/api/facets"))["total"] != 2:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(write, path, spans_of(make_run(7), 7))
        await shown.indexed()
        assert index.stat().st_ino == before
        assert {hit["run"] for hit in await _hits(shown, "parcel")} == {
            "run-000000",
            "run-000001",
            "run-000007",
        }


async def test_the_index_of_a_store_that_is_replaced(tmp_path: Path) -> None:
    """If a store goes and another one comes to its path, the index is that one's."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        while (await shown.get("/api/stats"))["problem"] is None:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(make_store, path, 5)
        await shown.indexed()
        assert (await shown.get("/api/facets"))["total"] == 5
        assert len(await _hits(shown, "find_documents")) == 5


async def test_a_long_text_is_searched_to_its_end(tmp_path: Path) -> None:
    """What is beyond the indexed part of a long text is found all the same."""
    span = spans_of(make_run(0), 0)[1]
    long = msgspec.structs.replace(span, input="x" * 200_000 + "needle", output="y" * 90_000 + "\0pin")
    await asyncio.to_thread(write, tmp_path / "s.sqlite3", [long, *spans_of(make_run(1), 1)])
    async with viewer(tmp_path / "s.sqlite3", index=True) as shown:
        await shown.indexed()
        assert [hit["place"] for hit in await _hits(shown, "xneedle")] == ["input"]
        assert [hit["place"] for hit in await _hits(shown, "pin")] == ["output"]


def test_histograms_of_durations() -> None:
    """Packed histograms add up, and a percentile is within its bucket."""
    counts = merge({}, [pack({bucket_of(us): 1}) for us in (0, 1, 1000, 1000, 5_000_000)])
    assert sum(counts.values()) == 5
    p20, p60, p99 = percentiles(counts, 20, 60, 99)
    assert p20 == 0
    assert abs(p60 - 1000) < 30
    assert abs(p99 - 5_000_000) < 150_000
    assert percentiles({}, 50) == [0]


def test_trigrams_of_a_text() -> None:
    """A query of trigrams has few of them, quoted; a short text has none."""
    assert trigrams("ab") is None
    assert trigrams('a"b') == '"a""b"'
    assert str(trigrams("x" * 900 + "abc")).count("AND") < 40


async def test_the_trigrams_hold_no_text(tmp_path: Path) -> None:
    """The index keeps no recorded text, only its trigrams."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 1)
    async with viewer(path, index=True) as shown:
        await shown.indexed()
    connection = sqlite3.connect(f"{path}-index")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert b"Where is parcel" not in Path(f"{path}-index").read_bytes()
