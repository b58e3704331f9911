"""Statistics: counts, errors, tokens, cost and percentiles by name, kind, model or workflow, and over time."""

from __future__ import annotations

import sqlite3
from typing import Any

from nat_observability.viewer.sidecar.hours import DIMENSIONS, merge, percentiles
from nat_observability.viewer.sidecar.index import Index

_MOST_ROWS = 200
_POINTS = 120
_HOUR_US = 3_600_000_000
# total() and not sum(), which fails above 64 bits.
_SUMS = (
    "sum(spans), sum(errors), CAST(total(tokens) AS INTEGER), CAST(total(prompt) AS INTEGER), "
    "CAST(total(completion) AS INTEGER), sum(cost)"
)


def statistics(index: Index, by: str, begin: int, end: int | None, only: str | None) -> dict[str, Any]:
    """
    Return what the index has counted from one hour to another, as far as it covers the store.

    Args:
        by: One of `DIMENSIONS`.
        begin, end: Microseconds since the epoch; the hours that they are in are counted whole.
        only: Of these, the one key that the course of time is of.
    """
    if by not in DIMENSIONS:
        raise ValueError(f"by is one of {', '.join(filter(None, DIMENSIONS))}, not {by[:40]!r}")
    answer: dict[str, Any] = {
        "rows": [],
        "more": 0,
        "over": [],
        "step": _HOUR_US,
        "complete": index.complete,
        "indexed": index.high - index.low,
        "total": index.newest,
        "problem": index.problem,
    }
    if not index.usable:
        return answer
    first = begin // _HOUR_US
    last = (1 << 62) if end is None else end // _HOUR_US
    try:
        with index.reading() as connection:
            answer["rows"], answer["more"] = _rows(connection, by, first, last)
            answer |= _over_time(connection, by if only else "", only or "", first, last)
    except sqlite3.Error as error:
        answer["problem"], answer["complete"] = f"The index cannot be read: {error}", False
    return answer


def _rows(connection: sqlite3.Connection, by: str, first: int, last: int) -> tuple[list[dict[str, Any]], int]:
    sums = connection.execute(
        f"SELECT key, {_SUMS} FROM hours WHERE dimension = ? AND hour BETWEEN ? AND ? GROUP BY key ORDER BY 2 DESC",
        (by, first, last),
    ).fetchall()
    shown = {row[0]: row for row in sums[:_MOST_ROWS]}
    histograms: dict[str, dict[int, int]] = {key: {} for key in shown}
    for key, packed in connection.execute(
        "SELECT key, durations FROM hours WHERE dimension = ? AND hour BETWEEN ? AND ?", (by, first, last)
    ):
        if key in histograms:
            merge(histograms[key], [packed])
    return [_row(row, histograms[key]) | {"key": key} for key, row in shown.items()], len(sums) - len(shown)


def _over_time(connection: sqlite3.Connection, by: str, key: str, first: int, last: int) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT hour, spans, errors, tokens, prompt, completion, cost, durations FROM hours "
        "WHERE dimension = ? AND key = ? AND hour BETWEEN ? AND ? ORDER BY hour",
        (by, key, first, last),
    ).fetchall()
    if not rows:
        return {}
    step = max(1, -(-(rows[-1][0] - rows[0][0] + 1) // _POINTS))
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(row[0] // step * step, []).append(row)
    over = []
    for hour, group in groups.items():
        sums = [sum(column) for column in zip(*(row[1:7] for row in group), strict=True)]
        over.append(_row((key, *sums), merge({}, (row[7] for row in group))) | {"at": hour * _HOUR_US})
    return {"over": over, "step": step * _HOUR_US}


def _row(row: tuple[Any, ...], durations: dict[int, int]) -> dict[str, Any]:
    names = ("count", "errors", "tokens", "prompt", "completion", "cost")
    p50, p95, p99 = percentiles(durations, 50, 95, 99)
    return {**dict(zip(names, row[1:7], strict=True)), "p50": p50, "p95": p95, "p99": p99}
