"""The list of runs: its pages, newest first, and one run with its neighbours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from nat_observability.viewer.filtering import LATEST_NS, SILENT_NS, Filter, place_in_list, select, window_end
from nat_observability.viewer.store_file import Reader, ReadTimeoutError, Row, cut

MOST_RUNS = 200
_WINDOW = 20_000  # runs that are looked at in one read, if many may not pass
_PATIENCE = 0.15  # seconds that a page of the list may take

_COUNTERS = (
    "span_count, error_count + incomplete_count, llm_calls, tool_calls, total_tokens, prompt_tokens, "
    "completion_tokens, cost"
)
_COLUMNS = ", ".join(
    (
        "runs.rowid",
        "CAST(run_id AS TEXT)",
        "CAST(trace_id AS TEXT)",
        *(cut(column, 1000) for column in ("name", "workflow_name", "user_id", "conversation_id")),
        "CAST(status AS TEXT)",
        "CAST(start_ns AS INTEGER)",
        "CAST(end_ns AS INTEGER)",
        cut("error", 2000),
        "{tags}",
        "CAST(parent_span_id AS TEXT)",
        "{process}",
        "{counters}",
    )
)


def run_columns(reader: Reader) -> str:
    """Return the columns of `summary`, as far as a store of this version has them."""
    if reader.version >= 2:
        return _COLUMNS.format(tags="substr(tags, 1, 20000)", process="process_id", counters=_COUNTERS)
    has_tags = reader.value("SELECT 1 FROM pragma_table_info('runs') WHERE name = 'tags'")
    tags = "substr(tags, 1, 20000)" if has_tags else "NULL"
    return _COLUMNS.format(tags=tags, process="NULL", counters=", ".join(["NULL"] * 8))


class Activity(msgspec.Struct, frozen=True):
    """Whether a process that has written still reports, and until when what it left open was seen to go on."""

    alive: bool
    until_ns: int


def living(reader: Reader) -> dict[str, Activity]:
    """Return of each process that has written whether it is still there, by its heartbeat."""
    if reader.version < 2:
        return {}
    now = time.time_ns()
    activities = {}
    for process, beat, ended in reader.rows("SELECT process_id, heartbeat_ns, ended_ns FROM processes"):
        alive = ended is None and _number(beat) > now - SILENT_NS
        activities[process] = Activity(alive, now if alive else _number(beat if ended is None else ended))
    return activities


def shown_status(status: str, process: str | None, alive: Mapping[str, Activity]) -> str:
    """Return the status of a run as it is shown: an open one is running, or died, if its process is known."""
    if status != "open" or process is None or process not in alive:
        return status
    return "running" if alive[process].alive else "died"


def summary(row: Row, alive: Mapping[str, Activity]) -> dict[str, Any]:
    """Return a run of the list. An open run is running, or died, if what its process says is known."""
    (
        _,
        run_id,
        trace_id,
        name,
        workflow,
        user,
        conversation,
        status,
        start,
        end,
        error,
        tags,
        parent,
        process,
    ) = row[:14]
    if status == "open" and process in alive:
        end = max(end, alive[process].until_ns)
    status = shown_status(status, process, alive)
    names = ("spans", "errors", "models", "tools", "tokens", "prompt", "completion", "cost")
    return {
        "id": run_id,
        "trace": trace_id,
        "name": name,
        "workflow": workflow,
        "user": user,
        "conversation": conversation,
        "status": status,
        "start": start // 1000,
        "duration": (end - start) // 1000,
        "error": error,
        "tags": _tags(tags),
        "parent": parent,
        **dict(zip(names, row[14:], strict=True)),
    }


def list_runs(reader: Reader, wanted: Filter, before: str | None, limit: int) -> dict[str, Any]:
    """
    Return the newest runs that pass a filter, and the key of the next page.

    If many runs may not pass, windows of them are looked at, newest first, until the time is up: `complete` is then
    false, `looked_back_to` says how far that went, and the next page goes on from there.
    """
    limit = max(1, min(limit, MOST_RUNS))
    chosen = select(reader, wanted)
    began = chosen.began
    top, row_id = _key(before)
    columns, alive = run_columns(reader), living(reader)
    found: list[Row] = []
    until = time.monotonic() + _PATIENCE
    key: str | None = None
    looked_back_to = None
    while True:
        bottom = window_end(reader, top, _WINDOW, wanted) if chosen.searches else None
        place = [f"{began} <= ?", f"({began} < ? OR runs.rowid < ?)"]
        arguments = [*chosen.values, top, top, row_id]
        if bottom is not None:
            place.append(f"{began} > ?")
            arguments.append(bottom)
        found += reader.rows(
            f"SELECT {columns}, {began} FROM {chosen.source} {chosen.where(*place)} "
            f"ORDER BY {began} DESC, runs.rowid DESC LIMIT {limit + 1 - len(found)}",
            *arguments,
        )
        if len(found) > limit:
            last = found[limit - 1]
            key = f"{last[-1]}.{last[0]}"
            break
        if bottom is None:
            break
        top, row_id = bottom, 1 << 62
        if time.monotonic() > until:
            key, looked_back_to = f"{top}.{row_id}", top // 1000
            break
    return {
        "runs": [summary(row[:-1], alive) for row in found[:limit]],
        "next": key,
        "complete": looked_back_to is None,
        "looked_back_to": looked_back_to,
    }


def find_run(reader: Reader, run_id: str) -> Row | None:
    """Return the row of a run in the columns of `summary`; None if the store does not hold it."""
    return reader.row(f"SELECT {run_columns(reader)} FROM runs WHERE run_id = ?", run_id)


def one_run(reader: Reader, run_id: str) -> dict[str, Any] | None:
    """Return a run, its ledgers, the other runs of its trace and its neighbours in time; None if it is not known."""
    row = find_run(reader, run_id)
    if row is None:
        return None
    alive = living(reader)
    columns = run_columns(reader)
    same = []
    with contextlib.suppress(ReadTimeoutError), reader.at_most(0.5):
        # A store of version 1 has no index of traces.
        same = reader.rows(
            f"SELECT {columns} FROM runs WHERE trace_id = ? AND run_id <> ? ORDER BY start_ns LIMIT 50",
            row[2],
            run_id,
        )
    place = row[8], row[8], row[0]
    older = reader.value(
        "SELECT CAST(run_id AS TEXT) FROM runs WHERE start_ns <= ? AND (start_ns < ? OR rowid < ?) "
        "ORDER BY start_ns DESC, rowid DESC LIMIT 1",
        *place,
    )
    newer = reader.value(
        "SELECT CAST(run_id AS TEXT) FROM runs WHERE start_ns >= ? AND (start_ns > ? OR rowid > ?) "
        "ORDER BY start_ns, rowid LIMIT 1",
        *place,
    )
    return {
        "now": time.time_ns() // 1000,
        "run": summary(row, alive),
        "ledgers": ledgers(reader, run_id),
        "trace": [summary(each, alive) for each in same],
        "older": older,
        "newer": newer,
    }


def ledgers(reader: Reader, run_id: str) -> list[dict[str, Any]]:
    """Return what became of a run's items, by exporter."""
    if reader.version < 2:
        return []
    rows = reader.rows(
        "SELECT exporter, accepted, delivered, failed, pending, dropped FROM ledgers WHERE run_id = ? "
        "ORDER BY exporter",
        run_id,
    )
    names = ("exporter", "accepted", "delivered", "failed", "pending")
    return [{**dict(zip(names, row, strict=False)), "dropped": _counts(row[5])} for row in rows]


def _key(before: str | None) -> tuple[int, int]:
    if not before:
        return LATEST_NS, 1 << 62
    start, row_id = place_in_list("before", before, 2)
    return start, row_id


def _tags(text: object) -> dict[str, str] | None:
    try:
        tags = msgspec.json.decode(text) if isinstance(text, str) else None
    except msgspec.DecodeError:
        return {"(cannot be read)": str(text)[:200]}
    return {str(name): str(value) for name, value in tags.items()} if isinstance(tags, dict) else None


def _counts(text: object) -> dict[str, int]:
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=dict[str, int]) if isinstance(text, str) else {}
    return {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
