"""SampledOutSubscription: a run that sampling leaves out; what it would have recorded is counted."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.events import Boundary, IntermediateStep
from nat_observability.exporter.subscription import Subscribed, Subscription
from nat_observability.stream import EventStream, Tally, nothing


class SampledOutSubscription(Subscription):
    """One run that the exporter does not get: its items are only counted."""

    __slots__ = (
        "_counted",
        "_delivery",
        "_ledger",
        "_lock",
        "_passed_over",
        "_spans",
        "pass_over",
        "passed_over",
    )

    def __init__(self, exporter: Subscribed, state: ContextState, delivery: Delivery, *, spans: bool) -> None:
        super().__init__(exporter, state)
        self._delivery = delivery
        self._spans = spans
        self._passed_over = Tally()
        self.pass_over: Callable[[], object] = self._passed_over.add
        # The END is an item of its own if steps are exported.
        self.passed_over: Callable[[], object] = nothing if spans else self._passed_over.add
        self._lock = threading.RLock()  # reentrant, as that of the books
        self._counted = 0
        self._ledger: LedgerSnapshot | None = None

    def end(self) -> Awaitable[None] | None:
        super().end()
        counted = self._total()
        if self._ledger is None:
            self._ledger = self._delivery.discard("sampled_out", counted) if counted else LedgerSnapshot()
        return None

    def listen(self, stream: EventStream) -> None:
        stream.subscribe(self, self.handle, counter=self)

    def step_began(self) -> None:
        """Count a step of this process: its START, or its span, which it would have whether it ends or not."""
        with self._lock:
            self._counted += 1

    def step_ended(self) -> None:
        """Count its END, which is an item if steps are exported."""
        if not self._spans:
            with self._lock:
                self._counted += 1

    def handle(self, step: IntermediateStep) -> None:
        if self._spans and step.boundary is not Boundary.START:
            return
        with self._lock:
            self._counted += 1

    @property
    def ledger(self) -> LedgerSnapshot:
        if self._ledger is not None:
            return self._ledger
        counted = self._total()
        return LedgerSnapshot(accepted=counted, dropped={"sampled_out": counted} if counted else {})

    def _total(self) -> int:
        with self._lock:
            counted = self._counted
        return counted + self._passed_over.value
