"""G3: cancellation is correct."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nat_observability import BaseExporter, ContextState, ExporterManager, IntermediateStep, SpanExporter
from nat_observability.testing import CapturingExporter
from tests import scenarios
from tests.faults.injection import Inject, at_once, soon
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


class NoOp(BaseExporter):
    def export(self, event: IntermediateStep) -> None:
        """Do nothing."""


class OwnStartAndStop(CapturingExporter):
    """Waits in its start, before and after it is subscribed, and in its stop."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        await asyncio.sleep(0.1)
        async with super().start():
            await asyncio.sleep(0.1)
            try:
                yield
            finally:
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        await asyncio.sleep(0.1)
        await super().stop()


def several(*kinds: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: {f"exporter {index}": kind() for index, kind in enumerate(kinds)}


EXPORTERS = {
    "none": several(),
    "1 no-op": several(NoOp),
    "3 no-op": several(NoOp, NoOp, NoOp),
    "1 slow": scenarios.well_behaved(1),
    "3 slow": scenarios.well_behaved(3),
    "own start and stop": several(OwnStartAndStop, NoOp),
    "start fails": several(scenarios.RaisesBeforeStart, OwnStartAndStop),
    "start hangs": several(scenarios.StartHangs, NoOp),
    "never ready": several(scenarios.NeverReady, scenarios.WaitReadyRaises),
    "stop raises": several(scenarios.StopRaises, OwnStartAndStop),
    "stop hangs": several(scenarios.StopHangs, NoOp),
    "isolation raises": several(scenarios.IsolationRaises, NoOp),
}


@pytest.mark.parametrize("cancel", [at_once, soon], ids=["at once", "soon"])
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
@pytest.mark.parametrize("exporters", EXPORTERS.values(), ids=EXPORTERS)
def test_cancelled_at_every_await(exporters: scenarios.Exporters, isolated: bool, cancel: Inject) -> None:
    """Wherever it comes, the cancellation reaches the caller, nothing is left behind, and the manager starts again."""
    assert scenarios.cancellation_sweep(OURS, exporters, isolated=isolated, cancel=cancel) >= 3


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("exporters", EXPORTERS.values(), ids=EXPORTERS)
def test_cancelled_several_times(exporters: scenarios.Exporters, times: int) -> None:
    """Nor does it matter that a second and a third cancellation meet the stop that the first one began."""
    scenarios.cancellation_sweep(OURS, exporters, isolated=True, times=times)


@pytest.mark.parametrize("cancel", [at_once, soon], ids=["at once", "soon"])
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_cancelled_while_a_failed_start_is_undone(isolated: bool, times: int, cancel: Inject) -> None:
    """A cancellation is not lost behind the `ExporterStartError` of a required exporter."""
    exporters = several(scenarios.RaisesBeforeStart, OwnStartAndStop, scenarios.StopRaises)
    scenarios.cancellation_sweep(
        OURS, exporters, isolated=isolated, times=times, cancel=cancel, required=True
    )


@pytest.mark.parametrize("flush", ["handed_over", "delivered"])
@pytest.mark.parametrize("cancel", [at_once, soon], ids=["at once", "soon"])
def test_cancelled_while_delivering(flush: Any, cancel: Inject) -> None:
    """The same if a run waits for the delivery thread to open its sink and to write."""

    def write(batch: object) -> None:
        """Write nothing."""

    awaits = scenarios.cancellation_sweep(
        OURS,
        lambda: {"spans": SpanExporter(write, flush=flush), "no-op": NoOp()},
        isolated=True,
        cancel=cancel,
        runner=asyncio.run,
        pause=0.001,
    )
    assert awaits >= 4


def test_cancellation_keeps_its_message() -> None:
    """The caller gets the message that it was cancelled with, even if the stop handled the cancellation in between."""

    async def main() -> None:
        manager = ExporterManager.from_exporters(scenarios.well_behaved(1)())
        stopping = asyncio.Event()

        async def program() -> None:
            async with manager.start(ContextState()):
                stopping.set()

        task = asyncio.create_task(program())
        await stopping.wait()
        task.cancel("because")
        with pytest.raises(asyncio.CancelledError, match="because"):
            await task

    run_virtual(main())


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("where", ["start", "body", "stop"])
def test_cancellation_does_not_wait_for_the_shutdown_timeout(where: str) -> None:
    """A cancelled caller gets its cancellation soon, even if an exporter is stuck and has two minutes to stop."""

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=120)
        stuck = scenarios.StartHangsAgainstCancellation() if where == "start" else scenarios.stubborn(3600)
        manager.add_exporter("stuck", stuck)  # type: ignore[arg-type]
        in_body = asyncio.Event()

        async def program() -> None:
            async with manager.start(ContextState()):
                in_body.set()
                if where == "body":
                    await asyncio.sleep(3600)

        task = asyncio.create_task(program())
        if where == "start":
            await asyncio.sleep(1)
        else:
            await in_body.wait()
            await asyncio.sleep(1)
        began = now()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        # In the body the stop begins only then, like any other stop.
        assert elapsed_since(began) <= (120.001 if where == "body" else 1.001)

    run_virtual(main(), leftovers=True)


def test_cancelled_start_does_not_wait_for_what_has_not_started() -> None:
    """Exporters still starting are cancelled at once; only those that had started get time to stop."""

    async def main() -> None:
        manager = ExporterManager()
        manager.add_exporter("hangs", scenarios.StartHangs())  # type: ignore[arg-type]
        began = now()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), manager.start(ContextState()):
                pass
        assert elapsed_since(began) == pytest.approx(1)

    run_virtual(main())


def test_timeout_around_a_run_is_a_timeout() -> None:
    """`asyncio.timeout` around start, body or stop raises its TimeoutError, and the task is not left cancelled."""

    async def main() -> None:
        for seconds in (0.05, 0.5, 1.15):
            manager = ExporterManager.from_exporters(scenarios.well_behaved(2)())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds), manager.start(ContextState()):
                    await asyncio.sleep(1)
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()
            await asyncio.sleep(0)

    run_virtual(main())


def test_cancelled_in_a_task_group() -> None:
    """A run in a task group is cancelled with it, and the group raises what its other task raised."""

    async def main() -> None:
        manager = ExporterManager.from_exporters(scenarios.well_behaved(2)())
        state = ContextState()

        async def run() -> None:
            async with manager.start(state):
                await asyncio.sleep(scenarios.FOREVER)

        async def fail() -> None:
            await asyncio.sleep(1)
            raise LookupError("the other one")

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(run())
                group.create_task(fail())

        with pytest.raises(ExceptionGroup) as raised:
            await both()
        assert [str(error) for error in raised.value.exceptions] == ["the other one"]
        assert not state.stream.listeners
        assert not manager.report.running

    run_virtual(main())


def test_cancelled_while_waiting_for_another_stop() -> None:
    """A second `stop` that is cancelled while it waits for the first one leaves that one alone."""

    class Slow(ReferenceExporter):
        async def cleanup(self) -> None:
            await asyncio.sleep(10)
            ended.append(now())

    ended: list[float] = []

    async def main() -> None:
        manager = ExporterManager.from_exporters({"slow": Slow()})  # type: ignore[dict-item]
        async with manager.start(ContextState()):
            first = asyncio.create_task(manager.stop())
            await asyncio.sleep(1)
            second = asyncio.create_task(manager.stop())
            await asyncio.sleep(1)
            second.cancel()
            await asyncio.wait({second})
            assert second.cancelled()
            await first
        assert len(ended) == 1

    run_virtual(main())
