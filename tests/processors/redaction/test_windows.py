"""Windows: what is found in long texts, a part at a time, is what the expression finds in all of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability.processors.redaction.text.windows import matches, search

LONG = 32 * 1024  # bytes of a window, of which the next one repeats 4096
EXPRESSIONS = [
    rb"pass\w*=\S+",
    rb"a+",
    rb"(?<=x)b{2,}(?=y)",
    rb"\bkey\b",
    rb"(?:ab)*c",
    rb"$",
    rb"",
]


@st.composite
def long_texts(draw: st.DrawFn) -> bytes:
    """Draw a text of a few windows with pieces that match, often where two windows meet."""
    data = bytearray(b"." * draw(st.integers(LONG - 10, 3 * LONG + 10)))
    for _ in range(draw(st.integers(1, 6))):
        piece = draw(
            st.sampled_from([b"password=secret ", b"aaa", b"xbbby", b" key ", b"ababc", b"a" * 9000])
        )
        border = draw(st.sampled_from([0, LONG - 4096, LONG, 2 * LONG - 8192, 2 * LONG - 4096, len(data)]))
        at = max(0, border + draw(st.integers(-20, 20)))
        data[at : at + len(piece)] = piece
    return bytes(data)


@settings(max_examples=40)
@given(data=long_texts(), expression=st.sampled_from(EXPRESSIONS[:-2]))
def test_long_texts_are_searched_as_short_ones(data: bytes, expression: bytes) -> None:
    """Each match once, whole, and in order."""
    compiled = re.compile(expression)
    found = [match.span() for match in matches(compiled, data)]
    assert found == [match.span() for match in compiled.finditer(data)]
    first = compiled.search(data)
    one = search(compiled, data)
    assert (one and one.span()) == (first and first.span())


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("length", [0, 1, 100])
def test_short_texts_are_searched_at_once(expression: bytes, length: int) -> None:
    """Empty matches included."""
    compiled = re.compile(expression)
    data = (b"password=x key ababc" * 10)[:length]
    assert [each.span() for each in matches(compiled, data)] == [
        each.span() for each in compiled.finditer(data)
    ]
    assert [each.span() for each in matches(compiled, data, 1, 5)] == [
        each.span() for each in compiled.finditer(data, 1, 5)
    ]


def test_a_match_that_is_longer_than_a_window_is_whole() -> None:
    """A secret of several windows is not cut where one of them ends."""
    data = b"." * 100 + b"a" * (3 * LONG) + b"." * LONG
    assert [each.span() for each in matches(re.compile(rb"a+"), data)] == [(100, 100 + 3 * LONG)]
