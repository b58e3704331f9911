"""What a step holds and what became of a run, as rows that are printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from nat_observability.cli import output
from nat_observability.events import Captured, ErrorDetails, Span
from nat_observability.store import SpanNode, StoredLedger

_MOST_LINES = 12  # of a value that is folded
_MOST_CHARACTERS = 1_000
_MOST_ITEMS = 50  # attributes, events or links of a step


def span_facts(node: SpanNode) -> list[output.Fact]:
    """Return what is known of a step besides what it holds."""
    span = node.span
    rows: list[tuple[str, str | None]] = [
        ("step", span.span_id),
        ("name", span.name),
        ("kind", span.kind.value.lower()),
        ("span kind", span.span_kind.value),
        ("parent", span.parent_id),
        ("run", span.run.run_id),
        ("started", output.moment(span.start_ns)),
        ("duration", output.duration(span.end_ns - span.start_ns)),
        ("status", node.status),
    ]
    return [(name, value) for name, value in rows if value is not None]


def span_rows(span: Span, *, running: bool, full: bool, died: bool = False) -> list[output.Fact]:
    """
    Return what a step holds: content, usage, attributes, events, links, status and error; empty for a bare one.

    Args:
        span: The step.
        running: Whether it is still open.
        died: Whether, besides, its process is gone.
        full: Whether to leave long values as they are.
    """
    rows: list[output.Fact] = []
    if running:
        rows.append(("status", "died" if died else "running"))
    for name, value in (("input", span.input), ("output", span.output), ("metadata", span.metadata)):
        if value is not None:
            rows.append((name, _folded(_text(value), full=full)))
    if span.tags:
        rows.append(("tags", ", ".join(span.tags)))
    if span.usage is not None:
        counts = msgspec.structs.asdict(span.usage)
        used = ", ".join(
            f"{count:,} {name.removesuffix('_tokens')}" for name, count in counts.items() if count
        )
        rows.append(("tokens", used or "0"))
    rows += _items(
        [(name, _folded(value, full=full)) for name, value in output.fields(span.attributes)], full=full
    )
    if span.status_message is not None:
        rows.append(("status", _folded(span.status_message, full=full)))
    if span.error is not None:
        rows += _error(span.error, full=full)
    rows += _items(list(_events(span)), full=full)
    rows += _items(
        [("link", f"{link.trace_id} {link.span_id}{_listed(link.attributes)}") for link in span.links],
        full=full,
    )
    for what, count in (
        ("attributes", span.dropped_attributes_count),
        ("events", span.dropped_events_count),
        ("links", span.dropped_links_count),
    ):
        if count:
            rows.append(("dropped", f"{count:,} {what}"))
    return rows


def ledger_facts(ledgers: Mapping[str, StoredLedger]) -> list[output.Fact]:
    """Return what became of a run's items, by exporter."""
    rows: list[output.Fact] = []
    for name, ledger in ledgers.items():
        parts = [f"{ledger.delivered:,} of {ledger.accepted:,} delivered"]
        parts += [f"{ledger.failed:,} failed"] if ledger.failed else []
        parts += [f"{ledger.pending:,} pending"] if ledger.pending else []
        parts += [f"{count:,} dropped ({reason})" for reason, count in ledger.dropped.items()]
        rows.append(("exported", f"{name}: {', '.join(parts)}"))
    return rows


def _error(error: ErrorDetails, *, full: bool) -> list[output.Fact]:
    rows = output.error_rows(error)
    if full and error.traceback:
        rows = [("error", f"{error.type}: {error.message}"), ("raised", error.traceback)]
    return rows


def _events(span: Span) -> Iterator[output.Fact]:
    for event in span.events:
        at = output.duration(max(0, event.time_ns - span.start_ns))
        yield "event", f"{event.name} +{at}{_listed(event.attributes)}"


def _listed(attributes: msgspec.Raw | None) -> str:
    return "".join(f"  {name}={value}" for name, value in output.fields(attributes))


def _items(rows: list[output.Fact], *, full: bool) -> list[output.Fact]:
    if full or len(rows) <= _MOST_ITEMS:
        return rows
    return [*rows[:_MOST_ITEMS], ("...", f"{len(rows) - _MOST_ITEMS:,} more: --full")]


def _text(value: Captured) -> str:
    return value if isinstance(value, str) else bytes(value or b"").decode("utf-8", "replace")


def _folded(text: str, *, full: bool) -> str:
    """Return a text that is cut if it is long, with a note of how much is left out."""
    if full or (len(text) <= _MOST_CHARACTERS and text.count("\n") < _MOST_LINES):
        return text
    head = text[:_MOST_CHARACTERS]
    lines = head.split("\n")
    if len(lines) > _MOST_LINES:
        head = "\n".join(lines[:_MOST_LINES])
    return f"{head}\n... {len(text) - len(head):,} of {len(text):,} characters left out: --full, or --span ID"
