"""G2: a stop is bounded."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, ExporterState, InvalidTimeoutError
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("timeout", [0.3, 1])
@pytest.mark.parametrize("cleanup", [3, 6, scenarios.FOREVER])
def test_shutdown_timeout_holds(cleanup: float, timeout: float, count: int, isolated: bool) -> None:
    """However long a cleanup swallows its cancellation, and however many do, a stop ends at the deadline."""
    scenarios.stop_is_bounded(OURS, cleanup=cleanup, timeout=timeout, count=count, isolated=isolated)


def test_slow_cleanups_get_their_time() -> None:
    """A fast exporter that has stopped does not end the cleanup of those that need longer."""
    scenarios.slow_cleanups_get_their_time(OURS)


def test_stop_ends_with_the_last_exporter() -> None:
    """The timeout is an upper bound: cleanups run concurrently, and the stop ends with the last one."""

    class Slow(ReferenceExporter):
        async def cleanup(self) -> None:
            await asyncio.sleep(0.2)

    async def main() -> None:
        manager = ExporterManager.from_exporters({f"slow {index}": Slow() for index in range(20)})  # type: ignore[misc]
        async with manager.start(ContextState()):
            began = now()
        assert elapsed_since(began) == pytest.approx(0.2)

    run_virtual(main())


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("isolated", [True, False])
def test_abandoned_is_named(isolated: bool) -> None:
    """Exporters stuck at the deadline are named in one warning and in the report; those that have stopped are not."""

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=1)
        manager.add_exporter("stuck", scenarios.stubborn(scenarios.FOREVER))  # type: ignore[arg-type]
        manager.add_exporter("good", ReferenceExporter())  # type: ignore[arg-type]
        state = ContextState(run_id="run-1") if isolated else None
        with capture_logs() as lines:
            async with manager.start(state):
                pass
        warnings = [line for line in lines if line["log_level"] == "warning"]
        assert [(line["event"], line["exporter"]) for line in warnings] == [("exporter_abandoned", "stuck")]
        assert warnings[0]["workflow_run_id"] == manager.report.workflow_run_id
        assert "did not stop within 1 s" in warnings[0]["error"]
        report = manager.report
        assert report.exporters["stuck"].state is ExporterState.ABANDONED
        assert "did not stop within 1 s" in (report.exporters["stuck"].error or "")
        assert report.exporters["good"].state is ExporterState.STOPPED
        assert report.stop_duration_s == pytest.approx(1)
        assert not report.running

    run_virtual(main(), leftovers=True)


@pytest.mark.parametrize("isolated", [True, False])
def test_cleanup_cut_short_is_named(isolated: bool) -> None:
    """A cleanup that ends because it was cancelled, shortly before the deadline, did not end in time either."""

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=1)
        manager.add_exporter("slow", scenarios.StopHangs())  # type: ignore[arg-type]
        with capture_logs() as lines:
            async with manager.start(ContextState() if isolated else None):
                began = now()
        assert elapsed_since(began) <= 1
        warnings = [line for line in lines if line["log_level"] == "warning"]
        assert [(line["event"], line["exporter"]) for line in warnings] == [("exporter_abandoned", "slow")]
        assert manager.report.exporters["slow"].state is ExporterState.ABANDONED

    run_virtual(main())


@pytest.mark.may_leave_tasks
def test_start_that_is_stuck_is_abandoned_too() -> None:
    """An exporter that swallows the cancellation of its start is part of the same stop, under the same deadline."""

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=1, start_timeout=1)
        for index in range(5):
            manager.add_exporter(f"stuck {index}", scenarios.StartHangsAgainstCancellation())  # type: ignore[arg-type]
        began = now()
        async with manager.start(ContextState()):
            pass
        assert elapsed_since(began) <= 2.001
        assert {each.state for each in manager.report.exporters.values()} == {ExporterState.ABANDONED}

    run_virtual(main(), leftovers=True)


def test_stop_while_starting() -> None:
    """A stop from another task waits for no exporter that has not started, and the report says why it is left out."""

    async def main() -> None:
        manager, quick = ExporterManager(shutdown_timeout=1, start_timeout=1000), OURS.capturing()
        manager.add_exporter("hangs", scenarios.StartHangs())  # type: ignore[arg-type]
        manager.add_exporter("quick", quick)

        async def run() -> None:
            async with manager.start(ContextState()):
                await asyncio.sleep(10)

        task = asyncio.create_task(run())
        await asyncio.sleep(5)
        began = now()
        await manager.stop()
        assert elapsed_since(began) <= 1.001
        report = manager.report
        assert not report.running
        assert report.exporters["hangs"].state is ExporterState.FAILED
        assert "was stopped while exporter 'hangs' started" in (report.exporters["hangs"].error or "")
        assert report.exporters["quick"].state is ExporterState.STOPPED
        await task

    run_virtual(main())


def test_stop_inside_the_block() -> None:
    """`stop` may be called inside the block, by several tasks; the block's end then has nothing to do."""

    async def main() -> None:
        manager, exporter = ExporterManager(), OURS.capturing()
        manager.add_exporter("capturing", exporter)
        await manager.stop()
        async with manager.start(ContextState()):
            OURS.record("before")
            await asyncio.gather(manager.stop(), manager.stop())
            assert not manager.report.running
            OURS.record("after")
            async with manager.start(ContextState()):
                OURS.record("second run")
        await manager.stop()
        assert OURS.names(exporter) == ["before", "second run"]

    run_virtual(main())


def test_end_of_a_stopped_block_leaves_the_next_run_alone() -> None:
    """The end of a block whose run was stopped does not stop the manager's next run."""

    async def main() -> None:
        manager, exporter = ExporterManager(), OURS.capturing()
        manager.add_exporter("capturing", exporter)
        may_end = asyncio.Event()

        async def stopped_early() -> None:
            async with manager.start(ContextState()):
                await manager.stop()
                await may_end.wait()

        task = asyncio.create_task(stopped_early())
        await asyncio.sleep(1)
        async with manager.start(ContextState()):
            may_end.set()
            await task
            OURS.record("second run")
        assert OURS.names(exporter) == ["second run"]

    run_virtual(main())


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), float("inf"), 10**400, True, "5", None])
def test_timeouts_are_positive_seconds(value: object) -> None:
    """Zero, a negative number, NaN, infinity and non-numbers are refused; the message says what is allowed."""
    for setting in ("shutdown_timeout", "start_timeout"):
        with pytest.raises(InvalidTimeoutError, match=f"{setting} is a positive, finite number of seconds"):
            ExporterManager(**{setting: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 0.001, 3600, 2.5])
def test_timeouts_are_whole_or_broken_seconds(value: float) -> None:
    """Int and float are accepted."""
    ExporterManager(value, start_timeout=value)


@pytest.mark.may_leave_tasks
def test_abandoned_is_held_until_it_ends() -> None:
    """A task that goes on after the deadline is not collected, nor reported as never retrieved when it fails."""

    class Failing(ReferenceExporter):
        async def cleanup(self) -> None:
            with suppress(asyncio.CancelledError):
                # Only this task refers to this future: an event loop alone would not keep them.
                await asyncio.get_running_loop().create_future()
            waiting = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(100, wake, weakref.ref(waiting))
            await waiting
            raise OSError("at last")

    def wake(waiting: weakref.ref[asyncio.Future[None]]) -> None:
        future = waiting()
        woken.append(future is not None)
        if future is not None:
            future.set_result(None)

    woken: list[bool] = []
    reported: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        manager = ExporterManager(shutdown_timeout=1)
        manager.add_exporter("failing", Failing())  # type: ignore[arg-type]
        async with manager.start(ContextState()):
            pass
        del manager
        gc.collect()
        await asyncio.sleep(200)
        assert woken == [True]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
    assert not reported
