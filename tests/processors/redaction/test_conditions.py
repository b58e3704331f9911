"""The signs beside a name exclude only conditions that do not hold there."""

from __future__ import annotations

import re

import pytest

from benchmarks.redaction_corpus.harmless import HARMLESS
from benchmarks.redaction_corpus.score import cases
from nat_observability.processors.redaction.forms.finding import forms_near
from nat_observability.processors.redaction.forms.table import NAMED
from nat_observability.processors.redaction.names.conditions import Condition, Conditions, both, either
from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.recognisers import RECOGNISERS, searched_near
from nat_observability.recording.capture import capture

WORD = re.compile(rb"[A-Za-z0-9_.\-\x80-\xff]+")


def texts() -> list[bytes]:
    """Some of the corpus in every context, and what only looks like a secret."""
    values = [case.given for case in cases(0.0008)] + [
        each for kind in HARMLESS.values() for each in kind[:1]
    ]
    recorded = [capture(value) for value in values]
    return [each.encode() if isinstance(each, str) else bytes(each) for each in recorded if each is not None]


def words_of(data: bytes) -> list[Place]:
    return [Place(*match.span(), is_unsure=False) for match in WORD.finditer(data)]


def test_every_condition_that_holds_is_tried() -> None:
    """At each word of each text, whichever signs stand beside it."""
    searched = [each.near for each in RECOGNISERS if each.near is not None]
    held = 0
    for data in texts():
        places = words_of(data)
        for near, conditions in (
            (forms_near(data, places), [form.near for form in NAMED]),
            (searched_near(data, places), searched),
        ):
            for number, condition in enumerate(conditions):
                if condition is not None:
                    holding = [place for place in places if condition.holds(data, place)]
                    assert near.get(number, []) == holding, (number, data)
                    held += len(holding)
    assert held > 500


@pytest.mark.parametrize(
    ("data", "is_tried"), [(b"<a>", True), (b"(a>", False), (b"<a)", False), (b"a>", False), (b"<a", False)]
)
def test_a_condition_is_tried_only_between_its_signs(data: bytes, is_tried: bool) -> None:
    """Neither at other signs nor at an end of the text, where its signs cannot be."""
    tried: list[Place] = []

    def holds(_: bytes, place: Place) -> bool:
        tried.append(place)
        return True

    conditions = Conditions([(7, Condition(holds, begins=b">", ends=b"<"))])
    (place,) = words_of(data)
    assert conditions.holding(data, [place]) == ({7: [place]} if is_tried else {})
    assert conditions.is_one_holding(data, place) is is_tried
    assert tried == [place] * 2 * is_tried


def test_signs_of_two_conditions() -> None:
    """Both need the signs that they have in common, either of them any; without signs it may be anything."""
    one, other, free = (Condition(lambda data, place: True, begins) for begins in (b"ab", b"bc", None))
    assert both(one, other).begins == b"b"
    assert both(free, other).begins == both(other, free).begins == b"bc"
    assert set(either(one, other).begins or b"") == set(b"abc")
    assert either(one, free).begins is None
