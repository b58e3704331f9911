"""Facts about the store itself: its file, what it holds, who writes to it, and what became of what was recorded."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import Any

import msgspec

from nat_observability.store.schema import SCHEMA_VERSION
from nat_observability.viewer.runs import living
from nat_observability.viewer.sidecar.index import Index
from nat_observability.viewer.store_file import Reader, ReadTimeoutError

_PROCESSES = 50


def store_facts(reader: Reader, index: Index) -> dict[str, Any]:
    """Return what the page about the store shows; a count that would take long is None."""
    path = reader.path
    first, last = reader.ends()
    return {
        "path": path,
        "version": reader.version,
        "known": SCHEMA_VERSION,
        "size": _size(path),
        "wal": _size(f"{path}-wal"),
        "runs": _runs(reader, index),
        "spans": _spans(reader),
        "oldest": None if first is None else first // 1000,
        "newest": None if last is None else last // 1000,
        "readonly": not os.access(path, os.W_OK),
        "sidecar": {
            "path": index.path,
            "size": index.size(),
            "indexed": index.high - index.low,
            "total": index.newest,
            "state": "off" if not index.enabled else "complete" if index.complete else "being made",
            "problem": index.problem,
        },
        "processes": _processes(reader),
        "exporters": _exporters(reader),
    }


def _runs(reader: Reader, index: Index) -> int | None:
    if index.problem is None and index.counts.covers(reader.newest()):
        with contextlib.suppress(sqlite3.Error), index.reading() as connection:
            return int(connection.execute("SELECT coalesce(sum(runs), 0) FROM cells").fetchone()[0])
    return _counted(reader, "SELECT count(*) FROM runs")


def _spans(reader: Reader) -> int | None:
    if reader.version >= 2:
        return int(reader.value("SELECT CAST(total(span_count) AS INTEGER) FROM kinds"))
    return _counted(reader, "SELECT count(*) FROM spans")


def _counted(reader: Reader, query: str) -> int | None:
    with contextlib.suppress(ReadTimeoutError), reader.at_most(1.0):
        return int(reader.value(query))
    return None


def _processes(reader: Reader) -> list[dict[str, Any]]:
    if reader.version < 2:
        return []
    alive = living(reader)
    rows = reader.rows(
        "SELECT CAST(process_id AS TEXT), CAST(pid AS INTEGER), CAST(substr(host, 1, 200) AS TEXT), "
        "CAST(started_ns AS INTEGER), CAST(heartbeat_ns AS INTEGER), process_id FROM processes "
        f"ORDER BY heartbeat_ns DESC LIMIT {_PROCESSES}"
    )
    return [
        {
            "id": one,
            "pid": pid,
            "host": host,
            "started": start // 1000,
            "seen": beat // 1000,
            "alive": alive[key].alive,
        }
        for one, pid, host, start, beat, key in rows
    ]


def _exporters(reader: Reader) -> list[dict[str, Any]]:
    """Return the sums of the ledgers of the newest runs, by exporter."""
    if reader.version < 2:
        return []
    sums: dict[str, dict[str, Any]] = {}
    began = time.monotonic()
    rows = reader.rows(
        "SELECT CAST(substr(exporter, 1, 200) AS TEXT), CAST(accepted AS INTEGER), CAST(delivered AS INTEGER), "
        "CAST(failed AS INTEGER), CAST(pending AS INTEGER), CAST(dropped AS TEXT) FROM ledgers "
        "ORDER BY id DESC LIMIT 20000"
    )
    for exporter, accepted, delivered, failed, pending, dropped in rows:
        one = sums.setdefault(
            exporter,
            {
                "exporter": exporter,
                "accepted": 0,
                "delivered": 0,
                "failed": 0,
                "pending": 0,
                "dropped": {},
                "runs": 0,
            },
        )
        for name, number in (
            ("accepted", accepted),
            ("delivered", delivered),
            ("failed", failed),
            ("pending", pending),
        ):
            one[name] += number
        one["runs"] += 1
        if dropped and time.monotonic() - began < 1:
            with contextlib.suppress(msgspec.MsgspecError):
                for reason, number in msgspec.json.decode(dropped, type=dict[str, int]).items():
                    one["dropped"][reason] = one["dropped"].get(reason, 0) + number
    return list(sums.values())


def _size(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0
