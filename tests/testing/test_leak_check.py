"""LeakCheck: what it finds, what it waits for, and what it leaves out."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, SpanExporter, step
from nat_observability.processors.redaction.first_look.engine import BYTES_BEFORE_COMPILING, engine_of
from nat_observability.testing import CapturingExporter
from nat_observability.testing.leak_check import LeakCheck, tasks_left


def ignore(batch: object) -> None:
    """Deliver to nowhere."""


async def test_a_good_run_leaves_nothing() -> None:
    """Nor does the delivery of its exporter, whose thread is waited for."""
    check = LeakCheck()
    async with ExporterManager.from_exporters({"a": SpanExporter(ignore)}).start(ContextState()):
        with step("tool", "a"):
            pass
    assert await asyncio.to_thread(check.found) == []


async def test_a_run_that_is_open() -> None:
    """Its subscription and its lease are found, and gone when it has ended."""
    check = LeakCheck()
    exporter = SpanExporter(ignore, name="spans")
    async with ExporterManager.from_exporters({"a": exporter}).start(ContextState()):
        assert check.leases() == [exporter.delivery]
        assert len(check.subscriptions()) == 1
        assert check.found(within=0, ignoring=["threads", "leases"]) == [
            "1 subscriptions to one run's stream: its manager was not stopped"
        ]
        found = check.found(within=0)
        assert "a lease on the delivery 'spans'" in found[0]
        assert "the thread 'nat-observability" in found[-1]
    assert await asyncio.to_thread(check.found) == []


async def test_a_runtime_that_is_open() -> None:
    """What it held before is not a leak; what it holds since is one until it is shut down."""
    exporter = SpanExporter(ignore, name="spans")
    before = LeakCheck()
    async with ObservabilityRuntime({"a": exporter}):
        assert len(before.leases()) == 1
        assert LeakCheck().leases() == []
    assert before.leases() == []


def test_a_thread_that_is_about_to_end_leaks_no_subscription() -> None:
    """A thread of an event loop's pool lets go of its call just after the caller has the result."""
    check, begun = LeakCheck(), threading.Event()

    def work() -> None:
        state = ContextState()
        state.stream.subscribe("own", lambda each: None)
        begun.set()
        time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    assert check.found(ignoring=["threads"]) == []
    thread.join()


def test_threads_get_time_to_end() -> None:
    """Those that end within the limit are not leaks; those of an event loop's pool never are."""
    check = LeakCheck()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    assert check.threads(within=0) == [thread]
    go_on.set()
    assert check.threads() == []


async def test_pools_are_the_loops() -> None:
    """A thread of `asyncio.to_thread` waits for its next call."""
    check = LeakCheck()
    await asyncio.to_thread(len, "")
    assert check.threads(within=0) == []


def test_what_redaction_compiles_is_the_processes() -> None:
    """The thread that compiles for everybody is no leak of the test whose texts came to be enough."""
    check = LeakCheck()
    engine = engine_of(["name_of_a_test"], tokens=False)
    assert engine is not None
    engine.count(BYTES_BEFORE_COMPILING)
    assert check.threads(within=0) == []


async def test_tasks() -> None:
    """One that ends by itself is waited for; one that does not is named."""
    before = asyncio.all_tasks()
    asyncio.create_task(asyncio.sleep(0))  # noqa: RUF006
    assert await tasks_left(before) == []
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    (line,) = await tasks_left(before, within=0.01)
    assert line.startswith("the task 'forgotten', <coroutine object Event.wait")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_garbage_in_a_cycle_is_not_a_leak() -> None:
    """Dropped is dropped, also before the garbage collector has found out."""
    check = LeakCheck()

    def forget() -> None:
        state = ContextState()
        subscription = CapturingExporter().subscription(state)
        subscription.begin()
        state.stream.subscribe(state, lambda _: state)

    forget()
    assert check.subscriptions() == []


def test_a_thread_that_garbage_keeps_is_not_a_leak() -> None:
    """It ends when that is collected, as the one of a client does that nobody holds any more."""

    class Client:
        def __init__(self, ended: threading.Event) -> None:
            self.itself, self._ended = self, ended

        def __del__(self) -> None:
            self._ended.set()

    before, ended = LeakCheck(), threading.Event()
    gc.disable()
    try:
        thread = threading.Thread(target=ended.wait, args=(30,))
        thread.start()
        Client(ended)
        assert before.threads(within=2.0) == []
    finally:
        gc.enable()
        ended.set()
        thread.join()
