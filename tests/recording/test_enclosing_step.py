"""step(): which step encloses which, across tasks, threads and generators."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability import Boundary, ContextState, ErrorDetails, IntermediateStep, step


class Recorded:
    """What was recorded, by name."""

    def __init__(self) -> None:
        self.steps: list[IntermediateStep] = []

    @property
    def order(self) -> list[str]:
        signs = {Boundary.START: "+", Boundary.CHUNK: "*", Boundary.END: "-"}
        return [signs[each.boundary] + each.name for each in self.steps]

    @property
    def parents(self) -> dict[str, str | None]:
        """The name of each step's parent; of several steps of one name, of the last."""
        names = {each.step_id: each.name for each in self.steps}
        return {
            each.name: None if each.parent_id is None else names[each.parent_id]
            for each in self.steps
            if each.boundary is Boundary.START
        }

    @property
    def errors(self) -> list[ErrorDetails]:
        return [each.error for each in self.steps if each.error is not None]

    def assert_complete(self) -> None:
        """Each step that began has ended, once, under the same parent."""
        began = [(each.step_id, each.parent_id) for each in self.steps if each.boundary is Boundary.START]
        ended = [(each.step_id, each.parent_id) for each in self.steps if each.boundary is Boundary.END]
        assert sorted(began, key=str) == sorted(ended, key=str)


@contextlib.contextmanager
def recording() -> Iterator[Recorded]:
    state, recorded = ContextState(), Recorded()
    state.stream.subscribe("test", recorded.steps.append)
    with state.attach():
        yield recorded
    state.stream.unsubscribe("test")


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """A run is current; at its end no step is open."""
    with recording() as recorded:
        yield recorded
    recorded.assert_complete()


def leaf(name: str) -> None:
    with step("tool", name):
        pass


# -- Blocks, tasks, threads ------------------------------------------------------------------------------


def test_blocks_nest(recorded: Recorded) -> None:
    """The block around it is a step's parent; what comes after the block is not inside it."""
    with step("task", "a"):
        leaf("b")
        with step("task", "c"):
            leaf("d")
        leaf("e")
    leaf("f")
    assert recorded.parents == {"a": None, "b": "a", "c": "a", "d": "c", "e": "a", "f": None}


def test_caller_of_the_run_is_the_parent() -> None:
    """In a run with a W3C link the top steps have the caller's span for a parent."""
    state, taken = (
        ContextState(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
        list[IntermediateStep](),
    )
    state.stream.subscribe("test", taken.append)
    with state.attach(), step("task", "top"):
        leaf("inner")
    state.stream.unsubscribe("test")
    assert [each.parent_id for each in taken] == ["2" * 16, taken[0].step_id, taken[0].step_id, "2" * 16]


def test_steps_that_end_out_of_order(recorded: Recorded) -> None:
    """If an outer step ends before an inner one, the inner one goes on, and afterwards no step is current."""
    outer, inner = step("task", "outer"), step("task", "inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    leaf("in inner")
    inner.__exit__(None, None, None)
    leaf("after")
    assert recorded.parents == {"outer": None, "inner": "outer", "in inner": "inner", "after": None}


async def test_tasks_are_inside_what_started_them(recorded: Recorded) -> None:
    """With `create_task`, `gather` and a task group, each task in its own branch."""

    async def branch(name: str) -> None:
        async with step("task", name):
            await asyncio.sleep(0)
            leaf(f"in {name}")
            await asyncio.sleep(0)
            leaf(f"late in {name}")

    with step("task", "all"):
        await asyncio.gather(branch("a"), branch("b"))
        async with asyncio.TaskGroup() as group:
            group.create_task(branch("c"))
            leaf("beside")
    assert recorded.parents == {
        "all": None,
        **dict.fromkeys(("a", "b", "c", "beside"), "all"),
        **{f"{when}in {name}": name for name in "abc" for when in ("", "late ")},
    }


async def test_task_that_outlives_its_step_stays_in_it(recorded: Recorded) -> None:
    """What a background task records belongs to the step that started it, after that has ended too."""
    go = asyncio.Event()

    async def background() -> None:
        await go.wait()
        leaf("late")

    with step("task", "starter"):
        task = asyncio.create_task(background())
    go.set()
    with step("task", "other"):
        await task
    assert recorded.parents == {"starter": None, "late": "starter", "other": None}


async def test_threads_are_inside_what_started_them(recorded: Recorded) -> None:
    """`asyncio.to_thread` and a copied context carry the step along; `attach` begins at the top of the run."""
    state = ContextState.current()
    assert state is not None

    def attached() -> None:
        with state.attach():
            leaf("attached")

    with step("task", "starter"):
        await asyncio.to_thread(leaf, "to_thread")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, contextvars.copy_context().run, leaf, "copied")
        await loop.run_in_executor(None, attached)
        await loop.run_in_executor(None, leaf, "outside the run")
        leaf("here")
    assert recorded.parents == {
        "starter": None,
        "to_thread": "starter",
        "copied": "starter",
        "attached": None,
        "here": "starter",
    }


async def test_callbacks_are_inside_what_scheduled_them(recorded: Recorded) -> None:
    """A callback of the event loop runs in the context in which it was scheduled."""
    done = asyncio.Event()
    with step("task", "scheduler"):
        asyncio.get_running_loop().call_soon(leaf, "callback")
        asyncio.get_running_loop().call_soon(done.set)
    with step("task", "other"):
        await done.wait()
    assert recorded.parents["callback"] == "scheduler"


# -- Generators ------------------------------------------------------------------------------------------


def plain(name: str, count: int = 2) -> Iterator[str]:
    """A generator that is one step, and records one inside before each item."""
    with step("task", name):
        for index in range(count):
            leaf(f"{name}{index}")
            yield f"{name}{index}"


async def plain_async(name: str, count: int = 2) -> AsyncGenerator[str, None]:
    async with step("task", name):
        for index in range(count):
            await asyncio.sleep(0)
            leaf(f"{name}{index}")
            yield f"{name}{index}"


def decorated(name: str, count: int = 2) -> Iterator[str]:
    @step("task", name)
    def generate() -> Iterator[str]:
        for index in range(count):
            leaf(f"{name}{index}")
            yield f"{name}{index}"

    return generate()


def decorated_async(name: str, count: int = 2) -> AsyncGenerator[str, None]:
    @step("task", name)
    async def generate() -> AsyncGenerator[str, None]:
        for index in range(count):
            await asyncio.sleep(0)
            leaf(f"{name}{index}")
            yield f"{name}{index}"

    return generate()


GENERATORS = pytest.mark.parametrize("generator", [plain, decorated])
ASYNC_GENERATORS = pytest.mark.parametrize("generator", [plain_async, decorated_async])


@GENERATORS
def test_consumer_is_not_inside_the_generator(
    recorded: Recorded, generator: Callable[..., Iterator[str]]
) -> None:
    """What the consumer does with an item is beside the generator's step, not in it."""
    with step("task", "consumer"):
        for item in generator("g"):
            leaf(f"with {item}")
        leaf("afterwards")
    leaf("outside")
    assert recorded.parents == {
        "consumer": None,
        "g": "consumer",
        "g0": "g",
        "g1": "g",
        "with g0": "consumer",
        "with g1": "consumer",
        "afterwards": "consumer",
        "outside": None,
    }


@ASYNC_GENERATORS
async def test_async_consumer_is_not_inside(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]]
) -> None:
    """The same for `async for`."""
    with step("task", "consumer"):
        async for item in generator("g"):
            leaf(f"with {item}")
        leaf("afterwards")
    assert recorded.parents == {
        "consumer": None,
        "g": "consumer",
        "g0": "g",
        "g1": "g",
        "with g0": "consumer",
        "with g1": "consumer",
        "afterwards": "consumer",
    }


@GENERATORS
def test_interleaved_generators(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """Each keeps its own steps, whichever is asked next, and whichever ends first."""
    with step("task", "consumer"):
        first, second, third = generator("a", 3), generator("b", 1), generator("c", 2)
        for _ in range(3):
            for each in (first, second, third):
                leaf(f"with {next(each, None)}")
    parents = recorded.parents
    assert {parents[name] for name in ("a", "b", "c")} == {"consumer"}
    assert all(
        parents[f"{name}{index}"] == name
        for name, count in zip("abc", (3, 1, 2), strict=True)
        for index in range(count)
    )
    assert {parent for name, parent in parents.items() if name.startswith("with")} == {"consumer"}


@ASYNC_GENERATORS
async def test_interleaved_async_generators(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]]
) -> None:
    """The same for asynchronous ones, also if two tasks take turns with them."""
    with step("task", "consumer"):
        first, second = generator("a", 4), generator("b", 4)

        async def consume(name: str) -> None:
            with step("task", name):
                for each in (first, second):
                    async with lock:
                        leaf(f"{name} with {await anext(each)}")

        lock = asyncio.Lock()
        await asyncio.gather(consume("x"), consume("y"))
        await asyncio.gather(consume("v"), consume("w"))
        for each in (first, second):
            with pytest.raises(StopAsyncIteration):
                await anext(each)
        leaf("afterwards")
    parents = recorded.parents
    assert all(parents[f"{name}{index}"] == name for name in "ab" for index in range(4))
    for name in "xyvw":
        assert {parent for each, parent in parents.items() if each.startswith(f"{name} with")} == {name}
    assert parents["afterwards"] == "consumer"


@GENERATORS
def test_nested_generators(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """A generator that consumes another encloses it."""

    def outer() -> Iterator[str]:
        with step("task", "outer"):
            for item in generator("inner"):
                leaf(f"outer with {item}")
                yield item
            yield from generator("delegated")

    for item in outer():
        leaf(f"with {item}")
    parents = recorded.parents
    assert parents["inner"] == parents["delegated"] == parents["outer with inner0"] == "outer"
    assert parents["inner0"] == "inner"
    assert parents["delegated1"] == "delegated"
    assert {parents[f"with {item}"] for item in ("inner0", "inner1", "delegated0", "delegated1")} == {None}


@GENERATORS
def test_closed_when_half_consumed(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """Its step ends without an error, and the consumer is back in its own step."""
    with step("task", "consumer"):
        half: Any = generator("g")
        next(half)
        leaf("before")
        half.close()
        leaf("after")
    assert recorded.parents["before"] == recorded.parents["after"] == "consumer"
    assert not recorded.errors


@GENERATORS
def test_dropped_when_half_consumed(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """The same if it is only dropped, as by a `break` in a loop."""
    with step("task", "consumer"):
        for _ in generator("g"):
            break
        gc.collect()
        leaf("after")
    assert recorded.parents["after"] == "consumer"
    assert "-g" in recorded.order
    assert not recorded.errors


@GENERATORS
def test_closed_in_another_thread(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """A thread that knows nothing of the run closes it: nothing raises, and both stay in their steps."""
    raised: list[BaseException] = []

    def close() -> None:
        try:
            half.close()
            assert ContextState.current() is None
            leaf("outside")
        except BaseException as error:  # noqa: BLE001  the test looks at it
            raised.append(error)

    with step("task", "consumer"):
        half: Any = generator("g")
        next(half)
        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
        leaf("after")
    assert not raised
    assert recorded.parents["after"] == "consumer"
    assert "outside" not in recorded.parents
    assert not recorded.errors


@ASYNC_GENERATORS
async def test_closed_by_another_task(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Closing a half-consumed one from another task raises nothing and logs nothing."""
    half = generator("g")

    async def consume() -> None:
        with step("task", "consumer"):
            await anext(half)
            leaf("with item")
            await closed.wait()
            leaf("after")

    async def close() -> None:
        with step("task", "closer"):
            await half.aclose()
            leaf("closed")
        closed.set()

    closed = asyncio.Event()
    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    await asyncio.create_task(close())
    await task
    leaf("outside")
    assert recorded.parents == {
        "consumer": None,
        "g": "consumer",
        "g0": "g",
        "with item": "consumer",
        "closer": None,
        "closed": "closer",
        "after": "consumer",
        "outside": None,
    }
    assert not recorded.errors
    assert not caplog.records


@ASYNC_GENERATORS
def test_finalised_when_the_loop_ends(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]], caplog: pytest.LogCaptureFixture
) -> None:
    """One that is left half-consumed is closed by the loop at its end: its step ends, nothing is logged."""
    kept: list[AsyncGenerator[str, None]] = []

    async def main() -> None:
        with step("task", "consumer"):
            kept.append(generator("g"))
            await anext(kept[0])

    with caplog.at_level(logging.DEBUG, logger="nat_observability"):
        asyncio.run(main())
    assert recorded.order[-1] == "-g"
    assert not recorded.errors
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


@ASYNC_GENERATORS
async def test_dropped_async_generator(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]]
) -> None:
    """One that is dropped is closed by a task of the loop's own."""
    with step("task", "consumer"):
        async for _ in generator("g"):
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        leaf("after")
    assert recorded.parents["after"] == "consumer"
    assert "-g" in recorded.order
    assert not recorded.errors


@ASYNC_GENERATORS
async def test_cancelled_inside_an_async_generator(
    recorded: Recorded, generator: Callable[..., AsyncGenerator[str, None]]
) -> None:
    """A cancellation that comes while the generator waits is an error of its step."""

    async def consume() -> None:
        async for _ in generator("g", 1000):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "CancelledError" in {error.type.rpartition(".")[2] for error in recorded.errors}


@pytest.mark.parametrize(
    "decorator", [contextlib.contextmanager, lambda function: step("task", "s")(function)]
)
def test_task_started_inside_a_generator(recorded: Recorded, decorator: Any) -> None:
    """It is in the generator's step, also when the generator stands at a yield."""

    def generate() -> Iterator[asyncio.Task[None]]:
        with step("task", "inside"):
            yield asyncio.get_running_loop().create_task(background())

    async def background() -> None:
        await asyncio.sleep(0)
        leaf("in the background")

    async def main() -> None:
        generator: Any = decorator(generate)() if decorator is not contextlib.contextmanager else generate()
        task = next(generator)
        leaf("consumer")
        await task
        generator.close()

    asyncio.run(main())
    assert recorded.parents["in the background"] == "inside"
    assert recorded.parents["consumer"] is None


# -- Context managers made of generators -----------------------------------------------------------------


def test_context_manager_encloses_its_block(recorded: Recorded) -> None:
    """A step inside a `@contextmanager` is around the block, and around what the manager does before and after."""

    @contextlib.contextmanager
    def managed() -> Iterator[None]:
        with step("task", "managed"):
            leaf("before")
            yield
            leaf("after")

    with step("task", "outer"), managed():
        leaf("block")
        with managed():
            leaf("inner block")
    leaf("outside")
    parents = recorded.parents
    assert parents["block"] == parents["inner block"] == parents["before"] == parents["after"] == "managed"
    assert parents["outside"] is None


async def test_async_context_manager_encloses_its_block(recorded: Recorded) -> None:
    """The same for `@asynccontextmanager`, with tasks that the block starts, and through an exit stack."""

    @contextlib.asynccontextmanager
    async def managed(name: str) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        async with step("task", name):
            yield
            await asyncio.sleep(0)
            leaf(f"end of {name}")

    async def task() -> None:
        await asyncio.sleep(0)
        leaf("task")

    with step("task", "outer"):
        async with managed("a"):
            leaf("block")
            await asyncio.gather(task())
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(managed("b"))
            await stack.enter_async_context(step("task", "c"))
            leaf("stacked")
        leaf("after")
    leaf("outside")
    assert recorded.parents == {
        "outer": None,
        "a": "outer",
        "block": "a",
        "task": "a",
        "end of a": "a",
        "b": "outer",
        "c": "b",
        "stacked": "c",
        "end of b": "b",
        "after": "outer",
        "outside": None,
    }


@pytest.mark.parametrize("way", ["manager", "nested managers", "exit stack"])
@pytest.mark.parametrize("decorate", [True, False], ids=["decorated", "plain"])
def test_context_manager_inside_a_generator(recorded: Recorded, decorate: bool, way: str) -> None:
    """Its step encloses what the generator does in the block, before and after a yield, and not the consumer."""

    @contextlib.contextmanager
    def managed() -> Iterator[None]:
        with step("task", "managed"):
            yield

    @contextlib.contextmanager
    def nested() -> Iterator[None]:
        with managed():
            yield

    def generate() -> Iterator[str]:
        if way == "exit stack":
            with contextlib.ExitStack() as stack:
                stack.enter_context(step("task", "managed"))
                yield from block()
        else:
            with managed() if way == "manager" else nested():
                yield from block()
        leaf("after the block")

    def block() -> Iterator[str]:
        for index in range(2):
            leaf(f"inside {index}")
            yield f"item {index}"
            leaf(f"inside {index} again")

    with step("task", "consumer"):
        for item in step("task", "generator")(generate)() if decorate else generate():
            leaf(f"with {item}")
        leaf("afterwards")
    around = "generator" if decorate else "consumer"
    parents = recorded.parents
    assert parents["managed"] == parents["after the block"] == around
    assert {parent for name, parent in parents.items() if name.startswith("inside")} == {"managed"}
    assert {parents[name] for name in ("with item 0", "with item 1", "afterwards")} == {"consumer"}


@pytest.mark.parametrize("decorate", [True, False], ids=["decorated", "plain"])
async def test_async_context_manager_inside_an_async_generator(recorded: Recorded, decorate: bool) -> None:
    """The same for asynchronous ones, through an exit stack too."""

    @contextlib.asynccontextmanager
    async def managed(name: str) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        async with step("task", name):
            yield

    async def generate() -> AsyncIterator[int]:
        async with managed("outer"), contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(managed("inner"))
            for index in range(2):
                await asyncio.sleep(0)
                leaf(f"inside {index}")
                yield index
                leaf(f"inside {index} again")

    with step("task", "consumer"):
        async for item in step("task", "generator")(generate)() if decorate else generate():
            leaf(f"with {item}")
        leaf("afterwards")
    parents = recorded.parents
    assert parents["outer"] == ("generator" if decorate else "consumer")
    assert parents["inner"] == "outer"
    assert {parent for name, parent in parents.items() if name.startswith("inside")} == {"inner"}
    assert {parents[name] for name in ("with 0", "with 1", "afterwards")} == {"consumer"}


async def test_managed_block_that_raises(recorded: Recorded) -> None:
    """The error is the step's, and leaves unchanged."""

    @contextlib.asynccontextmanager
    async def managed() -> AsyncIterator[None]:
        with step("task", "managed"):
            yield

    error = LookupError("no")
    with pytest.raises(LookupError) as raised:
        async with managed():
            raise error
    assert raised.value is error
    assert [each.message for each in recorded.errors] == ["no"]


# -- Whatever the order ----------------------------------------------------------------------------------

OPEN, CLOSE, LEAF, YIELD = "open", "close", "leaf", "yield"
scripts = st.lists(st.sampled_from([OPEN, CLOSE, LEAF, YIELD]), max_size=12)
programs = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([OPEN, CLOSE, LEAF, 0, 1, 2])), max_size=40)


class Model:
    """What should be recorded: each leaf and each step with its parent, found without looking at any context."""

    def __init__(self) -> None:
        self.expected: dict[str, str | None] = {}
        self._count = 0

    def opened(self, *stacks: list[str]) -> str:
        """Return the name of a new step, in the first stack that has an open one."""
        self._count += 1
        name = f"step {self._count}"
        self.expected[name] = next((stack[-1] for stack in stacks if stack), None)
        return name


def generator_of(script: list[str], model: Model, consumer: list[list[str]]) -> Generator[None, None, None]:
    """A generator that opens and closes steps of its own; `consumer` is its current consumer's stack."""
    names: list[str] = []
    steps: list[step] = []
    for action in script:
        if action == OPEN:
            names.append(model.opened(names, consumer[0]))
            steps.append(step("task", names[-1]))
            steps[-1].__enter__()
        elif action == CLOSE and steps:
            names.pop()
            steps.pop().__exit__(None, None, None)
        elif action == LEAF:
            with step("tool", model.opened(names, consumer[0])):
                pass
        elif action == YIELD:
            yield
    while steps:
        steps.pop().__exit__(None, None, None)


async def async_generator_of(
    script: list[str], model: Model, consumer: list[list[str]]
) -> AsyncGenerator[None, None]:
    names: list[str] = []
    steps: list[step] = []
    for action in script:
        await asyncio.sleep(0)
        if action == OPEN:
            names.append(model.opened(names, consumer[0]))
            steps.append(step("task", names[-1]))
            await steps[-1].__aenter__()
        elif action == CLOSE and steps:
            names.pop()
            await steps.pop().__aexit__(None, None, None)
        elif action == LEAF:
            async with step("tool", model.opened(names, consumer[0])):
                await asyncio.sleep(0)
        elif action == YIELD:
            yield
    while steps:
        steps.pop().__exit__(None, None, None)


async def play(program: list[tuple[int, Any]], made: list[list[str]], asynchronous: bool) -> None:
    """Let three tasks take turns with their own steps and with three generators that they share."""
    model, consumer = Model(), [list[str]()]
    with recording() as recorded:
        generators: list[Any] = [
            (async_generator_of if asynchronous else generator_of)(script, model, consumer) for script in made
        ]

        async def task(commands: asyncio.Queue[Any], done: asyncio.Queue[None]) -> None:
            names: list[str] = []
            steps: list[step] = []
            while (command := await commands.get()) is not None:
                consumer[0] = names
                if command == OPEN:
                    names.append(model.opened(names))
                    steps.append(step("task", names[-1]))
                    steps[-1].__enter__()
                elif command == CLOSE and steps:
                    names.pop()
                    steps.pop().__exit__(None, None, None)
                elif command == LEAF:
                    leaf(model.opened(names))
                elif isinstance(command, int):
                    if asynchronous:
                        await anext(generators[command], None)
                    else:
                        next(generators[command], None)
                    leaf(model.opened(names))
                done.put_nowait(None)
            while steps:
                steps.pop().__exit__(None, None, None)

        queues = [asyncio.Queue[Any]() for _ in range(3)]
        done = asyncio.Queue[None]()
        tasks = [asyncio.create_task(task(queue, done)) for queue in queues]
        for number, command in program:
            queues[number].put_nowait(command)
            waiting = asyncio.create_task(done.get())
            await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            await waiting
        for queue in queues:
            queue.put_nowait(None)
        await asyncio.gather(*tasks)
        for generator in generators:
            if asynchronous:
                await generator.aclose()
            else:
                generator.close()
    # What was left open in a generator that is closed ends as well; only the parents are compared here.
    assert recorded.parents == model.expected


@given(programs, st.lists(scripts, min_size=3, max_size=3))
def test_generators_in_any_order(program: list[tuple[int, Any]], made: list[list[str]]) -> None:
    """Whichever task asks which generator next, each step has the parent that one sees in the program's text."""
    asyncio.run(play(program, made, asynchronous=False))


@given(programs, st.lists(scripts, min_size=3, max_size=3))
def test_async_generators_in_any_order(program: list[tuple[int, Any]], made: list[list[str]]) -> None:
    """The same for asynchronous generators."""
    asyncio.run(play(program, made, asynchronous=True))


# -- What stays behind -----------------------------------------------------------------------------------


@GENERATORS
def test_generator_is_not_kept(recorded: Recorded, generator: Callable[..., Iterator[str]]) -> None:
    """A thousand half-consumed generators leave nothing in the run's state."""
    for _ in range(1000):
        next(generator("not kept"))
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is step and each.name.startswith("not kept")]
