"""BaseExporter, StepExporter and SpanExporter: one run's part in each of them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    Boundary,
    ContextState,
    Delivery,
    DeliveryLimits,
    ExporterManager,
    ExporterState,
    IntermediateStep,
    LedgerSnapshot,
    Span,
    SpanExporter,
    Status,
    StepExporter,
    StepKind,
    TokenUsage,
    step,
)
from nat_observability.exporter.span_exporter import SpanSubscription
from nat_observability.exporter.subscription import Subscription
from nat_observability.sinks import MemorySink
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter, until

START, CHUNK, END = Boundary.START, Boundary.CHUNK, Boundary.END


def read(value: object) -> Any:
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


@asynccontextmanager
async def run_with(
    exporter: BaseExporter, state: ContextState | None = None
) -> AsyncIterator[ExporterManager]:
    """Make a block one run with this exporter."""
    manager = ExporterManager()
    manager.add_exporter("exporter", exporter)
    async with manager.start(state or ContextState()):
        yield manager


class Spans:
    """Collects the spans that a run leaves behind."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def write(self, batch: Sequence[Any]) -> None:
        self.spans.extend(batch)

    def exporter(self) -> SpanExporter:
        return SpanExporter(self.write, flush="delivered")

    def named(self, name: str) -> Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span


# -- BaseExporter -----------------------------------------------------------------------------------------------------


async def test_export_is_the_one_method_to_write() -> None:
    """A subclass that writes `export`, and does not even call `__init__`, takes part in runs that are isolated."""

    class Own(BaseExporter):
        def __init__(self, taken: list[str]) -> None:
            self.taken = taken

        def export(self, event: IntermediateStep) -> None:
            self.taken.append(event.name)

    taken: list[str] = []
    async with run_with(Own(taken)):
        with step("tool", "search"):
            pass
    assert taken == ["search", "search"]


async def test_export_errors_are_counted_and_logged_once() -> None:
    """An error in `export` goes no further; each failed step is in the ledger, and one line a run reports it."""

    class Failing(BaseExporter):
        def export(self, event: IntermediateStep) -> None:
            if event.boundary is END:
                raise OSError("disk full")

    with capture_logs() as lines:
        async with run_with(Failing(), ContextState(run_id="run-1")) as manager:
            for _ in range(5):
                with step("tool", "search"):
                    pass
    assert manager.report.ledger == LedgerSnapshot(accepted=10, delivered=5, failed=5)
    error = manager.report.exporters["exporter"].error
    assert error is not None
    assert error.startswith(f"OSError at {__file__}:")
    assert manager.report.exporters["exporter"].state is ExporterState.STOPPED
    failures = [line for line in lines if line["event"] == "export_failed"]
    assert [(line["workflow_run_id"], line["error"]) for line in failures] == [("run-1", error)]


async def test_name_that_raises_does_no_harm() -> None:
    """An exporter's `name` is foreign code too."""

    class Nameless(BaseExporter):
        @property
        def name(self) -> str:
            raise ValueError("no name")

        def export(self, event: IntermediateStep) -> None:
            raise OSError("disk full")

    async with run_with(Nameless()):
        with step("tool", "search"):
            pass


async def test_isolated_instance_shares_what_init_made() -> None:
    """It is a new object with the same attributes, bound to its own run, with subscriptions of its own."""
    exporter = CapturingExporter()
    exporter.extra = object()  # type: ignore[attr-defined]
    state = ContextState()
    isolated = exporter.create_isolated_instance(state)
    assert isolated is not exporter
    assert type(isolated) is CapturingExporter
    assert isolated.is_isolated_instance
    assert not exporter.is_isolated_instance
    assert isolated.extra is exporter.extra  # type: ignore[attr-defined]
    assert isolated.subscriptions is not exporter.subscriptions
    assert (exporter.name, isolated.name) == ("CapturingExporter", "CapturingExporter (isolated)")
    async with isolated.start():
        with state.attach(), step("tool", "search"):
            pass
    assert len(exporter.steps) == 2


async def test_isolated_instance_of_a_class_with_slots() -> None:
    """Attributes in slots, a dataclass's for example, are shared like others."""

    @dataclasses.dataclass(slots=True, eq=False)
    class Slotted(BaseExporter):
        taken: list[str]
        unset: str = dataclasses.field(init=False)

        def export(self, event: IntermediateStep) -> None:
            self.taken.append(event.name)

    class More(Slotted):
        __slots__ = ("more",)

        def __init__(self, taken: list[str]) -> None:
            Slotted.__init__(self, taken)
            self.more = taken

        def export(self, event: IntermediateStep) -> None:
            self.more.append(event.name)

    for kind in (Slotted, More):
        taken: list[str] = []
        async with run_with(kind(taken)):
            with step("tool", "search"):
                pass
        assert taken == ["search", "search"]


async def test_alone_it_takes_part_in_the_current_run() -> None:
    """Outside a manager: inside a run it takes that run's steps; outside every run it says what to do."""
    exporter, state = CapturingExporter(), ContextState()
    with pytest.raises(RuntimeError, match=r"ExporterManager\.start\(\)"):
        exporter.start()
    with state.attach():
        async with exporter.start():
            await exporter.wait_ready()
            with step("tool", "search"):
                pass
        with step("tool", "afterwards"):
            pass
    assert {each.name for each in exporter.steps} == {"search"}
    assert not exporter.subscriptions


async def test_wait_ready_waits() -> None:
    """It returns when steps are taken, and not before."""
    exporter = CapturingExporter(ContextState())
    waiting = asyncio.create_task(exporter.wait_ready())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    async with exporter.start():
        await waiting


async def test_stop_ends_every_subscription() -> None:
    """After `stop` nothing more is taken, and the end of the run has nothing to do."""
    exporter, state = CapturingExporter(), ContextState()
    async with run_with(exporter, state):
        (isolated,) = [exporter]
        with step("tool", "before"):
            pass
    assert len(isolated.steps) == 2
    alone = CapturingExporter(state)
    async with alone.start():
        await alone.stop()
        await alone.stop()
        with state.attach(), step("tool", "after"):
            pass
    assert alone.steps == []


async def test_own_subscription_holds_the_state_of_a_run() -> None:
    """State of one run is in its subscription, so that runs on one instance do not mix."""

    class Counting(Subscription):
        __slots__ = ("count",)

        def __init__(self, exporter: BaseExporter, state: ContextState) -> None:
            super().__init__(exporter, state)
            self.count = 0

        def handle(self, step: IntermediateStep) -> None:
            self.count += 1

        @property
        def ledger(self) -> LedgerSnapshot:
            return LedgerSnapshot(accepted=self.count, delivered=self.count)

        @property
        def oddities(self) -> dict[str, int]:
            return {"odd": self.count % 2}

    class Exporter(BaseExporter):
        def export(self, event: IntermediateStep) -> None:
            raise AssertionError

        def subscription(self, state: ContextState) -> Subscription:
            return Counting(self, state)

    exporter = Exporter()

    async def run(count: int) -> tuple[int, dict[str, int]]:
        manager = ExporterManager()
        manager.add_exporter("counting", exporter)
        async with manager.start():
            for _ in range(count):
                await asyncio.sleep(0)
                with step("tool", "step"):
                    pass
        return manager.report.ledger.accepted, manager.report.exporters["counting"].oddities

    assert await asyncio.gather(*(run(count) for count in range(5))) == [
        (2 * count, {"odd": 0}) for count in range(5)
    ]


async def test_begin_that_raises_leaves_nothing() -> None:
    """A subscription that is half begun is ended."""

    class HalfBegun(Subscription):
        def begin(self) -> None:
            super().begin()
            raise LookupError("half")

        def handle(self, step: IntermediateStep) -> None:
            raise AssertionError

        @property
        def ledger(self) -> LedgerSnapshot:
            return LedgerSnapshot()

    class Exporter(CapturingExporter):
        def subscription(self, state: ContextState) -> Subscription:
            return HalfBegun(self, state)

    state = ContextState()
    async with run_with(Exporter(), state) as manager:
        assert manager.report.exporters["exporter"].error == "LookupError: half"
        assert not state.stream.listeners


# -- StepExporter -----------------------------------------------------------------------------------------------------


async def test_steps_reach_the_sink_as_they_are() -> None:
    """Every boundary, in order; the run's end hands over, and `delivered` waits for the sink."""
    sink = MemorySink()
    async with run_with(StepExporter(sink, flush="delivered")) as manager:
        with step("tool", "search", input=[1]) as current:
            current.chunk("piece")
    assert [each.boundary for each in sink.steps] == [START, CHUNK, END]
    assert manager.report.ledger == LedgerSnapshot(accepted=3, delivered=3)


async def test_unused_start_holds_no_lease() -> None:
    """`start` alone opens nothing; only entering what it returns does."""
    exporter = StepExporter(MemorySink())
    with ContextState().attach():
        exporter.start()
    assert exporter.delivery.health().state == "new"


async def test_sink_that_cannot_be_opened_is_left_out() -> None:
    """The run goes on without it; the report says why, and counts what the exporter did not get."""

    class Unopenable:
        async def open(self) -> None:
            raise ConnectionError("refused")

        async def write(self, batch: Sequence[Any]) -> None:
            raise AssertionError

        async def close(self) -> None:
            """Nothing was opened."""

    state = ContextState()
    async with run_with(StepExporter(Unopenable()), state) as manager:
        with step("tool", "search"):
            pass
        assert manager.report.exporters["exporter"].state is ExporterState.FAILED
        assert "refused" in (manager.report.exporters["exporter"].error or "")
        with step("tool", "search"):
            pass
    assert manager.report.exporters["exporter"].ledger == LedgerSnapshot(4, 0, 0, 0, {"not_open": 4})
    assert not state.stream.listeners


async def test_sink_that_is_slow_to_open_is_left_out_in_time() -> None:
    """A sink that does not open within the start timeout is left out, and its lease is given back."""
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow:
        async def open(self) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), loop))

        async def write(self, batch: Sequence[Any]) -> None:
            """Write nothing."""

        async def close(self) -> None:
            """Close nothing."""

    exporter = StepExporter(Slow())
    manager = ExporterManager(start_timeout=0.05)
    manager.add_exporter("slow", exporter)
    async with manager.start(ContextState()):
        assert manager.report.exporters["slow"].state is ExporterState.FAILED
    release.set()
    await asyncio.wrap_future(exporter.delivery.closed())
    assert exporter.delivery.health().state == "closed"


async def test_export_by_hand() -> None:
    """`export` takes a step of a run that the exporter takes part in, and raises for one of another run."""
    sink, state = MemorySink(), ContextState()
    exporter = StepExporter(sink, flush="delivered").create_isolated_instance(state)
    relayed = IntermediateStep(state.run, StepKind.TOOL, START, "relayed", "1" * 16, None, 0)
    with pytest.raises(RuntimeError, match="Start the run with it first"):
        exporter.export(relayed)
    async with exporter.start():
        exporter.export(relayed)
    assert sink.steps == [relayed]


async def test_delivery_may_be_shared() -> None:
    """Two exporters on one delivery write to the same sink."""
    sink = MemorySink()
    delivery = Delivery("shared", sink)
    manager = ExporterManager()
    manager.add_exporter("steps", StepExporter(delivery, flush="delivered"))
    manager.add_exporter("spans", SpanExporter(delivery, flush="delivered"))
    async with manager.start(ContextState()):
        with step("tool", "search"):
            pass
    assert (len(sink.steps), len(sink.spans)) == (2, 1)


# -- SpanExporter -----------------------------------------------------------------------------------------------------


async def test_start_and_end_become_a_span() -> None:
    """The span has everything that either of them holds."""
    spans = Spans()
    state = ContextState(conversation_id="c-1")
    async with run_with(spans.exporter(), state):
        with (
            step("workflow", "outer"),
            step("llm", "model", input={"q": 1}, metadata={"a": 1}, tags=("t",)) as current,
        ):
            current.output = "answer"
            current.usage = TokenUsage(1, 2)
    span, outer = spans.named("model"), spans.named("outer")
    assert span.span_id == current.step_id
    assert span.parent_id == outer.span_id
    assert outer.parent_id is None
    assert (span.kind, span.status, span.tags) == (StepKind.LLM, Status.OK, ("t",))
    assert (read(span.input), span.output, read(span.metadata)) == ({"q": 1}, "answer", {"a": 1})
    assert span.usage == TokenUsage(1, 2, total_tokens=3)
    assert outer.start_ns <= span.start_ns <= span.end_ns <= outer.end_ns
    assert span.run is state.run


async def test_span_has_what_was_known_at_its_end() -> None:
    """The span has the name at the step's end, and the metadata of both boundaries."""
    spans = Spans()
    async with run_with(spans.exporter()):
        with step("workflow", "GET", metadata={"path": "/a/1"}) as current:
            current.name, current.metadata = "GET /a/{id}", {"status": 200}
    assert read(spans.named("GET /a/{id}").metadata) == {"path": "/a/1", "status": 200}


async def test_failed_step_is_a_failed_span() -> None:
    """The span has the exception."""
    spans = Spans()
    async with run_with(spans.exporter()):
        with pytest.raises(LookupError), step("tool", "search"):
            raise LookupError("no")
    assert spans.named("search").status is Status.ERROR
    error = spans.named("search").error
    assert error is not None
    assert error.message == "no"


@pytest.mark.parametrize(
    ("pieces", "output"),
    [
        (["a", "b"], "ab"),
        (["a", None, "b"], "ab"),
        ([{"x": 1}, "b"], [{"x": 1}, "b"]),
        ([1, 2], [1, 2]),
        ([None], None),
        ([], None),
    ],
)
async def test_chunks_are_joined(pieces: list[Any], output: object) -> None:
    """Text to text, anything else to a list; empty pieces, with which many streams end, are left out."""
    spans = Spans()
    async with run_with(spans.exporter()):
        with step("llm", "stream") as current:
            for piece in pieces:
                current.chunk(piece)
        with step("llm", "with output") as current:
            current.chunk("ignored")
            current.output = "own"
    span = spans.named("stream")
    assert read(span.output) == output
    assert span.chunks == len(pieces)
    assert (span.first_chunk_ns is None) == (not pieces)
    assert spans.named("with output").output == "own"


async def test_open_steps_are_ended_and_marked() -> None:
    """A step open at the run's end becomes an INCOMPLETE span that ends then; a later END is counted as odd."""
    spans = Spans()
    left = step("tool", "left open")
    async with run_with(spans.exporter()) as manager:
        with step("tool", "closed"):
            pass
        left.__enter__()
        left.chunk("some")
    left.__exit__(None, None, None)
    span = spans.named("left open")
    assert (span.status, span.output) == (Status.INCOMPLETE, "some")
    assert span.end_ns >= span.start_ns
    assert spans.named("closed").status is Status.OK
    assert manager.report.unheard == 1


async def test_span_exporters_share_the_span() -> None:
    """A recorded step becomes one span for all of them, alongside exporters that take every step."""
    first, second, steps = Spans(), Spans(), CapturingExporter()
    manager = ExporterManager.from_exporters(
        {"first": first.exporter(), "steps": steps, "second": second.exporter()}
    )
    async with manager.start(ContextState()):
        with step("tool", "search", input=[1], metadata={"a": 1}, tags=["x"]) as current:
            current.output = "found"
            current.usage = {"prompt_tokens": 1}
    assert first.spans[0] is second.spans[0]
    span = first.spans[0]
    began, ended = steps.steps
    assert (began.boundary, ended.boundary) == (START, END)
    assert (began.input, began.metadata, began.tags) == (span.input, span.metadata, span.tags)
    assert (ended.output, ended.usage) == (span.output, span.usage)
    for each in (began, ended):
        assert (each.run, each.kind, each.name, each.step_id) == (
            span.run,
            span.kind,
            span.name,
            span.span_id,
        )
    assert (began.time_ns, ended.time_ns) == (span.start_ns, span.end_ns)


async def test_exporter_that_comes_later_takes_what_begins_then() -> None:
    """A step that began before is counted as odd and becomes no span; the first exporter gets it whole."""
    early, late, state = Spans(), Spans(), ContextState()
    first = ExporterManager.from_exporters({"early": early.exporter()})
    second = ExporterManager.from_exporters({"late": late.exporter()})
    async with first.start(state):
        outer = step("tool", "outer")
        outer.__enter__()
        async with second.start(state):
            with step("tool", "inner"):
                pass
            outer.__exit__(None, None, None)
    assert {span.name for span in early.spans} == {"outer", "inner"}
    assert [span.name for span in late.spans] == ["inner"]
    assert second.report.exporters["late"].oddities == {"end_without_start": 1}


async def test_published_end_ends_a_step_of_this_process() -> None:
    """Relaying the END of a step that `step` has begun ends its span; the step's own END is then odd."""
    spans, state = Spans(), ContextState()
    async with run_with(spans.exporter(), state) as manager:
        with step("tool", "search", input="asked") as current:
            assert current.step_id is not None
            end = IntermediateStep(
                state.run, StepKind.TOOL, END, "search", current.step_id, None, state.now_ns(), output="told"
            )
            state.stream.publish(end)
    span = spans.named("search")
    assert (span.input, span.output, span.end_ns) == ("asked", "told", end.time_ns)
    assert manager.report.exporters["exporter"].oddities == {"end_without_start": 1}


async def test_subscription_that_handles_steps_sees_them_all() -> None:
    """A subclass of the span exporter's subscription that overrides `handle` gets START and END there."""
    seen: list[Boundary] = []

    class Looking(SpanSubscription):
        def handle(self, step: IntermediateStep) -> None:
            seen.append(step.boundary)
            super().handle(step)

    class Exporter(SpanExporter):
        def subscription(self, state: ContextState) -> Subscription:
            return Looking(self, state)

    spans = Spans()
    async with run_with(Exporter(spans.write, flush="delivered")):
        with step("tool", "search") as current:
            current.chunk("piece")
    assert seen == [START, CHUNK, END]
    assert spans.named("search").output == "piece"


async def test_failing_taker_harms_no_other() -> None:
    """A subscription's error on a step reaches neither the workflow nor the other exporters."""

    class Failing(SpanSubscription):
        def begun(self, step: object) -> None:
            raise OSError("begun")

        def finished(self, span: Span) -> None:
            raise OSError("finished")

    class Exporter(SpanExporter):
        def subscription(self, state: ContextState) -> Subscription:
            return Failing(self, state)

    spans = Spans()
    manager = ExporterManager.from_exporters({"bad": Exporter(Spans().write), "good": spans.exporter()})
    async with manager.start(ContextState()):
        with step("tool", "search"):
            pass
    assert [span.name for span in spans.spans] == ["search"]


def test_step_that_has_not_begun_has_no_start() -> None:
    """It raises instead of making one up."""
    with pytest.raises(RuntimeError, match="has not begun"):
        step("tool", "search").started()


async def test_oddities_are_counted() -> None:
    """An END or a CHUNK without START, and boundaries that come twice, as the reference toolkit sends some."""
    spans, state = Spans(), ContextState()

    def send(boundary: Boundary, step_id: str) -> None:
        state.stream.publish(IntermediateStep(state.run, StepKind.TOOL, boundary, step_id, step_id, None, 1))

    async with run_with(spans.exporter(), state) as manager:
        send(END, "never began")
        send(CHUNK, "never began")
        for boundary in (START, START, END, END):
            send(boundary, "twice")
    assert manager.report.exporters["exporter"].oddities == {
        "end_without_start": 1,
        "chunk_without_start": 1,
        "repeated_start": 1,
        "repeated_end": 1,
    }
    assert [span.name for span in spans.spans] == ["twice"]


async def test_metadata_of_both_ends_is_merged() -> None:
    """Of the same key the END's value, unless it is null; an END before its START makes no negative duration."""
    spans, state = Spans(), ContextState()

    def send(boundary: Boundary, time_ns: int, metadata: bytes) -> None:
        state.stream.publish(
            IntermediateStep(
                state.run,
                StepKind.TOOL,
                boundary,
                "relayed",
                "1" * 16,
                None,
                time_ns,
                metadata=msgspec.Raw(metadata),
            )
        )

    async with run_with(spans.exporter(), state):
        send(START, 10, b'{"a":1,"b":2,"c":3}')
        send(END, 5, b'{"b":4,"c":null,"d":null}')
    span = spans.named("relayed")
    assert read(span.metadata) == {"a": 1, "b": 4, "c": 3, "d": None}
    assert (span.start_ns, span.end_ns) == (10, 10)


async def test_no_step_is_lost_at_the_run_end() -> None:
    """A step that another thread begins at the very moment in which the run ends becomes a span, or is unheard."""
    began = 0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            spans, state, ended = Spans(), ContextState(), threading.Event()
            count = 0

            def record(state: ContextState = state, ended: threading.Event = ended) -> None:
                nonlocal count
                with state.attach():
                    while not ended.is_set():
                        step("tool", "begins").__enter__()
                        count += 1

            thread = threading.Thread(target=record)
            async with run_with(spans.exporter(), state) as manager:
                thread.start()
                await asyncio.sleep(0)
            ended.set()
            thread.join()
            await until(lambda manager=manager: not manager.report.ledger.pending)  # type: ignore[misc]
            ledger = manager.report.ledger
            assert ledger.adds_up
            assert len(spans.spans) == ledger.delivered == ledger.accepted
            # No step ends here, so that each is counted once.
            assert len(spans.spans) + state.stream.unheard == count
            began += count
    finally:
        sys.setswitchinterval(interval)
    assert began > 100


async def test_a_step_that_is_late_for_its_run_is_unheard() -> None:
    """A thread may begin a step while the run ends, and get no further before the exporters have closed."""
    spans, state = Spans(), ContextState()
    begun, ended = threading.Event(), threading.Event()

    class Delaying:
        """Subscribed before the exporter: what comes after it waits until the run is over."""

        def begun(self, step: object) -> None:
            begun.set()
            ended.wait(10)

        def finished(self, span: Span) -> None:
            """Take it."""

    def record() -> None:
        with state.attach(), step("tool", "late"):
            pass

    state.stream.subscribe("delaying", lambda each: None, Delaying())
    thread = threading.Thread(target=record)
    with capture_logs() as lines:
        async with run_with(spans.exporter(), state) as manager:
            thread.start()
            await asyncio.to_thread(begun.wait, 10)
        ended.set()
        await asyncio.to_thread(thread.join)
    assert (spans.spans, manager.report.ledger, state.stream.unheard) == ([], LedgerSnapshot(), 1)
    assert [line for line in lines if line["log_level"] not in ("info", "debug")] == []


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_g16_an_export_is_not_observed(blocking: bool) -> None:
    """A sink that records steps of its own does not record them in the run that it exports, which would never end."""
    written: list[str] = []

    def record_and_keep(batch: Batch) -> None:
        with step("function", "exporting"):
            written.extend(item.name for item in batch)

    async def write(batch: Batch) -> None:
        record_and_keep(batch)

    limits = DeliveryLimits(batch_age=0.0)
    exporter = SpanExporter(record_and_keep if blocking else write, name="main", limits=limits)
    manager = ExporterManager.from_exporters({"main": exporter})
    async with manager.start(ContextState()):
        with step("tool", "search"):
            pass
        assert (await manager.flush()).complete
        assert (await manager.flush()).complete
    assert written == ["search"]
    assert manager.report.ledger == LedgerSnapshot(accepted=1, delivered=1)
