"""Store: read-only access to the embedded store that SqliteSink writes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from nat_observability.errors import SinkError
from nat_observability.events import (
    Captured,
    ErrorDetails,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.store.schema import (
    SPAN_COLUMNS,
    connect_to_read,
    has_store,
    missing_columns,
)
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error

RunStatus = Literal["ok", "error", "open"]

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
_SPAN = SPAN_COLUMNS.split(", ")[1:]
_NO_ATTRIBUTES = msgspec.Raw()
_BY_START = "spans.start_ns, spans.end_ns DESC, spans.span_id"
_RUN = "runs.run_id, trace_id, conversation_id, user_id, workflow_name, parent_span_id, {tags}"
_RUN_COLUMNS = 7


class StoredRun(msgspec.Struct, frozen=True):
    """
    One run, as far as its spans have arrived.

    `name` is that of its first root span. `status` is 'open' until a root span has arrived, 'error' when one has
    failed or is incomplete, and else 'ok'. `error` is that of the failed root span.
    """

    run: Run
    name: str | None
    status: RunStatus
    start_ns: int
    end_ns: int
    error: str | None


class SpanNode(msgspec.Struct, frozen=True):
    """A span and the spans that it encloses, sorted by start time."""

    span: Span
    children: list[SpanNode]


class Store:
    """
    Reads a store, as a context manager, in the thread that entered it.

    It never writes to the file (SQLite may leave an empty log and its index beside it), and sees what other processes
    write while it is open. Entering and each method raise a SinkError if the file is missing, damaged, another
    program's or newer than this package.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._connection: sqlite3.Connection | None = None
        self._run = ""
        self._lacking: frozenset[str] = frozenset()  # columns of spans

    def __enter__(self) -> Self:
        if not has_store(self.path):
            problem = "is empty" if os.path.exists(self.path) else "does not exist"
            raise SinkError(self.path, problem, "Give the path that a SQLite exporter writes to.")
        try:
            connection = connect_to_read(self.path)
            try:
                tags = "NULL" if missing_columns(connection, "runs") else "runs.tags"
                self._lacking = frozenset(missing_columns(connection, "spans"))
            except BaseException:
                connection.close()
                raise
            self._connection, self._run = connection, _RUN.format(tags=tags)
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def runs(
        self,
        limit: int = 50,
        status: RunStatus | None = None,
        conversation_id: str | None = None,
        id_prefix: str = "",
    ) -> list[StoredRun]:
        """
        Return the newest runs, newest first.

        `status` and `conversation_id` select runs that have it, `id_prefix` runs whose id begins with it.
        """
        wanted = {"status": status, "conversation_id": conversation_id}
        conditions = [f"{column} = :{column}" for column, value in wanted.items() if value is not None]
        if id_prefix:
            conditions.append("substr(run_id, 1, length(:id_prefix)) = :id_prefix")
        rows = self._rows(
            f"SELECT {self._run}, name, status, start_ns, end_ns, error FROM runs "
            f"{'WHERE ' + ' AND '.join(conditions) if conditions else ''} "
            "ORDER BY start_ns DESC, run_id LIMIT :limit",
            {**wanted, "id_prefix": id_prefix, "limit": limit},
        )
        with self._sound():
            return [StoredRun(_run(row), *row[_RUN_COLUMNS:]) for row in rows]

    def spans(self, run_id: str) -> list[Span]:
        """Return the spans of a run by start time, as they were recorded; none if the run is not known."""
        columns = ", ".join("NULL" if each in self._lacking else f"spans.{each}" for each in _SPAN)
        rows = self._rows(
            f"SELECT {self._run}, {columns} FROM spans JOIN runs USING (run_id) WHERE spans.run_id = ? "
            f"ORDER BY {_BY_START}",
            (run_id,),
        )
        with self._sound():
            run = _run(rows[0]) if rows else None
            return [_span(run, row[_RUN_COLUMNS:]) for row in rows if run is not None]

    def tree(self, run_id: str) -> list[SpanNode]:
        """
        Return the root spans of a run by start time, each with what it encloses; none if the run is not known.

        A span whose parent is not in the store is a root. If spans form a cycle, the first of them is a root.
        """
        nodes = {span.span_id: SpanNode(span, []) for span in self.spans(run_id)}
        parents = _enclosing((span_id, node.span.parent_id) for span_id, node in nodes.items())
        roots: list[SpanNode] = []
        for span_id, parent_id in parents.items():
            siblings = roots if parent_id is None else nodes[parent_id].children
            siblings.append(nodes[span_id])
        return roots

    def counts(self, run_ids: Collection[str] | None = None) -> dict[str, int | dict[str, int]]:
        """
        Return counts of what the store holds, in total or for the runs with these ids, from one snapshot.

        `spans_paired` are those that ended, `spans_unpaired` those that had not ended when their run did.
        `max_depth` counts a span whose parent is not in its run as 1. `token_usage_of_llm_ends` is the sum over
        the spans of kind LLM.
        """
        chosen = "" if run_ids is None else "run_id IN (SELECT value FROM json_each(:run_ids))"
        where = f"WHERE {chosen}" if chosen else ""
        and_chosen = f"AND {chosen}" if chosen else ""
        ids = {"run_ids": msgspec.json.encode(list(run_ids or ())).decode()}
        self._rows("BEGIN")  # one snapshot for all the queries
        try:
            runs = dict(self._rows(f"SELECT status, count(*) FROM runs {where} GROUP BY status", ids))
            kinds = dict(
                self._rows(f"SELECT kind, count(*) FROM spans {where} GROUP BY kind ORDER BY kind", ids)
            )
            ((unpaired,),) = self._rows(
                f"SELECT count(*) FROM spans WHERE status = :status {and_chosen}",
                {**ids, "status": Status.INCOMPLETE.value},
            )
            sums = ", ".join(f"coalesce(sum({column}), 0)" for column in _TOKENS)
            (tokens,) = self._rows(
                f"SELECT {sums} FROM spans WHERE kind = :kind {and_chosen}",
                {**ids, "kind": StepKind.LLM.value},
            )
            nested = f"SELECT span_id, parent_id FROM spans WHERE run_id = ? ORDER BY {_BY_START}"
            counted = self._rows(f"SELECT run_id FROM runs {where}", ids)
            depths = [_depth(self._rows(nested, run)) for run in counted]
        finally:
            self._rows("ROLLBACK")
        spans = sum(kinds.values())
        return {
            "runs": sum(runs.values()),
            "runs_ok": runs.get("ok", 0),
            "runs_failed": runs.get("error", 0),
            "spans": spans,
            "spans_paired": spans - unpaired,
            "spans_unpaired": unpaired,
            "spans_by_category": kinds,
            "max_depth": max(depths, default=0),
            "llm_calls": kinds.get(StepKind.LLM.value, 0),
            "token_usage_of_llm_ends": dict(zip(_TOKENS, tokens, strict=True)),
        }

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Report cells of damaged pages, which SQLite returns as they are, as damage."""
        try:
            yield
        except (AttributeError, TypeError, ValueError) as error:
            raise SinkError(
                self.path,
                f"holds a row that cannot be read: {error}",
                "The file is damaged: move it away, and a new one is made.",
            ) from error

    def _rows(self, query: str, parameters: tuple[object, ...] | Mapping[str, object] = ()) -> list[Any]:
        if self._connection is None:
            raise SinkError(self.path, "is not open", "Use the store in a with statement.")
        try:
            return self._connection.execute(query, parameters).fetchall()
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error


# As events and links, whose attributes may be missing: Raw or None is not decoded.
class _EventRow(msgspec.Struct):
    name: str
    time_ns: int
    attributes: msgspec.Raw = _NO_ATTRIBUTES
    dropped_attributes_count: int = 0


class _LinkRow(msgspec.Struct):
    trace_id: str
    span_id: str
    attributes: msgspec.Raw = _NO_ATTRIBUTES
    trace_state: str | None = None
    trace_flags: int = 0
    dropped_attributes_count: int = 0


class _OriginRow(msgspec.Struct):
    scope_name: str = ""
    scope_version: str | None = None
    scope_attributes: msgspec.Raw = _NO_ATTRIBUTES
    schema_url: str | None = None
    trace_state: str | None = None
    ok: bool = False
    retyped: tuple[tuple[str, str], ...] = ()


_event_rows = msgspec.json.Decoder(list[_EventRow]).decode
_link_rows = msgspec.json.Decoder(list[_LinkRow]).decode
_dropped = msgspec.json.Decoder(tuple[int, int, int]).decode
_origin_row = msgspec.json.Decoder(_OriginRow).decode


def _events(text: str) -> tuple[SpanEvent, ...]:
    return tuple(
        SpanEvent(row.name, row.time_ns, _own(row.attributes), row.dropped_attributes_count)
        for row in _event_rows(text)
    )


def _links(text: str) -> tuple[SpanLink, ...]:
    return tuple(
        SpanLink(
            row.trace_id,
            row.span_id,
            _own(row.attributes),
            row.trace_state,
            row.trace_flags,
            row.dropped_attributes_count,
        )
        for row in _link_rows(text)
    )


def _origin(text: str) -> SpanOrigin:
    row = _origin_row(text)
    return SpanOrigin(
        row.scope_name,
        row.scope_version,
        _own(row.scope_attributes),
        row.schema_url,
        row.trace_state,
        row.ok,
        row.retyped,
    )


def _own(attributes: msgspec.Raw) -> msgspec.Raw | None:
    return attributes.copy() if len(attributes) else None


def _run(row: tuple[Any, ...]) -> Run:
    tags = row[_RUN_COLUMNS - 1]
    run = Run(*row[: _RUN_COLUMNS - 1])
    if tags is None:
        return run
    return msgspec.structs.replace(run, tags=tuple(msgspec.json.decode(tags, type=dict[str, str]).items()))


def _span(run: Run, row: tuple[Any, ...]) -> Span:
    span_id, parent_id, kind, name, start_ns, end_ns, status, given, given_type, result, result_type = row[
        :11
    ]
    metadata, tags = row[11:13]
    error_type, message, traceback, chunks, first_chunk_ns = row[18:23]
    attributes, events, links, span_kind, status_message, dropped = row[23:29]
    origin, *costs = row[33:]
    known_kind = StepKind(kind)
    counts = (0, 0, 0) if dropped is None else _dropped(dropped)
    return Span(
        run=run,
        kind=known_kind,
        name=name,
        span_id=span_id,
        parent_id=parent_id,
        start_ns=start_ns,
        end_ns=end_ns,
        status=Status(status),
        input=_captured(given, given_type),
        output=_captured(result, result_type),
        metadata=None if metadata is None else msgspec.Raw(metadata.encode()),
        tags=() if tags is None else tuple(msgspec.json.decode(tags)),
        usage=None if row[13] is None else TokenUsage(*row[13:18], *(each or 0 for each in row[29:33])),
        error=None if error_type is None else ErrorDetails(error_type, message, traceback),
        chunks=chunks,
        first_chunk_ns=first_chunk_ns,
        attributes=None if attributes is None else msgspec.Raw(attributes.encode()),
        events=() if events is None else _events(events),
        links=() if links is None else _links(links),
        span_kind=known_kind.span_kind if span_kind is None else SpanKind(span_kind),
        status_message=status_message,
        dropped_attributes_count=counts[0],
        dropped_events_count=counts[1],
        dropped_links_count=counts[2],
        origin=None if origin is None else _origin(origin),
        cost=None if costs[0] is None else TokenCost(*costs),
    )


def _captured(value: str | None, kind: str | None) -> Captured:
    return msgspec.Raw(value.encode()) if value is not None and kind == "json" else value


def _enclosing(spans: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """
    Return the parent of each span of one run: None if it is not a span of the run, or to break a cycle.

    Args:
        spans: (span_id, parent_id) by start time. The first span of a cycle gets None.
    """
    parents = dict(spans)
    order = {span_id: index for index, span_id in enumerate(parents)}
    parents = {span_id: parent if parent in order else None for span_id, parent in parents.items()}
    settled: set[str] = set()
    for span_id in order:
        path: list[str] = []
        seen: set[str] = set()
        above: str | None = span_id
        while above is not None and above not in settled:
            if above in seen:
                parents[min(path[path.index(above) :], key=order.__getitem__)] = None
                break
            path.append(above)
            seen.add(above)
            above = parents[above]
        settled |= seen
    return parents


def _depth(spans: Iterable[tuple[str, str | None]]) -> int:
    """Return how deep the spans of one run are nested, as `counts` defines it."""
    parents = _enclosing(spans)
    depths: dict[str, int] = {}
    for span_id in parents:
        path: list[str] = []
        above: str | None = span_id
        while above is not None and above not in depths:
            path.append(above)
            above = parents[above]
        depth = 0 if above is None else depths[above]
        depths.update(zip(reversed(path), count(depth + 1), strict=False))
    return max(depths.values(), default=0)
