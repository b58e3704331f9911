"""SpanEncoder: judged by opentelemetry-proto, which decodes every byte of it."""

from __future__ import annotations

import math
import string
import tracemalloc
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from nat_observability.dialects.vocabulary import Vocabulary, vocabulary
from nat_observability.events import (
    Captured,
    ErrorDetails,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.sinks.otlp.span_encoder import SLICE_BYTES, SLICE_SPANS, SpanEncoder, encode
from tests.sinks.builders import make_span

RESOURCE = {"service.name": "checkout", "deployment.environment.name": "test"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
payloads = st.one_of(
    st.none(),
    texts,
    texts.map(lambda text: msgspec.Raw(msgspec.json.encode({"text": text}))),
    st.integers(0, 40_000).map(lambda size: "x" * size),
)
counts = st.integers(0, 2**63 - 1)
times = st.integers(0, 2**64 - 1)


def hex_ids(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


runs = st.builds(
    Run,
    run_id=texts,
    trace_id=hex_ids(32),
    conversation_id=st.none() | texts,
    user_id=st.none() | texts,
    workflow_name=st.none() | words,
    parent_span_id=st.none() | hex_ids(16),
)
counts32 = st.just(0) | st.integers(0, 2**32 - 1)
link_ids = (st.just("ab" * 16), st.just("cd" * 8))
leaves = st.sampled_from([None, True, False, 0, -(2**63), 2**63 - 1, 1.5, -0.0, "", "text", "\u00e9"])
values = (
    leaves | st.lists(leaves, max_size=2) | st.dictionaries(words, st.lists(leaves, max_size=2), max_size=2)
)
names = words | st.sampled_from(["gen_ai.request.model", "input.value", "metadata", "nat.span.kind", "a.b"])
objects = st.none() | st.dictionaries(names, values, min_size=1, max_size=3).map(
    lambda each: msgspec.Raw(msgspec.json.encode(each))
)
OTLP_KINDS = dict(zip(("internal", "server", "client", "producer", "consumer"), range(1, 6), strict=True))
spans = st.builds(
    Span,
    run=runs,
    kind=st.sampled_from(StepKind),
    name=texts,
    span_id=hex_ids(16),
    parent_id=st.none() | hex_ids(16),
    start_ns=times,
    end_ns=times,
    status=st.sampled_from(Status),
    input=payloads,
    output=payloads,
    metadata=st.none() | words.map(lambda word: msgspec.Raw(msgspec.json.encode({word: 1}))),
    tags=st.lists(texts, max_size=3).map(tuple),
    usage=st.none() | st.builds(TokenUsage, counts, counts, counts, counts, counts),
    error=st.none() | st.builds(ErrorDetails, type=words, message=texts, traceback=st.none() | texts),
    chunks=st.integers(0, 5),
    first_chunk_ns=st.none() | times,
    span_kind=st.sampled_from(SpanKind),
)


detailed_spans = st.builds(
    make_span,
    kind=st.sampled_from(StepKind),
    status=st.sampled_from(Status),
    error=st.none() | st.just(ErrorDetails("ValueError", "no", None)),
    input=st.none() | texts,
    attributes=objects,
    events=st.lists(
        st.builds(SpanEvent, words, st.integers(1, 2**64 - 1), objects, counts32), max_size=2
    ).map(tuple),
    links=st.lists(
        st.builds(
            SpanLink,
            *link_ids,
            objects,
            st.none() | words,
            st.integers(0, 3),
            is_remote=st.none() | st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    span_kind=st.sampled_from(SpanKind),
    status_message=st.none() | words,
    dropped_attributes_count=counts32,
    dropped_events_count=counts32,
    dropped_links_count=counts32,
    cost=st.none() | st.just(TokenCost(0.25, 0.5, 0.75)),
    tags=st.lists(words, max_size=2).map(tuple),
)
vocabularies = st.sampled_from(
    ["genai", "openinference", "langfuse", "genai,openinference", "langfuse,genai", "openinference,langfuse"]
).map(vocabulary)


def decode(request: bytes) -> Sequence[trace_pb2.Span]:
    """Return the spans of a request, which has exactly one resource and one scope."""
    message = ExportTraceServiceRequest.FromString(request)
    (resource_spans,) = message.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    return scope_spans.spans


def encode_one(span: Span) -> trace_pb2.Span:
    (decoded,) = decode(encode([span], RESOURCE))
    return decoded


def python_value(value: AnyValue) -> Any:
    name = value.WhichOneof("value")
    if name == "array_value":
        return tuple(python_value(item) for item in value.array_value.values)
    if name == "kvlist_value":
        return {pair.key: python_value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, name) if name else None


def python_attributes(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    decoded = {pair.key: python_value(pair.value) for pair in attributes}
    assert len(decoded) == len(attributes), "an attribute came twice"
    return decoded


def tupled(value: Any) -> Any:
    """Return decoded JSON with tuples for its lists."""
    if isinstance(value, list):
        return tuple(map(tupled, value))
    return {key: tupled(item) for key, item in value.items()} if isinstance(value, dict) else value


def raw_attributes(attributes: msgspec.Raw | None) -> Any:
    return {} if attributes is None else tupled(msgspec.json.decode(attributes))


def check_events_and_links(span: Span, decoded: trace_pb2.Span) -> None:
    for event, given_event in zip(decoded.events, span.events, strict=False):
        assert (event.name, event.time_unix_nano) == (given_event.name, given_event.time_ns)
        assert python_attributes(event.attributes) == raw_attributes(given_event.attributes)
        assert event.dropped_attributes_count == given_event.dropped_attributes_count
    exceptions = [each.name for each in decoded.events[len(span.events) :]]
    failed = span.status is not Status.OK and span.error is not None
    assert sorted(exceptions) == ["exception"] * failed
    for link, given_link in zip(decoded.links, span.links, strict=True):
        assert (link.trace_id.hex(), link.span_id.hex()) == (given_link.trace_id, given_link.span_id)
        remote = {None: 0, False: 0x100, True: 0x300}[given_link.is_remote]
        assert (link.trace_state, link.flags) == (
            given_link.trace_state or "",
            given_link.trace_flags | remote,
        )
        assert python_attributes(link.attributes) == raw_attributes(given_link.attributes)
    assert decoded.dropped_attributes_count == span.dropped_attributes_count
    assert decoded.dropped_events_count == span.dropped_events_count
    assert decoded.dropped_links_count == span.dropped_links_count
    if span.status is not Status.OK and span.status_message:
        assert decoded.status.message == span.status_message


@given(st.lists(spans | detailed_spans, min_size=1, max_size=3), vocabularies)
@settings(max_examples=60, deadline=None)
def test_what_is_encoded_is_decoded(batch: list[Span], words: Vocabulary) -> None:
    """
    Ids, times, names, kinds, statuses, events and attributes of every span are decoded as they were, in any dialect.

    That is so whether the encoder knows such spans already or not.
    """
    encoder = SpanEncoder(RESOURCE, words)
    for _ in range(2):  # the second time from the caches
        for span, decoded in zip(batch, decode(encoder.encode(batch)), strict=True):
            assert decoded.trace_id.hex() == span.run.trace_id
            assert decoded.span_id.hex() == span.span_id
            assert decoded.parent_span_id.hex() == (span.parent_id or "")
            expected: dict[str, Any] = tupled(words.span_attributes(span))
            assert decoded.name == words.span_name(span, expected)
            assert (decoded.start_time_unix_nano, decoded.end_time_unix_nano) == (span.start_ns, span.end_ns)
            assert decoded.kind == OTLP_KINDS[span.span_kind]
            if span.status is Status.INCOMPLETE:
                expected["nat.span.incomplete"] = True
            attributes = python_attributes(decoded.attributes)
            assert attributes == expected
            assert {key: type(value) for key, value in attributes.items()} == {
                key: type(value) for key, value in expected.items()
            }
            assert (decoded.status.code == trace_pb2.Status.STATUS_CODE_ERROR) == (
                span.status is not Status.OK
            )
            check_events_and_links(span, decoded)


@given(
    st.lists(
        spans.filter(lambda span: span.name and span.start_ns and span.end_ns) | detailed_spans,
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=50, deadline=None)
def test_the_bytes_are_those_of_protobuf(batch: list[Span]) -> None:
    """Written as protobuf writes it: decoding and encoding again adds and drops no byte, empty fields aside."""
    request = encode(batch, RESOURCE)
    assert len(ExportTraceServiceRequest.FromString(request).SerializeToString()) == len(request)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    payload=anything,
    name=st.text(),
    user=anything,
    number=anything,
    time=st.integers(),
    tags=st.lists(anything).map(tuple),
)
def test_no_value_loses_a_span(payload: Any, name: str, user: Any, number: Any, time: int, tags: Any) -> None:
    """Whatever its fields hold, a span is encoded, and so are its neighbours in the batch."""
    run = Run(name, name, user_id=user, conversation_id=number)
    odd = make_span(
        run=run,
        name=name,
        span_id=name,
        parent_id=name,
        start_ns=time,
        end_ns=time,
        tags=tags,
        input=payload,
        output=name,
        usage=TokenUsage(number, number, number),
        error=ErrorDetails(name, name, name),
        status=Status.ERROR,
    )
    first, second, third = decode(encode([make_span(), odd, make_span()], RESOURCE))
    assert first.name == third.name == "lookup"
    assert len(second.span_id) == len(second.parent_span_id) == 8
    assert len(second.trace_id) == 16


@pytest.mark.parametrize(
    ("fields", "replaced", "value"),
    [
        ({"name": "a\ud800"}, "name", "a\\ud800"),
        ({"output": "a\ud800"}, "output.value", "a\\ud800"),
        ({"output": msgspec.Raw(b'"\xff"')}, "output.value", '"\\xff"'),
        ({"metadata": msgspec.Raw(b'"\xff"')}, "metadata", '"\\"\\\\xff\\""'),
        ({"tags": ("a", "b\ud800")}, "tag.tags", ("a", "b\\ud800")),
        ({"usage": TokenUsage(2**63)}, "gen_ai.usage.input_tokens", "9223372036854775808"),
        ({"usage": TokenUsage(math.nan)}, "gen_ai.usage.input_tokens", "nan"),  # type: ignore[arg-type]
        ({"usage": TokenUsage(-math.inf)}, "gen_ai.usage.input_tokens", "-inf"),  # type: ignore[arg-type]
        ({"start_ns": -1}, "start_time", 0),
        ({"end_ns": 2**64}, "end_time", 2**64 - 1),
        (
            {"error": ErrorDetails("E", "m\ud800", None), "status": Status.ERROR},
            "exception.message",
            "m\\ud800",
        ),
    ],
)
def test_what_cannot_be_encoded_is_replaced_and_named(
    fields: dict[str, Any], replaced: str, value: object
) -> None:
    """The value is replaced by text or by the nearest one, and `nat.span.replaced` names it."""
    span = encode_one(make_span(**fields))
    attributes = python_attributes(span.attributes)
    assert replaced in attributes["nat.span.replaced"]
    own = {"name": span.name, "start_time": span.start_time_unix_nano, "end_time": span.end_time_unix_nano}
    assert {**attributes, **own}[replaced] == value


def test_only_what_was_replaced_is_named() -> None:
    """The other values of such a span are as they were."""
    span = encode_one(make_span(name="a\ud800", input="sea", tags=("a",), output=msgspec.Raw(b"[1]")))
    attributes = python_attributes(span.attributes)
    assert attributes["nat.span.replaced"] == ("name",)
    assert (attributes["input.value"], attributes["tag.tags"], attributes["output.value"]) == (
        "sea",
        ("a",),
        "[1]",
    )


def test_other_ids_become_the_same_bytes_everywhere() -> None:
    """A UUID is hashed, to the same bytes as a span's and as a parent's id; the span keeps its own as an attribute."""
    parent, child = "3f1b2c9e-8d4a-4f6b-9c0d-1e2f3a4b5c6d", str(uuid.uuid4())
    run = Run("run-1", "not a trace id")
    above, below = decode(
        encode(
            [make_span(run=run, span_id=parent), make_span(run=run, span_id=child, parent_id=parent)],
            RESOURCE,
        )
    )
    assert below.parent_span_id == above.span_id == bytes.fromhex("f3930b9c012aa736")
    assert above.trace_id == below.trace_id == bytes.fromhex("59f03987c152a7740bdaa05a267cac90")
    assert python_attributes(above.attributes)["nat.span.id"] == parent


@pytest.mark.parametrize("odd", ["0" * 16, "", "00 11 22 33 44 5", "0x11223344556677", "é" * 16, "zz" * 8])
def test_what_only_looks_like_an_id_is_hashed(odd: str) -> None:
    """OpenTelemetry calls an id of zeros invalid; and white space is not a digit."""
    span = encode_one(make_span(span_id=odd, parent_id=odd))
    assert len(span.span_id) == 8
    assert any(span.span_id)
    assert span.parent_span_id == span.span_id


def test_upper_case_ids_are_ids() -> None:
    """Hex digits are taken in either case."""
    assert encode_one(make_span(span_id="ABCDEF0123456789")).span_id.hex() == "abcdef0123456789"


def test_a_step_that_ended_well_has_no_status() -> None:
    """The conventions: the status MUST be left unset if an operation has ended without any errors."""
    assert not encode_one(make_span()).HasField("status")


def test_an_exception_is_a_status_an_event_and_attributes() -> None:
    """The status is ERROR with the message, and the event has type, message and stack trace."""
    span = encode_one(
        make_span(status=Status.ERROR, error=ErrorDetails("KeyError", "no such city", "Traceback ..."))
    )
    assert (span.status.code, span.status.message) == (trace_pb2.Status.STATUS_CODE_ERROR, "no such city")
    (event,) = span.events
    assert (event.name, event.time_unix_nano) == ("exception", span.end_time_unix_nano)
    assert python_attributes(event.attributes) == {
        "exception.type": "KeyError",
        "exception.message": "no such city",
        "exception.stacktrace": "Traceback ...",
    }
    assert python_attributes(span.attributes)["error.type"] == "KeyError"


def test_an_error_without_message_is_described_by_its_type() -> None:
    """A status without a description would say nothing to a reader."""
    span = encode_one(make_span(status=Status.ERROR, error=ErrorDetails("KeyError", "")))
    assert span.status.message == "KeyError"


def test_an_incomplete_step_is_an_error_and_marked() -> None:
    """The run ended before the step: viewers that know errors only show it, and the mark tells it from others."""
    span = encode_one(make_span(status=Status.INCOMPLETE))
    assert span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert span.status.message == "The run ended before this step did."
    assert python_attributes(span.attributes)["nat.span.incomplete"] is True
    assert not span.events


def test_the_flags_tell_a_parent_in_another_service() -> None:
    """Bits 8 and 9 of the flags: whether the parent's place is known, and whether it is remote."""
    run = Run("run-1", "1" * 32, parent_span_id="2" * 16)
    local, remote, root = decode(
        encode(
            [
                make_span(run=run, parent_id="3" * 16),
                make_span(run=run, parent_id="2" * 16),
                make_span(run=Run("run-2", "4" * 32)),
            ],
            RESOURCE,
        )
    )
    assert (local.flags, remote.flags, root.flags) == (0x101, 0x301, 0x101)


def test_resource_and_scope() -> None:
    """The resource has the attributes that it was given, and the scope is this package."""
    (resource_spans,) = ExportTraceServiceRequest.FromString(encode([make_span()], RESOURCE)).resource_spans
    assert python_attributes(resource_spans.resource.attributes) == RESOURCE
    scope = resource_spans.scope_spans[0].scope
    assert (scope.name, scope.version[:1].isdigit()) == ("nat_observability", True)


def test_a_resource_has_a_service_name() -> None:
    """The specification wants `unknown_service` if none is given; and a lone surrogate loses nothing."""
    (resource_spans,) = ExportTraceServiceRequest.FromString(
        encode([make_span()], {"a": "b\ud800"})
    ).resource_spans
    assert python_attributes(resource_spans.resource.attributes) == {
        "service.name": "unknown_service",
        "a": "b\\ud800",
    }


@pytest.mark.parametrize(
    ("count", "output", "slices"),
    [
        (0, "", 0),
        (1, "", 1),
        (SLICE_SPANS, "", 1),
        (SLICE_SPANS + 1, "", 2),
        (3, "x" * SLICE_BYTES, 3),
        (1, "x" * 3_000_000, 1),
    ],
)
def test_slices_are_bounded_and_make_one_request(count: int, output: Captured, slices: int) -> None:
    """A stretch ends after so many spans or bytes; in between the caller is called."""
    calls: list[None] = []
    batch = [make_span(output=output) for _ in range(count)]
    pieces = SpanEncoder(RESOURCE).encode_in_slices(batch, lambda: calls.append(None))
    assert len(pieces) == 1 + slices
    assert len(calls) == max(0, slices - 1)
    assert [span.span_id.hex() for span in decode(b"".join(pieces))] == [span.span_id for span in batch]


@pytest.mark.timeout(60)  # under tracemalloc, on a machine that may do much else
def test_the_caches_are_bounded() -> None:
    """Values that never recur replace each other: the encoder does not grow with what it encodes."""
    encoder = SpanEncoder(RESOURCE)

    def held_after(numbers: range) -> int:
        for number in numbers:
            run = Run(f"run-{number}", "1" * 32, user_id="u" * number)
            encoder.encode([make_span(name=f"name-{number}", run=run, output="x" * number)])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = held_after(range(1_500))
        assert held_after(range(1_500, 4_500)) < full + 200_000
    finally:
        tracemalloc.stop()


def test_the_caches_do_not_grow_with_the_names_of_attributes() -> None:
    """An application that makes up names, with an id in each, does not fill the memory with them."""
    encoder = SpanEncoder(RESOURCE)

    def held_after(numbers: range) -> int:
        for number in numbers:
            given = {f"order.{number}.state": "x", f"order.{number}.size": number, f"{number}" * 100: 1.5}
            encoder.encode([make_span(attributes=msgspec.Raw(msgspec.json.encode(given)))])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = held_after(range(600))
        assert held_after(range(600, 1_800)) < full + 200_000
    finally:
        tracemalloc.stop()
