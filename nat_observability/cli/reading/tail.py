"""The command `tail`: the newest steps of a store, and those that come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.common import command, env_file_option, json_option, store_option, store_to_read
from nat_observability.cli.reading.objects import print_json, span_object
from nat_observability.errors import SinkError
from nat_observability.store import Store

_EVERY = 0.25  # seconds between two looks
_AT_ONCE = 1_000
_WIDEST_NAME = 60


@click.command("tail")
@store_option
@click.option(
    "-n",
    "--number",
    type=click.IntRange(0, 10**9),
    default=20,
    show_default=True,
    help="How many steps at first.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@click.option("--running", is_flag=True, help="Also steps that are still open.")
@json_option
@env_file_option
@command
def tail(
    store_path: Path | None, number: int, follow: bool, running: bool, as_json: bool, env_file: Path | None
) -> None:
    """
    Print the newest steps in a store, one a line, oldest first.

    With --follow it goes on as steps come, also if the store is deleted, replaced or not there yet. With --json each
    line is a span as `show --span --json` prints it.
    """
    path = store_to_read(store_path, env_file)
    try:
        for store, cursor in _stores(path, number, follow=follow, running=running):
            _follow(store, cursor, follow=follow, running=running, as_json=as_json)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _stores(path: Path, number: int, *, follow: bool, running: bool) -> Iterator[tuple[Store, int]]:
    """Yield the store at the path and where to begin in it; with `follow`, each that takes its place."""
    said = None
    first = True
    while True:
        # What comes into a store that is not there yet is all new.
        first = first and _has_content(path)
        try:
            with Store(path) as store:
                said = None
                yield store, store.cursor_before(number, running=running) if first else 0
                first = False
        except SinkError as error:
            if not follow:
                raise
            # A store that is being made is empty for a moment.
            problem = "is missing" if error.problem in ("does not exist", "is empty") else error.problem
            if problem != said:
                output.complain(f"{error} Waiting for it.")
            said = problem
        if not follow:
            return
        time.sleep(_EVERY)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _follow(store: Store, cursor: int, *, follow: bool, running: bool, as_json: bool) -> None:
    while True:
        changes = store.changes(cursor, _AT_ONCE)
        for change in changes:
            cursor = change.id
            if change.status == "running" and not running:
                continue
            node = store.span(change.run_id, change.span_id)
            if node is None:
                continue
            if as_json:
                print_json(span_object(node.span, status=node.status))
            else:
                output.step_line(node)
        if len(changes) == _AT_ONCE:
            continue
        if not follow or store.is_replaced:
            return
        time.sleep(_EVERY)
