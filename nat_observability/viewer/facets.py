"""Facets: how many runs pass a filter, by status, workflow, name and tag, and over time; by the index or by reading."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from array import array
from collections import Counter
from typing import Any, NamedTuple

from nat_observability.viewer.filtering import LATEST_NS, Filter, place_in_list, select, window_end
from nat_observability.viewer.runs import living, shown_status
from nat_observability.viewer.sidecar.index import Index
from nat_observability.viewer.sidecar.run_counts import BEYOND, DIMENSIONS, HOUR_NS, NOTHING
from nat_observability.viewer.store_file import Reader, ReadTimeoutError, cut

MOST_VALUES = 500
"""Of one facet."""

_CATCHING_UP = 0.4  # seconds that the index gets to count what is new
_PATIENCE = 0.25  # seconds of one answer without it
_WINDOW = 20_000  # runs looked at in one read
_FEW = 50_000  # runs whose times are read for a histogram of their own
_BARS = 80
_HOURS_ENOUGH = 40  # for a histogram whose bars are whole hours
_HOUR_US = HOUR_NS // 1000
_SECOND_NS = 1_000_000_000
_STEPS_S = (
    *(1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000),
)


class _Bars(NamedTuple):
    """The bars of a histogram, in nanoseconds."""

    begin: int
    step: int

    @classmethod
    def over(cls, first: int, last: int, *, least: int = 1) -> _Bars:
        """Return bars of a round length, in seconds at least so many, over all from one moment to another."""
        whole = (last - first) / _SECOND_NS
        steps = [each for each in _STEPS_S if each % least == 0]
        step = next(
            (each for each in steps if whole / each <= _BARS), int(whole / _BARS) // least * least + least
        )
        return cls(first - first % (step * _SECOND_NS), step * _SECOND_NS)

    def shown(self, bars: dict[int, list[int]]) -> dict[str, Any]:
        rows = [[at, *numbers] for at, numbers in sorted(bars.items())]
        return {"from": self.begin // 1000, "step": self.step // 1000, "histogram": rows}


def facets(
    reader: Reader, index: Index, wanted: Filter, before: str | None, seconds: float = _PATIENCE
) -> dict[str, Any]:
    """
    Return how many runs pass a filter, by what they have in common, and over time.

    By the index at once, if it counts what the filter asks for. Otherwise runs are read, from the newest back, until
    the time is up; `next` is then where another answer goes on, which has to be added to this one. `complete` is false
    while the index is being made, too: another answer will then be more.

    Args:
        before: The `next` of the answer before.
        seconds: For reading.
    """
    answer: dict[str, Any] | None = None
    tags: list[list[Any]] = []
    by_hours = before is None and _is_by_hours(wanted)
    whole = False
    if by_hours:
        whole = index.wait_counted(reader.newest(), _CATCHING_UP)
    if index.enabled and index.problem is None and index.counts.followed >= 0:
        with contextlib.suppress(sqlite3.Error), index.reading() as connection:
            if by_hours:
                answer = _from_index(reader, connection, wanted, whole=whole)
            tags = _tags(connection, wanted)
    if answer is None:
        answer = _by_reading(reader, wanted, before, seconds)
    ends = reader.row("SELECT (SELECT min(rowid) FROM runs), (SELECT max(rowid) FROM runs)")
    of = 0 if ends is None or ends[0] is None else ends[1] - ends[0] + 1
    return {**answer, "tag": tags, "of": of}


def _is_by_hours(wanted: Filter) -> bool:
    """Whether a filter asks for nothing but what the index counts by."""
    others = (wanted.user, wanted.conversation, wanted.tag, wanted.q, wanted.min_ms, wanted.max_ms)
    if any(each not in (None, "") for each in others) or wanted.status in ("running", "died", "open"):
        return False
    return not ((wanted.from_ or 0) % _HOUR_US or (wanted.to or 0) % _HOUR_US)


def _from_index(
    reader: Reader, connection: sqlite3.Connection, wanted: Filter, *, whole: bool
) -> dict[str, Any] | None:
    """Return the counts of the index, None if it does not have those of this filter."""
    chosen = _cells_of(connection, wanted)
    if chosen is None:
        return None
    where, values = chosen
    failed = _word(connection, "status", "error")
    hours = connection.execute(
        f"SELECT hour, sum(runs), sum(iif(status = ?, runs, 0)) FROM cells {where} GROUP BY hour ORDER BY hour",
        (failed, *values),
    ).fetchall()
    total = sum(hour[1] for hour in hours)
    answer: dict[str, Any] = {"total": total, "complete": whole, "next": None, "rest": {}, "back_to": None}
    answer["looked_at"] = (
        None if whole else connection.execute("SELECT coalesce(sum(runs), 0) FROM cells").fetchone()[0]
    )
    words = dict(connection.execute("SELECT id, word FROM words WHERE dimension <> 'tag'"))
    for dimension in DIMENSIONS:
        sums = dict(
            connection.execute(f"SELECT {dimension}, sum(runs) FROM cells {where} GROUP BY 1", values)
        )
        beyond = sums.pop(BEYOND, 0)
        sums.pop(NOTHING, 0)
        named = Counter({words[each]: number for each, number in sums.items() if each in words})
        if dimension == "status":
            named = _with_processes(reader, wanted, named)
        _put(answer, dimension, named, beyond)
    return answer | _histogram(reader, wanted, hours, total)


def _cells_of(connection: sqlite3.Connection, wanted: Filter) -> tuple[str, list[int]] | None:
    """Return the condition for the cells of a filter; None if they do not tell its runs from others."""
    clauses, values = ["runs > 0"], []
    for dimension in DIMENSIONS:
        word = getattr(wanted, dimension)
        if not word:
            continue
        found = _word(connection, dimension, word)
        if (
            found == BEYOND
            and connection.execute(f"SELECT 1 FROM cells WHERE {dimension} = ? LIMIT 1", (BEYOND,)).fetchone()
        ):
            return None
        clauses.append(f"{dimension} = ?")
        values.append(found)
    if wanted.from_ is not None:
        clauses.append("hour >= ?")
        values.append(wanted.from_ // _HOUR_US)
    if wanted.to is not None:
        clauses.append("hour < ?")
        values.append(wanted.to // _HOUR_US)
    return f"WHERE {' AND '.join(clauses)}", values


def _word(connection: sqlite3.Connection, dimension: str, word: str) -> int:
    row = connection.execute(
        "SELECT id FROM words WHERE dimension = ? AND word = ?", (dimension, word)
    ).fetchone()
    return BEYOND if row is None else int(row[0])


def _with_processes(reader: Reader, wanted: Filter, statuses: Counter[str]) -> Counter[str]:
    """Tell those open runs whose process is known from the others."""
    if not statuses["open"] or reader.version < 2:
        return statuses
    alive = living(reader)
    chosen = select(reader, wanted)
    with contextlib.suppress(ReadTimeoutError), reader.at_most(_PATIENCE):
        where = chosen.where("status = 'open'")
        rows = reader.rows(
            f"SELECT process_id, count(*) FROM {chosen.source} {where} GROUP BY 1", *chosen.values
        )
        for process, number in rows:
            shown = shown_status("open", process, alive)
            moved = min(number, statuses["open"])
            statuses["open"] -= moved
            statuses[shown] += moved
    return statuses


def _histogram(
    reader: Reader, wanted: Filter, hours: list[tuple[int, int, int]], total: int
) -> dict[str, Any]:
    if not hours:
        return {"from": 0, "step": 1, "histogram": []}
    first, last = hours[0][0], hours[-1][0]
    if last - first < _HOURS_ENOUGH and total <= _FEW:
        with contextlib.suppress(ReadTimeoutError), reader.at_most(_PATIENCE):
            return _own_histogram(reader, wanted)
    bars = _Bars.over(first * HOUR_NS, (last + 1) * HOUR_NS - 1, least=3_600)
    counted: dict[int, list[int]] = {}
    for hour, runs, failed in hours:
        bar = counted.setdefault((hour * HOUR_NS - bars.begin) // bars.step, [0, 0])
        bar[0] += runs
        bar[1] += failed
    return bars.shown(counted)


def _own_histogram(reader: Reader, wanted: Filter) -> dict[str, Any]:
    chosen = select(reader, wanted)
    rows = reader.rows(
        f"SELECT CAST({chosen.began} AS INTEGER), status = 'error' FROM {chosen.source} {chosen.where()}",
        *chosen.values,
    )
    return _bars_of(array("q", (row[0] for row in rows)), bytearray(row[1] for row in rows))


def _bars_of(starts: array[int], failed: bytearray, bars: _Bars | None = None) -> dict[str, Any]:
    """Return the histogram of some runs by their starts; over their own time, unless the bars are given."""
    if not starts and bars is None:
        return {"from": 0, "step": 1, "histogram": []}
    if bars is None:
        bars = _Bars.over(min(starts), max(starts))
    counted: dict[int, list[int]] = {}
    for start, bad in zip(starts, failed, strict=True):
        bar = counted.setdefault((start - bars.begin) // bars.step, [0, 0])
        bar[0] += 1
        bar[1] += bad
    return bars.shown(counted)


def _tags(connection: sqlite3.Connection, wanted: Filter) -> list[list[Any]]:
    """Return the tags of the runs of a time; how many have each, unless the filter asks for more than the time."""
    clauses, values = ["runs > 0"], []
    if wanted.from_ is not None:
        clauses.append("hour >= ?")
        values.append(wanted.from_ // _HOUR_US)
    if wanted.to is not None:
        clauses.append("hour <= ?")
        values.append((wanted.to - 1) // _HOUR_US)
    rows = connection.execute(
        "SELECT word, number FROM (SELECT tag, sum(runs) AS number FROM tag_hours "
        f"WHERE {' AND '.join(clauses)} GROUP BY tag ORDER BY 2 DESC LIMIT {MOST_VALUES}) JOIN words ON id = tag "
        "ORDER BY number DESC, word",
        values,
    ).fetchall()
    alone = Filter(from_=wanted.from_, to=wanted.to) == wanted
    exact = alone and _is_by_hours(wanted)
    return [[word, number if exact else None] for word, number in rows]


def _by_reading(reader: Reader, wanted: Filter, before: str | None, seconds: float) -> dict[str, Any]:
    """Return the counts of the runs that could be looked at in time, from the newest back."""
    chosen = select(reader, wanted)
    top, bars = _key(before)
    until = time.monotonic() + seconds
    process = "process_id" if reader.version >= 2 else "NULL"
    query = (
        f"SELECT CAST({chosen.began} AS INTEGER), CAST(status AS TEXT), {process}, "
        f"{cut('workflow_name', 1000)}, {cut('name', 1000)} FROM {chosen.source} "
    )
    alive = living(reader)
    counted: Counter[tuple[str, str | None, str, str]] = Counter()
    starts, failed = array("q"), bytearray()
    looked_at = 0
    while True:
        bottom = window_end(reader, top, _WINDOW, wanted)
        place = [f"{chosen.began} <= ?"] + ([] if bottom is None else [f"{chosen.began} > ?"])
        arguments = [*chosen.values, top] + ([] if bottom is None else [bottom])
        rows = reader.rows(query + chosen.where(*place), *arguments)
        counted.update(row[1:] for row in rows)
        starts.extend(row[0] for row in rows)
        failed.extend(row[1] == "error" for row in rows)
        looked_at += _WINDOW
        if bottom is None:
            break
        top = bottom
        if time.monotonic() > until:
            break
    answer: dict[str, Any] = {"total": counted.total(), "rest": {}, "looked_at": looked_at}
    answer |= {"complete": bottom is None, "next": None, "back_to": None}
    names: dict[str, Counter[str]] = {dimension: Counter() for dimension in DIMENSIONS}
    for (status, running_in, workflow, name), number in counted.items():
        names["status"][shown_status(status, running_in, alive)] += number
        names["workflow"][workflow or ""] += number
        names["name"][name or ""] += number
    for dimension, values in names.items():
        del values[""]
        _put(answer, dimension, values, 0)
    if bottom is not None:
        bars = bars or _whole_time(reader, wanted)
        answer |= {"next": f"{top}.{bars.begin}.{bars.step}", "back_to": top // 1000}
    return answer | _bars_of(starts, failed, bars)


def _whole_time(reader: Reader, wanted: Filter) -> _Bars:
    """Return bars over the whole time that a filter lets through, which the answers that are added up share."""
    first, last = (each or 0 for each in reader.ends())
    if wanted.from_ is not None:
        first = max(first, wanted.from_ * 1000)
    if wanted.to is not None:
        last = min(last, wanted.to * 1000 - 1)
    return _Bars.over(first, max(first, last))


def _put(answer: dict[str, Any], dimension: str, values: Counter[str], beyond: int) -> None:
    ordered = sorted(values.items(), key=lambda each: (-each[1], each[0]))
    ordered = [each for each in ordered if each[1] > 0]
    answer[dimension] = [list(each) for each in ordered[:MOST_VALUES]]
    if rest := beyond + sum(number for _, number in ordered[MOST_VALUES:]):
        answer["rest"][dimension] = rest


def _key(before: str | None) -> tuple[int, _Bars | None]:
    if not before:
        return LATEST_NS, None
    top, begin, step = place_in_list("before", before, 3)
    return top, _Bars(begin, max(1, step))
