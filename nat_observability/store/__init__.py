"""The embedded store: an SQLite file that `SqliteSink` writes and `Store` reads."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
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

_HOMES = {
    "nat_observability.store.reader": ("Store",),
    "nat_observability.store.records": (
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
        "StoredLedger",
        "StoredProcess",
        "StoredRun",
    ),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
