"""The list of runs: filters, pages, facets and the histogram over time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from nat_observability.viewer.store_file import Reader, ReadTimeoutError, Row, cut

MOST_RUNS = 200
_WINDOW = 20_000  # runs that a filter without an index looks at in one read
_PATIENCE = 0.7  # seconds that a page of the list may take
_BARS = 80
_FACET_VALUES = 12
_FEW = 2_000
_ALIVE_NS = 15_000_000_000
_STEPS_S = (
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
    14400,
    43200,
    86400,
    172800,
    604800,
    2592000,
)

_COUNTERS = (
    "span_count, error_count + incomplete_count, llm_calls, tool_calls, total_tokens, prompt_tokens, "
    "completion_tokens, cost"
)
_COLUMNS = ", ".join(
    (
        "rowid",
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


class Filter(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a list of runs is narrowed to; times are microseconds since the epoch."""

    status: str | None = None
    workflow: str | None = None
    name: str | None = None
    user: str | None = None
    conversation: str | None = None
    tag: str | None = None
    q: str | None = None
    from_: int | None = None
    to: int | None = None
    min_ms: float | None = None
    max_ms: float | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """
        Return the filter of a query string.

        Raises:
            msgspec.ValidationError: A value is not a number.
        """
        known = {name: query[name] for name in query if name in cls.__struct_encode_fields__ and query[name]}
        return msgspec.convert(known, cls, strict=False)


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
        alive = ended is None and _number(beat) > now - _ALIVE_NS
        activities[process] = Activity(alive, now if alive else _number(beat if ended is None else ended))
    return activities


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
        status = "running" if alive[process].alive else "died"
        end = max(end, alive[process].until_ns)
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

    A filter without an index looks at windows of runs, newest first, until its time is up: `complete` is then false,
    and the next page goes on from there.
    """
    limit = max(1, min(limit, MOST_RUNS))
    clauses, values, scans = _where(reader, wanted)
    top, row_id = _key(before)
    columns, alive = run_columns(reader), living(reader)
    found: list[Row] = []
    began = time.monotonic()
    while True:
        bottom = None
        if scans:
            bottom = reader.value(
                "SELECT start_ns FROM runs WHERE start_ns <= ? ORDER BY start_ns DESC LIMIT 1 OFFSET ?",
                top,
                _WINDOW,
            )
        conditions = [*clauses, "start_ns <= ?", "(start_ns < ? OR rowid < ?)"]
        arguments = [*values, top, top, row_id]
        if bottom is not None:
            conditions.append("start_ns > ?")
            arguments.append(bottom)
        rows = reader.rows(
            f"SELECT {columns} FROM runs WHERE {' AND '.join(conditions)} "
            f"ORDER BY start_ns DESC, rowid DESC LIMIT {limit + 1 - len(found)}",
            *arguments,
        )
        found += rows
        if len(found) > limit:
            last = found[limit - 1]
            key: str | None = f"{last[8]}.{last[0]}"
            break
        if bottom is None or bottom == top:
            key = None
            break
        top, row_id = bottom, 1 << 62
        if time.monotonic() - began > _PATIENCE:
            key = f"{top}.{row_id}"
            break
    complete = key is None or len(found) > limit
    return {"runs": [summary(row, alive) for row in found[:limit]], "next": key, "complete": complete}


def facets(reader: Reader, wanted: Filter) -> dict[str, Any]:
    """Return how many runs pass a filter, by status, workflow and name, and over time, as far as time allows."""
    clauses, values, _ = _where(reader, wanted)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    complete = True
    answer: dict[str, Any] = {"total": 0, "status": [], "workflow": [], "name": []}
    answer |= {"from": 0, "step": 1, "histogram": []}
    try:
        answer["status"] = reader.rows(
            f"SELECT CAST(status AS TEXT), count(*) FROM runs {where} GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
            *values,
        )
        answer["total"] = sum(number for _, number in answer["status"])
        answer |= _histogram(reader, where, values)
        for name, column in (("workflow", "workflow_name"), ("name", "name")):
            present = " AND ".join([*clauses, f"{column} IS NOT NULL"])
            answer[name] = reader.rows(
                f"SELECT {cut(column, 1000)}, count(*) FROM runs WHERE {present} "
                f"GROUP BY {column} ORDER BY 2 DESC LIMIT {_FACET_VALUES}",
                *values,
            )
    except ReadTimeoutError:
        complete = False
    return {**answer, "complete": complete}


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


def _where(reader: Reader, wanted: Filter) -> tuple[list[str], list[object], bool]:
    """Return conditions, their values, and whether they have to look at every run."""
    clauses: list[str] = []
    values: list[object] = []
    scans = False

    def add(clause: str, *arguments: object) -> None:
        clauses.append(clause)
        values.extend(arguments)

    if wanted.status in ("running", "died"):
        add("status = 'open'")
    elif wanted.status:
        add("status = ?", wanted.status)
    for column, value in (
        ("workflow_name", wanted.workflow),
        ("name", wanted.name),
        ("user_id", wanted.user),
        ("conversation_id", wanted.conversation),
    ):
        if value:
            add(f"{column} = ?", value)
    if wanted.tag:
        scans = _add_tag(reader, wanted.tag, add)
    if wanted.from_ is not None:
        add("start_ns >= ?", wanted.from_ * 1000)
    if wanted.to is not None:
        add("start_ns < ?", wanted.to * 1000)
    if wanted.min_ms is not None:
        add("end_ns - start_ns >= ?", int(wanted.min_ms * 1e6))
        scans = True
    if wanted.max_ms is not None:
        add("end_ns - start_ns <= ?", int(wanted.max_ms * 1e6))
        scans = True
    if wanted.q:
        # As text that may hold % and _, which LIKE would take for patterns.
        columns = ("name", "run_id", "workflow_name", "user_id", "conversation_id", "trace_id", "error")
        pattern = "%" + wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        either = " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns)
        add(f"({either})", *([pattern] * len(columns)))
        scans = True
    return clauses, values, scans


def _add_tag(reader: Reader, tag: str, add: Any) -> bool:
    name, _, value = tag.partition(":")
    if reader.version < 2:
        add("EXISTS (SELECT 1 FROM json_each(tags) WHERE key = ? AND value = ?)", name, value)
        return True
    few = reader.value(
        f"SELECT count(*) FROM (SELECT 1 FROM run_tags WHERE name = ? AND value = ? LIMIT {_FEW})",
        name,
        value,
    )
    if few < _FEW:
        add("run_id IN (SELECT run_id FROM run_tags WHERE name = ? AND value = ?)", name, value)
        return False
    add(
        "EXISTS (SELECT 1 FROM run_tags t WHERE t.run_id = runs.run_id AND t.name = ? AND t.value = ?)",
        name,
        value,
    )
    return True


def _histogram(reader: Reader, where: str, values: list[object]) -> dict[str, Any]:
    ends = reader.row(f"SELECT min(start_ns), max(start_ns) FROM runs {where}", *values)
    if ends is None or ends[0] is None:
        return {}
    first, last = int(ends[0]), int(ends[1])
    whole = (last - first) / 1e9
    step = next((each for each in _STEPS_S if whole / each <= _BARS), int(whole / _BARS) + 1) * 1_000_000_000
    begin = first - first % step
    rows = reader.rows(
        f"SELECT (start_ns - {begin}) / {step}, count(*), sum(status = 'error') FROM runs {where} "
        f"GROUP BY 1 ORDER BY 1 LIMIT {_BARS + 2}",
        *values,
    )
    return {"from": begin // 1000, "step": step // 1000, "histogram": rows}


def _key(before: str | None) -> tuple[int, int]:
    start, _, row_id = (before or "").partition(".")
    try:
        return int(start), int(row_id)
    except ValueError:
        return (1 << 63) - 1, 1 << 62


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
