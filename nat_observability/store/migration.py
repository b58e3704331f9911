"""migrate(): makes a store of version 1 one of version 2, in place, in one transaction."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable

import msgspec

from nat_observability.errors import SinkError
from nat_observability.store.nesting import depth_of
from nat_observability.store.schema import (
    SCHEMA_VERSION,
    SPAN_COLUMNS,
    create_tables,
    has_store,
    missing_columns,
    schema_version,
)
from nat_observability.store.writing import cost_of
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error

_BUSY_TIMEOUT = 10.0
_RUNS = (
    "run_id, trace_id, conversation_id, user_id, workflow_name, parent_span_id, name, root_start_ns, status, start_ns, "
    "end_ns, error"
)
_COUNTED = """
    UPDATE runs SET (span_count, error_count, incomplete_count, llm_calls, tool_calls, prompt_tokens, completion_tokens,
        total_tokens, cost) = (
        SELECT count(*), coalesce(sum(status = 'error'), 0), coalesce(sum(status = 'incomplete'), 0),
            coalesce(sum(kind = 'LLM'), 0), coalesce(sum(kind = 'TOOL'), 0),
            CAST(total(iif(kind = 'LLM', prompt_tokens, 0)) AS INTEGER),
            CAST(total(iif(kind = 'LLM', completion_tokens, 0)) AS INTEGER),
            CAST(total(iif(kind = 'LLM', total_tokens, 0)) AS INTEGER),
            sum(iif(kind IN ('AGENT', 'CHAIN', 'WORKFLOW'), NULL, cost))
        FROM spans WHERE spans.run_id = runs.run_id
    )
"""
_KINDS = """
    INSERT INTO kinds SELECT kind, count(*), sum(status = 'error'), sum(status = 'incomplete'),
        CAST(total(prompt_tokens) AS INTEGER), CAST(total(completion_tokens) AS INTEGER),
        CAST(total(cached_tokens) AS INTEGER), CAST(total(reasoning_tokens) AS INTEGER),
        CAST(total(total_tokens) AS INTEGER)
    FROM spans GROUP BY kind
"""
_TAGS = """
    INSERT INTO run_tags SELECT run_id, key, value, start_ns FROM runs, json_each(tags)
    WHERE tags IS NOT NULL AND json_valid(tags)
"""
_NESTED = "SELECT span_id, parent_id FROM spans WHERE run_id = ? ORDER BY start_ns, end_ns DESC, span_id"


def migrate(path: str | os.PathLike[str], advance: Callable[[int], object] = lambda spans: None) -> bool:
    """
    Make a store one of the current version; return False if it was already.

    Whatever ends it, the store is whole: of version 1 until the last moment, and else of version 2. If it ended before
    the space of the old tables was given back, the next call does that. Readers may look on, and the exporters of this
    release that write to it wait, or have their batches tried again.

    Args:
        path: The store.
        advance: Called with how many spans more are done.

    Raises:
        SinkError: The file is missing, damaged, another program's or newer; another process is writing to it all the
            time; or the disk has no room for three more copies of it.
    """
    path = os.path.abspath(path)
    if not has_store(path):
        raise SinkError(path, "is not a store", "Give the path that a SQLite exporter writes to.")
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            if schema_version(connection) == SCHEMA_VERSION:
                if _gives_back(connection):
                    return False
                _rewrite(connection, path)  # an earlier call was ended before it
                return True
            _check_room(path)
            connection.create_function("cost_of", 1, _cost, deterministic=True)
            connection.execute("BEGIN IMMEDIATE")
            try:
                if schema_version(connection) == SCHEMA_VERSION:  # another process was faster
                    return False
                _convert(connection, advance)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            _rewrite(connection, path)
        finally:
            connection.close()
    except DATABASE_ERRORS as error:
        raise database_error(path, "cannot be migrated", error) from error
    return True


def _gives_back(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0])


def _rewrite(connection: sqlite3.Connection, path: str) -> None:
    """Write the file anew, which alone changes whether it gives back space."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log has a copy of everything by now
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DATABASE_ERRORS as error:
        raise SinkError(
            path,
            f"is of version {SCHEMA_VERSION} now, but the space of its old tables could not be given back: {error}",
            "Make room, end what holds the store open, and repeat: nat-observability migrate",
        ) from error


def span_count(path: str | os.PathLike[str]) -> int:
    """Return about how many spans a store has, for a progress bar."""
    connection = sqlite3.connect(os.path.abspath(path), isolation_level=None)
    try:
        return int(connection.execute("SELECT coalesce(max(rowid), 0) FROM spans").fetchone()[0])
    except DATABASE_ERRORS as error:
        raise database_error(path, "cannot be read", error) from error
    finally:
        connection.close()


def _convert(connection: sqlite3.Connection, advance: Callable[[int], object]) -> None:
    has_tags = not missing_columns(connection, "runs")
    lacking = missing_columns(connection, "spans")
    for (index,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall():
        connection.execute(f'DROP INDEX "{index}"')
    connection.execute("ALTER TABLE runs RENAME TO runs_1")
    connection.execute("ALTER TABLE spans RENAME TO spans_1")
    create_tables(connection)
    tags = "tags" if has_tags else "NULL"
    connection.execute(f"INSERT INTO runs ({_RUNS}, tags) SELECT {_RUNS}, {tags} FROM runs_1")
    columns = ", ".join("NULL" if each in lacking else each for each in SPAN_COLUMNS.split(", "))
    priced = "NULL" if "total_cost" in lacking else "total_cost"
    cost = priced if "attributes" in lacking else f"coalesce({priced}, cost_of(attributes))"
    (last,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM spans_1").fetchone()
    for first in range(0, last, 5_000):
        # In the order in which they came.
        connection.execute(
            f"INSERT INTO spans ({SPAN_COLUMNS}, cost) SELECT {columns}, {cost} FROM spans_1 "
            "WHERE rowid > ? AND rowid <= ? ORDER BY rowid",
            (first, first + 5_000),
        )
        advance(min(5_000, last - first))
    connection.execute(_COUNTED)
    connection.execute(_KINDS)
    connection.execute(_TAGS)
    runs = connection.execute(
        "SELECT run_id FROM runs WHERE status <> 'open' AND span_count <= 5000"
    ).fetchall()
    for run in runs:
        depth = depth_of(connection.execute(_NESTED, run))
        connection.execute("UPDATE runs SET depth = ? WHERE run_id = ?", (depth, *run))
    connection.execute("DROP TABLE runs_1")
    connection.execute("DROP TABLE spans_1")


def _cost(attributes: object) -> float | None:
    return cost_of(msgspec.Raw(attributes.encode())) if isinstance(attributes, str) else None


def _check_room(path: str) -> None:
    # The new tables beside the old ones, and in the log; then the file anew, in the log once more.
    needed = 3 * sum(os.path.getsize(each) for each in (path, f"{path}-wal") if os.path.exists(each))
    free = shutil.disk_usage(os.path.dirname(path)).free
    if free < needed:
        raise SinkError(
            path,
            f"cannot be migrated: that takes {needed:,} bytes for a while, and the disk has {free:,}",
            "Make room, or move the store to another disk first.",
        )
