"""Finding runs by the beginning of a run's or a trace's id."""

from __future__ import annotations

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.store import Store, StoredRun


def find_runs(store: Store, given: str) -> list[StoredRun]:
    """
    Return the run whose id this is or begins with, or all runs of the trace, oldest first.

    A whole id wins over the beginning of another; a run wins over a trace.

    Raises:
        CommandError: Nothing has such an id, or several do.
    """
    run = store.run(given)
    if run is not None:
        return [run]
    whole = store.runs_of_trace(given)
    if whole:
        return whole
    found = store.runs(5, id_prefix=given)
    traces = store.trace_ids(given) if given else []
    if len(found) == 1 and traces in ([], [found[0].run.trace_id]):
        return found
    if not found and len(traces) == 1:
        return store.runs_of_trace(traces[0])
    if not found and not traces:
        raise CommandError(
            f"{store.path} holds no run {given!r}. See: nat-observability runs --store {store.path}"
        )
    ids = [*(run.run.run_id for run in found), *(f"trace {trace}" for trace in traces)]
    raise CommandError(f"{given!r} is the beginning of several ids: {_listed(ids)}. Give more of it.")


def _listed(ids: list[str]) -> str:
    return ", ".join(output.printable(each) for each in ids[:8])
