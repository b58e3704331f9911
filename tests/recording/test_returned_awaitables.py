"""step() above a function that returns something to await: the step stays open until that is done."""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import functools
import gc
import inspect
import threading
import types
import warnings
from collections.abc import Generator
from typing import Any

import pytest

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter, recorded_run
from tests.recording.streams import (
    answer,
    ask,
    async_pieces,
    is_open,
    leaf,
    returning,
)


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
