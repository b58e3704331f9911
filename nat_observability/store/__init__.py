"""The embedded store: an SQLite file that `SqliteSink` writes and `Store` reads."""

from nat_observability.store.reader import Store
from nat_observability.store.records import (
    ContentPiece,
    Deletion,
    FoundRuns,
    LightSpan,
    RunActivity,
    RunCounters,
    RunFilter,
    RunKey,
    RunStatus,
    SpanChange,
    SpanNode,
    Statistics,
    StatisticsKey,
    StatisticsRow,
    StoredLedger,
    StoredProcess,
    StoredRun,
)

__all__ = [
    "ContentPiece",
    "Deletion",
    "FoundRuns",
    "LightSpan",
    "RunActivity",
    "RunCounters",
    "RunFilter",
    "RunKey",
    "RunStatus",
    "SpanChange",
    "SpanNode",
    "Statistics",
    "StatisticsKey",
    "StatisticsRow",
    "Store",
    "StoredLedger",
    "StoredProcess",
    "StoredRun",
]
