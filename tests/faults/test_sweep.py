"""G3 for a whole process: a fault at every await of init, start, body, flush, stop and shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    LedgerSnapshot,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.delivery.limits import SpoolMode
from nat_observability.sinks import FileSink, SqliteSink
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter, wait_until
from tests.delivery.backends import in_spool
from tests.faults.injection import Inject, Injected, at_once, soon

SLOW = [pytest.mark.slow]
_TOO_LONG = 30  # seconds, far more than everything here takes; a program that waits forever fails by name


class InjectedError(Exception):
    """Raised at an await of the program."""


class Fault(NamedTuple):
    """What happens at an await, and what the caller should see of it."""

    inject: Inject
    arrives: type[BaseException]


def _raise(error: type[BaseException]) -> Inject:
    return lambda task: error()


def _time_out(task: asyncio.Task[Any]) -> None:
    _timeouts[task].reschedule(task.get_loop().time())


_timeouts: dict[asyncio.Task[Any], asyncio.Timeout] = {}

FAULTS = {
    "cancelled at once": Fault(at_once, asyncio.CancelledError),
    "cancelled soon": Fault(soon, asyncio.CancelledError),
    "timed out": Fault(_time_out, TimeoutError),
    "interrupted": Fault(_raise(KeyboardInterrupt), KeyboardInterrupt),
    "raised": Fault(_raise(InjectedError), InjectedError),
}


class Pausing:
    """A sink that opens, writes and closes on the loop, and takes a moment for each: none of it is over at once."""

    async def open(self) -> None:
        await asyncio.sleep(0.001)

    async def write(self, batch: Batch) -> None:
        await asyncio.sleep(0.001)

    async def close(self) -> None:
        await asyncio.sleep(0.001)


class Process:
    """A process's exporters, its runtime and one manager, on files of its own."""

    def __init__(self, directory: Path, exporters: int, spool: SpoolMode) -> None:
        self.file = directory / "spans.jsonl"
        self.spools = {name: directory / f"spool-{name}" for name in ("file", "pausing", "sqlite")}
        sinks: dict[str, Any] = {
            "file": FileSink(self.file),
            "pausing": Pausing(),
            "sqlite": SqliteSink(directory / "spans.sqlite3", synchronous="off"),
        }
        self.exporters: dict[str, SpanExporter] = {}
        for name in list(sinks)[:exporters]:
            limits = DeliveryLimits(
                batch_age=0.001,
                spool=spool,
                spool_path=self.spools[name] if spool != "off" else None,
            )
            self.exporters[name] = SpanExporter(sinks[name], name=name, limits=limits)
        self.runtime = ObservabilityRuntime(self.exporters, start_timeout=5, shutdown_timeout=5)
        self.manager = ExporterManager(5, start_timeout=5)
        for name, exporter in self.exporters.items():
            self.manager.add_exporter(name, exporter)

    @property
    def ledgers(self) -> Mapping[str, LedgerSnapshot]:
        """What became of everything, by exporter."""
        return {name: exporter.delivery.health().ledger for name, exporter in self.exporters.items()}


async def one_life(
    process: Process, state: ContextState | None, *, runtime: bool, used: list[ContextState]
) -> None:
    """Open, run, record, flush, stop and shut down."""
    async with AsyncExitStack() as stack:
        if runtime:
            await stack.enter_async_context(process.runtime)
        async with process.manager.start(state):
            current = ContextState.current()
            assert current is not None
            used.append(current)
            with step("tool", "before"):
                await asyncio.sleep(0)
            await process.manager.flush(5)
            with step("tool", "after"):
                pass
        assert ContextState.current() is None


async def _with_a_timeout(program: Any) -> None:
    async with asyncio.timeout(None) as timeout:
        task = asyncio.current_task()
        assert task is not None
        _timeouts[task] = timeout
        try:
            await program
        finally:
            del _timeouts[task]


class Sweep:
    """Runs lives that meet one fault each, at the first await, at the second, and so on to the last."""

    def __init__(
        self, directory: Path, *, exporters: int, isolated: bool, spool: SpoolMode, runtime: bool
    ) -> None:
        self._directory = directory
        self._exporters, self._isolated, self._spool, self._runtime = exporters, isolated, spool, runtime
        self._numbers = count(1)
        self.places: set[str] = set()

    def run(self, fault: Fault) -> int:
        """Meet this fault at every await; return how many there were."""
        for nth in count(1):
            if not self._one(fault, nth):
                return nth - 1
        raise AssertionError("unreachable")

    def _one(self, fault: Fault, nth: int) -> bool:
        directory = self._directory / str(next(self._numbers))
        directory.mkdir()
        process = Process(directory, self._exporters, self._spool)
        state = ContextState() if self._isolated else None
        used = [state] if state is not None else []
        before = _resources()
        injected: list[Injected] = []

        async def main() -> None:
            program = Injected(
                one_life(process, state, runtime=self._runtime, used=used), range(nth, nth + 1), fault.inject
            )
            injected.append(program)
            raised = await _outcome(_with_a_timeout(program.run()))
            where = f"at await {nth} ({program.place or 'the program'})"
            if program.injected:
                assert type(raised) is fault.arrives, f"{where}: the caller got {raised!r}"
            else:
                assert raised is None, raised
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"{where}: tasks are left: {left}"
            for each in used:
                assert not each.stream.listeners, f"{where}: a subscription is left"
            assert ContextState.current() is None

        asyncio.run(main())
        [program] = injected
        where = f"at await {nth} ({program.place or 'the program'})"
        if program.injected:
            self.places.add(program.place)
        self._check_nothing_left(before, where)
        self._check_ledgers(process, where)
        self._check_next_life(process, before, where)
        return bool(program.injected)

    def _check_nothing_left(self, before: Mapping[str, int], where: str) -> None:
        # What a fault has cut short the exporters finish in the background.
        with suppress(TimeoutError):
            wait_until(lambda: _resources() == before, timeout=5)
        assert _resources() == before, f"{where}: left open: {_resources()}, {threading.enumerate()}"

    def _check_ledgers(self, process: Process, where: str) -> None:
        for name, ledger in process.ledgers.items():
            assert ledger.adds_up, f"{where}: {name}: {ledger}"
            on_disk = 0 if self._spool == "off" else len(in_spool(process.spools[name]))
            assert ledger.pending == on_disk, f"{where}: {name}: {ledger}, and {on_disk} in the spool"
            if name == "file":
                assert len(_lines(process.file)) == ledger.delivered, f"{where}: {ledger}"
        assert process.manager.report.ledger.adds_up, where

    def _check_next_life(self, process: Process, before: Mapping[str, int], where: str) -> None:
        async def main() -> None:
            async with asyncio.timeout(_TOO_LONG):
                await one_life(process, ContextState(), runtime=self._runtime, used=[])

        heard = CapturingExporter()
        process.manager.add_exporter("heard", heard)
        asyncio.run(main())
        self._check_nothing_left(before, f"{where}, after the next life")
        assert [each.name for each in heard.steps] == ["before", "before", "after", "after"], where
        for name, ledger in process.ledgers.items():
            assert ledger.adds_up, f"{where}: {name}: {ledger}"
            assert not ledger.pending, f"{where}: {name}: {ledger}"
        if "file" in process.exporters:
            names = [line["name"] for line in _lines(process.file)]
            assert names[-2:] == ["before", "after"], f"{where}: {names}"


async def _outcome(program: Any) -> BaseException | None:
    """Run `program` in a task of its own and return what it raised."""
    # An interruption that leaves a task ends the event loop; caught inside the task it is looked at as all others are.
    caught: list[BaseException] = []

    async def guarded() -> None:
        try:
            await program
        except BaseException as error:  # noqa: BLE001  whatever reaches the caller
            caught.append(error)
            task = asyncio.current_task()
            assert task is not None
            if not isinstance(error, asyncio.CancelledError):
                assert not task.cancelling(), "the task is left as one that is being cancelled"

    done, _ = await asyncio.wait({asyncio.create_task(guarded())}, timeout=_TOO_LONG)
    assert done, "it hangs"
    return caught[0] if caught else None


def _resources() -> dict[str, int]:
    """Count the threads, and the files and sockets that are open, by what they are."""
    found = {"threads": threading.active_count()}
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith(("socket:", "/")) and not target.startswith(("/dev/", "/proc/")):
                found[target.partition(":")[0]] = found.get(target.partition(":")[0], 0) + 1
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


CASES = {
    f"{exporters} exporters, {'isolated' if isolated else 'shared'}, spool {spool}, "
    f"{'runtime' if runtime else 'no runtime'}": {
        "exporters": exporters,
        "isolated": isolated,
        "spool": spool,
        "runtime": runtime,
    }
    for exporters in (0, 1, 3)
    for isolated in (True, False)
    for spool in ("off", "always")
    for runtime in (True, False)
    if exporters or spool == "off"
}


# Where init, start, body, flush, stop and shutdown wait. A place that no sweep comes to any more is a change to look
# at: either the code no longer waits there, or the sweep no longer reaches it.
PLACES = {
    "",  # the body itself
    "ExporterManager.flush > RunContext.flush > wait",
    "ObservabilityRuntime.__aenter__ > ObservabilityRuntime.init > ObservabilityRuntime._open > all_done > wait",
    "ObservabilityRuntime.__aexit__ > ObservabilityRuntime.shutdown > ObservabilityRuntime._close > all_done > wait",
    "RunContext.__aenter__ > Lifecycle.started",
    "RunContext.__aenter__ > Lifecycle.started > Lifecycle._wait",
    "RunContext.__aexit__ > RunContext.stop > RunContext._end > Lifecycle.stopped",
    "RunContext.__aexit__ > RunContext.stop > RunContext._end > Lifecycle.stopped > Lifecycle._wait",
    "RunContext.__aexit__ > RunContext.stop > RunContext._end > RunContext._wait_for > SpanGroup.wait_for_end",
}


# The usual tier has each fault with the fullest cases, and each case with one fault.
_FULLEST = [case for case in CASES if case.startswith("3 exporters, isolated, spool always")]
SWEPT = [
    pytest.param(
        settings,
        fault,
        id=f"{case}-{name}",
        marks=[] if case in _FULLEST or row % len(FAULTS) == column else SLOW,
    )
    for row, (case, settings) in enumerate(CASES.items())
    for column, (name, fault) in enumerate(FAULTS.items())
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("case", "fault"), SWEPT)
def test_g3_a_fault_at_every_await(tmp_path: Path, case: Mapping[str, Any], fault: Fault) -> None:
    """It reaches the caller, nothing is left open, the ledger adds up, and the same manager starts again."""
    # At the least: the wait of the step, and the last look that finds no further one.
    assert Sweep(tmp_path, **case).run(fault) >= 1


@pytest.mark.timeout(120)
def test_the_sweep_reaches_every_place(tmp_path: Path) -> None:
    """The places where a life waits are exactly those listed, so that none drops out of the sweep unnoticed."""
    places: set[str] = set()
    # If another thread is quick, there is nothing to wait for: that happens, but not every time.
    for attempt in range(10):
        for runtime in (True, False):
            directory = tmp_path / f"{attempt} {runtime}"
            directory.mkdir()
            sweep = Sweep(directory, exporters=3, isolated=True, spool="always", runtime=runtime)
            sweep.run(FAULTS["cancelled at once"])
            places |= sweep.places
        if places >= PLACES:
            break
    assert places == PLACES
