"""G1: a start never hangs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    ExporterState,
    IntermediateStep,
    ManagerRunningError,
)
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.errors import ExporterStartError
from nat_observability.exporter.subscription import Subscription
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.testing import CapturingExporter
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("broken", scenarios.BROKEN_STARTS)
def test_broken_start_does_not_stop_the_run(broken: type[ReferenceExporter]) -> None:
    """An exporter that raises, ends early, hangs or is never ready is left out, and the run goes on."""
    scenarios.broken_start_does_not_stop_the_run(OURS, broken)


def test_start_timeout_is_shared() -> None:
    """Twenty exporters that hang cost one start timeout, not twenty."""
    scenarios.start_timeout_is_shared(OURS)


def test_exporters_start_concurrently() -> None:
    """Twenty exporters that each need a second have started after one second."""

    class Slow(ReferenceExporter):
        async def pre_start(self) -> None:
            await asyncio.sleep(1)

    async def main() -> None:
        manager = ExporterManager.from_exporters({f"slow {index}": Slow() for index in range(20)})  # type: ignore[misc]
        began = now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(1)

    run_virtual(main())


def test_required_failures_are_named_after_stopping_the_started() -> None:
    """`ExporterStartError` names each required exporter that failed; those that had started were stopped before."""
    scenarios.required_failures_are_named(OURS)


def test_started_are_stopped_in_order_when_a_required_one_fails() -> None:
    """They get the shutdown timeout to stop, as at the end of a run, and are not cancelled."""
    ended: list[str] = []

    class Orderly(ReferenceExporter):
        async def cleanup(self) -> None:
            await asyncio.sleep(3)
            ended.append("in order")

    async def main() -> None:
        manager = ExporterManager(shutdown_timeout=5)
        manager.add_exporter("orderly", Orderly())  # type: ignore[arg-type]
        manager.add_exporter("raises", scenarios.RaisesBeforeStart(), required=True)  # type: ignore[arg-type]
        with pytest.raises(ExporterStartError):
            async with manager.start(ContextState()):
                pass
        assert ended == ["in order"]

    run_virtual(main())


def test_failed_start_is_logged_and_reported() -> None:
    """One line and one entry in the report name what failed and why; the others are as usual."""

    async def main() -> None:
        manager = ExporterManager(start_timeout=2)
        manager.add_exporter("raises", scenarios.RaisesBeforeStart())  # type: ignore[arg-type]
        manager.add_exporter("hangs", scenarios.StartHangs())  # type: ignore[arg-type]
        manager.add_exporter("good", CapturingExporter())
        with capture_logs() as lines:
            async with manager.start(ContextState(run_id="run-1")):
                report = manager.report
        failed = {line["exporter"]: line for line in lines if line["event"] == "exporter_start_failed"}
        assert set(failed) == {"raises", "hangs"}
        assert failed["raises"]["error"] == "ConnectionError: no route"
        assert "not ready within 2 s" in failed["hangs"]["error"]
        assert {line["workflow_run_id"] for line in lines} == {"run-1"}
        assert {name: each.state for name, each in report.exporters.items()} == {
            "raises": ExporterState.FAILED,
            "hangs": ExporterState.FAILED,
            "good": ExporterState.RUNNING,
        }
        assert report.exporters["raises"].error == "ConnectionError: no route"
        assert "exporter_abandoned" not in {line["event"] for line in lines}

    run_virtual(main())


def test_late_one_stays_left_out() -> None:
    """An exporter that was left out for being late, and becomes ready after all, takes no part in the run."""

    class Late(ReferenceExporter):
        async def pre_start(self) -> None:
            await scenarios.stubbornly(20)

    async def main() -> None:
        late = Late()
        manager = ExporterManager(start_timeout=10)
        manager.add_exporter("late", late)  # type: ignore[arg-type]
        state = ContextState()
        async with manager.start(state):
            await asyncio.sleep(60)
            OURS.record("a step")
            assert not state.stream.listeners
            assert manager.report.exporters["late"].state is ExporterState.FAILED
        assert not late.exported

    run_virtual(main())


def test_exporter_without_a_run_is_left_out() -> None:
    """An exporter whose `subscription` or whose `begin` raises is left out, and leaves nothing behind."""

    class NoSubscription(CapturingExporter):
        def subscription(self, state: ContextState) -> object:  # type: ignore[override]
            raise LookupError("no subscription for you")

    async def main() -> None:
        manager = ExporterManager()
        manager.add_exporter("broken", NoSubscription())
        state = ContextState()
        async with manager.start(state):
            assert manager.report.exporters["broken"].error == "LookupError: no subscription for you"
            assert not state.stream.listeners

    run_virtual(main())


def test_second_start_is_refused() -> None:
    """A running manager cannot be started again, and goes on undisturbed; its copy can be."""

    async def main() -> None:
        manager, exporter = ExporterManager(), CapturingExporter()
        manager.add_exporter("capturing", exporter)
        async with manager.start(ContextState()):
            with pytest.raises(ManagerRunningError, match=r"manager\.get\(\)"):
                async with manager.start(ContextState()):
                    pass
            async with manager.get().start(ContextState()):
                OURS.record("inner")
            OURS.record("outer")
        assert OURS.names(exporter) == ["inner", "outer"]

    run_virtual(main())


async def test_started_context_is_used_once() -> None:
    """What `start` returned is one run: entering it a second time raises an error that says what to do instead."""
    manager = ExporterManager()
    run = manager.start(ContextState())
    async with run:
        pass
    with pytest.raises(RuntimeError, match=r"start\(\) again"):
        async with run:
            pass


async def test_added_later_starts_with_the_next_run() -> None:
    """An exporter that is added or removed while a run lasts takes part, or does not, from the next start on."""
    manager, early, late = ExporterManager(), CapturingExporter(), CapturingExporter()
    manager.add_exporter("early", early)
    async with manager.start(ContextState()):
        manager.add_exporter("late", late)
        manager.remove_exporter("early")
        OURS.record("first run")
    async with manager.start(ContextState()):
        OURS.record("second run")
    assert OURS.names(early) == ["first run"]
    assert OURS.names(late) == ["second run"]


async def test_manager_without_exporters_runs() -> None:
    """A start without exporters does not fail; the steps are counted as unheard."""
    manager = ExporterManager()
    async with manager.start(ContextState()) as started:
        assert started is manager
        OURS.record("a step")
    assert manager.report.unheard == 2


async def test_interrupt_while_starting_leaves_no_run() -> None:
    """After what a signal handler raises, as for Ctrl-C, the manager can be started again."""

    class Interrupt(BaseException):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupt

    class Interrupted(BaseExporter):
        def export(self, event: IntermediateStep) -> None:
            """Not reached."""

        def create_isolated_instance(self, context_state: ContextState) -> Interrupted:
            signal.raise_signal(signal.SIGUSR1)
            return self

    manager = ExporterManager()
    manager.add_exporter("interrupted", Interrupted())
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt):
            async with manager.start(ContextState()):
                pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ContextState.current() is None
    manager.remove_exporter("interrupted")
    async with manager.start(ContextState()):
        pass


async def test_report_may_be_asked_at_any_moment() -> None:
    """Even while the exporters are being isolated, which is when there is nothing to report yet."""
    reports: list[bool] = []

    class Curious(CapturingExporter):
        def create_isolated_instance(self, context_state: ContextState) -> Curious:
            reports.append(manager.report.running)
            return self

    manager = ExporterManager()
    manager.add_exporter("curious", Curious())
    assert manager.report.running is False
    for _ in range(2):
        async with manager.start(ContextState()):
            assert manager.report.running is True
    assert len(reports) == 2


class OwnStart(CapturingExporter):
    """Has a task in each run, because it overrides part of the lifecycle."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with super().start():
            yield


@pytest.mark.parametrize("before_first_step", [True, False])
def test_exporter_task_cancelled_by_others_is_left_out(before_first_step: bool) -> None:
    """If every task of the loop is cancelled, the exporters end, and the run neither hangs nor waits."""

    async def main() -> None:
        manager = ExporterManager()
        manager.add_exporter("own start", OwnStart())
        manager.add_exporter("capturing", exporter := CapturingExporter())
        began = now()

        def cancel_all() -> None:
            for task in asyncio.all_tasks() - {me}:
                task.cancel()

        me = asyncio.current_task()
        if before_first_step:
            asyncio.get_running_loop().call_soon(cancel_all)
        async with manager.start(ContextState()):
            if not before_first_step:
                cancel_all()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            OURS.record("heard by what has no task")
        assert elapsed_since(began) < 1
        assert manager.report.exporters["own start"].state is ExporterState.FAILED
        assert manager.report.exporters["capturing"].state is ExporterState.STOPPED
        assert len(exporter.steps) == 2

    run_virtual(main())


async def test_what_only_subscribes_needs_no_turn_of_the_loop() -> None:
    """A run whose exporters wait for nothing makes no task, and starts and ends without yielding to the loop."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter(), "b": CapturingExporter()})
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    async with manager.start(ContextState()):
        assert len(asyncio.all_tasks()) == 1
    assert not turns
    assert {each.state for each in manager.report.exporters.values()} == {ExporterState.STOPPED}


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["subscription", "begin", "end"])
async def test_subscription_that_raises_is_left_out(where: str, error: type[BaseException]) -> None:
    """Whatever it raises and wherever, the run goes on with the other exporters, and nothing stays subscribed."""

    class Broken(Subscription):
        def begin(self) -> None:
            super().begin()
            if where == "begin":
                raise error("broken")

        def end(self) -> None:
            super().end()
            if where == "end":
                raise error("broken")

        def handle(self, step: IntermediateStep) -> None:
            """Do nothing."""

        @property
        def ledger(self) -> LedgerSnapshot:
            return LedgerSnapshot()

    class Breaking(CapturingExporter):
        def subscription(self, state: ContextState) -> Subscription:
            if where == "subscription":
                raise error("broken")
            return Broken(self, state)

    manager, state, exporter = ExporterManager(), ContextState(), CapturingExporter()
    manager.add_exporter("broken", Breaking())
    manager.add_exporter("capturing", exporter)
    async with manager.start(state):
        OURS.record("a step")
        assert state.stream.listeners == (2 if where == "end" else 1)
    assert not state.stream.listeners
    assert OURS.names(exporter) == ["a step"]
    report = manager.report.exporters
    assert (report["broken"].state, report["capturing"].state) == (
        ExporterState.FAILED,
        ExporterState.STOPPED,
    )
    # Once an exporter has seen steps, only the error's place is reported, not its message.
    assert (__file__ if where == "end" else "broken") in (report["broken"].error or "")


@pytest.mark.may_leave_tasks
@pytest.mark.parametrize("by_options", [True, False])
def test_without_timeouts_of_ones_own_a_start_takes_10_s_and_a_stop_120(by_options: bool) -> None:
    """The defaults are the reference's for a stop, and as documented for a start."""

    async def main() -> None:
        hanging: dict[str, Any] = {
            "start": scenarios.StartHangsAgainstCancellation(),
            "stop": scenarios.stubborn(scenarios.FOREVER),
        }
        manager = (
            ExporterManager.with_options(hanging, ManagerOptions())
            if by_options
            else ExporterManager.from_exporters(hanging)
        )
        began = now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(10)
            began = now()
        assert elapsed_since(began) == pytest.approx(120)

    run_virtual(main(), leftovers=True)


async def test_the_steps_of_an_exporter_with_a_start_of_its_own_are_counted() -> None:
    """Wrapping its subscription loses nothing of the report."""
    manager = ExporterManager.from_exporters({"own": OwnStart()})
    async with manager.start(ContextState()):
        OURS.record("a step")
    assert manager.report.ledger == LedgerSnapshot(accepted=2, delivered=2)
