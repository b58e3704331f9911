"""From a RunFilter to the SQL that finds its runs, newest first, by an index if there is one."""

from __future__ import annotations

import time
from collections.abc import Callable

from nat_observability.store.records import RunFilter, RunKey, StoredRun

NextPage = Callable[[int, RunFilter, RunKey | None], list[StoredRun]]
"""Gives at most so many of the wanted runs, newest first, after the last one of the page before."""

SILENT_NS = 15_000_000_000
"""A process that has not reported for so long, in nanoseconds, is taken for dead."""

_EQUAL = ("conversation_id", "user_id", "workflow_name", "trace_id")


def select_runs(
    columns: str, wanted: RunFilter, *, limit: int, before: RunKey | None, version: int, tagged: bool
) -> tuple[str, dict[str, object]]:
    """
    Return the query and its parameters.

    Args:
        columns: What to select, from `runs`.
        wanted: Which runs.
        limit: How many at most.
        before: Where the page before this one ended.
        version: The store's.
        tagged: Whether its runs have tags.
    """
    conditions: list[str] = []
    values: dict[str, object] = {"limit": limit}
    source = "runs"
    newest = "runs.start_ns"
    for column in _EQUAL:
        if (value := getattr(wanted, column)) is not None:
            conditions.append(f"runs.{column} = :{column}")
            values[column] = value
    if wanted.status is not None:
        conditions.append(_status(wanted, version, values))
    if wanted.name is not None:
        # GLOB and not LIKE: it heeds case, and uses the index for what stands before the first wildcard.
        conditions.append(f"runs.name {'GLOB' if set('*?') & set(wanted.name) else '='} :name")
        values["name"] = wanted.name.replace("[", "[[]") if set("*?") & set(wanted.name) else wanted.name
    for number, (name, value) in enumerate(wanted.tags):
        values |= {f"tag_name_{number}": name, f"tag_value_{number}": value}
        if version == 1:
            conditions.append(
                f"EXISTS (SELECT 1 FROM json_each(runs.tags) WHERE key = :tag_name_{number} "
                f"AND value = :tag_value_{number})"
                if tagged
                else "0"
            )
        elif not number:
            # The first tag leads: its index has its runs by time.
            source, newest = "run_tags CROSS JOIN runs ON runs.run_id = run_tags.run_id", "run_tags.start_ns"
            conditions.append("run_tags.name = :tag_name_0 AND run_tags.value = :tag_value_0")
        else:
            conditions.append(
                f"EXISTS (SELECT 1 FROM run_tags AS t{number} WHERE t{number}.run_id = runs.run_id "
                f"AND t{number}.name = :tag_name_{number} AND t{number}.value = :tag_value_{number})"
            )
    if wanted.kind is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM spans WHERE spans.run_id = runs.run_id AND spans.kind = :kind)"
        )
        values["kind"] = wanted.kind.upper()
    if wanted.id_prefix:
        conditions.append("runs.run_id >= :id_prefix")
        values["id_prefix"] = wanted.id_prefix
        if (beyond := _beyond(wanted.id_prefix)) is not None:
            conditions.append("runs.run_id < :id_beyond")
            values["id_beyond"] = beyond
    for key, expression in (
        ("since_ns", f"{newest} >= :since_ns"),
        ("until_ns", f"{newest} < :until_ns"),
        ("min_duration_ns", "runs.end_ns - runs.start_ns >= :min_duration_ns"),
        ("max_duration_ns", "runs.end_ns - runs.start_ns <= :max_duration_ns"),
    ):
        if (value := getattr(wanted, key)) is not None:
            conditions.append(expression)
            values[key] = value
    if before is not None:
        conditions.append(f"{newest} <= :before_ns AND ({newest} < :before_ns OR runs.run_id > :before_id)")
        values |= {"before_ns": before.start_ns, "before_id": before.run_id}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    query = f"SELECT {columns} FROM {source} {where} ORDER BY {newest} DESC, runs.run_id LIMIT :limit"
    return query, values


def _status(wanted: RunFilter, version: int, values: dict[str, object]) -> str:
    if wanted.status not in ("running", "died"):
        values["status"] = wanted.status
        return "runs.status = :status"
    if version == 1:
        return "0"
    values["alive_ns"] = time.time_ns() - SILENT_NS
    alive = "SELECT process_id FROM processes WHERE ended_ns IS NULL AND heartbeat_ns >= :alive_ns"
    within = "IN" if wanted.status == "running" else "NOT IN"
    return f"runs.status = 'open' AND runs.process_id IS NOT NULL AND runs.process_id {within} ({alive})"


def _beyond(prefix: str) -> str | None:
    """Return the first text after all those that begin with a prefix; None if there is none."""
    while prefix:
        following = ord(prefix[-1]) + 1
        if following == 0xD800:  # surrogates are not text
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None
