"""What a step says beside its input and output: attributes, events, links, span kind and status."""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    IntermediateStep,
    Sampling,
    Span,
    SpanExporter,
    SpanKind,
    Status,
    StepExporter,
    StepKind,
    step,
)
from nat_observability.processors import Limits, Truncator
from nat_observability.recording.details.step_details import labels
from nat_observability.sinks import MemorySink
from nat_observability.testing import NodeEvent, NodeLink, StepTree, recorded_run
from tests.processes import run_program

TRACE, SPAN = "ab" * 16, "cd" * 8
PARENT = f"00-{TRACE}-{SPAN}-01"


def fields(value: msgspec.Raw | None) -> Any:
    return None if value is None else msgspec.json.decode(value)


class Recorded:
    """One run, whose items are kept as spans and as steps."""

    def __init__(self) -> None:
        self.sink, self.raw = MemorySink(), MemorySink()
        self.manager = ExporterManager.from_exporters(
            {
                "spans": SpanExporter(self.sink, limits=DeliveryLimits()),
                "steps": StepExporter(self.raw, limits=DeliveryLimits()),
            }
        )

    @property
    def span(self) -> Span:
        (span,) = self.sink.spans
        return span

    @property
    def steps(self) -> list[IntermediateStep]:
        return self.raw.steps


@asynccontextmanager
async def recorded() -> Any:
    made = Recorded()
    async with made.manager.start(ContextState()):
        yield made
    await made.manager.flush()


async def test_all_that_a_step_says_is_in_its_span() -> None:
    """Names stay as they are given, values keep their types, and what is set later replaces the earlier."""
    async with recorded() as run:
        with step(
            "agent",
            "planner",
            attributes={"gen_ai.provider.name": "openai", "plan.size": 1, "same": "first"},
            links=[PARENT, (PARENT, {"why": "retry"})],
            span_kind="producer",
        ) as open_step:
            open_step.set_attribute("plan.size", 2)
            open_step.set_attributes(
                {"ratio": 0.5, "sure": True, "none": None, "blob": b"text", "raw": b"\xff\xfe"}
            )
            open_step.set_attribute("nested", {"a": [1, 2.5, "x"], "b": (True, None)})
            open_step.event("cache.miss", {"key": "k", "size": 3}, time=5)
            open_step.event("bare")
            open_step.link(PARENT, {"n": 1}, tracestate="vendor=x")
            open_step.set_status("error", "refused")
    span = run.span
    assert list(fields(span.attributes).items()) == [
        ("gen_ai.provider.name", "openai"),
        ("plan.size", 2),
        ("same", "first"),
        ("ratio", 0.5),
        ("sure", True),
        ("none", None),
        ("blob", "text"),
        ("raw", "<2 bytes>"),
        ("nested", {"a": [1, 2.5, "x"], "b": [True, None]}),
    ]
    assert [(event.name, fields(event.attributes)) for event in span.events] == [
        ("cache.miss", {"key": "k", "size": 3}),
        ("bare", None),
    ]
    assert span.events[0].time_ns == 5
    assert span.start_ns <= span.events[1].time_ns <= span.end_ns
    assert [(link.trace_id, link.span_id, link.trace_flags) for link in span.links] == [(TRACE, SPAN, 1)] * 3
    assert [fields(link.attributes) for link in span.links] == [None, {"why": "retry"}, {"n": 1}]
    assert [link.trace_state for link in span.links] == [None, None, "vendor=x"]
    assert (span.kind, span.span_kind) == (StepKind.AGENT, SpanKind.PRODUCER)
    assert (span.status, span.status_message) == (Status.ERROR, "refused")
    assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (0, 0, 0)


async def test_a_step_that_says_nothing_has_none_of_it() -> None:
    """A bare step holds nothing, and a call of a model or a data source is CLIENT."""
    kinds: dict[str, SpanKind] = {}
    async with recorded() as run:
        for kind in StepKind:
            with step(kind, "x"):
                pass
    for span in run.sink.spans:
        assert (span.attributes, span.events, span.links, span.status_message) == (None, (), (), None)
        kinds[span.kind.value] = span.span_kind
    clients = {kind for kind, said in kinds.items() if said is SpanKind.CLIENT}
    assert clients == {"LLM", "EMBEDDING", "RETRIEVER"}
    assert set(kinds.values()) == {SpanKind.CLIENT, SpanKind.INTERNAL}


async def test_values_are_those_of_the_moment() -> None:
    """What the application changes afterwards changes nothing that was recorded, wherever it was given."""
    given: dict[str, Any] = {"list": [1]}
    grown: list[int] = [1]
    async with recorded() as run:
        with step("tool", "x", attributes=given, links=[(PARENT, given)]) as open_step:
            open_step.set_attribute("grown", grown)
            open_step.event("e", {"grown": grown})
            open_step.link(PARENT, {"grown": grown})
            grown.append(2)
            given["list"].append(2)
            given["new"] = 1
    span = run.span
    assert fields(span.attributes) == {"list": [1], "grown": [1]}
    assert fields(span.events[0].attributes) == {"grown": [1]}
    assert [fields(link.attributes) for link in span.links] == [{"list": [1]}, {"grown": [1]}]


async def test_start_and_end_share_what_was_said() -> None:
    """A START has what the step begins with, an END what came later; together they are the span."""
    async with recorded() as run:
        with step(
            "tool", "x", attributes={"a": 1, "b": 1}, links=[PARENT], span_kind=SpanKind.SERVER
        ) as open_step:
            open_step.chunk("piece")
            open_step.set_attributes({"b": 2, "c": 3})
            open_step.event("e")
            open_step.link(PARENT, {"n": 1})
            open_step.set_status("error", "no")
    start, chunk, end = run.steps
    assert fields(start.attributes) == {"a": 1, "b": 1}
    assert (len(start.links), start.events, start.span_kind) == (1, (), SpanKind.SERVER)
    assert (chunk.attributes, chunk.events, chunk.links) == (None, (), ())
    assert fields(end.attributes) == {"b": 2, "c": 3}
    assert (len(end.links), len(end.events), end.status, end.status_message) == (1, 1, Status.ERROR, "no")
    span = run.span
    again = MemorySink()
    exporter = SpanExporter(again, limits=DeliveryLimits())
    manager, state = ExporterManager.from_exporters({"again": exporter}), ContextState()
    async with manager.start(state):
        for each in (start, chunk, end):
            state.stream.publish(msgspec.structs.replace(each, run=state.run))
    await manager.flush()
    (joined,) = again.spans
    assert fields(joined.attributes) == fields(span.attributes) == {"a": 1, "b": 2, "c": 3}
    same = ("events", "links", "span_kind", "status", "status_message", "output")
    assert [getattr(joined, name) for name in same] == [getattr(span, name) for name in same]
    node = StepTree([start, chunk, end]).one("tool")
    assert node.attributes == {"a": 1, "b": 2, "c": 3}
    assert node.events == [NodeEvent("e", {}, end.events[0].time_ns)]
    assert node.links == [NodeLink(TRACE, SPAN), NodeLink(TRACE, SPAN, {"n": 1})]
    assert (node.span_kind, node.status, node.status_message) == (SpanKind.SERVER, Status.ERROR, "no")


async def test_a_step_that_never_ends_keeps_what_it_said() -> None:
    """The run's end ends it, incomplete, with its attributes and events so far."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink, limits=DeliveryLimits())})
    async with manager.start(ContextState()):
        open_step = step("tool", "x", attributes={"a": 1})
        open_step.__enter__()
        open_step.set_attribute("b", 2)
        open_step.event("e")
    await manager.flush()
    (span,) = sink.spans
    assert span.status is Status.INCOMPLETE
    assert fields(span.attributes) == {"a": 1, "b": 2}
    assert [event.name for event in span.events] == ["e"]
    open_step.__exit__(None, None, None)


async def test_a_decorator_says_the_same_for_each_call() -> None:
    """Attributes and links of a decorator are those of every call, whatever a call adds to its own step."""

    @step("tool", "x", attributes={"a": 1}, links=iter([PARENT]), span_kind="client")
    async def work() -> int:
        return 1

    async with recorded() as run:
        await work()
        await work()
    for span in run.sink.spans:
        assert fields(span.attributes) == {"a": 1}
        assert (len(span.links), span.span_kind) == (1, SpanKind.CLIENT)


async def test_a_step_may_be_told_before_its_block() -> None:
    """What is set on a step before it begins is recorded with its START, after its arguments."""
    async with recorded() as run:
        made = step("tool", "x", attributes={"a": 1, "b": 1})
        made.set_attribute("b", 2)
        with made:
            pass
    assert fields(run.steps[0].attributes) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("value", "recorded_as"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (
            [1.0, math.nan, (math.inf,), {"x": -math.inf}, None],
            [1.0, "NaN", ["Infinity"], {"x": "-Infinity"}, None],
        ),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (b"\xc3\xa9", "é"),
        ("a\ud800", "a\\ud800"),
        (Status.OK, "ok"),
        (SpanKind.CLIENT, "client"),
        ({"a": {"b": [True]}}, {"a": {"b": [True]}}),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        ({1: "a"}, {"1": "a"}),
        ((1, "a"), [1, "a"]),
    ],
)
async def test_values_of_attributes(value: object, recorded_as: object) -> None:
    """Values that JSON has are typed, those that it lacks are text, and others are what an input would be."""
    async with recorded_run() as exporter:
        with step("tool", "x") as open_step:
            open_step.set_attribute("v", value)
            open_step.event("e", {"v": value})
    node = exporter.tree.one("tool")
    assert node.attributes == node.events[0].attributes == {"v": recorded_as}


class Hostile:
    """Raises whatever is done to it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("iter")


class HostileMapping(dict[str, Any]):
    """A mapping whose items cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("items")


ODD: list[Callable[[step], object]] = [
    lambda odd: odd.set_attribute("", 1),
    lambda odd: odd.set_attribute(3, 1),  # type: ignore[arg-type]
    lambda odd: odd.set_attribute(b"bytes", 1),  # type: ignore[arg-type]
    lambda odd: odd.set_attribute(Hostile(), 1),  # type: ignore[arg-type]
    lambda odd: odd.set_attribute(None, 1),  # type: ignore[arg-type]
    lambda odd: odd.set_attributes([("a", 1)]),  # type: ignore[arg-type]
    lambda odd: odd.set_attributes(Hostile()),  # type: ignore[arg-type]
    lambda odd: odd.event("", {"": 1}),
    lambda odd: odd.event(7),  # type: ignore[arg-type]
    lambda odd: odd.event("e", "attributes"),  # type: ignore[arg-type]
    lambda odd: odd.event("e", time=-1),
    lambda odd: odd.event("e", time=2**70),
    lambda odd: odd.event("e", time="now"),  # type: ignore[arg-type]
    lambda odd: odd.event("e", time=1.5),  # type: ignore[arg-type]
    lambda odd: odd.link("no traceparent"),
    lambda odd: odd.link(f"00-{'0' * 32}-{SPAN}-01"),
    lambda odd: odd.link(None),
    lambda odd: odd.link(Hostile()),
    lambda odd: odd.link({}),
    lambda odd: odd.link(17, {"a": 1}),
    lambda odd: odd.set_status("fine"),
    lambda odd: odd.set_status(Hostile()),  # type: ignore[arg-type]
    lambda odd: odd.set_status("incomplete"),
    lambda odd: odd.set_attribute("raw", msgspec.Raw(b"{")),
    lambda odd: odd.event("e", {"raw": msgspec.Raw(b"{")}),
    lambda odd: odd.set_attributes({"raw": [msgspec.Raw(b"not JSON")], "b": 1}),
]


@pytest.mark.parametrize("say", ODD, ids=itertools.count())
async def test_nothing_that_is_said_raises(say: Callable[[step], object]) -> None:
    """Odd names, values, times, links and statuses are recorded as far as they can be."""
    async with recorded_run() as exporter:
        with step("tool", "x") as open_step:
            say(open_step)
            open_step.set_attribute("after", 1)
    assert exporter.tree.one("tool").attributes["after"] == 1


@pytest.mark.parametrize("raw", [b"{", b"", b"[1] 2", b'"half', b"\xff"], ids=repr)
async def test_raw_data_that_is_not_json_is_recorded_as_text(raw: bytes) -> None:
    """What a part of a value says of itself does not spoil the rest."""
    value = msgspec.Raw(raw)
    async with recorded_run() as exporter:
        with step(
            "tool", "x", input={"raw": value, "b": 1}, metadata={"a": 1}, attributes={"raw": value}
        ) as odd:
            odd.set_attributes({"list": [value], "b": 2})
            odd.metadata = value
    node = exporter.tree.one("tool")
    text = "<1 bytes>" if raw == b"\xff" else raw.decode()
    assert node.input == {"raw": text, "b": 1}
    assert node.attributes == {"raw": text, "list": [text], "b": 2}


ODD_PROGRAM = """
import asyncio
from nat_observability import step
from nat_observability.testing import recorded_run

async def main():
    async with recorded_run():
        for _ in range(3):
            with step("tool", "x", attributes=7, links=["no"], span_kind="sideways") as odd:
                odd.set_attribute("", 1)
                odd.set_attribute(3, 1)
                odd.event("e", time="now")
                odd.set_status("fine")
                for number in range(200):
                    odd.set_attribute(str(number), 1)
                    odd.event("e")
                    odd.link("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
            odd.event("late")

asyncio.run(main())
"""


def test_each_problem_is_logged_once() -> None:
    """One warning says what is wrong, without the value; its repetitions are counted for the next line."""
    done = run_program(ODD_PROGRAM)
    lines = [line for line in done.stderr.splitlines() if line.startswith("step_data_invalid")]
    for problem in (
        "attributes were not a mapping",
        "a link was not a traceparent",
        "a span kind was none of",
        "was empty",
        "was not text",
        "the time of an event",
        "a status was neither",
        "more attributes than",
        "more events than",
        "more links than",
        "after its end",
    ):
        assert len([line for line in lines if problem in line]) == 1, problem
    assert len(lines) == 11
    assert not any("sideways" in line for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attributes": 7},
        {"attributes": HostileMapping(a=1)},
        {"links": Hostile()},
        {"links": 7},
        {"links": "nothing"},
        {"span_kind": "sideways"},
        {"span_kind": Hostile()},
        {"span_kind": 7},
    ],
    ids=itertools.count(),
)
async def test_odd_arguments_do_not_raise(arguments: dict[str, Any]) -> None:
    """The step is recorded all the same."""
    async with recorded_run() as exporter:
        with step("tool", "x", **arguments):
            pass
    assert exporter.tree.one("tool").status is Status.OK


async def test_odd_names_are_recorded_as_text() -> None:
    """An empty name has a placeholder, one that is not text is recorded as its text."""
    async with recorded_run() as exporter:
        with step("tool", "x") as open_step:
            open_step.set_attribute("", 1)
            open_step.set_attribute(3, 2)  # type: ignore[arg-type]
            open_step.set_attribute(b"k", 3)  # type: ignore[arg-type]
            open_step.set_attributes("all")  # type: ignore[arg-type]
            open_step.event("", time=datetime.datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=datetime.UTC))
    node = exporter.tree.one("tool")
    assert node.attributes == {"<unnamed>": 1, "3": 2, "k": 3, "value": "all"}
    assert node.events == [NodeEvent("<unnamed>", {}, 1_000_005_000)]


async def test_links_may_be_anything_that_names_a_span() -> None:
    """A header, headers, a run, a step's link or a span context of OpenTelemetry."""
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(
        int(TRACE, 16), int(SPAN, 16), is_remote=True, trace_state=trace.TraceState([("v", "x")])
    )
    caller = ContextState(traceparent=PARENT)
    async with recorded() as run:
        with step("tool", "x") as open_step:
            open_step.link(f"  {PARENT}  ")
            open_step.link({"traceparent": PARENT, "tracestate": "v=x"})
            open_step.link(caller)
            open_step.link(context)
            open_step.link(trace.Link(context, {"why": 1}))
    async with recorded() as again:
        with step("tool", "y", links=run.span.links):
            pass
    links = run.span.links
    assert [(link.trace_id, link.span_id) for link in links] == [(TRACE, SPAN)] * 5
    assert [link.trace_state for link in links] == [None, "v=x", None, "v=x", "v=x"]
    assert [link.is_remote for link in links] == [None, True, None, True, True]
    assert again.span.links == links


async def test_what_comes_after_the_end_changes_nothing() -> None:
    """It cannot be recorded any more: the span is as it was."""
    async with recorded() as run:
        with step("tool", "x") as open_step:
            pass
        open_step.event("late")
        open_step.set_attribute("late", 1)
        open_step.link(PARENT)
        open_step.set_status("error")
    span = run.span
    assert (span.attributes, span.events, span.links, span.status) == (None, (), (), Status.OK)


async def test_counts_are_limited_while_recording() -> None:
    """The first 128 of each are kept, the others counted; an attribute that is there can still be replaced."""
    async with recorded() as run:
        with step("tool", "x") as open_step:
            for number in range(200):
                open_step.set_attribute(f"a{number}", number)
                open_step.event("e", {f"k{each}": each for each in range(130)} if number == 0 else None)
                open_step.link(PARENT)
            open_step.set_attribute("a0", "new")
    span = run.span
    assert len(fields(span.attributes)) == len(span.events) == len(span.links) == 128
    assert fields(span.attributes)["a0"] == "new"
    assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (
        72,
        72,
        72,
    )
    assert (len(fields(span.events[0].attributes)), span.events[0].dropped_attributes_count) == (128, 2)
    start, end = run.steps
    assert (start.dropped_attributes_count, end.dropped_attributes_count) == (0, 72)


@pytest.mark.parametrize("kind", [list, tuple])
async def test_every_link_over_the_limit_is_counted(kind: Callable[[list[str]], Any]) -> None:
    """Those that a step begins with too, and those that name no span among them."""
    async with recorded() as run:
        with step("tool", "x", links=kind([*[PARENT] * 100, *["no"] * 100, *[PARENT] * 800])):
            pass
    assert (len(run.span.links), run.span.dropped_links_count) == (128, 872)


async def test_bytes_are_limited_while_recording() -> None:
    """A step holds no more than about a mebibyte of it: what is too large is a mark with its size, or is counted."""
    async with recorded() as run:
        with step("tool", "x") as open_step:
            open_step.set_attribute("most", "x" * 1_000_000)
            open_step.set_attribute("more", "x" * 500_000)
            for _ in range(100):
                open_step.event("e", {"text": "y" * 10_000})
            open_step.set_attribute("most", "small")
            open_step.set_attribute("again", "z" * 400_000)
    span = run.span
    attributes = fields(span.attributes)
    assert (attributes["more"], attributes["most"]) == ("[cut:500000]", "small")
    assert len(attributes["again"]) == 400_000
    held = sum(len(event.attributes or b"") for event in span.events)
    assert held + 1_000_000 < 1_100_000
    assert {"text": "[cut:10000]"} in [fields(event.attributes) for event in span.events]


async def test_a_loop_of_events_takes_bounded_memory() -> None:
    """Events beyond the limit are not kept anywhere."""
    async with recorded_run() as exporter:
        with step("tool", "x") as open_step:
            open_step.event("first")
            payload = {"n": 1}
            before = sys.getrefcount(payload)
            for _ in range(20_000):
                open_step.event("e", payload)
            assert sys.getrefcount(payload) == before
    assert len(exporter.tree.one("tool").events) == 128
    assert exporter.steps[-1].dropped_events_count == 20_001 - 128


async def test_a_higher_limit_of_an_exporter_records_more() -> None:
    """The limits of a Truncator bound what its exporter gets, and what is recorded is as much as the highest."""
    sink, few = MemorySink(), MemorySink()
    limits = {
        "many": (sink, Limits(event_count_limit=300, attribute_count_limit=300)),
        "few": (
            few,
            Limits(
                event_count_limit=2,
                link_count_limit=1,
                attribute_count_limit=3,
                event_attribute_count_limit=1,
                link_attribute_count_limit=0,
                attribute_value_length_limit=20,
            ),
        ),
    }
    manager = ExporterManager.from_exporters(
        {
            name: SpanExporter(own, limits=DeliveryLimits(), processors=[Truncator(limit)])
            for name, (own, limit) in limits.items()
        }
    )
    async with manager.start(ContextState()):
        with step("tool", "x") as open_step:
            for number in range(200):
                open_step.set_attribute(f"a{number}", ["x" * 40] if number == 0 else number)
                open_step.event("e", {"a": "y" * 40, "b": 2})
            open_step.link(PARENT, {"a": 1})
            open_step.link(PARENT)
    await manager.flush()
    (span,), (short,) = sink.spans, few.spans
    assert len(fields(span.attributes)) == len(span.events) == 200
    assert (span.dropped_attributes_count, span.dropped_events_count) == (0, 0)
    attributes = fields(short.attributes)
    assert list(attributes) == ["a0", "a1", "a2"]
    assert len(attributes["a0"][0]) == 20
    assert "[cut:40]" in attributes["a0"][0]
    assert [set(fields(event.attributes)) for event in short.events] == [{"a"}, {"a"}]
    assert len(fields(short.events[0].attributes)["a"]) == 20
    assert [event.dropped_attributes_count for event in short.events] == [1, 1]
    assert (short.links[0].attributes, short.links[0].dropped_attributes_count) == (None, 1)
    assert (short.dropped_attributes_count, short.dropped_events_count, short.dropped_links_count) == (
        197,
        198,
        1,
    )


def everything(watched: Any) -> None:
    """Say all that a step can say about one value, in every form of a step."""
    with step(
        "tool", "x", input=watched, attributes=watched, links=[(PARENT, watched)], metadata=watched
    ) as said:
        said.set_attribute("a", watched)
        said.set_attributes(watched)
        said.event("e", watched)
        said.link(PARENT, watched)
        said.chunk(watched)
        said.output = watched
        said.metadata = watched

    @step("tool", "y")
    def decorated(argument: Any) -> Any:
        return argument

    @step("tool", "z")
    def generator(argument: Any) -> Iterator[Any]:
        yield argument

    decorated(watched)
    list(generator(watched))


class Counting:
    """Counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __repr__(self) -> str:
        self.looks += 1
        return "looked at"


@pytest.mark.parametrize("sampled_out", ["nobody", "spans", "steps", "both"])
async def test_without_a_listener_nothing_is_looked_at(sampled_out: str) -> None:
    """If no exporter takes the run's steps, nothing that they are given is looked at; what was left out is counted."""
    exporters: dict[str, Any] = {}
    none = Sampling(0)
    if sampled_out in ("spans", "both"):
        exporters["spans"] = SpanExporter(MemorySink(), limits=DeliveryLimits(), sampling=none)
    if sampled_out in ("steps", "both"):
        exporters["steps"] = StepExporter(MemorySink(), limits=DeliveryLimits(), sampling=none)
    watched = Counting()
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start(ContextState()):
        everything({"value": watched})
        with step("tool", "outer"), step("tool", "inner") as inner:
            assert inner.step_id is None
    assert watched.looks == 0
    report = manager.report
    assert report.unheard == (12 if sampled_out == "nobody" else 0)
    ledgers = {name: each.ledger for name, each in report.exporters.items()}
    expected = {"spans": 5, "steps": 12}  # of the steps two are chunks
    for name, ledger in ledgers.items():
        assert ledger is not None
        assert ledger.adds_up
        assert ledger.dropped == {"sampled_out": expected[name]}


async def test_a_listener_beside_one_that_only_counts() -> None:
    """One exporter that takes the run is enough: it gets everything, and the other still counts."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters(
        {
            "out": StepExporter(MemorySink(), limits=DeliveryLimits(), sampling=Sampling(0)),
            "in": SpanExporter(sink, limits=DeliveryLimits()),
        }
    )
    async with manager.start(ContextState()):
        with step("tool", "x", attributes={"a": 1}) as open_step:
            open_step.chunk("c")
    await manager.flush()
    assert fields(sink.spans[0].attributes) == {"a": 1}
    ledger = manager.report.exporters["out"].ledger
    assert ledger is not None
    assert ledger.dropped == {"sampled_out": 3}


async def test_outside_a_run_nothing_is_looked_at() -> None:
    """Neither attributes nor events nor links of a step outside every run are captured."""
    watched = Counting()
    everything({"value": watched})
    assert watched.looks == 0


def test_tags_that_never_end_are_cut() -> None:
    """The first thousand are recorded, also of a step outside every run."""
    assert labels(itertools.count())[-1] == "999"
    with step("tool", "endless", tags=map(str, itertools.count())):
        pass
