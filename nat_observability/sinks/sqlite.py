"""SqliteSink: keeps spans, and what they say about their runs, in the embedded store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from nat_observability.errors import SinkError
from nat_observability.events import Span
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import Batch, RunLedger
from nat_observability.store.connection import WriterConnection
from nat_observability.store.deletion import Retention, delete_runs, give_back
from nat_observability.store.open_steps import OpenStepRows
from nat_observability.store.writing import BatchRows, write_ledgers
from nat_observability.system.clock import monotonic
from nat_observability.system.disk import file_path

Synchronous = Literal["off", "normal", "full"]

_TIDY_EVERY = 1.0  # seconds between two looks, if there is nothing to delete
_TIDY_LATER = 60.0  # if there are no limits, or the store cannot follow them
_TIDY_FOR = 0.2  # seconds of deleting at a stretch

_log = get_logger()


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

    A store that an earlier release has made (version 1) is written as that release did: without counters, ledgers, open
    steps and limits, until `nat-observability migrate` has made it one of version 2.

    Args:
        path: The file; a relative path is resolved when the sink is made.
        synchronous: When SQLite waits for the disk (https://sqlite.org/pragma.html#pragma_synchronous). With
            "normal" a power cut can lose the newest batches, and the end of the process none; "full" waits at
            each batch; with "off" a power cut can damage the file.
        keep_for: Seconds after its end for which a run is kept; None keeps it.
        keep_size: Bytes that the store may hold; what is over goes, whole finished runs, the oldest first. The free
            space goes back to the file system. None has no limit.

    Raises:
        ValueError: A setting is out of its range, or the path is that of no file, such as `:memory:` or a URL.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "normal",
        keep_for: float | None = None,
        keep_size: int | None = None,
    ) -> None:
        if synchronous not in ("off", "normal", "full"):
            raise ValueError(f"synchronous is 'off', 'normal' or 'full', not {synchronous!r}.")
        if keep_for is not None and not keep_for > 0:
            raise ValueError(f"keep_for is more than 0 seconds or None, not {keep_for!r}.")
        if keep_size is not None and not keep_size > 0:
            raise ValueError(f"keep_size is more than 0 bytes or None, not {keep_size!r}.")
        self.path = file_path(path)
        self._connection = WriterConnection(self.path, synchronous)
        self._retention = Retention(keep_for, keep_size)
        self._is_limited = bool(self._retention)
        self._open_steps = OpenStepRows()
        self._has_shown_steps = False

    def open(self) -> None:
        """
        Open the store, and create it and its directories if they are missing.

        Raises:
            SinkError: The path cannot be opened, or the file is damaged, another program's, or newer. It is not
                changed.
        """
        self._connection.open()
        if self._connection.version == 1 and self._is_limited:
            _log.warning(
                "store_not_migrated",
                path=self.path,
                cure=f"It keeps everything until it is of version 2: nat-observability migrate {self.path}",
            )

    def write(self, batch: Batch) -> None:
        """
        Store the spans of the batch, and what they say about their runs.

        Raises:
            SinkError: The batch holds something other than spans, or a value that SQLite cannot hold; or SQLite
                refused to write. No part of the batch was stored, and the sink remains usable.
        """
        spans: list[Span] = []
        for span in batch:
            if not isinstance(span, Span):
                problem = f"stores spans, and was given an item of type {type(span).__name__}"
                raise SinkError(self.path, problem, "Use SqliteSink with an exporter that makes spans.")
            spans.append(span)
        try:
            with self._connection.transaction() as connection:
                again = self._has_shown_steps and self._open_steps.has_any(spans)
                BatchRows(spans, self._connection.version, again=again).write(connection)
        except (OverflowError, UnicodeEncodeError) as error:
            cure = "Mend what recorded it: text has to be valid Unicode, and integers fit into 64 bits."
            raise SinkError(self.path, f"a span of the batch cannot be stored: {error}", cure) from error

    def write_report(self, reports: Sequence[RunLedger]) -> None:
        """
        Store what became of the items of runs that have ended, for the runs that the store knows.

        Raises:
            SinkError: As `write`.
        """
        with self._connection.transaction() as connection:
            if self._connection.version > 1:
                write_ledgers(connection, reports)

    def write_running(self, spans: Sequence[Span]) -> None:
        """
        Store the steps that are open now, as spans with the status 'running'; those of the call before end with this.

        The finished span of such a step replaces it.

        Raises:
            SinkError: As `write`.
        """
        if self._connection.version == 1 or not (spans or self._has_shown_steps):
            return
        if not self._open_steps.is_due(spans):
            return
        self._has_shown_steps = True
        try:
            with self._connection.transaction() as connection:
                self._open_steps.update(connection, self._connection.version, spans)
        except (OverflowError, UnicodeEncodeError) as error:
            cure = "Mend what recorded it: text has to be valid Unicode, and integers fit into 64 bits."
            raise SinkError(self.path, f"an open step cannot be stored: {error}", cure) from error

    def tidy(self) -> float:
        """
        Delete runs that are over the limits, for a fifth of a second at most, and give free space back.

        Returns:
            Seconds after which it is to be called again.

        Raises:
            SinkError: As `write`.
        """
        if not self._is_limited or self._connection.version == 1:
            return _TIDY_LATER
        until = monotonic() + _TIDY_FOR
        while monotonic() < until:
            with self._connection.transaction() as connection:
                outdated = self._retention.outdated(connection)
                delete_runs(connection, outdated, self._connection.version)
            with self._connection.outside_transaction() as connection:
                more = give_back(connection)
            if not outdated and not more:
                return _TIDY_EVERY
        return 0.0

    def close(self) -> None:
        """Close the store; does nothing if it is not open."""
        if self._has_shown_steps and self._open_steps.has_reported:
            try:
                with self._connection.transaction() as connection:
                    if self._connection.version > 1:
                        self._open_steps.end(connection)
            except SinkError as error:
                # Readers see by the heartbeat that the process has ended.
                _log.info("store_close_incomplete", path=self.path, error=str(error))
        self._connection.close()
