"""G9: runs are isolated."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    IntermediateStep,
    SpanExporter,
    step,
)
from nat_observability.sinks import MemorySink
from nat_observability.testing import CapturingExporter
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter, SharedExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


class Watching(BaseExporter):
    """Checks each step's run: an isolated instance may see only its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.foreign: list[IntermediateStep] = []

    def export(self, event: IntermediateStep) -> None:
        assert self._context_state is not None
        if event.run is not self._context_state.run:
            self.foreign.append(event)
        self.seen[event.run.run_id] += 1


def test_first_to_stop_silences_no_other() -> None:
    """Of two runs on one exporter that is not isolated, the one that goes on is exported to its end."""
    scenarios.first_to_stop_silences_nobody(OURS)


def test_second_run_is_batched_too() -> None:
    """A run that has stopped has not shut down the pipeline of the next one."""
    scenarios.second_run_is_batched_too(OURS)


def test_every_run_is_in_the_file(tmp_path: Path) -> None:
    """No run truncates the file of another."""
    scenarios.every_run_is_in_the_file(OURS, tmp_path / "spans.jsonl")


async def test_each_instance_sees_its_own_run() -> None:
    """A hundred runs at once, each with tasks of its own: every instance sees its own run's steps, and all of them."""
    exporters = {f"watching {index}": Watching() for index in range(3)}
    manager = ExporterManager.from_exporters(exporters)

    async def run(number: int) -> None:
        async def work() -> None:
            for _ in range(5):
                await asyncio.sleep(0)
                with step("tool", f"run-{number}"):
                    await asyncio.sleep(0)

        async with manager.get().start(ContextState(run_id=f"run-{number}")):
            await asyncio.gather(work(), work())

    await asyncio.gather(*(run(number) for number in range(100)))
    for exporter in exporters.values():
        assert not exporter.foreign
        assert exporter.seen == {f"run-{number}": 20 for number in range(100)}


async def test_runs_inside_one_another_do_not_mix() -> None:
    """A run inside another one's block takes its own steps and no others."""
    exporter = Watching()
    manager = ExporterManager.from_exporters({"watching": exporter})
    async with manager.get().start(ContextState(run_id="outer")):
        OURS.record("a")
        async with manager.get().start(ContextState(run_id="inner")):
            OURS.record("b")
        OURS.record("c")
    assert not exporter.foreign
    assert exporter.seen == {"outer": 4, "inner": 2}


async def test_same_manager_one_run_after_the_other() -> None:
    """Each has instances of its own."""
    exporter = Watching()
    manager = ExporterManager.from_exporters({"watching": exporter})
    for number in range(3):
        async with manager.start(ContextState(run_id=f"run-{number}")):
            OURS.record("a")
    assert not exporter.foreign
    assert exporter.seen == {f"run-{number}": 2 for number in range(3)}


async def test_shared_delivery_keeps_the_runs_apart() -> None:
    """Spans of runs at once go through one delivery, each under its own run's ids, and each run has its own ledger."""
    sink = MemorySink()
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink, flush="delivered")})

    async def run(number: int) -> None:
        own = manager.get()
        async with own.start(ContextState(run_id=f"run-{number}")):
            for _ in range(number):
                with step("tool", f"run-{number}"):
                    await asyncio.sleep(0)
        assert own.report.ledger.delivered == number

    await asyncio.gather(*(run(number) for number in range(20)))
    assert Counter(span.run.run_id for span in sink.spans) == {
        f"run-{number}": number for number in range(1, 20)
    }
    assert all(span.name == span.run.run_id for span in sink.spans)


def test_slow_stop_of_one_run_does_not_hold_another() -> None:
    """While one run waits for its exporters, others start, work and stop."""

    async def main() -> None:
        slow = ExporterManager.from_exporters({"slow": scenarios.StopHangs()}, shutdown_timeout=60)  # type: ignore[dict-item]
        quick = ExporterManager.from_exporters({"quick": CapturingExporter()})

        async def run(manager: ExporterManager) -> float:
            began = now()
            async with manager.start(ContextState()):
                await asyncio.sleep(1)
            return elapsed_since(began)

        first, *others = await asyncio.gather(run(slow), run(quick), run(quick.get()))
        assert first > 30
        assert others == [pytest.approx(1), pytest.approx(1)]

    run_virtual(main())


def test_what_cannot_isolate_itself_is_shared_with_a_warning() -> None:
    """It is used as it is, and one run's end does not stop it for the other."""

    class Shared(SharedExporter):
        pass

    async def main() -> None:
        shared = Shared()
        manager = ExporterManager.from_exporters({"shared": shared})  # type: ignore[dict-item]
        with capture_logs() as lines:
            async with manager.get().start(ContextState(run_id="run-1")):
                OURS.record("first")
                await asyncio.sleep(0)
            async with manager.get().start(ContextState(run_id="run-2")):
                OURS.record("second")
                await asyncio.sleep(0)
        warnings = [line for line in lines if line["event"] == "exporter_isolation_unsupported"]
        # A repeated warning is not logged again at once.
        assert [(line["exporter"], line["workflow_run_id"]) for line in warnings] == [("shared", "run-1")]
        assert [each.name for each in shared.exported] == ["first", "first", "second", "second"]

    run_virtual(main())


async def test_shared_base_exporter_is_not_stopped_for_others() -> None:
    """A `BaseExporter` that cannot isolate itself, with a `stop` of its own, goes on for a run that lasts longer."""

    class Shared(CapturingExporter):
        def create_isolated_instance(self, context_state: ContextState) -> Shared:
            raise NotImplementedError

        async def stop(self) -> None:
            stops.append(self)
            await super().stop()

    stops: list[Shared] = []
    exporter = Shared()
    manager = ExporterManager.from_exporters({"shared": exporter})
    async with manager.get().start(ContextState(run_id="longer")):
        async with manager.get().start(ContextState(run_id="shorter")):
            OURS.record("both")
        OURS.record("one")
    assert [each.run.run_id for each in exporter.steps] == ["shorter"] * 2 + ["longer"] * 2
    assert not stops


@pytest.mark.parametrize("stuck_in", ["start", "stop"])
def test_abandoned_exporter_of_an_older_run_does_not_touch_the_next(stuck_in: str) -> None:
    """An exporter that is late to clean up is stopped, and does not stop the instance of the next run."""
    stopped: list[str] = []

    class Late(ReferenceExporter):
        @property
        def run_id(self) -> str:
            return self._state.run.run_id if self._state is not None else "none"

        async def pre_start(self) -> None:
            if self.run_id == "old" and stuck_in == "start":
                await scenarios.stubbornly(100)

        async def stop(self) -> None:
            if self.run_id == "old" and stuck_in == "stop":
                await scenarios.stubbornly(100)
            await super().stop()
            stopped.append(self.run_id)

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=1, start_timeout=1)
        manager.add_exporter("late", Late())  # type: ignore[arg-type]
        async with manager.start(ContextState(run_id="old")):
            pass
        assert not stopped
        async with manager.start(ContextState(run_id="new")):
            await asyncio.sleep(1000)
            assert set(stopped) == {"old"}
            stopped.clear()
        assert set(stopped) == {"new"}

    run_virtual(main())


def memory_of(runs: int, manager: ExporterManager) -> None:
    """Run many workflows at once, each with a few steps."""

    async def run(number: int) -> None:
        async with manager.get().start(ContextState(run_id=str(number))):
            for _ in range(3):
                with step("tool", str(number), input=[number]):
                    await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(run(number) for number in range(runs)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_thousand_runs_at_once_leave_nothing() -> None:
    """1000 runs at once with 5 exporters each: each instance sees its own run, no task is left, and memory is freed."""
    tracemalloc.start()
    try:
        exporters = {f"watching {index}": Watching() for index in range(5)}
        manager = ExporterManager.from_exporters(exporters)
        memory_of(1000, manager)  # one-time allocations
        before = memory_without_counts(exporters)
        memory_of(1000, manager)
        for exporter in exporters.values():
            assert not exporter.foreign
            assert exporter.seen == {str(number): 6 for number in range(1000)}
        after = memory_without_counts(exporters)
    finally:
        tracemalloc.stop()
    # Not even the smallest object of each run.
    assert after - before < 16 * 1000


def memory_without_counts(exporters: dict[str, Watching]) -> int:
    """Return the bytes that are in use when the exporters have forgotten what they saw."""
    for exporter in exporters.values():
        exporter.seen = Counter()
    gc.collect()
    # Weak tables, asyncio's of its tasks and the leak check's, grow and shrink at any time.
    no_tables = [tracemalloc.Filter(False, f"*/{name}.py") for name in ("_weakrefset", "weak_registry")]
    traces = tracemalloc.take_snapshot().filter_traces(no_tables).traces
    return sum(trace.size for trace in traces)
