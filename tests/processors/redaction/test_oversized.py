"""Items with more bytes than are searched: they are cut first, and no half of a secret stays at the cut."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nat_observability.events import ErrorDetails, Span, SpanEvent, SpanLink
from nat_observability.processors import Redactor, Truncator
from tests.processors.builders import a_span

_LIMIT = 2048
_SECRETS = {
    "AKIAIOSFODNN7EXAMPLX": "IOSF",
    "4111 1111 1111 1111": "1111",
    "password: 'correct horse battery staple x9'": "horse",
    "ghp_" + "a1B2" * 9: "a1B2",
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEowIBAAKCAQEAx7Qm9\n" * 20
    + "-----END RSA PRIVATE KEY-----": "x7Qm9",
}


def with_input(value: Any, **fields: Any) -> Span:
    """Return a span with an input that no capture has cut."""
    return msgspec.structs.replace(a_span("x"), input=value, **fields)


def as_raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def shown(item: Any) -> str:
    return msgspec.json.encode([item.input, item.output, item.attributes, item.error]).decode()


@pytest.mark.parametrize("secret", _SECRETS, ids=[secret[:5] for secret in _SECRETS])
def test_no_half_of_a_secret_stays_at_a_cut(secret: str) -> None:
    """Wherever the cut falls: in a text, in JSON, in a traceback, in attributes, and in the pieces of an answer."""
    part = _SECRETS[secret]
    redactor = Redactor(bytes_limit=_LIMIT, personal=("card",))
    for pad in range(_LIMIT - 900, _LIMIT, 67):
        text = "ab " * (pad // 3) + "y" * (pad % 3) + " " + secret + " tail" * 2000
        raw = msgspec.Raw(msgspec.json.encode({"a": text, "b": [1, 2]}))
        pieces = msgspec.Raw(msgspec.json.encode([text[at : at + 3] for at in range(0, len(text), 3)]))
        behind = "tail " * 2000 + secret + " " + "ab " * (pad // 3)
        for item in (
            with_input(text),
            with_input(raw),
            with_input(None, attributes=raw),
            with_input(None, output=pieces, chunks=9),
            with_input(None, error=ErrorDetails("E", "x", behind)),
        ):
            left = shown(Truncator()(redactor(item)))
            assert part not in left, (pad, left[-200:])
            assert "[cut:" in left


def test_what_is_left_out_is_marked_with_the_size_it_had() -> None:
    """And the rest is as it was."""
    text = "a line of a text\n" * 100_000
    cut = Redactor(bytes_limit=_LIMIT)(with_input(text)).input
    assert isinstance(cut, str)
    kept, mark, _ = cut.partition("[cut:1700000]")
    assert mark
    assert text.startswith(kept)
    assert _LIMIT * 0.6 < len(kept) < _LIMIT


def test_an_item_within_the_limit_is_searched_whole() -> None:
    """Nothing of it is left out."""
    text = "a line of a text\n" * 100
    item = with_input(text)
    assert Redactor(bytes_limit=_LIMIT)(item) is item


def test_pieces_of_an_answer_stay_a_list_of_texts() -> None:
    """The last ones are left out, and the mark is one of them."""
    pieces = msgspec.Raw(msgspec.json.encode(["some "] * 5000))
    cut = Redactor(bytes_limit=_LIMIT)(with_input(None, output=pieces, chunks=5000)).output
    assert isinstance(cut, msgspec.Raw)
    texts = msgspec.json.decode(cut, type=list[str])
    assert texts[0] == "some "
    assert texts[-1] == "[cut:5000]"


@pytest.mark.parametrize(
    "output", [b'["some', b'"one text' + b" of it" * 5000 + b'"', b'{"some": [' + b"1," * 5000 + b"1]}"]
)
def test_pieces_that_are_none_are_cut_all_the_same(output: bytes) -> None:
    """Whatever stands where the list of the pieces of an answer should be."""
    item = with_input("x" * 9000, output=msgspec.Raw(output), chunks=9)
    cut = Redactor(bytes_limit=_LIMIT)(item)
    assert len(shown(msgspec.structs.replace(cut, output=None))) < _LIMIT
    assert isinstance(cut.output, msgspec.Raw)
    assert len(cut.output) < _LIMIT


def test_tags_and_details_are_cut_where_they_are_too_long() -> None:
    """Each keeps its beginning, and no half of what is next to its cut."""
    half = "AKIAIOSFODNN7EXAMPLX"
    text = "ab " * 300 + half + " tail" * 4000
    details = as_raw({"text": text, "password": "x9K2m4Q7"})
    item = with_input(
        None,
        tags=(text, "short"),
        events=(SpanEvent("event", 1, details), SpanEvent("bare", 2)),
        links=(SpanLink("ab" * 16, "cd" * 8, details),),
    )
    cut = Redactor(bytes_limit=_LIMIT)(item)
    assert isinstance(cut, Span)
    left = msgspec.json.encode([cut.tags, cut.events, cut.links]).decode()
    assert "[cut:" in left
    assert "IOSF" not in left
    assert "x9K2m4Q7" not in left
    assert [event.name for event in cut.events][:1] == ["event"]


def test_what_a_cut_leaves_out_is_not_searched() -> None:
    """So that the time for an item does not grow with it: as many are found in a longer one."""
    seen: list[int] = []

    redactor = Redactor(bytes_limit=_LIMIT)
    for size in (10, 1000):
        item = redactor(with_input("password=hunter2x8K\n" * 1000 * size))
        assert isinstance(item.input, str)
        seen.append(item.input.count("[redacted:password]"))
    assert 0 < seen[1] <= seen[0] < _LIMIT // 16


@pytest.mark.parametrize("limit", [0, 100, -1])
def test_a_limit_that_leaves_no_room_is_refused(limit: int) -> None:
    """In words."""
    with pytest.raises(ValueError, match=r"bytes_limit must be 1024 or more"):
        Redactor(bytes_limit=limit)
