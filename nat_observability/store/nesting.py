"""How the spans of a run are nested: their parents without cycles, and how deep they are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count


def enclosing(spans: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """
    Return the parent of each span of one run: None if it is not a span of the run, or to break a cycle.

    Args:
        spans: (span_id, parent_id) by start time. The first span of a cycle gets None.
    """
    parents = dict(spans)
    order = {span_id: index for index, span_id in enumerate(parents)}
    parents = {span_id: parent if parent in order else None for span_id, parent in parents.items()}
    settled: set[str] = set()
    for span_id in order:
        path: list[str] = []
        seen: set[str] = set()
        above: str | None = span_id
        while above is not None and above not in settled:
            if above in seen:
                parents[min(path[path.index(above) :], key=order.__getitem__)] = None
                break
            path.append(above)
            seen.add(above)
            above = parents[above]
        settled |= seen
    return parents


def depth_of(spans: Iterable[tuple[str, str | None]]) -> int:
    """Return how deep the spans of one run are nested, as `counts` defines it."""
    parents = enclosing(spans)
    depths: dict[str, int] = {}
    for span_id in parents:
        path: list[str] = []
        above: str | None = span_id
        while above is not None and above not in depths:
            path.append(above)
            above = parents[above]
        depth = 0 if above is None else depths[above]
        depths.update(zip(reversed(path), count(depth + 1), strict=False))
    return max(depths.values(), default=0)
