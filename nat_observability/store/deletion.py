"""Deleting whole runs from a store: those that retention gives up, and those whose erasure was asked for."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import msgspec

from nat_observability.store.selection import SILENT_NS

AT_ONCE = 20
"""Runs that are deleted in one transaction: a writer waits no longer than for these."""

_FORGET_AFTER = 100_000  # deletions that are remembered
_UNHEARD_NS = 3_600_000_000_000  # after which an open run that no process reports is given up
_GIVEN_BACK = 2_000  # pages at a time
# Above a watermark nothing is deleted until it is reached, so that not each batch deletes a few runs.
_LOW_WATER = 0.95

_CHOSEN = "run_id IN (SELECT value FROM json_each(?))"
_OLDEST = """
    SELECT run_id FROM runs WHERE start_ns < :before_ns AND end_ns < :before_ns AND (
        status <> 'open'
        OR iif(process_id IS NULL, end_ns < :unheard_ns, process_id NOT IN (
            SELECT process_id FROM processes WHERE ended_ns IS NULL AND heartbeat_ns >= :alive_ns
        ))
    ) ORDER BY start_ns LIMIT :limit
"""
_SUMMED = """
    SELECT count(*), sum(status = 'error'), sum(status = 'incomplete'), total(prompt_tokens), total(completion_tokens),
        total(cached_tokens), total(reasoning_tokens), total(total_tokens), kind
    FROM spans WHERE run_id IN (SELECT value FROM json_each(?)) AND status <> 'running' GROUP BY kind
"""
_COUNT_DOWN = """
    UPDATE kinds SET span_count = span_count - ?, error_count = error_count - ?,
        incomplete_count = incomplete_count - ?,
        prompt_tokens = prompt_tokens - ?, completion_tokens = completion_tokens - ?, cached_tokens = cached_tokens - ?,
        reasoning_tokens = reasoning_tokens - ?, total_tokens = total_tokens - ? WHERE kind = ?
"""


def delete_runs(connection: sqlite3.Connection, run_ids: Sequence[str], version: int) -> int:
    """
    Delete runs with everything that the store has of them, within a transaction of the caller's.

    Returns:
        How many of them there were.
    """
    if not run_ids:
        return 0
    ids = (msgspec.json.encode(list(run_ids)).decode(),)
    if version > 1:
        sums = connection.execute(_SUMMED, ids).fetchall()
        connection.executemany(_COUNT_DOWN, [(*map(int, row[:-1]), row[-1]) for row in sums])
    # The runs first: the triggers of spans need count nothing down then.
    deleted = connection.execute(f"DELETE FROM runs WHERE {_CHOSEN}", ids).rowcount
    connection.execute(f"DELETE FROM spans WHERE {_CHOSEN}", ids)
    if version > 1:
        connection.execute(
            "DELETE FROM deletions WHERE id <= (SELECT max(id) FROM deletions) - ?", (_FORGET_AFTER,)
        )
    return deleted


def finished_before(connection: sqlite3.Connection, before_ns: int, limit: int = AT_ONCE) -> list[str]:
    """Return the oldest runs of a store of version 2 that had ended before a time and that no process works on."""
    now_ns = time.time_ns()
    values = {
        "before_ns": before_ns,
        "unheard_ns": now_ns - _UNHEARD_NS,
        "alive_ns": now_ns - SILENT_NS,
        "limit": limit,
    }
    return [run_id for (run_id,) in connection.execute(_OLDEST, values)]


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of what a store holds: that of its file without the pages that are free."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def give_back(connection: sqlite3.Connection) -> bool:
    """Give free pages back to the file system, some at a time; return whether there are more. Not in a transaction."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not free or connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
        return False
    # `execute` takes the first step of a statement that returns no rows, which frees one page.
    connection.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")
    return bool(free > _GIVEN_BACK)


class Retention:
    """
    How long and how much a store keeps: whole finished runs go, the oldest first.

    Args:
        keep_for: Seconds since the end of a run; None keeps all.
        keep_size: Bytes that the store may hold; None has no limit.
    """

    def __init__(self, keep_for: float | None, keep_size: int | None) -> None:
        self._keep_for, self._keep_size = keep_for, keep_size
        self._shrinking = False

    def __bool__(self) -> bool:
        return self._keep_for is not None or self._keep_size is not None

    def outdated(self, connection: sqlite3.Connection) -> list[str]:
        """Return the next runs to be deleted, at most 20; none if the store is within its limits."""
        if self._keep_for is not None:
            old = finished_before(connection, time.time_ns() - int(self._keep_for * 1e9))
            if old:
                return old
        if self._keep_size is not None:
            used = used_bytes(connection)
            self._shrinking = used > self._keep_size * (_LOW_WATER if self._shrinking else 1)
            if self._shrinking:
                return finished_before(connection, time.time_ns())
        return []
