"""The reference interface: its names, its signatures and its attributes, the underscored ones included."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.context import ContextState
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.run.report import ExporterState
from nat_observability.testing import CapturingExporter, until
from tests.reference_toolkit import ReferenceExporter, SharedExporter
from tests.scenarios import OURS

# This one file may use the underscored names: they are documented.

NEEDED = inspect.Parameter.empty

SIGNATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "__init__": ("method", {"shutdown_timeout": 120}),
    "_create_with_shared_registry": ("class method", {"shutdown_timeout": NEEDED, "shared_registry": NEEDED}),
    "_ensure_registry_owned": ("method", {}),
    "add_exporter": ("method", {"name": NEEDED, "exporter": NEEDED}),
    "remove_exporter": ("method", {"name": NEEDED}),
    "get_exporter": ("method", {"name": NEEDED}),
    "get_all_exporters": ("coroutine", {}),
    "create_isolated_exporters": ("method", {"context_state": None}),
    "_cleanup_isolated_exporters": ("coroutine", {}),
    "_cleanup_single_exporter": ("coroutine", {"name": NEEDED, "exporter": NEEDED}),
    "start": ("method", {"context_state": None}),
    "_run_exporter": ("coroutine", {"name": NEEDED, "exporter": NEEDED}),
    "stop": ("coroutine", {}),
    "from_exporters": ("static method", {"exporters": NEEDED, "shutdown_timeout": 120}),
    "get": ("method", {}),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    """Each documented name is there, of its kind, with its parameters in order and their defaults; more by keyword."""
    kind, parameters = SIGNATURES[name]
    raw = inspect.getattr_static(ExporterManager, name)
    assert isinstance(raw, classmethod) == (kind == "class method")
    assert isinstance(raw, staticmethod) == (kind == "static method")
    function = getattr(ExporterManager, name)
    assert inspect.iscoroutinefunction(function) == (kind == "coroutine")
    ours = list(inspect.signature(function).parameters.values())
    if kind in ("method", "coroutine"):
        assert ours.pop(0).name == "self"
    documented, more = ours[: len(parameters)], ours[len(parameters) :]
    assert {each.name: each.default for each in documented} == parameters
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in documented)
    assert all(each.kind is each.KEYWORD_ONLY and each.default is not NEEDED for each in more)


def test_every_documented_member_is_tested_here() -> None:
    """What begins with an underscore and is not in the table above belongs to this package, and may change."""
    methods = {name for name, each in vars(ExporterManager).items() if inspect.isroutine(each)}
    assert set(SIGNATURES) <= methods
    assert len(SIGNATURES) == 15


RESULTS = {
    "_create_with_shared_registry": "Self",
    "add_exporter": "None",
    "remove_exporter": "None",
    "get_exporter": "BaseExporter",
    "get_all_exporters": "dict[str, BaseExporter]",
    "create_isolated_exporters": "dict[str, BaseExporter]",
    "stop": "None",
    "from_exporters": "ExporterManager",
    "get": "Self",
}


@pytest.mark.parametrize("name", RESULTS)
def test_result(name: str) -> None:
    """Each documented result is of its type, or of the subclass that was asked."""
    function = getattr(ExporterManager, name)
    assert inspect.signature(function).return_annotation == RESULTS[name]


@pytest.mark.parametrize(
    "made", [ExporterManager, lambda: ExporterManager.from_exporters({}), lambda: ExporterManager().get()]
)
def test_attributes_of_a_new_manager(made: Any) -> None:
    """They have their documented types and first values."""
    manager: ExporterManager = made()
    assert manager._tasks == {}
    assert manager._running is False
    assert not manager._exporter_registry
    assert isinstance(manager._lock, asyncio.Lock)
    assert isinstance(manager._shutdown_event, asyncio.Event)
    assert manager._shutdown_timeout == 120
    assert manager._active_isolated_exporters == {}


def attribute(manager: ExporterManager, name: str) -> Any:
    """Return what it is now; a type checker would take it for what it was asserted to be before."""
    return getattr(manager, name)


async def test_attributes_during_a_run() -> None:
    """They say what the manager does: its tasks, its isolated instances, that it runs, and that it shuts down."""
    manager = ExporterManager.from_exporters(
        {"a": CapturingExporter(), "b": CapturingExporter()}, shutdown_timeout=7
    )
    assert manager._shutdown_timeout == manager.get()._shutdown_timeout == 7
    async with manager.start(ContextState()):
        assert attribute(manager, "_running")
        assert set(manager._tasks) == set(manager._active_isolated_exporters) == {"a", "b"}
        assert all(isinstance(task, asyncio.Task) for task in manager._tasks.values())
        assert not manager._shutdown_event.is_set()
        shutdown = manager._shutdown_event
    assert shutdown.is_set()
    assert not attribute(manager, "_running")
    assert not manager._tasks
    assert not manager._active_isolated_exporters
    async with manager.start():
        assert manager._active_isolated_exporters == {}


async def test_task_of_what_only_subscribes_is_made_when_asked_for() -> None:
    """It is a task like any other: cancelled, it ends that exporter alone; left alone, it ends with the run."""
    manager, exporter = ExporterManager(), CapturingExporter()
    manager.add_exporter("cancelled", CapturingExporter())
    manager.add_exporter("kept", exporter)
    async with manager.start(ContextState()):
        tasks = manager._tasks
        assert manager._tasks == tasks
        assert await asyncio.to_thread(lambda: manager._tasks) == tasks
        await asyncio.sleep(0)
        tasks["cancelled"].cancel()
        await asyncio.wait({tasks["cancelled"]})
        OURS.record("a step")
        assert manager._tasks == {"kept": tasks["kept"]}
    assert all(task.done() for task in tasks.values())
    states = {name: each.state for name, each in manager.report.exporters.items()}
    assert states == {"cancelled": ExporterState.FAILED, "kept": ExporterState.STOPPED}
    assert len(exporter.steps) == 2


async def test_tasks_are_not_made_in_another_thread() -> None:
    """A caller there gets those that exist."""
    manager = ExporterManager.from_exporters({"capturing": CapturingExporter()})
    async with manager.start(ContextState()):
        assert await asyncio.to_thread(lambda: manager._tasks) == {}


async def test_shared_registry_is_copied_when_it_is_written() -> None:
    """Copy-on-write: shared until either changes it."""
    exporter = CapturingExporter()
    registry: dict[str, BaseExporter] = {"a": exporter}
    manager = ExporterManager._create_with_shared_registry(5, registry)
    assert attribute(manager, "_is_registry_shared")
    assert manager._exporter_registry is registry
    assert manager._shutdown_timeout == 5
    manager.add_exporter("b", exporter)
    assert not attribute(manager, "_is_registry_shared")
    assert set(registry) == {"a"}
    copy = manager.get()
    assert attribute(copy, "_is_registry_shared")
    assert copy._exporter_registry is manager._exporter_registry
    copy._ensure_registry_owned()
    assert not attribute(copy, "_is_registry_shared")
    assert copy._exporter_registry is not manager._exporter_registry
    assert copy._exporter_registry == manager._exporter_registry


def test_an_owned_registry_is_not_copied() -> None:
    """Only what others use too is copied; what was handed on by `get` is others' too."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter()})
    registry = manager._exporter_registry
    manager._ensure_registry_owned()
    assert manager._exporter_registry is registry
    copy = manager.get()
    manager._ensure_registry_owned()
    assert manager._exporter_registry == registry
    assert manager._exporter_registry is not copy._exporter_registry
    copy._ensure_registry_owned()
    owned = copy._exporter_registry
    copy._ensure_registry_owned()
    assert copy._exporter_registry is owned


async def test_explicit_cleanup_stops_each_instance_once() -> None:
    """`_cleanup_isolated_exporters` stops the isolated instances now, and the run's end does not do it again."""
    stops: list[str] = []

    class Counting(CapturingExporter):
        async def stop(self) -> None:
            stops.append(self.name)
            await super().stop()

    manager = ExporterManager.from_exporters({"a": Counting(), "b": Counting()})
    await manager._cleanup_isolated_exporters()
    async with manager.start(ContextState()):
        await manager._cleanup_single_exporter("a", manager._active_isolated_exporters["a"])
        assert stops == ["Counting (isolated)"]
        await manager._cleanup_isolated_exporters()
        assert stops == ["Counting (isolated)"] * 2
        assert manager._active_isolated_exporters == {}
    assert len(stops) == 2


async def test_run_exporter_belongs_to_start() -> None:
    """It runs an exporter of the current run; without a run it says so."""
    with pytest.raises(RuntimeError, match=r"belongs to start\(\)"):
        await ExporterManager()._run_exporter("a", CapturingExporter())


def test_start_gives_an_async_context_manager() -> None:
    """Nothing happens before it is entered."""
    manager = ExporterManager()
    assert isinstance(manager.start(), AbstractAsyncContextManager)
    assert not manager._running


async def test_the_registry() -> None:
    """An exporter is added, got, replaced with a warning, removed; an unknown name is a ValueError each time."""
    manager, first, second = ExporterManager(), CapturingExporter(), CapturingExporter()
    manager.add_exporter("a", first)
    assert manager.get_exporter("a") is first
    with capture_logs() as lines:
        manager.add_exporter("a", second)
    assert [(line["log_level"], line["exporter"]) for line in lines] == [("warning", "a")]
    everything = await manager.get_all_exporters()
    assert everything == {"a": second}
    everything.clear()
    assert manager.get_exporter("a") is second
    manager.remove_exporter("a")
    assert await manager.get_all_exporters() == {}
    for use in (manager.get_exporter, manager.remove_exporter):
        with pytest.raises(ValueError, match="a"):
            use("a")


async def test_a_second_start_while_it_runs_is_refused() -> None:
    """Only one cycle of start and stop is active at a time; after it the next may begin."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter()})
    async with manager.start():
        with pytest.raises(RuntimeError, match="already running"):
            async with manager.start():
                pass
        assert attribute(manager, "_running")
    async with manager.start() as started:
        assert started is manager


async def test_what_is_added_during_a_run_starts_with_the_next() -> None:
    """Not automatically, as the reference has it."""
    manager, late = ExporterManager(), CapturingExporter()
    async with manager.start(ContextState()):
        manager.add_exporter("late", late)
        OURS.record("not taken")
    assert not late.steps
    async with manager.start(ContextState()):
        OURS.record("taken")
    assert {each.name for each in late.steps} == {"taken"}


async def test_isolated_exporters_are_new_objects() -> None:
    """One for each exporter by its name, with a context state of its own if none is given; the originals stay."""
    exporter = CapturingExporter()
    manager = ExporterManager.from_exporters({"a": exporter})
    first, second = manager.create_isolated_exporters(), manager.create_isolated_exporters(ContextState())
    assert first.keys() == second.keys() == {"a"}
    assert len({id(exporter), id(first["a"]), id(second["a"])}) == 3
    assert manager.get_exporter("a") is exporter


async def test_stop_ends_the_run_and_warns_of_what_is_stuck() -> None:
    """Every task is asked to shut down and awaited; one still running at the shutdown timeout is named in a warning."""
    never = asyncio.Event()

    class Stuck(ReferenceExporter):
        async def stop(self) -> None:
            await never.wait()

    manager = ExporterManager.from_exporters(
        {"stuck": Stuck(), "good": CapturingExporter()},  # type: ignore[dict-item]
        shutdown_timeout=1,
    )
    with capture_logs() as lines:
        async with manager.start(ContextState()):
            await manager.stop()
            assert not attribute(manager, "_running")
            assert manager._shutdown_event.is_set()
    never.set()
    warned = {line["exporter"] for line in lines if line["log_level"] == "warning"}
    assert warned == {"stuck"}
    await manager.stop()


def test_values_that_the_reference_takes() -> None:
    """`shutdown_timeout` by position and by name, as int; no exporters at all; errors are ValueErrors."""
    assert (
        ExporterManager(30)._shutdown_timeout == ExporterManager(shutdown_timeout=30)._shutdown_timeout == 30
    )
    for use in (ExporterManager().get_exporter, ExporterManager().remove_exporter):
        with pytest.raises(ValueError, match="nobody"):
            use("nobody")


# -- A class written for the reference toolkit ------------------------------------------------------------------------


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
async def test_reference_class_runs_unchanged(isolated: bool) -> None:
    """`start()` as context manager, `stop()`, `wait_ready()` and `create_isolated_instance()` are all that it needs."""
    exporter = ReferenceExporter()
    assert BaseExporter not in type(exporter).__mro__
    manager = ExporterManager()
    manager.add_exporter("reference", exporter)  # type: ignore[arg-type]
    for turn in range(3):
        async with manager.start(ContextState() if isolated else None):
            OURS.record(f"step {turn}")
            await until(lambda turn=turn: len(exporter.exported) == 2 * (turn + 1))  # type: ignore[misc]
        OURS.record("outside")
    assert [each.name for each in exporter.exported] == [
        f"step {turn}" for turn in range(3) for _ in range(2)
    ]
    assert exporter.stopped == (0 if isolated else 3)


async def test_reference_class_in_runs_at_once() -> None:
    """Each run has its own isolated copy, which hears its own run."""

    class Watching(ReferenceExporter):
        async def export(self, step: Any) -> None:
            assert self._state is not None
            assert step.run is self._state.run
            await super().export(step)

    exporter = Watching()
    manager = ExporterManager.from_exporters({"reference": exporter})  # type: ignore[dict-item]

    async def run(number: int) -> None:
        async with manager.get().start(ContextState(run_id=str(number))):
            for _ in range(3):
                OURS.record(str(number))
                await asyncio.sleep(0)

    await asyncio.gather(*(run(number) for number in range(20)))
    assert len(exporter.exported) == 20 * 3 * 2
    assert all(each.name == each.run.run_id for each in exporter.exported)


async def test_reference_class_without_isolation() -> None:
    """Without `create_isolated_instance` it is used as it is, with a warning that names it."""

    class Shared(SharedExporter):  # a class of its own, because what is repeated is not said again
        pass

    exporter = Shared()
    manager = ExporterManager.from_exporters({"shared": exporter})  # type: ignore[dict-item]
    with capture_logs() as lines:
        async with manager.start(ContextState(run_id="run-1")):
            assert [*manager._active_isolated_exporters.values()] == [exporter]  # type: ignore[comparison-overlap]
            OURS.record("a step")
            await asyncio.sleep(0)
    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert [(line["event"], line["exporter"], line["workflow_run_id"]) for line in warnings] == [
        ("exporter_isolation_unsupported", "shared", "run-1")
    ]
    assert len(exporter.exported) == 2
