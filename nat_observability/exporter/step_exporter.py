"""StepExporter: steps as they are, to a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.pipeline.tail_sampling import TailSamplingBuffer
from nat_observability.delivery.state import note_change
from nat_observability.events import IntermediateStep, Item
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.sampled_out import SampledOutSubscription
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.selection import Select
from nat_observability.exporter.subscription import Subscription
from nat_observability.sinks.protocol import BatchFunction, BlockingSink, Sink

if TYPE_CHECKING:
    from nat_observability.processors.processor import Processor

Flush = Literal["handed_over", "delivered"]
"""What a run's end waits for: its items are in the delivery, or each was written or has failed."""


class StepSubscription(Subscription):
    """One run's part in a delivery: each step is queued as it comes."""

    __slots__ = ("_accept", "_buffer", "_delivered", "_delivery", "_lease", "_sampling", "_spool")

    def __init__(self, exporter: StepExporter, state: ContextState, hold: Sampling | None = None) -> None:
        super().__init__(exporter, state)
        self._sampling = hold
        self._buffer: TailSamplingBuffer | None = None
        self._delivered = exporter.flush == "delivered"
        self._spool = exporter.delivery.limits.spool
        self._delivery = exporter.delivery
        self._lease: Lease | None = None

    def begin(self) -> Awaitable[None] | None:
        return _awaitable(self.begin_anywhere())

    def begin_anywhere(self) -> Future[None] | None:
        """Do as `begin`, also without an event loop."""
        # The lease first: a step may come as soon as this is subscribed, from another thread.
        lease = self._lease = self._delivery.lease(run_id=self._state.run.run_id)
        limit = self._delivery.limits.run_bytes
        self._accept: Callable[[Item], None] = (
            lease.accept if limit is None else partial(lease.accept_within, limit=limit)
        )
        if self._sampling is not None:
            self._buffer = TailSamplingBuffer(
                self._delivery.accounting,
                self._accept,
                lease,
                self._sampling.run_bytes,
                self._sampling.all_bytes,
            )
            self._accept = self._buffer.accept
        super().begin()
        return lease.opening

    def end(self) -> Awaitable[None] | None:
        return _awaitable(self.end_anywhere())

    def end_anywhere(self) -> Future[None] | None:
        """Do as `end`, also without an event loop."""
        super().end()
        if self._lease is None:
            return None
        self.hand_over()
        if self._buffer is not None:
            self._buffer.decide(keep=self._state.failed)
        try:
            if self._delivered:
                return self._lease.settled()
            if self._spool == "off":
                return None
            # With `spool="always"`, a run ends only when its steps are on the disk; with `"spill"`, only when there is
            # room for those of the next.
            return self._lease.saved() if self._spool == "always" else self._lease.room()
        finally:
            self._lease.release()

    def settled(self) -> Awaitable[None] | None:
        return asyncio.wrap_future(self._lease.settled()) if self._lease is not None else None

    def handle(self, step: IntermediateStep) -> None:
        self._accept(step)

    def hand_over(self) -> None:
        """Give the delivery what is left at the run's end; nothing here."""

    @property
    def ledger(self) -> LedgerSnapshot:
        return self._lease.ledger if self._lease is not None else LedgerSnapshot()


def _awaitable(future: Future[None] | None) -> Awaitable[None] | None:
    return asyncio.wrap_future(future) if future is not None else None


class StepExporter(BaseExporter):
    """
    Exports every step as it is.

    Args:
        sink: A sink, a function or coroutine function that takes a batch, or a `Delivery` that others use too.
        name: For logs and reports; by default the sink's class.
        limits: Bounds of the queue and its batches; not with a `Delivery`, which has its own.
        flush: What a run's end waits for.
        processors: Change or drop each item on its way, in this order, on the delivery thread; not with a
            `Delivery`, which has its own.
        sampling: Which runs it gets; every one by default.
        select: Which runs it takes part in, by their ids and tags: `{"tenant": "acme"}`, or a function such as
            `lambda run: run.user_id == "u-1"`; by default all.

    Raises:
        TypeError: `sink` is not a sink, a processor cannot be called, or `limits` or `sampling` is of another type.
        ValueError: There are both processors and a `Delivery`, or `flush` is not known.
        InvalidSelectionError: `select` is neither a mapping that can be used nor a function.
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
        select: Select | None = None,
    ) -> None:
        super().__init__()
        if flush not in get_args(Flush):
            raise ValueError(f"flush is {' or '.join(map(repr, get_args(Flush)))}, not {flush!r}.")
        self.select = select
        if not isinstance(limits, DeliveryLimits | None):
            raise TypeError(f"limits is a DeliveryLimits(...), not of type {type(limits).__name__}.")
        if not isinstance(processors, Iterable):
            raise TypeError(
                f"processors is a list, not of type {type(processors).__name__}. Pass processors=[...]."
            )
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
        self._sampling = _checked_sampling(sampling)

    @property
    def sampling(self) -> Sampling | None:
        """Which runs it gets, decided once for each; None for all."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: Sampling | None) -> None:
        self._sampling = _checked_sampling(sampling)
        note_change()

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


def _checked_sampling(sampling: object) -> Sampling | None:
    if not isinstance(sampling, Sampling | None):
        raise TypeError(
            f"sampling is a Sampling(...), such as Sampling(0.1), not of type {type(sampling).__name__}."
        )
    return sampling


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
        state.sampled = True
        return kind(exporter, state)
    if state.sampled is None:
        state.sampled = False
    if sampling.keep_errors:
        return kind(exporter, state, sampling)
    return SampledOutSubscription(exporter, state, exporter.delivery, spans=spans)
