"""Store, as the command asks it: some of its runs, by their ids."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nat_observability.events import Run, StepKind, TokenUsage
from nat_observability.sinks import SqliteSink
from nat_observability.store import Store
from tests.sinks.builders import make_span

RUNS = [Run(run_id, "1" * 32) for run_id in ("aa-1", "aa-2", "b%_")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with three runs of two spans each."""
    sink = SqliteSink(tmp_path / "s.db")
    sink.open()
    for run in RUNS:
        call = make_span(run=run, kind=StepKind.LLM, usage=TokenUsage(1, 2, total_tokens=3))
        sink.write([call, make_span(run=run, parent_id=call.span_id)])
    sink.close()
    return tmp_path / "s.db"


def test_counts_of_some_runs_are_theirs_alone(path: Path) -> None:
    """With ids, only what belongs to these runs is counted; an unknown id counts nothing."""
    with Store(path) as store:
        assert store.counts(["aa-1", "b%_", "nowhere"]) == {
            "runs": 2,
            "runs_ok": 2,
            "runs_failed": 0,
            "spans": 4,
            "spans_paired": 4,
            "spans_unpaired": 0,
            "spans_by_category": {"FUNCTION": 2, "LLM": 2},
            "max_depth": 2,
            "llm_calls": 2,
            "token_usage_of_llm_ends": {
                "cached_tokens": 0,
                "reasoning_tokens": 0,
                "prompt_tokens": 2,
                "completion_tokens": 4,
                "total_tokens": 6,
            },
        }
        assert store.counts([])["spans"] == 0
        assert store.counts([run.run_id for run in RUNS]) == store.counts()


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("aa", {"aa-1", "aa-2"}), ("aa-1", {"aa-1"}), ("b%", {"b%_"}), ("%", set()), ("aa-11", set())],
)
def test_runs_are_found_by_the_beginning_of_their_id(path: Path, prefix: str, found: set[str]) -> None:
    """A prefix is taken as it is, without wildcards."""
    with Store(path) as store:
        assert {run.run.run_id for run in store.runs(id_prefix=prefix)} == found


def test_many_ids_are_fine(path: Path) -> None:
    """The number of ids has no limit of SQLite's."""
    ids = [f"run-{number}" for number in range(100_000)]
    with Store(path) as store:
        assert store.counts([*ids, "aa-1"])["spans"] == 2


def test_a_prefix_and_a_status_go_together(path: Path) -> None:
    """Every condition holds at once."""
    with Store(path) as store:
        assert [run.run.run_id for run in store.runs(status="error", id_prefix="aa")] == []
        assert len(msgspec.to_builtins(store.runs(limit=1, status="ok", id_prefix="aa"))) == 1
