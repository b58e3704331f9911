"""The embedded store: an SQLite file that `SqliteSink` writes and `Store` reads."""

from nat_observability.store.reader import RunStatus, SpanNode, Store, StoredRun

__all__ = ["RunStatus", "SpanNode", "Store", "StoredRun"]
