"""Owners: which run each record of the spool belongs to."""

from __future__ import annotations

import bisect
import weakref
from typing import Generic, TypeVar

OwnerT = TypeVar("OwnerT")

_SWEEP_AFTER = 64  # runs of keys, on top of those that the last sweep left


class Owners(Generic[OwnerT]):
    """
    The owner of each key, for keys that come in long runs of one owner: its cost grows with runs, not with keys.

    Owners are referenced weakly. One with no other reference is forgotten, because nothing can ask about it: a day's
    outage leaves nothing behind of the workflow runs that have ended since.
    """

    __slots__ = ("_runs", "_starts", "_sweep_at")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[tuple[int, weakref.ref[OwnerT]]] = []  # the key after the last, and the owner
        self._sweep_at = _SWEEP_AFTER

    def __len__(self) -> int:
        """Return the number of runs, which is the cost."""
        return len(self._starts)

    def add(self, key: int, owner: OwnerT) -> None:
        """Set the owner of `key`."""
        starts, runs, reference = self._starts, self._runs, weakref.ref(owner)
        if runs and runs[-1] == (key, reference):  # the common case, to be quick
            runs[-1] = (key + 1, reference)
            return
        self.pop(key)
        at = bisect.bisect_right(starts, key)
        end = key + 1
        if at < len(starts) and starts[at] == end and runs[at][1] is reference:
            end = runs[at][0]
            del starts[at], runs[at]
        if at and runs[at - 1] == (key, reference):
            runs[at - 1] = (end, reference)
            return
        starts.insert(at, key)
        runs.insert(at, (end, reference))
        if len(starts) >= self._sweep_at:
            self._sweep()

    def pop(self, key: int) -> OwnerT | None:
        """Forget `key`; return its owner, None if it was never set or is gone."""
        starts, runs = self._starts, self._runs
        at = bisect.bisect_right(starts, key) - 1
        if at < 0 or key >= runs[at][0]:
            return None
        start, (end, reference) = starts[at], runs[at]
        if key == start:
            if end == key + 1:
                del starts[at], runs[at]
            else:
                starts[at] = key + 1
        else:
            runs[at] = (key, reference)
            if end > key + 1:
                starts.insert(at + 1, key + 1)
                runs.insert(at + 1, (end, reference))
        return reference()

    def _sweep(self) -> None:
        left = [each for each in zip(self._starts, self._runs, strict=True) if each[1][1]() is not None]
        self._starts = [start for start, _ in left]
        self._runs = [run for _, run in left]
        self._sweep_at = 2 * len(left) + _SWEEP_AFTER
