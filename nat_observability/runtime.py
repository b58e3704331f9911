"""ObservabilityRuntime: opens, drains and closes the exporters that the whole process shares."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from types import MappingProxyType, TracebackType
from typing import Self

from nat_observability.delivery.change import Joining, Leaving, log_end
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.threads.worker import call_elsewhere
from nat_observability.errors import (
    ExporterStartError,
    RuntimeStateError,
    StartTimeoutError,
    UnknownExporterError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.shared_sinks import warn_if_shared, warn_of_shared
from nat_observability.exporter_manager import check_exporter, positive_seconds
from nat_observability.foreign_errors import describe
from nat_observability.health import RuntimeHealth, RuntimeReport, RuntimeState
from nat_observability.logs import get_logger
from nat_observability.metrics import watch
from nat_observability.recording.stray_steps import report_unselected_run
from nat_observability.system.clock import all_done, clock_of, let_go, monotonic_deadline, wait
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

_log = get_logger()
_AT_REST = (RuntimeState.NEW, RuntimeState.CLOSED)
_HOLDING = (RuntimeState.OPENING, RuntimeState.OPEN)


class ObservabilityRuntime:
    """
    Holds the shared exporters open from `init` to `shutdown`; an async context manager does both.

    Both may be called in different event loops.

    Args:
        exporters: By name, as the managers have them.
        start_timeout: Most seconds for all exporters together to open.
        shutdown_timeout: Most seconds for the whole shutdown.
        required: Names of the exporters without which the process must not start.
        on_empty: Called by `init` if there are no exporters, on a thread of its own; it may block.
        on_state: Called with each new state, in the thread that changes it; it must not block or raise.
        on_manager: Likewise, for each new manager.

    Raises:
        InvalidTimeoutError: A timeout is not a positive, finite number.
        InvalidExporterNameError: A name is empty or not a string.
        InvalidExporterError: An object is not an exporter.
    """

    def __init__(
        self,
        exporters: Mapping[str, BaseExporter],
        *,
        start_timeout: float = 10.0,
        shutdown_timeout: float = 120.0,
        required: Collection[str] = (),
        on_empty: Callable[[], None] | None = None,
        on_state: Callable[[RuntimeState], None] | None = None,
        on_manager: Callable[[], None] | None = None,
    ) -> None:
        if not isinstance(exporters, Mapping):
            raise TypeError(f"exporters maps names to exporters; not of type {type(exporters).__name__}.")
        if isinstance(required, str):
            raise TypeError(f"required is a collection of names, not a text. Pass required=[{required!r}].")
        for name, exporter in exporters.items():
            check_exporter(name, exporter)
        self._given: object = exporters
        self._made_with = dict(exporters)
        # Replaced, never changed.
        self._exporters: dict[str, BaseExporter] = dict(exporters)
        self._is_changed = False
        self._leaving: list[Leaving] = []
        self._start_timeout = positive_seconds("start_timeout", start_timeout)
        self._shutdown_timeout = positive_seconds("shutdown_timeout", shutdown_timeout)
        self._required = frozenset(required)
        self._on_empty = on_empty
        self._on_state = on_state
        self._on_manager = on_manager
        self._state = RuntimeState.NEW
        self._said_not_open = False
        self._unselected: str | None = None  # a run that no exporter selects
        self._leases: dict[str, Lease] = {}
        # Reentrant: the garbage collector may end a run while it is held.
        self._lock = threading.RLock()
        self._live_managers = 0
        self._idle: Future[None] | None = None
        _runtimes.add(self)

    async def init(self) -> Self:
        """
        Open every exporter, concurrently.

        One that fails or takes too long is logged, and tried again in the background; what runs record for it meanwhile
        waits in its queue.

        A cancellation ends the waiting at once; what had been opened then closes in the background.

        Raises:
            ExporterStartError: A required exporter could not be opened; those that were are closed again.
            RuntimeStateError: The runtime is open already.
        """
        with self._lock:
            if self._state not in _AT_REST:
                problem = f"The runtime is {self._state}. Shut it down before it is opened again."
                raise RuntimeStateError(problem)
            self._enter(RuntimeState.OPENING)
        clock = clock_of(asyncio.get_running_loop())
        began = clock()
        try:
            if not self._exporters and self._on_empty is not None:
                await call_elsewhere(self._on_empty)
            warn_of_shared(self._exporters)
            opened = await self._open(began + self._start_timeout)
        except ExporterStartError:
            await log_end(*await self._close(clock() + self._shutdown_timeout))
            raise
        except BaseException:
            self._begin_closing()
            self._enter(RuntimeState.CLOSED)
            raise
        self._enter(RuntimeState.OPEN)
        watch(self._deliveries().values())
        _log.info("runtime_opened", exporters=opened, duration_s=clock() - began)
        return self

    async def shutdown(self) -> RuntimeReport:
        """
        Wait for live managers, write what is queued, close every exporter; all within the shutdown timeout.

        Live managers get half of the time; what they record after that is dropped and counted. What is stuck at
        the deadline is abandoned, named in a warning and in the report. A runtime that is not open reports so.
        A cancellation ends the waiting at once; the exporters then finish in the background.
        """
        clock = clock_of(asyncio.get_running_loop())
        began = clock()
        lost: list[tuple[str, int]] = []
        with self._lock:
            draining = self._state is RuntimeState.OPEN
            if draining:
                self._enter(RuntimeState.DRAINING)
        if draining:
            try:
                await self._wait_for_live_managers(self._shutdown_timeout / 2)
            except BaseException:
                self._begin_closing(monotonic_deadline(began + self._shutdown_timeout))
                self._enter(RuntimeState.CLOSED)
                raise
            lost, closed = await self._close(began + self._shutdown_timeout)
            await log_end(lost, closed, lambda: self._log_end(clock() - began, [name for name, _ in lost]))
        names, exporters = tuple(name for name, _ in lost), self.health().exporters
        return RuntimeReport(clock() - began, names, self._live_managers, exporters)

    def _log_end(self, seconds: float, abandoned: list[str]) -> None:
        _log.info(
            "runtime_drained", duration_s=seconds, abandoned=abandoned, live_managers=self._live_managers
        )
        if self._unselected is not None and not self.health().ledger.accepted:
            report_unselected_run(self._unselected)

    def begin_shutdown(self) -> None:
        """
        Have every exporter write what is queued and close in the background, and wait for nothing.

        For a shutdown that was cancelled. Does nothing if the runtime is not open. From any thread.
        """
        with self._lock:
            if self._state is not RuntimeState.OPEN:
                return
            self._enter(RuntimeState.DRAINING)
        self._begin_closing()
        self._enter(RuntimeState.CLOSED)

    def was_made_with(self, exporters: Mapping[str, object]) -> bool:
        """Whether it was made with these exporters: the same objects, under the same names."""
        mine = self._made_with
        return mine.keys() == exporters.keys() and all(mine[name] is exporters[name] for name in mine)

    def take_changes_of(self, former: ObservabilityRuntime) -> None:
        """Add and remove the exporters that were added to the runtime before, and removed from it."""
        if not former._is_changed:
            return
        before, now = former._made_with, former._exporters
        with self._lock:
            added = {name: each for name, each in now.items() if before.get(name) is not each}
            kept = {name: each for name, each in self._exporters.items() if name in now or name not in before}
            self._exporters = {**kept, **added}
            self._is_changed = True

    @property
    def state(self) -> RuntimeState:
        """The state of the runtime. From any thread; costs nothing."""
        return self._state

    def health(self) -> RuntimeHealth:
        """Return the health of the exporters now. From any thread."""
        deliveries = self._deliveries()
        exporters = {
            name: deliveries[name].health() if name in deliveries else None for name in self._exporters
        }
        return RuntimeHealth(self._state, self._live_managers, exporters, tuple(sorted(self._required)))

    @property
    def exporters(self) -> Mapping[str, BaseExporter]:
        """The exporters by name, as they are now; a view that never changes. From any thread."""
        return MappingProxyType(self._exporters)

    def registry_for(self, registry: dict[str, BaseExporter]) -> dict[str, BaseExporter]:
        """Return what a new manager is to use instead of the exporters that this runtime was made with."""
        if self._on_manager is not None:
            self._on_manager()
        return self._exporters if self._is_changed and registry is self._given else registry

    def add_exporter(self, name: str, exporter: BaseExporter) -> Joining:
        """
        Add an exporter, for every manager that the container makes from now on. From any thread.

        If the runtime is open, it is opened now, in the background; await what this returns to learn whether it is open
        within the start timeout. One that does not open is logged, and tried again. One of the same name is replaced,
        with a warning, and leaves as by `remove_exporter`. After the shutdown it is opened with its first run, or when
        the runtime is opened again, which a warning says.

        Raises:
            InvalidExporterNameError: The name is empty or not a string.
            InvalidExporterError: The object is not an exporter.
        """
        check_exporter(name, exporter)
        with self._lock:
            former = self._exporters.get(name)
            if former is exporter:
                return Joining(name, self._leases.get(name), self._start_timeout)
            self._exporters = {**self._exporters, name: exporter}
            self._is_changed = True
            former_lease = self._leases.pop(name, None)
            opens = self._state in _HOLDING
        if self._state is RuntimeState.CLOSED:
            self.note_not_open(f"Exporter {name!r}", "add it while the runtime is open, or open that again")
        lease: Lease | None = None
        delivery = _delivery_of(exporter)
        if opens and delivery is not None:
            # Not under the lock: taking a lease takes the lock of the deliveries, under which a run may end.
            lease = delivery.lease(keep=True)
            watch([delivery])
            with self._lock:
                wanted = self._state in _HOLDING and self._exporters.get(name) is exporter
                if wanted:
                    self._leases[name] = lease
            if not wanted:
                lease.release()
        if former is not None:
            self._leave(name, former, former_lease)
            _log.warning("exporter_replaced", exporter=name)
        warn_if_shared(name, exporter, self._exporters)
        return Joining(name, lease, self._start_timeout)

    def remove_exporter(self, name: str) -> Leaving:
        """
        Remove an exporter, for every manager that the container makes from now on. From any thread.

        Runs that it was selected for go on with it to their end; then it writes what is queued, and is closed. One that
        took part in every run takes no more of the runs under way, and counts what it does not take as dropped. Await
        what this returns to wait for all that, at most for the shutdown timeout.

        Raises:
            UnknownExporterError: A ValueError; no exporter has that name.
        """
        with self._lock:
            exporters = dict(self._exporters)
            former = exporters.pop(name, None)
            if former is None:
                raise UnknownExporterError(name, exporters)
            self._exporters = exporters
            self._is_changed = True
            lease = self._leases.pop(name, None)
        return self._leave(name, former, lease)

    def _leave(self, name: str, former: BaseExporter, lease: Lease | None) -> Leaving:
        delivery = _delivery_of(former)
        if delivery in self._deliveries().values():
            delivery = None  # another exporter uses it too
        leaving = Leaving(name, lease, delivery, self._shutdown_timeout)
        with self._lock:
            at_work = [each for each in self._leaving if each.delivery is not None and each.delivery.at_work]
            self._leaving = [*at_work, leaving]
        return leaving

    def run_started(self) -> None:
        """Count one more live manager. From any thread."""
        with self._lock:
            self._live_managers += 1
        if self._state in _AT_REST and not self._said_not_open and (self._exporters or self._on_empty):
            self.note_not_open(
                "a run",
                "await init_resources() before the first run and shutdown_resources() after the last, or without an "
                "event loop use ProcessScope(container, 'my program')",
            )

    def note_not_open(self, feature: str, cure: str) -> None:
        """Log that something needs an open runtime, and that this one is not open; a run does so once. Any thread."""
        self._said_not_open = True
        _log.warning("runtime_not_open", feature=feature, state=str(self._state), cure=cure)

    def run_left_out(self, run_id: str) -> None:
        """Note that no exporter selects a run. From any thread."""
        self._unselected = run_id

    def run_ended(self) -> None:
        """Count one live manager fewer. From any thread."""
        with self._lock:
            idle = None
            # In a forked child a run of the parent's may end, which is not counted here.
            if self._live_managers:
                self._live_managers -= 1
            if not self._live_managers:
                idle, self._idle = self._idle, None
        if idle is not None and idle.set_running_or_notify_cancel():
            idle.set_result(None)

    async def __aenter__(self) -> Self:
        return await self.init()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    def _enter(self, state: RuntimeState) -> None:
        self._state = state
        if self._on_state is not None:
            self._on_state(state)

    def _deliveries(self) -> dict[str, Delivery]:
        return {
            name: delivery
            for name, exporter in self._exporters.items()
            if (delivery := _delivery_of(exporter)) is not None
        }

    async def _open(self, deadline: float) -> list[str]:
        """Open every exporter; return the names of those that are open."""
        failures: dict[str, BaseException] = {}
        opening: dict[str, asyncio.Future[None]] = {}
        try:
            for name, delivery in self._deliveries().items():
                lease = self._leases[name] = delivery.lease(keep=True)
                if lease.opening is not None:
                    opening[name] = asyncio.wrap_future(lease.opening)
            await all_done(opening.values(), deadline)
            for name, future in opening.items():
                if not future.done():
                    failures[name] = StartTimeoutError(name, self._start_timeout)
                elif (raised := future.exception()) is not None:
                    failures[name] = raised
        finally:
            let_go(opening.values())
        for name, failure in failures.items():
            # Its lease stays: the delivery keeps trying to open it, and keeps what runs record meanwhile.
            _log.error("exporter_start_failed", exporter=name, error=describe(failure))
        missing = {name: failure for name, failure in failures.items() if name in self._required}
        if missing:
            raise ExporterStartError(missing)
        return sorted(self._leases.keys() - failures.keys())

    async def _wait_for_live_managers(self, timeout: float) -> None:
        clock = clock_of(asyncio.get_running_loop())
        deadline = clock() + timeout
        while True:
            with self._lock:
                # Checked again: a run may have begun after the last one ended, and before this task woke up.
                if not self._live_managers:
                    return
                self._idle = idle = Future[None]()
            waiting = asyncio.wrap_future(idle)
            try:
                done, _ = await wait({waiting}, max(0.0, deadline - clock()))
            finally:
                let_go([waiting])
            if not done:
                return

    def _begin_closing(self, until: float | None = None) -> list[tuple[str, Delivery, Future[None]]]:
        """Give every lease back and have what is queued written; return the names, and the futures to wait for."""
        deliveries = self._deliveries()
        with self._lock:
            leases, self._leases = self._leases, {}
            left, self._leaving = self._leaving, []
        closing = [
            (name, delivery)
            for name, delivery in deliveries.items()
            # Including one that did not open with the runtime: a run may have opened it since.
            if name in leases or delivery.at_work
        ]
        closing += [
            (each.name, each.delivery) for each in left if each.delivery is not None and each.delivery.at_work
        ]
        begun = [(name, delivery, delivery.close(until)) for name, delivery in closing]
        for lease in leases.values():
            lease.release()  # not before: one that is not open, and that nothing holds, must know how much time it has
        return begun

    async def _close(self, deadline: float) -> tuple[list[tuple[str, int]], set[Delivery]]:
        """Close every exporter; return those that were abandoned at the deadline, with what they lost, and all."""
        begun = self._begin_closing(monotonic_deadline(deadline))
        closing = [(name, delivery, asyncio.wrap_future(closed)) for name, delivery, closed in begun]
        try:
            await all_done([closed for _, _, closed in closing], deadline)
            late = [(name, delivery) for name, delivery, closed in closing if not closed.done()]
        finally:
            let_go([closed for _, _, closed in closing])
            self._enter(RuntimeState.CLOSED)
        lost = [(name, delivery.abandon(self._shutdown_timeout)) for name, delivery in late]
        return lost, {*self._deliveries().values(), *(delivery for _, delivery, _ in closing)}

    def _start_clean(self) -> None:
        """Forget the parent's runs, in a forked child. The leases survive there: its runs use the same exporters."""
        self._lock = threading.RLock()  # a thread that does not exist in this process may hold the old one
        self._live_managers = 0
        self._idle = None
        if self._state in (RuntimeState.OPENING, RuntimeState.DRAINING):
            # The thread that opened or drained is not in this process to go on.
            self._enter(RuntimeState.OPEN)


def _delivery_of(exporter: object) -> Delivery | None:
    # A foreign exporter has nothing that the runtime could open.
    return exporter.delivery if isinstance(exporter, BaseExporter) else None


_runtimes: WeakRegistry[ObservabilityRuntime] = WeakRegistry()


def _start_clean_in_child() -> None:
    for runtime in _runtimes.all():
        runtime._start_clean()


at_fork(after_in_child=_start_clean_in_child)
