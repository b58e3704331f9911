"""Finding: tries each form of the table at the names and the literals near which it may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nat_observability.processors.redaction.forms.calls import find_arguments
from nat_observability.processors.redaction.forms.code import find_calls, find_declared
from nat_observability.processors.redaction.forms.commands import find_settings
from nat_observability.processors.redaction.forms.markup import find_cells, find_html_columns, find_tags
from nat_observability.processors.redaction.forms.nearness import LONGEST_LIST
from nat_observability.processors.redaction.forms.prose import find_stated
from nat_observability.processors.redaction.forms.protocols import find_comparisons
from nat_observability.processors.redaction.forms.records import (
    find_automated,
    find_input_values,
    find_multipart,
    find_variables,
)
from nat_observability.processors.redaction.forms.table import NAMED, UNNAMED, Find, Form
from nat_observability.processors.redaction.forms.tabular import find_aligned, find_bars, find_columns
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.conditions import Conditions
from nat_observability.processors.redaction.names.keys import STRONG, UNSURE, KeyMatcher
from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.values.verdicts import is_strong, next_strong


def _find_strong(find: Find, data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find what can only be a password, under the name that also means that something has passed."""
    for start, end, label in find(data, keys.with_unsure(STRONG)):
        if label == STRONG and is_strong(data[start:end]):
            yield start, end, UNSURE


# In a sentence that name says nothing.
_STRUCTURED = frozenset((
    find_tags, find_cells, find_html_columns, find_bars, find_columns, find_aligned, find_settings, find_comparisons,
    find_stated, find_multipart, find_input_values, find_automated, find_variables, find_declared, find_calls,
    find_arguments,
))  # fmt: skip
UNSURE_NAMED = tuple(
    replace(form, find=partial(_find_strong, form.find)) for form in NAMED if form.find in _STRUCTURED
)
"""The forms with the name that means either a password or that something has passed."""

# As many bytes as one of them looks at, with the rest of a line.
_BEFORE_UNSURE = max(form.before for form in UNSURE_NAMED) + LONGEST_LIST
_BEHIND_UNSURE = max(form.behind for form in UNSURE_NAMED)
_ALL_NAMED = (*NAMED, *UNSURE_NAMED)
_CONDITIONS, _UNSURE_CONDITIONS = (
    Conditions(
        (number, form.near)
        for number, form in enumerate(_ALL_NAMED)
        if form.near is not None and (number >= len(NAMED)) is is_unsure
    )
    for is_unsure in (False, True)
)


def forms_near(data: bytes, places: Iterable[Place]) -> Mapping[int, Sequence[Place]]:
    """Return the places at which a form with a name may be, in order, by the number of the form."""
    sure: list[Place] = []
    unsure: list[Place] = []
    for place in places:
        (unsure if place.is_unsure else sure).append(place)
    found = _CONDITIONS.holding(data, sure)
    if unsure and (shaped := _UNSURE_CONDITIONS.holding(data, unsure)):
        # What takes longest is asked last.
        strong = frozenset(
            _with_strong_near(data, sorted({place for near in shaped.values() for place in near}))
        )
        for number, near in shaped.items():
            if telling := [place for place in near if place in strong]:
                found[number] = telling
    return found


def telling_places(data: bytes, places: Sequence[Place]) -> Sequence[Place]:
    """Return those of some places, in order, at which a name that a sign follows may have a value."""
    return [place for place in places if not place.is_unsure or _is_signed(data, place)]


_SIGN_BEHIND = re.compile(
    rb"[-_. ]{0,4}(?:(?:[\"'`\]*_\\\s+|?]|\\[nrt]){0,64}[:=,<>]|\\{0,64}[\"']|\[[0-9]|[\x80-\xff]"
    rb"|(?:[\s+]|\\++[nrt]){1,64}[\w.-]{1,64}[ ]?[:=])"
)


def _is_signed(data: bytes, place: Place) -> bool:
    """Say whether a sign is behind a name, or before it, without which it says nothing."""
    return (
        _SIGN_BEHIND.match(data, place.end) is not None
        or data.rfind(b"<", max(0, place.begin - 256), place.begin) >= 0
        or data.find(b"--", max(0, place.begin - 40), place.end) >= 0
        or data.find(b"- -", max(0, place.begin - 90), place.begin) >= 0
        or data.find(b"-+-", max(0, place.begin - 90), place.begin) >= 0
    )


def _with_strong_near(data: bytes, places: Iterable[Place]) -> list[Place]:
    """Return the places near which something can only be a password."""
    near: list[Place] = []
    reached, at = 0, -1
    for place in places:
        begin, end = place.begin - _BEFORE_UNSURE, place.end + _BEHIND_UNSURE
        if at < max(begin, 0):
            at = next_strong(data, max(begin, reached, 0), end)
            reached = end if at < 0 else at + 1
        if at >= 0:
            near.append(place)
    return near


def find_named(data: bytes, near: Mapping[int, Sequence[Place]], keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in the forms that may be at these places, by the numbers of the forms."""
    for number, places in near.items():
        form = _ALL_NAMED[number]
        windows: list[tuple[int, int]] = []
        for place in places:
            if form.is_from_line:
                begin = max(
                    0,
                    data.rfind(b"\n", max(0, place.begin - LONGEST_LIST), place.begin) + 1,
                    place.begin - LONGEST_LIST,
                )
            else:
                begin = _begin_of_line(data, place.begin - form.before)
            _add(windows, begin, place.end + form.behind)
        for start, end in windows:
            yield from _find_in(form, data, start, end, keys)


def is_form_near(data: bytes, place: Place) -> bool:
    """Say whether one of the forms with a name may be at a place."""
    return (_UNSURE_CONDITIONS if place.is_unsure else _CONDITIONS).is_one_holding(data, place)


def find_unnamed(data: bytes, literals: Iterable[tuple[int, int]], keys: KeyMatcher) -> Iterator[Found]:
    """
    Find the values in the forms without a name.

    Args:
        literals: The number of a form, and where one of its literals ends, in order.
    """
    by_form: dict[int, list[tuple[int, int]]] = {}
    for number, end in literals:
        form = UNNAMED[number]
        windows = by_form.setdefault(number, [])
        if windows and end - form.before <= windows[-1][1]:
            # Wherever its line begins.
            windows[-1] = (windows[-1][0], max(end + form.behind, windows[-1][1]))
        else:
            _add(windows, _begin_of_line(data, end - form.before), end + form.behind)
    for number, windows in by_form.items():
        for start, stop in windows:
            yield from _find_in(UNNAMED[number], data, start, stop, keys)


_MAY_FOLLOW = {number: form.may_follow for number, form in enumerate(UNNAMED) if form.may_follow is not None}
_MOST_COMPARED = 512  # of the literals of a text: to compare more takes longer than it saves


def begun(data: bytes, literals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of some literals, each with the number of its form, behind which stands what the form needs."""
    if len(literals) > _MOST_COMPARED or _MAY_FOLLOW.keys().isdisjoint([number for number, _ in literals]):
        return literals
    return [
        (number, end)
        for number, end in literals
        if (may_follow := _MAY_FOLLOW.get(number)) is None or may_follow(data, end)
    ]


def find_anywhere(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in all forms, without a look at where they may be."""
    for form in (*_ALL_NAMED, *UNNAMED):
        if not form.literals or any(data.find(literal) >= 0 for literal in form.literals):
            yield from form.find(data, keys)


def _add(windows: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a window, joined with the last one if they overlap."""
    if windows and start <= windows[-1][1]:
        windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
    else:
        windows.append((start, end))


def _begin_of_line(data: bytes, at: int) -> int:
    """Return where a window may begin: with a line, if one begins shortly before."""
    if at <= 0:
        return 0
    line = data.rfind(b"\n", max(0, at - 300), at)
    return line + 1 if line >= 0 else at


def _find_in(form: Form, data: bytes, start: int, end: int, keys: KeyMatcher) -> Iterator[Found]:
    part = data[start:end] if start or end < len(data) else data
    for begin, stop, label in form.find(part, keys):
        yield start + begin, start + stop, label
