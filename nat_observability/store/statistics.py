"""Durations, errors, tokens and costs by name, kind, model or workflow, from the newest runs back, within a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from nat_observability.errors import SinkError
from nat_observability.store.query import ReadConnection, is_out_of_time
from nat_observability.store.records import RunFilter, RunKey, Statistics, StatisticsRow, StoredRun
from nat_observability.store.schema import RUNNING
from nat_observability.store.selection import NextPage
from nat_observability.system.clock import monotonic

_PAGE = 500  # runs
_MOST_KEYS = 10_000
_LONGEST_KEY = 200  # characters
_LONGEST_NS = 2**63 - 1  # of a run that another program has written
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_MODELS = ("LLM", "EMBEDDING", "RERANKER")
_SUMS = ("AGENT", "CHAIN", "WORKFLOW")  # whose costs repeat those of the steps inside


class _Group:
    __slots__ = ("completion_tokens", "cost", "durations", "errors", "prompt_tokens", "total_tokens")

    def __init__(self) -> None:
        self.durations = array("q")
        self.errors = self.prompt_tokens = self.completion_tokens = self.total_tokens = 0
        self.cost: float | None = None

    def add(
        self,
        duration_ns: int,
        *,
        failed: bool,
        tokens: tuple[int | None, int | None, int | None],
        cost: float | None,
    ) -> None:
        self.durations.append(min(max(0, duration_ns), _LONGEST_NS))
        self.errors += failed
        self.prompt_tokens += tokens[0] or 0
        self.completion_tokens += tokens[1] or 0
        self.total_tokens += tokens[2] or 0
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

    def row(self, key: str) -> StatisticsRow:
        ordered = sorted(self.durations)
        p50, p95, p99 = (ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99))
        return StatisticsRow(
            key,
            len(ordered),
            self.errors,
            p50,
            p95,
            p99,
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.cost,
        )


class _Pages:
    """The wanted runs, a page at a time, until the time runs out. Iterating ends then, and `complete` is False."""

    def __init__(self, next_page: NextPage, wanted: RunFilter, seconds: float) -> None:
        self._next_page, self._wanted = next_page, wanted
        self._until = monotonic() + seconds
        self.runs = 0
        self.complete = True
        self.scanned: RunKey | None = None

    def __iter__(self) -> Iterator[list[StoredRun]]:
        while True:
            if monotonic() >= self._until:
                self.complete = False
                return
            page = self._next_page(_PAGE, self._wanted, self.scanned)
            yield page
            self.runs += len(page)
            if page:
                self.scanned = RunKey(page[-1].start_ns, page[-1].run.run_id)
            if len(page) < _PAGE:
                return

    def result(self, groups: dict[str, _Group], limit: int) -> Statistics:
        largest = sorted(groups.items(), key=lambda each: (-len(each[1].durations), each[0]))
        return Statistics(
            [group.row(key) for key, group in largest[:limit]],
            self.runs,
            self.complete,
            self.scanned.start_ns if self.scanned is not None and not self.complete else None,
            max(0, len(groups) - limit),
        )


def step_statistics(
    next_page: NextPage, query: ReadConnection, by: str, wanted: RunFilter, limit: int, seconds: float
) -> Statistics:
    """As `Store.statistics`, by a property of steps."""
    key = {"kind": "kind", "name": f"substr(name, 1, {_LONGEST_KEY})", "model": _model(query)}[by]
    cost = "NULL" if query.version == 1 else "cost"
    models = ", ".join(f"'{kind}'" for kind in _MODELS)
    chosen = f"AND kind IN ({models})" if by == "model" else ""
    tokens = ", ".join(f"CAST({each} AS INTEGER)" for each in _TOKENS)
    # Another program may have put anything into any column.
    select = (
        f"SELECT CAST({key} AS TEXT), kind, CAST(end_ns - start_ns AS INTEGER), status, {tokens}, CAST({cost} AS REAL) "
        f"FROM spans WHERE run_id IN (SELECT value FROM json_each(?)) AND status <> '{RUNNING}' {chosen}"
    )
    groups: dict[str, _Group] = {}
    pages = _Pages(next_page, wanted, seconds)

    def add(page: list[StoredRun]) -> None:
        ids = msgspec.json.encode([run.run.run_id for run in page]).decode()
        for name, kind, duration_ns, status, *tokens, amount in query.rows(select, (ids,)):
            group = _group(groups, name)
            group.add(
                duration_ns,
                failed=status != "ok",
                tokens=tuple(tokens) if kind == "LLM" else (None, None, None),
                cost=None if kind in _SUMS else amount,
            )

    _run_through(query, pages, add, seconds)
    return pages.result(groups, limit)


def run_statistics(
    next_page: NextPage, query: ReadConnection, by: str, wanted: RunFilter, limit: int, seconds: float
) -> Statistics:
    """As `Store.statistics`, by the workflow of runs; what has none counts by its name."""
    groups: dict[str, _Group] = {}
    pages = _Pages(next_page, wanted, seconds)

    def add(page: list[StoredRun]) -> None:
        for run in page:
            if run.status == "open":
                continue
            counters = run.counters
            tokens = (
                (None, None, None)
                if counters is None
                else (counters.prompt_tokens, counters.completion_tokens, counters.total_tokens)
            )
            name = run.run.workflow_name or run.name or ""
            _group(groups, name[:_LONGEST_KEY]).add(
                run.end_ns - run.start_ns,
                failed=run.status == "error",
                tokens=tokens,
                cost=None if counters is None else counters.cost,
            )

    _run_through(query, pages, add, seconds)
    return pages.result(groups, limit)


def _run_through(query: ReadConnection, pages: _Pages, add: Any, seconds: float) -> None:
    try:
        with query.limited(seconds):
            for page in pages:
                add(page)
    except SinkError as error:
        if not is_out_of_time(error):
            raise
        pages.complete = False


def _group(groups: dict[str, _Group], key: str) -> _Group:
    if key not in groups and len(groups) >= _MOST_KEYS:
        key = "(others)"
    return groups.setdefault(key, _Group())


def _model(query: ReadConnection) -> str:
    if "attributes" in query.lacking:
        return f"substr(name, 1, {_LONGEST_KEY})"
    names = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
    found = ", ".join(f"json_extract(attributes, '$.\"{name}\"')" for name in names)
    guarded = f"CASE WHEN json_valid(attributes) THEN coalesce({found}) END"
    return f"substr(coalesce({guarded}, name), 1, {_LONGEST_KEY})"
