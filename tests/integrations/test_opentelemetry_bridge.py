"""StepSpanProcessor loses nothing: what the SDK holds of a span is what OTLP carries of it, spooled or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)

from nat_observability import ContextState, ExporterManager, Span, SpanExporter, Status, StepKind
from nat_observability.dialects.vocabulary import vocabulary
from nat_observability.integrations.opentelemetry import StepSpanProcessor, unfollow_steps
from nat_observability.processors import ContentSwitch, Limits, Redactor, Truncator
from nat_observability.sinks import MemorySink, SqliteSink
from nat_observability.sinks.otlp.span_encoder import SpanEncoder
from nat_observability.spool.record import decode_item, encode_item
from nat_observability.store import Store
from tests.integrations.otlp_comparison import Seen, of_otlp, of_the_sdk

INFINITY = float("inf")
EVERY_TYPE: dict[str, Any] = {
    "text": "Zürich",
    "empty": "",
    "yes": True,
    "no": False,
    "int": 7,
    "zero": 0,
    "negative": -(2**63),
    "large": 2**63 - 1,
    "double": 2.5,
    "whole": 3.0,
    "tiny": 5e-324,
    "texts": ("a", ""),
    "ints": (1, 2),
    "doubles": (1.0, 2.5),
    "bools": (True, False),
    "none of them": (),
    "nan": float("nan"),
    "inf": float("inf"),
    "infs": (1.0, float("-inf")),
    "bytes": b"text",
    "not text": b"\xff\x00",
    "nothing": None,
    "mixed": ("a", 1, 2.0, None, (b"\xfe", True)),
    "map": {"a": {"b": (1, b"x")}, "": "dropped", "c": float("nan")},
    "null": "null",
    "json": '{"a": 1}',
    "NaN": "NaN",
    'odd "name"\\': 1,
    "two\nlines": b"\xff",
    "two\nlines too": ("a", b"\xff"),
    "input.value": "which tea?",
    "output.value": "green",
    "metadata": '{"k": 1}',
    "openinference.span.kind": "RETRIEVER",
    "retrieval.documents.0.document.content": "leaves",
    "gen_ai.request.model": "m",
    "llm.token_count.prompt": 7,
    "exception.message": "of its own",
}
OTHER = SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "x"), ("other", "y")]))


class Traced:
    """A provider whose spans are steps, and what an exporter of the SDK's own saw of them."""

    def __init__(self, *, limits: SpanLimits | None = None) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
        self.exported = InMemorySpanExporter()
        self.provider.add_span_processor(StepSpanProcessor())
        self.provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.sink = MemorySink(1000)

    def manager(self, *processors: Any) -> ExporterManager:
        """Return a manager of runs whose spans are kept."""
        exporter = SpanExporter(self.sink, flush="delivered", processors=processors)
        return ExporterManager.from_exporters({"spans": exporter})

    @property
    def spans(self) -> list[Span]:
        """What was delivered."""
        return [item for item in self.sink.items if isinstance(item, Span)]

    @property
    def finished(self) -> dict[bytes, Seen]:
        """What the SDK holds, by id."""
        return {_id(span): of_the_sdk(span) for span in self.exported.get_finished_spans()}


def _id(span: ReadableSpan) -> bytes:
    context = span.get_span_context()
    assert context is not None
    return context.span_id.to_bytes(8)


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Spans become steps."""
    made = Traced()
    yield made
    unfollow_steps()
    made.provider.shutdown()


def make_spans(traced: Traced) -> None:
    """Make spans of every kind of content, in three scopes."""
    plain = traced.provider.get_tracer("plain")
    versioned = traced.provider.get_tracer("versioned", "1.2", "https://example.test/schemas/1.2")
    described = traced.provider.get_tracer(
        "described",
        "3",
        None,
        {"team": "tea", "size": 2, "many": ("a", "b"), "key": b"\xff", "inf": INFINITY},
    )
    with plain.start_as_current_span("every type", attributes=EVERY_TYPE) as span:
        span.add_event("all", EVERY_TYPE, timestamp=5)
        span.add_event("bare")
        span.add_link(OTHER, EVERY_TYPE)
        span.add_link(INVALID_SPAN_CONTEXT, {"why": "to no span"})
    with plain.start_as_current_span("bare"):
        pass
    for kind in SpanKind:
        with versioned.start_as_current_span(
            f"a {kind.name}", kind=kind, links=[Link(OTHER, {"why": "retry"})]
        ):
            pass
    with described.start_as_current_span("fine", attributes={"gen_ai.operation.name": "chat"}) as span:
        span.set_status(StatusCode.OK)
    with described.start_as_current_span("unset", attributes={"gen_ai.operation.name": "execute_tool"}):
        pass
    with described.start_as_current_span("described") as span:
        span.set_status(StatusCode.ERROR, "went wrong")
    with described.start_as_current_span("not described") as span:
        span.set_attribute("error.type", "timeout")
        span.set_status(StatusCode.ERROR)
    with pytest.raises(LookupError), versioned.start_as_current_span("raising"):
        raise LookupError("no tea")
    with versioned.start_as_current_span("handling") as span:
        span.record_exception(ValueError("harmless"))
    with plain.start_as_current_span("before") as span:
        span.update_name("after")
        span.set_attribute("late", 1)


DIALECTS = ["genai", "openinference", "langfuse", "genai,openinference", "langfuse,genai"]


async def test_every_span_is_what_the_sdk_would_send(traced: Traced, tmp_path: Path) -> None:
    """In every dialect, after the spool and after the store."""
    async with traced.manager().start(ContextState(conversation_id="c", user_id="u")):
        make_spans(traced)
    expected = traced.finished
    assert len(expected) == len(traced.spans) == 14
    for dialect in DIALECTS:
        encoder = SpanEncoder({}, vocabulary(dialect))
        assert of_otlp(encoder.encode(traced.spans)) == expected
        spooled = [decode_item(encode_item(span)) for span in traced.spans]
        assert of_otlp(encoder.encode([item for item in spooled if isinstance(item, Span)])) == expected
    read = await asyncio.to_thread(stored, traced.spans, tmp_path / "store.sqlite3")
    assert of_otlp(SpanEncoder({}).encode(read)) == expected


def stored(spans: list[Span], path: Path) -> list[Span]:
    """Return spans as the store has kept them."""
    sink = SqliteSink(path)
    sink.open()
    sink.write(spans)
    sink.close()
    with Store(path) as store:
        return store.spans(spans[0].run.run_id)


async def test_ours_is_beside_theirs(traced: Traced) -> None:
    """The kind, the run, its conversation and user, and no more, whatever the span is."""
    state = ContextState(conversation_id="c", user_id="u", tags={"tenant": "acme"})
    async with traced.manager().start(state):
        with traced.provider.get_tracer("t").start_as_current_span("a", attributes={"user.id": "theirs"}):
            pass
    (span,) = traced.spans
    (seen,) = of_otlp(SpanEncoder({}).encode([span]), ours_too=True).values()
    assert seen.attributes == {
        "user.id": "theirs",
        "nat.span.kind": "SPAN",
        "nat.workflow.run_id": state.run.run_id,
        "nat.tag.tenant": "acme",
        "session.id": "c",
        "gen_ai.conversation.id": "c",
    }


async def test_a_trace_state_is_kept(traced: Traced) -> None:
    """That of a remote parent is the span's own."""
    parent = trace.set_span_in_context(trace.NonRecordingSpan(OTHER))
    async with traced.manager().start(ContextState()):
        traced.provider.get_tracer("t").start_span("a", parent).end()
    (seen,) = of_otlp(SpanEncoder({}).encode(traced.spans)).values()
    assert seen.trace_state == "vendor=x,other=y"
    # Its parent is the run, which is of this process.
    assert seen == next(iter(traced.finished.values()))._replace(has_remote_parent=False)


async def test_what_goes_over_the_providers_limits_is_counted_as_the_sdk_counts_it() -> None:
    """An attribute that the SDK has dropped does not come back from the beginning of the span."""
    traced = Traced(limits=SpanLimits(max_attributes=2, max_events=1, max_links=1, max_event_attributes=1))
    async with traced.manager().start(ContextState()):
        tracer = traced.provider.get_tracer("t")
        with tracer.start_as_current_span(
            "a", attributes={"a": 1, "b": 2}, links=[Link(OTHER), Link(OTHER)]
        ) as span:
            span.set_attribute("c", 3)
            span.add_event("first")
            span.add_event("second", {"x": 1, "y": 2})
    unfollow_steps()
    traced.provider.shutdown()
    (span_,) = traced.spans
    assert of_otlp(SpanEncoder({}).encode([span_])) == traced.finished
    assert (span_.dropped_attributes_count, span_.dropped_events_count, span_.dropped_links_count) == (
        1,
        1,
        1,
    )
    assert span_.events[0].dropped_attributes_count == 1


async def test_a_span_that_its_run_does_not_see_end(traced: Traced) -> None:
    """It is incomplete, with what it began with."""
    tracer = traced.provider.get_tracer("t", "1")
    async with traced.manager().start(ContextState()):
        left = tracer.start_span("a", kind=SpanKind.CLIENT, attributes={"a": b"x"}, links=[Link(OTHER)])
    left.end()
    (span,) = traced.spans
    (seen,) = of_otlp(SpanEncoder({}).encode([span])).values()
    assert span.status is Status.INCOMPLETE
    assert (seen.name, seen.kind, seen.scope[:2]) == ("a", "CLIENT", ("t", "1"))
    (theirs,) = traced.finished.values()  # the oldest SDK that is supported makes text of bytes
    assert seen.attributes == {"a": theirs.attributes["a"], "error.type": "incomplete"}
    assert len(seen.links) == 1


async def test_what_redaction_changes_is_marked_and_nothing_else_changes(traced: Traced) -> None:
    """A secret in an attribute, an event, a link, a scope and the description; bytes that are none come through."""
    key = "sk-proj-" + "a1B2" * 10
    tracer = traced.provider.get_tracer("t", None, None, {"api_key": key})
    async with traced.manager(Redactor()).start(ContextState()):
        with tracer.start_as_current_span(
            "a", attributes={"password": key, "said": f"use {key}", "bytes": b"plain", "kept": 1}
        ) as span:
            span.add_event("e", {"token": key.encode(), "n": 1})
            span.add_link(OTHER, {"secret": key})
            span.set_status(StatusCode.ERROR, f"denied {key}")
    request = SpanEncoder({}).encode(traced.spans)
    assert key.encode() not in request
    (seen,) = of_otlp(request).values()
    (theirs,) = traced.finished.values()  # the oldest SDK that is supported makes text of bytes
    assert (seen.attributes["kept"], seen.attributes["bytes"]) == (1, theirs.attributes["bytes"])
    assert "[redacted" in seen.attributes["password"]
    assert "[redacted" in seen.attributes["said"]
    assert "[redacted" in str(seen.events[0][2]["token"])
    assert seen.events[0][2]["n"] == 1
    assert "[redacted" in seen.links[0][4]["secret"]
    assert "[redacted" in seen.status[1]
    assert "[redacted" in seen.scope[3]["api_key"]


async def test_content_switches_and_limits(traced: Traced) -> None:
    """What they take away is away, and the rest is as it was."""
    limits = Limits(attribute_value_length_limit=40)
    processors = (ContentSwitch(capture_inputs=False, capture_outputs=False), Truncator(limits))
    attributes: dict[str, Any] = {
        "input.value": "in",
        "gen_ai.output.messages": "out",
        "long": "x" * 100,
        "n": 1,
    }
    async with traced.manager(*processors).start(ContextState()):
        with traced.provider.get_tracer("t").start_as_current_span("a", attributes=attributes):
            pass
    (seen,) = of_otlp(SpanEncoder({}).encode(traced.spans)).values()
    assert set(seen.attributes) == {"long", "n"}
    assert "[cut:" in seen.attributes["long"]


async def test_the_step_is_read_beside(traced: Traced) -> None:
    """Kind, input, usage and metadata are the step's; the name is the span's."""
    async with traced.manager().start(ContextState()):
        make_spans(traced)
    (span,) = [each for each in traced.spans if each.name == "every type"]
    assert (span.kind, span.input, span.output) == (StepKind.RETRIEVER, "which tea?", "green")
    assert isinstance(span.metadata, msgspec.Raw)
    assert json.loads(bytes(span.metadata)) == {"k": 1}
