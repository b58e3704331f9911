"""KeyRanges: a set of integers that come in long runs, such as the keys of a queue."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator


class KeyRanges:
    """
    A set of integers, kept as sorted ranges that neither overlap nor touch.

    It costs what its ranges cost, not what its members do: a million keys in a row are one range.

    Args:
        ranges: Pairs of a first key and the one after the last.
    """

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for low, high in ranges:
            self.add(low, high)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges in ascending order, as they were at the call."""
        return iter(tuple(self._ranges))

    def add(self, low: int, high: int) -> None:
        """Add the keys from `low` to before `high`."""
        if low >= high:
            return
        ranges = self._ranges
        start = bisect.bisect_left(ranges, (low, low))
        if start and ranges[start - 1][1] >= low:
            start -= 1
            low = ranges[start][0]
        stop = start
        while stop < len(ranges) and ranges[stop][0] <= high:
            high = max(high, ranges[stop][1])
            stop += 1
        ranges[start:stop] = [(low, high)]

    def remove(self, low: int, high: int) -> None:
        """Remove the keys from `low` to before `high`, as far as they are in the set."""
        if low >= high:
            return
        ranges = self._ranges
        start = bisect.bisect_left(ranges, (low, low))
        if start and ranges[start - 1][1] > low:
            start -= 1
        stop = start
        kept: list[tuple[int, int]] = []
        while stop < len(ranges) and ranges[stop][0] < high:
            first, last = ranges[stop]
            if first < low:
                kept.append((first, low))
            if last > high:
                kept.append((high, last))
            stop += 1
        ranges[start:stop] = kept


def runs_of(keys: Iterable[int]) -> list[tuple[int, int]]:
    """Return `keys`, each of which occurs once, as the ranges that they form, in ascending order."""
    ordered = sorted(keys)
    if ordered and ordered[-1] - ordered[0] < len(ordered):
        return [(ordered[0], ordered[-1] + 1)]
    runs: list[tuple[int, int]] = []
    low = high = 0
    for key in ordered:
        if key == high and runs:
            high = key + 1
            runs[-1] = (low, high)
        else:
            low, high = key, key + 1
            runs.append((low, high))
    return runs
