"""step(): what is recorded of a block, a function, a coroutine and a generator."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import json
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import FrameType
from typing import Any

import msgspec
import pytest

from nat_observability import (
    Boundary,
    ContextState,
    IntermediateStep,
    StepKind,
    TokenUsage,
    UnknownStepKindError,
    step,
)
from nat_observability.testing import CapturingExporter, recorded_run
from tests import scenarios
from tests.scenarios import OURS

START, CHUNK, END = Boundary.START, Boundary.CHUNK, Boundary.END


@pytest.fixture
def heard() -> Iterator[list[IntermediateStep]]:
    """A run is current; what it records is in this list."""
    state, steps = ContextState(), list[IntermediateStep]()
    state.stream.subscribe("test", steps.append)
    with state.attach():
        yield steps
    state.stream.unsubscribe("test")


def read(value: object) -> Any:
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


def boundaries(steps: list[IntermediateStep]) -> list[tuple[Boundary, str]]:
    return [(each.boundary, each.name) for each in steps]


# -- As a context manager ---------------------------------------------------------------------------------------------


def test_block_is_recorded(heard: list[IntermediateStep]) -> None:
    """START holds input, metadata and tags, END output and usage; both share the id, the kind and the run."""
    state = ContextState.current()
    assert state is not None
    with step("llm", "gpt", input={"q": "a"}, metadata={"temperature": 0}, tags=["x", "y"]) as current:
        current.output = ["answer"]
        current.usage = TokenUsage(3, 4)
    start, end = heard
    assert (start.boundary, end.boundary) == (START, END)
    assert start.kind is end.kind is StepKind.LLM
    assert (start.name, end.name) == ("gpt", "gpt")
    assert start.step_id == end.step_id == current.step_id
    assert start.parent_id is None
    assert start.run is end.run is state.run
    assert read(start.input) == {"q": "a"}
    assert read(start.metadata) == {"temperature": 0}
    assert start.tags == ("x", "y")
    assert read(end.output) == ["answer"]
    assert end.usage == TokenUsage(3, 4, total_tokens=7)
    assert end.error is None
    assert end.time_ns >= start.time_ns


async def test_async_block_is_the_same(heard: list[IntermediateStep]) -> None:
    """`async with` records what `with` does."""
    async with step(StepKind.TASK, "async", input="in") as current:
        await asyncio.sleep(0)
        current.output = "out"
    assert boundaries(heard) == [(START, "async"), (END, "async")]
    assert (heard[0].input, heard[1].output) == ("in", "out")


def test_input_is_what_it_was(heard: list[IntermediateStep]) -> None:
    """Input and output are recorded as they are at that moment (G17)."""
    history = [1]
    with step("llm", "chat", input=history, metadata=history) as current:
        history.append(2)
        current.output = history
        current.chunk(history)
    history.append(3)
    assert read(heard[0].input) == read(heard[0].metadata) == [1]
    assert read(heard[1].chunk) == read(heard[2].output) == [1, 2]


def test_growing_history_is_recorded_as_it_was() -> None:
    """A chat history that grows changes nothing that was recorded, in any exporter (G17)."""
    scenarios.growing_history_is_recorded_as_it_was(OURS)


def test_input_is_encoded_once() -> None:
    """However many exporters there are, a value is encoded once (G17)."""
    scenarios.input_is_encoded_once(OURS)


def test_chunks_are_recorded(heard: list[IntermediateStep]) -> None:
    """Each with the moment at which it came."""
    with step("llm", "stream") as current:
        for piece in ("a", {"b": 1}, None):
            current.chunk(piece)
    assert boundaries(heard) == [(START, "stream"), *[(CHUNK, "stream")] * 3, (END, "stream")]
    assert [read(each.chunk) for each in heard[1:4]] == ["a", {"b": 1}, None]
    assert len({each.step_id for each in heard}) == 1


def test_exception_is_a_status(heard: list[IntermediateStep]) -> None:
    """What a block raises is recorded with its class, its message and its traceback, and leaves unchanged."""
    error = LookupError("not there")
    with pytest.raises(LookupError) as raised, step("tool", "search"):
        raise error
    assert raised.value is error
    assert error.__context__ is None
    recorded = heard[1].error
    assert recorded is not None
    assert (recorded.type, recorded.message) == ("LookupError", "not there")
    assert "test_step.py:" in (recorded.traceback or "")
    assert "test_exception_is_a_status" in (recorded.traceback or "")


def test_exception_of_any_kind_is_recorded(heard: list[IntermediateStep]) -> None:
    """An exception whose `str` raises, or holds what UTF-8 cannot, is recorded all the same."""

    class NoTextError(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (NoTextError(), ValueError("\ud800"), asyncio.CancelledError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), step("tool", "search"):
            raise error
    recorded = [each.error for each in heard if each.error is not None]
    assert len(recorded) == 4
    assert recorded[0].type.endswith("NoTextError")
    assert recorded[1].message == "\\ud800"
    assert (recorded[2].type, recorded[3].type) == ("asyncio.exceptions.CancelledError", "KeyboardInterrupt")
    msgspec.json.encode(recorded)


def test_deep_traceback_is_bounded(heard: list[IntermediateStep]) -> None:
    """A recursion error does not carry a thousand lines."""

    def descend(depth: int) -> None:
        if not depth:
            raise RecursionError
        descend(depth - 1)

    with pytest.raises(RecursionError), step("tool", "deep"):
        descend(300)
    assert heard[1].error is not None
    assert len((heard[1].error.traceback or "").splitlines()) <= 64


def test_end_of_a_generator_is_not_an_error(heard: list[IntermediateStep]) -> None:
    """A consumer that has seen enough closes the generator: nothing failed."""

    def generate() -> Iterator[int]:
        with step("tool", "inside"):
            yield 1
            yield 2

    generator = generate()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    assert boundaries(heard) == [(START, "inside"), (END, "inside")]
    assert heard[1].error is None


@pytest.mark.parametrize("kind", ["tool", "TOOL", "Tool", StepKind.TOOL])
def test_kind_by_name(heard: list[IntermediateStep], kind: StepKind | str) -> None:
    """A kind is given as such or by its name, in any case."""
    with step(kind, "step"):
        pass
    assert heard[0].kind is StepKind.TOOL


@pytest.mark.parametrize("kind", ["tol", "", None, 3, ["tool"]])
def test_unknown_kind_is_an_error(kind: Any) -> None:
    """The error names the known kinds, and the nearest one, outside a run as well."""
    with pytest.raises(UnknownStepKindError, match="Known: llm, tool, workflow"):
        step(kind, "step")
    with pytest.raises(UnknownStepKindError, match="Did you mean 'tool'"):
        step("tol", "step")


class Unprintable:
    """What raises when it is printed."""

    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __repr__


def test_unknown_kind_is_one_short_line() -> None:
    """However long it is, and if it cannot be printed."""
    kinds: list[Any] = ["x" * 100_000, ["x" * 100_000], Unprintable(), [Unprintable()], 10**5000]
    for kind in kinds:
        with pytest.raises(UnknownStepKindError) as caught:
            step(kind, "step")
        assert str(caught.value).startswith("No step kind ")
        assert len(str(caught.value)) < 400


def test_step_is_entered_once(heard: list[IntermediateStep]) -> None:
    """The same object a second time is an error that says so, and the first block ends as it should."""
    current = step("tool", "once")
    with current, pytest.raises(RuntimeError, match="new step for each block"):
        current.__enter__()
    with pytest.raises(RuntimeError):
        current.__enter__()
    with step("tool", "next"):
        pass
    assert boundaries(heard) == [(START, "once"), (END, "once"), (START, "next"), (END, "next")]
    assert heard[2].parent_id is None


def test_entering_twice_inside_a_generator_leaves_no_trace(heard: list[IntermediateStep]) -> None:
    """The steps that follow have the parent that they should have."""
    current = step("tool", "once")

    def generate() -> Iterator[int]:
        with current:
            pass
        with pytest.raises(RuntimeError):
            current.__enter__()
        with step("tool", "inner"):
            yield 1

    list(generate())
    assert heard[2].name == "inner"
    assert heard[2].parent_id is None


def test_name_and_metadata_may_be_set_at_the_end(heard: list[IntermediateStep]) -> None:
    """What a step is called, and what belongs to it, may be known only when it ends: a request's route, its status."""
    with step("workflow", "GET", metadata={"path": "/a/1"}) as current:
        current.name, current.metadata = "GET /a/{id}", {"status": 200}
    start, end = heard
    assert (start.name, start.metadata) == ("GET", msgspec.Raw(b'{"path":"/a/1"}'))
    assert (end.name, end.metadata) == ("GET /a/{id}", msgspec.Raw(b'{"status":200}'))


def test_name_that_is_set_at_the_end_can_be_written(heard: list[IntermediateStep]) -> None:
    """A name that is not text, or that UTF-8 cannot hold, is made into text then too."""
    with step("tool", "name") as current:
        current.name = "\ud800"
    heard[1].name.encode()


@pytest.mark.parametrize("name", [3, None, b"bytes", "\ud800", ["a"]])
def test_name_is_text_that_can_be_written(heard: list[IntermediateStep], name: Any) -> None:
    """Whatever is given for a name, what is recorded is text, so that no back end breaks on it."""
    with step("tool", name):
        pass
    assert isinstance(heard[0].name, str)
    heard[0].name.encode()


def test_tags_are_text_that_can_be_written(heard: list[IntermediateStep]) -> None:
    """Tags of another type, one single string, and an iterable that raises do no harm."""

    def broken() -> Iterator[str]:
        yield "a"
        raise ValueError

    for tags in (["a", 1, "\ud800"], "alone", broken(), 5, None):
        with step("tool", "tagged", tags=tags):  # type: ignore[arg-type]
            pass
    assert [each.tags for each in heard if each.boundary is START] == [
        ("a", "1", "\\ud800"),
        ("alone",),
        (),
        (),
        (),
    ]


# -- Token usage ------------------------------------------------------------------------------------------------------


class UsageObject:
    prompt_tokens = 3
    completion_tokens = 4
    cached_tokens = None


class EvilUsage:
    def __getattr__(self, name: str) -> int:
        raise ValueError(name)


class EvilMapping(dict[str, int]):
    def get(self, *_: object) -> Any:
        raise ValueError


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (TokenUsage(3, 4), TokenUsage(3, 4, total_tokens=7)),
        (TokenUsage(3, 4, 1, 2, 9), TokenUsage(3, 4, 1, 2, 9)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, TokenUsage(3, 4, total_tokens=7)),
        ({"prompt_tokens": 3, "total_tokens": 5, "other": 1}, TokenUsage(3, total_tokens=5)),
        (UsageObject(), TokenUsage(3, 4, total_tokens=7)),
        (
            {"prompt_tokens": "3", "completion_tokens": -4, "cached_tokens": 1.5, "reasoning_tokens": True},
            None,
        ),
        ({"prompt_tokens": 2**70, "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
        (TokenUsage("3", None, 2**100), None),  # type: ignore[arg-type]
        ({}, None),
        (3, None),
        ("usage", None),
        (EvilUsage(), None),
        (EvilMapping(prompt_tokens=3), None),
    ],
)
def test_usage_from_anything(
    heard: list[IntermediateStep], given: object, recorded: TokenUsage | None
) -> None:
    """From a `TokenUsage`, a mapping or an object; what is not a count is left out, and nothing raises."""
    with step("llm", "model") as current:
        current.usage = given
    assert heard[1].usage == recorded


# -- Outside a run ----------------------------------------------------------------------------------------------------


def test_outside_a_run_nothing_happens() -> None:
    """A step works as usual and records nothing; a function that is decorated is called as usual."""

    class Unreadable:
        def __repr__(self) -> str:
            raise AssertionError("it was looked at")

    @step("tool", "decorated")
    def function(argument: object) -> object:
        return argument

    with step("tool", "outside", input=Unreadable(), metadata=Unreadable()) as current:
        current.chunk(Unreadable())
        current.output = current.usage = Unreadable()
    assert current.step_id is None
    marker = Unreadable()
    assert function(marker) is marker


def test_outside_a_run_it_calls_next_to_nothing() -> None:
    """A step is made, entered and left, with one look at the context, whatever its input; counted, not timed."""
    called: list[str] = []

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)
        elif event == "c_call":
            called.append(function.__name__)

    for _ in range(1100):  # the first thousand are asked whether they were ever entered
        with step("tool", "name"):
            pass
    history = [{"role": "user", "content": "x" * 50_000}]
    sys.setprofile(note)
    try:
        with step("tool", "name", input=history):
            pass
    finally:
        sys.setprofile(None)
    assert called == ["step.__init__", "step.__enter__", "get", "step.__exit__", "setprofile"]


# -- As a decorator ---------------------------------------------------------------------------------------------------


def test_function_is_recorded(heard: list[IntermediateStep]) -> None:
    """Arguments by name as input, the result as output."""

    @step("function", "add", tags=["math"])
    def add(a: int, b: int = 2, *rest: int, c: int = 4, **more: int) -> int:
        """Add."""
        return a + b + sum(rest) + c + sum(more.values())

    assert add(1) == 7
    assert add(1, 2, 3, 4, c=5, d=6) == 21
    assert add(b=1, a=2) == 7
    assert [read(each.input) for each in heard if each.boundary is START] == [
        {"a": 1},
        {"a": 1, "b": 2, "rest": [3, 4], "c": 5, "d": 6},
        {"b": 1, "a": 2},
    ]
    assert [read(each.output) for each in heard if each.boundary is END] == [7, 21, 7]
    assert heard[0].tags == ("math",)
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert list(inspect.signature(add).parameters) == ["a", "b", "rest", "c", "more"]


def test_self_and_cls_are_left_out(heard: list[IntermediateStep]) -> None:
    """Methods of every kind are recorded by their own arguments."""

    class Service:
        @step("function", "method")
        def method(self, a: int) -> int:
            return a

        @classmethod
        @step("function", "of the class")
        def of_class(cls, a: int) -> int:
            return a

        @staticmethod
        @step("function", "static")
        def static(a: int) -> int:
            return a

    Service().method(1)
    Service().method(a=2)
    Service.of_class(3)
    Service.static(4)
    assert [read(each.input) for each in heard if each.boundary is START] == [
        {"a": number} for number in (1, 2, 3, 4)
    ]


def test_exception_of_a_function(heard: list[IntermediateStep]) -> None:
    """It is recorded and leaves unchanged."""

    @step("tool", "fails")
    def fails() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        fails()
    assert heard[1].error is not None
    assert heard[1].output is None


def test_given_input_goes_before_arguments(heard: list[IntermediateStep]) -> None:
    """The decorator's `input` is recorded instead, for arguments that should not be."""

    @step("tool", "login", input="secret")
    def login(password: str) -> None:
        """Nothing."""

    login("hunter2")
    assert heard[0].input == "secret"


async def test_coroutine_function_is_recorded(heard: list[IntermediateStep]) -> None:
    """It stays a coroutine function; the step lasts until the result is there, and calls may overlap."""

    @step("function", "fetch")
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    assert inspect.iscoroutinefunction(fetch)
    assert await asyncio.gather(*(fetch(number) for number in range(3))) == [0, 2, 4]
    ends = {each.step_id: read(each.output) for each in heard if each.boundary is END}
    starts = {each.step_id: read(each.input)["number"] for each in heard if each.boundary is START}
    assert {starts[step_id]: output for step_id, output in ends.items()} == {0: 0, 1: 2, 2: 4}
    assert {each.parent_id for each in heard} == {None}


async def test_cancelled_coroutine_is_an_error(heard: list[IntermediateStep]) -> None:
    """A cancellation passes through and is recorded."""

    @step("function", "waits")
    async def waits() -> None:
        await asyncio.sleep(100)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard[1].error is not None


def test_generator_is_recorded(heard: list[IntermediateStep]) -> None:
    """What it yields are chunks, what it returns is the output; send, throw and close reach it."""
    closed = []

    @step("function", "generates")
    def generates(first: int) -> Generator[int, int, str]:
        try:
            sent = yield first
            try:
                yield sent * 2
            except LookupError:
                yield -1
            return "end"
        finally:
            closed.append(True)

    assert inspect.isgeneratorfunction(generates)
    generator = generates(1)
    assert not heard  # it has not begun
    assert next(generator) == 1
    assert generator.send(5) == 10
    assert generator.throw(LookupError()) == -1
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert stopped.value.value == "end"
    assert [read(each.chunk) for each in heard if each.boundary is CHUNK] == [1, 10, -1]
    assert heard[-1].output == "end"
    assert heard[-1].error is None
    assert read(heard[0].input) == {"first": 1}
    assert closed == [True]

    generator = generates(2)
    next(generator)
    generator.close()
    assert (heard[-1].boundary, heard[-1].error) == (END, None)
    assert closed == [True, True]


def test_generator_that_fails(heard: list[IntermediateStep]) -> None:
    """What it raises, or what is thrown in and not caught, is recorded and leaves unchanged."""

    @step("function", "generates")
    def generates() -> Iterator[int]:
        yield 1
        raise LookupError("no")

    with pytest.raises(LookupError):
        list(generates())
    assert heard[-1].error is not None
    assert heard[-1].error.type == "LookupError"
    generator = generates()
    next(generator)
    with pytest.raises(ZeroDivisionError):
        generator.throw(ZeroDivisionError())  # type: ignore[attr-defined]
    assert heard[-1].error is not None
    assert heard[-1].error.type == "ZeroDivisionError"


def test_yield_from_a_decorated_generator(heard: list[IntermediateStep]) -> None:
    """Delegation hands its result over."""

    @step("function", "inner")
    def inner() -> Generator[int, None, str]:
        yield 1
        return "result"

    def outer() -> Generator[int, None, str]:
        return (yield from inner())

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration, match="result"):
        next(generator)
    assert heard[-1].output == "result"


async def test_async_generator_is_recorded(heard: list[IntermediateStep]) -> None:
    """What it yields are chunks; asend, athrow and aclose reach it."""
    closed = []

    @step("function", "streams")
    async def streams(first: int) -> AsyncGenerator[int, int]:
        try:
            sent = yield first
            await asyncio.sleep(0)
            try:
                yield sent * 2
            except LookupError:
                yield -1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    assert inspect.isasyncgenfunction(streams)
    stream: Any = streams(1)
    assert await anext(stream) == 1
    assert await stream.asend(5) == 10
    assert await stream.athrow(LookupError()) == -1
    assert [item async for item in stream] == []
    assert [read(each.chunk) for each in heard if each.boundary is CHUNK] == [1, 10, -1]
    assert (heard[-1].boundary, heard[-1].error) == (END, None)
    assert closed == [True]

    stream = streams(2)
    await anext(stream)
    await stream.aclose()
    assert (heard[-1].boundary, heard[-1].error) == (END, None)
    assert closed == [True, True]


async def test_async_generator_that_fails(heard: list[IntermediateStep]) -> None:
    """What it raises is recorded and leaves unchanged."""

    @step("function", "streams")
    async def streams() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no")

    with pytest.raises(LookupError):
        _ = [item async for item in streams()]
    assert heard[-1].error is not None


def test_generators_outside_a_run_are_as_usual() -> None:
    """They yield, return and close as if they were not decorated."""

    @step("function", "generates")
    def generates() -> Generator[int, int, str]:
        sent = yield 1
        yield sent
        return "end"

    @step("function", "streams")
    async def streams() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def consume() -> list[int]:
        return [item async for item in streams()]

    generator = generates()
    assert next(generator) == 1
    assert generator.send(7) == 7
    with pytest.raises(StopIteration, match="end"):
        next(generator)
    assert asyncio.run(consume()) == [1, 2]


class Doubling(functools.cached_property[int]):
    """A descriptor that an application defines."""


@pytest.mark.parametrize(
    ("outer", "name"),
    [
        (classmethod, "classmethod"),
        (staticmethod, "staticmethod"),
        (property, "property"),
        (functools.cached_property, "cached_property"),
        (Doubling, "Doubling"),
    ],
)
def test_a_decorator_in_the_wrong_order_is_refused(outer: Any, name: str) -> None:
    """When it decorates, not when it is called; the error shows the right order."""
    with pytest.raises(
        TypeError, match=rf"^step\(\) stands above @{name}, .* @{name} above, step\(\) directly"
    ):
        step("tool", "wrong")(outer(lambda *_: 1))


def test_a_class_is_not_decorated() -> None:
    """It would become a function, not a class: nothing could be derived from it."""

    class Tool:
        pass

    for kind in (Tool, int):
        with pytest.raises(TypeError, match=rf"{kind.__qualname__} is a class.* __init__ or __call__"):
            step("tool", "wrong")(kind)


@pytest.mark.parametrize("given", [functools.partialmethod(print), "name", None])
def test_what_cannot_be_called_is_not_decorated(given: Any) -> None:
    """Whatever it is, the error names its type."""
    with pytest.raises(TypeError, match=rf"was given an object of type {type(given).__qualname__}"):
        step("tool", "wrong")(given)


def test_the_right_order_records(heard: list[IntermediateStep]) -> None:
    """Directly above the function, with the others above it."""

    class Tool:
        @classmethod
        @step("tool", "class method")
        def made(cls, number: int) -> int:
            return number

        @staticmethod
        @step("tool", "static method")
        def doubled(number: int) -> int:
            return 2 * number

        @property
        @step("tool", "property")
        def size(self) -> int:
            return 3

    assert (Tool.made(1), Tool.doubled(1), Tool().size) == (1, 2, 3)
    assert [each.name for each in heard[1::2]] == ["class method", "static method", "property"]


def test_callables_of_other_kinds(heard: list[IntermediateStep]) -> None:
    """A builtin, a partial and an object with `__call__` are decorated like functions."""

    class Callable:
        def __call__(self, a: int) -> int:
            return a + 1

    assert step("tool", "max")(max)(1, 2) == 2
    assert step("tool", "partial")(functools.partial(int, base=2))("11") == 3
    assert step("tool", "object")(Callable())(1) == 2
    assert [read(each.input) for each in heard if each.boundary is START] == [
        {"args": [1, 2]},
        {"args": ["11"]},
        {"a": 1},
    ]


def test_recorded_as_json_everywhere(heard: list[IntermediateStep]) -> None:
    """Every recorded step can be encoded, whatever was in it."""

    @step("tool", "\ud800", metadata={"\ud800": object()}, tags=["\udfff"])
    def call(argument: object) -> object:
        raise ValueError("\ud800")

    with pytest.raises(ValueError, match="\ud800"):
        call({"\ud800": [object(), 10**5000]})
    for each in heard:
        json.loads(msgspec.json.encode(each))


# -- What it leaves behind --------------------------------------------------------------------------------------------


async def test_finished_run_is_freed_without_the_collector() -> None:
    """A run, its state and its steps form no reference cycle: their memory is freed when the block has ended."""
    gc.collect()
    gc.disable()
    try:
        async with recorded_run(state := ContextState()) as exporter:
            with step("tool", "outer"), step("tool", "inner", input=[1]):
                pass

            @step("tool", "generates")
            def generates() -> Iterator[int]:
                yield 1

            list(generates())
        del generates
        exporter.clear()
        freed = weakref.ref(exporter)
        stream = weakref.WeakKeyDictionary[object, None]()
        del exporter, state, stream
        assert freed() is None
    finally:
        gc.enable()


async def test_tasks_that_start_each_other_inside_steps_keep_no_chain(heard: list[IntermediateStep]) -> None:
    """A hundred generations of tasks, each started inside a step of the one before, hold only the last step."""
    steps: list[weakref.ref[step]] = []

    async def generation(left: int) -> None:
        with step("task", "generation") as current:
            steps.append(weakref.ref(current))
            if left:
                tasks.append(asyncio.create_task(generation(left - 1)))

    tasks = [asyncio.create_task(generation(100))]
    while tasks:
        await tasks.pop()
    del heard[:]
    assert sum(each() is not None for each in steps) <= 2


async def test_generators_that_start_each_other_keep_no_chain(heard: list[IntermediateStep]) -> None:
    """The same for tasks that are started inside decorated generators."""
    tasks: list[asyncio.Task[None]] = []

    @step("task", "generation of tasks")
    async def generation(left: int) -> AsyncIterator[int]:
        if left:
            tasks.append(asyncio.create_task(consume(left - 1)))
        yield left

    async def consume(left: int) -> None:
        async for _ in generation(left):
            pass

    tasks.append(asyncio.create_task(consume(100)))
    while tasks:
        await tasks.pop()
    gc.collect()
    assert sum(type(each) is step and each.name == "generation of tasks" for each in gc.get_objects()) <= 3


def test_nothing_is_warned_about(heard: list[IntermediateStep]) -> None:
    """An exit stack goes with a step as with any other context manager."""
    with warnings.catch_warnings(), contextlib.suppress(LookupError):
        warnings.simplefilter("error")
        with contextlib.ExitStack() as stack:
            stack.enter_context(step("tool", "stacked"))
            raise LookupError
    assert heard[1].error is not None


async def test_steps_reach_the_exporter() -> None:
    """`recorded_run` is all that a test of your own code needs."""
    async with recorded_run() as exporter:
        with step("tool", "search"):
            pass
        assert isinstance(exporter, CapturingExporter)
    assert boundaries(exporter.steps) == [(START, "search"), (END, "search")]
    assert exporter.steps_of(exporter.steps[0].run.run_id) == exporter.steps
    exporter.clear()
    assert exporter.steps == []


def test_a_step_shows_what_its_users_need() -> None:
    """It is also an `OpenStep` for subscribers."""
    shown = {name for name in dir(step) if not name.startswith("_")}
    recording = {"chunk", "event", "link", "set_attribute", "set_attributes", "set_status"}
    models = {"documents", "request", "response", "score", "tool_call"}
    values = {"metadata", "name", "output", "step_id", "usage"}
    assert shown == recording | models | values | {"enclose_in", "started", "streamed"}
