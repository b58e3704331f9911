"""The spans of one run: their light columns, and the content of one of them in pieces."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from nat_observability.store.schema import RUNNING
from nat_observability.viewer.runs import Activity, find_run, living
from nat_observability.viewer.store_file import Reader, cut

MOST_SPANS = 100_000
PIECE = 65_536  # bytes of content in one answer
_FIRST = 5_000  # spans of the first answer, so that something is shown at once
_FURTHER = 10_000  # of each answer after it, so that the server stays small
_NAME = 1000  # bytes of a name in the list

_GONE = Activity(alive=False, until_ns=0)

PARTS = ("input", "output", "attributes", "metadata", "events", "links", "error_message", "error_traceback")
_USAGE = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cache_write_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
)


def list_spans(
    reader: Reader, run_id: str, after: int, limit: int = MOST_SPANS, *, whole: bool = False
) -> dict[str, Any] | None:
    """
    Return the spans of a run whose ids are above `after`, column by column, oldest ids first; None if it is not
    known.

    Unless they are wanted `whole`, answers are pieces, the first a short one; `next` is where the rest begins. Times
    are microseconds since the run's start.
    """
    run = find_run(reader, run_id)
    if run is None:
        return None
    start = run[8]
    most = limit if whole else max(1, min(limit, _FIRST if after <= 0 else _FURTHER))
    cost = "cost" if reader.version >= 2 else "NULL"
    rows = reader.rows(
        f"SELECT rowid, CAST(span_id AS TEXT), CAST(parent_id AS TEXT), {cut('name', _NAME)}, CAST(kind AS TEXT), "
        "CAST(status AS TEXT), CAST((start_ns - ?) / 1000 AS INTEGER), CAST((end_ns - start_ns) / 1000 AS INTEGER), "
        f"CAST((first_chunk_ns - ?) / 1000 AS INTEGER), total_tokens, {cost} "
        "FROM spans WHERE rowid IN "
        # From the index alone: sorting whole rows would read those that are not wanted too.
        f"(SELECT rowid FROM spans WHERE run_id = ? AND rowid > ? ORDER BY rowid LIMIT {most + 1}) ORDER BY rowid",
        start,
        start,
        run_id,
        after,
    )
    more = len(rows) > most
    del rows[most:]
    total = reader.value("SELECT count(*) FROM spans WHERE run_id = ?", run_id)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(11)]
    ids, span_ids, parents, names, kinds, statuses, starts, lengths, firsts, tokens, costs = columns
    if run[13] and RUNNING in statuses:
        activity = living(reader).get(run[13], _GONE)
        for at, status in enumerate(statuses):
            if status == RUNNING:
                lengths[at] = max(lengths[at], (activity.until_ns - start) // 1000 - starts[at])
                # The process that would have ended it may be gone.
                statuses[at] = RUNNING if activity.alive else "died"
    coded_names, name_codes = _coded(names)
    coded_kinds, kind_codes = _coded(kinds)
    coded_statuses, status_codes = _coded(statuses)
    return {
        "start": start // 1000,
        "names": coded_names,
        "kinds": coded_kinds,
        "statuses": coded_statuses,
        "id": span_ids,
        "parent": parents,
        "name": name_codes,
        "kind": kind_codes,
        "status": status_codes,
        "from": starts,
        "length": lengths,
        "first": firsts,
        "tokens": tokens,
        "cost": costs,
        "next": ids[-1] if more else None,
        "cursor": ids[-1] if ids else after,
        "total": total,
    }


def one_span(reader: Reader, run_id: str, span_id: str) -> dict[str, Any] | None:
    """Return a span with the first piece of each part of its content; None if it is not known."""
    present = {name for (name,) in reader.rows("SELECT name FROM pragma_table_info('spans')")}

    def column(name: str) -> str:
        return name if name in present else "NULL"

    pieces = ", ".join(
        f"length(CAST({column(each)} AS BLOB)), substr(CAST({column(each)} AS BLOB), 1, {PIECE})"
        for each in PARTS
    )
    row = reader.row(
        f"SELECT CAST(span_id AS TEXT), CAST(parent_id AS TEXT), CAST(kind AS TEXT), {cut('name', PIECE)}, "
        "CAST(status AS TEXT), CAST(start_ns AS INTEGER), CAST(end_ns AS INTEGER), CAST(first_chunk_ns AS INTEGER), "
        f"chunks, {column('span_kind')}, {cut(column('status_message'), PIECE)}, tags, {column('dropped')}, "
        f"{cut('error_type', 1000)}, {cut('error_message', PIECE)}, input_type, output_type, {column('cost')}, "
        f"length(CAST(name AS BLOB)), {', '.join(column(each) for each in _USAGE)}, {pieces} "
        "FROM spans WHERE run_id = ? AND span_id = ?",
        run_id,
        span_id,
    )
    if row is None:
        return None
    start, end, first = row[5:8]
    error_type, message, input_type, output_type, cost, name_length = row[13:19]
    usage = dict(zip(_USAGE, row[19:28], strict=True))
    types = {"input": input_type, "output": output_type, "error_message": "text", "error_traceback": "text"}
    parts = {
        name: _piece(piece, types.get(name, "json"), length, 0)
        for name, length, piece in zip(PARTS, row[28::2], row[29::2], strict=True)
        if piece is not None
    }
    return {
        "id": row[0],
        "parent": row[1],
        "kind": row[2],
        "name": row[3],
        "name_length": name_length,
        "status": row[4],
        "start": start // 1000,
        "duration": (end - start) // 1000,
        "first": None if first is None else (first - start) // 1000,
        "chunks": row[8],
        "span_kind": row[9],
        "status_message": row[10],
        "model": model_of(parts["attributes"]["text"] if "attributes" in parts else None),
        "usage": {name: value for name, value in usage.items() if isinstance(value, int) and value},
        "cost": cost,
        "tags": _items(row[11]),
        "dropped": _items(row[12]) or None,
        "error": None if error_type is None else {"type": error_type, "message": message or ""},
        "parts": parts,
    }


def one_part(reader: Reader, run_id: str, span_id: str, part: str, offset: int) -> dict[str, Any] | None:
    """Return a piece of a part of a span's content from a byte on, with the whole length; None if it is not known."""
    if part not in PARTS:
        return None
    kind = {"input": "input_type", "output": "output_type"}.get(
        part, "'text'" if "error" in part else "'json'"
    )
    row = reader.row(
        f"SELECT length(CAST({part} AS BLOB)), substr(CAST({part} AS BLOB), ?, {PIECE}), {kind} "
        "FROM spans WHERE run_id = ? AND span_id = ?",
        offset + 1,
        run_id,
        span_id,
    )
    if row is None or row[0] is None:
        return None
    return _piece(row[1], row[2], row[0], offset)


def _piece(data: bytes, kind: str | None, length: int, offset: int) -> dict[str, Any]:
    """Return a piece as text, without the beginning of a character at its end; `next` is where the rest begins."""
    end = len(data)
    if offset + end < length:
        while end > len(data) - 4 and end > 1 and data[end - 1] & 0xC0 == 0x80:
            end -= 1
        end -= end > 1 and data[end - 1] >= 0xC0
    reached = offset + end
    return {
        "text": data[:end].decode("utf-8", "replace"),
        "type": kind or "text",
        "length": length,
        "offset": offset,
        "next": reached if reached < length else None,
    }


def model_of(attributes: str | None) -> str | None:
    """Return the model that a call used, by its attributes."""
    known: Any = None
    if attributes and "model" in attributes:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            known = msgspec.json.decode(attributes)
    if isinstance(known, dict):
        for name in ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "model"):
            if isinstance(known.get(name), str):
                return str(known[name])[:200]
    return None


def _coded(values: list[str | None]) -> tuple[list[str], list[int]]:
    codes: dict[str, int] = {}
    coded = [codes.setdefault(value or "", len(codes)) for value in values]
    return list(codes), coded


def _items(text: object) -> list[Any]:
    with contextlib.suppress(msgspec.MsgspecError, RecursionError):
        found = msgspec.json.decode(text) if isinstance(text, str) else None
        return found[:1000] if isinstance(found, list) else []
    return []
