"""ObservabilityRuntime: opens concurrently, drains by one deadline, and leaves nothing behind; in virtual time."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability import ContextState, step
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.state import DeliveryState
from nat_observability.errors import (
    ExporterStartError,
    InvalidTimeoutError,
    RuntimeStateError,
    StartTimeoutError,
)
from nat_observability.events import Item
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import Flush
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeState
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.run.report import ExporterState
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter, until
from tests.delivery.sinks import ScriptedSink
from tests.delivery.virtual import RunningLoop, now, settle, virtual_time

PATIENCE = 10.0


class Sink(ScriptedSink):
    """Opening, writing and closing take time, or fail, as scripted."""

    def __init__(
        self, *, opens: BaseException | float = 0.0, writes: float = 0.0, closes: float = 0.0
    ) -> None:
        super().__init__(seconds=writes)
        self.opens = opens
        self.closes = closes
        self.is_open = False

    async def open(self) -> None:
        await super().open()
        if isinstance(self.opens, BaseException):
            raise self.opens
        await asyncio.sleep(self.opens)
        self.is_open = True

    async def close(self) -> None:
        await super().close()
        await asyncio.sleep(self.closes)
        self.is_open = False


class WorkflowError(Exception):
    """The error with which workflows of these tests fail."""


def exporting(source: RunningLoop, **sinks: Any) -> dict[str, BaseExporter]:
    """Exporters by name, on the running loop."""
    limits = DeliveryLimits(batch_age=3600.0, open_timeout=1000.0, write_timeout=1000.0)
    return {
        name: SpanExporter(Delivery(name, sink, limits=limits, loop_source=source))
        for name, sink in sinks.items()
    }


def waiting(source: RunningLoop, **sinks: Any) -> dict[str, BaseExporter]:
    """Exporters by name for whose delivery the end of a run waits."""
    flush: Flush = "delivered"
    return {
        name: SpanExporter(exporter.delivery, flush=flush)
        for name, exporter in exporting(source, **sinks).items()
        if isinstance(exporter, SpanExporter)
    }


def manager_of(runtime: ObservabilityRuntime, exporters: dict[str, BaseExporter]) -> ExporterManager:
    return ExporterManager.with_options(exporters, ManagerOptions(observer=runtime))


async def record(manager: ExporterManager, count: int = 1) -> None:
    async with manager.start(ContextState()):
        for number in range(count):
            with step("tool", f"s{number}"):
                pass


def state_of(runtime: ObservabilityRuntime) -> RuntimeState:
    return runtime.health().state


# The end of a run


@virtual_time
@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0])
async def test_the_end_of_a_run_waits_for_delivery(seconds: float) -> None:
    """As long as it takes, and no longer; what takes less than a second needs no task for each exporter."""
    exporters = waiting(RunningLoop(), a=Sink(writes=seconds), b=Sink(writes=seconds / 2))
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=20.0)
    tasks: list[asyncio.Task[Any]] = []

    def made(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(asyncio.Task(coroutine, loop=loop, **options))
        return tasks[-1]

    async with runtime:
        asyncio.get_running_loop().set_task_factory(made)
        manager = manager_of(runtime, exporters)
        began = now()
        await record(manager)
        asyncio.get_running_loop().set_task_factory(None)
        assert now() - began == pytest.approx(seconds, abs=0.001)
        assert bool({*exporters} & {task.get_name() for task in tasks}) is (seconds > 1)
        assert manager.report.stop_duration_s == pytest.approx(seconds, abs=0.001)
        for name, report in manager.report.exporters.items():
            assert report.state is ExporterState.STOPPED, name
            assert report.ledger == LedgerSnapshot(accepted=1, delivered=1)


@virtual_time
async def test_g2_the_end_of_a_run_that_waits_for_delivery_has_a_deadline() -> None:
    """An exporter that does not deliver by then is named; its steps are pending, and the other has stopped."""
    exporters = waiting(RunningLoop(), stuck=Sink(writes=100.0), quick=Sink())
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=200.0)
    async with runtime:
        options = ManagerOptions(observer=runtime, shutdown_timeout=2.0)
        manager, began = ExporterManager.with_options(exporters, options), now()
        with capture_logs() as lines:
            await record(manager)
        assert now() - began == pytest.approx(2.0, abs=0.21)
        (line,) = [line for line in lines if line["event"] == "exporter_abandoned"]
        assert line["exporter"] == "stuck"
        assert "did not stop within 2 s" in line["error"]
        states = {name: report.state for name, report in manager.report.exporters.items()}
        assert states == {"stuck": ExporterState.ABANDONED, "quick": ExporterState.STOPPED}
        assert manager.report.exporters["stuck"].ledger == LedgerSnapshot(accepted=1, pending=1)


@virtual_time
@pytest.mark.parametrize("after", [0.5, 3.0])
async def test_g3_a_cancellation_shortens_the_wait_for_delivery(after: float) -> None:
    """It reaches the caller within a second, and the manager can be started again."""
    exporters = waiting(RunningLoop(), main=Sink(writes=20.0))
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=200.0)
    async with runtime:
        options = ManagerOptions(observer=runtime, shutdown_timeout=100.0)
        manager, began = ExporterManager.with_options(exporters, options), now()
        task = asyncio.create_task(record(manager))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() - began <= after + 1.001
        assert not manager.report.running
        await record(manager)


# Opening


@virtual_time
async def test_g1_exporters_open_concurrently() -> None:
    """Opening all takes as long as the slowest."""
    source = RunningLoop()
    runtime = ObservabilityRuntime(exporting(source, a=Sink(opens=3.0), b=Sink(opens=5.0), c=Sink(opens=4.0)))
    async with runtime:
        assert now() == pytest.approx(5.0, abs=0.1)
        assert state_of(runtime) is RuntimeState.OPEN
    await settle()
    assert source.users == 0


@virtual_time
async def test_g1_what_fails_or_is_late_is_logged_and_left_out() -> None:
    """The others are open when the start timeout is over, and runs use them."""
    source = RunningLoop()
    works = Sink()
    exporters = exporting(source, works=works, late=Sink(opens=500.0), fails=Sink(opens=OSError("down")))
    runtime = ObservabilityRuntime(exporters, start_timeout=10.0, shutdown_timeout=5.0)
    with capture_logs() as lines:
        await runtime.init()
    assert now() == pytest.approx(10.0, abs=0.1)
    errors = {line["exporter"]: line["error"] for line in lines if line["event"] == "exporter_start_failed"}
    assert errors == {
        "fails": "OSError: down",
        "late": "StartTimeoutError: 'late' was not ready within 10 s. Raise start_timeout, or mend what it waits for.",
    }
    assert [line["exporters"] for line in lines if line["event"] == "runtime_opened"] == [["works"]]
    health = runtime.health()
    assert health.exporters["fails"] is not None
    assert health.exporters["fails"].state is DeliveryState.REOPENING
    await record(manager_of(runtime, {"works": exporters["works"]}), 3)
    report = await runtime.shutdown()
    assert report.abandoned == ()
    assert len(works.taken) == 3
    await asyncio.sleep(500.0)  # the late one opens, finds no user, and closes again
    assert source.users == 0


@virtual_time
async def test_g1_a_required_exporter_that_does_not_open_stops_the_start() -> None:
    """The error names each required failure and no other, and what had opened is closed before it is raised."""
    source = RunningLoop()
    opened, late = Sink(closes=2.0), Sink(opens=500.0)
    exporters = exporting(
        source, opened=opened, late=late, fails=Sink(opens=OSError("down")), optional=Sink(opens=OSError("x"))
    )
    runtime = ObservabilityRuntime(
        exporters, start_timeout=10.0, shutdown_timeout=60.0, required=["opened", "late", "fails"]
    )
    with pytest.raises(ExporterStartError) as caught:
        await runtime.init()
    assert caught.value.failures.keys() == {"late", "fails"}
    assert isinstance(caught.value.failures["late"], StartTimeoutError)
    assert opened.calls == ["open", "close"]
    assert not opened.is_open
    assert now() == pytest.approx(12.0, abs=0.1)
    assert state_of(runtime) is RuntimeState.CLOSED
    await asyncio.sleep(500.0)
    assert not late.is_open
    assert source.users == 0


@virtual_time
async def test_opening_twice_is_an_error() -> None:
    """Also while it opens, and from another task; after a shutdown it may be opened again."""
    runtime = ObservabilityRuntime(exporting(RunningLoop(), main=Sink(opens=5.0)))
    opening = asyncio.create_task(runtime.init())
    await asyncio.sleep(1.0)
    with pytest.raises(RuntimeStateError, match="The runtime is opening"):
        await runtime.init()
    assert await opening is runtime
    with pytest.raises(RuntimeStateError, match="The runtime is open"):
        await runtime.init()
    await runtime.shutdown()
    async with runtime:
        assert state_of(runtime) is RuntimeState.OPEN


@virtual_time
async def test_g3_a_cancelled_start_leaves_nothing_open() -> None:
    """The cancellation arrives at once; what had opened, or opens later, closes in the background."""
    source = RunningLoop()
    quick, slow = Sink(), Sink(opens=100.0)
    runtime = ObservabilityRuntime(exporting(source, quick=quick, slow=slow), start_timeout=200.0)
    opening = asyncio.create_task(runtime.init())
    await asyncio.sleep(5.0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert now() == pytest.approx(5.0, abs=0.1)
    assert state_of(runtime) is RuntimeState.CLOSED
    await asyncio.sleep(200.0)
    assert not quick.is_open
    assert not slow.is_open
    assert source.users == 0


@virtual_time
async def test_a_thread_that_cannot_be_had_is_a_failed_start() -> None:
    """It is reported like any other failure, and the exporters that got a thread are closed."""

    class NoLoop(RunningLoop):
        def acquire(self) -> asyncio.AbstractEventLoop:
            raise RuntimeError("can't start new thread")

    source = RunningLoop()
    sink = Sink()
    exporters = exporting(source, works=sink) | {
        "none": SpanExporter(Delivery("none", Sink(), loop_source=NoLoop()))
    }
    runtime = ObservabilityRuntime(exporters, required=["none"])
    with pytest.raises(ExporterStartError, match="can't start new thread"):
        await runtime.init()
    assert not sink.is_open
    await settle()
    assert source.users == 0


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "10", None, True], ids=repr)
@pytest.mark.parametrize("setting", ["start_timeout", "shutdown_timeout"])
def test_a_timeout_that_is_none_is_refused_when_it_is_set(setting: str, value: Any) -> None:
    """The error names the setting."""
    with pytest.raises(InvalidTimeoutError, match=setting):
        ObservabilityRuntime({}, **{setting: value})


# Draining


@virtual_time
async def test_g6_a_shutdown_drains_what_a_run_has_opened_after_a_failed_start() -> None:
    """An exporter that was left out when the process started, and has come back since, is like any other."""

    class LoopLater(RunningLoop):
        refuses = True

        def acquire(self) -> asyncio.AbstractEventLoop:
            if self.refuses:
                raise RuntimeError("can't start new thread")
            return super().acquire()

    source = LoopLater()
    sink = ScriptedSink(seconds=5.0)
    exporters = {"late": SpanExporter(Delivery("late", sink, loop_source=source))}
    runtime = ObservabilityRuntime(exporters)
    await runtime.init()
    source.refuses = False
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        with step("tool", "search"):
            pass
    report = await runtime.shutdown()
    assert report.exporters["late"] is not None
    assert report.exporters["late"].ledger == LedgerSnapshot(1, 1)
    await settle()
    assert source.users == 0


@virtual_time
async def test_g6_a_shutdown_delivers_what_was_recorded() -> None:
    """Items wait neither for their age nor for another run."""
    source = RunningLoop()
    sinks = {"a": Sink(writes=2.0), "b": Sink()}
    exporters = exporting(source, **sinks)
    runtime = ObservabilityRuntime(exporters)
    await runtime.init()
    await record(manager_of(runtime, exporters), 1000)
    assert [len(sink.taken) for sink in sinks.values()] == [0, 0]
    report = await runtime.shutdown()
    assert [len(sink.taken) for sink in sinks.values()] == [1000, 1000]
    assert report.abandoned == ()
    assert report.duration_s == pytest.approx(4.0, abs=0.1)
    for health in report.exporters.values():
        assert health is not None
        assert health.ledger == LedgerSnapshot(accepted=1000, delivered=1000)
        assert health.state is DeliveryState.CLOSED
    await settle()
    assert source.users == 0


@virtual_time
async def test_g2_one_deadline_for_however_many_stuck_exporters() -> None:
    """Each that is stuck is named in a warning and in the report; the one that works has delivered."""
    source = RunningLoop()
    stuck = {f"stuck{number}": Sink(writes=10**6) for number in range(5)}
    hung = Sink(closes=10**6)
    works = Sink()
    exporters = exporting(source, **stuck, hung=hung, works=works)
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=3.0)
    await runtime.init()
    await record(manager_of(runtime, exporters), 7)
    began = now()
    with capture_logs() as lines:
        report = await runtime.shutdown()
    assert now() - began == pytest.approx(3.0, abs=0.01)
    assert set(report.abandoned) == {*stuck, "hung"}
    warned = {line["exporter"]: line["lost"] for line in lines if line["event"] == "exporter_abandoned"}
    assert warned == {**dict.fromkeys(stuck, 7), "hung": 0}
    assert len(works.taken) == 7
    assert len(hung.taken) == 7
    assert runtime.health().ledger.adds_up
    assert runtime.health().ledger.dropped == {"shutdown_timeout": 35}
    await settle()
    assert source.users == 0


@virtual_time
async def test_a_shutdown_waits_for_live_managers() -> None:
    """What a run records while the shutdown waits for it is delivered."""
    sink = Sink()
    exporters = exporting(RunningLoop(), main=sink)
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=60.0)
    await runtime.init()

    async def workflow() -> None:
        async with manager_of(runtime, exporters).start(ContextState()):
            await asyncio.sleep(20.0)
            with step("tool", "late"):
                pass

    running = asyncio.create_task(workflow())
    await asyncio.sleep(1.0)
    assert runtime.health().live_managers == 1
    stopping = asyncio.create_task(runtime.shutdown())
    await asyncio.sleep(1.0)
    assert state_of(runtime) is RuntimeState.DRAINING
    report = await stopping
    assert now() == pytest.approx(20.0, abs=0.1)
    assert report.live_managers == 0
    assert len(sink.taken) == 1
    await running


@virtual_time
async def test_g2_a_shutdown_waits_for_live_managers_for_half_of_its_time() -> None:
    """A run that does not end is left alone; what it records afterwards is dropped and counted."""
    source = RunningLoop()
    sink = Sink()
    exporters = exporting(source, main=sink)
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=60.0)
    await runtime.init()
    manager = manager_of(runtime, exporters)
    async with manager.start(ContextState()):
        with step("tool", "early"):
            pass
        report = await runtime.shutdown()
        assert now() == pytest.approx(30.0, abs=0.1)
        assert (report.live_managers, report.abandoned) == (1, ())
        with step("tool", "late"):
            pass
    assert len(sink.taken) == 1
    assert manager.report.ledger == LedgerSnapshot(accepted=2, delivered=1, dropped={"closed": 1})
    await settle()
    assert source.users == 0


@virtual_time
async def test_shutting_down_twice_does_not_raise() -> None:
    """The second one, and one before any start, has nothing to do and says so."""
    runtime = ObservabilityRuntime(exporting(RunningLoop(), main=Sink(closes=5.0)))
    assert (await runtime.shutdown()).duration_s == 0.0
    await runtime.init()
    first = asyncio.create_task(runtime.shutdown())
    await asyncio.sleep(1.0)
    assert (await runtime.shutdown()).abandoned == ()
    assert now() < 2.0
    assert (await first).duration_s == pytest.approx(5.0, abs=0.1)
    assert (await runtime.shutdown()).duration_s == pytest.approx(0.0, abs=0.01)
    assert state_of(runtime) is RuntimeState.CLOSED


@pytest.mark.parametrize("waits_for", ["managers", "drain"])
@virtual_time
async def test_g3_a_cancelled_shutdown_ends_at_once_and_the_exporters_finish(waits_for: str) -> None:
    """The cancellation reaches the caller; what is queued is written in the background all the same."""
    source = RunningLoop()
    sink = Sink(writes=30.0)
    exporters = exporting(source, main=sink)
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=1000.0)
    await runtime.init()
    manager = manager_of(runtime, exporters)
    run = manager.start(ContextState())
    await run.__aenter__()
    with step("tool", "s"):
        pass
    if waits_for == "drain":
        await run.__aexit__(None, None, None)
    began = now()
    stopping = asyncio.create_task(runtime.shutdown())
    await asyncio.sleep(5.0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert now() - began == pytest.approx(5.0, abs=0.1)
    if waits_for == "managers":
        await run.__aexit__(None, None, None)
    assert state_of(runtime) is RuntimeState.CLOSED
    await asyncio.sleep(60.0)
    assert len(sink.taken) == 1
    assert not sink.is_open
    assert source.users == 0


@virtual_time
async def test_g4_the_blocks_own_exception_leaves_unchanged() -> None:
    """`async with runtime` drains, and raises what the block did."""
    sink = Sink(closes=3.0)
    exporters = exporting(RunningLoop(), main=sink)
    error = WorkflowError()

    async def workflow() -> None:
        async with ObservabilityRuntime(exporters) as runtime:
            await record(manager_of(runtime, exporters))
            raise error

    with pytest.raises(WorkflowError) as caught:
        await workflow()
    assert caught.value is error
    assert len(sink.taken) == 1


# Health


@virtual_time
async def test_g16_health_at_each_state() -> None:
    """State, live managers and each exporter's own health; None for one that has no delivery."""
    exporters = exporting(RunningLoop(), main=Sink(opens=1.0, closes=1.0))
    exporters["capturing"] = CapturingExporter()
    runtime = ObservabilityRuntime(exporters)
    seen: list[tuple[str, str, int]] = []

    def look() -> None:
        health = runtime.health()
        main = health.exporters["main"]
        assert main is not None
        assert health.exporters["capturing"] is None
        assert health.ledger == main.ledger
        seen.append((health.state, main.state, health.live_managers))

    look()
    opening = asyncio.create_task(runtime.init())
    await asyncio.sleep(0.5)
    look()
    await opening
    look()
    manager = manager_of(runtime, exporters)
    async with manager.start(ContextState()):
        look()
        with step("tool", "s"):
            pass
    look()
    stopping = asyncio.create_task(runtime.shutdown())
    await asyncio.sleep(0.5)
    look()
    report = await stopping
    look()
    assert seen == [
        ("new", "new", 0),
        ("opening", "opening", 0),
        ("open", "open", 0),
        ("open", "open", 1),
        ("open", "open", 0),
        ("draining", "closing", 0),
        ("closed", "closed", 0),
    ]
    assert report.exporters == runtime.health().exporters


# Threads and loops, for real


def test_g11_opened_in_one_loop_and_shut_down_in_another() -> None:
    """`asyncio.run` per job, from several threads, in between: all of it is delivered."""
    taken: list[Item] = []
    exporter = SpanExporter(
        taken.extend, name="main", limits=DeliveryLimits(batch_items=10, batch_age=3600.0)
    )
    exporters: dict[str, BaseExporter] = {"main": exporter}
    runtime = ObservabilityRuntime(exporters)
    asyncio.run(_init(runtime))
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(asyncio.run, record(manager_of(runtime, exporters), 7)) for _ in range(20)]:
            job.result(PATIENCE)
    assert runtime.health().live_managers == 0
    report = asyncio.run(runtime.shutdown())
    assert len(taken) == 140
    assert report.exporters["main"] is not None
    assert report.exporters["main"].ledger == LedgerSnapshot(accepted=140, delivered=140)


async def _init(runtime: ObservabilityRuntime) -> None:
    await runtime.init()


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("flush", ["handed_over", "delivered"])
def test_g3_g5_a_run_whose_loop_ended_without_it_is_ended_by_the_collector(flush: Flush) -> None:
    """It was never cancelled. What it recorded is delivered, and no shutdown waits for it."""
    taken: list[Item] = []
    exporters: dict[str, BaseExporter] = {"main": SpanExporter(taken.extend, flush=flush)}
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=PATIENCE)

    async def workflow() -> None:
        async with manager_of(runtime, exporters).start(ContextState()):
            with step("tool", "open"):
                await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await runtime.init()
        running.append(asyncio.create_task(workflow()))
        await until(lambda: runtime.health().live_managers == 1)

    running: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    running.clear()
    gc.collect()
    assert runtime.health().live_managers == 0
    report = asyncio.run(runtime.shutdown())
    assert [item.name for item in taken] == ["open"]
    assert report.exporters["main"] is not None
    assert report.exporters["main"].ledger == LedgerSnapshot(accepted=1, delivered=1)


def test_g11_only_one_of_many_threads_opens() -> None:
    """The others get an error: it is open already, or opening."""
    opened: list[Batch] = []
    runtime = ObservabilityRuntime({"main": SpanExporter(opened.append, name="main")})
    together = threading.Barrier(8)

    def init() -> bool:
        together.wait(PATIENCE)
        try:
            asyncio.run(_init(runtime))
        except RuntimeStateError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(job.result(PATIENCE) for job in [pool.submit(init) for _ in range(8)]) == 1
    asyncio.run(runtime.shutdown())


def test_a_loop_that_ended_before_the_exporters_did_is_not_looked_for() -> None:
    """A shutdown that was cancelled with its loop leaves a delivery that closes later, without an error."""
    let_go = threading.Event()

    def hold(batch: Batch) -> None:
        let_go.wait(PATIENCE)

    exporter = SpanExporter(hold, name="main", limits=DeliveryLimits(batch_age=0.0))
    runtime = ObservabilityRuntime({"main": exporter})

    async def main() -> None:
        await runtime.init()
        await record(ExporterManager.from_exporters({"main": exporter}))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runtime.shutdown(), 0.05)

    asyncio.run(main())
    closed = exporter.delivery.closed()
    let_go.set()
    closed.result(PATIENCE)
    assert exporter.delivery.health().ledger == LedgerSnapshot(accepted=1, delivered=1)


# G8: the application's loop


@pytest.mark.may_block
@pytest.mark.parametrize("form", ["blocking", "async, written wrongly"])
async def test_g8_a_sink_that_blocks_does_not_stall_the_applications_loop(form: str) -> None:
    """While the sink is stuck the loop goes on turning, and whole runs start, record and end on it."""
    entered, let_go = threading.Event(), threading.Event()
    taken: list[Item] = []

    def block(batch: Batch) -> None:
        entered.set()
        let_go.wait(PATIENCE)
        taken.extend(batch)

    async def block_wrongly(batch: Batch) -> None:
        block(batch)

    sink: Callable[[Batch], Any] = block if form == "blocking" else block_wrongly
    exporters: dict[str, BaseExporter] = {
        "main": SpanExporter(sink, name="main", limits=DeliveryLimits(batch_age=0.0))
    }
    runtime = ObservabilityRuntime(exporters)
    await runtime.init()
    try:
        await record(manager_of(runtime, exporters))
        await until(entered.is_set)
        turns = 0
        for _ in range(50):
            await record(manager_of(runtime, exporters), 20)
            await asyncio.sleep(0.001)
            turns += 1
        assert taken == []
        assert turns == 50
        health = runtime.health()
        assert health.ledger.pending == 1001
    finally:
        let_go.set()
        await runtime.shutdown()
    assert len(taken) == 1001


@pytest.mark.may_block
async def test_g8_a_blocking_sink_holds_up_no_other_exporter() -> None:
    """Each blocking sink has a thread of its own: while one is stuck another one's items arrive."""
    let_go, arrived = threading.Event(), threading.Event()

    def stuck(batch: Batch) -> None:
        let_go.wait(PATIENCE)

    def works(batch: Batch) -> None:
        arrived.set()

    limits = DeliveryLimits(batch_age=0.0)
    exporters: dict[str, BaseExporter] = {
        "stuck": SpanExporter(stuck, name="stuck", limits=limits),
        "works": SpanExporter(works, name="works", limits=limits),
    }
    async with ObservabilityRuntime(exporters) as runtime:
        try:
            await record(manager_of(runtime, exporters))
            await until(arrived.is_set)
        finally:
            let_go.set()


async def test_an_exporter_without_a_delivery_is_none_of_the_runtimes_business() -> None:
    """One that the application wrote, or that was written for the reference toolkit, is opened only by its runs."""

    class Foreign:
        """As the reference toolkit has them."""

        start = stop = wait_ready = print

    exporters: dict[str, Any] = {"foreign": Foreign(), "capturing": CapturingExporter()}
    async with ObservabilityRuntime(exporters) as runtime:
        assert runtime.health().exporters == {"foreign": None, "capturing": None}


async def test_a_shutdown_waits_for_runs_that_begin_while_the_last_one_ends() -> None:
    """A server may begin a request after the signal to end: it ends like any other, and is waited for."""
    runtime = ObservabilityRuntime({"capturing": CapturingExporter()})
    await runtime.init()
    runtime.run_started()
    closing = asyncio.ensure_future(runtime.shutdown())
    await until(lambda: runtime.state is RuntimeState.DRAINING)
    runtime.run_ended()
    runtime.run_started()
    runtime.run_ended()
    runtime.run_started()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    runtime.run_ended()
    report = await closing
    assert report.live_managers == 0


async def test_live_managers_are_counted_while_their_runs_last() -> None:
    """One for each run that has started and not ended, however it ends."""
    exporters: dict[str, BaseExporter] = {"capturing": CapturingExporter()}
    runtime = ObservabilityRuntime(exporters)

    def count() -> int:
        return runtime.health().live_managers

    async with manager_of(runtime, exporters).start(ContextState()):
        async with manager_of(runtime, exporters).start(ContextState()):
            assert count() == 2
        assert count() == 1
    with pytest.raises(WorkflowError):
        async with manager_of(runtime, exporters).start(ContextState()):
            raise WorkflowError
    assert count() == 0
