"""A manager's account of its runs: the report, the receipt of a flush, and the lines of the log."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    ExporterState,
    InvalidTimeoutError,
    LedgerSnapshot,
    SpanExporter,
    step,
)
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.sinks import MemorySink
from nat_observability.testing import CapturingExporter, recorded_run, until
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS


async def test_report_before_during_and_after() -> None:
    """It can be read at any moment: nothing before the first run, the current one, then the last."""
    manager = ExporterManager.from_exporters({"capturing": CapturingExporter()})
    before = manager.report
    assert (before.running, before.workflow_run_id, before.exporters) == (False, None, {})
    assert before.ledger == LedgerSnapshot()
    state = ContextState(run_id="run-1")
    async with manager.start(state):
        OURS.record("a step")
        during = manager.report
    after = manager.report
    assert (during.running, during.workflow_run_id, during.trace_id) == (True, "run-1", state.run.trace_id)
    assert during.exporters["capturing"].state is ExporterState.RUNNING
    assert during.exporters["capturing"].stop_duration_s is None
    assert during.stop_duration_s is None
    assert not after.running
    assert after.exporters["capturing"].state is ExporterState.STOPPED
    of_exporter = after.exporters["capturing"]
    for duration in (
        after.start_duration_s,
        after.stop_duration_s,
        of_exporter.start_duration_s,
        of_exporter.stop_duration_s,
    ):
        assert duration is not None
        assert 0 <= duration < 1
    assert during.ledger == after.ledger == LedgerSnapshot(accepted=2, delivered=2)
    async with manager.start(ContextState(run_id="run-2")):
        assert manager.report.workflow_run_id == "run-2"
        assert manager.report.ledger == LedgerSnapshot()


async def test_ledgers_are_added_up() -> None:
    """The run's ledger is the sum of its exporters'; one that keeps none has None."""
    manager = ExporterManager()
    manager.add_exporter("capturing", CapturingExporter())
    manager.add_exporter("spans", SpanExporter(MemorySink(), flush="delivered"))
    manager.add_exporter("reference", ReferenceExporter())  # type: ignore[arg-type]
    async with manager.start(ContextState()):
        OURS.record("a step")
        await asyncio.sleep(0)
    exporters = manager.report.exporters
    assert exporters["reference"].ledger is None
    assert exporters["capturing"].ledger == LedgerSnapshot(accepted=2, delivered=2)
    assert exporters["spans"].ledger == LedgerSnapshot(accepted=1, delivered=1)
    assert manager.report.ledger == LedgerSnapshot(accepted=3, delivered=3)


async def test_ledger_goes_on_after_the_run() -> None:
    """What was pending at the run's end is delivered later, and the report says so when it is asked again."""
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def write(batch: Sequence[Any]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(written.wait(), loop))

    manager = ExporterManager.from_exporters({"spans": SpanExporter(write)})
    async with manager.start(ContextState()):
        OURS.record("a step")
    assert manager.report.ledger == LedgerSnapshot(accepted=1, pending=1)
    written.set()
    await until(lambda: manager.report.ledger == LedgerSnapshot(accepted=1, delivered=1))


async def test_unheard_steps_are_counted() -> None:
    """What a task records after its run has ended is in the report."""
    manager = ExporterManager.from_exporters({"capturing": CapturingExporter()})
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        OURS.record("late")

    async with manager.start(ContextState()):
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    assert manager.report.unheard == 0
    go.set()
    await task
    assert manager.report.unheard == 2


# -- The receipt of a flush -------------------------------------------------------------------------------------------


async def test_flush_is_a_receipt_for_the_run() -> None:
    """It waits until what the run has recorded was written, and reports the outcome, inside the run and after."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink), "capturing": CapturingExporter()})
    assert (await manager.flush()).complete
    async with manager.start(ContextState()):
        OURS.record("one")
        receipt = await manager.flush()
        assert receipt.complete
        assert receipt.exporters["spans"] == LedgerSnapshot(accepted=1, delivered=1)
        assert len(sink.spans) == 1
        OURS.record("two")
    receipt = await manager.flush()
    assert receipt.complete
    assert receipt.exporters["spans"] == LedgerSnapshot(accepted=2, delivered=2)
    assert receipt.exporters["capturing"] == LedgerSnapshot(accepted=4, delivered=4)


async def test_flush_waits_for_no_other_run() -> None:
    """Items of other runs in the same delivery are not its concern."""
    block = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def write(batch: Sequence[Any]) -> None:
        if any(span.run.run_id == "other" for span in batch):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(block.wait(), loop))

    exporter = SpanExporter(write)
    own, other = (ExporterManager.from_exporters({"spans": exporter}) for _ in range(2))
    async with own.start(ContextState(run_id="own")), own.get().start(ContextState(run_id="own too")):
        pass
    async with other.start(ContextState(run_id="other")):
        async with own.start(ContextState(run_id="own")):
            OURS.record("own")
            assert (await own.flush()).complete
        OURS.record("other")
        assert not (await other.flush(0.01)).complete
        block.set()
        assert (await other.flush()).complete


async def test_flush_is_bounded() -> None:
    """At its timeout it reports what is pending; the delivery goes on, and so does a flush that is cancelled."""
    block = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def write(batch: Sequence[Any]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(block.wait(), loop))

    manager = ExporterManager.from_exporters({"spans": SpanExporter(write)})
    async with manager.start(ContextState()):
        OURS.record("one")
        receipt = await manager.flush(0.01)
        assert not receipt.complete
        assert receipt.exporters["spans"] == LedgerSnapshot(accepted=1, pending=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(manager.flush(60), 0.01)
        block.set()
        assert (await manager.flush()).complete
        with pytest.raises(InvalidTimeoutError):
            await manager.flush(0)


# -- Logs -------------------------------------------------------------------------------------------------------------


async def test_lines_of_a_run() -> None:
    """Each step of the lifecycle is one line with the run's id; durations are in seconds."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter(), "b": CapturingExporter()})
    with capture_logs() as lines:
        async with manager.start(ContextState(run_id="run-1")):
            OURS.record("a step")
    assert [(line["event"], line.get("exporter")) for line in lines] == [
        ("exporter_started", "a"),
        ("exporter_started", "b"),
        ("manager_started", None),
        ("exporter_stopped", "a"),
        ("exporter_stopped", "b"),
        ("manager_stopped", None),
    ]
    assert {line["workflow_run_id"] for line in lines} == {"run-1"}
    assert {line["log_level"] for line in lines} == {"info"}
    assert all(0 <= line["duration_s"] < 60 for line in lines if line["event"] != "exporter_stopped")


async def test_silent_unless_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """If nothing is configured, a successful run logs nothing anywhere."""
    assert not structlog.is_configured()
    async with recorded_run():
        OURS.record("a step")
    assert capsys.readouterr() == ("", "")


# -- Observers --------------------------------------------------------------------------------------------------------


class Observer:
    """Counts live runs, as a runtime does."""

    def __init__(self) -> None:
        self.live = 0
        self.runs = 0

    def run_started(self) -> None:
        self.live += 1
        self.runs += 1

    def run_left_out(self, run_id: str) -> None:
        raise AssertionError(f"{run_id} has exporters, or their start has failed")

    def run_ended(self) -> None:
        self.live -= 1

    def registry_for(self, registry: dict[str, BaseExporter]) -> dict[str, BaseExporter]:
        return registry


async def test_observer_is_called_for_each_run() -> None:
    """It is called at the run's beginning and end, even if the start fails or is refused."""
    observer = Observer()
    exporters: dict[str, BaseExporter] = {"capturing": CapturingExporter()}
    manager = ExporterManager.with_options(exporters, ManagerOptions(observer=observer))
    async with manager.start(ContextState()):
        assert observer.live == 1
        with pytest.raises(RuntimeError):
            async with manager.start(ContextState()):
                pass
        async with manager.get().start(ContextState()):
            assert observer.live == 2
        await manager.stop()
        assert observer.live == 0
    task = asyncio.create_task(anext(aiter_of(manager)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert observer.live == 0
    assert observer.runs == 3


async def aiter_of(manager: ExporterManager) -> Any:
    """Yield, inside a run, a future that is never done."""
    async with manager.start(ContextState()):
        yield await asyncio.get_running_loop().create_future()


async def test_finished_run_is_freed() -> None:
    """A manager, its run and the run's state form no reference cycle, and no cancelled timer holds them."""

    class Weak(ContextState):
        __slots__ = ("__weakref__",)

    async def run(*, cancelled: bool) -> weakref.ref[Weak]:
        state = Weak()
        spans = SpanExporter(MemorySink(), flush="delivered")
        manager = ExporterManager.from_exporters({"capturing": CapturingExporter(), "spans": spans})
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01 if cancelled else None), manager.start(state):
                with step("tool", "outer", input={"a": 1}):
                    OURS.record("inner")
                    if cancelled:
                        await asyncio.sleep(10)
        return weakref.ref(state)

    loop = asyncio.get_running_loop()
    earlier = loop.call_later(
        5, lambda: None
    )  # while it waits, the loop keeps the later timers that were cancelled
    gc.collect()
    gc.disable()
    try:
        freed = await run(cancelled=False)
        await until(lambda: freed() is None, timeout=1)
    finally:
        gc.enable()
        earlier.cancel()
    freed = await run(cancelled=True)
    gc.collect()
    await until(lambda: freed() is None, timeout=1)
