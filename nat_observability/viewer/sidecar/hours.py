"""Hours: counts, tokens, cost and a histogram of durations for each hour, by what spans have in common."""

from __future__ import annotations

import math
import sqlite3
import struct
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from nat_observability.viewer.spans import model_of

DIMENSIONS = ("", "name", "kind", "model", "workflow")
"""By what statistics can be grouped; the first is everything."""

HOURS_SCHEMA = (
    "CREATE TABLE hours (dimension TEXT NOT NULL, hour INTEGER NOT NULL, key TEXT NOT NULL, spans INTEGER NOT NULL, "
    "errors INTEGER NOT NULL, tokens INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, "
    "cost REAL NOT NULL, durations BLOB NOT NULL, PRIMARY KEY (dimension, hour, key)) WITHOUT ROWID",
)

OTHER = "(other)"
_HOUR_NS = 3_600_000_000_000
_MOST = 2**63 - 1
_MOST_KEYS = 500  # of a dimension in one hour
_PER_DOUBLING = 16  # a bucket is 4.4% wide, so a percentile is at most 2.2% off
_BLOCK = 100_000

_AGENTS = ("AGENT", "CHAIN", "WORKFLOW")


class Hours:
    """Adds the spans of one transaction to the table `hours`, each span of a run once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._cells: dict[tuple[str, int, str], list[Any]] = {}

    def add(self, row: tuple[Any, ...]) -> None:
        """Count a span, unless it was counted under another id: it may have been delivered twice."""
        (
            identity,
            run_id,
            span_id,
            kind,
            status,
            start,
            end,
            total,
            prompt,
            completion,
            cost,
            workflow,
            root,
        ) = row[:13]
        name, attributes = row[13], row[18]
        digest = blake2b(f"{run_id}\0{span_id}".encode("utf-8", "replace"), digest_size=8).digest()
        added = self._connection.execute(
            "INSERT OR IGNORE INTO seen VALUES (?, ?)", (struct.unpack("<q", digest)[0], identity // _BLOCK)
        )
        if not added.rowcount:
            return
        hour, failed = start // _HOUR_NS, status != "ok"
        bucket = bucket_of((end - start) // 1000)
        llm = kind == "LLM"
        # As the counters of runs: usage of a model call once, not again for what encloses it.
        used = (total or 0, prompt or 0, completion or 0)
        paid = cost or 0.0
        enclosed = kind in _AGENTS
        nothing = (0, 0, 0)
        whole = used if llm else nothing
        self._count("", hour, "", 1, failed, whole, 0.0 if enclosed else paid, bucket)
        self._count("name", hour, name or "", 1, failed, used, paid, bucket)
        self._count("kind", hour, kind or "", 1, failed, used, paid, bucket)
        if llm:
            self._count("model", hour, model_of(attributes) or "(unknown)", 1, failed, used, paid, bucket)
        if workflow is not None and (root or llm or (paid and not enclosed)):
            self._count(
                "workflow",
                hour,
                workflow,
                int(bool(root)),
                failed and bool(root),
                whole,
                0.0 if enclosed else paid,
                bucket if root else None,
            )

    def save(self) -> None:
        """Merge what was counted into the table."""
        for (dimension, hour, key), cell in self._cells.items():
            place = dimension, hour, key
            known = self._connection.execute(
                "SELECT spans, errors, tokens, prompt, completion, cost, durations FROM hours "
                "WHERE dimension = ? AND hour = ? AND key = ?",
                place,
            ).fetchone()
            if known is None and key != OTHER:
                (keys,) = self._connection.execute(
                    "SELECT count(*) FROM hours WHERE dimension = ? AND hour = ?", (dimension, hour)
                ).fetchone()
                if keys >= _MOST_KEYS:
                    place = dimension, hour, OTHER
                    known = self._connection.execute(
                        "SELECT spans, errors, tokens, prompt, completion, cost, durations FROM hours "
                        "WHERE dimension = ? AND hour = ? AND key = ?",
                        place,
                    ).fetchone()
            durations: dict[int, int] = cell[6]
            if known is not None:
                for at in range(6):
                    cell[at] += known[at]
                merge(durations, [known[6]])
            # What another program has written may be any number.
            numbers = (max(-_MOST, min(_MOST, each)) for each in cell[:5])
            self._connection.execute(
                "INSERT OR REPLACE INTO hours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, *numbers, cell[5], pack(durations)),
            )

    def _count(
        self,
        dimension: str,
        hour: int,
        key: str,
        spans: int,
        failed: bool,
        tokens: tuple[int, int, int],
        cost: float,
        bucket: int | None,
    ) -> None:
        cell = self._cells.setdefault((dimension, hour, key[:200]), [0, 0, 0, 0, 0, 0.0, {}])
        cell[0] += spans
        cell[1] += failed
        cell[2] += tokens[0]
        cell[3] += tokens[1]
        cell[4] += tokens[2]
        cell[5] += cost
        if bucket is not None:
            cell[6][bucket] = cell[6].get(bucket, 0) + 1


def bucket_of(us: int) -> int:
    """Return the bucket of a duration in microseconds."""
    return 0 if us < 1 else 1 + int(math.log2(us) * _PER_DOUBLING)


def pack(durations: dict[int, int]) -> bytes:
    """Return a histogram as pairs of bucket and count."""
    flat = array("I")
    for pair in sorted(durations.items()):
        flat.extend(pair)
    return flat.tobytes()


def merge(durations: dict[int, int], packed: Iterable[bytes]) -> dict[int, int]:
    """Add packed histograms to one."""
    for data in packed:
        flat = array("I")
        flat.frombytes(data)
        for at in range(0, len(flat), 2):
            durations[flat[at]] = durations.get(flat[at], 0) + flat[at + 1]
    return durations


def percentiles(durations: dict[int, int], *wanted: float) -> list[int]:
    """Return percentiles in microseconds, each the middle of its bucket; 0 of nothing."""
    found: list[int] = []
    total = sum(durations.values())
    ordered = sorted(durations.items())
    for each in wanted:
        rank, seen, value = max(1, math.ceil(total * each / 100)), 0, 0
        for bucket, number in ordered:
            seen += number
            if seen >= rank:
                value = 0 if bucket == 0 else round(2 ** ((bucket - 0.5) / _PER_DOUBLING))
                break
        found.append(value)
    return found
