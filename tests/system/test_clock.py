"""Deadlines end a wait even if a library has frozen time for an application's tests."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from nat_observability.system import clock
from nat_observability.testing import until
from tests.processes import run_program
from tests.virtual_time import run_virtual

FROZEN = """
import asyncio, threading
from contextlib import asynccontextmanager, suppress
import freezegun
from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, SpanExporter, StepExporter, step
from nat_observability.testing import CapturingExporter, until

released = threading.Event()

def hangs(batch):
    released.wait()

class NeverReady(CapturingExporter):
    @asynccontextmanager
    async def start(self):
        await asyncio.Event().wait()
        yield

async def stops(**frozen):
    exporters = {"hangs": SpanExporter(hangs, name="hangs")}
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=0.2)
    await runtime.init()
    manager = ExporterManager(start_timeout=0.1)
    manager.add_exporter("hangs", exporters["hangs"])
    manager.add_exporter("never", NeverReady())
    with freezegun.freeze_time("2020-01-01", **frozen):
        async with manager.start(ContextState()):
            with step("tool", "a"):
                pass
            assert not (await manager.flush(timeout=0.1)).complete
            with suppress(TimeoutError):
                await until(lambda: False, timeout=0.05)
        assert manager.report.exporters["never"].error is not None
        report = await runtime.shutdown()
        assert report.abandoned == ("hangs",), report
        assert report.duration_s >= 0.2, report
"""


def test_time_that_stands_still_ends_no_deadline() -> None:
    """A start, a flush, a stop and a shutdown each end in their time with freezegun, however it is used."""
    run_program(FROZEN + "asyncio.run(stops())\nasyncio.run(stops(real_asyncio=True))\nreleased.set()\n")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the process stand still, as freezegun does it."""
    now = clock.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)


async def test_a_loop_whose_time_stands_still_waits_no_longer(frozen: None) -> None:
    """The clock of deadlines goes on, and waits for futures and sleeps end."""
    loop = asyncio.get_running_loop()
    began, stopped = clock.clock_of(loop)(), loop.time()
    late: asyncio.Future[None] = loop.create_future()
    soon: asyncio.Future[None] = loop.create_future()
    clock.call_after(loop, 0.001, soon.set_result, None)
    assert await clock.wait([soon, late], 0.01) == ({soon}, {late})
    assert await clock.wait([soon], 10) == ({soon}, set())
    await clock.sleep(0.001)
    assert clock.clock_of(loop)() > began
    assert loop.time() == stopped
    late.cancel()


async def test_what_is_cancelled_is_not_called(frozen: None) -> None:
    """As a timer of the loop's; one that is due is called in the context that it was given."""
    loop = asyncio.get_running_loop()
    called: list[Any] = []
    variable = contextvars.ContextVar[int]("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 1)
    clock.call_after(loop, 0.001, lambda: called.append("cancelled")).cancel()
    clock.call_after(loop, 0.002, lambda: called.append(variable.get()), context=context)
    await until(lambda: called)
    assert called == [1]


async def test_what_is_due_and_then_cancelled_is_not_called(frozen: None) -> None:
    """Nor what its thread has handed over to a loop that has not come to it yet."""
    loop = asyncio.get_running_loop()
    called: list[str] = []
    timer = clock.call_after(loop, 0, called.append, "cancelled")
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    timer.cancel()
    clock.call_after(loop, 0, called.append, "due")
    await until(lambda: called)
    assert called == ["due"]


@pytest.mark.parametrize("refused", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
async def test_g4_a_deadline_needs_no_thread(
    frozen: None, monkeypatch: pytest.MonkeyPatch, refused: Exception
) -> None:
    """If the system refuses one, time that stands still still ends no deadline, and what is cancelled is not called."""

    def refuse(thread: threading.Thread) -> None:
        raise refused

    monkeypatch.setattr("threading.Thread.start", refuse)
    loop = asyncio.get_running_loop()
    late: asyncio.Future[None] = loop.create_future()
    called: list[int] = []
    variable = contextvars.ContextVar[int]("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 1)
    clock.call_after(loop, 0.001, lambda: called.append(2)).cancel()
    clock.call_after(loop, 0.002, lambda: called.append(variable.get()), context=context)
    assert await clock.wait([late], 0.01) == (set(), {late})
    await clock.sleep(0.001)
    assert called == [1]
    late.cancel()


async def test_g3_a_wait_that_is_cancelled_while_time_stands_still_leaves_its_futures(frozen: None) -> None:
    """As `asyncio.wait` does: the cancellation reaches the caller, and neither future nor timer is touched after it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(clock.wait([future], 10))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.done()
    future.cancel()


def test_a_loop_with_a_time_of_its_own_keeps_it() -> None:
    """A test's virtual time is the time of its deadlines."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = clock.clock_of(loop)()
        future: asyncio.Future[None] = loop.create_future()
        done, left = await clock.wait([future], 3600)
        await clock.sleep(3600)
        assert (done, left) == (set(), {future})
        assert clock.clock_of(loop)() >= began + 7200
        future.cancel()

    run_virtual(main())
