"""ObservabilityRuntime: opens, drains and closes the exporters that the whole process shares."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec

from nat_observability.delivery.delivery import Delivery, DeliveryHealth
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.state import DeliveryState
from nat_observability.delivery.threads.worker import BlockingWorker
from nat_observability.errors import ExporterStartError, RuntimeStateError, StartTimeoutError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import positive_seconds
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger
from nat_observability.metrics import watch
from nat_observability.system.forks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

_log = get_logger()


class RuntimeState(StrEnum):
    """The state of a runtime; a closed one may be opened again."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


_AT_REST = (RuntimeState.NEW, RuntimeState.CLOSED)


class RuntimeHealth(msgspec.Struct, frozen=True):
    """
    The process's exporters at one moment.

    `exporters` is by name; None for one that delivers nothing in the background. `live_managers` are the runs that
    have started and not ended. `required` are the names of the exporters without which the process must not start.
    """

    state: RuntimeState
    live_managers: int
    exporters: dict[str, DeliveryHealth | None]
    required: tuple[str, ...] = ()

    def failing(self, *, max_age: float = 60.0) -> dict[str, str]:
        """
        Return why the exporters that deliver nothing at the moment do so, by name.

        Args:
            max_age: Seconds for which items may wait while the back end takes nothing.
        """
        found = {
            name: _problem(delivery, max_age)
            for name, delivery in self.exporters.items()
            if delivery is not None
        }
        return {name: problem for name, problem in found.items() if problem is not None}

    def ready(self, *, max_age: float = 60.0) -> bool:
        """
        Whether it is open, every required exporter delivers, and of several others at least one does.

        Args:
            max_age: As for `failing`.
        """
        failing = self.failing(max_age=max_age)
        delivering = [name for name, delivery in self.exporters.items() if delivery is not None]
        return (
            self.state is RuntimeState.OPEN
            and not failing.keys() & set(self.required)
            and (not delivering or len(failing) < len(delivering))
        )

    @property
    def ledger(self) -> LedgerSnapshot:
        """The sum of the exporters' ledgers."""
        return total(health.ledger for health in self.exporters.values() if health is not None)


def _problem(delivery: DeliveryHealth, max_age: float) -> str | None:
    waits = delivery.queue_depth or delivery.in_flight
    if delivery.state in (DeliveryState.REOPENING, DeliveryState.FAILED):
        return "it cannot be opened"
    if delivery.breaker is not BreakerState.CLOSED:
        return "its breaker is open"
    if delivery.last_batch_failed:
        return "its last batch failed"
    if waits and delivery.last_success_s is not None and delivery.last_success_s > max_age:
        return f"nothing was delivered for {delivery.last_success_s:.0f} s"
    return None


class RuntimeReport(msgspec.Struct, frozen=True):
    """What a shutdown did: how long it took, each exporter's health by then, and which were abandoned."""

    duration_s: float
    abandoned: tuple[str, ...]
    live_managers: int
    exporters: dict[str, DeliveryHealth | None]


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

    Raises:
        InvalidTimeoutError: A timeout is not a positive, finite number.
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
    ) -> None:
        # A foreign exporter has nothing that the runtime could open.
        self._exporters: dict[str, object] = dict(exporters)
        self._start_timeout = positive_seconds("start_timeout", start_timeout)
        self._shutdown_timeout = positive_seconds("shutdown_timeout", shutdown_timeout)
        self._required = frozenset(required)
        self._on_empty = on_empty
        self._on_state = on_state
        self._state = RuntimeState.NEW
        self._said_not_open = False
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
                raise RuntimeStateError(
                    f"The runtime is {self._state}. Shut it down before it is opened again."
                )
            self._enter(RuntimeState.OPENING)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            if not self._exporters and self._on_empty is not None:
                await _elsewhere(self._on_empty)
            opened = await self._open(began + self._start_timeout)
        except ExporterStartError:
            await self._close(clock() + self._shutdown_timeout)
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
        clock = asyncio.get_running_loop().time
        began = clock()
        abandoned: tuple[str, ...] = ()
        with self._lock:
            draining = self._state is RuntimeState.OPEN
            if draining:
                self._enter(RuntimeState.DRAINING)
        if draining:
            try:
                await self._wait_for_live_managers(self._shutdown_timeout / 2)
            except BaseException:
                self._begin_closing(_monotonic(began + self._shutdown_timeout))
                self._enter(RuntimeState.CLOSED)
                raise
            abandoned = await self._close(began + self._shutdown_timeout)
            _log.info(
                "runtime_drained",
                duration_s=clock() - began,
                abandoned=list(abandoned),
                live_managers=self._live_managers,
            )
        return RuntimeReport(clock() - began, abandoned, self._live_managers, self.health().exporters)

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

    def is_for(self, exporters: Mapping[str, object]) -> bool:
        """Whether these are the exporters that it holds: the same objects, under the same names."""
        mine = self._exporters
        return mine.keys() == exporters.keys() and all(mine[name] is exporters[name] for name in mine)

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

    def run_started(self) -> None:
        """Count one more live manager. From any thread."""
        with self._lock:
            self._live_managers += 1
        if self._state in _AT_REST and not self._said_not_open and self._exporters:
            self.note_not_open(
                "a run",
                "await init_resources() before the first run, and shutdown_resources() after the last",
            )

    def note_not_open(self, feature: str, cure: str) -> None:
        """Log that something needs an open runtime, and that this one is not open; a run does so once. Any thread."""
        self._said_not_open = True
        _log.warning("runtime_not_open", feature=feature, state=str(self._state), cure=cure)

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
            name: exporter.delivery
            for name, exporter in self._exporters.items()
            if isinstance(exporter, BaseExporter) and exporter.delivery is not None
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
            await _all_done(opening.values(), deadline)
            for name, future in opening.items():
                if not future.done():
                    failures[name] = StartTimeoutError(name, self._start_timeout)
                elif (raised := future.exception()) is not None:
                    failures[name] = raised
        finally:
            _let_go(opening.values())
        for name, failure in failures.items():
            # Its lease stays: the delivery keeps trying to open it, and keeps what runs record meanwhile.
            _log.error("exporter_start_failed", exporter=name, error=describe(failure))
        missing = {name: failure for name, failure in failures.items() if name in self._required}
        if missing:
            raise ExporterStartError(missing)
        return sorted(self._leases.keys() - failures.keys())

    async def _wait_for_live_managers(self, timeout: float) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            with self._lock:
                # Checked again: a run may have begun after the last one ended, and before this task woke up.
                if not self._live_managers:
                    return
                self._idle = idle = Future[None]()
            waiting = asyncio.wrap_future(idle)
            try:
                done, _ = await asyncio.wait({waiting}, timeout=max(0.0, deadline - clock()))
            finally:
                _let_go([waiting])
            if not done:
                return

    def _begin_closing(self, until: float | None = None) -> dict[str, Future[None]]:
        """Give every lease back and have what is queued written; return the futures to wait for, by name."""
        deliveries = self._deliveries()
        leases, self._leases = self._leases, {}
        closing: dict[str, Future[None]] = {}
        for lease in leases.values():
            lease.release()
        for name, delivery in deliveries.items():
            # Including one that did not open with the runtime: a run may have opened it since.
            if name in leases or delivery.health().state is DeliveryState.OPEN:
                closing[name] = delivery.close(until)
        return closing

    async def _close(self, deadline: float) -> tuple[str, ...]:
        """Close every exporter; abandon those that have not closed by the deadline, and return their names."""
        begun = self._begin_closing(_monotonic(deadline))
        closing = {name: asyncio.wrap_future(closed) for name, closed in begun.items()}
        try:
            await _all_done(closing.values(), deadline)
            late = tuple(name for name, closed in closing.items() if not closed.done())
        finally:
            _let_go(closing.values())
            self._enter(RuntimeState.CLOSED)
        deliveries = self._deliveries()
        for name in late:
            _log.warning(
                "exporter_abandoned", exporter=name, lost=deliveries[name].abandon(self._shutdown_timeout)
            )
        for delivery in deliveries.values():
            delivery.log_losses()
        return late

    def _start_clean(self) -> None:
        """Forget the parent's runs, in a forked child. The leases survive there: its runs use the same exporters."""
        self._lock = threading.RLock()  # a thread that does not exist in this process may hold the old one
        self._live_managers = 0
        self._idle = None
        if self._state in (RuntimeState.OPENING, RuntimeState.DRAINING):
            # The thread that opened or drained is not in this process to go on.
            self._enter(RuntimeState.OPEN)


async def _elsewhere(call: Callable[[], None]) -> None:
    """Run a blocking call on a thread of its own."""
    try:
        worker = BlockingWorker("nat-observability-runtime")
    except RuntimeError:  # no thread could be started
        call()
        return
    called = worker.submit(call)
    worker.end()
    await asyncio.wrap_future(called)


async def _all_done(futures: Iterable[asyncio.Future[None]], deadline: float) -> None:
    """Wait until all are done, or until the deadline, by the running loop's clock."""
    if futures := list(futures):
        await asyncio.wait(futures, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))


def _monotonic(deadline: float) -> float:
    """Return a deadline by the running loop's clock, which need not be the monotonic one, as one of that."""
    return time.monotonic() + deadline - asyncio.get_running_loop().time()


def _let_go(futures: Iterable[asyncio.Future[None]]) -> None:
    """Stop waiting for them: one that is done later must not look for a loop that has ended."""
    for future in futures:
        future.cancel()


_runtimes: WeakRegistry[ObservabilityRuntime] = WeakRegistry()


def _start_clean_in_child() -> None:
    for runtime in _runtimes.all():
        runtime._start_clean()


at_fork(after_in_child=_start_clean_in_child)
