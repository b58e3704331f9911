"""Needles: letters of which every secret name has some, as few as possible."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from nat_observability.processors.redaction.tokens import has_any

_FEW_BYTES = 48
_REMEMBERED = 4096
_LONG_WORD = 6
_STEM = 5  # letters that two names must share to be searched for as one
_COMMON = b"key"


class Needles:
    """Letters of which every secret name has some."""

    __slots__ = ("_common", "_known", "_rare", "_search", "_stems")

    def __init__(self, needles: Iterable[bytes]) -> None:
        needles = tuple(needles)
        # Most secret names contain the word key, and most values do not.
        self._common = tuple(needle for needle in needles if _COMMON in needle)
        self._rare = tuple(needle for needle in needles if _COMMON not in needle)
        self._search = re.compile(b"|".join(map(re.escape, needles)) or b"(?!)").search
        self._stems = tuple(needle.rstrip(b":") for needle in needles)
        self._known: dict[bytes, bool] = {}

    def are_in(self, names: bytes, is_inexact: bool = False) -> bool:
        """Say whether one of them is in `names`, each of which ends with a colon, more or less."""
        if is_inexact and has_any(names, self._stems):
            return True
        if len(names) > _FEW_BYTES:
            return has_any(names, self._rare) or (names.find(_COMMON) >= 0 and has_any(names, self._common))
        # The fields of one kind of message have the same names each time.
        known = self._known.get(names)
        if known is None:
            known = self._search(names) is not None
            if len(self._known) < _REMEMBERED:
                self._known[names] = known
        return known


@lru_cache(maxsize=64)
def fewest(needles: frozenset[bytes]) -> tuple[bytes, ...]:
    """Return as few needles as possible, of which one is in everything that has one of `needles`."""
    given = sorted(needles, key=lambda needle: (len(needle), needle))
    # First those that end where the name does: the end of a long one may be all of a short one.
    ends = [each for each in given if not any(each is not other and each.endswith(other) for other in given)]
    kept: list[bytes] = []
    for end in ends:
        # A long word loses its colon, so that it can stand for others that begin with it.
        needle = end.rstrip(b":") if len(end) > _LONG_WORD else end
        if any(each in needle for each in kept):
            continue
        for index, each in enumerate(kept):
            start = _common_start(each, needle)
            if len(start) >= _STEM:
                kept[index] = start
                break
        else:
            kept.append(needle)
    return tuple(kept)


def _common_start(first: bytes, second: bytes) -> bytes:
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((at for at, (one, other) in pairs if one != other), None)]
