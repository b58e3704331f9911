"""bind_context(), and the warning about steps that a thread records outside its run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from nat_observability import ContextState, bind_context, step
from nat_observability.testing import CapturingExporter, recorded_run
from tests.processes import run_program


def leaf(name: str) -> str:
    with step("tool", name):
        with step("tool", "inside"):
            pass
        return name


def assert_inside(run: CapturingExporter, *names: str) -> None:
    (parent,) = run.tree.all("task", "parent")
    assert sorted(child.name for child in parent.children) == sorted(names)
    assert all([each.name for each in child.children] == ["inside"] for child in parent.children)


def test_threads_record_inside_the_step(run: CapturingExporter) -> None:
    """With `submit`, `map` and `Thread`, in as many threads at once as there are."""
    together = threading.Barrier(4, timeout=10)

    def at_once(name: str) -> str:
        together.wait()
        return leaf(name)

    with step("task", "parent"), concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert pool.submit(bind_context(leaf), "submitted").result() == "submitted"
        assert list(pool.map(bind_context(at_once), "abcd")) == list("abcd")
        thread = threading.Thread(target=bind_context(leaf), args=("thread",))
        thread.start()
        thread.join()
    assert_inside(run, "submitted", "thread", *"abcd")


async def test_executors_of_the_event_loop_record_inside_the_step(run: CapturingExporter) -> None:
    """`run_in_executor` does not pass on the context, other than `to_thread`."""
    loop = asyncio.get_running_loop()
    with step("task", "parent"):
        await loop.run_in_executor(None, bind_context(leaf), "executor")
        await loop.run_in_executor(None, bind_context(functools.partial(leaf, "partial")))
        await asyncio.to_thread(bind_context(leaf), "to_thread")
    assert_inside(run, "executor", "partial", "to_thread")


def test_coroutine_functions_record_inside_the_step(run: CapturingExporter) -> None:
    """In the event loop of another thread; cancellation and exceptions reach them, and they may be called at once."""

    @bind_context
    async def unbound(name: str) -> str:
        return leaf(name)

    async def work(name: str) -> str:
        await asyncio.sleep(0)
        leaf(name)
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        return leaf(f"{name} later")

    async def cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            leaf("cancelled")

    with step("task", "parent"):
        bound, bound_cancelled = bind_context(work), bind_context(cancelled)
        bound_partial = bind_context(functools.partial(work, "partial"))
        assert inspect.iscoroutinefunction(bound)

    async def elsewhere() -> None:
        assert ContextState.current() is None
        given = await asyncio.gather(bound("a"), bound("b"), bound_partial())
        assert [*given] == ["a later", "b later", "partial later"]
        task = asyncio.create_task(bound_cancelled())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert ContextState.current() is None
        await unbound("top")

    thread = threading.Thread(target=contextvars.Context().run, args=(asyncio.run, elsewhere()))
    thread.start()
    thread.join()
    names = [f"{name}{later}" for name in ("a", "b", "partial") for later in ("", " later")]
    assert_inside(run, *names, "cancelled")
    assert run.tree.one("tool", "top").parent is None


async def test_generators_record_inside_the_step(run: CapturingExporter) -> None:
    """Of both kinds: sent to, thrown at, and closed."""

    def items() -> Generator[str, str, str]:
        try:
            sent = yield leaf("first")
            leaf(sent)
            yield "b"
        except KeyError:
            yield leaf("thrown")
        finally:
            leaf("closed")
        return "value"

    async def async_items() -> AsyncIterator[str]:
        try:
            yield leaf("first")
            await asyncio.sleep(0)
            yield leaf("second")
        finally:
            leaf("closed")

    with step("task", "parent"):
        bound, bound_async = bind_context(items), bind_context(async_items)
    assert inspect.isgeneratorfunction(bound)
    assert inspect.isasyncgenfunction(bound_async)

    def outside() -> None:
        assert ContextState.current() is None
        one = bound()
        assert (next(one), one.send("sent")) == ("first", "b")
        with pytest.raises(StopIteration, match="value"):
            next(one)
        other = bound()
        next(other)
        assert other.throw(KeyError("k")) == "thrown"
        other.close()

    contextvars.Context().run(outside)
    assert_inside(run, "first", "sent", "closed", "first", "thrown", "closed")
    run.clear()
    with step("task", "parent"):
        bound_async = bind_context(async_items)

    async def read() -> None:
        assert [item async for item in bound_async()] == ["first", "second"]
        half: Any = bound_async()
        await anext(half)
        await half.aclose()

    await asyncio.create_task(read(), context=contextvars.Context())
    assert_inside(run, "first", "second", "closed", "first", "closed")


def test_what_is_bound_stays_itself(run: CapturingExporter) -> None:
    """Name, exception, result; methods and callable objects; what a call sets in its context is gone afterwards."""
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")

    class Worker:
        def work(self) -> str:
            return leaf("method")

        def __call__(self) -> str:
            mine.set("set in the call")
            return leaf("called")

    mine.set("bound")
    assert bind_context(leaf).__name__ == "leaf"
    with step("task", "parent"):
        method, called, failing = bind_context(Worker().work), bind_context(Worker()), bind_context(int)
    mine.set("later")
    assert (method(), called(), bind_context(mine.get)()) == ("method", "called", "later")
    assert mine.get() == "later"
    with pytest.raises(ValueError, match="invalid literal"):
        failing("x")
    assert_inside(run, "method", "called")
    with pytest.raises(TypeError, match=r"bind_context\(\) takes a callable, not an object of type str"):
        bind_context("text")  # type: ignore[type-var]


async def test_after_the_run_steps_are_unheard() -> None:
    """What a thread records then is counted, and reaches no exporter."""
    state = ContextState()
    async with recorded_run(state) as exporter:
        bound = bind_context(leaf)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(bound, "late").result()
    assert (len(exporter.tree), state.stream.unheard) == (0, 4)


STRAYS = """
import asyncio, logging, sys, threading
import nat_observability
from nat_observability import ContextState, ExporterManager, bind_context, step
from nat_observability.testing import CapturingExporter, recorded_run

lines = []
class Handler(logging.Handler):
    def emit(self, record):
        if "run_not_recorded" not in record.getMessage():  # of the run without exporters
            lines.append(record.getMessage())
logging.getLogger("nat_observability").addHandler(Handler())

def work():
    with step("tool", "secret name"):
        pass

def in_thread(target):
    thread = threading.Thread(target=target, name="worker")
    thread.start()
    thread.join()

@step("llm", "generator")
def generator():
    yield 1

async def main():
    async with ExporterManager().start(ContextState()):
        in_thread(work)  # nothing would record it
    assert not lines, "no exporter"
    async with recorded_run():
        work()
        await asyncio.to_thread(work)
        in_thread(bind_context(work))
    in_thread(work)
    work()
    assert not lines, lines
    async with recorded_run():
        in_thread(lambda: CASE)
        in_thread(work)
    async with recorded_run():
        in_thread(work)
    print("\\n".join(lines))

async def in_async_block():
    async with step("tool", "secret name"):
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize("case", ["work()", "list(generator())", "asyncio.run(in_async_block())"])
def test_the_first_step_outside_its_run_is_reported(case: str) -> None:
    """Once in a process, with its place and the cure; never for a step outside a run if none is open."""
    done = run_program(STRAYS.replace("CASE", case))
    (line,) = done.stdout.splitlines()
    assert line.startswith("step_outside_run kind=")
    assert " place=" in line
    assert " thread=worker " in line
    assert "nat_observability.bind_context(function)" in line
    assert "secret" not in line
