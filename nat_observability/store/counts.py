"""How much a store holds: from its counters, or from the spans of some runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from nat_observability.events import Status, StepKind
from nat_observability.store.nesting import depth_of
from nat_observability.store.query import ReadConnection
from nat_observability.store.schema import RUNNING

Counts = dict[str, int | dict[str, int]]

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
_BY_START = "spans.start_ns, spans.end_ns DESC, spans.span_id"


def counts_of_all(query: ReadConnection) -> Counts:
    """Return the counts of a whole store of version 2, from its counters."""
    columns = ", ".join(f"CAST({each} AS INTEGER)" for each in ("span_count", "incomplete_count", *_TOKENS))
    kinds = {
        kind: counts
        for kind, *counts in query.rows(
            f"SELECT kind, {columns} FROM kinds WHERE span_count > 0 ORDER BY kind"
        )
    }
    runs = dict(query.rows("SELECT status, count(*) FROM runs GROUP BY status"))
    ((deepest,),) = query.rows("SELECT max(depth) FROM runs")
    unknown = query.rows("SELECT run_id FROM runs WHERE depth IS NULL")
    depths = [deepest or 0, *_depths(query, unknown)]
    tokens = kinds.get(StepKind.LLM.value, (0,) * 7)[2:]
    return _counted(
        runs,
        {kind: counts[0] for kind, counts in kinds.items()},
        sum(counts[1] for counts in kinds.values()),
        max(depths),
        tokens,
    )


def counts_of(query: ReadConnection, run_ids: Collection[str] | None) -> Counts:
    """Return the counts of these runs, or of all, from their spans."""
    chosen = "" if run_ids is None else "AND run_id IN (SELECT value FROM json_each(:run_ids))"
    ids = {"run_ids": msgspec.json.encode(list(run_ids or ())).decode()}
    rows = query.rows
    finished = f"status <> '{RUNNING}' {chosen}"
    runs = dict(rows(f"SELECT status, count(*) FROM runs WHERE 1 {chosen} GROUP BY status", ids))
    kinds = dict(rows(f"SELECT kind, count(*) FROM spans WHERE {finished} GROUP BY kind ORDER BY kind", ids))
    ((unpaired,),) = rows(
        f"SELECT count(*) FROM spans WHERE status = :status {chosen}",
        {**ids, "status": Status.INCOMPLETE.value},
    )
    sums = ", ".join(f"coalesce(sum({column}), 0)" for column in _TOKENS)
    (tokens,) = rows(
        f"SELECT {sums} FROM spans WHERE kind = :kind AND {finished}", {**ids, "kind": StepKind.LLM.value}
    )
    depths = _depths(query, rows(f"SELECT run_id FROM runs WHERE 1 {chosen}", ids))
    return _counted(runs, kinds, unpaired, max(depths, default=0), tokens)


def _depths(query: ReadConnection, run_ids: list[tuple[str]]) -> Iterator[int]:
    nested = f"SELECT span_id, parent_id FROM spans WHERE run_id = ? AND status <> '{RUNNING}' ORDER BY {_BY_START}"
    for run in run_ids:
        yield depth_of(query.rows(nested, run))


def _counted(
    runs: dict[str, int], kinds: dict[str, int], unpaired: int, depth: int, tokens: Collection[int]
) -> Counts:
    spans = sum(kinds.values())
    return {
        "runs": sum(runs.values()),
        "runs_ok": runs.get("ok", 0),
        "runs_failed": runs.get("error", 0),
        "spans": spans,
        "spans_paired": spans - unpaired,
        "spans_unpaired": unpaired,
        "spans_by_category": kinds,
        "max_depth": depth,
        "llm_calls": kinds.get(StepKind.LLM.value, 0),
        "token_usage_of_llm_ends": dict(zip(_TOKENS, tokens, strict=True)),
    }
