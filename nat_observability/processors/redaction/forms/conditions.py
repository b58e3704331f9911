"""Conditions: what stands around a name if a form is there, and by which signs next to it that can be told at once."""

from __future__ import annotations

import re
from collections.abc import Callable
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
    """

    holds: Near
    begins: bytes | None = None


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
    signs = frozenset(ends)

    def holds(data: bytes, place: Place) -> bool:
        begin = place.begin
        return (
            begin > 0
            and data[begin - 1] in signs
            and search(data, max(0, begin - longest), begin) is not None
        )

    return Condition(holds)


def before(literals: tuple[bytes, ...], longest: int) -> Condition:
    """Return the condition that one of some literals is in so many bytes before the end of the name."""
    return Condition(
        lambda data, place: has_any(data[max(0, place.begin - longest) : place.end], literals), None
    )


def ahead(literal: bytes, longest: int = 600) -> Condition:
    """Return the condition that a literal is in so many bytes behind the name."""
    return Condition(lambda data, place: data.find(literal, place.end, place.end + longest) >= 0)


def either(first: Condition, second: Condition) -> Condition:
    """Return the condition that one of two holds."""
    one, other = first.holds, second.holds
    begins = None if first.begins is None or second.begins is None else first.begins + second.begins
    return Condition(lambda data, place: one(data, place) or other(data, place), begins)


def both(first: Condition, second: Condition) -> Condition:
    """Return the condition that two hold."""
    one, other = first.holds, second.holds
    return Condition(
        lambda data, place: one(data, place) and other(data, place),
        first.begins if second.begins is None else second.begins,
    )
