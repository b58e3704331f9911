"""What a replay prints: the counts, the ledgers, and the lines that it skipped."""

from __future__ import annotations

from typing import Any

import msgspec

from nat_observability.cli import output
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import Replayed
from nat_observability.cli.session import Session

_SHOWN_SKIPPED = 20


def replay_object(events: EventFile, replayed: Replayed) -> dict[str, Any]:
    """Return what `--json` prints."""
    counts = msgspec.structs.asdict(replayed.counts)
    return {"lines": events.lines, **counts, "skipped": events.skipped, "skipped_lines": events.skipped_count}


def print_replayed(events: EventFile, session: Session, replayed: Replayed) -> None:
    """Print the counts and the ledgers as tables."""
    counts = replayed.counts
    tokens = counts.token_usage_of_llm_ends
    rows = [
        ("file", events.path),
        (
            "lines",
            f"{events.lines:,}" + (f", {events.skipped_count:,} skipped" if events.skipped_count else ""),
        ),
        ("runs", f"{counts.runs:,} ({counts.runs_ok:,} ok, {counts.runs_failed:,} failed)"),
        ("spans", f"{counts.spans:,} ({counts.spans_paired:,} paired, {counts.spans_unpaired:,} unpaired)"),
        ("by category", output.listed(counts.spans_by_category)),
        ("max depth", f"{counts.max_depth}"),
        ("llm calls", f"{counts.llm_calls:,}"),
        (
            "tokens",
            ", ".join(f"{number:,} {name.removesuffix('_tokens')}" for name, number in tokens.items()),
        ),
    ]
    if replayed.oddities:
        rows.append(
            (
                "oddities",
                ", ".join(f"{number:,} {_words(name)}" for name, number in replayed.oddities.items()),
            )
        )
    console = output.to_stdout()
    console.print(output.facts(rows))
    if session.exporters:
        output.say()
        console.print(output.ledgers({name: health.ledger for name, health in session.health().items()}))


def complain_of_skipped(events: EventFile) -> None:
    """Print the numbers of the first skipped lines, with reasons, and the total, to stderr."""
    if not events.skipped_count:
        return
    for skipped in events.skipped[:_SHOWN_SKIPPED]:
        output.complain(f"{events.path}: line {skipped.line} was skipped: {skipped.reason}")
    more = events.skipped_count - min(_SHOWN_SKIPPED, len(events.skipped))
    shown = f", {more} of them not shown" if more else ""
    output.complain(f"{events.path}: {events.skipped_count} of {events.lines} lines were skipped{shown}.")


def _words(name: str) -> str:
    return name.replace("_", " ")
