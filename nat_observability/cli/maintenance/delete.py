"""The command `delete`: erases runs from a store, from what was derived from it, and from spools."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.common import (
    command,
    end,
    env_file_option,
    json_option,
    store_option,
    store_to_read,
)
from nat_observability.cli.maintenance.erasing import erase_runs
from nat_observability.cli.maintenance.spools import spool_directories
from nat_observability.cli.reading.objects import print_json
from nat_observability.cli.reading.selection import moment_ns
from nat_observability.cli.session import read_settings
from nat_observability.errors import SinkError
from nat_observability.events import Item, Span
from nat_observability.spool.inspection import erase
from nat_observability.spool.record import UnreadableRecordError, decode_item
from nat_observability.store import RunFilter, RunKey, Store, StoredRun
from nat_observability.store.schema import INDEX_SUFFIX

_PAGE = 500
_NAMED = 5  # runs in a line


@click.command("delete")
@click.option(
    "--run", "run_ids", multiple=True, metavar="ID", help="This run, by its whole id; may be repeated."
)
@click.option("--user", "user_id", help="The runs of this user.")
@click.option(
    "--before", help="The runs that started before this time: 30d (ago), 2026-11-30, or with a time."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
@json_option
@env_file_option
@command
def delete(
    run_ids: tuple[str, ...],
    user_id: str | None,
    before: str | None,
    yes: bool,
    store_path: Path | None,
    as_json: bool,
    env_file: Path | None,
) -> None:
    """
    Erase runs: from the store, from a viewer's index of it, and from the spools in the settings.

    With --user and --before, both have to hold. What is erased is overwritten and its space given back. Copies that
    other exporters have made (files, back ends) are not touched.
    """
    if not (run_ids or user_id is not None or before is not None):
        raise CommandError("Say what to delete: --run ID, --user ID or --before TIME.")
    path = store_to_read(store_path, env_file)
    before_ns = None if before is None else moment_ns(before, "--before")
    chosen = _Chosen(frozenset(run_ids), user_id, before_ns)
    with Store(path) as store:
        found = _runs(store, chosen)
    ids = [run.run.run_id for run in found]
    # Of a run in the store all items go, whenever they began.
    chosen.run_ids |= frozenset(ids)
    spools = spool_directories(read_settings(env_file)[0])
    if not yes:
        places = f"{path}" + (f" and {len(spools)} spools" if spools else "")
        click.confirm(f"Erase {len(ids):,} runs from {places}?", abort=True, err=True)
    with output.progress("Erasing", len(ids)) as advance:
        deleted, is_in_log = erase_runs(path, ids, advance)
    removed = _remove_index(path)
    erased = 0
    problems: list[str] = []
    going_on = [run.run.run_id for run in found if run.activity == "running"]
    if going_on:
        named = ", ".join(map(repr, going_on[:_NAMED])) + (" and more" if len(going_on) > _NAMED else "")
        problems.append(
            f"Still going on: {named}. What they record from now on is not erased: repeat this when they end."
        )
    if ids and is_in_log:
        problems.append(
            f"A process that reads {path} keeps what was erased in {path}-wal. End its transaction or the process, and "
            "repeat this."
        )
    for name, directory in spools.items():
        count, skipped = erase(directory, chosen.has_record, also_rejected=True)
        erased += count
        problems += [
            f"The spool of exporter {name!r} has a file that is {each.state}: {each.path}. "
            + (
                "Stop the process that uses it, and repeat this."
                if each.state == "in use"
                else f"{each.problem}."
            )
            for each in skipped
        ]
    if as_json:
        print_json({"runs": deleted, "spooled_items": erased, "removed_files": removed, "problems": problems})
    else:
        output.say(f"Erased {deleted:,} runs, and {erased:,} items in spools.")
    for run_id in sorted(frozenset(run_ids) - frozenset(ids)):
        output.complain(
            f"The store holds no run {run_id!r}; --run takes whole ids. See: nat-observability runs"
        )
    end(problems)


class _Chosen:
    """Which runs are to go."""

    def __init__(self, run_ids: frozenset[str], user_id: str | None, before_ns: int | None) -> None:
        self.run_ids, self.user_id, self.before_ns = run_ids, user_id, before_ns

    @property
    def filter(self) -> RunFilter | None:
        """By user and time; None if neither was given."""
        if self.user_id is None and self.before_ns is None:
            return None
        return RunFilter(user_id=self.user_id, until_ns=self.before_ns)

    def has_record(self, record: bytes) -> bool | None:
        """Whether a record of a spool is of such a run; None if it cannot be read."""
        try:
            return self.has(decode_item(record))
        except UnreadableRecordError:
            return None

    def has(self, item: Item) -> bool:
        """Whether an item is of such a run."""
        if item.run.run_id in self.run_ids:
            return True
        if self.filter is None:
            return False
        time_ns = item.start_ns if isinstance(item, Span) else item.time_ns
        return (self.user_id is None or item.run.user_id == self.user_id) and (
            self.before_ns is None or time_ns < self.before_ns
        )


def _runs(store: Store, chosen: _Chosen) -> list[StoredRun]:
    found = {run_id: run for run_id in chosen.run_ids if (run := store.run(run_id)) is not None}
    if (wanted := chosen.filter) is not None:
        last: RunKey | None = None
        while page := store.runs(_PAGE, wanted=wanted, before=last):
            found |= {run.run.run_id: run for run in page}
            last = RunKey(page[-1].start_ns, page[-1].run.run_id)
    return list(found.values())


def _remove_index(path: Path) -> list[str]:
    removed: list[str] = []
    for suffix in ("", "-wal", "-shm"):
        file = f"{path}{INDEX_SUFFIX}{suffix}"
        with suppress(FileNotFoundError):
            try:
                os.unlink(file)
            except PermissionError as error:
                raise SinkError(file, f"cannot be removed: {error.strerror}", "Remove it by hand.") from error
            removed.append(file)
    return removed
