"""Rows of the store as runs and spans."""

from __future__ import annotations

from typing import Any

import msgspec

from nat_observability.events import (
    Captured,
    ErrorDetails,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.store.records import ContentPiece
from nat_observability.store.schema import RUNNING

RUN_COLUMNS = 7
"""How many columns a row begins with that `run_of` reads: ids, and the tags."""

_NO_ATTRIBUTES = msgspec.Raw()


# As events and links, whose attributes may be missing: Raw or None is not decoded.
class _EventRow(msgspec.Struct):
    name: str
    time_ns: int
    attributes: msgspec.Raw = _NO_ATTRIBUTES
    dropped_attributes_count: int = 0


class _LinkRow(msgspec.Struct):
    trace_id: str
    span_id: str
    attributes: msgspec.Raw = _NO_ATTRIBUTES
    trace_state: str | None = None
    trace_flags: int = 0
    dropped_attributes_count: int = 0
    is_remote: bool | None = None


class _OriginRow(msgspec.Struct):
    scope_name: str = ""
    scope_version: str | None = None
    scope_attributes: msgspec.Raw = _NO_ATTRIBUTES
    schema_url: str | None = None
    trace_state: str | None = None
    ok: bool = False
    retyped: tuple[tuple[str, str], ...] = ()
    trace_flags: int = 1
    parent_is_remote: bool = False


_event_rows = msgspec.json.Decoder(list[_EventRow]).decode
_link_rows = msgspec.json.Decoder(list[_LinkRow]).decode
_dropped = msgspec.json.Decoder(tuple[int, int, int]).decode
_origin_row = msgspec.json.Decoder(_OriginRow).decode


def _events(text: str) -> tuple[SpanEvent, ...]:
    return tuple(
        SpanEvent(row.name, row.time_ns, _own(row.attributes), row.dropped_attributes_count)
        for row in _event_rows(text)
    )


def _links(text: str) -> tuple[SpanLink, ...]:
    return tuple(
        SpanLink(
            row.trace_id,
            row.span_id,
            _own(row.attributes),
            row.trace_state,
            row.trace_flags,
            row.dropped_attributes_count,
            row.is_remote,
        )
        for row in _link_rows(text)
    )


def _origin(text: str) -> SpanOrigin:
    row = _origin_row(text)
    return SpanOrigin(
        row.scope_name,
        row.scope_version,
        _own(row.scope_attributes),
        row.schema_url,
        row.trace_state,
        row.ok,
        row.retyped,
        row.trace_flags,
        row.parent_is_remote,
    )


def _own(attributes: msgspec.Raw) -> msgspec.Raw | None:
    return attributes.copy() if len(attributes) else None


def run_of(row: tuple[Any, ...]) -> Run:
    """Return the run of a row that begins with its ids and its tags."""
    tags = row[RUN_COLUMNS - 1]
    run = Run(*row[: RUN_COLUMNS - 1])
    if tags is None:
        return run
    return msgspec.structs.replace(run, tags=tuple(msgspec.json.decode(tags, type=dict[str, str]).items()))


def span_of(run: Run, row: tuple[Any, ...]) -> tuple[Span, bool]:
    """Return the span of a row with the columns of `SPAN_COLUMNS` but the first, and whether it is still open."""
    span_id, parent_id, kind, name, start_ns, end_ns, status, given, given_type, result, result_type = row[
        :11
    ]
    metadata, tags = row[11:13]
    error_type, message, traceback, chunks, first_chunk_ns = row[18:23]
    attributes, events, links, span_kind, status_message, dropped = row[23:29]
    origin, *costs = row[33:37]
    known_kind = StepKind(kind)
    counts = (0, 0, 0) if dropped is None else _dropped(dropped)
    running = status == RUNNING
    span = Span(
        run=run,
        kind=known_kind,
        name=name,
        span_id=span_id,
        parent_id=parent_id,
        start_ns=start_ns,
        end_ns=end_ns,
        status=Status.INCOMPLETE if running else Status(status),
        input=_captured(given, given_type),
        output=_captured(result, result_type),
        metadata=None if metadata is None else msgspec.Raw(metadata.encode()),
        tags=() if tags is None else tuple(msgspec.json.decode(tags)),
        usage=None if row[13] is None else TokenUsage(*row[13:18], *(each or 0 for each in row[29:33])),
        error=None if error_type is None else ErrorDetails(error_type, message, traceback),
        chunks=chunks,
        first_chunk_ns=first_chunk_ns,
        attributes=None if attributes is None else msgspec.Raw(attributes.encode()),
        events=() if events is None else _events(events),
        links=() if links is None else _links(links),
        span_kind=known_kind.span_kind if span_kind is None else SpanKind(span_kind),
        status_message=status_message,
        dropped_attributes_count=counts[0],
        dropped_events_count=counts[1],
        dropped_links_count=counts[2],
        origin=None if origin is None else _origin(origin),
        cost=None if costs[0] is None else TokenCost(*costs),
    )
    return span, running


def piece_of(part: str, whole: str, kind: str | None, offset: int, length: int) -> ContentPiece:
    """Return a piece of a part of a span. SQLite's own `substr` would end at a NUL."""
    if kind is None:
        kind = "json" if part in ("metadata", "attributes", "events", "links", "tags") else "text"
    start = max(0, offset)
    return ContentPiece(whole[start : start + max(0, length)], start, len(whole), kind)


def _captured(value: str | None, kind: str | None) -> Captured:
    return msgspec.Raw(value.encode()) if value is not None and kind == "json" else value
