"""follow_steps and StepSpanProcessor, with OpenTelemetry's own SDK: what is whose parent, whatever way spans take."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext

import pytest
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    StaticSampler,
    TraceIdRatioBased,
)

from nat_observability import (
    ContextState,
    ExporterManager,
    Sampling,
    Span,
    SpanExporter,
    Status,
    StepKind,
    bind_context,
    outgoing_headers,
    step,
)
from nat_observability.integrations.opentelemetry import follow_steps, unfollow_steps
from nat_observability.integrations.opentelemetry.current_span import Relayed, relayed
from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor
from nat_observability.sinks import MemorySink
from nat_observability.testing import recorded_run


class Otel:
    """A tracer whose spans go to the runs, and what an exporter of OpenTelemetry's own saw of them."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self.exported = InMemorySpanExporter()
        provider.add_span_processor(StepSpanProcessor())
        provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.tracer = provider.get_tracer("test")

    def span(self, name: str) -> ReadableSpan:
        """Return the one span of this name that has ended."""
        (found,) = [span for span in self.exported.get_finished_spans() if span.name == name]
        return found


@pytest.fixture
def instrumented() -> Iterator[Otel]:
    """Spans become steps, and steps are the current span."""
    made = Otel(TracerProvider(shutdown_on_exit=False))
    yield made
    unfollow_steps()
    made.provider.shutdown()


class Run:
    """A run whose spans are kept."""

    def __init__(self) -> None:
        self.sink = MemorySink(1000)
        self.manager = ExporterManager.from_exporters({"spans": SpanExporter(self.sink, flush="delivered")})

    def __getitem__(self, name: str) -> Span:
        """Return the one span of this name; the run must have ended."""
        (found,) = [each for each in self.spans if each.name == name]
        return found

    @property
    def spans(self) -> list[Span]:
        """The run's spans in the order of their ends."""
        return [item for item in self.sink.items if isinstance(item, Span)]


@pytest.fixture
def run() -> Run:
    """A run, not yet started."""
    return Run()


def current_ids() -> tuple[str, str]:
    """Return trace and span id of what OpenTelemetry takes for the current span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def nothing_is_current() -> bool:
    """Whether OpenTelemetry has no current span."""
    return not trace.get_current_span().get_span_context().is_valid


async def test_a_span_is_a_step_under_the_step_it_started_in(instrumented: Otel, run: Run) -> None:
    """Ids, parents, times and kind are those of the span, and it keeps its place in the trace of the run."""
    async with run.manager.start(ContextState(workflow_name="w")):
        with step("workflow", "outer") as outer, instrumented.tracer.start_as_current_span("inner"):
            pass
    theirs = instrumented.span("inner")
    ours = run["inner"]
    assert theirs.context is not None
    assert theirs.parent is not None
    assert ours.span_id == f"{theirs.context.span_id:016x}"
    assert ours.parent_id == outer.step_id == f"{theirs.parent.span_id:016x}"
    assert ours.run.trace_id == f"{theirs.context.trace_id:032x}"
    assert (ours.kind, ours.status) == (StepKind.SPAN, Status.OK)
    assert (ours.start_ns, ours.end_ns) == (theirs.start_time, theirs.end_time)


async def test_steps_and_spans_nest_in_each_other(instrumented: Otel, run: Run) -> None:
    """A step that begins inside a span lies under it, and so on, in both directions and in child tasks."""

    async def child() -> None:
        with step("tool", "d"), instrumented.tracer.start_as_current_span("e"):
            await asyncio.sleep(0)

    async with run.manager.start(ContextState()):
        with step("workflow", "a"), instrumented.tracer.start_as_current_span("b"):
            with instrumented.tracer.start_as_current_span("c"):
                await asyncio.create_task(child())
            with step("tool", "f"):
                pass
    parents = {span.name: span.parent_id for span in run.spans}
    ids = {span.name: span.span_id for span in run.spans}
    assert parents == {
        "a": None,
        "b": ids["a"],
        "c": ids["b"],
        "d": ids["c"],
        "e": ids["d"],
        "f": ids["b"],
    }


async def test_a_step_is_the_current_span(instrumented: Otel) -> None:
    """Its own ids, those of the run at the top of it, and what was current before when it ends."""
    state = ContextState()
    async with recorded_run(state):
        assert current_ids() == (state.run.trace_id, state.traceparent.split("-")[2])
        with step("tool", "a") as outer:
            assert current_ids() == (state.run.trace_id, outer.step_id)
            async with step("tool", "b") as inner:
                assert current_ids() == (state.run.trace_id, inner.step_id)
            assert current_ids() == (state.run.trace_id, outer.step_id)
        assert current_ids() == (state.run.trace_id, state.span_id)
    assert nothing_is_current()


async def test_the_callers_trace_goes_on(instrumented: Otel) -> None:
    """A run with a `traceparent` hands on its ids, its flags, and that the parent is another process's."""
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with recorded_run(ContextState(traceparent=parent)):
        context = trace.get_current_span().get_span_context()
        assert current_ids() == ("a" * 32, "b" * 16)
        assert context.is_remote
        assert context.trace_flags.sampled
        with step("tool", "a"):
            assert not trace.get_current_span().get_span_context().is_remote


async def test_a_run_that_is_made_inside_a_span_continues_its_trace(instrumented: Otel, run: Run) -> None:
    """As under an instrumented web server; but what its maker says comes first."""
    with instrumented.tracer.start_as_current_span("request"):
        trace_id, span_id = current_ids()
        state = ContextState()
        async with run.manager.start(state):
            with step("tool", "a"):
                pass
        assert (state.run.trace_id, state.run.parent_span_id) == (trace_id, span_id)
        assert ContextState(trace_id="c" * 32).run.trace_id == "c" * 32
        assert ContextState(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01").run.trace_id == "a" * 32
        assert current_ids() == (trace_id, span_id)
    assert run["a"].parent_id == span_id
    assert len(run.spans) == 1  # the span around the run is not the run's


async def test_a_run_inside_a_run_is_a_trace_of_its_own(instrumented: Otel) -> None:
    """As it is without `follow_steps`; each has its own current span, and the outer one's comes back."""
    async with recorded_run() as outer:
        with step("tool", "a") as around:
            before = current_ids()
            async with recorded_run() as inner:
                assert current_ids()[0] not in (before[0], "0" * 32)
                with instrumented.tracer.start_as_current_span("b"):
                    pass
            assert current_ids() == before
            assert before[1] == around.step_id
    assert {each.name for each in inner.steps} == {"b"}
    assert {each.name for each in outer.steps} == {"a"}


async def test_a_span_outside_every_run_belongs_to_none(instrumented: Otel) -> None:
    """Neither before a run, nor after it, nor in a thread that belongs to none."""
    with instrumented.tracer.start_as_current_span("before"):
        pass
    async with recorded_run() as exporter:
        thread = threading.Thread(target=lambda: instrumented.tracer.start_span("elsewhere").end())
        thread.start()
        thread.join()
    instrumented.tracer.start_span("after").end()
    assert not exporter.steps
    assert len(instrumented.exported.get_finished_spans()) == 3


async def test_spans_of_other_threads(instrumented: Otel, run: Run) -> None:
    """They belong to the run whose context they run in, ours or OpenTelemetry's, however it came there."""

    def record(name: str) -> None:
        with instrumented.tracer.start_as_current_span(name), step("tool", f"in {name}"):
            pass

    def with_their_context(context: otel.Context) -> None:
        token = otel.attach(context)
        try:
            instrumented.tracer.start_span("theirs").end()
        finally:
            otel.detach(token)

    state = ContextState()
    async with run.manager.start(state):
        with step("tool", "a") as around:
            await asyncio.to_thread(record, "copied")

            def attached() -> None:
                with state.attach():
                    record("attached")

            threads = [
                threading.Thread(target=attached),
                threading.Thread(target=with_their_context, args=[otel.get_current()]),
            ]
            for thread in threads:
                thread.start()
                thread.join()
    assert {span.name: span.parent_id for span in run.spans} == {
        "a": None,
        "copied": around.step_id,
        "in copied": run["copied"].span_id,
        "attached": None,
        "in attached": run["attached"].span_id,
        "theirs": around.step_id,
    }


async def test_a_span_may_end_in_another_thread(instrumented: Otel, run: Run) -> None:
    """A streaming client starts a span in one and ends it in another."""
    async with run.manager.start(ContextState()):
        span = instrumented.tracer.start_span("stream")
        thread = threading.Thread(target=span.end)
        thread.start()
        thread.join()
    assert run["stream"].status is Status.OK


async def test_a_span_that_outlives_its_run_is_incomplete(instrumented: Otel, run: Run) -> None:
    """It is exported when the run ends, as an open step is; its end reaches no subscriber, and no later run."""
    state = ContextState()
    async with run.manager.start(state):
        span = instrumented.tracer.start_span("open")
        span.set_attribute("late", "yes")
    assert run["open"].status is Status.INCOMPLETE
    async with recorded_run() as later:
        span.end()
    assert not later.steps
    assert state.stream.unheard == 1
    assert len(run.spans) == 1


async def test_a_child_of_a_span_that_has_ended(instrumented: Otel, run: Run) -> None:
    """Its parent is still the span, whatever is current meanwhile."""
    async with run.manager.start(ContextState()):
        parent = instrumented.tracer.start_span("parent")
        parent.end()
        with step("tool", "other"):
            instrumented.tracer.start_span("child", context=trace.set_span_in_context(parent)).end()
    assert run["child"].parent_id == run["parent"].span_id


async def test_a_root_span_on_purpose(instrumented: Otel, run: Run) -> None:
    """An empty context means a trace of its own to OpenTelemetry; what it did is still the step's."""
    async with run.manager.start(ContextState()):
        with step("tool", "a") as around:
            instrumented.tracer.start_span("root", context=otel.Context()).end()
    assert run["root"].parent_id == around.step_id
    assert instrumented.span("root").parent is None


async def test_what_the_sampler_leaves_out_is_left_out(run: Run) -> None:
    """And what lies in such a span is under the step around it."""
    made = Otel(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    try:
        async with run.manager.start(ContextState()):
            with (
                step("tool", "a") as around,
                made.tracer.start_as_current_span("dropped"),
                step("tool", "b"),
            ):
                pass
    finally:
        unfollow_steps()
        made.provider.shutdown()
    assert {span.name: span.parent_id for span in run.spans} == {"a": None, "b": around.step_id}


async def test_what_is_recorded_and_not_sampled_is_left_out(run: Run) -> None:
    """A sampler may have the SDK record a span for others than exporters: those are none of ours either."""

    class RecordOnly(StaticSampler):
        def __init__(self) -> None:
            super().__init__(Decision.RECORD_ONLY)

    made = Otel(TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False))
    try:
        async with run.manager.start(ContextState()):
            with step("tool", "a"), made.tracer.start_as_current_span("recorded") as span:
                assert span.is_recording()
    finally:
        unfollow_steps()
        made.provider.shutdown()
    assert [each.name for each in run.spans] == ["a"]


@pytest.mark.parametrize(
    ("sampling", "flag", "sampled"),
    [
        (Sampling(1, parent_based=True), "00", False),
        (Sampling(1, parent_based=True), "01", True),
        (Sampling(1), "00", True),
        (Sampling(0), "01", False),
    ],
)
async def test_the_sampled_flag_is_that_of_what_was_decided(
    sampling: Sampling, flag: str, sampled: bool
) -> None:
    """A parent-based sampler follows it, and what clients send is what `outgoing_headers` gives."""
    made = Otel(TracerProvider(sampler=ParentBased(TraceIdRatioBased(1.0)), shutdown_on_exit=False))
    exporter = SpanExporter(lambda batch: None, sampling=sampling)
    try:
        state = ContextState(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + f"-{flag}")
        async with ExporterManager.from_exporters({"spans": exporter}).start(state):
            with step("tool", "a"), made.tracer.start_as_current_span("b"):
                context = trace.get_current_span().get_span_context()
                assert context.trace_flags.sampled == sampled
                assert outgoing_headers()["traceparent"].endswith(f"-{context.trace_flags:02x}")
    finally:
        unfollow_steps()
        made.provider.shutdown()


async def test_a_step_in_a_generator_is_not_its_consumers(instrumented: Otel, run: Run) -> None:
    """What the consumer does between two items has the consumer's step as its parent, and the generator its own."""

    async def items() -> AsyncIterator[int]:
        with step("tool", "generator"):
            for number in range(2):
                instrumented.tracer.start_span(f"inside {number}").end()
                yield number

    async with run.manager.start(ContextState()):
        with step("tool", "consumer") as consumer:
            async for number in items():
                assert current_ids()[1] == consumer.step_id
                instrumented.tracer.start_span(f"outside {number}").end()
                with (
                    instrumented.tracer.start_as_current_span(f"around {number}"),
                    step("tool", f"b{number}"),
                ):
                    pass
        assert current_ids()[1] != consumer.step_id
    for number in range(2):
        assert run[f"inside {number}"].parent_id == run["generator"].span_id
        assert run[f"outside {number}"].parent_id == consumer.step_id
        assert run[f"around {number}"].parent_id == consumer.step_id
        assert run[f"b{number}"].parent_id == run[f"around {number}"].span_id
    assert nothing_is_current()


async def test_a_generator_inside_a_span(instrumented: Otel, run: Run) -> None:
    """What its consumer does lies in the consumer's span all the same."""

    async def items() -> AsyncIterator[int]:
        with step("tool", "generator"):
            yield 0
            yield 1

    async with run.manager.start(ContextState()):
        with step("tool", "consumer"), instrumented.tracer.start_as_current_span("around"):
            async for number in items():
                with step("tool", f"step {number}"):
                    pass
    assert run["generator"].parent_id == run["around"].span_id
    assert run["step 0"].parent_id == run["step 1"].parent_id == run["around"].span_id


async def test_a_decorated_generator(instrumented: Otel, run: Run) -> None:
    """Its step is the current span while it runs, in any task, and a span that it keeps open goes on there."""

    @step("tool", "generator")
    async def items() -> AsyncIterator[int]:
        with instrumented.tracer.start_as_current_span("inside"):
            for number in range(3):
                with step("tool", f"step {number}"):
                    yield number

    async with run.manager.start(ContextState()):
        with step("tool", "consumer") as consumer:
            generator = items()
            async for _ in generator:
                assert current_ids()[1] == consumer.step_id
                await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
                break
            instrumented.tracer.start_span("outside").end()
            await generator.aclose()  # type: ignore[attr-defined]
    assert run["generator"].parent_id == consumer.step_id
    assert run["inside"].parent_id == run["generator"].span_id
    assert run["step 0"].parent_id == run["inside"].span_id
    assert run["step 1"].parent_id == run["inside"].span_id
    assert run["outside"].parent_id == consumer.step_id


async def test_a_returned_stream(instrumented: Otel, run: Run) -> None:
    """The step is the current span while the stream runs, and only then; the consumer's is in a bound thread."""

    async def items() -> AsyncIterator[int]:
        for number in range(2):
            with instrumented.tracer.start_as_current_span(f"item {number}"):
                await asyncio.sleep(0)
            yield number

    class Items:
        def __init__(self) -> None:
            self.items = items()

        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> int:
            return await anext(self.items)

    async with run.manager.start(ContextState()):
        with step("tool", "consumer") as consumer:
            for name, make in (("generator", items), ("object", Items)):
                stream = step("tool", name)(lambda make=make: make())()
                assert current_ids()[1] == consumer.step_id
                async for _ in stream:
                    assert current_ids()[1] == consumer.step_id
                assert current_ids()[1] == consumer.step_id

            def in_thread() -> None:
                instrumented.tracer.start_span("in a thread").end()

            thread = threading.Thread(target=bind_context(in_thread))
            thread.start()
            thread.join()
    assert run["in a thread"].parent_id == consumer.step_id
    for name in ("generator", "object"):
        children = [each.name for each in run.spans if each.parent_id == run[name].span_id]
        assert (run[name].parent_id, children) == (consumer.step_id, ["item 0", "item 1"])


async def test_steps_that_end_in_another_order(instrumented: Otel) -> None:
    """The inner one is still the current span when the outer has ended, and then what is around both."""
    async with recorded_run():
        with step("tool", "around") as around:
            outer, inner = step("tool", "outer"), step("tool", "inner")
            outer.__enter__()
            inner.__enter__()
            outer.__exit__(None, None, None)
            assert current_ids()[1] == inner.step_id
            inner.__exit__(None, None, None)
            assert current_ids()[1] == around.step_id
            with step("tool", "next"):
                pass
        assert current_ids()[1] != around.step_id
    assert nothing_is_current()


async def test_a_context_that_is_left_attached_inside_a_step_goes_with_it(instrumented: Otel) -> None:
    """An instrumentation that forgets to detach its span spoils nothing outside the step."""
    async with recorded_run():
        with step("tool", "a"):
            otel.attach(trace.set_span_in_context(instrumented.tracer.start_span("forgotten")))
        with step("tool", "b") as after:
            assert current_ids()[1] == after.step_id
    assert nothing_is_current()


async def test_a_step_that_is_left_in_another_context(
    instrumented: Otel, caplog: pytest.LogCaptureFixture
) -> None:
    """No "Failed to detach context": a context that never saw the step stays as it is."""
    async with recorded_run() as exporter:
        opened = step("tool", "a")
        contextvars.copy_context().run(opened.__enter__)
        with step("tool", "b") as other:
            opened.__exit__(None, None, None)
            assert current_ids()[1] == other.step_id
    assert len(exporter.steps) == 4
    assert not caplog.records


async def test_baggage_and_other_values_stay(instrumented: Otel) -> None:
    """A step changes OpenTelemetry's current span and nothing else of its context."""
    key = otel.create_key("test")
    token = otel.attach(otel.set_value(key, "kept"))
    async with recorded_run():
        with step("tool", "a"):
            assert otel.get_value(key) == "kept"
    assert otel.get_value(key) == "kept"
    otel.detach(token)


async def test_a_task_that_outlives_its_step(instrumented: Otel, run: Run) -> None:
    """It goes on under the step that started it."""
    go_on = asyncio.Event()

    async def child() -> None:
        await go_on.wait()
        with instrumented.tracer.start_as_current_span("late"), step("tool", "later"):
            pass

    async with run.manager.start(ContextState()):
        with step("tool", "a") as started_in:
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        go_on.set()
        await task
    assert run["late"].parent_id == started_in.step_id
    assert run["later"].parent_id == run["late"].span_id


@pytest.mark.parametrize("with_steps", [True, False])
async def test_tasks_that_each_start_the_next_keep_nothing_alive(
    instrumented: Otel, with_steps: bool
) -> None:
    """Neither steps nor spans: an endless chain of tasks needs no more memory than one link."""
    made: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    def alive() -> int:
        gc.collect()
        return sum(type(each) in (step, Relayed) for each in gc.get_objects())

    async def link(left: int) -> None:
        with (
            step("tool", "a") if with_steps else nullcontext(),
            instrumented.tracer.start_as_current_span("b"),
        ):
            made.append(left)
            if left:
                tasks.append(asyncio.create_task(link(left - 1)))

    before = alive()
    state = ContextState()
    with state.attach():
        tasks.append(asyncio.create_task(link(50)))
    while len(tasks) > 0:
        await tasks.pop(0)
    assert len(made) == 51
    assert alive() - before < 10


async def test_two_processors_make_one_step(instrumented: Otel) -> None:
    """A span that comes twice is still one."""
    instrumented.provider.add_span_processor(StepSpanProcessor())
    async with recorded_run() as exporter:
        instrumented.tracer.start_span("once").end()
    assert [each.boundary.value for each in exporter.steps] == ["START", "END"]


async def test_a_shut_down_provider_records_nothing(instrumented: Otel) -> None:
    """As with every processor; what was open still ends."""
    async with recorded_run() as exporter:
        span = instrumented.tracer.start_span("open")
        instrumented.provider.shutdown()
        span.end()
        instrumented.tracer.start_span("after").end()
    assert [each.name for each in exporter.steps] == ["open", "open"]


def test_following_needs_no_sdk_and_can_be_undone() -> None:
    """Twice is once, and afterwards OpenTelemetry hears nothing."""
    follow_steps()
    follow_steps()
    state = ContextState()
    with state.attach(), step("tool", "a") as current:
        assert current_ids() == (state.run.trace_id, current.step_id)
    unfollow_steps()
    with state.attach(), step("tool", "a"):
        assert nothing_is_current()


def test_steps_outside_a_run_are_not_spans(instrumented: Otel) -> None:
    """Outside every run a step records nothing, and sets nothing."""
    with step("tool", "a"):
        assert nothing_is_current()


async def test_span_limits_are_the_sdks(run: Run) -> None:
    """What OpenTelemetry cuts off is cut off."""
    made = Otel(TracerProvider(span_limits=SpanLimits(max_span_attribute_length=3), shutdown_on_exit=False))
    try:
        async with run.manager.start(ContextState()):
            made.tracer.start_span("a", attributes={"input.value": "abcdef"}).end()
    finally:
        unfollow_steps()
        made.provider.shutdown()
    assert run["a"].input == "abc"


async def test_what_is_known_of_a_span_goes_with_it(instrumented: Otel) -> None:
    """A span that is no longer referenced, ended or not, is forgotten; until then it is known."""
    async with recorded_run():
        span = instrumented.tracer.start_span("a")
        context = span.get_span_context()
        assert relayed(context) is not None
        del span
        gc.collect()
        assert relayed(context) is None


def imported_without(missing: str, module: str) -> subprocess.CompletedProcess[str]:
    """Import a module where another one is not installed, and print what was imported of OpenTelemetry."""
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "module", "extra"),
    [
        ("opentelemetry", "opentelemetry", "opentelemetry"),
        ("opentelemetry", "opentelemetry.span_processor", "opentelemetry"),
        ("opentelemetry.sdk", "opentelemetry.span_processor", "opentelemetry-sdk"),
    ],
)
def test_what_is_not_installed(missing: str, module: str, extra: str) -> None:
    """The error says what to install."""
    ran = imported_without(missing, f"nat_observability.integrations.{module}")
    assert f"pip install 'nat-observability[{extra}]'" in ran.stderr


def test_the_current_span_needs_the_api_alone() -> None:
    """No SDK is imported, and none needs to be there."""
    ran = imported_without("opentelemetry.sdk", "nat_observability.integrations.opentelemetry")
    assert ran.returncode == 0
    assert "opentelemetry.trace" in ran.stdout.split()


async def test_kind_and_name_that_are_set_late(instrumented: Otel, run: Run) -> None:
    """The exported span has those of its end."""
    async with run.manager.start(ContextState()):
        with instrumented.tracer.start_as_current_span("early") as span:
            span.update_name("late")
            span.set_attributes({"openinference.span.kind": "TOOL", "tool.name": "t"})
    assert run["late"].kind is StepKind.TOOL
