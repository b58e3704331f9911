"""Conditions: what stands around a name if a form is there, and by which signs next to it that can be told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.text.runs import has_any

Near = Callable[[bytes, Place], bool]


class Condition(NamedTuple):
    """
    What stands around a name.

    Attributes:
        holds: Takes a text and the place of a name, and says whether it stands there.
        begins: Signs of which one is directly behind the name; None if anything may be there, or nothing.
        ends: Signs of which one is directly before the name; None if anything may be there, or nothing.
    """

    holds: Near
    begins: bytes | None = None
    ends: bytes | None = None

    def may_hold(self, before: bytes, behind: bytes) -> bool:
        """Say whether it may hold if these signs are next to the name; each is empty at an end of the text."""
        return (self.begins is None or (behind != b"" and behind in self.begins)) and (
            self.ends is None or (before != b"" and before in self.ends)
        )


class Conditions:
    """
    Several conditions, of which only those are tried that the signs next to a name do not exclude.

    Args:
        conditions: Each with its number.
    """

    __slots__ = ("_by_signs", "_conditions")

    def __init__(self, conditions: Iterable[tuple[int, Condition]]) -> None:
        self._conditions = tuple(conditions)
        self._by_signs: dict[tuple[int, int], tuple[tuple[int, Near], ...]] = {}

    def holding(self, data: bytes, places: Iterable[Place]) -> dict[int, list[Place]]:
        """Return the places at which one holds, in order, by its number."""
        # One condition at all places after the other: that takes half the time of one place after the other.
        tried: dict[tuple[int, Near], list[Place]] = {}
        for place in places:
            for each in self._tried(data, place):
                tried.setdefault(each, []).append(place)
        found: dict[int, list[Place]] = {}
        for (number, holds), where in tried.items():
            holding = [place for place in where if holds(data, place)]
            if holding:
                found[number] = holding
        return found

    def is_one_holding(self, data: bytes, place: Place) -> bool:
        """Say whether one of them holds at a place."""
        for _, holds in self._tried(data, place):  # noqa: SIM110  any() takes longer
            if holds(data, place):
                return True
        return False

    def _tried(self, data: bytes, place: Place) -> Sequence[tuple[int, Near]]:
        begin, end = place.begin, place.end
        signs = data[begin - 1] if begin else -1, data[end] if end < len(data) else -1
        tried = self._by_signs.get(signs)
        if tried is None:
            before, behind = (b"" if sign < 0 else bytes((sign,)) for sign in signs)
            tried = self._by_signs[signs] = tuple(
                (number, condition.holds)
                for number, condition in self._conditions
                if condition.may_hold(before, behind)
            )
        return tried


def follows(expression: bytes, begins: bytes, flags: int = 0) -> Condition:
    """
    Return the condition that an expression matches behind the name, and the further words of it.

    Args:
        begins: The signs with which it may begin.
    """
    match = re.compile(expression, flags).match
    return Condition(lambda data, place: match(data, place.end, place.end + 600) is not None, begins)


def precedes(expression: bytes, longest: int, ends: bytes) -> Condition:
    """
    Return the condition that an expression matches up to the name.

    Args:
        longest: Bytes that are looked at.
        ends: The signs with which it may end.
    """
    search = re.compile(expression + rb"\Z").search
    return Condition(
        lambda data, place: search(data, max(0, place.begin - longest), place.begin) is not None, ends=ends
    )


def before(literals: tuple[bytes, ...], longest: int) -> Condition:
    """Return the condition that one of some literals is in so many bytes before the end of the name."""
    if len(literals) == 1:
        literal = literals[0]
        return Condition(
            lambda data, place: data.rfind(literal, max(0, place.begin - longest), place.end) >= 0
        )
    return Condition(lambda data, place: has_any(data[max(0, place.begin - longest) : place.end], literals))


def ahead(literal: bytes, longest: int = 600) -> Condition:
    """Return the condition that a literal is in so many bytes behind the name."""
    return Condition(lambda data, place: data.find(literal, place.end, place.end + longest) >= 0)


def either(first: Condition, second: Condition) -> Condition:
    """Return the condition that one of two holds."""
    one, other = first.holds, second.holds
    return Condition(
        lambda data, place: one(data, place) or other(data, place),
        _united(first.begins, second.begins),
        _united(first.ends, second.ends),
    )


def both(first: Condition, second: Condition) -> Condition:
    """Return the condition that two hold."""
    one, other = first.holds, second.holds
    return Condition(
        lambda data, place: one(data, place) and other(data, place),
        _common(first.begins, second.begins),
        _common(first.ends, second.ends),
    )


def _united(first: bytes | None, second: bytes | None) -> bytes | None:
    return None if first is None or second is None else first + second


def _common(first: bytes | None, second: bytes | None) -> bytes | None:
    if first is None or second is None:
        return second if first is None else first
    return bytes(sign for sign in first if sign in second)
