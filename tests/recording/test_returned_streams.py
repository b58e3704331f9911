"""step() above a function that returns a stream: the step stays open until that is consumed."""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import copy
import csv
import functools
import gc
import inspect
import io
import logging
import pickle
import queue
import sqlite3
import tarfile
import tempfile
import threading
import types
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import numpy as np
import pytest

from nat_observability import ContextState, Status, step
from nat_observability.testing import CapturingExporter, StepNode, recorded_run


@pytest.fixture
def run() -> Iterator[CapturingExporter]:
    """A run is current."""
    exporter, state = CapturingExporter(), ContextState()
    state.stream.subscribe("test", exporter.export)
    with state.attach():
        yield exporter
    state.stream.unsubscribe("test")


def leaf(name: str) -> None:
    with step("tool", name):
        pass


def ask(run: CapturingExporter) -> StepNode:
    return run.tree.one("llm", "ask")


def is_open(run: CapturingExporter) -> bool:
    return ask(run).status is Status.INCOMPLETE


def returning(made: Callable[[], Any]) -> Any:
    """Call a decorated function that returns what `made` makes."""
    return step("llm", "ask")(lambda: made())()


def same(value: Any) -> Any:
    """Return it; in a partial, a function that returns this value."""
    return value


def pieces(*, fails: bool = False) -> Generator[str, str | None, str]:
    leaf("first")
    sent = yield "a"
    leaf("second")
    yield sent or "b"
    if fails:
        raise ConnectionError("broke")
    return "all"


async def async_pieces(*, fails: bool = False) -> collections.abc.AsyncGenerator[str, str | None]:
    await asyncio.sleep(0)
    leaf("first")
    sent = yield "a"
    await asyncio.sleep(0)
    leaf("second")
    yield sent or "b"
    if fails:
        raise ConnectionError("broke")


async def answer(*, fails: bool = False) -> str:
    await asyncio.sleep(0)
    leaf("first")
    if fails:
        raise ConnectionError("broke")
    return "all"


class Pieces:
    """A model client's stream: iterated in a generator of its own, entered as itself, closed."""

    def __init__(self, items: Iterator[str] | None = None) -> None:
        self._items = items or pieces()
        self.closed = False
        self.text = self._text()

    def __iter__(self) -> Iterator[str]:
        yield from self._items

    def __next__(self) -> str:
        return next(self._items)

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def _text(self) -> Iterator[str]:
        for piece in self:
            yield piece.upper()

    def final(self) -> str:
        return "".join(self)


class AsyncPieces:
    def __init__(self, items: AsyncIterator[str] | None = None) -> None:
        self._items = items or async_pieces()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[str]:
        async for item in self._items:
            yield item

    async def __anext__(self) -> str:
        return await anext(self._items)

    async def __aenter__(self) -> AsyncPieces:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Request:
    """A request that is sent when it is entered, and gives a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> Any:
        leaf("sending")
        return self._stream

    def __exit__(self, *exc_info: object) -> None:
        leaf("closing")


class AsyncRequest:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aenter__(self) -> Any:
        leaf("sending")
        return self._stream

    async def __aexit__(self, *exc_info: object) -> None:
        leaf("closing")


# -- Generators ------------------------------------------------------------------------------------------


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


# -- Coroutines and awaitables ---------------------------------------------------------------------------


async def test_a_coroutine_is_recorded_to_its_end() -> None:
    """The step has what it returns, and what it records lies inside."""
    async with recorded_run() as run:
        given = returning(answer)
        assert inspect.iscoroutine(given)
        assert given.__qualname__ == "answer"
        assert is_open(run)
        assert await given == "all"
        done = ask(run)
        assert (done.output, [child.name for child in done.children]) == ("all", ["first"])
        run.clear()
        with pytest.raises(ConnectionError):
            await returning(functools.partial(answer, fails=True))
        error = ask(run).error
        assert error is not None
        assert error.message == "broke"


async def test_what_a_coroutine_returns_is_followed() -> None:
    """However deep: a function that returns a coroutine that returns a stream."""

    async def later() -> Any:
        return async_pieces()

    async def much_later() -> Any:
        return later()

    async with recorded_run() as run:
        given = await (await returning(much_later))
        assert is_open(run)
        assert [piece async for piece in given] == ["a", "b"]
        assert ask(run).chunks == ["a", "b"]


def test_a_coroutine_that_is_never_awaited(run: CapturingExporter) -> None:
    """It warns once, by its name, and the step ends."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        given = returning(answer)
        del given
        gc.collect()
    assert [str(each.message).partition("\n")[0] for each in warned] == [
        "coroutine 'answer' was never awaited"
    ]
    warned.clear()  # which hold the coroutine
    assert ask(run).status is Status.OK


async def test_futures_and_tasks_are_the_same_objects() -> None:
    """The step ends when they are done."""
    async with recorded_run() as run:
        task = returning(lambda: asyncio.create_task(answer()))
        assert type(task) is asyncio.Task
        assert is_open(run)
        assert await task == "all"
        done = ask(run)
        assert (done.output, [child.name for child in done.children]) == ("all", ["first"])
        run.clear()
        failing = returning(lambda: asyncio.create_task(answer(fails=True)))
        with pytest.raises(ConnectionError):
            await failing
        error = ask(run).error
        assert error is not None
        run.clear()
        cancelled = returning(lambda: asyncio.get_running_loop().create_future())
        cancelled.cancel()
        await asyncio.wait([cancelled])
        error = ask(run).error
        assert error is not None
        assert error.type.endswith("CancelledError")
        run.clear()
        over = asyncio.get_running_loop().create_future()
        over.set_result("over")
        assert returning(lambda: over) is over
        assert ask(run).output == "over"


async def test_an_exception_that_no_one_asked_for_is_still_reported() -> None:
    """Recording a future's error does not count as handling it."""
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    async with recorded_run() as run:
        future = returning(lambda: asyncio.get_running_loop().create_future())
        future.set_exception(ConnectionError("broke"))
        await asyncio.sleep(0)
        assert ask(run).error is not None
        del future
        gc.collect()
    assert reported == ["Future exception was never retrieved"]


def test_a_threads_future(run: CapturingExporter) -> None:
    """The step ends when the thread is done."""
    go = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = returning(lambda: pool.submit(lambda: go.wait(10) and "done"))
        assert is_open(run)
        go.set()
        assert future.result() == "done"
    assert ask(run).output == "done"
    run.clear()
    failed: concurrent.futures.Future[str] = concurrent.futures.Future()
    returning(lambda: failed)
    failed.set_exception(ConnectionError("broke"))
    assert ask(run).error is not None
    run.clear()
    unwanted: concurrent.futures.Future[str] = concurrent.futures.Future()
    returning(lambda: unwanted).cancel()
    assert ask(run).error is not None


async def test_an_awaitable_of_any_class() -> None:
    """What awaiting it gives is the output; it stays an object of its class."""

    class Asked:
        def __init__(self, result: Any) -> None:
            self.result = result

        def __await__(self) -> Generator[Any, None, Any]:
            yield from asyncio.sleep(0).__await__()
            leaf("first")
            return self.result

    async with recorded_run() as run:
        given = returning(lambda: Asked("all"))
        assert isinstance(given, Asked)
        assert is_open(run)
        assert await given == "all"
        done = ask(run)
        assert (done.output, [child.name for child in done.children]) == ("all", ["first"])
        run.clear()
        assert [piece async for piece in await returning(lambda: Asked(async_pieces()))] == ["a", "b"]
        assert ask(run).chunks == ["a", "b"]


async def test_a_coroutine_of_another_class() -> None:
    """Driven by a task, or awaited: what it yields is the event loop's, and no chunk."""

    class Asked(collections.abc.Coroutine[Any, Any, str]):
        def __init__(self) -> None:
            self._inner = answer()

        def send(self, value: Any) -> Any:
            return self._inner.send(value)

        def throw(self, *error: Any) -> Any:
            return self._inner.throw(*error)

        def close(self) -> None:
            self._inner.close()

        def __await__(self) -> Generator[Any, None, str]:
            return self._inner.__await__()

    for consume in (asyncio.create_task, asyncio.wait_for):
        async with recorded_run() as run:
            waiting: Any = consume(returning(Asked), *([1] if consume is asyncio.wait_for else []))
            assert await waiting == "all"
            done = ask(run)
            assert (done.output, done.chunks, [child.name for child in done.children]) == (
                "all",
                [],
                ["first"],
            )
    async with recorded_run() as run:
        assert await returning(Asked) == "all"
        assert ask(run).output == "all"


async def test_a_generator_based_coroutine() -> None:
    """Both decorated and returned, it can still be awaited."""

    @types.coroutine
    def old() -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "all"

    async with recorded_run() as run:
        assert await step("llm", "ask")(old)() == "all"
        assert ask(run).output == "all"
        run.clear()
        assert await returning(old) == "all"
        assert ask(run).output == "all"


# -- Stream objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda stream: [next(stream), *stream],
        lambda stream: [*stream.text],
        lambda stream: stream.final(),
        lambda stream: [*iter(stream)],
    ],
    ids=["loop", "next and loop", "own generator", "own method", "iter"],
)
def test_a_stream_object_is_recorded_however_it_is_read(run: CapturingExporter, read: Any) -> None:
    """Also by its own methods, which read it from inside."""
    with returning(Pieces) as stream:
        assert type(stream).__name__ == "Pieces"
        assert isinstance(stream, Pieces)
        assert "".join(read(stream)).lower() == "ab"
        assert ask(run).chunks == ["a", "b"]
    assert stream.closed
    done = ask(run)
    assert (done.status, [child.name for child in done.children]) == (Status.OK, ["first", "second"])


async def test_an_async_stream_object_is_recorded() -> None:
    """The same for asynchronous ones, by `async for`, `anext` and `async with`."""
    async with recorded_run() as run:
        async with returning(AsyncPieces) as stream:
            assert [await anext(stream)] == ["a"]
            assert [piece async for piece in stream] == ["b"]
        assert stream.closed
        done = ask(run)
        assert (done.status, done.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in done.children] == ["first", "second"]
        run.clear()
        failing = returning(lambda: AsyncPieces(async_pieces(fails=True)))
        with pytest.raises(ConnectionError):
            async for _ in failing:
                pass
        assert ask(run).error is not None
        run.clear()
        half = returning(AsyncPieces)
        await anext(half)
        await asyncio.create_task(half.close())
        assert (ask(run).status, half.closed) == (Status.OK, True)


def test_a_stream_object_is_the_same_object(run: CapturingExporter) -> None:
    """With its attributes, its repr, and its own class again once it has been read."""

    class Counted(Pieces):
        def __repr__(self) -> str:
            return "<counted>"

        def __bool__(self) -> bool:
            return False

    made = Counted()
    given = returning(lambda: made)
    assert given is made
    assert (repr(given), bool(given), given.closed) == ("<counted>", False, False)
    setattr(given, "note", "set")  # noqa: B010
    assert made.note == "set"
    assert list(given) == ["a", "b"]
    given.close()
    assert type(given) is Counted


def test_an_error_in_a_stream_object_is_the_steps(run: CapturingExporter) -> None:
    """Whereas what its consumer raises is not."""
    with pytest.raises(ConnectionError), returning(lambda: Pieces(pieces(fails=True))) as stream:
        list(stream)
    error = ask(run).error
    assert error is not None
    assert error.message == "broke"
    run.clear()
    stream = returning(Pieces)
    assert next(stream) == "a"
    with pytest.raises(KeyError), stream:
        raise KeyError("consumer's")
    assert (ask(run).status, ask(run).error) == (Status.OK, None)


def test_a_break_leaves_a_stream_object_open(run: CapturingExporter) -> None:
    """It can be read on; its end ends the step."""
    stream = returning(Pieces)
    for _ in stream:
        break
    assert is_open(run)
    assert list(stream) == ["b"] or list(stream) == []
    assert not is_open(run)


def _slotted() -> Any:
    class Slotted:
        __slots__ = ("items",)

        def __init__(self) -> None:
            self.items = pieces()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)

    return Slotted()


def _abstract() -> Any:
    class Abstract(collections.abc.Generator[str, Any, Any]):
        def __init__(self) -> None:
            self.items = pieces()

        def send(self, value: Any) -> str:
            return self.items.send(value)

        def throw(self, *error: Any) -> str:
            return self.items.throw(*error)

    return Abstract()


def _registering() -> Any:
    known = []

    class Registering:
        def __init_subclass__(cls) -> None:
            known.append(cls)
            raise AssertionError("a class that the application did not make")

        def __init__(self) -> None:
            self.items = pieces()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)

    return Registering()


def _frozen() -> Any:
    class Frozen:
        def __init__(self) -> None:
            object.__setattr__(self, "items", pieces())

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)  # type: ignore[attr-defined, no-any-return]

    return Frozen()


@pytest.mark.parametrize("make", [_slotted, _abstract, _registering, _frozen])
def test_iterators_of_unusual_classes(run: CapturingExporter, make: Any) -> None:
    """With slots, of an abstract class, with a registry of subclasses, with a `__setattr__` of its own."""
    given = returning(make)
    assert list(given) == ["a", "b"]
    done = ask(run)
    assert (done.status, done.chunks) == (Status.OK, ["a", "b"])


def test_a_stream_through_several_steps(run: CapturingExporter) -> None:
    """Each of them stays open, and what the stream records lies in the innermost."""
    for make in (pieces, Pieces):
        given = step("task", "outer")(functools.partial(returning, make))()
        assert list(given) == ["a", "b"]
        tree = run.tree
        outer, inner = tree.one("task", "outer"), tree.one("llm", "ask", under="task")
        assert (outer.status, outer.chunks) == (inner.status, inner.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in inner.children] == ["first", "second"]
        run.clear()


def test_a_stream_can_be_copied_and_pickled(run: CapturingExporter) -> None:
    """As an object of its own class."""
    given = returning(lambda: Countdown(3))
    assert next(given) == 3
    assert list(copy.copy(given)) == list(pickle.loads(pickle.dumps(given))) == [2, 1]
    assert type(copy.copy(given)) is Countdown
    assert list(given) == [2, 1]
    assert ask(run).chunks == [3, 2, 1]


class Countdown:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if not self.count:
            raise StopIteration
        self.count -= 1
        return self.count + 1


# -- Context managers ------------------------------------------------------------------------------------


def test_a_request_that_is_entered_later(run: CapturingExporter) -> None:
    """The step lasts until the block ends; a stream that the block gets is recorded."""
    for make in (pieces, Pieces):
        with returning(functools.partial(Request, make())) as stream:
            leaf("in the block")
            assert list(stream) == ["a", "b"]
        done = ask(run)
        assert (done.status, done.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in done.children] == ["sending", "first", "second"]
        run.clear()
    with returning(lambda: Request("text")) as text:
        assert text == "text"
        assert is_open(run)
    done = ask(run)
    assert (done.output, [child.name for child in done.children]) == ("text", ["sending", "closing"])


async def test_an_async_request_that_is_entered_later() -> None:
    """The same for `async with`."""
    async with recorded_run() as run:
        async with returning(lambda: AsyncRequest(AsyncPieces())) as stream:
            assert [piece async for piece in stream] == ["a", "b"]
        assert ask(run).chunks == ["a", "b"]
        run.clear()
        async with returning(lambda: AsyncRequest("text")):
            assert is_open(run)
        assert ask(run).output == "text"


def test_contextmanager_in_both_orders(run: CapturingExporter) -> None:
    """The step is open until the block ends, and an error of the block is seen by the generator."""

    def fail() -> None:
        raise KeyError("k")

    def opened(caught: bool = False) -> Iterator[str]:
        leaf("setup")
        try:
            yield "value"
        except KeyError:
            if not caught:
                raise
        finally:
            leaf("teardown")

    above = contextlib.contextmanager(step("tool", "above")(opened))
    below: Any = step("tool", "below")(contextlib.contextmanager(opened))
    for name, manager in (("above", above), ("below", below)):
        with manager() as value:
            assert value == "value"
            assert run.tree.one(name=name).status is Status.INCOMPLETE
            leaf(f"in {name}")
        with pytest.raises(KeyError), manager():
            fail()
        with manager(caught=True):
            fail()
        nodes = run.tree.all("tool", name)
        assert [node.status for node in nodes] == [Status.OK, Status.ERROR, Status.OK]
        assert [[child.name for child in node.children] for node in nodes] == [["setup", "teardown"]] * 3
        assert [node.output for node in nodes] == ["value"] * 3


async def test_asynccontextmanager_in_both_orders() -> None:
    """The same for asynchronous ones."""

    async def opened() -> AsyncIterator[str]:
        leaf("setup")
        yield "value"
        leaf("teardown")

    above = contextlib.asynccontextmanager(step("tool", "above")(opened))
    below: Any = step("tool", "below")(contextlib.asynccontextmanager(opened))
    async with recorded_run() as run:
        for name, manager in (("above", above), ("below", below)):
            async with manager() as value:
                assert value == "value"
                assert run.tree.one(name=name).status is Status.INCOMPLETE
            node = run.tree.one(name=name)
            assert (node.status, node.output) == (Status.OK, "value")
            assert [child.name for child in node.children] == ["setup", "teardown"]


def test_an_exit_stack_and_a_reused_manager(run: CapturingExporter) -> None:
    """A followed context manager works in an exit stack, and as the decorator that contextlib makes of it."""

    @contextlib.contextmanager
    def opened() -> Iterator[str]:
        yield "value"

    below: Any = step("llm", "ask")(opened)
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(below()) == "value"
        assert is_open(run)
    assert ask(run).status is Status.OK
    run.clear()
    decorating = below()
    called = decorating(lambda: "called")
    assert (called(), called()) == ("called", "called")


# -- What is a value -------------------------------------------------------------------------------------


class OnlyIterable:
    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


class Container:
    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Close it."""


class HttpResponse:
    """Like that of requests: read already, and yet it can be iterated and closed."""

    status_code = 200

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"read"])

    def close(self) -> None:
        """Close it."""


class Cursor:
    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __next__(self) -> int:
        raise StopIteration

    def fetchone(self) -> None:
        """Fetch one row."""

    def close(self) -> None:
        """Close it."""


class Permissive:
    """Has every attribute."""

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def close(self) -> None:
        """Close it."""

    def __getattr__(self, name: str) -> str:
        return name


class Session:
    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""

    def get(self) -> str:
        return "got"


def _values(folder: Path) -> Iterator[Any]:
    yield from (
        None,
        "text",
        b"bytes",
        1,
        1.5,
        True,
        [1],
        (1,),
        {"a": 1},
        {1},
        frozenset({1}),
        range(3),
        Ellipsis,
    )
    yield from (
        OnlyIterable(),
        Container(),
        HttpResponse(),
        Cursor(),
        Permissive(),
        Session(),
        object(),
        int,
        len,
    )
    yield from (
        iter([1]),
        iter({}),
        map(str, [1]),
        filter(None, [1]),
        zip([1], [2], strict=True),
        enumerate([1]),
    )
    yield from (
        reversed([1]),
        io.BytesIO(b"a"),
        io.StringIO("a"),
        queue.Queue(),
        asyncio.Queue(),
        asyncio.Event(),
    )
    yield from (
        Mock(),
        MagicMock(),
        AsyncMock(),
        MagicMock(spec=Pieces),
        threading.Lock(),
        collections.deque([1]),
    )
    yield from (np.zeros(3), np.nditer(np.zeros(3)), types.SimpleNamespace(a=1), Path(), folder, lambda: 1)
    yield from (
        collections.Counter("ab"),
        collections.ChainMap({}),
        collections.UserList([1]),
        memoryview(b"a"),
    )
    yield from (
        step("tool", "unused"),
        ContextState(),
        ValueError("value"),
        csv.reader(["a"]),
        contextlib.ExitStack(),
    )


def test_values_end_the_step_and_come_back_as_they_are(run: CapturingExporter, tmp_path: Path) -> None:
    """Containers, files, cursors, queues, locks, stand-ins, built-in iterators and whatever can be read again."""
    for value in _values(tmp_path):
        kind = type(value)
        assert returning(functools.partial(same, value)) is value
        assert type(value) is kind
        assert ask(run).status is Status.OK, kind
        run.clear()
    with (
        (tmp_path / "file").open("w+b") as file,
        tempfile.NamedTemporaryFile() as temporary,
        tempfile.TemporaryDirectory() as _,
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        tarfile.open(tmp_path / "a.tar", "w") as archive,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        for value in (file, temporary, connection, connection.execute("SELECT 1"), archive, pool):
            kind = type(value)
            assert returning(functools.partial(same, value)) is value
            assert type(value) is kind
            assert ask(run).status is Status.OK, kind
            run.clear()


def test_opting_out(run: CapturingExporter) -> None:
    """With `follow=False` the step ends when the function returns, and the caller gets the very object."""
    made = pieces()
    assert step("llm", "ask", follow=False)(lambda: made)() is made
    done = ask(run)
    assert (done.status, done.chunks) == (Status.OK, [])


def test_a_stream_as_a_blocks_output_is_left_alone(run: CapturingExporter) -> None:
    """A block ends where it ends."""
    with step("llm", "ask") as call:
        call.output = made = pieces()
    assert ask(run).status is Status.OK
    assert next(made) == "a"


async def test_a_consumed_stream_leaves_nothing_behind() -> None:
    """Neither the stream nor its run is kept alive, and the collector need not run."""
    gc.collect()
    gc.disable()
    try:
        freed: list[str] = []

        class Watched(Pieces):
            def __del__(self) -> None:
                freed.append("stream")

        async with recorded_run() as run:
            assert list(returning(lambda: Watched(iter("ab")))) == ["a", "b"]
            assert ask(run).chunks == ["a", "b"]
            returning(lambda: Watched(iter("ab")))
        own_cycles = 2  # Pieces.text, a generator of the object's own
        assert len(freed) <= own_cycles
    finally:
        gc.enable()
    gc.collect()
    assert freed == ["stream", "stream"]
