"""Random programs over several managers, against a small model of the promises."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from nat_observability import (
    BaseExporter,
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ManagerRunningError,
    SpanExporter,
    UnknownExporterError,
    step,
)
from nat_observability.delivery.delivery import Delivery
from nat_observability.errors import PermanentWriteError
from nat_observability.events import Span
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests.virtual_time import VirtualTimeLoop

_NAMES = ("a", "b", "c")
_MODES = ("works", "fails", "refuses", "hangs")
_LONG = 10_000.0  # virtual seconds, longer than any retry waits


class ModelSink:
    """A back end that works, fails, refuses for good or hangs, as the program says."""

    def __init__(self) -> None:
        self.mode = "works"
        self.taken: list[tuple[str, str]] = []  # run id and name of the step

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def write(self, batch: Batch) -> None:
        if self.mode == "hangs":
            await asyncio.Event().wait()
        if self.mode == "fails":
            raise ConnectionError("The back end is down.")
        if self.mode == "refuses":
            raise PermanentWriteError("400")
        for item in batch:
            assert isinstance(item, Span)
            self.taken.append((item.run.run_id, item.name))

    async def close(self) -> None:
        """Nothing is to be closed."""


class _RunningLoop:
    """A loop source for deliveries: the loop that runs."""

    def acquire(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def release(self) -> None:
        """Nothing is held."""


class ModelRun:
    """One run: a task that does what the program tells it, and what the model says of it."""

    def __init__(self, manager: ExporterManager, exporters: tuple[str, ...]) -> None:
        self.manager, self.exporters = manager, exporters
        self.state = ContextState()
        self.recorded: list[str] = []
        self.running = False
        self._commands: asyncio.Queue[Callable[[], None] | None] = asyncio.Queue()
        self._open: list[step] = []
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        begun = asyncio.Event()

        async def body() -> None:
            async with self.manager.start(self.state):
                begun.set()
                while (command := await self._commands.get()) is not None:
                    command()
                    self._commands.task_done()

        self._task = asyncio.create_task(body())
        await begun.wait()
        self.running = True

    async def do(self, command: Callable[[], None]) -> None:
        self._commands.put_nowait(command)
        await self._commands.join()

    async def end(self) -> None:
        assert self._task is not None
        self._commands.put_nowait(None)
        await self._task
        self.running = False

    async def cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        assert self._task.cancelled()
        self.running = False

    def open_step(self) -> None:
        name = f"{len(self.recorded)}"
        self.recorded.append(name)
        opened = step("tool", name)
        opened.__enter__()
        self._open.append(opened)

    def close_step(self) -> None:
        if self._open:
            self._open.pop().__exit__(None, None, None)


class Managers(RuleBasedStateMachine):
    """The program. Its managers are of the class that `manager_class` says, so that wrong ones can be tried too."""

    manager_class: type[ExporterManager] = ExporterManager
    managers: Bundle[ExporterManager] = Bundle("managers")
    runs: Bundle[ModelRun] = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        limits = DeliveryLimits(batch_age=0.01, batch_items=3, retry_for=1e9)
        self.sinks = {name: ModelSink() for name in _NAMES}
        self.exporters = {
            name: SpanExporter(Delivery(name, sink, limits=limits, loop_source=_RunningLoop()))
            for name, sink in self.sinks.items()
        }
        self.registered: dict[int, set[str]] = {}  # by manager
        self.all_managers: list[ExporterManager] = []
        self.all_runs: list[ModelRun] = []

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine, and let everything happen that needs no time to pass."""

        async def settled() -> Any:
            result = await coroutine
            await asyncio.sleep(1e-6)
            return result

        return self.runner.run(settled())

    def _known(self, manager: ExporterManager, registered: set[str]) -> ExporterManager:
        self.all_managers.append(manager)
        self.registered[id(manager)] = registered
        return manager

    def _running(self, manager: ExporterManager) -> ModelRun | None:
        return next((run for run in self.all_runs if run.running and run.manager is manager), None)

    # Registries:

    @rule(target=managers)
    def new_manager(self) -> ExporterManager:
        return self._known(self.manager_class(5), set())

    @rule(target=managers, manager=managers)
    def copy(self, manager: ExporterManager) -> ExporterManager:
        return self._known(manager.get(), set(self.registered[id(manager)]))

    @rule(manager=managers, name=st.sampled_from(_NAMES))
    def add(self, manager: ExporterManager, name: str) -> None:
        manager.add_exporter(name, self.exporters[name])
        self.registered[id(manager)].add(name)

    @rule(manager=managers, name=st.sampled_from(_NAMES))
    def remove(self, manager: ExporterManager, name: str) -> None:
        known = name in self.registered[id(manager)]
        try:
            manager.remove_exporter(name)
        except UnknownExporterError:
            assert not known
        else:
            assert known
            self.registered[id(manager)].remove(name)

    # Runs:

    @rule(target=runs, manager=managers)
    def start(self, manager: ExporterManager) -> ModelRun:
        run = ModelRun(manager, tuple(sorted(self.registered[id(manager)])))
        running = self._running(manager)
        if running is not None:
            with pytest.raises(ManagerRunningError):
                self.run(manager.start(ContextState()).__aenter__())
            return running
        self.run(run.begin())
        self.all_runs.append(run)
        return run

    @rule(run=runs, count=st.integers(1, 5))
    def record(self, run: ModelRun, count: int) -> None:
        if run.running:
            for _ in range(count):
                self.run(run.do(run.open_step))
                self.run(run.do(run.close_step))

    @rule(run=runs)
    def open_step(self, run: ModelRun) -> None:
        if run.running:
            self.run(run.do(run.open_step))

    @rule(run=runs)
    def close_step(self, run: ModelRun) -> None:
        if run.running:
            self.run(run.do(run.close_step))

    @rule(run=runs)
    def stop(self, run: ModelRun) -> None:
        if run.running:
            self.run(run.end())

    @rule(run=runs)
    def cancel(self, run: ModelRun) -> None:
        if run.running:
            self.run(run.cancel())

    @rule(run=runs)
    def flush(self, run: ModelRun) -> None:
        if not run.running:
            return
        receipt = self.run(run.manager.flush(100))
        assert set(receipt.exporters) == set(run.exporters)
        if all(self.sinks[name].mode in ("works", "refuses") for name in run.exporters):
            # Whatever went wrong before, the longest wait for another try is 30 s.
            assert receipt.complete

    # Back ends and time:

    @rule(name=st.sampled_from(_NAMES), mode=st.sampled_from(_MODES))
    def back_end(self, name: str, mode: str) -> None:
        self.sinks[name].mode = mode

    @rule(seconds=st.sampled_from([0.02, 1.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(manager=managers)
    def fork(self, manager: ExporterManager) -> None:
        """A forked child has nothing of its parent's runs, and its own runs are delivered."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                self._live_as_child(manager)
                status = 0
            except BaseException:  # noqa: BLE001  a child that fails says so and ends; the test goes on in the parent
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def _live_as_child(self, manager: ExporterManager) -> None:
        registered = self.registered[id(manager)]
        for sink in self.sinks.values():
            sink.mode, sink.taken = "works", []
        own = manager.get()
        state = ContextState()

        async def main() -> None:
            async with own.start(state):
                with step("tool", "of the child"):
                    pass
            await until(lambda: not own.report.ledger.pending)

        asyncio.run(main())
        for name in _NAMES:
            expected = [(state.run.run_id, "of the child")] if name in registered else []
            assert self.sinks[name].taken == expected, (name, self.sinks[name].taken)
            ledger = self.exporters[name].delivery.health().ledger
            assert (ledger.accepted, ledger.delivered) == (len(expected), len(expected)), ledger

    # What holds at every moment:

    @invariant()
    def g5_every_ledger_adds_up(self) -> None:
        for exporter in self.exporters.values():
            health = exporter.delivery.health()
            assert health.ledger.adds_up, health
        for manager in self.all_managers:
            assert manager.report.ledger.adds_up, manager.report

    @invariant()
    def g9_no_back_end_has_what_was_not_for_it(self) -> None:
        recorded = {run.state.run.run_id: run for run in self.all_runs}
        for name, sink in self.sinks.items():
            for (run_id, step_name), times in Counter(sink.taken).items():
                run = recorded[run_id]
                assert name in run.exporters, f"{name} has a step of a run that was started without it"
                assert step_name in run.recorded
                assert times == 1, f"{name} has {step_name!r} {times} times"

    @invariant()
    def g10_registries_are_those_of_the_model(self) -> None:
        for manager in self.all_managers:
            found: dict[str, BaseExporter] = self.run(manager.get_all_exporters())
            assert found.keys() == self.registered[id(manager)]

    def teardown(self) -> None:
        """In the end every back end works again, and has all that it did not refuse."""
        try:
            for sink in self.sinks.values():
                sink.mode = "works"
            for run in self.all_runs:
                if run.running:
                    self.run(run.end())
                assert not run.state.stream.listeners
            self.run(asyncio.sleep(_LONG))
            self.g5_every_ledger_adds_up()
            self.g9_no_back_end_has_what_was_not_for_it()
            for name, sink in self.sinks.items():
                accepted = sum(len(run.recorded) for run in self.all_runs if name in run.exporters)
                ledger = self.exporters[name].delivery.health().ledger
                assert ledger.accepted == accepted, f"{name}: {ledger}, not {accepted}"
                assert (ledger.pending, ledger.dropped) == (0, {}), f"{name}: {ledger}"
                assert len(sink.taken) == ledger.delivered == accepted - ledger.failed, f"{name}: {ledger}"
            left = asyncio.all_tasks(self.runner.get_loop())
            assert not left, f"tasks are left: {left}"
        finally:
            self.runner.close()


def _of(programs: int) -> settings:
    return settings(
        max_examples=programs,
        stateful_step_count=30,
    )


# Python 3.12 warns about every fork of a process that has threads, as a worker of pytest-xdist has.
_FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@_FORKS
@pytest.mark.timeout(600)
@pytest.mark.parametrize("programs", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_g3_g5_g6_g9_g10_g12_g15_random_programs(programs: int) -> None:
    """The promises hold whatever several managers and their back ends do, in whatever order."""
    run_state_machine_as_test(Managers, settings=_of(programs))


class _SharedRegistry(ExporterManager):
    """Copies that see each other, as the reference's do."""

    def add_exporter(self, name: str, exporter: BaseExporter, *, required: bool = False) -> None:
        self._exporter_registry[name] = exporter

    def get(self) -> _SharedRegistry:
        copy = type(self)(5)
        copy._exporter_registry = self._exporter_registry
        return copy


@_FORKS
@pytest.mark.may_block  # hypothesis does, when it describes what failed
@pytest.mark.timeout(120)
def test_a_wrong_manager_is_found_and_its_program_printed() -> None:
    """What breaks a promise is found, and reported as a program that can be run again."""

    class WrongManagers(Managers):
        manager_class = _SharedRegistry

    # How far hypothesis can shorten the program is not the question here, and takes up to minutes if no example
    # is stored yet, as in a fresh clone.
    as_found = settings(_of(60), phases=[Phase.generate], derandomize=True)
    with pytest.raises(AssertionError) as raised:
        run_state_machine_as_test(WrongManagers, settings=as_found)
    printed = "\n".join(raised.value.__notes__)
    program = printed[printed.index("state = WrongManagers()") : printed.index("state.teardown()")]
    assert "state.copy(manager=managers_" in program
    assert "state.add(manager=" in program
    again: dict[str, Any] = {"WrongManagers": WrongManagers}
    with pytest.raises(AssertionError) as raised_again:
        exec(program, again)
    again["state"].teardown()
    assert str(raised_again.value) == str(raised.value)
