"""SpanExporter: finished spans, to a delivery."""

from __future__ import annotations

from nat_observability.context import ContextState
from nat_observability.events import IntermediateStep, Span
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.span_joiner import SpanJoiner
from nat_observability.exporter.step_exporter import StepExporter, StepSubscription, sampled
from nat_observability.exporter.subscription import Subscription
from nat_observability.stream import EventStream, OpenStep


def _drop(span: Span) -> None:
    """Nothing arrives before the run begins."""


class SpanSubscription(StepSubscription):
    """One run's spans, for one exporter."""

    __slots__ = ("_joiner",)

    def __init__(self, exporter: StepExporter, state: ContextState, hold: Sampling | None = None) -> None:
        super().__init__(exporter, state, hold)
        self._joiner = SpanJoiner(state, _drop, exporter.delivery.limits.chunk_bytes)

    def listen(self, stream: EventStream) -> None:
        self._joiner.accept = self._accept
        # What may yet be sampled out is not shown.
        if (feed := self._delivery.feed) is not None and self._sampling is None:
            feed.begun(self._joiner)
        # A subclass that overrides `handle` expects to see everything there.
        stream.subscribe(self, self.handle, self if type(self).handle is SpanSubscription.handle else None)

    def begun(self, step: OpenStep) -> None:
        """Note a step of this process, which ends as a span."""
        self._joiner.begun(step)

    def finished(self, span: Span) -> None:
        """Take the span of such a step."""
        self._joiner.finished(span)

    def handle(self, step: IntermediateStep) -> None:
        self._joiner.handle(step)

    def hand_over(self) -> None:
        self._joiner.hand_over()

    @property
    def oddities(self) -> dict[str, int]:
        return self._joiner.oddities


class SpanExporter(StepExporter):
    """
    Exports finished spans: one for each step, when it ends or when its run does.

    The arguments are those of `StepExporter`.
    """

    def subscription(self, state: ContextState) -> Subscription:
        return sampled(SpanSubscription, self, state, spans=True)
