"""The command `migrate`: makes a store of an earlier version one of the current one."""

from __future__ import annotations

from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.common import command, json_option
from nat_observability.cli.reading.objects import print_json
from nat_observability.store import Store
from nat_observability.store.migration import migrate as migrate_store
from nat_observability.store.migration import span_count


@click.command("migrate")
@click.argument("store_path", metavar="STORE", type=click.Path(path_type=Path, readable=False))
@json_option
@command
def migrate(store_path: Path, as_json: bool) -> None:
    """
    Make a store of version 1 one of version 2, in place.

    It takes free disk of three times the store's size for a while. Whatever ends it, the store is whole; if it says
    that space could not be given back, repeat it. Stop what an earlier release writes to it first.
    """
    with Store(store_path) as store:
        version = store.version
    if version > 1:
        migrated, rewritten = False, migrate_store(store_path)
    else:
        with output.progress("Migrating", span_count(store_path)) as advance:
            migrated = rewritten = migrate_store(store_path, advance)
    with Store(store_path) as store:
        version, counts = store.version, store.counts()
    if as_json:
        held = {"runs": counts["runs"], "spans": counts["spans"]}
        print_json({"path": str(store_path), "version": version, "migrated": migrated, **held})
    elif migrated:
        output.say(
            f"{store_path} is of version {version} now: {counts['runs']:,} runs, {counts['spans']:,} steps."
        )
    else:
        rest = "; its space is given back now" if rewritten else ""
        output.say(f"{store_path} is of version {version} already{rest}.")
