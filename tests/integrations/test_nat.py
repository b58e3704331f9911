"""The real NeMo Agent Toolkit under our manager: nothing changes for it, and everything it does is recorded."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

pytest.importorskip("nat.builder", reason="the NeMo Agent Toolkit is installed apart. Cure: make test-nat")

from nat.builder.context import ContextState as ToolkitState
from nat.observability.exporter.file_exporter import FileExporter
from nat.observability.exporter_manager import ExporterManager as ToolkitManager
from nat.runtime.loader import load_workflow
from nat.runtime.runner import Runner
from nat.utils.reactive.subject import Subject

from nat_observability import (
    Boundary,
    ContextState,
    ExporterManager,
    ExporterState,
    Run,
    Span,
    SpanExporter,
    Status,
    StepKind,
    TokenUsage,
    step,
)
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import RecordedState
from nat_observability.errors import InvalidWorkflowError, UnsupportedVersionError
from nat_observability.integrations.nat import close_deliveries, use_manager, use_manager_for_all
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.sinks.memory import MemorySink
from nat_observability.sinks.otlp.span_message import span_id_bytes
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store import Store
from nat_observability.testing import CapturingExporter, until
from tests.integrations.nat_workflows import Recorder, doing, push, started, steps_of_context, workflow

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages that the toolkit imports
    pytest.mark.timeout(60),
]

TEXT = "hello there"
WORKFLOWS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "one function": ("shout", (), {}),
    "a chain": ("chain", ("a", "b"), {"a": "shout", "b": ("chain", "c"), "c": "echo"}),
    "at once": ("gather", ("a", "b", "c"), {"a": "shout", "b": "model", "c": "echo"}),
    "a rescue": ("rescue", ("a", "b"), {"a": "fail", "b": "shout"}),
    "a model": ("chain", ("a",), {"a": "model"}),
    "a stream": ("words", (), {}),
}


def manager_of(**exporters: Any) -> ExporterManager:
    """Return a manager with these exporters, of ours and of the toolkit's."""
    return ExporterManager.from_exporters(exporters)


async def result_of(built: Any, text: str = TEXT) -> Any:
    """Run a workflow by its Runner, as a stream if it is one, and return its output."""
    async with built.run(text) as runner:
        if not built.has_single_output:
            return [word async for word in runner.result_stream()]
        return await runner.result()


async def read(built: Any, text: str, got: list[str]) -> None:
    """Read a workflow's stream into a list, as far as it goes."""
    async with built.run(text) as runner:
        async for word in runner.result_stream():
            got.append(word)  # noqa: PERF401  what came before it failed is wanted


async def spans_of(sink: MemorySink, count: int) -> dict[str, Span]:
    """Wait until so many spans were delivered; return them by name."""
    await until(lambda: len(sink.spans) >= count)
    spans = sink.spans
    assert len(spans) == count
    return {span.name: span for span in spans}


def event(recorded: Any) -> tuple[Any, ...]:
    """What a step says, ours or the toolkit's, in the toolkit's words."""
    if isinstance(recorded, tuple):
        return recorded
    if not hasattr(recorded, "boundary"):
        payload = recorded.payload
        parent = None if recorded.parent_id == "root" else recorded.parent_id
        return payload.UUID, parent, str(payload.event_type), payload.name, round(payload.event_timestamp, 6)
    word = f"{recorded.kind.value}_{recorded.boundary.value}".replace("LLM_CHUNK", "LLM_NEW_TOKEN")
    return recorded.step_id, recorded.parent_id, word, recorded.name, round(recorded.time_ns / 1e9, 6)


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_a_workflow_runs_as_under_its_own_manager(name: str) -> None:
    """The result is the same, the toolkit's exporters see the same, and ours see every step that they see."""
    does, calls, functions = WORKFLOWS[name]
    theirs, mixed, ours = Recorder(), Recorder(), CapturingExporter()
    async with workflow(does, *calls, exporters={"recorder": theirs}, **functions) as built:
        before = await result_of(built)
        use_manager(built, manager_of(recorder=mixed, ours=ours))
        assert await result_of(built) == before
    told = [each for each in theirs.events if each[1] != "word"]  # only our manager has the steps of `step`
    assert [each for each in mixed.events if each[1] != "word"] == told
    assert [event(each) for each in ours.steps] == [event(each) for each in mixed.seen]


async def test_workflows_that_others_build_take_a_manager_too(tmp_path: Path) -> None:
    """What the toolkit's command loads from a file and serves by sessions has the manager, until that is undone."""
    ours = CapturingExporter()
    file = tmp_path / "workflow.yml"
    file.write_text(
        "functions: {a: {_type: nat_observability_test, does: shout}}\n"
        "workflow: {_type: nat_observability_test, does: chain, calls: [a]}\n"
    )
    use_manager_for_all(manager_of(ours=ours))
    try:
        async with (
            load_workflow(file) as sessions,
            sessions.session(conversation_id="talk-1", user_id="ann") as session,
            session.run(TEXT) as runner,
        ):
            assert await runner.result() == TEXT.upper()
    finally:
        use_manager_for_all(None)
    assert len(ours.steps) == 6
    assert {(each.run.conversation_id, each.run.user_id) for each in ours.steps} == {("talk-1", "ann")}
    async with workflow("shout") as built:
        assert isinstance(built.exporter_manager, ToolkitManager)


async def test_exporters_of_the_configuration_are_beside_ours() -> None:
    """A workflow keeps its own exporters to itself: the manager that was given does not get them."""
    configured, ours = Recorder(), CapturingExporter()
    manager = manager_of(ours=ours)
    async with workflow("shout", exporters={"configured": configured}) as built:
        assert use_manager(built, manager) is not manager
        assert await result_of(built) == TEXT.upper()
    assert [event(each) for each in ours.steps] == [event(each) for each in configured.seen]
    assert await manager.get_all_exporters() == {"ours": ours}


async def test_only_the_toolkits_exporters() -> None:
    """Its own exporters run unchanged without any of ours, those that the configuration names included."""
    configured, added = Recorder(), Recorder()
    async with workflow("chain", "a", exporters={"configured": configured}, a="shout") as built:
        use_manager(built, manager_of(added=added))
        assert await result_of(built) == TEXT.upper()
        assert await built.get_all_exporters() == {"configured": configured, "added": added}
    assert configured.events == added.events
    assert [each[0] for each in added.events] == [
        "WORKFLOW_START",
        "FUNCTION_START",
        "FUNCTION_START",
        "FUNCTION_END",
        "FUNCTION_END",
        "WORKFLOW_END",
    ]


async def test_ours_takes_the_place_of_a_configured_one_of_its_name() -> None:
    """An exporter of ours under the name of a configured one replaces it."""
    configured, ours = Recorder(), CapturingExporter()
    async with workflow("shout", exporters={"main": configured}) as built:
        use_manager(built, manager_of(main=ours))
        await result_of(built)
    assert not configured.seen
    assert len(ours.steps) == 4


async def test_a_runner_takes_the_manager_itself() -> None:
    """Passed to the toolkit's Runner, the manager needs nothing else."""
    ours = CapturingExporter()
    manager = manager_of(ours=ours)
    async with workflow("shout") as built:
        state = ToolkitState.get()
        async with Runner(TEXT, built._entry_fn, state, manager) as runner:
            assert await runner.result() == TEXT.upper()
    assert len(ours.steps) == 4
    assert not manager.report.running
    assert {each.state.value for each in manager.report.exporters.values()} == {"stopped"}


async def test_the_ids_are_the_toolkits() -> None:
    """Run, trace, conversation, user and the parent in another service are those that the toolkit has."""
    ours = CapturingExporter()
    async with workflow("shout") as built:
        use_manager(built, manager_of(ours=ours))
        state = ToolkitState.get()
        for variable, value in (
            (state.workflow_run_id, "run of mine"),
            (state.workflow_trace_id, 0xABC),
            (state.conversation_id, "talk-1"),
            (state.user_id, "ann"),
            (state.workflow_parent_id, "there"),
        ):
            variable.set(value)
        await result_of(built)
    run = ours.steps[0].run
    assert run == Run(
        "run of mine",
        f"{0xABC:032x}",
        "talk-1",
        "ann",
        "nat_observability_test",
        "there",
    )
    assert ours.steps[0].parent_id == "there"
    assert all(each.run is run for each in ours.steps)


# -- Steps of ours ----------------------------------------------------------------------------------------------------


async def test_steps_of_ours_and_of_the_toolkit_nest_in_each_other() -> None:
    """A step that `step` records lies in the toolkit's function, and a function that is called in it in the step."""
    sink, recorder = MemorySink(), Recorder()
    async with workflow("record", "a", a="shout") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink), recorder=recorder))
        assert await result_of(built) == TEXT.upper()
        spans = await spans_of(sink, 6)
    parents = {name: span.parent_id for name, span in spans.items()}
    assert parents == {
        "nat_observability_test": None,
        "<workflow>": spans["nat_observability_test"].span_id,
        "ours": spans["<workflow>"].span_id,
        "a": spans["ours"].span_id,
        "our model": spans["ours"].span_id,
        "afterwards": spans["<workflow>"].span_id,
    }
    assert len({span.run.run_id for span in spans.values()}) == 1
    model = spans["our model"]
    assert (model.output, model.chunks, model.usage) == ("ab", 2, TokenUsage(5, 1, total_tokens=6))


@pytest.mark.parametrize("seed", range(8))
async def test_every_step_lies_in_what_called_it(seed: int) -> None:
    """In any tree of functions of the toolkit and steps of ours, one after the other or at once, parents are right."""
    random = Random(seed)
    callers: dict[str, str | None] = {"0": None}
    for number in range(1, 40):
        callers[str(number)] = str(random.randrange(number))
    ours, at_once = ({each for each in callers if random.random() < 0.5} for _ in range(2))
    ours.discard("0")

    async def call(text: str, called: Any) -> str:
        inner = [each for each, caller in callers.items() if caller == text]
        calls = [one(each, called) for each in inner]
        if text in at_once:
            await asyncio.gather(*calls)
        else:
            for each in calls:
                await each
        return text

    async def one(text: str, called: Any) -> None:
        await asyncio.sleep(0)
        if text in ours:
            async with step("custom", text, input=text):
                await call(text, called)
        else:
            await function.ainvoke(text)

    sink, recorder = MemorySink(), Recorder()
    with doing(call=call):
        async with workflow("call", "f", f="call") as built:
            use_manager(built, manager_of(ours=SpanExporter(sink), recorder=recorder))
            function = built.functions["f"]
            await result_of(built, "0")
            await until(lambda: len(sink.spans) == 41)
    by_id = {span.span_id: span for span in sink.spans}
    found = {
        str(span.input): by_id[span.parent_id].input if span.parent_id in by_id else None
        for span in sink.spans
        if span.kind is not StepKind.WORKFLOW
    }
    assert found == callers | {"0": "0"}  # the workflow's own step has the same input as its function
    told = {(each.UUID, each.parent_id) for each in recorder.seen}
    assert told == {(span.span_id, span.parent_id or "root") for span in sink.spans}


async def test_the_toolkits_exporters_see_steps_of_ours() -> None:
    """What `step` records comes to the toolkit's exporters in their words, once, and in its place."""
    recorder, ours = Recorder(), CapturingExporter()
    async with workflow("record", "a", a="fail") as built:
        use_manager(built, manager_of(ours=ours, recorder=recorder))
        with pytest.raises(ValueError, match="cannot do"):
            await result_of(built)
    mine = [each for each in recorder.seen if each.name == "ours"]
    start, end = mine
    assert start.payload.data.input == {"text": TEXT}
    assert (start.payload.tags, start.payload.metadata) == (["own"], {"deep": 1})
    assert start.function_ancestry.function_name == "<workflow>"
    assert end.payload.metadata == {"error": {"type": "ValueError", "message": f"cannot do {TEXT}"}}
    assert next(each for each in recorder.seen if each.name == "a").parent_id == start.UUID
    # The root's END with the run's error is ours alone: the toolkit's exporters only get what it pushed.
    assert [event(each) for each in ours.steps[:-1]] == [event(each) for each in recorder.seen]


async def test_steps_in_threads_belong_to_the_run() -> None:
    """What is pushed or recorded in `asyncio.to_thread` comes to our exporters, in the run that called it."""
    sink = MemorySink()
    async with workflow("thread") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink)))
        await result_of(built)
        spans = await spans_of(sink, 4)
    assert spans["in a thread"].parent_id == spans["<workflow>"].span_id
    assert spans["ours in a thread"].parent_id == spans["<workflow>"].span_id


async def test_headers_for_other_services_name_the_step() -> None:
    """Inside the toolkit's functions `traceparent` is valid and names the id that an OTLP exporter gives their span."""
    found: list[tuple[str, str, str] | None] = []
    expected: list[str] = []
    sink = MemorySink()

    async def call(text: str, called: Any) -> str:
        state = ContextState.current()
        assert state is not None
        found.append(parse_traceparent(state.traceparent))
        with step("tool", "call") as inner:
            found.append(parse_traceparent(state.traceparent))
            push("CUSTOM_START", "inside")
            found.append(parse_traceparent(state.traceparent))
        assert inner.step_id is not None
        expected.append(inner.step_id)
        return text

    with doing(call=call):
        async with workflow("call") as built:
            use_manager(built, manager_of(ours=SpanExporter(sink)))
            await result_of(built)
            spans = await spans_of(sink, 4)
    function = spans["<workflow>"]
    expected = [span_id_bytes(each).hex() for each in (function.span_id, *expected, "inside")]
    assert found == [(function.run.trace_id, each, "01") for each in expected]


# -- How runs end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["stream this fail", "fail"])
async def test_a_failing_stream_is_recorded_with_its_error(text: str) -> None:
    """What a stream gave until it failed reaches its reader, and the workflow and its function have the error."""
    sink = MemorySink()
    async with workflow("words") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink)))
        got: list[str] = []
        with pytest.raises(ValueError, match="cannot say"):
            await read(built, text, got)
    assert got == text.split()[:-1]
    await until(lambda: len(sink.spans) == 2 + len(got))
    for span in sink.spans:
        if span.kind is StepKind.SPAN:
            assert span.status is Status.OK
            continue
        assert span.status is Status.ERROR
        assert span.error is not None
        assert (span.error.type, span.error.message) == ("ValueError", f"cannot say {text}")


async def test_a_failed_run_is_recorded_with_its_error() -> None:
    """The toolkit leaves out the error of a run: here the workflow and each function that it passed have it."""
    sink, recorder = MemorySink(), Recorder()
    async with workflow("chain", "a", "b", a="shout", b=("chain", "c"), c="fail") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink), recorder=recorder))
        with pytest.raises(ValueError, match="cannot do") as raised:
            await result_of(built)
        spans = await spans_of(sink, 5)
    assert spans["a"].status is Status.OK
    for name in ("c", "b", "<workflow>", "nat_observability_test"):
        span = spans[name]
        assert span.status is Status.ERROR
        assert span.error is not None
        assert (span.error.type, span.error.message) == ("ValueError", str(raised.value))
        assert "_fail" in (span.error.traceback or "")
    assert not [each for each in recorder.events if each[0] == "WORKFLOW_END"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["as it was", "as the cause of another"])
async def test_a_tool_that_fails_has_the_error_of_what_failed_in_it(wrapped: bool) -> None:
    """The toolkit never ends a failing tool: it ends with the run's error, and what merely was open does not."""
    sink = MemorySink()

    async def agent(text: str, called: Any) -> str:
        copy_context().run(
            push, "CUSTOM_START", "bystander"
        )  # as in another task, so that it encloses nothing
        try:
            return str(await called[0].ainvoke(text))
        except ValueError as error:
            if wrapped:
                raise RuntimeError("the tool has failed") from error
            raise

    with doing(agent=agent):
        async with workflow("agent", "a", a=("tool", "b"), b="fail") as built:
            use_manager(built, manager_of(ours=SpanExporter(sink)))
            with pytest.raises(RuntimeError if wrapped else ValueError):
                await result_of(built)
            spans = await spans_of(sink, 6)
    errors = {name: span.error.type if span.error else None for name, span in spans.items()}
    last = "RuntimeError" if wrapped else "ValueError"
    assert errors == {
        "nat_observability_test": last,
        "<workflow>": last,
        "bystander": None,
        "a": "ValueError",
        "tool": "ValueError",
        "b": "ValueError",
    }
    assert spans["tool"].status is Status.ERROR
    assert spans["bystander"].status is Status.INCOMPLETE


async def test_a_handled_error_stays_with_the_function_that_failed() -> None:
    """If a function's error was handled, neither what ran in the handler nor the workflow has failed."""
    sink = MemorySink()
    async with workflow("rescue", "a", "b", a="fail", b="shout") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink)))
        assert await result_of(built) == TEXT.upper()
        spans = await spans_of(sink, 4)
    assert {name: span.status for name, span in spans.items()} == {
        "a": Status.ERROR,
        "b": Status.OK,
        "<workflow>": Status.OK,
        "nat_observability_test": Status.OK,
    }


async def test_what_ends_in_a_handler_has_not_failed() -> None:
    """A step that begins while an error is handled has not failed with it, nor one that ends there with an output."""
    sink = MemorySink()

    def recovering() -> None:
        manager = steps_of_context()
        push("TOOL_START", "recovered", manager=manager)
        try:
            raise ValueError("not found")
        except ValueError:
            push("TOOL_START", "looked elsewhere", manager=manager)
            push("TOOL_END", "looked elsewhere", manager=manager)
            push("TOOL_START", "gave up", manager=manager)
            try:
                raise KeyError("nor there")
            except KeyError:
                push("TOOL_END", "gave up", manager=manager)
            push("TOOL_END", "recovered", manager=manager, output="a guess")

    await odd_run(SpanExporter(sink), steps=recovering)
    spans = await spans_of(sink, 5)
    errors = {name: span.error.message for name, span in spans.items() if span.error is not None}
    assert errors == {"gave up": "'nor there'"}


async def test_an_error_that_did_not_end_the_run_does_not_end_open_steps() -> None:
    """A tool that is open at the end has not failed with an error that was handled, when another one ends the run."""
    sink = MemorySink()

    async def agent(text: str, called: Any) -> str:
        push("TOOL_START", "tool")
        with suppress(ValueError):
            await called[0].ainvoke(text)
        raise RuntimeError("something else")

    with doing(agent=agent):
        async with workflow("agent", "a", a="fail") as built:
            use_manager(built, manager_of(ours=SpanExporter(sink)))
            with pytest.raises(RuntimeError, match="something else"):
                await result_of(built)
            spans = await spans_of(sink, 4)
    assert (spans["tool"].status, spans["tool"].error) == (Status.INCOMPLETE, None)
    assert spans["a"].status is Status.ERROR


async def test_a_cancelled_run_is_recorded_as_cancelled() -> None:
    """A cancellation reaches the caller, and ends the run's open steps with it."""
    sink = MemorySink()
    started[TEXT] = asyncio.Event()
    manager = manager_of(ours=SpanExporter(sink))
    async with workflow("gather", "a", "b", a="echo", b="wait") as built:
        use_manager(built, manager)
        task = asyncio.create_task(result_of(built))
        await started[TEXT].wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        spans = await spans_of(sink, 4)
    assert spans["a"].status is Status.OK
    for name in ("b", "<workflow>", "nat_observability_test"):
        error = spans[name].error
        assert error is not None
        assert error.type == "asyncio.exceptions.CancelledError"


async def test_a_timed_out_run_can_be_followed_by_another() -> None:
    """After a timeout the same workflow runs again, and each run has its own steps."""
    ours = CapturingExporter()
    started[TEXT] = asyncio.Event()
    async with workflow("chain", "a", "b", a="echo", b="wait") as built:
        use_manager(built, manager_of(ours=ours))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await result_of(built)
    by_run = Counter(each.run.run_id for each in ours.steps)
    assert [*by_run.values()] == [8, 8]


@pytest.mark.may_leave_tasks  # the toolkit leaves the function's own generator to the garbage collector
async def test_a_stream_that_is_not_read_to_its_end_is_incomplete() -> None:
    """A reader that stops is not a failure; the toolkit does not end such a workflow, and nothing else can."""
    sink = MemorySink()
    async with workflow("words") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink)))
        async with built.run("one two three") as runner, aclosing(runner.result_stream()) as words:
            async for word in words:
                assert word == "one"
                break
            runner._state = type(runner._state).COMPLETED  # its __aexit__ refuses an unfinished stream
        await until(lambda: len(sink.spans) == 3)
    spans = {span.name: span for span in sink.spans}
    assert spans["nat_observability_test"].status is Status.INCOMPLETE
    assert spans["word"].status is Status.OK
    assert all(span.error is None for span in spans.values())


async def test_runs_at_once_keep_their_steps_apart() -> None:
    """Of many runs at once, each has exactly the steps of its own functions."""
    ours, sink = CapturingExporter(), MemorySink()
    async with workflow("gather", "a", "b", a=("chain", "c"), b="model", c="thread") as built:
        use_manager(built, manager_of(ours=ours, spans=SpanExporter(sink)))
        texts = [f"text {number}" for number in range(25)]
        results = await asyncio.gather(*(result_of(built, text) for text in texts))
        await until(lambda: len(sink.spans) == 25 * 8)
    assert results == [f"{text}+today" for text in texts]
    by_run: dict[str, list[Any]] = {}
    for each in ours.steps:
        by_run.setdefault(each.run.run_id, []).append(each)
    assert len(by_run) == 25
    for steps in by_run.values():
        (text,) = {each.input for each in steps if each.kind is StepKind.FUNCTION and each.input is not None}
        assert {each.step_id for each in steps if each.kind is StepKind.LLM} == {f"model {text}"}
        assert Counter(each.boundary for each in steps)[Boundary.END] == 8
    assert len({span.run.run_id for span in sink.spans}) == 25


async def test_a_workflow_inside_another_leaves_both_complete() -> None:
    """A run inside a run takes the outer one's event stream away; how the outer one ended is recorded all the same."""
    sink = MemorySink()
    async with workflow("shout") as inner:
        use_manager(inner, manager_of(ours=SpanExporter(sink)))

        async def nested(text: str, called: Any) -> str:
            return str(await result_of(inner, text))

        with doing(nested=nested):
            async with workflow("nested") as outer:
                use_manager(outer, manager_of(ours=SpanExporter(sink)))
                assert await result_of(outer) == TEXT.upper()
                await until(lambda: len(sink.spans) == 4)
    roots = [span.status for span in sink.spans if span.kind is StepKind.WORKFLOW]
    assert roots == [Status.OK, Status.OK]


async def test_a_task_that_outlives_a_step_of_ours_is_not_in_it_any_more() -> None:
    """As after a step of its own, the toolkit's next step in such a task lies in what encloses the ended one."""
    sink = MemorySink()

    async def leave(text: str, called: Any) -> str:
        ended = asyncio.Event()

        async def outlive() -> None:
            await ended.wait()
            manager = steps_of_context()
            push("TOOL_START", "later", manager=manager)
            push("TOOL_END", "later", manager=manager)

        with step("custom", "ours"):
            task = asyncio.create_task(outlive())
            await asyncio.sleep(0)
        ended.set()
        await task
        return text

    with doing(leave=leave):
        async with workflow("leave") as built:
            use_manager(built, manager_of(ours=SpanExporter(sink)))
            await result_of(built)
            spans = await spans_of(sink, 4)
    assert spans["later"].parent_id == spans["<workflow>"].span_id


class Watched(Subject):  # type: ignore[misc]
    """The toolkit's event stream, which counts who is subscribed."""

    subscribed = 0

    def _subscribe_core(self, observer: Any) -> Any:
        self.subscribed += 1
        return super()._subscribe_core(observer)

    def _unsubscribe_observer(self, observer: Any) -> None:
        self.subscribed -= 1
        super()._unsubscribe_observer(observer)


async def test_a_run_leaves_nothing_behind() -> None:
    """When a run has ended, its event stream has no subscriber of ours, and the run is freed at once."""
    toolkit, subject = ToolkitState.get(), Watched()
    toolkit.event_stream.set(subject)
    manager = manager_of(ours=CapturingExporter())
    gc.collect()
    gc.disable()
    try:
        async with manager.start(toolkit):
            assert subject.subscribed == 1
            run = weakref.ref(ContextState.current() or manager)
            with step("tool", "ours"):
                push("TOOL_START", "theirs")
        assert subject.subscribed == 0
        del manager
        assert run() is None
    finally:
        gc.enable()


async def test_runs_one_after_the_other_in_one_event_stream_are_two() -> None:
    """Even if the toolkit has no new event stream for a second run, it is a run of its own."""
    toolkit, ours = ToolkitState.get(), CapturingExporter()
    managers = [manager_of(ours=ours) for _ in range(2)]
    for number, manager in enumerate(managers):
        toolkit.workflow_run_id.set(f"run {number}")
        async with manager.start(toolkit):
            push("CUSTOM_START", f"step {number}")
    assert [(each.run.run_id, each.name) for each in ours.steps] == [("run 0", "step 0"), ("run 1", "step 1")]


# -- What is odd about the toolkit's steps -----------------------------------------------------------------------------


async def odd_run(*exporters: Any, steps: Any) -> None:
    """Run a workflow whose function pushes these steps."""

    async def odd(text: str, called: Any) -> str:
        steps()
        return text

    with doing(odd=odd):
        async with workflow("odd") as built:
            use_manager(built, manager_of(**{str(number): each for number, each in enumerate(exporters)}))
            assert await result_of(built) == TEXT


async def test_repeated_steps_are_one_span() -> None:
    """A handler that is attached twice pushes each START and END twice, the second its own parent: one span."""
    ours, sink = CapturingExporter(), MemorySink()

    def twice() -> None:
        manager = steps_of_context()
        for kind in ("TOOL_START", "TOOL_START", "TOOL_END", "TOOL_END"):
            push(kind, "tool-1", "twice", manager=manager, output="found" if kind == "TOOL_END" else None)

    await odd_run(ours, SpanExporter(sink), steps=twice)
    spans = await spans_of(sink, 3)
    assert [each.parent_id for each in ours.steps if each.name == "twice"][1] == "tool-1"
    assert spans["twice"].parent_id == spans["<workflow>"].span_id
    assert (spans["twice"].status, spans["twice"].output) == (Status.OK, "found")


async def test_a_step_without_an_end_is_incomplete() -> None:
    """A tool that the toolkit never ends is there, incomplete, and the run that went on without it is well."""
    sink = MemorySink()
    await odd_run(SpanExporter(sink), steps=lambda: push("TOOL_START", "tool-1", "lost", given="q"))
    spans = await spans_of(sink, 3)
    assert (spans["lost"].status, spans["lost"].input) == (Status.INCOMPLETE, "q")
    assert spans["nat_observability_test"].status is Status.OK


async def test_an_end_without_a_start_changes_nothing() -> None:
    """The toolkit drops it itself."""
    ours = CapturingExporter()
    await odd_run(ours, steps=lambda: push("TOOL_END", "nowhere"))
    assert len(ours.steps) == 4


async def test_tokens_are_counted_once() -> None:
    """With streaming the toolkit tells the usage on a chunk and on the END; the span has it once."""
    sink = MemorySink()
    async with workflow("chain", "a", a="model") as built:
        use_manager(built, manager_of(ours=SpanExporter(sink)))
        await result_of(built)
        span = (await spans_of(sink, 4))["small-model"]
    assert (span.usage, span.chunks, span.tags) == (TokenUsage(3, 2, total_tokens=5), 3, ("first",))
    assert msgspec.json.decode(span.metadata or b"")["nat.data.score"] == 0.5


async def test_values_that_the_toolkit_cannot_write_are_marked() -> None:
    """If its serializer gives up, and its file would hold a Python repr, only what cannot be written is marked."""

    class Strange:
        def __repr__(self) -> str:
            return "<strange>"

    ours = CapturingExporter()

    def strange() -> None:
        manager = steps_of_context()
        push("TOOL_START", "t", manager=manager, given={"a": Strange(), "b": "\ud800", "c": b"\xff", "d": 1})
        push("TOOL_END", "t", manager=manager, output=float("nan"))

    await odd_run(ours, steps=strange)
    start, end = (each for each in ours.steps if each.step_id == "t")
    assert isinstance(start.input, msgspec.Raw)
    told = msgspec.json.decode(start.input)
    assert (told["a"]["__repr__"], told["b"], told["d"]) == ("<strange>", "\\ud800", 1)
    assert end.output is None


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"deep": [(it,)]}], ids=["bare", "deep"])
async def test_generators_are_left_to_the_workflow(wrap: Any) -> None:
    """A generator among a step's values is marked and not read: the workflow gets all that it gives."""
    ours, got = CapturingExporter(), list[str]()

    def stream() -> None:
        given = (piece for piece in "abc")
        push("CUSTOM_START", "c", given=wrap(given))
        got.extend(given)

    await odd_run(ours, steps=stream)
    (start,) = (each for each in ours.steps if each.step_id == "c")
    assert isinstance(start.input, msgspec.Raw)
    assert b"generator object" in bytes(start.input)
    assert got == ["a", "b", "c"]


async def test_what_was_pushed_is_recorded_as_it_was_then() -> None:
    """A chat history that grows after the step was pushed changes nothing in it."""
    ours = CapturingExporter()

    def grows() -> None:
        history = [{"role": "user", "content": "one"}]
        push("CUSTOM_START", "c", given=history)
        history.append({"role": "user", "content": "two"})

    await odd_run(ours, steps=grows)
    (start,) = (each for each in ours.steps if each.step_id == "c")
    assert isinstance(start.input, msgspec.Raw)
    assert len(msgspec.json.decode(start.input)) == 1


async def test_what_is_not_a_step_is_left_out() -> None:
    """A step with impossible fields reaches none of our exporters, is logged, and neither run nor exporters fail."""
    ours = CapturingExporter()
    with capture_logs() as lines:
        await odd_run(ours, steps=lambda: push("TOOL_START", "", "nameless"))
    assert len(ours.steps) == 4
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["nat_step_not_read"]


# -- The toolkit's files, and our exporters under its manager ----------------------------------------------------------


def as_the_file_tells(span: Span) -> Span:
    """Leave out of a span what the toolkit does: errors, and the times of steps of ours, which have nanoseconds."""
    told = msgspec.structs.replace(span, error=None, status=Status.OK)
    if span.kind is StepKind.WORKFLOW and span.output is None:
        return msgspec.structs.replace(told, end_ns=0)  # nothing in the file says when it failed
    if span.kind is StepKind.SPAN:
        return msgspec.structs.replace(told, start_ns=0, end_ns=0, metadata=None)
    return told


@pytest.mark.may_block  # it builds sinks, and reads files
async def test_a_live_run_equals_a_replay_of_its_own_file(tmp_path: Path) -> None:
    """Runs that the toolkit's file exporter and our store saw at once are the same in the store as from the file."""
    recorder, path = Recorder(), tmp_path / "events.jsonl"
    exporters = {"file": FileExporter(output_path=str(path), project="test"), "recorder": recorder}
    live, replayed = tmp_path / "live.sqlite3", tmp_path / "replayed.sqlite3"
    manager = manager_of(store=SpanExporter(SqliteSink(live), flush="delivered"), **exporters)
    failing: dict[str, Any] = {"fails": ("chain", ("a", "b"), {"a": "model", "b": "fail"})}
    for name, (does, calls, functions) in (WORKFLOWS | failing).items():
        async with workflow(does, *calls, **functions) as built:
            use_manager(built, manager)
            texts = [f"{name} {number}" for number in range(3)]
            await asyncio.gather(*(result_of(built, text) for text in texts), return_exceptions=True)
    # The toolkit's exporter writes on a background thread, and the run's end waits for none of it.
    await until(lambda: path.exists() and path.read_bytes().count(b"\n") == len(recorder.seen))

    with EventFile(path) as file:
        await asyncio.to_thread(file.index)
        assert file.skipped_count == 0
        for recorded in file.runs:
            state = RecordedState(recorded)
            exporter = SpanExporter(SqliteSink(replayed), flush="delivered")
            async with manager_of(store=exporter).start(state):
                for each in file.steps(recorded, 0, state.run):
                    state.last_ns = each.time_ns
                    state.stream.publish(each)
    with Store(live) as ours, Store(replayed) as theirs:
        well = {run.run.run_id for run in ours.runs(status="ok")}
        assert len(well) == 3 * len(WORKFLOWS)
        assert ours.counts(well) == theirs.counts(well)
        assert ours.counts()["spans"] == theirs.counts()["spans"]
        assert ours.counts()["runs_failed"] == theirs.counts()["runs_failed"] == 3
        for run in ours.runs():
            assert [as_the_file_tells(each) for each in ours.spans(run.run.run_id)] == [
                as_the_file_tells(each) for each in theirs.spans(run.run.run_id)
            ]
    assert await asyncio.to_thread(close_deliveries)


async def test_our_exporters_under_the_toolkits_own_manager() -> None:
    """Among the exporters of the toolkit's configuration ours have every step too, its manager unchanged."""
    ours, sink, recorder = CapturingExporter(), MemorySink(), Recorder()
    exporters = {"ours": ours, "spans": SpanExporter(sink), "recorder": recorder}
    async with workflow("chain", "a", "b", exporters=exporters, a="shout", b="fail") as built:
        assert isinstance(built.exporter_manager, ToolkitManager)
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot do"):
                await result_of(built)
        await until(lambda: len(sink.spans) == 8)
    assert [event(each) for each in ours.steps] == [event(each) for each in recorder.seen]
    assert len({each.run.run_id for each in ours.steps}) == 2
    assert Counter(span.status for span in sink.spans) == {
        Status.OK: 2,
        Status.ERROR: 4,
        Status.INCOMPLETE: 2,  # the workflow itself: that manager does not tell how a run ended
    }


def test_the_manager_serves_event_loops_one_after_the_other() -> None:
    """One manager serves a workflow in each of several `asyncio.run`, and loses nothing of any."""
    sink = MemorySink()
    manager = manager_of(ours=SpanExporter(sink, flush="delivered"))

    async def job(number: int) -> Any:
        async with workflow("shout") as built:
            use_manager(built, manager)
            return await result_of(built, f"job {number}")

    assert [asyncio.run(job(number)) for number in range(3)] == ["JOB 0", "JOB 1", "JOB 2"]
    assert len(sink.spans) == 6


# -- Bad input --------------------------------------------------------------------------------------------------------


def test_only_a_workflow_takes_a_manager() -> None:
    """Another object is refused, by its type, with what it lacks."""
    with pytest.raises(InvalidWorkflowError, match=r"A str is not a workflow .* _exporter_manager"):
        use_manager("workflow", ExporterManager())


@pytest.mark.may_block  # it looks the version up
async def test_another_version_is_named_with_those_that_work() -> None:
    """A context state that lacks what is needed names the version, what is missing and the supported ones."""

    class Older(type(ToolkitState.get())):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name == "workflow_trace_id":
                raise AttributeError(name)
            return super().__getattribute__(name)

    with pytest.raises(UnsupportedVersionError, match=r"1\.9\.0 .* workflow_trace_id, supported is .*>=1\.5"):
        await manager_of(ours=CapturingExporter()).start(Older()).__aenter__()


# -- What its exporters and its users' tests rely on ------------------------------------------------------------------


class EarlyFileExporter(FileExporter):  # type: ignore[misc]
    """Is ready, and takes steps, while its `start` goes on until it is released."""

    def __init__(self, path: Path) -> None:
        super().__init__(output_path=str(path), project="p")
        self.released = asyncio.Event()

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with super().start():
            await self.released.wait()
            yield


async def test_an_exporter_of_the_toolkit_that_is_ready_early(tmp_path: Path) -> None:
    """Its `wait_ready` decides, before its `start` yields (G1)."""
    exporter = EarlyFileExporter(tmp_path / "steps.jsonl")
    manager = ExporterManager(start_timeout=1)
    manager.add_exporter("file", exporter, required=True)
    async with manager.start(ToolkitState.get()):
        assert manager.report.exporters["file"].state is ExporterState.RUNNING
        exporter.released.set()


async def test_a_stand_in_for_the_toolkits_state(tmp_path: Path) -> None:
    """`Mock(spec=ContextState)` goes to the toolkit's exporters as it is; ours get a new run."""
    stand_in = Mock(spec=ToolkitState)
    exporter = FileExporter(output_path=str(tmp_path / "steps.jsonl"), project="p")
    isolated = manager_of(file=exporter, ours=CapturingExporter()).create_isolated_exporters(stand_in)
    assert isolated["file"] is not exporter
    assert isolated["file"]._context_state is stand_in


async def test_without_a_state_the_toolkits_current_one_is_used(tmp_path: Path) -> None:
    """As its own manager does."""
    exporter = FileExporter(output_path=str(tmp_path / "steps.jsonl"), project="p")
    isolated = manager_of(file=exporter, ours=CapturingExporter()).create_isolated_exporters()
    assert isolated["file"]._context_state is ToolkitState.get()
