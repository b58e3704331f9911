"""SpanCounts: what whole runs add up to, whatever order their spans come in."""

from __future__ import annotations

from typing import Any

import pytest

from nat_observability.cli.replay.span_counts import SpanCounts
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage

RUN = Run("a", "1" * 32)


def span(span_id: str, parent_id: str | None = None, **fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "run": RUN,
        "kind": StepKind.WORKFLOW,
        "name": "n",
        "start_ns": 1,
        "end_ns": 2,
    }
    return Span(**defaults | {"status": Status.OK} | fields | {"span_id": span_id, "parent_id": parent_id})


def test_nothing_counts_nothing() -> None:
    """Before any run everything is zero, with every kind of token named."""
    counts = SpanCounts().counts()
    assert (counts.runs, counts.spans, counts.max_depth) == (0, 0, 0)
    assert set(counts.token_usage_of_llm_ends.values()) == {0}
    assert len(counts.token_usage_of_llm_ends) == 5


def test_only_finished_runs_count() -> None:
    """A run counts when it is finished, once, with all of its spans."""
    counts = SpanCounts()
    counts.take([span("w"), span("t", "w", kind=StepKind.TOOL)])
    assert counts.counts().spans == 0
    assert counts.finish(RUN)
    assert counts.counts().spans_by_category == {"TOOL": 1, "WORKFLOW": 1}
    assert (counts.counts().runs_ok, counts.counts().max_depth) == (1, 2)


def test_a_span_that_comes_twice_counts_once() -> None:
    """At-least-once delivery changes no count; the later span stands."""
    counts = SpanCounts()
    call = span("l", kind=StepKind.LLM, usage=TokenUsage(1, 2, total_tokens=3))
    counts.take([call])
    counts.take([call])
    counts.finish(RUN)
    assert (counts.counts().spans, counts.counts().llm_calls) == (1, 1)
    assert counts.counts().token_usage_of_llm_ends["total_tokens"] == 3


@pytest.mark.parametrize(
    ("roots", "went_well"),
    [
        ([Status.OK], True),
        ([Status.INCOMPLETE], False),
        ([Status.ERROR], False),
        ([Status.OK, Status.ERROR], False),
        ([], False),
    ],
)
def test_a_run_goes_as_well_as_its_roots(roots: list[Status], went_well: bool) -> None:
    """A run is ok when it has a root span and all of them are, whatever its other spans are."""
    counts = SpanCounts()
    counts.take([span(f"w{number}", status=status) for number, status in enumerate(roots)])
    counts.take([span("t", "w0", status=Status.INCOMPLETE)])
    assert counts.finish(RUN) is went_well
    assert counts.counts().runs_failed == (not went_well)


def test_a_root_may_continue_another_run() -> None:
    """A span whose parent is the step that the run continues is a root."""
    run = Run("b", "1" * 32, parent_span_id="outer")
    counts = SpanCounts()
    counts.take([span("w", "outer", run=run)])
    assert counts.finish(run)
    assert counts.counts().max_depth == 1


@pytest.mark.parametrize(
    ("parents", "depth"),
    [
        ({"a": None, "b": "a", "c": "b"}, 3),
        ({"c": "b", "b": "a", "a": None}, 3),
        ({"a": "elsewhere", "b": "a"}, 2),
        ({"a": "a"}, 1),
        ({"a": "b", "b": "a", "c": "b"}, 3),
        ({str(n): str(n - 1) for n in range(5000)}, 5000),
    ],
)
def test_depth_is_what_encloses_a_span(parents: dict[str, str | None], depth: int) -> None:
    """Depth counts the enclosing spans of the run, and stops at a cycle."""
    counts = SpanCounts()
    counts.take([span(span_id, parent) for span_id, parent in parents.items()])
    counts.finish(RUN)
    assert counts.counts().max_depth == depth
