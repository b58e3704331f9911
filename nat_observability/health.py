"""RuntimeHealth and RuntimeReport: what a runtime says about its exporters."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.state import DeliveryHealth, DeliveryState


class RuntimeState(StrEnum):
    """The state of a runtime; a closed one may be opened again."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


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
