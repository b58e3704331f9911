"""What a reader of the store gets: runs with their counters, ledgers, spans, changes; and what selects runs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from nat_observability.events import Run, Span

RunStatus = Literal["ok", "error", "open"]

RunActivity = Literal["running", "died"]

StatisticsKey = Literal["name", "kind", "model", "workflow"]


class RunCounters(msgspec.Struct, frozen=True):
    """
    How much the finished steps of a run are.

    Tokens are those of its model calls (kind LLM) alone: an agent's step may repeat the sum of what is inside it.
    `cost` is the sum of the costs that were recorded as attributes, without those of AGENT, CHAIN and WORKFLOW steps;
    None if none was. `incomplete_count` is of the steps that had not ended when their run did.
    """

    span_count: int
    error_count: int
    incomplete_count: int
    llm_calls: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float | None


class StoredRun(msgspec.Struct, frozen=True):
    """
    One run, as far as its spans have arrived.

    `name` is that of its first root span. `status` is 'open' until a root span has arrived, 'error' when one has
    failed or is incomplete, and else 'ok'. `error` is that of the failed root span. `counters` is None in a store of
    version 1.

    `activity` says of an open run whether its process still reports: 'running', or 'died' if it has ended or has been
    silent for 15 seconds. It is None if the run has finished, and if no step of it was open for half a second.
    """

    run: Run
    name: str | None
    status: RunStatus
    start_ns: int
    end_ns: int
    error: str | None
    counters: RunCounters | None = None
    activity: RunActivity | None = None


class RunKey(NamedTuple):
    """Where a page of runs ends, for the page after it."""

    start_ns: int
    run_id: str


class RunFilter(msgspec.Struct, frozen=True):
    """
    Which runs are wanted: those for which everything holds that is not None or empty.

    `name` is that of the run's first root span, and may have the wildcards `*` and `?`. `status` may be an activity
    too. `kind` selects runs with a finished or open step of that kind. `tags` are pairs of name and value. Times are
    nanoseconds since the epoch, of the run's start, `since_ns` inclusive and `until_ns` exclusive; durations are
    nanoseconds, both inclusive.
    """

    status: RunStatus | RunActivity | None = None
    name: str | None = None
    workflow_name: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None
    trace_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    kind: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    id_prefix: str = ""


class FoundRuns(msgspec.Struct, frozen=True):
    """
    Runs in which a text occurs, newest first.

    `complete` is False if the time ran out before every run was searched; `scanned_to_ns` is then the start of the last
    run that was.
    """

    runs: list[StoredRun]
    complete: bool
    scanned_to_ns: int | None = None


class SpanNode(msgspec.Struct, frozen=True):
    """
    A span and the spans that it encloses, sorted by start time.

    `running` if the step was open when last seen; `died` if, besides, its process has ended or no longer reports.
    """

    span: Span
    children: list[SpanNode]
    running: bool = False
    died: bool = False

    @property
    def status(self) -> str:
        """The span's status; that of a step that is still open is 'running' or 'died'."""
        return ("died" if self.died else "running") if self.running else self.span.status.value


class LightSpan(NamedTuple):
    """
    What a waterfall needs of a span, without its content.

    `id` grows with each change of a span. `status` is 'running' for a step that is still open; its `end_ns` is when it
    was last seen. `name` and `error_type` have at most 200 characters.
    """

    id: int
    span_id: str
    parent_id: str | None
    kind: str
    name: str
    start_ns: int
    end_ns: int
    status: str
    total_tokens: int | None
    cost: float | None
    chunks: int
    first_chunk_ns: int | None
    error_type: str | None


class SpanChange(NamedTuple):
    """A span that was added or replaced; `id` is the cursor after which the next ones come."""

    id: int
    run_id: str
    span_id: str
    status: str


class Deletion(NamedTuple):
    """A run that was deleted; `id` is the cursor after which the next ones come, `at_ns` the time."""

    id: int
    run_id: str
    at_ns: int


class ContentPiece(msgspec.Struct, frozen=True):
    """
    A piece of what a span holds.

    `length` is that of the whole, `offset` where the piece begins, both in characters. `type` is 'json' or 'text'.
    """

    text: str
    offset: int
    length: int
    type: str


class StoredLedger(msgspec.Struct, frozen=True):
    """
    What became of a run's items in one exporter; `at_ns` is when that was noted.

    `accepted == delivered + failed + pending + sum(dropped.values())`. It is final unless items were pending.
    """

    accepted: int
    delivered: int
    failed: int
    pending: int
    dropped: dict[str, int]
    at_ns: int


class StoredProcess(msgspec.Struct, frozen=True):
    """A process that has reported open steps; `ended_ns` is None until it has closed the store."""

    process_id: str
    pid: int
    host: str
    started_ns: int
    heartbeat_ns: int
    ended_ns: int | None


class StatisticsRow(msgspec.Struct, frozen=True):
    """
    The steps, or runs, that share a key. Durations are nanoseconds; a step that is not finished does not count.

    `total_tokens` is of model calls alone, `cost` None if none was recorded.
    """

    key: str
    count: int
    errors: int
    p50_ns: int
    p95_ns: int
    p99_ns: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float | None


class Statistics(msgspec.Struct, frozen=True):
    """
    Statistics by key, the most frequent first.

    `complete` is False if the time ran out: only runs that started at `scanned_to_ns` or later count then, the newest.
    `left_out` is the number of further keys.
    """

    rows: list[StatisticsRow]
    runs: int
    complete: bool
    scanned_to_ns: int | None = None
    left_out: int = 0
