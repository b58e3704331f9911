"""What the demonstration prints: one of its runs as a tree, and all of them in numbers."""

from __future__ import annotations

import statistics

from nat_observability.cli import output
from nat_observability.cli.demo.demo import Demo, failures
from nat_observability.cli.session import Session
from nat_observability.events import Captured
from nat_observability.store import Store


def print_one_run(demo: Demo, store: Store) -> None:
    """Print the first run that went well, as the store has it."""
    shown = next((run for run in demo.runs if run.error is None), demo.runs[0])
    nodes = store.tree(shown.run_id)
    console = output.to_stdout()
    output.say()
    console.print(f"[bold]One run[/bold] ({shown.run_id}), read back from the store")
    output.say(f"Q: {shown.question}", wrapped=True)
    if shown.error is not None:
        output.say(f"It failed: {shown.error}", wrapped=True)
    else:
        output.say(f"A: {_text(nodes[0].span.output) if nodes else ''}", wrapped=True)
    output.say()
    console.print(output.tree(nodes, console.width))


def print_demo(demo: Demo, session: Session, store: Store, took: float) -> None:
    """Print a summary of all runs, as the store has them, which took `took` seconds, and the ledgers."""
    counts = store.counts([run.run_id for run in demo.runs])
    kinds, tokens = counts["spans_by_category"], counts["token_usage_of_llm_ends"]
    failed = failures(demo)
    reasons = ", ".join(f"{number} {error}" for error, number in failed.items())
    exporters = len(session.exporters)
    console = output.to_stdout()
    output.say()
    console.print(f"[bold]All runs[/bold], in {took:.1f} s")
    rows = [
        ("runs", f"{counts['runs']}"),
        ("failed runs", f"{sum(failed.values())}" + (f" ({reasons})" if reasons else "")),
        ("spans", f"{counts['spans']:,} ({output.listed(kinds)})"),
        ("tokens", f"{tokens['total_tokens']:,}" if isinstance(tokens, dict) else "0"),
        (
            "run overhead",
            f"{_duration(demo.idle_overhead_s)} to start and stop {exporters} exporters, on an idle event loop\n"
            f"{_duration(demo.busy_overhead_s)} with the wait for the loop that all runs share; medians",
        ),
    ]
    console.print(output.facts(rows))
    output.say()
    console.print(output.ledgers({name: health.ledger for name, health in session.health().items()}))


def _duration(seconds: list[float]) -> str:
    return output.duration(statistics.median(seconds) * 1e9)


def _text(value: Captured) -> str:
    return value if isinstance(value, str) else "" if value is None else bytes(value).decode()
