"""Store: read-only access to the embedded store that SqliteSink writes."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

import msgspec

from nat_observability.errors import SinkError
from nat_observability.events import Run, Span
from nat_observability.store.counts import counts_of, counts_of_all
from nat_observability.store.nesting import enclosing
from nat_observability.store.query import ReadConnection
from nat_observability.store.records import (
    ContentPiece,
    Deletion,
    FoundRuns,
    LightSpan,
    RunFilter,
    RunKey,
    RunStatus,
    SpanChange,
    SpanNode,
    Statistics,
    StatisticsKey,
    StoredLedger,
    StoredProcess,
    StoredRun,
)
from nat_observability.store.rows import (
    RUN_COLUMNS,
    dropped_of,
    number_of,
    piece_of,
    run_of,
    span_of,
    stored_run_of,
    text_of,
)
from nat_observability.store.schema import RUNNING, SPAN_COLUMNS
from nat_observability.store.search import search_runs
from nat_observability.store.selection import SILENT_NS, select_runs
from nat_observability.store.statistics import run_statistics, step_statistics

_SPAN = SPAN_COLUMNS.split(", ")[1:]
_BY_START = "spans.start_ns, spans.end_ns DESC, spans.span_id"
_RUN = (
    "runs.run_id, runs.trace_id, runs.conversation_id, runs.user_id, runs.workflow_name, runs.parent_span_id"
)
_COUNTERS = (
    "runs.span_count, runs.error_count, runs.incomplete_count, runs.llm_calls, runs.tool_calls, "
    "runs.prompt_tokens, runs.completion_tokens, runs.total_tokens, runs.cost"
)
_LIGHT = (
    "span_id, parent_id, kind, substr(name, 1, 200), start_ns, end_ns, status, total_tokens, {cost}, chunks, "
    "first_chunk_ns, substr(error_type, 1, 200)"
)
_PARTS = (
    "name",
    "input",
    "output",
    "metadata",
    "attributes",
    "events",
    "links",
    "tags",
    "error_message",
    "error_traceback",
)


class Store:
    """
    Reads a store, as a context manager, in one thread at a time.

    It never writes to the file (SQLite may leave an empty log and its index beside it), and sees what other processes
    write while it is open. It holds no transaction between calls. Entering and each method raise a SinkError if the
    file is missing, damaged, another program's or newer than this package, and if a call takes longer than
    `time_limit`.

    Args:
        path: The store.
        time_limit: Seconds for each call.

    Attributes:
        version: The version of the store's schema, while it is open. What version 1 does not have is empty or None.
    """

    def __init__(self, path: str | os.PathLike[str], *, time_limit: float = 60.0) -> None:
        self.path = os.path.abspath(path)
        self.time_limit = time_limit
        self.version = 0
        self._open: ReadConnection | None = None

    def __enter__(self) -> Self:
        self._open = ReadConnection(self.path, self.time_limit)
        self.version = self._open.version
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def is_replaced(self) -> bool:
        """Whether another file, or none, is at the path by now, so that what is written there does not show here."""
        return self._query.is_replaced

    @property
    def store_id(self) -> str | None:
        """32 hex digits that the store got when it was made; None in version 1."""
        if self.version == 1:
            return None
        row = self._query.first("SELECT value FROM store WHERE name = 'store_id'")
        return None if row is None else str(row[0])

    # Runs

    def runs(
        self,
        limit: int = 50,
        status: RunStatus | None = None,
        conversation_id: str | None = None,
        id_prefix: str = "",
        *,
        wanted: RunFilter | None = None,
        before: RunKey | None = None,
    ) -> list[StoredRun]:
        """
        Return the newest runs, newest first.

        Args:
            limit: How many at most.
            status: Only runs with this status; this and the next two are added to `wanted`.
            conversation_id: Only runs of this conversation.
            id_prefix: Only runs whose id begins with it.
            wanted: Only these.
            before: Only those that come after this one in the list: the last one of the page before.
        """
        wanted = wanted or RunFilter()
        given = {"status": status, "conversation_id": conversation_id, "id_prefix": id_prefix or None}
        wanted = msgspec.structs.replace(
            wanted, **{key: value for key, value in given.items() if value is not None}
        )
        query, values = select_runs(
            self._run_columns(),
            wanted,
            limit=limit,
            before=before,
            version=self.version,
            tagged=self._query.has_tags,
        )
        return self._stored(self._query.rows(query, values))

    def run(self, run_id: str) -> StoredRun | None:
        """Return a run, None if it is not known."""
        found = self._stored(
            self._query.rows(f"SELECT {self._run_columns()} FROM runs WHERE run_id = ?", (run_id,))
        )
        return found[0] if found else None

    def runs_of_trace(self, trace_id: str, limit: int = 1000) -> list[StoredRun]:
        """Return the runs of a trace, oldest first."""
        return self._stored(
            self._query.rows(
                f"SELECT {self._run_columns()} FROM runs WHERE trace_id = ? ORDER BY start_ns, run_id LIMIT ?",
                (trace_id, limit),
            )
        )

    def trace_ids(self, prefix: str, limit: int = 5) -> list[str]:
        """Return the trace ids that begin with a text, in alphabetical order."""
        rows = self._query.rows(
            "SELECT DISTINCT trace_id FROM runs WHERE trace_id >= ? AND trace_id < ? ORDER BY trace_id LIMIT ?",
            (prefix, f"{prefix}\U0010ffff", limit),
        )
        return [trace_id for (trace_id,) in rows]

    def search(
        self, text: str, limit: int = 50, *, wanted: RunFilter | None = None, seconds: float = 5.0
    ) -> FoundRuns:
        """
        Return the newest runs in which a text occurs: in a name, an id, content, an attribute, an event or an error.

        The case of ASCII letters makes no difference. It reads the content of one run after the other, and ends after
        `seconds`; what it has found by then is returned.
        """
        return search_runs(self._page, self._query, text, limit, wanted or RunFilter(), seconds)

    # Spans

    def spans(self, run_id: str, *, running: bool = False) -> list[Span]:
        """
        Return the spans of a run by start time, as they were recorded; none if the run is not known.

        With `running`, also the steps that are still open, as INCOMPLETE spans that end when they were last seen.
        """
        return [span for span, is_running in self._spans(run_id) if running or not is_running]

    def tree(self, run_id: str) -> list[SpanNode]:
        """
        Return the root spans of a run by start time, each with what it encloses; none if the run is not known.

        A span whose parent is not in the store is a root. If spans form a cycle, the first of them is a root. Steps
        that are still open are there too.
        """
        found = self._spans(run_id)
        died = self._has_died(run_id, found)
        nodes = {span.span_id: SpanNode(span, [], running, died and running) for span, running in found}
        parents = enclosing((span_id, node.span.parent_id) for span_id, node in nodes.items())
        roots: list[SpanNode] = []
        for span_id, parent_id in parents.items():
            siblings = roots if parent_id is None else nodes[parent_id].children
            siblings.append(nodes[span_id])
        return roots

    def span(self, run_id: str, span_id: str) -> SpanNode | None:
        """Return one span, without what it encloses; None if it is not known."""
        found = self._spans(run_id, span_id)
        return SpanNode(found[0][0], [], found[0][1], self._has_died(run_id, found)) if found else None

    def _has_died(self, run_id: str, spans: list[tuple[Span, bool]]) -> bool:
        """Whether some of these spans of a run are open, and their process is gone."""
        run = self.run(run_id) if any(running for _, running in spans) else None
        return run is not None and run.activity == "died"

    def light_spans(self, run_id: str, after: int = 0, limit: int = 100_000) -> list[LightSpan]:
        """Return spans of a run without their content, by `id`; those with an id above `after`."""
        key, cost = ("rowid", "NULL") if self.version == 1 else ("id", "cost")
        rows = self._query.rows(
            f"SELECT {key}, {_LIGHT.format(cost=cost)} FROM spans WHERE run_id = ? AND {key} > ? "
            f"ORDER BY {key} LIMIT ?",
            (run_id, after, limit),
        )
        return [LightSpan._make(row) for row in rows]

    def span_ids(self, run_id: str, prefix: str, limit: int = 5) -> list[str]:
        """Return the ids of a run's spans that begin with a text, in alphabetical order."""
        rows = self._query.rows(
            "SELECT span_id FROM spans WHERE run_id = ? AND span_id >= ? AND span_id < ? ORDER BY span_id LIMIT ?",
            (run_id, prefix, f"{prefix}\U0010ffff", limit),
        )
        return [span_id for (span_id,) in rows]

    def content(
        self, run_id: str, span_id: str, part: str, offset: int = 0, length: int = 65_536
    ) -> ContentPiece | None:
        """
        Return a piece of what a span holds; None if the span or that part of it does not exist.

        Args:
            run_id: The run's id.
            span_id: The span's id.
            part: name, input, output, metadata, attributes, events, links, tags, error_message or error_traceback.
            offset: Where the piece begins, in characters.
            length: How many characters it has at most.

        Raises:
            ValueError: `part` is none of these.
        """
        if part not in _PARTS:
            raise ValueError(f"part is one of {', '.join(_PARTS)}, not {part!r}.")
        column = "NULL" if part in self._query.lacking else part
        kind = f"{part}_type" if part in ("input", "output") else "NULL"
        row = self._query.first(
            f"SELECT {column}, {kind} FROM spans WHERE run_id = ? AND span_id = ?", (run_id, span_id)
        )
        return None if row is None or row[0] is None else piece_of(part, row[0], row[1], offset, length)

    # Changes, ledgers and processes

    @property
    def cursor(self) -> int:
        """The `id` of the newest change, 0 if there is none; in version 1 that of the newest span."""
        if self.version == 1:
            row = self._query.first("SELECT max(rowid) FROM spans")
        else:
            row = self._query.first("SELECT seq FROM sqlite_sequence WHERE name = 'spans'")
        return 0 if row is None or row[0] is None else int(row[0])

    def cursor_before(self, count: int, *, running: bool = False) -> int:
        """Return the cursor after which the newest spans come, `count` of them; with `running`, open steps are some."""
        key = "rowid" if self.version == 1 else "id"
        which = "" if running else f"WHERE status <> '{RUNNING}'"
        row = self._query.first(
            f"SELECT {key} FROM spans {which} ORDER BY {key} DESC LIMIT 1 OFFSET ?", (count,)
        )
        return 0 if row is None else int(row[0])

    def changes(self, after: int, limit: int = 10_000) -> list[SpanChange]:
        """
        Return the spans that were added or replaced after a cursor, the oldest change first.

        In a store of version 1 a span that was replaced may not be among them.
        """
        key = "rowid" if self.version == 1 else "id"
        rows = self._query.rows(
            f"SELECT {key}, run_id, span_id, status FROM spans WHERE {key} > ? ORDER BY {key} LIMIT ?",
            (after, limit),
        )
        return [SpanChange._make(row) for row in rows]

    def deletions(self, after: int = 0, limit: int = 10_000) -> list[Deletion]:
        """Return the runs that were deleted after a cursor, the first one first; the last 100,000 are known."""
        if self.version == 1:
            return []
        rows = self._query.rows(
            "SELECT id, run_id, at_ns FROM deletions WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [Deletion._make(row) for row in rows]

    def ledgers(self, run_id: str) -> dict[str, StoredLedger]:
        """Return what became of a run's items, by exporter; nothing before the run has ended, and in version 1."""
        if self.version == 1:
            return {}
        rows = self._query.rows(
            "SELECT exporter, accepted, delivered, failed, pending, dropped, at_ns FROM ledgers WHERE run_id = ? "
            "ORDER BY exporter",
            (run_id,),
        )
        ledgers = {}
        for name, *numbers, dropped, at_ns in rows:
            accepted, delivered, failed, pending = map(number_of, numbers)
            lost = dropped_of(dropped, max(0, accepted - delivered - failed - pending))
            ledgers[text_of(name) or ""] = StoredLedger(
                accepted, delivered, failed, pending, lost, number_of(at_ns)
            )
        return ledgers

    def processes(self) -> list[StoredProcess]:
        """Return the processes that have reported open steps, the newest first."""
        if self.version == 1:
            return []
        rows = self._query.rows(
            "SELECT process_id, pid, host, started_ns, heartbeat_ns, ended_ns FROM processes ORDER BY started_ns DESC"
        )
        return [StoredProcess(*row) for row in rows]

    # Figures

    def counts(self, run_ids: Collection[str] | None = None) -> dict[str, int | dict[str, int]]:
        """
        Return counts of what the store holds, in total or for the runs with these ids, from one snapshot.

        `spans_paired` are those that ended, `spans_unpaired` those that had not ended when their run did.
        `max_depth` counts a span whose parent is not in its run as 1. `token_usage_of_llm_ends` is the sum over
        the spans of kind LLM. Steps that are still open do not count.
        """
        with self._query.snapshot():
            if run_ids is None and self.version > 1:
                return counts_of_all(self._query)
            return counts_of(self._query, run_ids)

    def statistics(
        self,
        by: StatisticsKey = "name",
        *,
        wanted: RunFilter | None = None,
        limit: int = 100,
        seconds: float = 10.0,
    ) -> Statistics:
        """
        Return durations, errors, tokens and costs by key, of the runs that are wanted.

        By `name` and `kind` it is about steps, by `model` about calls of models, by `workflow` about runs. Runs are
        read newest first; after `seconds` the result is that of those read so far.
        """
        statistics = run_statistics if by == "workflow" else step_statistics
        return statistics(self._page, self._query, by, wanted or RunFilter(), limit, seconds)

    def problems(self, seconds: float = 30.0) -> list[str]:
        """
        Return what is wrong with the file and its indexes, as SQLite finds it; nothing if it is sound.

        Raises:
            SinkError: It took longer than `seconds`.
        """
        with self._query.limited(seconds):
            return [text for (text,) in self._query.rows("PRAGMA integrity_check(20)") if text != "ok"]

    @property
    def _query(self) -> ReadConnection:
        if self._open is None:
            raise SinkError(self.path, "is not open", "Use the store in a with statement.")
        return self._open

    def _page(self, limit: int, wanted: RunFilter, before: RunKey | None) -> list[StoredRun]:
        return self.runs(limit, wanted=wanted, before=before)

    def _run_columns(self) -> str:
        tags = "runs.tags" if self._query.has_tags else "NULL"
        rest = "runs.status, runs.start_ns, runs.end_ns, runs.error"
        if self.version == 1:
            return f"{_RUN}, {tags}, runs.name, {rest}"
        # A run that goes on has the name of its open root.
        root = (
            "SELECT spans.name FROM spans WHERE spans.run_id = runs.run_id AND spans.status = 'running' "
            "AND (spans.parent_id IS NULL OR spans.parent_id = runs.parent_span_id) ORDER BY spans.start_ns LIMIT 1"
        )
        beat = (
            "SELECT iif(ended_ns IS NULL, heartbeat_ns, 0) FROM processes "
            "WHERE processes.process_id = runs.process_id"
        )
        is_open = "runs.status = 'open' AND runs.process_id IS NOT NULL"
        return (
            f"{_RUN}, {tags}, CASE WHEN runs.name IS NULL AND {is_open} THEN ({root}) ELSE runs.name END, {rest}, "
            f"{_COUNTERS}, CASE WHEN {is_open} THEN coalesce(({beat}), 0) END"
        )

    def _stored(self, rows: list[Any]) -> list[StoredRun]:
        alive_ns = time.time_ns() - SILENT_NS
        return [stored_run_of(row, alive_ns) for row in rows]

    def _spans(self, run_id: str, span_id: str | None = None) -> list[tuple[Span, bool]]:
        tags = "runs.tags" if self._query.has_tags else "NULL"
        columns = ", ".join("NULL" if each in self._query.lacking else f"spans.{each}" for each in _SPAN)
        one = "" if span_id is None else "AND spans.span_id = ?"
        rows = self._query.rows(
            f"SELECT {_RUN}, {tags}, {columns} FROM spans JOIN runs USING (run_id) WHERE spans.run_id = ? {one} "
            f"ORDER BY {_BY_START}",
            (run_id,) if span_id is None else (run_id, span_id),
        )
        run: Run | None = run_of(rows[0]) if rows else None
        return [span_of(run, row[RUN_COLUMNS:]) for row in rows if run is not None]
