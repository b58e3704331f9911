"""Upgrades: what an older version has left is delivered, what a newer one has left waits for it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from nat_observability import ExporterManager
from nat_observability.events import Boundary, IntermediateStep, Span, Status, StepKind
from nat_observability.spool.spool import Spool
from nat_observability.testing import until
from tests.delivery.backends import Backend, exporter_of, quick_limits, record

_LEFT = Path(__file__).parents[1] / "data" / "spool-0.1.0"


def version(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        [(number,)] = connection.execute("PRAGMA user_version")
    return int(number)


def files_in(directory: Path) -> list[Path]:
    return list(directory.glob("*.sqlite3"))


def value(captured: Any) -> Any:
    """Return what a captured JSON value says."""
    return json.loads(bytes(captured))


async def delivered(directory: Path, left: str) -> Backend:
    """Have everything delivered that version 0.1.0 has left, beside a run of today."""
    shutil.copy(_LEFT / f"{left}.db", directory / "spool-20260101T000000000000-1-00000000.sqlite3")
    sink = Backend()
    exporters = exporter_of(sink, quick_limits(directory, "always"))
    with structlog.testing.capture_logs() as lines:
        await record(ExporterManager.from_exporters(exporters), ["today"])
        await until(lambda: not exporters["main"].delivery.at_work)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []
    assert exporters["main"].delivery.health().ledger.pending == 0
    return sink


async def test_spans_of_0_1_0_are_delivered_whole(tmp_path: Path) -> None:
    """Every field that they had is as it was, and what they lacked is empty."""
    sink = await delivered(tmp_path, "spans")
    spans = [item for item in sink.taken if isinstance(item, Span) and item.name != "today"]
    assert [span.name for span in spans] == ["gpt", "search", "answer"] * 2
    llm, tool, workflow = spans[:3]
    assert llm.kind is StepKind.LLM
    assert value(llm.input) == [{"role": "user", "content": "tea"}]
    assert (llm.output, llm.chunks, llm.parent_id) == ("all about tea", 2, workflow.span_id)
    assert llm.usage is not None
    assert (llm.usage.prompt_tokens, llm.usage.completion_tokens) == (3, 4)
    assert llm.first_chunk_ns is not None
    assert tool.error is not None
    assert (tool.error.type, tool.error.message, tool.status) == ("ValueError", "no tea", Status.ERROR)
    assert tool.error.traceback == "app.py:18 main"
    assert value(workflow.input) == {"q": "Wo ist der Tee? 茶"}
    assert [value(span.metadata) for span in (spans[2], spans[5])] == [{"n": 0}, {"n": 1}]
    for span in spans:
        run = span.run
        assert (run.conversation_id, run.user_id, run.workflow_name) == ("c-1", "u-1", "chat")
        assert (span.attributes, span.events, span.links) == (None, (), ())
    assert len({span.run.run_id for span in spans}) == 2
    assert not files_in(tmp_path)


async def test_steps_of_0_1_0_are_delivered_whole(tmp_path: Path) -> None:
    """Each boundary, in order."""
    sink = await delivered(tmp_path, "steps")
    steps = [item for item in sink.taken if isinstance(item, IntermediateStep)]
    assert [(each.name, each.boundary) for each in steps[:8]] == [
        ("answer", Boundary.START),
        ("gpt", Boundary.START),
        ("gpt", Boundary.CHUNK),
        ("gpt", Boundary.CHUNK),
        ("gpt", Boundary.END),
        ("search", Boundary.START),
        ("search", Boundary.END),
        ("answer", Boundary.END),
    ]
    assert [each.chunk for each in steps[2:4]] == ["all ", "about tea"]
    assert len(steps) == 16


def test_an_older_version_does_not_take_over_what_it_cannot_read_whole(tmp_path: Path) -> None:
    """It leaves files of a later version than its own alone: it would lose what its records do not have."""
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
        spool.append([b"of today"], taken=False)
    [path] = tmp_path.glob("*.sqlite3")
    assert {version(_LEFT / "spans.db"), version(_LEFT / "steps.db")} == {1}
    assert version(path) == 2


def test_nothing_is_appended_to_a_file_of_an_older_version(tmp_path: Path) -> None:
    """After a rollback that version may take it over again."""
    path = tmp_path / "spool-20260101T000000000000-1-00000000.sqlite3"
    shutil.copy(_LEFT / "spans.db", path)
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
        spool.append([b"of today"], taken=False)
    assert {version(each) for each in tmp_path.glob("*.sqlite3") if each != path} == {2}
    assert version(path) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert b"of today" not in [data for (data,) in connection.execute("SELECT data FROM records")]


@pytest.mark.parametrize("left", ["spans", "steps"])
def test_two_versions_side_by_side_share_no_file(tmp_path: Path, left: str) -> None:
    """A file whose owner lives is not taken, whatever its version; each process appends to its own."""
    path = tmp_path / "spool-20260101T000000000000-1-00000000.sqlite3"
    shutil.copy(_LEFT / f"{left}.db", path)
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as first:
        held = first.stats().records
        assert held
        with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as second:
            second.append([b"of the other"], taken=False)
            assert second.stats().records == 1
            assert first.stats().records == held
            assert len(list(tmp_path.glob("*.sqlite3"))) >= 3
