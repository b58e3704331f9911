"""StepExporter: steps as they are, to a delivery."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal

from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.holding import Holding
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sink import BatchFunction, BlockingSink, Sink
from nat_observability.events import Boundary, IntermediateStep, Run, Span
from nat_observability.exporter.base_exporter import BaseExporter, Subscription
from nat_observability.exporter.sampling import Sampling
from nat_observability.stream import EventStream, OpenStep

if TYPE_CHECKING:
    from nat_observability.processors.processor import Processor

Flush = Literal["handed_over", "delivered"]
"""What a run's end waits for: that its items are in the delivery, or that each was written or has failed."""


class StepSubscription(Subscription):
    """One run's part in a delivery: each step is queued as it comes."""

    __slots__ = ("_accept", "_delivered", "_delivery", "_holding", "_lease", "_sampling", "_spool")

    def __init__(self, exporter: StepExporter, state: ContextState, hold: Sampling | None = None) -> None:
        super().__init__(exporter, state)
        self._sampling = hold
        self._holding: Holding | None = None
        self._delivered = exporter.flush == "delivered"
        self._spool = exporter.delivery.limits.spool
        self._delivery = exporter.delivery
        self._lease: Lease | None = None

    def begin(self) -> Awaitable[None] | None:
        return _awaitable(self.begin_anywhere())

    def begin_anywhere(self) -> Future[None] | None:
        """Do as `begin`, also where there is no event loop."""
        # The lease first: a step may come as soon as this is subscribed, from another thread.
        lease = self._lease = self._delivery.lease()
        self._accept = lease.accept if self._delivery.limits.run_bytes is None else lease.accept_within
        if self._sampling is not None:
            self._holding = lease.holding(self._accept, self._sampling.run_bytes, self._sampling.all_bytes)
            self._accept = self._holding.accept
        super().begin()
        return lease.opening

    def end(self) -> Awaitable[None] | None:
        return _awaitable(self.end_anywhere())

    def end_anywhere(self) -> Future[None] | None:
        """Do as `end`, also where there is no event loop."""
        super().end()
        if self._lease is None:
            return None
        self.hand_over()
        if self._holding is not None:
            self._holding.decide(keep=self._state.failed)
        try:
            if self._delivered:
                return self._lease.settled()
            if self._spool == "off":
                return None
            # A run has not ended before its steps are on the disk, or there is room for those of the next, where that
            # was asked for.
            return self._lease.saved() if self._spool == "always" else self._lease.room()
        finally:
            self._lease.release()

    def settled(self) -> Awaitable[None] | None:
        return asyncio.wrap_future(self._lease.settled()) if self._lease is not None else None

    def handle(self, step: IntermediateStep) -> None:
        self._accept(step)

    def hand_over(self) -> None:
        """Give the delivery what the run's end leaves behind; nothing here."""

    @property
    def ledger(self) -> LedgerSnapshot:
        return self._lease.ledger if self._lease is not None else LedgerSnapshot()


def _awaitable(future: Future[None] | None) -> Awaitable[None] | None:
    return asyncio.wrap_future(future) if future is not None else None


class SampledOutSubscription(Subscription):
    """One run that the exporter does not get: what it would have got is counted, and that is all."""

    __slots__ = ("_counted", "_delivery", "_ledger", "_lock", "_spans")

    def __init__(self, exporter: StepExporter, state: ContextState, *, spans: bool) -> None:
        super().__init__(exporter, state)
        self._delivery = exporter.delivery
        self._spans = spans
        self._lock = threading.RLock()  # reentrant, as that of the books
        self._counted = 0
        self._ledger: LedgerSnapshot | None = None

    def end(self) -> Awaitable[None] | None:
        super().end()
        with self._lock:
            ended, counted = self._ledger is not None, self._counted
        if not ended:
            self._ledger = self._delivery.discard("sampled_out", counted) if counted else LedgerSnapshot()
        return None

    def listen(self, stream: EventStream) -> None:
        stream.subscribe(self, self.handle, self if self._spans else None)

    def begun(self, step: OpenStep) -> None:
        """Count a step of this process, for which there would be a span, whether it ends or not."""
        with self._lock:
            self._counted += 1

    def finished(self, span: Span) -> None:
        """Nothing: its step was counted when it had begun."""

    def handle(self, step: IntermediateStep) -> None:
        if self._spans and step.boundary is not Boundary.START:
            return
        with self._lock:
            self._counted += 1

    @property
    def ledger(self) -> LedgerSnapshot:
        if self._ledger is not None:
            return self._ledger
        with self._lock:
            counted = self._counted
        return LedgerSnapshot(accepted=counted, dropped={"sampled_out": counted} if counted else {})


class StepExporter(BaseExporter):
    """
    Exports every step as it is.

    Args:
        sink: A sink, a function or coroutine function that takes a batch, or a `Delivery` that others use too.
        name: For logs and reports; by default the sink's class.
        limits: Bounds of the queue and its batches; not with a `Delivery`, which has its own.
        flush: What a run's end waits for.
        processors: What changes or drops each item on its way, in this order, on the delivery thread; not with a
            `Delivery`, which has its own.
        sampling: Which runs it gets; every one by default.
        select: Which runs it takes part in, by their ids: `lambda run: run.user_id == "u-1"`; by default all.

    Raises:
        TypeError: `sink` is no sink, or a processor cannot be called.
        ValueError: There are both processors and a `Delivery`.
    """

    delivery: Delivery

    def __init__(
        self,
        sink: Sink | BlockingSink | BatchFunction | Delivery,
        *,
        name: str | None = None,
        limits: DeliveryLimits | None = None,
        flush: Flush = "handed_over",
        processors: Iterable[Processor] = (),
        sampling: Sampling | None = None,
        select: Callable[[Run], bool] | None = None,
    ) -> None:
        super().__init__()
        self.select = select
        processors = tuple(processors)
        if not isinstance(sink, Delivery):
            known_as = name or str(getattr(sink, "__name__", type(sink).__name__))
            sink = Delivery(known_as, sink, limits=limits, processors=processors)
        elif processors:
            raise ValueError(
                f"Delivery {sink.name!r} has its own processors. Pass them to the Delivery instead of to the exporter."
            )
        self.delivery = sink
        self.flush = flush
        self.sampling = sampling

    @property
    def name(self) -> str:
        return self.delivery.name

    def export(self, event: IntermediateStep) -> None:
        """
        Take one step of a run that this exporter takes part in, as if its stream had published it.

        Raises:
            RuntimeError: The step's run is not started with this exporter.
        """
        for state, subscription in list(self.subscriptions.items()):
            if state.run is event.run:
                subscription.handle(event)
                return
        raise RuntimeError(
            f"{self.name} takes no steps of run {event.run.run_id!r}. Start the run with it first."
        )

    def subscription(self, state: ContextState) -> Subscription:
        return sampled(StepSubscription, self, state, spans=False)


def sampled(
    kind: type[StepSubscription], exporter: StepExporter, state: ContextState, *, spans: bool
) -> Subscription:
    """
    Decide whether the exporter gets this run, and return its subscription: one of this kind, or one that only counts.

    Args:
        spans: Whether the items are spans, of which there is one for each step.
    """
    sampling = exporter.sampling
    if sampling is None or sampling.samples(state):
        return kind(exporter, state)
    if sampling.keep_errors:
        return kind(exporter, state, sampling)
    return SampledOutSubscription(exporter, state, spans=spans)
