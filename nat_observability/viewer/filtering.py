"""Filtering runs: what a list can be narrowed to, and the SQL that finds these runs, from the newest back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec

from nat_observability.viewer.store_file import Reader

SILENT_NS = 15_000_000_000
"""A process that has not reported for so long, in nanoseconds, is taken for dead."""

LATEST_NS = (1 << 63) - 1
"""Later than any moment of a store."""

# So that nanoseconds fit into 64 bits.
_MOMENT = msgspec.Meta(ge=-9_000_000_000_000_000, le=9_000_000_000_000_000)
_LENGTH = msgspec.Meta(ge=0, le=9_000_000_000_000)


class Filter(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a list of runs is narrowed to; times are microseconds since the epoch."""

    status: str | None = None
    workflow: str | None = None
    name: str | None = None
    user: str | None = None
    conversation: str | None = None
    tag: str | None = None
    q: str | None = None
    from_: Annotated[int, _MOMENT] | None = None
    to: Annotated[int, _MOMENT] | None = None
    min_ms: Annotated[float, _LENGTH] | None = None
    max_ms: Annotated[float, _LENGTH] | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """
        Return the filter of a query string.

        Raises:
            msgspec.ValidationError: A value is not a number.
        """
        known = {name: query[name] for name in query if name in cls.__struct_encode_fields__ and query[name]}
        return msgspec.convert(known, cls, strict=False)


def place_in_list(parameter: str, text: str, numbers: int) -> tuple[int, ...]:
    """
    Return the numbers that say where a list goes on.

    Raises:
        ValueError: These are others, or do not fit into 64 bits.
    """
    parts = text.split(".")
    with suppress(ValueError):
        found = tuple(map(int, parts))
        if len(found) == numbers and all(abs(number) < 1 << 63 for number in found):
            return found
    raise ValueError(f"{parameter}={text[:50]!r} is no place in the list.")


_MOST_COLONS = 20


def _tags_meant(text: str) -> list[tuple[str, str]]:
    """Return the names and values that `name:value` may stand for: either of them may hold colons."""
    colons = [at for at, character in enumerate(text) if character == ":"]
    return [(text[:at], text[at + 1 :]) for at in colons[:_MOST_COLONS]] or [(text, "")]


class Selection(NamedTuple):
    """
    Where the runs that pass a filter are.

    Attributes:
        source: What to select from.
        began: The start of a run, in the column that the source is ordered by.
        clauses, values: Conditions and their parameters.
        searches: Whether many runs may have to be looked at before one passes.
    """

    source: str
    began: str
    clauses: list[str]
    values: list[object]
    searches: bool

    def where(self, *more: str) -> str:
        """Return the conditions, and more of them, as a clause."""
        conditions = [*self.clauses, *more]
        return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def select(reader: Reader, wanted: Filter) -> Selection:
    """Return where to find the runs that pass a filter."""
    clauses: list[str] = []
    values: list[object] = []
    source, began = "runs", "start_ns"
    indexed = 0
    searches = False

    def add(clause: str, *arguments: object) -> None:
        clauses.append(clause)
        values.extend(arguments)

    if wanted.tag:
        tags = _tags_meant(wanted.tag)
        pairs = [part for tag in tags for part in tag]
        is_one = " OR ".join(["({} = ? AND value = ?)"] * len(tags))
        if reader.version < 2:
            add(f"EXISTS (SELECT 1 FROM json_each(tags) WHERE {is_one.replace('{}', 'key')})", *pairs)
            searches = True
        else:
            # By its index, which has the runs of a tag in the order of time.
            source = (
                f"(SELECT run_id AS tagged, start_ns AS began FROM run_tags WHERE {is_one.replace('{}', 'name')}"
                f"{' GROUP BY run_id' if len(tags) > 1 else ''}) CROSS JOIN runs ON run_id = tagged"
            )
            began = "began"
            values += pairs
            indexed += 1
    if wanted.status:
        _add_status(reader, wanted.status, add)
        indexed += 1
    for column, wanted_value in (
        ("workflow_name", wanted.workflow),
        ("user_id", wanted.user),
        ("conversation_id", wanted.conversation),
    ):
        if wanted_value:
            add(f"{column} = ?", wanted_value)
            indexed += 1
    if wanted.name:
        add("name = ?", wanted.name)
        searches = True
    if wanted.from_ is not None:
        add(f"{began} >= ?", wanted.from_ * 1000)
    if wanted.to is not None:
        add(f"{began} < ?", wanted.to * 1000)
    if wanted.min_ms is not None:
        add("end_ns - start_ns >= ?", int(wanted.min_ms * 1e6))
        searches = True
    if wanted.max_ms is not None:
        add("end_ns - start_ns <= ?", int(wanted.max_ms * 1e6))
        searches = True
    if wanted.q:
        columns = ("name", "run_id", "workflow_name", "user_id", "conversation_id", "trace_id", "error")
        for_one, arguments = _holds_text(wanted.q)
        add(
            f"({' OR '.join(for_one.replace('{}', column) for column in columns)})",
            *(arguments * len(columns)),
        )
        searches = True
    return Selection(source, began, clauses, values, searches or indexed > 1)


_LONGEST_PATTERN = 10_000  # bytes: SQLite refuses a pattern of 50,000


def _holds_text(text: str) -> tuple[str, list[object]]:
    """Return the condition that a column, as `{}`, holds a text in any case, and its parameters."""
    anywhere = "instr(lower({}), lower(?))"
    # LIKE takes less time, but ends at a NUL in the pattern or the column.
    if "\0" in text or 4 * len(text) > _LONGEST_PATTERN:
        return anywhere, [text]
    # As text that may hold % and _, which LIKE would take for patterns.
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return f"({{}} LIKE ? ESCAPE '\\' OR (instr({{}}, char(0)) AND {anywhere}))", [pattern, text]


def _add_status(reader: Reader, status: str, add: Callable[..., None]) -> None:
    if status not in ("running", "died", "open"):
        add("status = ?", status)
        return
    if reader.version < 2:
        add("status = 'open'" if status == "open" else "0")
        return
    known = "SELECT process_id FROM processes"
    alive = f"{known} WHERE ended_ns IS NULL AND heartbeat_ns > ?"
    since = time.time_ns() - SILENT_NS
    if status == "running":
        add(f"status = 'open' AND process_id IN ({alive})", since)
    elif status == "died":
        add(f"status = 'open' AND process_id IN ({known}) AND process_id NOT IN ({alive})", since)
    else:
        add(f"status = 'open' AND (process_id IS NULL OR process_id NOT IN ({known}))")


def window_end(reader: Reader, top: int, runs: int, wanted: Filter) -> int | None:
    """Return the start down to which so many runs began, not later than `top`; None if there are no more."""
    if wanted.to is not None:
        top = min(top, wanted.to * 1000)
    end = reader.value(
        "SELECT start_ns FROM runs WHERE start_ns <= ? ORDER BY start_ns DESC LIMIT 1 OFFSET ?", top, runs
    )
    if end is not None and end >= top:  # so many began in the same moment
        end = reader.value("SELECT max(start_ns) FROM runs WHERE start_ns < ?", top)
    if end is None or (wanted.from_ is not None and end < wanted.from_ * 1000):
        return None
    return int(end)
