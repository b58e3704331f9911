"""The command `show`: what one run did, or the runs of one trace together."""

from __future__ import annotations

from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.common import command, env_file_option, json_option, store_option, store_to_read
from nat_observability.cli.reading import details
from nat_observability.cli.reading.finding import find_runs
from nat_observability.cli.reading.objects import in_order, print_json, span_object, whole_run_object
from nat_observability.store import SpanNode, Store, StoredRun

_MOST_STEPS = 2_000  # lines of a tree
_MOST_DETAILS = 200  # steps whose content is printed


@click.command("show")
@click.argument("run_id", metavar="RUN|TRACE")
@store_option
@click.option(
    "--span", "span_id", help="Only this step, with all of its content; the beginning of its id is enough."
)
@click.option("--full", is_flag=True, help="Cut nothing: all steps, with all of their content.")
@json_option
@env_file_option
@command
def show(
    run_id: str,
    store_path: Path | None,
    span_id: str | None,
    full: bool,
    as_json: bool,
    env_file: Path | None,
) -> None:
    """
    Show a run as a tree, with durations, content and errors.

    RUN is a run's id, TRACE that of a trace, whose runs are shown joined: each below the step that called it. The
    beginning of an id is enough.
    """
    with Store(store_to_read(store_path, env_file)) as store:
        found = find_runs(store, run_id)
        if span_id is not None:
            _show_span(store, found, span_id, as_json=as_json)
            return
        if as_json:
            print_json(
                {"trace_id": found[0].run.trace_id, "runs": [whole_run_object(store, run) for run in found]}
            )
            return
        roots = _joined([store.tree(run.run.run_id) for run in found])
        ledgers = {run.run.run_id: store.ledgers(run.run.run_id) for run in found}
    console = output.to_stdout(whole=True)
    for run in found:
        console.print(output.facts([*output.run_facts(run), *details.ledger_facts(ledgers[run.run.run_id])]))
        output.say()
    most = None if full else _MOST_STEPS
    count = sum(1 for _ in in_order(roots))
    console.print(output.tree(roots, console.width, most))
    if most is not None and count > most:
        output.say(f"{most:,} of {count:,} steps. All of them: --full")
    shown = 0
    for node in in_order(roots):
        rows = details.span_rows(node.span, running=node.running, died=node.died, full=full)
        if not rows:
            continue
        if not full and shown == _MOST_DETAILS:
            output.say()
            output.say(f"The content of the first {shown} steps. All of it: --full; of one step: --span ID")
            break
        shown += 1
        output.say()
        output.say(f"{node.span.name} ({node.span.kind.value.lower()}, {node.span.span_id})")
        console.print(output.facts(rows))


def _show_span(store: Store, runs: list[StoredRun], given: str, *, as_json: bool) -> None:
    ids = [(run.run.run_id, each) for run in runs for each in store.span_ids(run.run.run_id, given)]
    exact = [each for each in ids if each[1] == given]
    if len(exact or ids) != 1:
        if not ids:
            run_id = output.printable(runs[0].run.run_id)
            raise CommandError(
                f"The run {run_id} has no step {given!r}. See its steps: nat-observability show {run_id}"
            )
        listed = ", ".join(output.printable(span_id) for _, span_id in ids[:8])
        raise CommandError(f"{given!r} is the beginning of several steps: {listed}. Give more of it.")
    node = store.span(*(exact or ids)[0])
    if node is None:
        raise CommandError(f"The step {given!r} was deleted meanwhile.")
    if as_json:
        print_json(span_object(node.span, status=node.status))
        return
    console = output.to_stdout(whole=True)
    console.print(output.facts(details.span_facts(node)))
    rows = details.span_rows(node.span, running=node.running, died=node.died, full=True)
    if rows:
        output.say()
        console.print(output.facts(rows))


def _joined(trees: list[list[SpanNode]]) -> list[SpanNode]:
    """Return the roots of several runs as one forest: each below the step of another run that called it."""
    nodes = {node.span.span_id: node for tree in trees for node in in_order(tree)}
    owner = {node.span.span_id: number for number, tree in enumerate(trees) for node in in_order(tree)}
    below: dict[int, int] = {}
    roots: list[SpanNode] = []
    for number, tree in enumerate(trees):
        for root in tree:
            parent = nodes.get(root.span.parent_id or "")
            above = None if parent is None else owner[parent.span.span_id]
            if parent is None or above is None or _is_below(above, number, below):
                roots.append(root)
                continue
            below[number] = above
            parent.children.append(root)
            parent.children.sort(key=lambda node: node.span.start_ns)
    return sorted(roots, key=lambda node: node.span.start_ns)


def _is_below(run: int, other: int, below: dict[int, int]) -> bool:
    """Whether a run is the other one or hangs below it already: joined, they would form a circle."""
    seen: set[int] = set()
    while run not in seen:
        if run == other:
            return True
        seen.add(run)
        if run not in below:
            return False
        run = below[run]
    return True
