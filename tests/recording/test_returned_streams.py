"""step() above a function that returns a generator: the step stays open until that is consumed."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

import pytest

from nat_observability import ContextState, Status, bind_context, step
from nat_observability.testing import CapturingExporter, recorded_run
from tests.recording.streams import (
    AsyncPieces,
    Pieces,
    Request,
    ask,
    async_pieces,
    is_open,
    leaf,
    pieces,
    returning,
    same,
)


def test_a_generator_is_recorded_to_its_end(run: CapturingExporter) -> None:
    """Its items are chunks, what it records lies in the step, what the consumer records does not."""
    given = returning(pieces)
    assert is_open(run)
    leaf("between")
    for piece in given:
        leaf(f"with {piece}")
    done = ask(run)
    assert (done.status, done.chunks, done.output) == (Status.OK, ["a", "b"], "all")
    tree = run.tree
    assert [child.name for child in done.children] == ["first", "second"]
    assert all(tree.one(name=name).parent is None for name in ("between", "with a", "with b"))


def test_a_generator_stays_one(run: CapturingExporter) -> None:
    """It can be sent to, thrown at, closed and inspected; its value comes through `yield from`."""

    def caught() -> Generator[str, None, None]:
        try:
            yield "a"
        except KeyError:
            yield "caught"

    given: Any = returning(pieces)
    assert type(given) is types.GeneratorType
    assert (given.__name__, given.__qualname__) == ("pieces", "pieces")
    assert (next(given), given.send("sent")) == ("a", "sent")
    thrown = returning(caught)
    assert (next(thrown), thrown.throw(KeyError("k"))) == ("a", "caught")

    def delegating() -> Generator[str, None, Any]:
        return (yield from returning(pieces))

    outer = delegating()
    assert [next(outer), next(outer)] == ["a", "b"]
    with pytest.raises(StopIteration) as end:
        next(outer)
    assert end.value.value == "all"


def test_a_generator_that_has_begun_goes_on(run: CapturingExporter) -> None:
    """What is sent to it, or thrown at it, first is for where it waits."""

    def averaging() -> Generator[float, float, None]:
        total, count = 0.0, 0
        while True:
            try:
                total += yield total / max(count, 1)
                count += 1
            except KeyError:
                total, count = 0.0, 0

    def begun() -> Generator[float, float, None]:
        given = averaging()
        next(given)
        return given

    given = step("tool", "average")(begun)()
    assert [given.send(2.0), given.send(4.0)] == [2.0, 3.0]
    given.close()
    thrown = step("tool", "average")(begun)()
    assert (thrown.throw(KeyError()), thrown.send(5.0)) == (0.0, 5.0)
    thrown.close()
    assert [each.chunks for each in run.tree.all(name="average")] == [[2.0, 3.0], [0.0, 5.0]]


async def test_an_async_generator_that_has_begun_goes_on() -> None:
    """The same."""

    async def doubling() -> AsyncGenerator[int, int]:
        sent = 0
        while True:
            sent = yield 2 * sent

    @step("tool", "double")
    async def begun() -> AsyncGenerator[int, int]:
        given = doubling()
        await anext(given)
        return given

    async with recorded_run() as run:
        given = await begun()
        assert [await given.asend(2), await given.asend(3)] == [4, 6]
        await given.aclose()
    assert run.tree.one(name="double").chunks == [4, 6]


async def test_an_async_generator_is_recorded_to_its_end() -> None:
    """The same, returned by a function and by a coroutine function."""
    for wrap in (False, True):
        async with recorded_run() as run:
            if wrap:

                @step("llm", "ask")
                async def asked() -> Any:
                    return async_pieces()

                given = await asked()
            else:
                given = returning(async_pieces)
            assert type(given) is types.AsyncGeneratorType
            assert is_open(run)
            assert [await anext(given), await given.asend("sent")] == ["a", "sent"]
            leaf("between")
            assert [piece async for piece in given] == []
            done = ask(run)
            assert (done.status, done.output) == (Status.OK, "asent")
            assert [child.name for child in done.children] == ["first", "second"]


def test_an_error_in_a_generator_is_the_steps(run: CapturingExporter) -> None:
    """It reaches the consumer too."""
    with pytest.raises(ConnectionError, match="broke"):
        list(returning(functools.partial(pieces, fails=True)))
    done = ask(run)
    assert done.error is not None
    assert (done.error.type, done.error.message, done.output) == ("ConnectionError", "broke", "ab")


async def test_an_error_in_an_async_generator_is_the_steps() -> None:
    """The same for an asynchronous one."""
    async with recorded_run() as run:
        with pytest.raises(ConnectionError, match="broke"):
            async for _ in returning(functools.partial(async_pieces, fails=True)):
                pass
        done = ask(run)
        assert done.error is not None
        assert (done.error.message, done.output) == ("broke", "ab")


@pytest.mark.parametrize("items", [0, 1])
@pytest.mark.parametrize("make", [pieces, Pieces])
def test_closed_early_is_no_error(run: CapturingExporter, make: Any, items: int) -> None:
    """A consumer that has seen enough, or needs nothing, ends the step."""
    given = returning(make)
    for _ in range(items):
        next(given)
    assert is_open(run)
    given.close()
    del given
    done = ask(run)
    assert (done.status, done.error, len(done.chunks)) == (Status.OK, None, items)


@pytest.mark.parametrize("make", [pieces, async_pieces, Pieces, AsyncPieces, lambda: Request(None)])
def test_dropped_unread_ends_the_step(run: CapturingExporter, make: Any) -> None:
    """Nothing needs to be read or closed."""
    given = returning(make)
    assert is_open(run)
    del given
    gc.collect()
    assert ask(run).status is Status.OK


async def test_dropped_half_read_ends_the_step() -> None:
    """A loop that breaks drops the stream."""
    async with recorded_run() as run:
        async for _ in returning(async_pieces):
            assert is_open(run)
            break
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert ask(run).status is Status.OK
        async for _ in returning(AsyncPieces):
            break
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert [each.status for each in run.tree.all("llm", "ask")] == [Status.OK] * 2


@pytest.mark.parametrize("wrap", [step("llm", "ask"), bind_context, returning, same], ids=lambda each: "")
def test_the_end_of_the_event_loop_closes_it_once(wrap: Any, run: CapturingExporter) -> None:
    """The loop does not learn of the generator inside, which it would close at the same time."""
    closed: list[str] = []
    problems: list[dict[str, Any]] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> AsyncIterator[int]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        given: AsyncIterator[int] = wrap(items) if wrap is returning else wrap(items)()
        assert await anext(given) == 1
        return given

    with asyncio.Runner() as runner:
        given = runner.run(main())
    assert (closed, problems) == (["closed"], [])
    del given


async def test_an_async_generator_that_is_closed_unread() -> None:
    """The same for asynchronous ones."""
    async with recorded_run() as run:
        given = returning(async_pieces)
        assert is_open(run)
        await given.aclose()
        del given
        assert (ask(run).status, ask(run).chunks) == (Status.OK, [])


async def test_closed_by_another_task_and_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """Neither raises or logs anything; what is cancelled inside the stream is an error of it."""
    async with recorded_run() as run:
        half = returning(async_pieces)
        await anext(half)
        await asyncio.create_task(half.aclose())
        assert ask(run).status is Status.OK
        run.clear()

        async def endless() -> AsyncIterator[str]:
            yield "a"
            await asyncio.Event().wait()

        async def consume() -> None:
            async for _ in returning(endless):
                read.set()

        read = asyncio.Event()
        task = asyncio.create_task(consume())
        await read.wait()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        error = ask(run).error
        assert error is not None
        assert error.type.endswith("CancelledError")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_read_in_another_thread(run: CapturingExporter) -> None:
    """A thread that knows nothing of the run reads it: the step gets the chunks, and what the stream records."""
    for make in (pieces, Pieces):
        thread = threading.Thread(target=list, args=(returning(make),))
        thread.start()
        thread.join()
        done = ask(run)
        assert (done.status, done.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in done.children] == ["first", "second"]
        run.clear()


async def test_a_run_that_ends_first() -> None:
    """The stream goes on; the step has ended with the run, and what follows is counted as unheard."""
    state = ContextState()
    async with recorded_run(state) as run:
        given = returning(async_pieces)
        await anext(given)
    assert [piece async for piece in given] == ["b"]
    assert is_open(run)  # a run's end is an exporter's to see
    assert state.stream.unheard > 0


def test_outside_a_run_nothing_is_wrapped() -> None:
    """The caller gets the very object."""
    for make in (pieces, Pieces, AsyncPieces, async_pieces):
        made = make()
        assert returning(functools.partial(same, made)) is made
        assert type(made) is type(make())
