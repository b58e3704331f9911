"""as_sink and WorkerSink: a sink of any form is called in order, and never twice at once."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from nat_observability.delivery.sending.sink_adapters import FunctionSink, WorkerSink, as_sink
from nat_observability.events import Item
from nat_observability.sinks.protocol import Batch, BlockingSink, Sink
from nat_observability.testing import until
from tests.delivery.sinks import ScriptedSink
from tests.sinks.builders import make_step

PATIENCE = 10.0
BATCH = [make_step(), make_step()]


class Blocking:
    """A blocking sink that notes the calls, and how many threads it saw, and fails on request."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.at_once = 0
        self.fail: Exception | None = None
        self.let_go: threading.Event | None = None
        self.entered = threading.Event()

    def open(self) -> None:
        self._call("open")

    def write(self, batch: Batch) -> int | None:
        self._call("write")
        return None

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        self.at_once += 1
        try:
            assert self.at_once == 1, "two calls at once"
            self.calls.append(name)
            self.threads.add(threading.current_thread())
            self.entered.set()
            if self.let_go is not None:
                self.let_go.wait(PATIENCE)
            if self.fail is not None:
                raise self.fail
        finally:
            self.at_once -= 1


async def test_a_blocking_sink_is_called_on_one_thread_that_is_not_the_loops() -> None:
    """Open, writes and close run on one worker thread, which ends with the close; a new open gets a new one."""
    blocking = Blocking()
    sink = as_sink(blocking)
    for _ in range(2):
        await sink.open()
        await sink.write(BATCH)
        await sink.write(BATCH)
        await sink.close()
    assert blocking.calls == ["open", "write", "write", "close"] * 2
    assert len(blocking.threads) == 2
    assert threading.main_thread() not in blocking.threads


async def test_a_sink_that_could_not_be_opened_keeps_no_thread() -> None:
    """A failing open may be repeated for ever: none of them costs a thread."""
    blocking = Blocking()
    blocking.fail = OSError("no such directory")
    sink = as_sink(blocking)
    for _ in range(3):
        with pytest.raises(OSError, match="no such directory"):
            await sink.open()
    for thread in blocking.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


async def test_a_sink_that_cannot_be_closed_keeps_no_thread() -> None:
    """An error from close goes to the caller, and the thread ends all the same."""
    blocking = Blocking()
    sink = as_sink(blocking)
    await sink.open()
    blocking.fail = OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        await sink.close()


async def test_a_write_that_is_given_up_holds_up_the_next_call() -> None:
    """A timeout cannot stop a blocking call: the next write waits for it, so the sink never sees two at once."""
    blocking = Blocking()
    sink = as_sink(blocking)
    await sink.open()
    blocking.entered.clear()
    blocking.let_go = let_go = threading.Event()
    given_up = asyncio.ensure_future(sink.write(BATCH))
    await until(blocking.entered.is_set)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    blocking.let_go = None
    again = asyncio.ensure_future(sink.write(BATCH))
    await asyncio.sleep(0)
    assert not again.done()
    let_go.set()
    await asyncio.wait_for(again, PATIENCE)
    await sink.close()
    assert blocking.calls == ["open", "write", "write", "close"]


@pytest.mark.parametrize("opened_again", [False, True])
@pytest.mark.parametrize("stuck_in", ["write", "close"])
async def test_a_sink_that_hangs_over_its_close_is_closed_once_when_it_returns(
    stuck_in: str, opened_again: bool
) -> None:
    """Although nothing waits for that any more: its files and connections would stay open. Its thread ends."""
    blocking = Blocking()
    sink = as_sink(blocking)
    await sink.open()
    blocking.entered.clear()
    blocking.let_go = let_go = threading.Event()
    calls = [sink.write(BATCH), sink.close()] if stuck_in == "write" else [sink.close()]
    for call in calls:
        given_up = asyncio.ensure_future(call)
        await until(blocking.entered.is_set)
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
    await sink.close()  # once more, as what waits for nothing may
    blocking.let_go = None
    again = asyncio.ensure_future(sink.open()) if opened_again else None
    await asyncio.sleep(0)
    let_go.set()
    if again is not None:
        await asyncio.wait_for(again, PATIENCE)
        await sink.close()
    await until(lambda: not any(thread.is_alive() for thread in blocking.threads))
    once = ["open", "write", "close"] if stuck_in == "write" else ["open", "close"]
    assert blocking.calls == once + ["open", "close"] * opened_again


@pytest.mark.parametrize("stuck_in", ["open", "write"])
async def test_a_new_open_waits_for_a_call_that_was_abandoned(stuck_in: str) -> None:
    """A delivery that was abandoned is opened anew only when the stuck call is over."""
    blocking = Blocking()
    sink = as_sink(blocking)
    if stuck_in == "write":
        await sink.open()
        blocking.entered.clear()
    blocking.let_go = let_go = threading.Event()
    stuck = asyncio.ensure_future(sink.open() if stuck_in == "open" else sink.write(BATCH))
    await until(blocking.entered.is_set)
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
    blocking.let_go = None
    before = list(blocking.calls)
    reopening = asyncio.ensure_future(sink.open())
    await asyncio.sleep(0)
    assert blocking.calls == before
    let_go.set()
    await asyncio.wait_for(reopening, PATIENCE)
    await sink.close()
    # An opening that succeeded late is undone first.
    undone = ["close"] if stuck_in == "open" else []
    assert blocking.calls == [*before, *undone, "open", "close"]


async def test_a_blocking_sink_that_opens_after_its_time_is_closed_again() -> None:
    """Nothing waits for it any more, and the next one to open it finds it closed."""

    class Late:
        def __init__(self) -> None:
            self.calls: list[str] = []
            self.opens = threading.Event()

        def open(self) -> None:
            self.calls.append("open")
            self.opens.wait(10.0)

        def write(self, batch: Batch) -> None:
            """Write nothing."""

        def close(self) -> None:
            self.calls.append("close")

    late = Late()
    sink = WorkerSink(late)
    opening = asyncio.create_task(sink.open())
    await until(lambda: late.calls)
    opening.cancel()
    await asyncio.wait([opening])
    late.opens.set()
    await sink.open()
    await sink.close()
    assert late.calls == ["open", "close", "open", "close"]


async def test_a_sink_that_is_not_open_cannot_be_written() -> None:
    """The error says who opens it; closing what is not open does nothing."""
    sink = as_sink(Blocking())
    with pytest.raises(RuntimeError, match="not open"):
        await sink.write(BATCH)
    await sink.close()


def test_a_sink_in_asynchronous_form_is_taken_as_it_is() -> None:
    """It runs on the delivery's loop, without a thread of its own."""
    sink = ScriptedSink()
    assert as_sink(sink) is sink
    assert isinstance(sink, Sink)
    assert isinstance(Blocking(), BlockingSink)


class Callable_:  # noqa: N801
    """An object that is called."""

    def __init__(self, taken: list[Item]) -> None:
        self.taken = taken

    def __call__(self, batch: Batch) -> None:
        self.taken.extend(batch)


class AsyncCallable(Callable_):
    """One that is awaited, too."""

    async def __call__(self, batch: Batch) -> None:  # type: ignore[override]
        self.taken.extend(batch)


async def _take(taken: list[Item], batch: Batch) -> None:
    taken.extend(batch)


def _wrapped(taken: list[Item]) -> Callable[[Batch], Awaitable[None]]:
    """A coroutine function hidden by a decorator."""

    def wrapper(batch: Batch) -> Awaitable[None]:
        return _take(taken, batch)

    return wrapper


FORMS: dict[str, Callable[[list[Item]], Any]] = {
    "bound method": lambda taken: taken.extend,
    "function": lambda taken: lambda batch: taken.extend(batch),
    "object": Callable_,
    "asynchronous object": AsyncCallable,
    "partial of a coroutine function": lambda taken: functools.partial(_take, taken),
    "function that returns a coroutine": _wrapped,
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_kind_of_function_is_a_sink(form: str) -> None:
    """Plain functions run on a worker thread, coroutine functions on the loop, and an awaitable result is awaited."""
    taken: list[Item] = []
    sink = as_sink(FORMS[form](taken))
    await sink.open()
    await sink.write(BATCH)
    await sink.close()
    assert taken == BATCH
    assert isinstance(
        sink,
        FunctionSink if form in ("asynchronous object", "partial of a coroutine function") else WorkerSink,
    )


@pytest.mark.parametrize("wrong", [None, 7, "file.jsonl", object(), ScriptedSink, Blocking])
def test_anything_but_a_sink_is_refused_when_configured(wrong: Any) -> None:
    """The error names the object and says what is allowed; passing a class instead of an instance is common."""
    with pytest.raises(
        TypeError, match=r"is not a sink\. Pass an object with open\(\), write\(batch\) and close\(\)"
    ):
        as_sink(wrong)


def _generator(batch: Batch) -> Iterator[Item]:
    yield from batch


async def _async_generator(batch: Batch) -> AsyncIterator[Item]:
    for item in batch:
        yield item


class GeneratorSink(Blocking):
    def write(self, batch: Batch) -> Any:
        yield from batch


@pytest.mark.parametrize("wrong", [_generator, _async_generator, GeneratorSink()])
def test_a_generator_is_refused(wrong: Any) -> None:
    """Its body would never run: items would count as delivered, and go nowhere."""
    with pytest.raises(TypeError, match="writes nothing: it is a generator"):
        as_sink(wrong)
