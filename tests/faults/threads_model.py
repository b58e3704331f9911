"""Random programs with real threads: what the system refuses, what blocks, and what forks, against a small model."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    LedgerSnapshot,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.errors import PermanentWriteError
from nat_observability.events import Item
from nat_observability.sinks import FileSink

_MODES = ("works", "fails", "refuses", "blocks", "blocks at open")
_NAMES = ("loop", "thread", "spooled")
_FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
CHILDREN = "children" in sys.argv  # which take a second each
_begin_thread = threading.Thread.start


class Gate:
    """What a sink does at the moment, for one that is called on an event loop, and for one on a thread."""

    def __init__(self) -> None:
        self.mode = "works"
        self.opened = threading.Event()
        self.taken = 0

    def let_go(self) -> None:
        """Let everything that is blocked go on."""
        self.opened.set()
        self.opened = threading.Event()

    def pass_open(self) -> None:
        if self.mode == "blocks at open":
            self.opened.wait(20)

    def pass_write(self, batch: Sequence[Item]) -> None:
        if self.mode == "blocks":
            self.opened.wait(20)
        if self.mode == "fails":
            raise ConnectionError("down")
        if self.mode == "refuses":
            raise PermanentWriteError("400")
        self.taken += len(batch)


class LoopSink:
    """One whose blocking stalls the event loop that it is called on."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def open(self) -> None:
        self._gate.pass_open()

    async def write(self, batch: Sequence[Item]) -> None:
        self._gate.pass_write(batch)

    async def close(self) -> None:
        """Nothing to close."""


class ThreadSink:
    """One that opens a file, which the system may refuse."""

    def __init__(self, gate: Gate, path: Path) -> None:
        self._gate = gate
        self._file = FileSink(path)

    def open(self) -> None:
        self._gate.pass_open()
        self._file.open()

    def write(self, batch: Sequence[Item]) -> None:
        self._gate.pass_write(batch)
        self._file.write(batch)

    def close(self) -> None:
        self._file.close()


class Refusals:
    """Threads and file handles that the system refuses, until it is told otherwise."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._fillers: list[int] = []

    def threads(self) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        setattr(threading.Thread, "start", start)  # noqa: B010  what a type checker does not see

    def handles(self) -> None:
        if self._fillers:
            return
        used = {int(name) for name in os.listdir("/proc/self/fd")}
        self._fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(max(used) + 2 - len(used))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(used | set(self._fillers)) + 1, self._limits[1]))

    def nothing(self) -> None:
        setattr(threading.Thread, "start", _begin_thread)  # noqa: B010
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        fillers, self._fillers = self._fillers, []
        for each in fillers:
            os.close(each)


class Threads(RuleBasedStateMachine):
    """The program: one registry of exporters, and a runtime that is open at times."""

    programs = 0

    def __init__(self) -> None:
        super().__init__()
        Threads.programs += 1
        self.folder = folder = _FOLDER / f"{os.getpid()}-{Threads.programs}"
        folder.mkdir()
        self.gates = {name: Gate() for name in _NAMES}
        limits: dict[str, Any] = {
            "batch_age": 0.001,
            "batch_items": 5,
            "retry_initial": 0.001,
            "retry_max": 0.005,
            "breaker_open_for": 0.005,
            "open_timeout": 0.5,
            "write_timeout": 5.0,
            "drain_timeout": 5.0,
        }
        sinks: dict[str, Any] = {
            "loop": LoopSink(self.gates["loop"]),
            "thread": ThreadSink(self.gates["thread"], folder / "thread.jsonl"),
            "spooled": LoopSink(self.gates["spooled"]),
        }
        spool: dict[str, Any] = {"spool": "always", "spool_path": folder / "spool"}
        self.exporters = {
            name: SpanExporter(
                sink,
                name=name,
                limits=DeliveryLimits(**limits, **(spool if name == "spooled" else {})),
            )
            for name, sink in sinks.items()
        }
        self.manager = ExporterManager(1, start_timeout=0.05)
        for name, exporter in self.exporters.items():
            self.manager.add_exporter(name, exporter)
        self.refusals = Refusals()
        self.runtime: ObservabilityRuntime | None = None
        self.recorded = self.children = 0
        self.loop = asyncio.new_event_loop()

    # What a program does:

    @rule(kind=st.sampled_from(["threads", "handles", "nothing"]))
    def refuse(self, kind: str) -> None:
        getattr(self.refusals, kind)()

    @rule(name=st.sampled_from(_NAMES), mode=st.sampled_from(_MODES))
    def back_end(self, name: str, mode: str) -> None:
        self.gates[name].mode = mode
        self.gates[name].let_go()

    @rule()
    def open_runtime(self) -> None:
        if self.runtime is None:
            self.runtime = ObservabilityRuntime(self.exporters, start_timeout=0.05, shutdown_timeout=0.1)
            self.loop.run_until_complete(self.runtime.init())

    @rule()
    def close_runtime(self) -> None:
        if self.runtime is not None:
            self.loop.run_until_complete(self.runtime.shutdown())
            self.runtime = None

    @rule(count=st.integers(1, 12))
    def run(self, count: int) -> None:
        """G1 and G4: whatever the system refuses and whatever blocks, a run begins, does its work and ends."""

        async def main() -> None:
            async with self.manager.get().start(ContextState()):
                for number in range(count):
                    with step("tool", str(number)):
                        pass

        self.loop.run_until_complete(main())
        self.recorded += count

    @rule()
    def fork(self) -> None:
        """G15: a forked child delivers its own runs, and nothing else."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                self._live_as_child()
                status = 0
            except BaseException:  # noqa: BLE001  a child that fails says so and ends
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    @precondition(lambda self: CHILDREN)
    @rule(method=st.sampled_from(multiprocessing.get_all_start_methods()))
    def child(self, method: str) -> None:
        """G6: a child of `multiprocessing` delivers, whatever blocks and whatever was refused in its parent."""
        self.refusals.nothing()
        self.children += 1
        _check_child(method, self.folder / f"child-{self.children}.jsonl")

    def _live_as_child(self) -> None:
        self.refusals.nothing()
        for gate in self.gates.values():
            gate.mode, gate.opened, gate.taken = "works", threading.Event(), 0
        loop = asyncio.new_event_loop()

        async def main() -> None:
            own = self.manager.get()
            own.remove_exporter("spooled")  # it would take over, and deliver, what the parent has let go of
            async with own.start(ContextState()):
                with step("tool", "of the child"):
                    pass
                await own.flush(10)

        loop.run_until_complete(main())
        ledgers = self.ledgers()
        for name in ("loop", "thread"):
            assert (ledgers[name].accepted, ledgers[name].delivered) == (1, 1), (name, ledgers)

    def ledgers(self) -> dict[str, LedgerSnapshot]:
        return {name: exporter.delivery.health().ledger for name, exporter in self.exporters.items()}

    @invariant()
    def g5_every_ledger_adds_up(self) -> None:
        for name, ledger in self.ledgers().items():
            assert ledger.adds_up, (name, ledger)
            self._check_accepted(name, ledger)

    def _check_accepted(self, name: str, ledger: LedgerSnapshot) -> None:
        # What was given up while it was being saved, and was saved all the same, is accepted once more by its reader.
        more = sum(ledger.dropped.values()) if name == "spooled" else 0
        assert 0 <= ledger.accepted - self.recorded <= more, (name, ledger, self.recorded)

    def teardown(self) -> None:
        """G20: in the end all goes on, and what was recorded was delivered, or is in the ledger with a reason."""
        self.refusals.nothing()
        for gate in self.gates.values():
            gate.mode = "works"
            gate.let_go()
        self.close_runtime()
        for exporter in self.exporters.values():
            exporter.delivery.closed().result(20)
        self.run(1)  # also what the spool has kept
        for exporter in self.exporters.values():
            exporter.delivery.closed().result(20)
        for name, ledger in self.ledgers().items():
            assert ledger.adds_up, (name, ledger)
            assert not ledger.pending, (name, ledger)
            self._check_accepted(name, ledger)
            assert ledger.delivered <= self.gates[name].taken, (name, ledger, self.gates[name].taken)
            assert ledger.dropped.keys() <= {"not_open", "shutdown_timeout", "closed"}, (name, ledger)
        self.loop.close()
        _wait_for(lambda: not any(each.name.startswith("nat-obs") for each in threading.enumerate()))


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.001)


def _child_records(path: str) -> None:
    """What a child of `multiprocessing` does: record one run, and end without waiting for anything."""
    exporters = {"own": SpanExporter(FileSink(path), name="own")}

    async def main() -> None:
        async with ExporterManager.from_exporters(exporters).start(ContextState()):
            with step("tool", "of the child"):
                pass

    asyncio.run(main())


def children_of_every_method() -> None:
    """Each start method's children deliver, while this process has exporters at work too."""
    for method in multiprocessing.get_all_start_methods():
        _check_child(method, _FOLDER / f"{method}.jsonl")


def _check_child(method: str, path: Path) -> None:
    context: Any = multiprocessing.get_context(method)
    child = context.Process(target=_child_records, args=(str(path),))
    child.start()
    child.join(60)
    assert child.exitcode == 0, (method, child.exitcode)
    assert path.read_text().count("of the child") == 1, method


def main() -> None:
    """Run so many programs of so many steps: `threads_model FOLDER PROGRAMS STEPS [children]`."""
    logging.getLogger("nat_observability").addHandler(logging.NullHandler())
    logging.getLogger("nat_observability").propagate = False
    with contextlib.suppress(ImportError):
        import nat_observability.delivery.spool_client  # noqa: F401  not first when handles are refused
    run_state_machine_as_test(
        Threads,
        settings=settings(
            max_examples=int(sys.argv[2]),
            stateful_step_count=int(sys.argv[3]),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(f"{Threads.programs} programs\n")


if __name__ == "__main__":
    main()
