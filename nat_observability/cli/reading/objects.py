"""Runs, spans, ledgers and statistics as the objects that `--json` prints; docs/command.md describes them."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from nat_observability.events import Captured, Span
from nat_observability.store import SpanNode, Store, StoredRun

_OTHERS = re.compile(r"[^\x20-\x7e]+")
_EPOCH_YEARS = 1e9 * 86_400 * 365 * 7_000  # nanoseconds; datetime ends with the year 9999


def run_object(run: StoredRun) -> dict[str, Any]:
    """Return a run, with its counters; those are null if the store does not have them."""
    ids, counters = run.run, run.counters
    counted = (
        dict.fromkeys(_COUNTERS)
        if counters is None
        else {name: getattr(counters, name) for name in _COUNTERS}
    )
    return {
        "run_id": ids.run_id,
        "trace_id": ids.trace_id,
        "parent_span_id": ids.parent_span_id,
        "conversation_id": ids.conversation_id,
        "user_id": ids.user_id,
        "workflow_name": ids.workflow_name,
        "tags": dict(ids.tags),
        "name": run.name,
        "status": run.status,
        "activity": run.activity,
        "error": run.error,
        "started": iso(run.start_ns),
        "start_ns": run.start_ns,
        "end_ns": run.end_ns,
        "duration_ms": (run.end_ns - run.start_ns) / 1e6,
        **counted,
    }


_COUNTERS = (
    "span_count", "error_count", "incomplete_count", "llm_calls", "tool_calls", "prompt_tokens", "completion_tokens",
    "total_tokens", "cost",
)  # fmt: skip


def whole_run_object(store: Store, run: StoredRun) -> dict[str, Any]:
    """Return a run with its ledgers and its spans, in the order of the tree."""
    run_id = run.run.run_id
    return {
        **run_object(run),
        "ledgers": {name: msgspec.structs.asdict(ledger) for name, ledger in store.ledgers(run_id).items()},
        "spans": [span_object(node.span, status=node.status) for node in in_order(store.tree(run_id))],
    }


def in_order(nodes: list[SpanNode]) -> Iterable[SpanNode]:
    """Yield the nodes of a tree, each before what it encloses. Without recursion: steps may be nested deeply."""
    left = list(reversed(nodes))
    while left:
        node = left.pop()
        yield node
        left += reversed(node.children)


def span_object(span: Span, *, status: str | None = None) -> dict[str, Any]:
    """Return a span; content that was JSON as it is, other content as text."""
    return {
        "run_id": span.run.run_id,
        "trace_id": span.run.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": span.kind.value,
        "span_kind": span.span_kind.value,
        "name": span.name,
        "status": status or span.status.value,
        "status_message": span.status_message,
        "started": iso(span.start_ns),
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "duration_ms": (span.end_ns - span.start_ns) / 1e6,
        "input": content(span.input),
        "output": content(span.output),
        "metadata": content(span.metadata),
        "tags": list(span.tags),
        "usage": None if span.usage is None else msgspec.structs.asdict(span.usage),
        "error": None if span.error is None else msgspec.structs.asdict(span.error),
        "chunks": span.chunks,
        "first_chunk_ns": span.first_chunk_ns,
        "attributes": content(span.attributes),
        "events": [
            {
                "name": event.name,
                "time_ns": event.time_ns,
                "attributes": content(event.attributes),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ],
        "links": [
            {
                "trace_id": link.trace_id,
                "span_id": link.span_id,
                "attributes": content(link.attributes),
                "trace_state": link.trace_state,
                "trace_flags": link.trace_flags,
                "is_remote": link.is_remote,
                "dropped_attributes_count": link.dropped_attributes_count,
            }
            for link in span.links
        ],
        "dropped_attributes_count": span.dropped_attributes_count,
        "dropped_events_count": span.dropped_events_count,
        "dropped_links_count": span.dropped_links_count,
    }


def content(value: Captured) -> object:
    """Return a recorded value so that it can be encoded: JSON as it is if it is whole, and else as text."""
    if not isinstance(value, msgspec.Raw):
        return value
    text = bytes(value)
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text.decode("utf-8", "replace")
    # What the application wrote may have lines of its own.
    return msgspec.Raw(msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text)


def iso(nanoseconds: int) -> str | None:
    """Return a time as ISO 8601 in UTC, None if it is outside the calendar."""
    if not 0 <= nanoseconds < _EPOCH_YEARS:
        return None
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % 10**9:09d}Z"


def json_line(value: object) -> bytes:
    """Return a value as JSON on one line, with what a terminal would obey as escapes of JSON."""
    return visible_json(msgspec.json.encode(value)) + b"\n"


def visible_json(data: bytes) -> bytes:
    """Return JSON that means the same, without white space other than blanks, in which every character is visible."""
    text = data.decode()
    # Outside of its strings, JSON on one line has nothing else that is not printable.
    return data if text.isprintable() else _OTHERS.sub(_escaped, text).encode()


def _escaped(found: re.Match[str]) -> str:
    return "".join(
        char
        if char.isprintable()
        else "".join(f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", char.encode("utf-16-be")))
        for char in found[0]
    )


def print_json(value: object) -> None:
    """Print a value as JSON on one line."""
    print_bytes(json_line(value))


def print_bytes(data: bytes) -> None:
    """Write UTF-8 to stdout, whatever the locale's encoding is."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode())
    else:
        sys.stdout.flush()
        buffer.write(data)
        buffer.flush()
