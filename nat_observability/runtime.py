"""ObservabilityRuntime: opens, drains and closes the exporters that the whole process shares."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec

from nat_observability.delivery.delivery import Delivery, DeliveryHealth, Lease
from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.errors import ExporterStartError, RuntimeStateError, StartTimeoutError, describe
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import positive_seconds
from nat_observability.logs import get_logger
from nat_observability.metrics import watch

_log = get_logger()


class RuntimeState(StrEnum):
    """Where a runtime is in its life; a closed one may be opened again."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class RuntimeHealth(msgspec.Struct, frozen=True):
    """
    The process's exporters at one moment.

    `exporters` is by name; None for one that delivers nothing in the background. `live_managers` are the runs that
    have started and not ended.
    """

    state: RuntimeState
    live_managers: int
    exporters: dict[str, DeliveryHealth | None]

    @property
    def ledger(self) -> LedgerSnapshot:
        """The sum of the exporters' ledgers."""
        return total(health.ledger for health in self.exporters.values() if health is not None)


class RuntimeReport(msgspec.Struct, frozen=True):
    """What a shutdown did: how long it took, what each exporter had done by then, and which were abandoned."""

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
    ) -> None:
        # A foreign exporter, which is none of ours, has nothing that the runtime could open.
        self._exporters: dict[str, object] = dict(exporters)
        self._start_timeout = positive_seconds("start_timeout", start_timeout)
        self._shutdown_timeout = positive_seconds("shutdown_timeout", shutdown_timeout)
        self._required = frozenset(required)
        self._state = RuntimeState.NEW
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._live_managers = 0
        self._idle: Future[None] | None = None

    async def init(self) -> Self:
        """
        Open every exporter, concurrently. One that fails or takes too long is logged and left out.

        Raises:
            ExporterStartError: A required exporter could not be opened; those that were are closed again.
            RuntimeStateError: The runtime is open already.
        """
        if self._state not in (RuntimeState.NEW, RuntimeState.CLOSED):
            raise RuntimeStateError(f"The runtime is {self._state}. Shut it down before it is opened again.")
        self._state = RuntimeState.OPENING
        began = time.monotonic()
        try:
            await self._open(began + self._start_timeout)
        except BaseException:
            await self._close(time.monotonic() + self._shutdown_timeout)
            raise
        self._state = RuntimeState.OPEN
        watch(self._deliveries().values())
        _log.info("runtime_opened", exporters=sorted(self._leases), duration_s=time.monotonic() - began)
        return self

    async def shutdown(self) -> RuntimeReport:
        """
        Wait for live managers, write what is queued, close every exporter; all within the shutdown timeout.

        Live managers get half of the time; what they record after that is dropped and counted. What is stuck at
        the deadline is abandoned, named in a warning and in the report. A runtime that is not open reports that.
        A cancellation ends the waiting at once; the exporters then finish in the background.
        """
        began = time.monotonic()
        abandoned: tuple[str, ...] = ()
        if self._state is RuntimeState.OPEN:
            self._state = RuntimeState.DRAINING
            try:
                await self._wait_for_live_managers(self._shutdown_timeout / 2)
            finally:
                abandoned = await self._close(began + self._shutdown_timeout)
            _log.info(
                "runtime_drained",
                duration_s=time.monotonic() - began,
                abandoned=list(abandoned),
                live_managers=self._live_managers,
            )
        return RuntimeReport(
            time.monotonic() - began, abandoned, self._live_managers, self.health().exporters
        )

    def health(self) -> RuntimeHealth:
        """Return how the exporters are now. From any thread."""
        deliveries = self._deliveries()
        exporters = {
            name: deliveries[name].health() if name in deliveries else None for name in self._exporters
        }
        return RuntimeHealth(self._state, self._live_managers, exporters)

    def run_started(self) -> None:
        """Count one more live manager. From any thread."""
        with self._lock:
            self._live_managers += 1

    def run_ended(self) -> None:
        """Count one live manager less. From any thread."""
        with self._lock:
            self._live_managers -= 1
            idle = self._idle if not self._live_managers else None
        if idle is not None and idle.set_running_or_notify_cancel():
            idle.set_result(None)

    async def __aenter__(self) -> Self:
        return await self.init()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    def _deliveries(self) -> dict[str, Delivery]:
        return {
            name: exporter.delivery
            for name, exporter in self._exporters.items()
            if isinstance(exporter, BaseExporter) and exporter.delivery is not None
        }

    async def _open(self, deadline: float) -> None:
        self._leases = {name: delivery.lease(keep=True) for name, delivery in self._deliveries().items()}
        opening = {
            name: asyncio.wrap_future(lease.opening)
            for name, lease in self._leases.items()
            if lease.opening is not None
        }
        if opening:
            await asyncio.wait(opening.values(), timeout=max(0.0, deadline - time.monotonic()))
        failures: dict[str, BaseException] = {}
        for name, future in opening.items():
            if not future.done():
                future.cancel()
                failures[name] = StartTimeoutError(name, self._start_timeout)
            elif (error := future.exception()) is not None:
                failures[name] = error
        for name, error in failures.items():
            _log.error("exporter_start_failed", exporter=name, error=describe(error))
            self._leases.pop(name).release()
        missing = {name: error for name, error in failures.items() if name in self._required}
        if missing:
            raise ExporterStartError(missing)

    async def _wait_for_live_managers(self, timeout: float) -> None:
        with self._lock:
            if not self._live_managers:
                return
            self._idle = idle = Future[None]()
        await asyncio.wait({asyncio.wrap_future(idle)}, timeout=timeout)
        idle.cancel()

    async def _close(self, deadline: float) -> tuple[str, ...]:
        deliveries = self._deliveries()
        closing = {name: deliveries[name].close() for name in self._leases}
        for lease in self._leases.values():
            lease.release()
        self._leases = {}
        self._state = RuntimeState.CLOSED
        if not closing:
            return ()
        await asyncio.wait(
            [asyncio.wrap_future(closed) for closed in closing.values()],
            timeout=max(0.0, deadline - time.monotonic()),
        )
        abandoned = tuple(name for name, closed in closing.items() if not closed.done())
        for name in abandoned:
            _log.warning("exporter_abandoned", exporter=name, lost=deliveries[name].abandon())
        return abandoned
