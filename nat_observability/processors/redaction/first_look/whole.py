"""Whole: JSON or lines that were looked at, of whose parts it is known what could be secret in them."""

from __future__ import annotations

from bisect import bisect_right

from nat_observability.processors.redaction.first_look.sights import Sights
from nat_observability.processors.redaction.text.encodings import is_escaped
from nat_observability.processors.redaction.text.folding import hides_letters, is_odd
from nat_observability.processors.redaction.tokens import may_have_token

# What stands around a value or a text in JSON: no part of what is in it.
_AROUND = frozenset([*((begin, end) for begin in b"[{,: \n" for end in b"]}, \n"), (0x22, 0x22)])
_FIRST = 48  # bytes by which a part is found
_FARTHEST = 16 * 1024  # bytes behind the last part in which the next one is looked for
_MOST_TRIED = 8


class Whole:
    """
    What was looked at, and is taken apart in order: JSON, or lines.

    Several threads may use it: where it expects the next part is only a hint.

    Args:
        data: All of it.
        sights: What was seen in it.
        is_odd_alone: Whether odd characters matter also where nothing else was seen.
    """

    __slots__ = ("_all", "_at", "_data", "_hides", "_is_odd", "_may_have_token", "_sights")

    def __init__(self, data: bytes, sights: Sights, *, is_odd_alone: bool) -> None:
        self._data, self._sights = data, sights
        self._at = 0
        self._all = sorted(
            (*sights.names, *(sights.random or ()), *(sights.tokens or ()), *(end for _, end in sights.forms))
        )
        self._may_have_token: bool | None = None
        self._is_odd = sights.is_odd
        # Other odd characters matter only near what was seen.
        self._hides = sights.is_odd and (is_odd_alone or hides_letters(data))

    def sights_at(self, begin: int, part: bytes) -> Sights | None:
        """Return what could be secret in a part that begins there, at least; None if nothing could be."""
        end = begin + len(part)
        seen = self._sights
        # An expression that ends with the end of a text, or with what is behind that, ends one place later.
        first = bisect_right(self._all, begin)
        if first == len(self._all) or self._all[first] > end + 1:
            if not (
                (seen.is_escaped and is_escaped(part))
                or (self._hides and is_odd(part))
                or seen.has_literal
                or (seen.tokens is None and self._has_token(part))
            ):
                return None
            names: list[int] = []
            forms: list[tuple[int, int]] = []
        else:
            names = _within(seen.names, begin, end)
            forms = [
                (number, min(place, end) - begin)
                for number, place in seen.forms[bisect_right(seen.forms, begin, key=_place) :]
                if place <= end + 1
            ]
        return Sights(
            names,
            None if seen.random is None else _within(seen.random, begin, end),
            None if seen.tokens is None else _within(seen.tokens, begin, end),
            forms,
            seen.has_literal,
            seen.is_escaped and is_escaped(part),
            self._is_odd and is_odd(part),
        )

    def begin_of(self, part: bytes) -> int:
        """Return where the next value, or the text of a string, begins; -1 if it is not found soon."""
        data, at = self._data, self._at
        first = part[:_FIRST]
        for _ in range(_MOST_TRIED):
            at = data.find(first, at, at + _FARTHEST + _FIRST)
            if at <= 0 or at + len(part) >= len(data):
                return -1
            if data.startswith(part, at) and (data[at - 1], data[at + len(part)]) in _AROUND:
                self._at = at
                return at
            at += 1
        return -1

    def pass_by(self, end: int) -> None:
        """Go on behind a part of which no part is asked for."""
        self._at = end

    def _has_token(self, part: bytes) -> bool:
        """Say whether a token may be in a part, if the first look does not tell."""
        if self._may_have_token is None:
            self._may_have_token = may_have_token(self._data)
        return self._may_have_token and may_have_token(part)


def _within(places: list[int], begin: int, end: int) -> list[int]:
    first, last = bisect_right(places, begin), bisect_right(places, end + 1)
    return [min(place, end) - begin for place in places[first:last]]


def _place(form: tuple[int, int]) -> int:
    return form[1]
