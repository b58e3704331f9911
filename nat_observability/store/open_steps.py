"""OpenStepRows: the steps that are still open, as rows of the store, and the heartbeat of the process they run in."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
import uuid
from collections.abc import Sequence

import msgspec

from nat_observability.events import Span
from nat_observability.store.schema import RUNNING
from nat_observability.store.writing import BatchRows

_BEAT_NS = 2_000_000_000
_LOST_AFTER_NS = 60_000_000_000  # a step that has ended, and whose span has not come by then, was dropped
_FORGOTTEN_NS = 30 * 24 * 3_600_000_000_000
_MOST = 10_000  # open steps that are shown at once

_BEAT = """
    INSERT INTO processes VALUES (?, ?, ?, ?, ?, NULL)
    ON CONFLICT (process_id) DO UPDATE SET heartbeat_ns = excluded.heartbeat_ns, ended_ns = NULL
"""

_Key = tuple[str, str]


class OpenStepRows:
    """
    Which steps of this process the store shows as running.

    On the sink's thread; in a forked child it starts empty.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._process_id = uuid.uuid4().hex
        self._started_ns = time.time_ns()
        self._beat_ns = 0
        self._shown: dict[_Key, Span] = {}
        self._ended: dict[_Key, int] = {}

    def update(self, connection: sqlite3.Connection, version: int, spans: Sequence[Span]) -> None:
        """Store the steps that are open now, within a transaction of the caller's; those before are open no more."""
        now_ns = time.time_ns()
        now = {(span.run.run_id, span.span_id): span for span in spans[:_MOST]}
        news = [span for key, span in now.items() if not _same(self._shown.get(key), span)]
        if news:
            known = finished_among(connection, now)
            news = [span for span in news if (span.run.run_id, span.span_id) not in known]
            BatchRows(news, version, running=True, process_id=self._process_id, again=True).write(connection)
        for key in self._shown.keys() - now.keys():
            self._ended[key] = now_ns
        for key in self._ended.keys() & now.keys():
            del self._ended[key]
        self._shown = now
        lost = [key for key, ended_ns in self._ended.items() if now_ns - ended_ns > _LOST_AFTER_NS]
        for key in lost:
            del self._ended[key]
        connection.executemany(
            f"DELETE FROM spans WHERE run_id = ? AND span_id = ? AND status = '{RUNNING}'", lost
        )
        if now:
            self._beat(connection, now_ns)

    def is_due(self, spans: Sequence[Span]) -> bool:
        """Whether there is anything to store; without that no transaction need begin."""
        if os.getpid() != self._pid:
            self._begin()
        if spans or self._shown:
            now = {(span.run.run_id, span.span_id) for span in spans[:_MOST]}
            if now != self._shown.keys() or time.time_ns() - self._beat_ns >= _BEAT_NS:
                return True
            return not all(
                _same(self._shown.get((span.run.run_id, span.span_id)), span) for span in spans[:_MOST]
            )
        return any(time.time_ns() - ended_ns > _LOST_AFTER_NS for ended_ns in self._ended.values())

    def has_any(self, spans: Sequence[Span]) -> bool:
        """Whether the store shows any of these spans as a step that is open."""
        shown = self._shown
        if not shown and not self._ended:
            return False
        return any((key := (span.run.run_id, span.span_id)) in shown or key in self._ended for span in spans)

    def end(self, connection: sqlite3.Connection) -> None:
        """Note that this process reports no more, within a transaction of the caller's."""
        connection.execute(
            "UPDATE processes SET ended_ns = ? WHERE process_id = ?", (time.time_ns(), self._process_id)
        )
        self._begin()

    @property
    def has_reported(self) -> bool:
        """Whether this process is in the store."""
        return self._pid == os.getpid() and self._beat_ns > 0

    def _beat(self, connection: sqlite3.Connection, now_ns: int) -> None:
        if now_ns - self._beat_ns < _BEAT_NS:
            return
        if not self._beat_ns:
            connection.execute("DELETE FROM processes WHERE heartbeat_ns < ?", (now_ns - _FORGOTTEN_NS,))
        self._beat_ns = now_ns
        connection.execute(_BEAT, (self._process_id, self._pid, platform.node(), self._started_ns, now_ns))


def finished_among(connection: sqlite3.Connection, keys: dict[_Key, Span]) -> set[_Key]:
    """Return those of some spans that are in the store and finished: an id that is used twice replaces none of them."""
    asked = msgspec.json.encode(list(keys)).decode()
    rows = connection.execute(
        "SELECT run_id, span_id FROM spans JOIN json_each(?) AS asked ON run_id = json_extract(asked.value, '$[0]') "
        f"AND span_id = json_extract(asked.value, '$[1]') WHERE status <> '{RUNNING}'",
        (asked,),
    )
    return set(rows.fetchall())


def _same(before: Span | None, now: Span) -> bool:
    """Whether a step has recorded nothing since it was seen before."""
    if before is None:
        return False
    return before == now or before == msgspec.structs.replace(now, end_ns=before.end_ns)
