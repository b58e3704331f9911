"""Comparison of two runs: their spans side by side, what differs, and where they first diverge."""

from __future__ import annotations

from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Any

from nat_observability.viewer.runs import find_run, living, summary
from nat_observability.viewer.store_file import Reader, cut

MOST_SPANS = 20_000  # a side
_ALIGNED = 400  # children of a span that are aligned exactly; more are paired by number
_NOTABLE = 1.5  # times as long
_NOTABLE_US = 10_000
_CONTENT_AT_ONCE = 200


def compare(reader: Reader, a: str, b: str) -> dict[str, Any] | None:
    """
    Return the spans of two runs and their pairs, in the order of the tree; None if either is not known.

    Spans are paired from the top, children by kind and name in their order. A pair `differs` in structure (it has one
    side), status, content (input, output or error), tokens or time (half as long again, and 10 ms). `first` is
    the first pair that differs in structure, status or content.
    """
    row_a, row_b = find_run(reader, a), find_run(reader, b)
    if row_a is None or row_b is None:
        return None
    alive = living(reader)
    side_a, side_b = _Side(reader, a), _Side(reader, b)
    pairs = _pairs(side_a, side_b)
    answer: list[dict[str, Any]] = [
        {"a": one, "b": other, "depth": depth, "differs": _differences(side_a, one, side_b, other)}
        for one, other, depth in pairs
    ]
    decisive = {"structure", "status", "content"}
    first = next((at for at, pair in enumerate(answer) if decisive.intersection(pair["differs"])), None)
    return {
        "a": summary(row_a, alive),
        "b": summary(row_b, alive),
        "spans_a": side_a.shown(),
        "spans_b": side_b.shown(),
        "pairs": answer,
        "first": first,
        "total_a": side_a.total,
        "total_b": side_b.total,
    }


class _Side:
    def __init__(self, reader: Reader, run_id: str) -> None:
        self.total: int = reader.value("SELECT count(*) FROM spans WHERE run_id = ?", run_id)
        self.rows = reader.rows(
            f"SELECT CAST(span_id AS TEXT), CAST(parent_id AS TEXT), {cut('name', 1000)}, CAST(kind AS TEXT), "
            "CAST(status AS TEXT), CAST((end_ns - start_ns) / 1000 AS INTEGER), total_tokens, rowid FROM spans "
            f"WHERE run_id = ? ORDER BY start_ns, end_ns DESC, span_id LIMIT {MOST_SPANS}",
            run_id,
        )
        self.content = _digests(reader, [row[7] for row in self.rows])
        places = {row[0]: at for at, row in enumerate(self.rows)}
        parents = [places.get(row[1]) if row[1] is not None else None for row in self.rows]
        _break_circles(parents)
        self.roots: list[int] = []
        self.children: list[list[int]] = [[] for _ in self.rows]
        for at, parent in enumerate(parents):
            (self.roots if parent is None else self.children[parent]).append(at)

    def key(self, at: int) -> tuple[str, str]:
        return self.rows[at][3], self.rows[at][2]

    def shown(self) -> list[dict[str, Any]]:
        names = ("id", "parent", "name", "kind", "status", "duration", "tokens")
        return [dict(zip(names, row, strict=False)) for row in self.rows]


def _digests(reader: Reader, ids: list[int]) -> dict[int, bytes]:
    digests: dict[int, bytes] = {}
    for at in range(0, len(ids), _CONTENT_AT_ONCE):
        for identity, *content in reader.rows(
            "SELECT rowid, CAST(input AS BLOB), CAST(output AS BLOB), CAST(error_message AS BLOB) FROM spans "
            "WHERE rowid IN (SELECT value FROM json_each(?))",
            str(ids[at : at + _CONTENT_AT_ONCE]),
        ):
            digest = blake2b(digest_size=16)
            for part in content:
                digest.update(b"\1%d\0" % len(part) + part if part is not None else b"\0")
            digests[identity] = digest.digest()
    return digests


def _break_circles(parents: list[int | None]) -> None:
    """Make the first span of each circle of parents a root."""
    seen_by = [-1] * len(parents)
    for start in range(len(parents)):
        at: int | None = start
        while at is not None and seen_by[at] < 0:
            seen_by[at] = start
            at = parents[at]
        if at is not None and seen_by[at] == start:
            ring, around = at, parents[at]
            while around is not None and around != at:
                ring, around = min(ring, around), parents[around]
            parents[ring] = None


def _pairs(a: _Side, b: _Side) -> list[tuple[int | None, int | None, int]]:
    pairs: list[tuple[int | None, int | None, int]] = []
    stack = [(one, other, 0) for one, other in reversed(_aligned(a, a.roots, b, b.roots))]
    while stack:
        one, other, depth = stack.pop()
        pairs.append((one, other, depth))
        below_a = [] if one is None else a.children[one]
        below_b = [] if other is None else b.children[other]
        stack += [(x, y, depth + 1) for x, y in reversed(_aligned(a, below_a, b, below_b))]
    return pairs


def _aligned(a: _Side, ones: list[int], b: _Side, others: list[int]) -> list[tuple[int | None, int | None]]:
    keys_a, keys_b = [a.key(at) for at in ones], [b.key(at) for at in others]
    if max(len(ones), len(others)) > _ALIGNED:
        return _by_number(ones, keys_a, others, keys_b)
    pairs: list[tuple[int | None, int | None]] = []
    for tag, from_a, to_a, from_b, to_b in SequenceMatcher(
        None, keys_a, keys_b, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            pairs += zip(ones[from_a:to_a], others[from_b:to_b], strict=True)
        else:
            pairs += [(at, None) for at in ones[from_a:to_a]]
            pairs += [(None, at) for at in others[from_b:to_b]]
    return pairs


def _by_number(
    ones: list[int], keys_a: list[tuple[str, str]], others: list[int], keys_b: list[tuple[str, str]]
) -> list[tuple[int | None, int | None]]:
    """Pair the n-th of a kind and name with the n-th."""
    waiting: dict[tuple[str, str], list[int]] = {}
    for at, key in zip(reversed(others), reversed(keys_b), strict=True):
        waiting.setdefault(key, []).append(at)
    pairs: list[tuple[int | None, int | None]] = []
    for at, key in zip(ones, keys_a, strict=True):
        same = waiting.get(key)
        pairs.append((at, same.pop() if same else None))
    left = sorted(at for each in waiting.values() for at in each)
    return pairs + [(None, at) for at in left]


def _differences(a: _Side, one: int | None, b: _Side, other: int | None) -> list[str]:
    if one is None or other is None:
        return ["structure"]
    row_a, row_b = a.rows[one], b.rows[other]
    found = []
    if row_a[4] != row_b[4]:
        found.append("status")
    if a.content.get(row_a[7]) != b.content.get(row_b[7]):
        found.append("content")
    if row_a[6] != row_b[6]:
        found.append("tokens")
    shorter, longer = sorted((row_a[5], row_b[5]))
    if longer - shorter > _NOTABLE_US and longer > _NOTABLE * shorter:
        found.append("time")
    return found
