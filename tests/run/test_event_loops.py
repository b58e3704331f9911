"""G11: any thread, any loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from nat_observability import ContextState, ExporterManager, SpanExporter, step
from nat_observability.sinks import MemorySink
from nat_observability.testing import CapturingExporter, wait_until
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


@pytest.mark.parametrize("way", ["to_thread", "attach", "copy_context"])
def test_steps_of_a_worker_thread_are_heard(way: str) -> None:
    """What `asyncio.to_thread` or a worker thread records reaches the run's exporters."""
    scenarios.steps_of_a_worker_thread_are_heard(OURS, way)


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_second_event_loop_is_heard(isolated: bool) -> None:
    """The same manager in one `asyncio.run` after the other, as with jobs from a queue."""
    scenarios.second_event_loop_is_heard(OURS, isolated)


def test_loops_in_two_threads_are_heard() -> None:
    """Two event loops at once share an exporter that is not isolated, and lose no step."""
    scenarios.loops_in_two_threads_are_heard(OURS)


def test_many_loops_share_a_delivery() -> None:
    """A loop per thread, several runs in each, one span exporter: everything arrives, under its own run."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink)})

    async def serve(thread: int) -> None:
        async def run(number: int) -> None:
            async with manager.get().start(ContextState(run_id=f"{thread}/{number}")):
                for _ in range(10):
                    with step("tool", f"{thread}/{number}"):
                        await asyncio.sleep(0)

        await asyncio.gather(*(run(number) for number in range(10)))

    threads = [
        threading.Thread(target=lambda number=number: asyncio.run(serve(number))) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(sink.spans) == 400)
    assert all(span.name == span.run.run_id for span in sink.spans)


def test_stopped_loop_does_not_hold_the_manager() -> None:
    """A manager whose lock was waited for in one loop is started in the next."""

    async def main() -> None:
        async with manager.start(ContextState()):
            # Both wait for the lock, which binds an asyncio lock to its loop.
            await asyncio.gather(manager.stop(), manager.stop(), manager.stop())

    manager = ExporterManager.from_exporters(scenarios.well_behaved(1)())
    for _ in range(3):
        asyncio.run(main())


def test_synchronous_code_is_heard() -> None:
    """A run in a thread's loop, steps in synchronous code of the main thread, by `attach`."""
    exporter, state = CapturingExporter(), ContextState()
    manager = ExporterManager.from_exporters({"capturing": exporter})
    started, may_end = threading.Event(), threading.Event()

    async def main() -> None:
        async with manager.start(state):
            started.set()
            await asyncio.to_thread(may_end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    started.wait()
    with state.attach():
        for _ in range(10):
            OURS.record("here")
    may_end.set()
    thread.join()
    assert OURS.names(exporter) == ["here"] * 10


def test_report_may_be_read_from_another_thread() -> None:
    """While runs come and go, in any state."""
    manager = ExporterManager.from_exporters({"spans": SpanExporter(MemorySink())})
    ended = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not ended.is_set():
                assert manager.report.ledger.adds_up
        except BaseException as error:  # noqa: BLE001  the test checks it
            errors.append(error)

    async def main() -> None:
        for _ in range(100):
            async with manager.start(ContextState()):
                OURS.record("step")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        asyncio.run(main())
    finally:
        ended.set()
        thread.join()
    assert not errors


# -- Loops of other kinds ---------------------------------------------------------------------------------------------


def plain_factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """An instrumented application's factory: it makes ordinary tasks."""
    return asyncio.Task(coroutine, loop=loop, **options)


EAGER = getattr(asyncio, "eager_task_factory", None)  # Python 3.12
FACTORIES = [plain_factory, *([EAGER] if EAGER is not None else [])]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_cancelled_at_every_await_with_a_task_factory(factory: Any, isolated: bool) -> None:
    """If the application makes its tasks itself, eagerly for example, cancellation is just as correct (G3)."""

    def runner(main: Coroutine[Any, Any, bool]) -> bool:
        async def with_factory() -> bool:
            asyncio.get_running_loop().set_task_factory(factory)
            return await main

        return run_virtual(with_factory())

    exporters = scenarios.well_behaved(2)
    assert scenarios.cancellation_sweep(OURS, exporters, isolated=isolated, runner=runner) >= 3


def test_debug_mode_finds_nothing() -> None:
    """asyncio's debug mode, which notices calls from the wrong thread, reports nothing."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink, flush="delivered")})

    async def main() -> None:
        async with manager.start(ContextState()):
            with step("tool", "here"):
                await asyncio.to_thread(OURS.record, "there")

    asyncio.run(main(), debug=True)
    assert {span.name for span in sink.spans} == {"here", "there"}


async def test_run_that_is_left_in_another_task() -> None:
    """A fixture may be entered in one task and left in another: the run ends, and the other task's run stays."""
    exporter = CapturingExporter()
    manager = ExporterManager.from_exporters({"capturing": exporter})
    state, other = ContextState(), ContextState()
    run = manager.start(state)

    async def enter() -> None:
        await run.__aenter__()
        OURS.record("inside")

    async def leave() -> None:
        with other.attach():
            await run.__aexit__(None, None, None)
            assert ContextState.current() is other

    await asyncio.create_task(enter())
    await asyncio.create_task(leave())
    assert OURS.names(exporter) == ["inside"]
    assert not manager.report.running
    assert not state.stream.listeners


def test_start_waits_for_the_stop_before() -> None:
    """A start while another task still stops the previous run waits for that, and then is like any other."""

    class Slow(ReferenceExporter):
        async def cleanup(self) -> None:
            await asyncio.sleep(1)

    async def main() -> None:
        manager = ExporterManager.from_exporters({"slow": Slow()})  # type: ignore[dict-item]
        async with manager.start(ContextState()):
            stopping = asyncio.create_task(manager.stop())
            await asyncio.sleep(0.5)
            began = now()
            async with manager.start(ContextState(run_id="second")):
                assert elapsed_since(began) == pytest.approx(0.5)
                assert stopping.done()
                assert manager.report.workflow_run_id == "second"

    run_virtual(main())
