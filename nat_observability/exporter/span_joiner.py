"""SpanJoiner: joins the START, the CHUNKs and the END of a step into a span."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from nat_observability.context import ContextState
from nat_observability.events import Boundary, Captured, IntermediateStep, Span, Status
from nat_observability.recording.capture import joined_json, merged_json
from nat_observability.recording.details.attributes import merged_attributes
from nat_observability.stream import OpenStep

_START, _CHUNK, _END = Boundary.START, Boundary.CHUNK, Boundary.END
_LONGEST_SECRET = 4096  # characters; a private key of 4096 bits has 3300
_OK, _ERROR, _INCOMPLETE = Status.OK, Status.ERROR, Status.INCOMPLETE

_OF_ANOTHER_TRACER = (
    *("attributes", "events", "links", "status_message", "origin"),
    *("dropped_attributes_count", "dropped_events_count", "dropped_links_count"),
)


class SpanJoiner:
    """
    Joins the steps of one run into spans, and hands each over when it is finished.

    A step recorded with `step` arrives as a span when it ends; a published START and END, such as those relayed from
    elsewhere, are joined here. A second START or END of a span (the reference toolkit's LangChain handler sends some
    twice) is counted and otherwise ignored, and so is an END without a START. A step still open when the run ends
    becomes an INCOMPLETE span.

    Args:
        state: The run's.
        accept: Takes a finished span; called on the thread on which the step has ended.
        chunk_bytes: Most bytes of chunks that are kept for the open steps.
    """

    __slots__ = (
        "__weakref__",
        "_chunk_bytes",
        "_chunk_limit",
        "_chunks",
        "_ended",
        "_oddities",
        "_open",
        "_started_twice",
        "_state",
        "accept",
    )

    def __init__(self, state: ContextState, accept: Callable[[Span], object], chunk_bytes: int) -> None:
        self._state = state
        self.accept = accept
        self._chunk_limit = self._chunk_bytes = chunk_bytes
        self._open: dict[str, IntermediateStep | OpenStep] = {}
        # Made on first use, which hardly any run needs: every object of a run costs the garbage collector time.
        self._chunks: dict[str, _Chunks] | None = None
        self._started_twice: set[str] | None = None
        self._oddities: dict[str, int] | None = None
        self._ended = False

    def begun(self, step: OpenStep) -> None:
        """Note a step of this process, which ends as a span."""
        self._open[step.step_id or ""] = step
        if self._ended:
            self._came_late(step.step_id or "")

    def finished(self, span: Span) -> None:
        """Take the span of such a step."""
        if self._open.pop(span.span_id, None) is None:
            self._count("end_without_start")
            return
        chunks = self._chunks.pop(span.span_id, None) if self._chunks else None
        if chunks is not None:
            self._chunk_bytes += chunks.size
            span = msgspec.structs.replace(
                span,
                output=chunks.joined() if span.output is None else span.output,
                chunks=next(chunks.counter),
                first_chunk_ns=chunks.first_ns,
            )
        self.accept(span)

    def handle(self, step: IntermediateStep) -> None:
        """Take a published START, CHUNK or END of a step."""
        boundary = step.boundary
        if boundary is _START:
            if self._open.setdefault(step.step_id, step) is not step:
                if self._started_twice is None:
                    self._started_twice = set()
                self._started_twice.add(step.step_id)
                self._count("repeated_start")
            elif self._ended:
                self._came_late(step.step_id)
        elif boundary is _END:
            start = self._open.pop(step.step_id, None)
            if start is None:
                self._count(
                    "repeated_end" if step.step_id in (self._started_twice or ()) else "end_without_start"
                )
            else:
                self._finish(start, step)
        elif step.step_id in self._open:
            self._add_chunk(step)
        else:
            self._count("chunk_without_start")

    def _came_late(self, step_id: str) -> None:
        # The run ended while another thread was handing over this step. Its exporters may have closed since: it is as
        # if it had begun a moment later, unless `hand_over` has found it.
        if self._open.pop(step_id, None) is not None:
            self._state.stream.note_unheard()

    def hand_over(self) -> None:
        """End what is still open, the innermost first."""
        self._ended = True
        while self._open:
            # One at a time and atomically: another thread may be ending its own step, or this one, at this moment.
            try:
                start = self._open.popitem()[1]
            except KeyError:
                return
            self._finish(start, None)

    def unfinished(self, open_for_ns: int = 0) -> list[Span]:
        """Return the steps open for so long, as INCOMPLETE spans, and leave them open; from any thread."""
        spans = [self._joined(start, None, None) for start in list(self._open.values())]
        return [span for span in spans if span.end_ns - span.start_ns >= open_for_ns]

    @property
    def oddities(self) -> dict[str, int]:
        """Oddities of the steps, counted by name."""
        return dict(self._oddities or ())

    def _count(self, oddity: str) -> None:
        if self._oddities is None:
            self._oddities = {}
        self._oddities[oddity] = self._oddities.get(oddity, 0) + 1

    def _add_chunk(self, step: IntermediateStep) -> None:
        if self._chunks is None:
            self._chunks = {}
        chunks = self._chunks.get(step.step_id)
        if chunks is None:
            chunks = self._chunks.setdefault(step.step_id, _Chunks(step.time_ns))
        next(chunks.counter)
        piece = step.chunk
        if piece is None:
            return
        size = len(piece)
        # If several threads count at once, one count may be lost. The next one corrects the sum.
        if self._chunk_bytes < size:
            self._chunk_bytes = self._chunk_limit - sum(each.size for each in list(self._chunks.values()))
        if chunks.lost or self._chunk_bytes < size:
            chunks.lost += size
            self._count("chunk_over_limit")
            return
        self._chunk_bytes -= size
        chunks.size += size
        chunks.pieces.append(piece)

    def _finish(self, start: IntermediateStep | OpenStep, end: IntermediateStep | None) -> None:
        chunks = self._chunks.pop(start.step_id or "", None) if self._chunks else None
        if chunks is not None:
            self._chunk_bytes += chunks.size
        self.accept(self._joined(start, end, chunks))

    def _joined(
        self, start: IntermediateStep | OpenStep, end: IntermediateStep | None, chunks: _Chunks | None
    ) -> Span:
        if not isinstance(start, IntermediateStep):
            start = start.started()
        output: Captured = None
        if end is None:
            end_ns, status, end = max(self._state.now_ns(), start.time_ns), _INCOMPLETE, start
        else:
            # Relayed steps may have been timed by other clocks: a span never ends before it starts.
            end_ns = end.time_ns if end.time_ns > start.time_ns else start.time_ns  # noqa: FURB136  max() takes longer
            status = _OK if end.error is None else _ERROR
            output = end.output
        if chunks is not None and output is None:
            output = chunks.joined()
        recorded, metadata = start.input, start.metadata
        if recorded is None:
            recorded = end.input
        if end.metadata is not None and end is not start:
            metadata = merged_json(metadata, end.metadata)
        span = Span(
            start.run,
            # A step's kind may be known only at its end: some third-party instrumentations set it then.
            end.kind,
            end.name,
            start.step_id,
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
            next(chunks.counter) if chunks else 0,
            chunks.first_ns if chunks else None,
            start.attributes,
            start.events,
            start.links,
            end.span_kind or start.span_kind or end.kind.span_kind,
            start.status_message,
            start.dropped_attributes_count,
            start.dropped_events_count,
            start.dropped_links_count,
            start.origin,
        )
        return span if end is start else _completed(span, end)


def _completed(span: Span, end: IntermediateStep) -> Span:
    """Return a span, which has the attributes, events and links of its START, with those of its END."""
    changes: dict[str, Any] = {}
    if end.origin is not None:
        changes = {field: getattr(end, field) for field in _OF_ANOTHER_TRACER}
        return msgspec.structs.replace(span, **changes)
    if end.attributes is not None:
        changes["attributes"] = merged_attributes(span.attributes, end.attributes)
    if end.events or end.links:
        changes["events"] = (*span.events, *end.events)
        changes["links"] = (*span.links, *end.links)
    if end.status is not None and end.error is None:
        changes["status"] = end.status
    if end.status_message is not None:
        changes["status_message"] = end.status_message
    for count in ("dropped_attributes_count", "dropped_events_count", "dropped_links_count"):
        if more := getattr(end, count):
            changes[count] = getattr(span, count) + more
    return msgspec.structs.replace(span, **changes) if changes else span


class _Chunks:
    """The chunks of one open step: as many as there is room for, and their total number."""

    __slots__ = ("counter", "first_ns", "lost", "pieces", "size")

    def __init__(self, first_ns: int) -> None:
        self.first_ns = first_ns
        self.pieces: list[str | msgspec.Raw] = []
        self.counter = itertools.count()  # an atomic increment: safe from several threads
        self.size = self.lost = 0

    def joined(self) -> Captured:
        """Return the chunks as one value, with a mark if some are missing."""
        pieces: list[str | msgspec.Raw] = list(self.pieces)
        if self.lost:
            # Redaction would not recognize a secret that the cut has halved: its first half goes too.
            uncertain = 0
            while pieces and uncertain < _LONGEST_SECRET:
                uncertain += len(pieces.pop())
            pieces.append(f"[cut:{self.size + self.lost}]")  # the mark that the Truncator uses
        texts = [piece for piece in pieces if isinstance(piece, str)]
        if len(texts) == len(pieces):
            return "".join(texts) if texts else None
        return joined_json(pieces)
