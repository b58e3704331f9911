"""Stores that somebody made to do harm: every request has an answer, and the file stays as it is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.viewer.client import viewer
from tests.viewer.stores import HOSTILE, make_hostile_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hostile_store(tmp_path_factory.mktemp("hostile") / "s.sqlite3")


async def test_every_hostile_run_is_answered(store: Path) -> None:
    """Lists, spans, content, search and exports of each hostile run are JSON or a file, within their bounds."""
    async with viewer(store) as shown:
        runs = (await shown.get("/api/runs", limit=200))["runs"]
        assert len(runs) == len(HOSTILE) >= 40
        assert (await shown.get("/api/facets"))["total"] == len(HOSTILE)
        for number, name in enumerate(HOSTILE):
            path = f"/api/runs/hostile-{number}"
            await shown.get(path)
            spans = await shown.get(f"{path}/spans")
            assert len(spans["id"]) == len(HOSTILE[name]()), name
            assert all(isinstance(each, str) for each in spans["names"] + spans["kinds"] + spans["statuses"])
            assert all(isinstance(each, int) for each in spans["from"] + spans["length"]), name
            assert all(len(each.encode()) <= 1000 for each in spans["names"] if "�" not in each)
            for span_id in spans["id"][:2]:
                if span_id:
                    response = await shown.ask(f"{path}/spans/{quote(span_id, safe='')}")
                    span = await response.json()
                    assert response.status == 200, (name, span)
                    assert all(len(part["text"]) <= 65_536 for part in span["parts"].values())
        assert (await shown.get("/api/compare", a="hostile-24", b="hostile-25"))["pairs"]


async def test_hostile_runs_are_indexed_and_counted(store: Path) -> None:
    """The index comes to its end over whatever cells hold, and counts every run."""
    async with viewer(store, index=True) as shown:
        await shown.indexed()
        counts = await shown.get("/api/facets")
        assert (counts["total"], counts["complete"]) == (len(HOSTILE), True)
        assert sum(number for _, number in counts["workflow"]) == len(HOSTILE)
        assert (await shown.get("/api/stats", by="kind"))["rows"]


async def test_exported_html_holds_nothing_but_its_own_markup(store: Path) -> None:
    """No recorded text can end the data's element or begin another."""
    names = list(HOSTILE)
    async with viewer(store) as shown:
        for name in (
            "script in the name",
            "end of a script in content",
            "handler in the name",
            "a circle of parents",
        ):
            page = await (await shown.ask(f"/api/export/hostile-{names.index(name)}.html")).text()
            assert page.count("<script") == page.count("</script") == 2
            data = page.split('id="data">')[1].split("</script>")[0]
            assert "<" not in data
