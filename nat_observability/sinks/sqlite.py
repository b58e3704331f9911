"""SqliteSink: keeps spans, and what they say about their runs, in the embedded store."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from nat_observability.errors import SinkError
from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.sinks.protocol import Batch
from nat_observability.store.connection import WriterConnection
from nat_observability.store.schema import SPAN_COLUMNS

Synchronous = Literal["off", "normal", "full"]

_ADD_SPAN = (
    f"INSERT OR REPLACE INTO spans ({SPAN_COLUMNS}) VALUES ({', '.join('?' * len(SPAN_COLUMNS.split(', ')))})"
)

# Each column gets the same value in any order of a run's batches, however often one is repeated.
# SQLite's min() of two values is NULL as soon as one of them is.
_MERGE_RUN = """
    INSERT INTO runs (
        run_id, trace_id, conversation_id, user_id, workflow_name, parent_span_id,
        name, root_start_ns, status, start_ns, end_ns, error, tags
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id) DO UPDATE SET
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

# As plain strings: sqlite3 asks its adapters about every value of a subclass.
_KINDS = {kind: kind.value for kind in StepKind}
_STATUSES = {status: status.value for status in Status}


class SqliteSink:
    """
    Stores spans in a SQLite file that `Store` and the CLI read, also while it is written.

    The file, and the log and the index that SQLite puts beside it, can be read by their owner alone (0600, and
    0700 for directories that are created). Several processes may write to one file; each waits for the others.

    A batch is one transaction: it is stored whole or, if `write` raises, not at all. A span that is delivered again
    replaces itself. The store also keeps the run of each span: it starts with its first span and ends with its last;
    its name is that of its first root span (one whose parent is None or `Run.parent_span_id`); its status is 'open'
    until a root span has come, 'error' as soon as one has failed or is incomplete, and else 'ok'. Its error is that of
    the failed root span; of several, the first in alphabetical order.

    A file that is deleted or moved while the sink is open is created again. A fork while it is open waits for the
    batch under way, for a second at most; both processes may then write.

    Args:
        path: The file; a relative path is resolved when the sink is made.
        synchronous: When SQLite waits for the disk (https://sqlite.org/pragma.html#pragma_synchronous). With
            "normal" a power cut can lose the newest batches, and the end of the process none; "full" waits at
            each batch; with "off" a power cut can damage the file.
    """

    def __init__(self, path: str | os.PathLike[str], *, synchronous: Synchronous = "normal") -> None:
        if synchronous not in ("off", "normal", "full"):
            raise ValueError(f"synchronous is 'off', 'normal' or 'full', not {synchronous!r}.")
        self.path = os.path.abspath(path)
        self._connection = WriterConnection(self.path, synchronous)
        self._encode = msgspec.json.Encoder().encode

    def open(self) -> None:
        """
        Open the store, and create it and its directories if they are missing.

        Raises:
            SinkError: The path cannot be opened, or the file is damaged, another program's, or newer. It is not
                changed.
        """
        self._connection.open()

    def write(self, batch: Batch) -> None:
        """
        Store the spans of the batch, and what they say about their runs.

        Raises:
            SinkError: The batch holds something other than spans, or a value that SQLite cannot hold; or SQLite
                refused to write. No part of the batch was stored, and the sink remains usable.
        """
        spans, runs = self._rows(batch)
        try:
            with self._connection.transaction() as connection:
                connection.executemany(_ADD_SPAN, spans)
                connection.executemany(_MERGE_RUN, runs)
        except (OverflowError, UnicodeEncodeError) as error:
            cure = "Mend what recorded it: text has to be valid Unicode, and integers fit into 64 bits."
            raise SinkError(self.path, f"a span of the batch cannot be stored: {error}", cure) from error

    def close(self) -> None:
        """Close the store; does nothing if it is not open."""
        self._connection.close()

    def _rows(self, batch: Batch) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        spans: list[tuple[object, ...]] = []
        runs: dict[str, _RunRow] = {}
        for span in batch:
            if not isinstance(span, Span):
                problem = f"stores spans, and was given an item of type {type(span).__name__}"
                raise SinkError(self.path, problem, "Use SqliteSink with an exporter that makes spans.")
            run = span.run
            row = runs.get(run.run_id)
            if row is None:
                row = runs[run.run_id] = _RunRow(run, span)
            row.add(span)
            given, result, usage, error = span.input, span.output, span.usage, span.error
            spans.append(
                (
                    run.run_id,
                    span.span_id,
                    span.parent_id,
                    _KINDS[span.kind],
                    span.name,
                    span.start_ns,
                    span.end_ns,
                    _STATUSES[span.status],
                    str(bytes(given), "utf-8") if isinstance(given, msgspec.Raw) else given,
                    None if given is None else "text" if isinstance(given, str) else "json",
                    str(bytes(result), "utf-8") if isinstance(result, msgspec.Raw) else result,
                    None if result is None else "text" if isinstance(result, str) else "json",
                    None if span.metadata is None else str(bytes(span.metadata), "utf-8"),
                    str(self._encode(span.tags), "utf-8") if span.tags else None,
                    *(_NO_USAGE if usage is None else msgspec.structs.astuple(usage)[:5]),
                    *(_NO_ERROR if error is None else (error.type, error.message, error.traceback)),
                    span.chunks,
                    span.first_chunk_ns,
                    *self._details(span),
                    *(_NO_USAGE[:4] if usage is None else msgspec.structs.astuple(usage)[5:]),
                    None if span.origin is None else str(self._encode(span.origin), "utf-8"),
                    *(_NO_COST if span.cost is None else msgspec.structs.astuple(span.cost)),
                )
            )
        return spans, [row.values() for row in runs.values()]

    def _details(self, span: Span) -> tuple[object, ...]:
        """Return the columns of attributes, events, links, span kind, status message and the dropped counts."""
        dropped = span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count
        return (
            None if span.attributes is None else str(bytes(span.attributes), "utf-8"),
            str(self._encode(span.events), "utf-8") if span.events else None,
            str(self._encode(span.links), "utf-8") if span.links else None,
            None if span.span_kind is span.kind.span_kind else span.span_kind.value,
            span.status_message,
            str(self._encode(dropped), "utf-8") if any(dropped) else None,
        )


_NO_USAGE = (None,) * 5
_NO_COST = (None,) * 3
_NO_ERROR = (None,) * 3


class _RunRow:
    """What the spans of one batch say about one run, merged by the rules of `_MERGE_RUN`."""

    __slots__ = ("end_ns", "error", "root", "run", "start_ns", "status")

    def __init__(self, run: Run, first: Span) -> None:
        self.run, self.start_ns, self.end_ns = run, first.start_ns, first.end_ns
        self.root: tuple[int, str] | tuple[None, None] = None, None
        self.status = "open"
        self.error: str | None = None

    def add(self, span: Span) -> None:
        if span.start_ns < self.start_ns:
            self.start_ns = span.start_ns
        if span.end_ns > self.end_ns:
            self.end_ns = span.end_ns
        if span.parent_id is None or span.parent_id == self.run.parent_span_id:
            self._add_root(span)

    def _add_root(self, span: Span) -> None:
        root = span.start_ns, span.name
        self.root = root if self.root[0] is None else min(self.root, root)
        if span.status is Status.OK:
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
            str(msgspec.json.encode(dict(run.tags)), "utf-8") if run.tags else None,
        )
