"""The spool's record: what was encoded comes back, and nothing else does."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.events import (
    Boundary,
    ErrorDetails,
    Item,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.spool.record import UnreadableRecordError, decode_item, encode_item
from tests.sinks.builders import make_span, make_step

texts = st.text(st.characters(exclude_categories=["Cs"]))
captured = st.none() | texts | st.binary(min_size=1).map(msgspec.Raw)
optional = st.none() | texts
counts = st.integers(0, 2**63 - 1)
tags = st.dictionaries(texts, texts, max_size=3).map(lambda tags: tuple(sorted(tags.items())))
runs = st.builds(Run, texts, texts, optional, optional, optional, optional, tags)
raw = st.none() | st.binary(min_size=1).map(msgspec.Raw)
shared: dict[str, Any] = {
    "run": runs,
    "kind": st.sampled_from(StepKind),
    "name": texts,
    "parent_id": optional,
    "input": captured,
    "output": captured,
    "metadata": st.none() | st.binary(min_size=1).map(msgspec.Raw),
    "tags": st.lists(texts).map(tuple),
    "usage": st.none() | st.builds(TokenUsage, counts, counts, counts, counts, counts),
    "error": st.none() | st.builds(ErrorDetails, texts, texts, optional),
    "attributes": raw,
    "events": st.lists(st.builds(SpanEvent, texts, counts, raw, counts), max_size=2).map(tuple),
    "links": st.lists(
        st.builds(SpanLink, texts, texts, raw, optional, counts, counts, st.none() | st.booleans()),
        max_size=2,
    ).map(tuple),
    "span_kind": st.sampled_from(SpanKind),
    "status_message": optional,
    "dropped_attributes_count": counts,
    "dropped_events_count": counts,
    "dropped_links_count": counts,
    "origin": st.none()
    | st.builds(
        SpanOrigin,
        texts,
        optional,
        raw,
        optional,
        optional,
        st.booleans(),
        st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
        st.integers(0, 255),
        st.booleans(),
    ),
}
spans = st.fixed_dictionaries(
    shared
    | {
        "start_ns": counts,
        "end_ns": counts,
        "status": st.sampled_from(Status),
        "chunks": counts,
        "first_chunk_ns": st.none() | counts,
        "cost": st.none() | st.just(TokenCost(0.25, 0.5, 0.75)),
    }
).map(lambda fields: make_span(**fields))
steps = st.fixed_dictionaries(
    shared
    | {
        "boundary": st.sampled_from(Boundary),
        "time_ns": counts,
        "chunk": captured,
        "status": st.none() | st.sampled_from(Status),
    }
).map(lambda fields: make_step(**fields))


def body_of(*fields: object) -> bytes:
    body = msgspec.msgpack.encode(fields)
    return b"\x01" + zlib.crc32(body).to_bytes(4, "little") + body


@given(spans | steps)
def test_an_item_survives_exactly(item: Item) -> None:
    """What is decoded equals what was encoded, JSON to the byte, and text never turns into JSON."""
    assert decode_item(encode_item(item)) == item


def test_a_record_of_an_earlier_version_is_read() -> None:
    """One that ends before attributes: it has none of what came later, and the span kind of its kind."""
    run = msgspec.msgpack.encode(("run-1", "0" * 32, None, None, None, None))
    span = decode_item(
        body_of(0, run, "LLM", "m", "1" * 16, None, 1, 2, "ok", "in", None, None, (), None, None, 0, None)
    )
    assert isinstance(span, Span)
    assert (span.attributes, span.events, span.links, span.status_message) == (None, (), (), None)
    assert span.span_kind is SpanKind.CLIENT
    old = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cached_tokens": 3,
        "reasoning_tokens": 4,
        "total_tokens": 5,
    }
    step = decode_item(
        body_of(1, run, "TOOL", "END", "t", "1" * 16, None, 1, None, None, None, None, (), old, None)
    )
    assert (step.usage, step.attributes, step.span_kind) == (TokenUsage(1, 2, 3, 4, 5), None, None)


def test_a_bare_item_has_a_record_as_before() -> None:
    """What it does not have takes no room, and an earlier version can read it."""
    assert len(msgspec.msgpack.decode(encode_item(make_span())[5:])) == 17
    assert len(msgspec.msgpack.decode(encode_item(make_step())[5:])) == 15


def test_text_that_looks_like_json_stays_text() -> None:
    """The text `"a"` and the JSON `"a"` are different values, and stay so."""
    item = make_span(input='"a"', output=msgspec.Raw(b'"a"'))
    decoded = decode_item(encode_item(item))
    assert (type(decoded.input), type(decoded.output)) == (str, msgspec.Raw)


def test_items_of_a_run_share_it_again() -> None:
    """Items that are decoded with one dict share the object of their run, as they did in memory."""
    runs: dict[bytes, Run] = {}
    first, second = (decode_item(encode_item(item), runs) for item in (make_span(), make_step()))
    other = decode_item(encode_item(make_span(run=Run("other", "0" * 32))), runs)
    assert first.run is second.run
    assert other.run == Run("other", "0" * 32)


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
def test_text_that_utf8_cannot_hold_is_escaped(text: str) -> None:
    """A lone surrogate costs neither the item nor the rest of its text, wherever it stands."""
    escaped = text.encode("utf-8", "backslashreplace").decode()
    item = make_span(
        run=Run(text, "0" * 32, tags=((text, text),)),
        name=text,
        input=text,
        tags=(text,),
        error=ErrorDetails(text, text, text),
    )
    decoded = decode_item(encode_item(item))
    assert isinstance(decoded, Span)
    assert (decoded.run.run_id, decoded.name, decoded.input) == (escaped,) * 3
    assert decoded.run.tags == ((escaped, escaped),)
    assert decoded.tags == (escaped,)
    assert decoded.error == ErrorDetails(escaped, escaped, escaped)


def test_an_integer_over_64_bits_becomes_the_nearest_that_fits() -> None:
    """A token count that no back end can hold does not cost the span."""
    decoded = decode_item(encode_item(make_span(usage=TokenUsage(2**70, -(2**70)))))
    assert decoded.usage == TokenUsage(2**63 - 1, -(2**63))


def test_a_value_of_another_type_becomes_json() -> None:
    """Any value that a processor put in place of text or JSON is kept, as JSON."""
    decoded = decode_item(encode_item(make_span(input={"a": [1, None]})))
    assert decoded.input == msgspec.Raw(b'{"a":[1,null]}')


def test_a_record_of_before_runs_had_tags_is_read() -> None:
    """What an earlier version has spooled is delivered by this one."""
    run = msgspec.msgpack.encode(["r", "t", None, None, None, None])
    record = body_of(0, run, "LLM", "n", "s", None, 1, 2, "ok", None, None, None, [], None, None, 0, None)
    assert decode_item(record).run == Run("r", "t")


@given(spans, st.data())
def test_a_flipped_bit_is_noticed(span: Span, data: st.DataObject) -> None:
    """A record that a disk has changed is an error, not another span."""
    record = bytearray(encode_item(span))
    record[data.draw(st.integers(0, len(record) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(UnreadableRecordError):
        decode_item(bytes(record))


@given(st.binary())
def test_foreign_bytes_are_a_clear_error(data: bytes) -> None:
    """Foreign bytes raise the one error, and its message says what to do."""
    with pytest.raises(UnreadableRecordError, match=r"cannot be read: it .*Spool\.reject"):
        decode_item(data)


def test_a_newer_format_is_named() -> None:
    """The error for a record of a newer version says so."""
    with pytest.raises(UnreadableRecordError, match="format 2, and this version knows 1"):
        decode_item(b"\x02" + encode_item(make_span())[1:])


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(body_of("text"), id="not a record"),
        pytest.param(body_of(0, b"", "LLM"), id="too few fields"),
        pytest.param(body_of(7, b""), id="unknown kind of item"),
        pytest.param(
            body_of(0, b"\xc1", "LLM", "n", "s", None, 1, 2, "ok", None, None, None, [], None, None, 0, None),
            id="a run that is none",
        ),
        pytest.param(
            body_of(
                0,
                msgspec.msgpack.encode(["r", "t", None, None, None, None]),
                *("LLM", "n", "s", None, 1, 2, "ok", {}, None, None, [], None, None, 0, None),
            ),
            id="a value that is neither text nor JSON",
        ),
    ],
)
def test_a_record_of_another_shape_is_a_clear_error(record: bytes) -> None:
    """Valid bytes of a valid format that hold no item raise the same error."""
    with pytest.raises(UnreadableRecordError):
        decode_item(record)
