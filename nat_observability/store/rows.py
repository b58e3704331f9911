"""Rows of the store as runs and spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from nat_observability.events import (
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
from nat_observability.store.records import ContentPiece, RunActivity, RunCounters, RunStatus, StoredRun
from nat_observability.store.schema import RUNNING

RUN_COLUMNS = 7
"""How many columns a row begins with that `run_of` reads: ids, and the tags."""

UNREADABLE = "(cannot be read)"
"""Marks what another program, or damage, has put where something else was due."""

_LONGEST = 1_000  # characters of what cannot be read

_STATUSES: dict[object, RunStatus] = {"ok": "ok", "error": "error", "open": "open"}

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


_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_tags_of_run = msgspec.json.Decoder(dict[str, str]).decode
_counts = msgspec.json.Decoder(dict[str, int]).decode
_event_rows = msgspec.json.Decoder(list[_EventRow]).decode
_link_rows = msgspec.json.Decoder(list[_LinkRow]).decode
_dropped = msgspec.json.Decoder(tuple[int, int, int]).decode
_origin_row = msgspec.json.Decoder(_OriginRow).decode

_T = TypeVar("_T")


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


def text_of(cell: Any) -> str | None:
    """Return a cell as text. SQLite takes anything in any column, and another program may have written it."""
    if cell is None or type(cell) is str:
        return cell
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


def number_of(cell: Any) -> int:
    """Return a cell as an integer of 64 bits; 0 if it is no number."""
    if type(cell) is int:
        return cell
    return int(cell) if isinstance(cell, float) and abs(cell) < 2**63 else 0


def amount_of(cell: Any) -> float | None:
    """Return a cell as a number, None if it is none."""
    return cell if isinstance(cell, int | float) else None


def dropped_of(cell: Any, rest: int) -> dict[str, int]:
    """Return counts by name; if they cannot be read, what is left of a sum under a name that says so."""
    text = text_of(cell)
    try:
        return {} if text is None else _counts(text)
    except (msgspec.MsgspecError, RecursionError):
        return {UNREADABLE: rest}


def run_of(row: tuple[Any, ...]) -> Run:
    """Return the run of a row that begins with its ids and its tags."""
    run_id, trace_id, conversation, user, workflow, parent, cell = map(text_of, row[:RUN_COLUMNS])
    run = Run(run_id or "", trace_id or "", conversation, user, workflow, parent)
    if cell is None:
        return run
    try:
        tags = _tags_of_run(cell)
    except (msgspec.MsgspecError, RecursionError):
        tags = {UNREADABLE: cell[:_LONGEST]}
    return msgspec.structs.replace(run, tags=tuple(tags.items()))


def stored_run_of(row: tuple[Any, ...], alive_ns: int) -> StoredRun:
    """
    Return the run of a row: as for `run_of`, then name, status, times and error, and in version 2 counters and beat.

    Args:
        row: Its cells.
        alive_ns: A process that has reported since then is alive.
    """
    name, cell, start_ns, end_ns, failure, *more = row[RUN_COLUMNS:]
    error, status = text_of(failure), _STATUSES.get(cell)
    if status is None:
        unknown = f"status {str(text_of(cell))[:_LONGEST]!r} {UNREADABLE}"
        status, error = "open", unknown if error is None else f"{unknown}; {error}"
    counters, activity = None, None
    if more:
        *counts, cost, beat_ns = more
        spans, errors, incomplete, models, tools, prompt, completion, total = map(number_of, counts)
        counters = RunCounters(
            spans, errors, incomplete, models, tools, prompt, completion, total, amount_of(cost)
        )
        activity = None if beat_ns is None else _activity(number_of(beat_ns), alive_ns)
    return StoredRun(
        run_of(row), text_of(name), status, number_of(start_ns), number_of(end_ns), error, counters, activity
    )


def _activity(beat_ns: int, alive_ns: int) -> RunActivity:
    return "running" if beat_ns >= alive_ns else "died"


class _Reading:
    """Reads the cells of one span, and notes those that hold something else than was due."""

    def __init__(self, at_ns: int) -> None:
        self._at_ns = at_ns
        self.problems: list[SpanEvent] = []

    def decoded(self, column: str, cell: Any, decode: Callable[[str], _T], missing: _T) -> _T:
        """Return what is in a cell; `missing` if it is empty or cannot be read."""
        text = text_of(cell)
        if text is None:
            return missing
        try:
            return decode(text)
        except (ValueError, RecursionError):  # msgspec's errors too
            note = msgspec.Raw(msgspec.json.encode({"text": text[:_LONGEST]}))
            self.problems.append(SpanEvent(f"{column} {UNREADABLE}", self._at_ns, note))
            return missing


def span_of(run: Run, row: tuple[Any, ...]) -> tuple[Span, bool]:
    """
    Return the span of a row with the columns of `SPAN_COLUMNS` but the first, and whether it is still open.

    What cannot be read is left out, and an event says so.
    """
    span_id, parent_id, kind, name, start, end, status, given, given_type, result, result_type = row[:11]
    metadata, tags = row[11:13]
    error_type, message, traceback, chunks, first_chunk_ns = row[18:23]
    attributes, events, links, span_kind, status_message, dropped = row[23:29]
    origin, *costs = row[33:37]
    start_ns = number_of(start)
    reading = _Reading(start_ns)
    read = reading.decoded
    known_kind = read("kind", kind, StepKind, StepKind.CUSTOM)
    running = status == RUNNING
    known_status = Status.INCOMPLETE if running else read("status", status, Status, Status.INCOMPLETE)
    counts = read("dropped", dropped, _dropped, (0, 0, 0))
    none: tuple[SpanEvent, ...] = ()
    own_events = read("events", events, _events, none)
    span = Span(
        run=run,
        kind=known_kind,
        name=text_of(name) or "",
        span_id=text_of(span_id) or "",
        parent_id=text_of(parent_id),
        start_ns=start_ns,
        end_ns=number_of(end),
        status=known_status,
        input=_captured(given, given_type),
        output=_captured(result, result_type),
        metadata=_json(metadata),
        tags=read("tags", tags, _tags, ()),
        usage=None
        if row[13] is None
        else TokenUsage(*map(number_of, row[13:18]), *map(number_of, row[29:33])),
        error=None
        if error_type is None
        else ErrorDetails(text_of(error_type) or "", text_of(message) or "", text_of(traceback)),
        chunks=number_of(chunks),
        first_chunk_ns=None if first_chunk_ns is None else number_of(first_chunk_ns),
        attributes=_json(attributes),
        links=read("links", links, _links, ()),
        span_kind=read("span_kind", span_kind, SpanKind, known_kind.span_kind),
        status_message=text_of(status_message),
        dropped_attributes_count=counts[0],
        dropped_events_count=counts[1],
        dropped_links_count=counts[2],
        origin=read("origin", origin, _origin, None),
        cost=None if amount_of(costs[0]) is None else TokenCost(*(amount_of(each) or 0.0 for each in costs)),
        events=(*own_events, *reading.problems),
    )
    return span, running


def piece_of(part: str, cell: Any, kind: Any, offset: int, length: int) -> ContentPiece:
    """Return a piece of a part of a span. SQLite's own `substr` would end at a NUL."""
    if kind is None:
        kind = "json" if part in ("metadata", "attributes", "events", "links", "tags") else "text"
    whole, start = text_of(cell) or "", max(0, offset)
    return ContentPiece(whole[start : start + max(0, length)], start, len(whole), text_of(kind) or "text")


def _captured(cell: Any, kind: Any) -> msgspec.Raw | str | None:
    return _json(cell) if kind == "json" else text_of(cell)


def _json(cell: Any) -> msgspec.Raw | None:
    text = text_of(cell)
    return None if text is None else msgspec.Raw(text.encode())
