"""The command `runs`: the newest runs in a store, by what is asked for."""

from __future__ import annotations

from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.common import command, env_file_option, json_option, store_option, store_to_read
from nat_observability.cli.reading.objects import print_json, run_object
from nat_observability.cli.reading.selection import run_filters
from nat_observability.store import RunFilter, Store


@click.command("runs")
@store_option
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=20, show_default=True, help="How many at most."
)
@click.option(
    "--text", help="Only runs in which this text occurs, in any content; the search ends after 10 seconds."
)
@json_option
@env_file_option
@command
@run_filters
def runs(
    store_path: Path | None,
    limit: int,
    text: str | None,
    as_json: bool,
    env_file: Path | None,
    wanted: RunFilter,
) -> None:
    """List the newest runs in a store."""
    with Store(store_to_read(store_path, env_file)) as store:
        if text is None:
            stored = store.runs(limit + 1, wanted=wanted)
        else:
            found = store.search(text, limit + 1, wanted=wanted, seconds=10.0)
            stored = found.runs
            if not found.complete:
                searched = (
                    "nothing was searched"
                    if found.scanned_to_ns is None
                    else f"only runs since {output.moment(found.scanned_to_ns)} were searched"
                )
                output.complain(f"The time ran out: {searched}. Narrow it down with --since and --until.")
    if as_json:
        print_json([run_object(run) for run in stored[:limit]])
        return
    if not stored:
        output.say("No runs.")
        return
    console = output.to_stdout(whole=True)
    console.print(output.runs(stored[:limit], console.width))
    if len(stored) > limit:
        output.say(f"There are more: --limit {2 * limit}")
