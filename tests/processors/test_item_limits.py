"""Truncator: its results are within the limits, marked, and still UTF-8 and JSON with whole redaction marks."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability.delivery.queue import BARE_ITEM, weigh
from nat_observability.errors import InvalidLimitError
from nat_observability.events import Captured, Item, SpanEvent, SpanLink
from nat_observability.processors import Limits, Redactor, Truncator
from nat_observability.processors.cuts import MARK, cut_json, cut_text
from tests.processors.builders import a_span, a_step, an_error, identity

texts = st.text('ab é€😀\n"\\', max_size=300) | st.builds(
    lambda parts: "".join(parts),
    st.lists(
        st.sampled_from(("a", "é", "😀", "[redacted:openai_key]", "[redacted:password:0123456789abcdef]")),
        max_size=30,
    ),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.text('abé"', max_size=8), inner, max_size=8)
    ),
    max_leaves=25,
)
EXAMPLES = settings(max_examples=40, deadline=None)


def length_limit(characters: int) -> Truncator:
    return Truncator(Limits(attribute_value_length_limit=characters, span_bytes_limit=None))


def size(item: Item) -> int:
    """Return the number of bytes recorded in an item."""
    error = item.error
    parts: list[Any] = [item.name, item.input, item.output, item.metadata, *item.tags]
    parts += [error.message, error.traceback] if error is not None else []
    return sum(
        len(part.encode() if isinstance(part, str) else bytes(part)) for part in parts if part is not None
    )


def assert_whole(value: Captured) -> None:
    """Check that a value is still UTF-8 and JSON, and that its marks are whole."""
    if isinstance(value, msgspec.Raw):
        text = json.dumps(json.loads(bytes(value).decode()), ensure_ascii=False)
    else:
        text = value or ""
    text.encode()
    assert text.count("[redacted:") == len(MARK.findall(text))
    rest = MARK.sub("", text)
    assert "redacted:" not in rest
    assert not re.search(r"(openai_key|password[:\]]|abcdef\])", rest)


@given(values, st.integers(0, 400))
@EXAMPLES
def test_no_value_is_longer_than_the_limit(value: object, limit: int) -> None:
    """In characters, as OpenTelemetry counts them; texts, JSON, errors and tags."""
    text = value if isinstance(value, str) else repr(value)
    span = a_span(value, text, metadata={"a": value}, error=an_error(text, text), tags=(text,))
    cut = length_limit(limit)(span)
    error = cut.error
    assert error is not None
    for part in (cut.input, cut.output, cut.metadata, error.message, error.traceback, *cut.tags):
        assert_whole(part)
        shown = bytes(part).decode() if isinstance(part, msgspec.Raw) else part
        assert shown is None or len(shown) <= limit
    assert identity(cut) == identity(span)
    assert length_limit(limit)(cut) == cut


@given(values, values, st.integers(1024, 3000))
@EXAMPLES
def test_no_item_has_more_bytes_than_the_limit(value: object, output: object, limit: int) -> None:
    """Everything recorded in it together; an item within the limit is the same object."""
    text = output if isinstance(output, str) else repr(output)
    span = a_span(
        [value] * 9,
        output,
        metadata={"a": value, "b": text},
        error=an_error(text * 3, text),
        tags=(text,),
        name=text,
    )
    cut = Truncator(Limits(span_bytes_limit=limit))(span)
    assert size(cut) <= limit
    if size(span) <= limit:
        assert cut is span
    assert cut.error is not None
    for part in (
        cut.input,
        cut.output,
        cut.metadata,
        cut.error.message,
        cut.error.traceback,
        *cut.tags,
        cut.name,
    ):
        assert_whole(part)
    assert identity(cut) == identity(span)


def test_a_cut_states_the_original_size() -> None:
    """Characters of a text, items of a list, fields of an object."""
    assert length_limit(20)(a_span("x" * 100)).input == "x" * 11 + "[cut:100]"
    assert length_limit(5)(a_span("x" * 100)).input == "xxxxx", "there is no room for the mark"
    cut = length_limit(100)(a_span(list(range(100, 500)))).input
    items = json.loads(bytes(cut))  # type: ignore[arg-type]
    assert items[:3] == [100, 101, 102]
    assert items[-1] == "[cut:400]"
    cut = length_limit(100)(a_span({f"k{number}": number for number in range(100)})).input
    assert json.loads(bytes(cut))["[cut]"] == "[cut:100]"  # type: ignore[arg-type]


def test_a_second_cut_states_the_original_size() -> None:
    """The mark of the first cut is kept."""
    once = length_limit(50)(a_span("x" * 100))
    assert length_limit(20)(once).input == "x" * 11 + "[cut:100]"


def test_the_longest_parts_are_cut_first() -> None:
    """What is short stays whole, in an item and inside JSON."""
    limits = Truncator(Limits(span_bytes_limit=2000))
    cut = limits(a_span({"question": "why?", "document": "x" * 9000, "page": 7}, "because"))
    assert cut.output == "because"
    value = json.loads(bytes(cut.input))  # type: ignore[arg-type]
    assert (value["question"], value["page"]) == ("why?", 7)
    assert value["document"].startswith("x" * 1800)
    assert value["document"].endswith("[cut:9000]")


def test_a_traceback_keeps_its_end() -> None:
    """The last lines of a traceback tell what happened."""
    traceback = "".join(f"line {number}\n" for number in range(100)) + "ValueError: no"
    cut = length_limit(40)(a_span(error=an_error("no", traceback)))
    assert cut.error is not None
    assert cut.error.traceback is not None
    assert cut.error.traceback.startswith(f"[cut:{len(traceback)}]")
    assert cut.error.traceback.endswith("\nValueError: no")


def test_a_cut_leaves_no_half_of_a_mark() -> None:
    """A redaction mark at the cut is removed as a whole, since redaction comes before truncation."""
    span = Redactor()(a_span("password=x " + "y" * 50))
    assert isinstance(span, type(a_span()))
    for limit in range(9, 45):
        cut = length_limit(limit)(span).input
        assert isinstance(cut, str)
        assert "[red" not in cut or "[redacted:password]" in cut


def test_more_attributes_than_the_limit_are_left_out() -> None:
    """Keys of the metadata, and tags; 128 by default."""
    many = {f"k{number}": number for number in range(200)}
    cut = Truncator()(a_span(metadata=many, tags=tuple(many)))
    metadata = json.loads(bytes(cut.metadata))  # type: ignore[arg-type]
    assert list(metadata)[:127] == list(many)[:127]
    assert (len(metadata), metadata["[cut]"]) == (128, "[cut:200]")
    assert (len(cut.tags), cut.tags[-1]) == (128, "[cut:200]")
    assert Truncator()(cut) is cut
    few = a_span(metadata={f"k{number}": number for number in range(128)}, tags=("a",) * 128)
    assert Truncator()(few) is few
    assert Truncator(Limits(attribute_count_limit=0))(few).tags == ()


def test_more_events_and_links_than_the_limit_are_left_out() -> None:
    """Those of spans from another instrumentation."""
    metadata = {"otel.events": [{"name": "a"}] * 9, "otel.links": [1, 2, 3], "b": [0] * 9}
    cut = Truncator(Limits(event_count_limit=4, link_count_limit=3))(a_span(metadata=metadata))
    assert json.loads(bytes(cut.metadata)) == metadata | {  # type: ignore[arg-type]
        "otel.events": [{"name": "a"}] * 3 + ["[cut:9]"]
    }


def test_a_mark_may_be_all_that_is_left() -> None:
    """If there is just enough room for it; with less room, the text is kept instead."""
    assert cut_text("x" * 100, 9) == "[cut:100]"
    assert cut_text("x" * 100, 8) == "x" * 8


def test_a_cut_text_uses_the_room_available() -> None:
    """In JSON, where some characters take two bytes and others one."""
    cut = cut_json(b'"' + b"\\n" * 3000 + b'"', 600)
    assert cut is not None
    assert 590 < len(cut) <= 600


@pytest.mark.parametrize("depth", [50, 60, 200])
def test_very_deep_json_is_cut_as_a_whole(depth: int) -> None:
    """The result is still JSON."""
    deep = b"[" * depth + b'"' + b"x" * 1000 + b'"' + b"]" * depth
    cut = cut_json(deep, 600)
    assert cut is not None
    assert cut == b"[" * 49 + b'"[cut:%d]"' % (len(deep) - 2 * 49) + b"]" * 49


def test_steps_are_cut_too() -> None:
    """Their chunks as well."""
    step = a_step("x" * 100, chunk="y" * 100)
    cut = length_limit(20)(step)
    assert (cut.input, cut.chunk) == ("x" * 11 + "[cut:100]", "y" * 11 + "[cut:100]")  # type: ignore[union-attr]
    assert identity(cut) == identity(step)
    assert length_limit(100)(step) is step


def test_invalid_json_is_cut_to_a_mark() -> None:
    """A Raw made by the application may be anything; after the cut it is JSON."""
    span = msgspec.structs.replace(a_span(), input=msgspec.Raw(b"[" + b"oops " * 100 + b"]"))
    assert bytes(length_limit(20)(span).input or b"") == b'"[cut:502]"'  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"attribute_count_limit": -1}, "attribute_count_limit is a whole number from 0 on, not -1"),
        (
            {"attribute_value_length_limit": 1.5},
            "attribute_value_length_limit is a whole number from 0 on, or None",
        ),
        ({"event_count_limit": True}, "event_count_limit is a whole number"),
        ({"link_count_limit": None}, "link_count_limit is a whole number from 0 on, not None"),
        (
            {"span_bytes_limit": 10},
            "span_bytes_limit is a whole number from 1024 on, or None for no limit, not 10",
        ),
    ],
)
def test_an_invalid_limit_is_refused(limits: dict[str, Any], message: str) -> None:
    """The message names it, and says what it can be."""
    with pytest.raises(InvalidLimitError, match=re.escape(message)):
        Limits(**limits)


def test_each_limit_sees_what_the_one_before_has_cut() -> None:
    """A span that fits its bytes after its values are cut loses nothing more."""
    span = a_span("a" * 500, error=an_error("b" * 9000, "c" * 9000), tags=("d" * 9000, "e"))
    both = Truncator(Limits(attribute_value_length_limit=100, span_bytes_limit=1024))(span)
    assert both == length_limit(100)(span)
    assert both.error == an_error("b" * 90 + "[cut:9000]", "[cut:9000]" + "c" * 90)


def test_tags_that_are_too_many_and_too_long_are_cut_both_ways() -> None:
    """Those that were left out do not come back when the others are shortened."""
    limits = Limits(attribute_count_limit=2, attribute_value_length_limit=20, span_bytes_limit=None)
    cut = Truncator(limits)(a_span(tags=("a" * 50, "b" * 50, "c")))
    assert cut.tags == ("a" * 12 + "[cut:50]", "[cut:3]")


raw_attributes = st.builds(
    lambda names, value: msgspec.Raw(msgspec.json.encode(dict.fromkeys(names, value))),
    st.lists(st.sampled_from(("", "a", "b", "é", "ab", "ba")), max_size=6),
    st.sampled_from((1, None, "", "é" * 9, "x" * 61, [1, 1, 1, 1, 1], {"": {"": "x" * 30}})),
)
few = st.integers(0, 4)
limits = st.builds(
    Limits,
    attribute_count_limit=few,
    attribute_value_length_limit=st.none() | st.integers(0, 60),
    event_count_limit=few,
    link_count_limit=few,
    event_attribute_count_limit=few,
    link_attribute_count_limit=few,
    span_bytes_limit=st.none() | st.integers(1024, 1100),
) | st.just(Limits())


@given(
    limits=limits,
    value=st.sampled_from((None, "", "why", "x" * 61, "é" * 300, [1] * 9, {"a": "b" * 61, "c": ["d"]})),
    name=st.sampled_from(("", "a", "é" * 30)),
    tags=st.lists(st.sampled_from(("", "a", "é" * 9)), max_size=6),
    metadata=st.none() | raw_attributes | st.just(msgspec.Raw(b'{"otel.events":[' + b"1," * 140 + b"1]}")),
    attributes=st.none() | raw_attributes,
    parts=st.lists(raw_attributes, max_size=6),
    message=st.sampled_from((None, "", "a", "é" * 80)),
)
@EXAMPLES
def test_what_weighs_little_is_within_the_limits(
    limits: Limits,
    value: object,
    name: str,
    tags: list[str],
    metadata: msgspec.Raw | None,
    attributes: msgspec.Raw | None,
    parts: list[msgspec.Raw],
    message: str | None,
) -> None:
    """Whatever is recorded in an item of so few bytes, a Truncator leaves it as it is: it need not be asked."""
    truncator = Truncator(limits)
    fields: dict[str, Any] = {
        "name": name,
        "tags": tuple(tags),
        "attributes": attributes,
        "events": tuple(SpanEvent(name, 1, each) for each in parts),
        "links": tuple(SpanLink("1" * 32, "2" * 16, each, name) for each in parts[1:]),
        "status_message": message,
        "error": None if message is None else an_error(message, message),
    }
    for item in (a_span(value, **fields), a_step(value, chunk=value, **fields)):
        for each in (item, msgspec.structs.replace(item, metadata=metadata), a_span(value, name=name)):
            if weigh(each) - BARE_ITEM <= truncator.leaves_up_to:
                assert truncator(each) is each


def test_a_step_of_short_texts_weighs_little_and_a_subclass_is_always_asked() -> None:
    """The defaults leave what most steps hold; a class with other ideas of what to cut promises nothing."""

    class Own(Truncator):
        """Cuts something else too."""

    span = a_span("why", "because")
    truncator: Any = Truncator()
    assert weigh(span) - BARE_ITEM <= truncator.leaves_up_to
    with pytest.raises(AttributeError):
        truncator.limits = Limits(attribute_value_length_limit=10)
    assert weigh(a_span()) - BARE_ITEM > Own().leaves_up_to
