"""Attributes, events and links of items: redacted, left out with the content, and within the limits."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from nat_observability.events import IntermediateStep, Span, SpanEvent, SpanLink
from nat_observability.processors import ContentSwitch, Limits, Redactor, Truncator
from tests.processors.builders import a_span, a_step

KEY = "sk-proj-" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5kL7nP9rT1vX3"
IDS = ("ab" * 16, "cd" * 8)
DEFAULT = Redactor()


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def plain(value: msgspec.Raw | None) -> Any:
    return None if value is None else json.loads(bytes(value))


def detailed(make: Any, attributes: object, **fields: Any) -> Any:
    """Return an item with these attributes, and an event and a link with the same."""
    return make(
        attributes=raw(attributes),
        events=(SpanEvent(fields.pop("event", "e"), 5, raw(attributes)),),
        links=(SpanLink(*IDS, raw(attributes), fields.pop("state", None)),),
        **fields,
    )


def parts(item: Span | IntermediateStep) -> list[Any]:
    """Return the attributes of an item, of its event and of its link, which are to be treated alike."""
    found = [
        item.attributes,
        *(event.attributes for event in item.events),
        *(link.attributes for link in item.links),
    ]
    return [plain(each) for each in found]


@pytest.mark.parametrize("make", [a_span, a_step])
def test_every_text_of_them_is_redacted(make: Any) -> None:
    """Names and values of attributes, names of events, the trace state of links and the status message."""
    attributes = {"a": KEY, "b": [1, KEY], "c": {"d": KEY}, KEY: 1}
    item = detailed(make, attributes, event=KEY, state=f"v={KEY}", status_message=f"no {KEY}")
    clean = DEFAULT(item)
    assert KEY not in msgspec.json.encode(clean).decode()
    assert plain(clean.attributes)["b"][0] == 1
    assert clean.events[0].time_ns == 5
    assert (clean.links[0].trace_id, clean.links[0].span_id) == IDS


@pytest.mark.parametrize("make", [a_span, a_step])
@pytest.mark.parametrize(
    "name",
    [
        "http.request.header.authorization",
        "http.request.header.x-api-key",
        "http.response.header.set-cookie",
        "db.password",
        "rpc.grpc.request.metadata.authorization",
        "password",
    ],
)
@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"a": "hunter2"}, 12345])
def test_an_attribute_with_the_name_of_a_secret_loses_its_value(make: Any, name: str, value: object) -> None:
    """Whatever kind of value it has, and whether the step, an event or a link has it."""
    clean = DEFAULT(detailed(make, {"kept.name": "kept", name: value}))
    for each in parts(clean):
        assert each["kept.name"] == "kept"
        assert each[name].startswith("[redacted:")


@pytest.mark.parametrize("make", [a_span, a_step])
def test_what_holds_no_secret_is_the_same_object(make: Any) -> None:
    """Nothing is copied, byte for byte, if nothing is redacted."""
    item = detailed(make, {"gen_ai.usage.input_tokens": 5, "a.b": [1.50, "x"]}, status_message="no")
    assert DEFAULT(item) is item


def test_a_secret_in_any_one_place_is_found() -> None:
    """A look at the whole span first does not overlook what only an event, a link or the message has."""
    clean = {"a": "x"}
    places: list[dict[str, Any]] = [
        {"attributes": raw({"a": KEY})},
        {"events": (SpanEvent("e", 1, raw({"a": KEY})),)},
        {"events": (SpanEvent(KEY, 1),)},
        {"links": (SpanLink(*IDS, raw({"a": KEY})),)},
        {"links": (SpanLink(*IDS, None, f"v={KEY}"),)},
        {"status_message": KEY},
    ]
    for where in places:
        span = DEFAULT(a_span(**{"attributes": raw(clean), **where}))
        assert KEY not in msgspec.json.encode(span).decode()


@pytest.mark.parametrize("make", [a_span, a_step])
@pytest.mark.parametrize("junk", [b"{oops", b'"text"', b"[1]", b"", b"\xff"])
def test_attributes_that_are_no_object_cost_nothing_else(make: Any, junk: bytes) -> None:
    """A processor of the application may make them anything: redaction, content switch and limits go on."""
    value = msgspec.Raw(junk)
    item = make("in", attributes=value, events=(SpanEvent("e", 1, value),), links=(SpanLink(*IDS, value),))
    for processor in (
        Redactor(),
        ContentSwitch(capture_inputs=False),
        Truncator(Limits(attribute_value_length_limit=2, span_bytes_limit=1024)),
    ):
        after: Any = processor(item)
        assert len(after.events) == len(after.links) == 1


CONTENT = {
    "input.value": "q",
    "gen_ai.input.messages": [{"role": "user"}],
    "gen_ai.system_instructions": "be kind",
    "gen_ai.tool.call.arguments": {"a": 1},
    "llm.input_messages.0.message.content": "q",
    "gen_ai.prompt.0.content": "q",
}
RESULTS = {
    "output.value": "a",
    "gen_ai.output.messages": [],
    "gen_ai.tool.call.result": 1,
    "llm.output_messages.0.message.content": "a",
    "retrieval.documents.0.document.content": "d",
}
OTHERS = {"gen_ai.request.model": "m", "input.mime_type": "text/plain", "gen_ai.usage.input_tokens": 1}


@pytest.mark.parametrize("make", [a_span, a_step])
def test_content_is_left_out_by_its_names(make: Any) -> None:
    """Inputs and outputs under the names of the conventions go with the inputs and outputs; the rest stays."""
    item = detailed(make, CONTENT | RESULTS | OTHERS)
    for switch, kept in (
        (ContentSwitch(capture_inputs=False), RESULTS | OTHERS),
        (ContentSwitch(capture_outputs=False), CONTENT | OTHERS),
        (ContentSwitch(capture_inputs=False, capture_outputs=False), OTHERS),
    ):
        assert parts(switch(item)) == [kept] * 3
    only = detailed(make, CONTENT)
    assert parts(ContentSwitch(capture_inputs=False)(only)) == [None] * 3
    assert ContentSwitch(capture_inputs={"agent": False})(item) is item
    other = detailed(make, OTHERS)
    assert ContentSwitch(capture_inputs=False, capture_outputs=False)(other) is other


def test_messages_in_events_are_content() -> None:
    """The GenAI conventions' event of a message keeps what kind of message it is, and no more."""
    said = {"role": "user", "content": "q", "gen_ai.system": "openai"}
    span = a_span(
        events=(SpanEvent("gen_ai.user.message", 1, raw(said)), SpanEvent("gen_ai.choice", 1, raw(said)))
    )
    first, second = ContentSwitch(capture_inputs=False)(span).events
    assert plain(first.attributes) == {"role": "user", "gen_ai.system": "openai"}
    assert plain(second.attributes) == said


def test_dropped_counts_add_up() -> None:
    """What was dropped while recording and what a limit drops are counted together."""
    span = a_span(
        attributes=raw({str(each): each for each in range(10)}),
        events=tuple(SpanEvent(str(each), each, dropped_attributes_count=1) for each in range(10)),
        links=(SpanLink(*IDS),) * 10,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
    )
    limits = Limits(attribute_count_limit=4, event_count_limit=5, link_count_limit=0)
    cut: Any = Truncator(limits)(span)
    assert plain(cut.attributes) == {"0": 0, "1": 1, "2": 2, "3": 3}
    assert [event.name for event in cut.events] == ["0", "1", "2", "3", "4"]
    assert cut.links == ()
    assert (cut.dropped_attributes_count, cut.dropped_events_count, cut.dropped_links_count) == (7, 7, 13)
    assert Truncator(limits)(cut) is cut or Truncator(limits)(cut) == cut


@pytest.mark.parametrize("make", [a_span, a_step])
def test_bytes_are_limited_as_a_whole(make: Any) -> None:
    """Attributes and events count for the bytes of an item; JSON stays JSON, and dropped events are counted."""
    long = "x" * 3000
    item = make(
        "in",
        attributes=raw({"a": long, "b": 1}),
        events=tuple(SpanEvent("e" * 40, each, raw({"n": long})) for each in range(100)),
        links=tuple(SpanLink(*IDS, raw({"n": long})) for _ in range(100)),
        status_message=long,
    )
    cut: Any = Truncator(Limits(span_bytes_limit=2048))(item)
    whole = sum(
        len(each.attributes or b"") + len(getattr(each, "name", "")) for each in (*cut.events, *cut.links)
    )
    assert whole + len(cut.attributes) + len(cut.status_message) <= 2048
    assert "[cut:3000]" in plain(cut.attributes)["a"]
    assert 0 < len(cut.events) < 100
    assert cut.dropped_events_count == 100 - len(cut.events)
    assert cut.dropped_links_count == 100 - len(cut.links)
    assert all(plain(each.attributes) is not None for each in (*cut.events, *cut.links))
