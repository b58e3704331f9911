"""How a batch of spans gets into the store: rows of spans, and what they add to their runs, in either version."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.store.nesting import depth_of
from nat_observability.store.schema import RUNNING, SPAN_COLUMNS

_COLUMNS = len(SPAN_COLUMNS.split(", "))
_ADD_SPAN_1 = f"INSERT OR REPLACE INTO spans ({SPAN_COLUMNS}) VALUES ({', '.join('?' * _COLUMNS)})"
_ADD_SPAN = f"INSERT INTO spans ({SPAN_COLUMNS}, cost) VALUES ({', '.join('?' * (_COLUMNS + 1))})"

# Each column gets the same value in any order of a run's batches, however often one is repeated.
# SQLite's min() of two values is NULL as soon as one of them is.
_MERGED = """
        conversation_id = coalesce(conversation_id, excluded.conversation_id),
        user_id = coalesce(user_id, excluded.user_id),
        workflow_name = coalesce(workflow_name, excluded.workflow_name),
        parent_span_id = coalesce(parent_span_id, excluded.parent_span_id),
        name = CASE
            WHEN excluded.name IS NULL OR (root_start_ns, name) <= (excluded.root_start_ns, excluded.name) THEN name
            ELSE excluded.name
        END,
        root_start_ns = coalesce(min(root_start_ns, excluded.root_start_ns), root_start_ns, excluded.root_start_ns),
        status = CASE
            WHEN 'error' IN (status, excluded.status) THEN 'error'
            WHEN 'ok' IN (status, excluded.status) THEN 'ok'
            ELSE 'open'
        END,
        start_ns = min(start_ns, excluded.start_ns),
        end_ns = max(end_ns, excluded.end_ns),
        error = coalesce(min(error, excluded.error), error, excluded.error),
        tags = coalesce(tags, excluded.tags)
"""
_RUN_COLUMNS = (
    "run_id, trace_id, conversation_id, user_id, workflow_name, parent_span_id, name, root_start_ns, status, start_ns, "
    "end_ns, error, tags"
)
_MERGE_RUN_1 = (
    f"INSERT INTO runs ({_RUN_COLUMNS}) VALUES ({', '.join('?' * 13)}) "
    f"ON CONFLICT (run_id) DO UPDATE SET {_MERGED}"
)
# The depth of a run that comes in one batch is known; that of another is looked up.
_MERGE_RUN = (
    f"INSERT INTO runs ({_RUN_COLUMNS}, span_count, error_count, incomplete_count, llm_calls, tool_calls, "
    "prompt_tokens, completion_tokens, total_tokens, cost, depth, process_id) "
    f"VALUES ({', '.join('?' * 24)}) ON CONFLICT (run_id) DO UPDATE SET {_MERGED}, "
    "span_count = span_count + excluded.span_count, error_count = error_count + excluded.error_count, "
    "incomplete_count = incomplete_count + excluded.incomplete_count, llm_calls = llm_calls + excluded.llm_calls, "
    "tool_calls = tool_calls + excluded.tool_calls, prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
    "completion_tokens = completion_tokens + excluded.completion_tokens, "
    "total_tokens = total_tokens + excluded.total_tokens, "
    "cost = coalesce(cost + excluded.cost, cost, excluded.cost), depth = NULL, "
    "process_id = coalesce(excluded.process_id, process_id)"
)
_COUNT_KIND = """
    INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind) DO UPDATE SET
        span_count = span_count + excluded.span_count, error_count = error_count + excluded.error_count,
        incomplete_count = incomplete_count + excluded.incomplete_count,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
        total_tokens = total_tokens + excluded.total_tokens
"""
_ADD_TAG = (
    "INSERT INTO run_tags (run_id, name, value, start_ns) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (run_id, name) DO UPDATE SET start_ns = min(start_ns, excluded.start_ns)"
)
_ADD_LEDGER = (
    "INSERT OR REPLACE INTO ledgers (run_id, exporter, accepted, delivered, failed, pending, dropped, at_ns) "
    "SELECT run_id, ?, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ?"
)
_NESTED = (
    f"SELECT span_id, parent_id FROM spans WHERE run_id = ? AND status <> '{RUNNING}' "
    "ORDER BY start_ns, end_ns DESC, span_id"
)
_KNOWN = "SELECT run_id FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
_AGAIN = "SELECT id FROM spans WHERE run_id = ? AND span_id IN (SELECT value FROM json_each(?))"
_DEEPEST = 5_000  # spans of a run whose depth is looked up at each batch that adds to it

# As plain strings: sqlite3 asks its adapters about every value of a subclass.
_KINDS = {kind: kind.value for kind in StepKind}
_STATUSES = {status: status.value for status in Status}
_OK, _ERROR, _INCOMPLETE = Status.OK, Status.ERROR, Status.INCOMPLETE
_LLM, _TOOL = StepKind.LLM, StepKind.TOOL
_SUMS = (StepKind.AGENT, StepKind.CHAIN, StepKind.WORKFLOW)
_NO_TOKENS = (None,) * 9
_NO_ERROR = _NO_COST = (None,) * 3
_MOST = 2**63 - 1
_COSTS = ("gen_ai.usage.cost", "llm.cost.total", "gen_ai.usage.total_cost")

Ledger = tuple[str, str, int, int, int, int, dict[str, int]]
"""Run id, exporter, accepted, delivered, failed, pending, and dropped by reason."""

_encode = msgspec.json.Encoder().encode
_astuple = msgspec.structs.astuple


class BatchRows:
    """
    The rows of one batch.

    Args:
        spans: Its spans.
        version: The store's.
        running: Whether they are steps that are still open.
        process_id: Of the process that reports them; only for those.
        again: Whether some of them are likely to be in the store already.
    """

    def __init__(
        self,
        spans: Iterable[Span],
        version: int,
        *,
        running: bool = False,
        process_id: str | None = None,
        again: bool = False,
    ) -> None:
        self._again = again
        self._version = version
        self._process_id = process_id
        self._runs: dict[str, _RunRow] = {}
        self._spans: list[tuple[object, ...]] = []
        spans = list(spans)
        runs, rows, run_id, row = self._runs, self._spans, None, None
        for span in spans:
            # Spans of one run come together, mostly.
            if row is None or span.run.run_id != run_id:
                run_id = span.run.run_id
                row = runs.get(run_id)
                if row is None:
                    row = runs[run_id] = _RunRow(span.run, span)
            cost = None if version == 1 or (span.attributes is None and span.cost is None) else _cost_of(span)
            if running:
                row.see(span)
            else:
                row.add(span, cost)
            row.parents[span.span_id] = span.parent_id
            rows.append(_span_row(span, RUNNING if running else _STATUSES[span.status], version, cost))
        if version > 1 and sum(len(each.parents) for each in runs.values()) < len(spans):
            self._keep_last(spans, counted=not running)

    def _keep_last(self, spans: list[Span], *, counted: bool) -> None:
        """Leave out, and count no more, what comes again in the batch."""
        last = {(row[0], row[1]): (span, row) for span, row in zip(spans, self._spans, strict=True)}
        self._spans = [row for _, row in last.values()]
        for each in self._runs.values():
            each.reset()
        if counted:
            for span, _ in last.values():
                self._runs[span.run.run_id].count(span)

    def write(self, connection: sqlite3.Connection) -> None:
        """Store them, in a transaction of the caller's that holds nothing else: it may begin anew."""
        if self._version == 1:
            connection.executemany(_ADD_SPAN_1, self._spans)
            connection.executemany(_MERGE_RUN_1, [row.values() for row in self._runs.values()])
            return
        if not self._again and not self._write_new(connection):
            self._again = True
        if self._again:
            # A trigger counts down in the runs what is replaced, after what the batch brings has been counted up.
            replaced = self._replaced(connection)
            self._write_runs(connection)
            connection.executemany("DELETE FROM spans WHERE id = ?", replaced)
            connection.executemany(_ADD_SPAN, self._spans)
        self._look_up_depths(connection)

    def _write_new(self, connection: sqlite3.Connection) -> bool:
        """Store spans none of which is there yet, as nearly always; return whether that was so. Else do nothing."""
        # Not INSERT OR REPLACE: with triggers it takes half as long again, for every span. Nor within a savepoint, for
        # which SQLite copies every page that it changes.
        try:
            self._write_runs(connection)
            connection.executemany(_ADD_SPAN, self._spans)
        except sqlite3.IntegrityError:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            return False
        return True

    def _write_runs(self, connection: sqlite3.Connection) -> None:
        connection.executemany(
            _MERGE_RUN, [(*row.values(), *row.counters(), self._process_id) for row in self._runs.values()]
        )
        # Not by a trigger, which would cost every run, with tags or without, more than all its counters.
        tags = [
            (row.run.run_id, name, value, row.start_ns)
            for row in self._runs.values()
            for name, value in row.run.tags
        ]
        if tags:
            connection.executemany(_ADD_TAG, tags)
        kinds: defaultdict[StepKind, list[Span]] = defaultdict(list)
        for row in self._runs.values():
            for span in row.spans:
                kinds[span.kind].append(span)
        if kinds:
            connection.executemany(_COUNT_KIND, [_kind_row(*each) for each in kinds.items()])

    def _replaced(self, connection: sqlite3.Connection) -> list[tuple[int]]:
        """Return the ids of the spans that come again. Only a run that the store knows can have any."""
        replaced: list[tuple[int]] = []
        for (run_id,) in connection.execute(_KNOWN, (_json(list(self._runs)),)).fetchall():
            replaced += connection.execute(
                _AGAIN, (run_id, _json(list(self._runs[run_id].parents)))
            ).fetchall()
        return replaced

    def _look_up_depths(self, connection: sqlite3.Connection) -> None:
        unknown = connection.execute(
            "SELECT run_id FROM runs WHERE run_id IN (SELECT value FROM json_each(?)) "
            "AND depth IS NULL AND status <> 'open' AND span_count <= ?",
            (_json(list(self._runs)), _DEEPEST),
        ).fetchall()
        for run in unknown:
            spans = connection.execute(_NESTED, run).fetchall()
            if (depth := _depth(dict(spans))) is None:
                depth = depth_of(spans)
            connection.execute("UPDATE runs SET depth = ? WHERE run_id = ?", (depth, *run))


def write_ledgers(connection: sqlite3.Connection, ledgers: Iterable[Ledger]) -> None:
    """Store ledgers of runs that the store knows, within a transaction of the caller's, in a store of version 2."""
    now_ns = time.time_ns()
    connection.executemany(
        _ADD_LEDGER,
        [
            (*counts, str(_encode(dropped), "utf-8") if dropped else None, now_ns, run_id)
            for run_id, *counts, dropped in ledgers
        ],
    )


def cost_of(attributes: msgspec.Raw) -> float | None:
    """Return the cost that a step's attributes name, None if they name none that is a number."""
    # A look at the bytes first: decoding takes twenty times as long, and few steps have a cost.
    if b"cost" not in bytes(attributes):
        return None
    try:
        decoded = msgspec.json.decode(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(decoded, dict):
        return None
    for name in _COSTS:
        value = decoded.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18:
            return float(value)
    return None


def _cost_of(span: Span) -> float | None:
    if span.cost is not None:
        return span.cost.total
    return None if span.attributes is None else cost_of(span.attributes)


def _span_row(span: Span, status: str, version: int, cost: float | None) -> tuple[object, ...]:
    given, result, usage, error = span.input, span.output, span.usage, span.error
    dropped = span.dropped_attributes_count or span.dropped_events_count or span.dropped_links_count
    tokens = _NO_TOKENS if usage is None else _astuple(usage)
    row = (
        span.run.run_id,
        span.span_id,
        span.parent_id,
        _KINDS[span.kind],
        span.name,
        span.start_ns,
        span.end_ns,
        status,
        str(bytes(given), "utf-8", "replace") if isinstance(given, msgspec.Raw) else given,
        None if given is None else "text" if isinstance(given, str) else "json",
        str(bytes(result), "utf-8", "replace") if isinstance(result, msgspec.Raw) else result,
        None if result is None else "text" if isinstance(result, str) else "json",
        None if span.metadata is None else str(bytes(span.metadata), "utf-8", "replace"),
        str(_encode(span.tags), "utf-8") if span.tags else None,
        *tokens[:5],
        *(_NO_ERROR if error is None else (error.type, error.message, error.traceback)),
        span.chunks,
        span.first_chunk_ns,
        None if span.attributes is None else str(bytes(span.attributes), "utf-8", "replace"),
        str(_encode(span.events), "utf-8") if span.events else None,
        str(_encode(span.links), "utf-8") if span.links else None,
        None if span.span_kind is span.kind.span_kind else span.span_kind.value,
        span.status_message,
        _dropped(span) if dropped else None,
        *tokens[5:],
        None if span.origin is None else str(_encode(span.origin), "utf-8"),
        *(_NO_COST if span.cost is None else _astuple(span.cost)),
    )
    return row if version == 1 else (*row, cost)


def _dropped(span: Span) -> str:
    counts = span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count
    return str(_encode(counts), "utf-8")


class _RunRow:
    """What the spans of one batch say about one run, merged by the rules of `_MERGED`."""

    __slots__ = ("costs", "end_ns", "error", "parents", "root", "run", "spans", "start_ns", "status")

    def __init__(self, run: Run, first: Span) -> None:
        self.run, self.start_ns, self.end_ns = run, first.start_ns, first.end_ns
        self.root: tuple[int, str] | tuple[None, None] = None, None
        self.status = "open"
        self.error: str | None = None
        self.parents: dict[str, str | None] = {}
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self.spans: list[Span] = []
        self.costs: list[float] = []

    def see(self, span: Span) -> None:
        """Take what any span says of its run's times."""
        if span.start_ns < self.start_ns:
            self.start_ns = span.start_ns
        if span.end_ns > self.end_ns:
            self.end_ns = span.end_ns

    def add(self, span: Span, cost: float | None) -> None:
        """Take what a finished span says of its run."""
        self.see(span)
        if span.parent_id is None or span.parent_id == self.run.parent_span_id:
            self._add_root(span)
        self.spans.append(span)
        if cost is not None:
            self._add_cost(span, cost)

    def count(self, span: Span) -> None:
        """Take a finished span into the counters alone."""
        self.spans.append(span)
        if (cost := _cost_of(span)) is not None:
            self._add_cost(span, cost)

    def _add_cost(self, span: Span, cost: float) -> None:
        if span.kind not in _SUMS:
            self.costs.append(cost)

    def _add_root(self, span: Span) -> None:
        root = span.start_ns, span.name
        self.root = root if self.root[0] is None else min(self.root, root)
        if span.status is _OK:
            if self.status == "open":
                self.status = "ok"
            return
        self.status = "error"
        error = (
            f"{span.error.type}: {span.error.message}" if span.error else f"{span.status.value}: {span.name}"
        )
        self.error = error if self.error is None else min(self.error, error)

    def values(self) -> tuple[object, ...]:
        run, (root_start_ns, name) = self.run, self.root
        return (
            run.run_id,
            run.trace_id,
            run.conversation_id,
            run.user_id,
            run.workflow_name,
            run.parent_span_id,
            name,
            root_start_ns,
            self.status,
            self.start_ns,
            self.end_ns,
            self.error,
            str(_encode(dict(run.tags)), "utf-8") if run.tags else None,
        )

    def counters(self) -> tuple[object, ...]:
        spans = self.spans
        calls = [span for span in spans if span.kind is _LLM]
        usages = [span.usage for span in calls if span.usage is not None]
        return (
            len(spans),
            *_failures(spans),
            len(calls),
            len([span for span in spans if span.kind is _TOOL]),
            _sum([each.prompt_tokens for each in usages]),
            _sum([each.completion_tokens for each in usages]),
            _sum([each.total_tokens for each in usages]),
            sum(self.costs) if self.costs else None,
            None if self.status == "open" else _depth(self.parents),
        )


def _kind_row(kind: StepKind, spans: Sequence[Span]) -> tuple[object, ...]:
    """Return what spans of one kind add to its counters."""
    usages = [span.usage for span in spans if span.usage is not None]
    return (
        _KINDS[kind],
        len(spans),
        *_failures(spans),
        _sum([each.prompt_tokens for each in usages]),
        _sum([each.completion_tokens for each in usages]),
        _sum([each.cached_tokens for each in usages]),
        _sum([each.reasoning_tokens for each in usages]),
        _sum([each.total_tokens for each in usages]),
    )


def _failures(spans: Sequence[Span]) -> tuple[int, int]:
    """Return how many spans ended with an error, and how many without an end."""
    statuses = [span.status for span in spans if span.status is not _OK]
    return statuses.count(_ERROR), statuses.count(_INCOMPLETE)


def _depth(parents: Mapping[str, str | None]) -> int | None:
    """Return how deep spans are nested; None if they form a cycle."""
    depths: dict[str, int] = {}
    for span_id in parents:
        path: list[str] = []
        above: str | None = span_id
        while above is not None and above in parents and above not in depths:
            path.append(above)
            if len(path) > len(parents):
                return None
            above = parents[above]
        depth = 0 if above is None else depths.get(above, 0)
        for each in reversed(path):
            depth += 1
            depths[each] = depth
    return max(depths.values(), default=0)


def _json(texts: list[str]) -> str:
    return str(_encode(texts), "utf-8")


def _sum(counts: Sequence[int]) -> int:
    return min(sum(counts), _MOST)
