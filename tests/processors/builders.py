"""Builders of runs, spans and steps as processors receive them."""

from __future__ import annotations

from typing import Any

from nat_observability.events import (
    Boundary,
    ErrorDetails,
    IntermediateStep,
    Item,
    Run,
    Span,
    Status,
    StepKind,
)
from nat_observability.recording.capture import capture, capture_json

RUN = Run("run-1", "1" * 32, "conversation-1", "user-1", "answer", None)


def a_span(
    value: object = None,
    output: object = None,
    *,
    run: Run = RUN,
    kind: StepKind = StepKind.TOOL,
    metadata: object = None,
    **fields: Any,
) -> Span:
    """Return a span whose input is `value`, as it is recorded."""
    return Span(
        run=run,
        kind=kind,
        name=fields.pop("name", "search"),
        span_id="2" * 16,
        parent_id="3" * 16,
        start_ns=1_700_000_000_000_000_000,
        end_ns=1_700_000_000_250_000_000,
        status=fields.pop("status", Status.OK),
        input=capture(value),
        output=capture(output),
        metadata=None if metadata is None else capture_json(metadata),
        **fields,
    )


def a_step(
    value: object = None,
    *,
    boundary: Boundary = Boundary.START,
    run: Run = RUN,
    kind: StepKind = StepKind.LLM,
    output: object = None,
    chunk: object = None,
    metadata: object = None,
    **fields: Any,
) -> IntermediateStep:
    """Return a boundary of a step whose input is `value`, as it is recorded."""
    return IntermediateStep(
        run=run,
        kind=kind,
        boundary=boundary,
        name=fields.pop("name", "model"),
        step_id="2" * 16,
        parent_id="3" * 16,
        time_ns=1_700_000_000_000_000_000,
        input=capture(value),
        output=capture(output),
        chunk=capture(chunk),
        metadata=None if metadata is None else capture_json(metadata),
        **fields,
    )


def an_error(message: str, traceback: str | None = None) -> ErrorDetails:
    return ErrorDetails("ValueError", message, traceback)


def identity(item: Item) -> tuple[object, ...]:
    """Return what no processor may change: ids, times, kind, status and counts."""
    run = item.run
    ids = (run.run_id, run.trace_id, run.parent_span_id, item.kind, item.parent_id, item.usage)
    if isinstance(item, Span):
        return (
            *ids,
            item.span_id,
            item.start_ns,
            item.end_ns,
            item.status,
            item.chunks,
            item.first_chunk_ns,
        )
    return (*ids, item.boundary, item.step_id, item.time_ns)
