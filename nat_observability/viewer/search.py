"""Search: the spans in which a text occurs, newest first, by the index as far as it goes, else by reading."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from nat_observability.viewer.runs import living, run_columns, summary
from nat_observability.viewer.sidecar.index import BLOCK, SEARCHED, Index, blocks, searched_columns
from nat_observability.viewer.store_file import Reader, ReadTimeoutError

MOST_HITS = 50
_PATIENCE = 1.0  # seconds
_AROUND = 40  # characters on each side of a hit
_LONGEST = 1_000  # characters of what is searched for
_MOST_TRIGRAMS = 16
_VERIFIED_AT_ONCE = 40
_READ_AT_ONCE = 1_000


def search(reader: Reader, index: Index, text: str, run_id: str | None, before: int) -> dict[str, Any]:
    """
    Return the spans in which `text` occurs in any case, each with its first place.

    `next` is where to go on: after so many hits, or when the time is up (`complete` is then false). A text that is the
    beginning of a run's or a trace's id finds these at once.

    Args:
        run_id: Of this run alone.
        before: The `next` of the answer before; 0 to begin.

    Raises:
        ValueError: The text is too long.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a text of {len(text)} characters is searched for; at most {_LONGEST} are.")
    answer: dict[str, Any] = {
        "runs": [],
        "hits": [],
        "next": None,
        "complete": True,
        "scanned_to": None,
        "indexed": index.high - index.low,
        "total": index.newest,
    }
    if not text:
        return answer
    if not before and run_id is None:
        answer["runs"] = _by_id(reader, text)
    deadline = time.monotonic() + _PATIENCE
    newest = reader.value("SELECT max(rowid) FROM spans") or 0
    above = min(newest + 1, (1 << 63) - 1)
    top = min(before or above, above)
    own = _ids_of(reader, run_id) if run_id is not None else None
    if own is not None:
        top = min(top, max(own, default=0) + 1)
    bottom = min(own, default=1) if own is not None else 1
    hits: list[dict[str, Any]] = answer["hits"]
    reached = top
    for ids, reached in _candidates(reader, index, text, top, bottom):
        wanted = ids if own is None else [each for each in ids if each in own]
        for at in range(0, len(wanted), _VERIFIED_AT_ONCE):
            some = wanted[at : at + _VERIFIED_AT_ONCE]
            for hit in _verified(reader, some, text):
                if len(hits) == MOST_HITS:
                    answer["next"] = hits[-1]["id"]
                    answer["scanned_to"] = hits[-1]["start"]
                    return answer
                hits.append(hit)
            if time.monotonic() > deadline and some[-1] > bottom:
                return answer | {
                    "next": some[-1],
                    "complete": False,
                    "scanned_to": _time_of(reader, some[-1]),
                }
        if time.monotonic() > deadline and reached > bottom:
            return answer | {"next": reached, "complete": False, "scanned_to": _time_of(reader, reached)}
    return answer


def trigrams(text: str) -> str | None:
    """Return a full-text query for the trigrams of a text, None if it has none."""
    folded = [text[at : at + 3] for at in range(len(text) - 2)]
    if not folded:
        return None
    step = max(1, len(folded) // _MOST_TRIGRAMS)
    chosen = dict.fromkeys([*folded[::step], folded[-1]])
    return " AND ".join('"' + each.replace('"', '""') + '"' for each in chosen)


def _candidates(
    reader: Reader, index: Index, text: str, top: int, bottom: int
) -> Iterator[tuple[list[int], int]]:
    """Yield ids below `top`, newest first, among which all hits are; and down to where that holds."""
    at = top
    low, high = index.covered()
    escaped = _escaped(text)
    queries = [trigrams(each) for each in dict.fromkeys((text, escaped))]
    # NUL ends a full-text query.
    if None in queries or "\0" in text:
        low = high = 0
    query = " OR ".join(f"({each})" for each in queries)
    while at > bottom:
        if low < at - 1 <= high:
            try:
                with index.reading() as connection:
                    for ids, reached in _indexed(connection, query, at, max(low, bottom - 1)):
                        at = reached
                        yield ids, at
                continue
            except sqlite3.Error:
                low = high = 0  # it is being made again
        floor = max(bottom - 1, high if at - 1 > high else 0, at - 1 - _READ_AT_ONCE)
        ids = [
            identity
            for (identity,) in reader.rows(
                "SELECT rowid FROM spans WHERE rowid > ? AND rowid < ? ORDER BY rowid DESC", floor, at
            )
        ]
        at = floor + 1
        yield ids, at


def _indexed(
    connection: sqlite3.Connection, query: str, top: int, low: int
) -> Iterator[tuple[list[int], int]]:
    for block in blocks(connection):
        if block * BLOCK >= top:
            continue
        floor = max(low, block * BLOCK - 1)
        if floor >= top - 1:
            continue
        at = top
        while True:
            ids = {
                identity
                for (identity,) in connection.execute(
                    f"SELECT rowid FROM text_{block} WHERE text_{block} MATCH ? AND rowid < ? AND rowid > ? "
                    "ORDER BY rowid DESC LIMIT 200",
                    (query, at, floor),
                )
            }
            end = min(ids) if len(ids) == 200 else floor + 1
            ids |= {
                identity
                for (identity,) in connection.execute(
                    "SELECT id FROM long WHERE id < ? AND id >= ?", (at, end)
                )
            }
            at = end
            yield sorted(ids, reverse=True), at
            if at <= floor + 1:
                break
        top = floor + 1
    yield [], low + 1


def _verified(reader: Reader, ids: list[int], text: str) -> Iterator[dict[str, Any]]:
    """Yield the hits among spans: the index may know more trigrams, and spans that are gone."""
    columns = searched_columns(reader)
    head = "SELECT rowid, CAST(run_id AS TEXT), CAST(span_id AS TEXT), CAST(kind AS TEXT), CAST(start_ns AS INTEGER), "
    rows = reader.rows(
        f"{head}{columns} FROM spans WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY rowid DESC",
        str(ids),
    )
    for row in rows:
        found = _place(row, text)
        if found is None and any(part and len(part.encode("utf-8", "replace")) >= 65_000 for part in row[5:]):
            whole = reader.row(f"{head}{searched_columns(reader, None)} FROM spans WHERE rowid = ?", row[0])
            found = None if whole is None else _place(whole, text)
        if found is not None:
            place, before, match, after = found
            yield {
                "id": row[0],
                "run": row[1],
                "span": row[2],
                "kind": row[3],
                "start": row[4] // 1000,
                "name": (row[5] or "")[:300],
                "place": place,
                "before": before,
                "match": match,
                "after": after,
            }


def _place(row: tuple[Any, ...], text: str) -> tuple[str, str, str, str] | None:
    wanted = text.lower()
    escaped = _escaped(text).lower()
    for name, part in zip(SEARCHED, row[5:], strict=True):
        if not part:
            continue
        folded = part.lower()
        if len(folded) != len(part):  # a letter whose lower case is longer: places would be wrong
            folded = "".join(low if len(low := letter.lower()) == 1 else letter for letter in part)
        at, length = folded.find(wanted), len(wanted)
        if at < 0:
            at, length = folded.find(escaped), len(escaped)
        if at >= 0:
            end = at + length
            return name, part[max(0, at - _AROUND) : at], part[at:end], part[end : end + _AROUND]
    return None


def _escaped(text: str) -> str:
    """Return a text as it stands in a JSON string."""
    with contextlib.suppress(UnicodeEncodeError):
        return msgspec.json.encode(text).decode()[1:-1]
    return text


def _ids_of(reader: Reader, run_id: str) -> set[int]:
    return {identity for (identity,) in reader.rows("SELECT rowid FROM spans WHERE run_id = ?", run_id)}


def _time_of(reader: Reader, identity: int) -> int | None:
    start = reader.value("SELECT start_ns FROM spans WHERE rowid >= ? ORDER BY rowid LIMIT 1", identity)
    return None if start is None else start // 1000


def _by_id(reader: Reader, text: str) -> list[dict[str, Any]]:
    """Return the runs whose id, or whose trace's id, begins with a text."""
    if len(text) < 4 or any(letter.isspace() for letter in text):
        return []
    columns, alive = run_columns(reader), living(reader)
    above = text + "\U0010ffff"
    found = reader.rows(f"SELECT {columns} FROM runs WHERE run_id >= ? AND run_id < ? LIMIT 10", text, above)
    if reader.version >= 2:
        with contextlib.suppress(ReadTimeoutError):
            found += reader.rows(
                f"SELECT {columns} FROM runs WHERE trace_id >= ? AND trace_id < ? LIMIT 10", text, above
            )
    return [summary(row, alive) for row in {row[0]: row for row in found}.values()]
