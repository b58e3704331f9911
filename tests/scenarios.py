"""One function per promise: what must hold for any manager and its exporters."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from nat_observability import (
    Boundary,
    ContextState,
    ExporterManager,
    ExporterStartError,
    IntermediateStep,
    SpanExporter,
    StepKind,
    step,
)
from nat_observability.sinks import FileSink
from nat_observability.testing import CapturingExporter, until, wait_until
from tests.faults.injection import Inject, Injected, at_once
from tests.naive_manager import NaiveManager
from tests.reference_toolkit import ReferenceExporter
from tests.virtual_time import elapsed_since, now, run_virtual

FOREVER = 1e6


class Kit(NamedTuple):
    """A manager together with the exporters written for it, and the way in which a step is recorded."""

    manager: Callable[..., Any]
    capturing: Callable[[], Any]
    record: Callable[..., None]
    batching: Callable[[list[int]], Any]
    to_file: Callable[[Path], Any]

    @staticmethod
    def names(exporter: Any) -> list[str]:
        """The names of the steps that began and that the exporter was given."""
        taken = exporter.steps if isinstance(exporter, CapturingExporter) else exporter.exported
        return [each.name for each in taken if each.boundary is Boundary.START]

    @staticmethod
    def inputs(exporter: Any) -> list[Any]:
        """The inputs of the steps that began, read now."""
        taken = exporter.steps if isinstance(exporter, CapturingExporter) else exporter.exported
        values = [each.input for each in taken if each.boundary is Boundary.START]
        return [msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value for value in values]


# -- Ours --------------------------------------------------------------------------------------------------------


def _record(name: str, payload: object = None) -> None:
    with step(StepKind.TOOL, name, input=payload):
        pass


OURS = Kit(
    manager=ExporterManager,
    capturing=CapturingExporter,
    record=_record,
    batching=lambda calls: SpanExporter(lambda batch: calls.append(len(batch))),
    to_file=lambda path: SpanExporter(FileSink(path)),
)

# -- Naive -------------------------------------------------------------------------------------------------------


class _NaiveExporter(ReferenceExporter):
    """Encodes what it is given itself, when its task comes to it."""

    async def export(self, step: IntermediateStep) -> None:
        repr(step.input)
        await super().export(step)


class _Batcher:
    def __init__(self, calls: list[int]) -> None:
        self.calls, self.waiting, self.shut_down = calls, 0, False

    def add(self) -> None:
        self.waiting += 1
        if self.shut_down:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.calls.append(self.waiting)
        self.waiting = 0


class _NaiveBatchingExporter(ReferenceExporter):
    """Its isolated instances share one batcher, and each shuts it down when it stops."""

    def __init__(self, calls: list[int]) -> None:
        super().__init__()
        self._batcher = _Batcher(calls)

    def _on_next(self, step: IntermediateStep) -> None:
        if step.boundary is Boundary.END:
            self._batcher.add()

    async def cleanup(self) -> None:
        self._batcher.flush()
        self._batcher.shut_down = True


class _NaiveFileExporter(ReferenceExporter):
    """Opens its file, in overwrite mode, when it starts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def pre_start(self) -> None:
        self._path.write_text("")

    def _on_next(self, step: IntermediateStep) -> None:
        if step.boundary is Boundary.END:
            with self._path.open("a") as file:
                file.write(step.name + "\n")


def _record_live(name: str, payload: Any = None) -> None:
    state = ContextState.current()
    if state is not None:
        for boundary in (Boundary.START, Boundary.END):
            state.stream.publish(
                IntermediateStep(state.run, StepKind.TOOL, boundary, name, name, None, 0, payload)
            )


NAIVE = Kit(
    manager=NaiveManager,
    capturing=_NaiveExporter,
    record=_record_live,
    batching=_NaiveBatchingExporter,
    to_file=_NaiveFileExporter,
)


# -- G1: a start never hangs ---------------------------------------------------------------------------------------


class RaisesBeforeStart(ReferenceExporter):
    async def pre_start(self) -> None:
        raise ConnectionError("no route")


class EndsEarly(ReferenceExporter):
    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        if self._state is not None:  # always so; the generator ends without a yield
            return
        yield


class StartHangs(ReferenceExporter):
    async def pre_start(self) -> None:
        await asyncio.sleep(FOREVER)


class StartHangsAgainstCancellation(ReferenceExporter):
    async def pre_start(self) -> None:
        await stubbornly(60)


class NeverReady(ReferenceExporter):
    """Finds no event stream, and yields without a word."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        yield


class WaitReadyHangs(ReferenceExporter):
    async def wait_ready(self) -> None:
        await asyncio.sleep(FOREVER)


class WaitReadyRaises(ReferenceExporter):
    async def wait_ready(self) -> None:
        raise LookupError("never heard of it")


class StartIsNoContextManager(ReferenceExporter):
    def start(self) -> Any:
        return None


class IsolationRaises(ReferenceExporter):
    def create_isolated_instance(self, context_state: ContextState) -> Any:
        raise ValueError("no copy of me")


BROKEN_STARTS: tuple[type[ReferenceExporter], ...] = (
    RaisesBeforeStart,
    EndsEarly,
    StartHangs,
    StartHangsAgainstCancellation,
    NeverReady,
    WaitReadyHangs,
    WaitReadyRaises,
    StartIsNoContextManager,
)


def broken_start_does_not_stop_the_run(kit: Kit, broken: type[ReferenceExporter]) -> None:
    async def main() -> None:
        manager, good = kit.manager(start_timeout=10, shutdown_timeout=20), kit.capturing()
        manager.add_exporter("broken", broken())
        manager.add_exporter("good", good)
        began = now()
        async with asyncio.timeout(1000), manager.start(ContextState()):
            assert elapsed_since(began) <= 10.001, "the start took longer than its time-out"
            kit.record("in the run")
            await asyncio.sleep(0)
            ended = now()
        assert elapsed_since(ended) <= 20.001
        assert kit.names(good) == ["in the run"]

    run_virtual(main(), leftovers=True)


def start_timeout_is_shared(kit: Kit) -> None:
    async def main() -> None:
        manager = kit.manager(start_timeout=10)
        for index in range(20):
            manager.add_exporter(f"hangs {index}", StartHangs())
        began = now()
        async with asyncio.timeout(1000), manager.start(ContextState()):
            assert elapsed_since(began) <= 10.001

    run_virtual(main())


def required_failures_are_named(kit: Kit) -> None:
    """`ExporterStartError` names each required exporter that failed, when those that had started were stopped."""

    async def main() -> None:
        manager = kit.manager(start_timeout=10)
        good, bystander = ReferenceExporter(), ReferenceExporter()
        manager.add_exporter("raises", RaisesBeforeStart(), required=True)
        manager.add_exporter("hangs", StartHangs(), required=True)
        manager.add_exporter("optional", RaisesBeforeStart())
        manager.add_exporter("good", good, required=True)
        manager.add_exporter("bystander", bystander)

        async def start() -> None:
            async with asyncio.timeout(1000), manager.start():
                pytest.fail("the run began")

        with pytest.raises(ExporterStartError) as raised:
            await start()
        assert set(raised.value.failures) == {"raises", "hangs"}
        assert "'raises': ConnectionError: no route" in str(raised.value)
        assert "'hangs': StartTimeoutError" in str(raised.value)
        assert (good.stopped, bystander.stopped) == (1, 1)
        assert ContextState.current() is None

    run_virtual(main())


# -- G2: a stop is bounded -----------------------------------------------------------------------------------------


async def stubbornly(seconds: float) -> None:
    """Sleep for that long, even if it is cancelled."""
    end = now() + seconds
    while now() < end:
        try:
            await asyncio.sleep(end - now())
        except asyncio.CancelledError:
            continue


def stubborn(seconds: float) -> ReferenceExporter:
    class Stubborn(ReferenceExporter):
        async def cleanup(self) -> None:
            await stubbornly(seconds)

    return Stubborn()


class StopHangs(ReferenceExporter):
    """Unsubscribes, and then waits forever, until it is cancelled."""

    async def stop(self) -> None:
        if self._running:
            self._running = False
            self._subscribed_to.stream.unsubscribe(self)
            await asyncio.sleep(FOREVER)


def stop_is_bounded(kit: Kit, *, cleanup: float, timeout: float, count: int, isolated: bool) -> None:
    async def main() -> None:
        manager = kit.manager(shutdown_timeout=timeout)
        for index in range(count):
            manager.add_exporter(f"stubborn {index}", stubborn(cleanup))
        async with manager.start(ContextState() if isolated else None):
            began = now()
        assert elapsed_since(began) <= timeout + 0.001, (
            f"shutdown_timeout={timeout:g} took {elapsed_since(began):g} s"
        )

    run_virtual(main(), leftovers=True)


def slow_cleanups_get_their_time(kit: Kit) -> None:
    async def main() -> None:
        class Slow(ReferenceExporter):
            async def cleanup(self) -> None:
                await asyncio.sleep(0.2)
                cleaned.append(self)

        cleaned: list[Slow] = []
        manager = kit.manager(shutdown_timeout=1)
        for name, exporter in {"fast": ReferenceExporter(), "slow": Slow(), "slower": Slow()}.items():
            manager.add_exporter(name, exporter)
        async with manager.start():
            pass
        assert len(cleaned) == 2, f"{len(cleaned)} of 2 cleanups came to their end"

    run_virtual(main())


# -- G3: cancellation is correct -----------------------------------------------------------------------------------

Exporters = Callable[[], dict[str, Any]]
Runner = Callable[[Coroutine[Any, Any, bool]], bool]


def cancellation_sweep(
    kit: Kit,
    exporters: Exporters,
    *,
    isolated: bool,
    times: int = 1,
    cancel: Inject = at_once,
    required: bool = False,
    runner: Runner = run_virtual,
    pause: float = 1.0,
) -> int:
    """
    Cancel a run at its 1st, 2nd, 3rd await and so on, until it ends before; return how many awaits there were.

    Args:
        exporters: Makes them anew for each run.
        isolated: Whether the run has a context state of its own.
        times: How many awaits in a row are cancelled.
        cancel: How.
        required: Whether the exporters are, so that a run that is not cancelled fails with ExporterStartError.
        runner: Runs one.
        pause: Seconds for which the body waits.
    """
    nth = 0
    while True:
        nth += 1
        if not runner(
            _cancelled_run(kit, exporters(), range(nth, nth + times), isolated, cancel, required, pause)
        ):
            return nth - 1


async def _cancelled_run(
    kit: Kit,
    exporters: dict[str, Any],
    waits: range,
    isolated: bool,
    cancel: Inject,
    required: bool,
    pause: float,
) -> bool:
    state = ContextState() if isolated else None
    used = [state] if state is not None else []
    manager = kit.manager(shutdown_timeout=5, start_timeout=5)
    for name, exporter in exporters.items():
        manager.add_exporter(name, exporter, required=required)

    async def program() -> None:
        async with manager.start(state):
            current = ContextState.current()
            assert current is not None
            used.append(current)
            kit.record("before")
            await asyncio.sleep(pause)
            kit.record("after")
            await asyncio.sleep(0)
            assert ContextState.current() is current
        assert ContextState.current() is None
        await asyncio.sleep(0)

    injected = Injected(program(), waits, cancel)
    task = asyncio.create_task(injected.run())
    done, _ = await asyncio.wait({task}, timeout=1000)
    where = f"cancelled at {waits}"
    assert done, f"{where}: it hangs"
    if not injected.injected:
        assert isinstance(task.exception(), ExporterStartError if required else type(None)), task
    else:
        assert task.cancelled(), f"{where}: the cancellation did not reach the caller: {task}"
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"{where}: left behind: {left}"
    for each in used:
        assert not each.stream.listeners, f"{where}: a subscription is left"
    heard = kit.capturing()
    for name in exporters:
        manager.remove_exporter(name)
    manager.add_exporter("second", heard)
    async with asyncio.timeout(1000), manager.start(ContextState() if isolated else None):
        kit.record("second run")
        await asyncio.sleep(0)
    assert kit.names(heard) == ["second run"], f"{where}: the second run was not heard"
    return bool(injected.injected)


def well_behaved(count: int) -> Callable[[], dict[str, Any]]:
    """That many exporters that need a moment to start and to stop."""

    class Slow(ReferenceExporter):
        async def pre_start(self) -> None:
            await asyncio.sleep(0.1)

        async def cleanup(self) -> None:
            await asyncio.sleep(0.1)

    return lambda: {f"slow {index}": Slow() for index in range(count)}


# -- G4: the run comes first ---------------------------------------------------------------------------------------


class StopRaises(ReferenceExporter):
    async def stop(self) -> None:
        if self._running:
            await super().stop()
            raise OSError("disk full")


def workflow_exception_leaves_unchanged(kit: Kit, isolated: bool) -> None:
    class WorkflowError(Exception):
        pass

    async def main() -> None:
        manager = kit.manager()
        manager.add_exporter("raises", StopRaises())
        error, cause = WorkflowError(), KeyError("cause")
        error.__cause__ = cause
        caught: BaseException | None = None
        try:
            async with manager.start(ContextState() if isolated else None):
                await asyncio.sleep(0)
                raise error
        except BaseException as raised:  # noqa: BLE001  the test looks at it
            caught = raised
        assert caught is error
        assert error.__context__ is None
        assert error.__cause__ is cause

    run_virtual(main())


def no_exporter_error_reaches_the_workflow(kit: Kit, isolated: bool) -> None:
    async def main() -> None:
        manager = kit.manager()
        manager.add_exporter("raises", StopRaises())
        async with manager.start(ContextState() if isolated else None):
            kit.record("a step")

    run_virtual(main())


# -- G9: runs are isolated -----------------------------------------------------------------------------------------


def first_to_stop_silences_nobody(kit: Kit) -> None:
    """Two runs on one non-isolated exporter, each records 10 steps, one of them goes on after the other has stopped."""

    async def main() -> None:
        exporter = kit.capturing()
        first, second = kit.manager(), kit.manager()
        first.add_exporter("shared", exporter)
        second.add_exporter("shared", exporter)
        stopped = asyncio.Event()

        async def shorter() -> None:
            async with first.start():
                for index in range(10):
                    kit.record(f"shorter {index}")
                await asyncio.sleep(1)
            stopped.set()

        async def longer() -> None:
            async with second.start():
                await stopped.wait()
                for index in range(10):
                    kit.record(f"longer {index}")
                await asyncio.sleep(1)

        await asyncio.gather(shorter(), longer())
        assert len(kit.names(exporter)) == 20

    run_virtual(main())


def second_run_is_batched_too(kit: Kit) -> None:
    """The first run's stop does not shut down what the second one's batches go through."""
    calls: list[int] = []

    async def main() -> None:
        manager = kit.manager()
        exporter = kit.batching(calls)
        manager.add_exporter("batching", exporter)
        expected = 0
        for count in (1, 500):
            expected += count
            async with manager.start(ContextState()):
                for index in range(count):
                    kit.record(f"step {index}")
            if kit is OURS:
                await until(lambda expected=expected: sum(calls) == expected)  # type: ignore[misc]
        assert len(calls) <= 10, f"{sum(calls)} spans in {len(calls)} calls"

    asyncio.run(main())


def every_run_is_in_the_file(kit: Kit, path: Path) -> None:
    """Three runs of ten steps, one after the other, into one file."""
    exporter = kit.to_file(path)

    async def main() -> None:
        manager = kit.manager()
        manager.add_exporter("file", exporter)
        for _ in range(3):
            async with manager.start(ContextState()):
                for index in range(10):
                    kit.record(f"step {index}")

    def lines() -> int:
        return len(path.read_text().splitlines()) if path.exists() else 0

    asyncio.run(main())
    if kit is OURS:
        wait_until(lambda: lines() >= 30)
    assert lines() == 30


# -- G10: a copy is a copy -----------------------------------------------------------------------------------------


def copies_do_not_see_each_other(kit: Kit) -> None:
    async def main() -> None:
        original = kit.manager()
        original.add_exporter("first", ReferenceExporter())
        copy = original.get()
        original.add_exporter("of the original", ReferenceExporter())
        copy.add_exporter("of the copy", ReferenceExporter())
        assert set(await original.get_all_exporters()) == {"first", "of the original"}
        assert set(await copy.get_all_exporters()) == {"first", "of the copy"}
        original.remove_exporter("first")
        assert set(await copy.get_all_exporters()) == {"first", "of the copy"}

    run_virtual(main())


def all_exporters_are_the_callers_own(kit: Kit) -> None:
    async def main() -> None:
        manager = kit.manager()
        manager.add_exporter("first", ReferenceExporter())
        (await manager.get_all_exporters()).clear()
        assert set(await manager.get_all_exporters()) == {"first"}

    run_virtual(main())


def registering_meanwhile_is_safe(kit: Kit) -> None:
    """Another thread registers an exporter at the moment in which this one makes isolated instances."""

    class Meanwhile(ReferenceExporter):
        def create_isolated_instance(self, context_state: ContextState) -> Any:
            thread = threading.Thread(target=manager.add_exporter, args=("meanwhile", ReferenceExporter()))
            thread.start()
            thread.join()
            return super().create_isolated_instance(context_state)

    manager = kit.manager()
    manager.add_exporter("first", Meanwhile())
    manager.add_exporter("second", ReferenceExporter())
    assert set(manager.create_isolated_exporters(ContextState())) == {"first", "second"}


def registering_under_stress_is_safe(kit: Kit) -> None:
    """Two threads register and remove without a pause while this one iterates, copies and reads."""
    manager = kit.manager()
    first = {f"first {index}" for index in range(20)}
    for name in first:
        manager.add_exporter(name, ReferenceExporter())
    ended = threading.Event()
    errors: list[BaseException] = []

    def register(who: str) -> None:
        names = [f"{who} {index}" for index in range(30)]
        try:
            while not ended.is_set():
                for name in names:
                    manager.add_exporter(name, ReferenceExporter())
                for name in names:
                    manager.remove_exporter(name)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=register, args=(who,)) for who in ("one", "other")]
    try:
        for thread in threads:
            thread.start()
        for _ in range(200):
            assert set(manager.create_isolated_exporters(ContextState())) >= first
            assert set(manager.get().create_isolated_exporters(ContextState())) >= first
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert not errors
    assert set(manager.create_isolated_exporters()) == first, "a registration was lost, or a removal"


# -- G11: any thread, any loop -------------------------------------------------------------------------------------


def steps_of_a_worker_thread_are_heard(kit: Kit, way: str) -> None:
    async def main() -> None:
        manager, exporter = kit.manager(), kit.capturing()
        manager.add_exporter("capturing", exporter)
        async with manager.start(ContextState()):
            state = ContextState.current()
            assert state is not None
            if way == "to_thread":
                await asyncio.to_thread(lambda: [kit.record(f"step {index}") for index in range(100)])
            else:

                def work() -> None:
                    with state.attach():
                        for index in range(100):
                            kit.record(f"step {index}")

                context = contextvars.copy_context()
                call: Callable[[], None] = work if way == "attach" else lambda: context.run(work)
                await asyncio.get_running_loop().run_in_executor(None, call)
            await asyncio.sleep(0)
        assert len(kit.names(exporter)) == 100

    asyncio.run(main())


def second_event_loop_is_heard(kit: Kit, isolated: bool) -> None:
    manager, exporter = kit.manager(), kit.capturing()
    manager.add_exporter("capturing", exporter)

    async def main(name: str) -> None:
        async with manager.start(ContextState() if isolated else None):
            await asyncio.sleep(0)
            kit.record(name)
            await asyncio.sleep(0)

    for name in ("first", "second", "third"):
        asyncio.run(main(name))
    assert kit.names(exporter) == ["first", "second", "third"]


def loops_in_two_threads_are_heard(kit: Kit) -> None:
    """At once, on one exporter that is not isolated, so that both loops share all of its state."""
    exporter = kit.capturing()
    both = threading.Barrier(2, timeout=10)
    errors: list[BaseException] = []

    def serve(name: str) -> None:
        async def main() -> None:
            manager = kit.manager()
            manager.add_exporter("capturing", exporter)
            async with manager.start():
                await asyncio.to_thread(both.wait)
                for index in range(100):
                    kit.record(f"{name} {index}")
                await asyncio.sleep(0)
                await asyncio.to_thread(both.wait)

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)
            both.abort()

    threads = [threading.Thread(target=serve, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    names = kit.names(exporter)
    assert len(names) == 200
    assert [name for name in names if name.startswith("one")] == [f"one {index}" for index in range(100)]


# -- G17: what is recorded is what was -----------------------------------------------------------------------------


def growing_history_is_recorded_as_it_was(kit: Kit) -> None:
    async def main() -> None:
        manager, exporter = kit.manager(), kit.capturing()
        manager.add_exporter("capturing", exporter)
        history: list[dict[str, str]] = []
        async with manager.start(ContextState()):
            for turn in ("one", "two", "three"):
                history.append({"content": turn})
                kit.record("llm", history)
            history[0]["content"] = "changed"
            await asyncio.sleep(0)
        assert kit.inputs(exporter) == [
            [{"content": "one"}],
            [{"content": "one"}, {"content": "two"}],
            [{"content": "one"}, {"content": "two"}, {"content": "three"}],
        ]

    run_virtual(main())


def input_is_encoded_once(kit: Kit) -> None:
    class Counting:
        encoded = 0

        def __repr__(self) -> str:
            Counting.encoded += 1
            return "<counting>"

    async def main() -> None:
        manager = kit.manager()
        for index in range(5):
            manager.add_exporter(f"capturing {index}", kit.capturing())
        async with manager.start(ContextState()):
            kit.record("llm", [Counting()])
            await asyncio.sleep(0)
        assert Counting.encoded == 1

    run_virtual(main())


# -- Nothing special -----------------------------------------------------------------------------------------------


def runs_where_nothing_goes_wrong(kit: Kit) -> None:
    async def main() -> None:
        manager, exporter = kit.manager(), kit.capturing()
        manager.add_exporter("capturing", exporter)
        for turn in range(3):
            async with manager.get().start(ContextState()):
                kit.record(f"step {turn}")
                await asyncio.sleep(0)
        assert kit.names(exporter) == ["step 0", "step 1", "step 2"]

    run_virtual(main())
