"""The command `stats`: durations, errors, tokens and costs by name, kind, model or workflow."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from nat_observability.cli import listings, output
from nat_observability.cli.common import command, env_file_option, json_option, store_option, store_to_read
from nat_observability.cli.reading.objects import print_json
from nat_observability.cli.reading.selection import run_filters
from nat_observability.store import RunFilter, StatisticsKey, Store


@click.command("stats")
@store_option
@click.option(
    "--by",
    type=click.Choice(["name", "kind", "model", "workflow"]),
    default="name",
    show_default=True,
    help="Of steps by their name or kind, of model calls by model, or of whole runs by workflow.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=30, show_default=True, help="How many rows at most."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="How long it may take."
)
@json_option
@env_file_option
@command
@run_filters
def stats(
    store_path: Path | None,
    by: StatisticsKey,
    limit: int,
    seconds: float,
    as_json: bool,
    env_file: Path | None,
    wanted: RunFilter,
) -> None:
    """
    Show percentiles of durations, errors, tokens and costs.

    Runs are read from the newest back; if the time runs out, the figures are those of the runs read so far.
    """
    with Store(store_to_read(store_path, env_file), time_limit=max(60.0, 2 * seconds)) as store:
        found = store.statistics(by, wanted=wanted, limit=limit, seconds=seconds)
    if as_json:
        print_json({"by": by, **msgspec.to_builtins(found)})
        return
    if not found.complete:
        since = "" if found.scanned_to_ns is None else f" since {output.moment(found.scanned_to_ns)}"
        output.complain(
            f"The time ran out: these are the newest {found.runs:,} runs{since}. Give more with --seconds, or narrow "
            "it down with --since."
        )
    if not found.rows:
        output.say("Nothing to count.")
        return
    console = output.to_stdout(whole=True)
    console.print(listings.statistics(found.rows, by, console.width))
    if found.left_out:
        output.say(f"{found.left_out:,} more: --limit {limit + found.left_out}")
