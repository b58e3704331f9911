"""SpanCounts: what the spans of whole runs add up to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import msgspec

from nat_observability.events import Item, Run, Span, Status, StepKind

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")


class RunCounts(msgspec.Struct, frozen=True):
    """
    Counts of the spans of runs, as `Store.counts` defines them.

    A span is paired if its END came, else unpaired. `max_depth` counts a span whose parent is not a span of its run as
    1.
    """

    runs: int
    runs_ok: int
    runs_failed: int
    spans: int
    spans_paired: int
    spans_unpaired: int
    spans_by_category: dict[str, int]
    max_depth: int
    llm_calls: int
    token_usage_of_llm_ends: dict[str, int]


class SpanCounts:
    """
    Counts spans as a sink of a `SpanExporter`, so that it sees what every exporter sees.

    Runs may be concurrent and in any order; a span that comes twice counts once. A run's spans are kept until `finish`
    is called for the run.
    """

    def __init__(self) -> None:
        # The delivery thread writes, the application's thread finishes.
        self._lock = threading.Lock()
        self._open: dict[str, dict[str, Span]] = {}
        self._runs: Counter[bool] = Counter()
        self._kinds: Counter[str] = Counter()
        self._unpaired = 0
        self._depth = 0
        self._tokens: Counter[str] = Counter()

    def take(self, batch: Sequence[Item]) -> None:
        """Count a batch of spans."""
        with self._lock:
            for span in batch:
                if isinstance(span, Span):
                    bare = msgspec.structs.replace(
                        span, input=None, output=None, metadata=None, attributes=None, events=(), links=()
                    )
                    self._open.setdefault(span.run.run_id, {})[span.span_id] = bare

    def finish(self, run: Run) -> bool:
        """Add up a run whose spans have all arrived; return whether it went well."""
        with self._lock:
            spans = self._open.pop(run.run_id, {})
            roots = [span for span in spans.values() if span.parent_id in (None, run.parent_span_id)]
            went_well = bool(roots) and all(span.status is Status.OK for span in roots)
            self._runs[went_well] += 1
            self._kinds.update(span.kind.value for span in spans.values())
            self._unpaired += sum(span.status is Status.INCOMPLETE for span in spans.values())
            by_start = sorted(spans.values(), key=lambda span: (span.start_ns, -span.end_ns, span.span_id))
            self._depth = max(self._depth, _depth(by_start))
            for span in spans.values():
                if span.kind is StepKind.LLM and span.usage is not None:
                    self._tokens.update(msgspec.structs.asdict(span.usage))
            return went_well

    def counts(self) -> RunCounts:
        """Return what the finished runs add up to."""
        with self._lock:
            spans = self._kinds.total()
            return RunCounts(
                runs=self._runs.total(),
                runs_ok=self._runs[True],
                runs_failed=self._runs[False],
                spans=spans,
                spans_paired=spans - self._unpaired,
                spans_unpaired=self._unpaired,
                spans_by_category=dict(sorted(self._kinds.items())),
                max_depth=self._depth,
                llm_calls=self._kinds[StepKind.LLM.value],
                token_usage_of_llm_ends={field: self._tokens[field] for field in _TOKENS},
            )


def _depth(spans: Sequence[Span]) -> int:
    """Return how deep the spans of one run are nested; the first span of a cycle counts as its root."""
    parents = {span.span_id: span.parent_id for span in spans}
    order = {span_id: number for number, span_id in enumerate(parents)}
    depths: dict[str, int] = {}
    for span_id in order:
        path: dict[str, None] = {}
        above: str | None = span_id
        while above is not None and above in parents and above not in depths:
            if above in path:
                members = list(path)
                top = min(members[members.index(above) :], key=order.__getitem__)
                parents[top] = None
                path.clear()
                above = span_id
            path[above] = None
            above = parents[above]
        depth = depths.get(above, 0) if above is not None else 0
        for below in reversed(path):
            depth += 1
            depths[below] = depth
    return max(depths.values(), default=0)
