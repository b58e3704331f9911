"""SpanExporter: START and END joined into a Span, to a delivery."""

from __future__ import annotations

from typing import Any

import msgspec

from nat_observability.capture import capture_json
from nat_observability.context import ContextState
from nat_observability.events import Boundary, Captured, IntermediateStep, Span, Status
from nat_observability.exporter.base_exporter import Subscription
from nat_observability.exporter.step_exporter import StepExporter, StepSubscription
from nat_observability.stream import EventStream, OpenStep

_START, _CHUNK, _END = Boundary.START, Boundary.CHUNK, Boundary.END
_OK, _ERROR, _INCOMPLETE = Status.OK, Status.ERROR, Status.INCOMPLETE


class SpanSubscription(StepSubscription):
    """
    One run's open spans.

    What `step` records comes as a span when it ends; a START and its END that were published, such as those that are
    relayed from elsewhere, are joined here. A second START or END of a span (the reference toolkit's LangChain handler
    sends some twice) is counted and otherwise ignored, and so is an END without a START. What is open when the run
    ends becomes an INCOMPLETE span.
    """

    __slots__ = ("_chunks", "_ended", "_oddities", "_open", "_started_twice")

    def __init__(self, exporter: SpanExporter, state: ContextState) -> None:
        super().__init__(exporter, state)
        self._open: dict[str, IntermediateStep | OpenStep] = {}
        self._chunks: dict[str, list[IntermediateStep]] = {}
        self._started_twice: set[str] = set()
        self._oddities: dict[str, int] = {}
        self._ended = False

    def listen(self, stream: EventStream) -> None:
        # Who overrides `handle` wants to see everything there.
        stream.subscribe(self, self.handle, self if type(self).handle is SpanSubscription.handle else None)

    def begun(self, step: OpenStep) -> None:
        """Note a step of this process, which ends as a span."""
        self._open[step.step_id or ""] = step
        if self._ended:
            self.hand_over()  # as in `handle`

    def finished(self, span: Span) -> None:
        """Take the span of such a step."""
        if self._open.pop(span.span_id, None) is None:
            self._count("end_without_start")
            return
        chunks = self._chunks.pop(span.span_id, None) if self._chunks else None
        if chunks:
            span = msgspec.structs.replace(
                span,
                output=_joined(chunks) if span.output is None else span.output,
                chunks=len(chunks),
                first_chunk_ns=chunks[0].time_ns,
            )
        self._accept(span)

    def handle(self, step: IntermediateStep) -> None:
        boundary = step.boundary
        if boundary is _START:
            if self._open.setdefault(step.step_id, step) is not step:
                self._started_twice.add(step.step_id)
                self._count("repeated_start")
            elif self._ended:
                # The run ended while this step was on its way here from another thread: nobody else will end it.
                self.hand_over()
        elif boundary is _END:
            start = self._open.pop(step.step_id, None)
            if start is None:
                self._count("repeated_end" if step.step_id in self._started_twice else "end_without_start")
            else:
                self._finish(start, step)
        elif step.step_id in self._open:
            self._chunks.setdefault(step.step_id, []).append(step)
        else:
            self._count("chunk_without_start")

    def hand_over(self) -> None:
        """End what is still open, the innermost first."""
        self._ended = True
        while self._open:
            # One at a time and atomically: another thread may be ending its step, or this one, at this moment.
            try:
                start = self._open.popitem()[1]
            except KeyError:
                return
            self._finish(start, None)

    @property
    def oddities(self) -> dict[str, int]:
        return dict(self._oddities)

    def _count(self, oddity: str) -> None:
        self._oddities[oddity] = self._oddities.get(oddity, 0) + 1

    def _finish(self, start: IntermediateStep | OpenStep, end: IntermediateStep | None) -> None:
        if not isinstance(start, IntermediateStep):
            start = start.started()
        step_id = start.step_id
        chunks = self._chunks.pop(step_id, None) if self._chunks else None
        output: Captured = None
        if end is None:
            end_ns, status, end = max(self._state.now_ns(), start.time_ns), _INCOMPLETE, start
        else:
            # Relayed steps may come with clocks of their own: a span never ends before it starts.
            end_ns = end.time_ns if end.time_ns > start.time_ns else start.time_ns  # noqa: FURB136  max() takes longer
            status = _OK if end.error is None else _ERROR
            output = end.output
        if output is None and chunks:
            output = _joined(chunks)
        recorded, metadata = start.input, start.metadata
        if recorded is None:
            recorded = end.input
        if end.metadata is not None and end is not start:
            metadata = end.metadata if metadata is None else _merged(metadata, end.metadata)
        self._accept(
            Span(
                start.run,
                # What a step is may be known only at its end: instrumentations of others tell it then.
                end.kind,
                end.name,
                step_id,
                start.parent_id,
                start.time_ns,
                end_ns,
                status,
                recorded,
                output,
                metadata,
                start.tags or end.tags,
                end.usage,
                end.error,
                len(chunks) if chunks else 0,
                chunks[0].time_ns if chunks else None,
            )
        )


class SpanExporter(StepExporter):
    """
    Exports finished spans: one for each step, when its END comes, or when its run ends.

    The arguments are those of `StepExporter`.
    """

    def subscription(self, state: ContextState) -> Subscription:
        return SpanSubscription(self, state)


def _joined(chunks: list[IntermediateStep]) -> Captured:
    pieces = [chunk.chunk for chunk in chunks if chunk.chunk is not None]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    if len(texts) == len(pieces):
        return "".join(texts) if texts else None
    return capture_json(pieces)


def _merged(first: msgspec.Raw, second: msgspec.Raw) -> msgspec.Raw:
    """Merge the START's metadata with the END's: of the same key the END's value, unless it is null."""
    before: Any = msgspec.json.decode(first)
    after: Any = msgspec.json.decode(second)
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return second
    return capture_json(
        before | {key: value for key, value in after.items() if value is not None or key not in before}
    )
