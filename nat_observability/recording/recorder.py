"""StepRecorder: what is recorded of a step while it is open."""

from __future__ import annotations

import time as clocks
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from nat_observability.context import ContextState, current
from nat_observability.events import Boundary, IntermediateStep, Status, StepKind
from nat_observability.recording.answers.chunk_reader import ChunkReader, chunk_reader
from nat_observability.recording.capture import capture
from nat_observability.recording.details.attributes import report_problem
from nat_observability.recording.details.step_details import StepDetails
from nat_observability.stream import Audience, EventStream

_clock_ns = clocks.perf_counter_ns
_START, _CHUNK = Boundary.START, Boundary.CHUNK


PASSED_OVER = object()
"""
In the place of the input of a step that is not begun, because no subscriber looks at it.

What counts its end is in the place of its metadata.
"""


class StepRecorder:
    """
    The part of `step` that records while the block runs; `step` begins and ends it.

    Every method does nothing if the step is outside a run, or no exporter of the run takes it, and none raises for
    what it is given.
    """

    __slots__ = (
        "_closed",
        "_details",
        "_input",
        "_kind",
        "_metadata",
        "_parent_id",
        "_reader",
        "_start_ns",
        "_state",
        "_tags",
        "name",
        "step_id",
    )

    _details: StepDetails | None
    _input: Any
    _kind: StepKind
    _metadata: Any
    # Joins what `chunk` is given: None before the first chunk, False if that is not a model's.
    _reader: ChunkReader | Literal[False] | None
    _state: ContextState | None
    _tags: tuple[str, ...]
    name: str
    step_id: str | None
    # Only for a step that has begun:
    _closed: bool
    _parent_id: str | None
    _start_ns: int

    def chunk(self, data: object) -> None:
        """
        Record one piece of a streamed output. The pieces are joined if `output` is not set.

        Chunks and events of a model's stream are joined into its message, and the step has their usage.
        """
        state = self._state
        if state is None:
            self._pass_over_chunk()
        elif self.step_id is not None:
            audience = state.stream.kept[0] or state.stream.gathered()
            reader = self._reader
            if reader is None and audience.listens and not self._closed:
                reader = self._reader = chunk_reader(data) or False
            if reader and (text := reader.add(data)) is not None:
                data = text
            state.stream.publish(
                IntermediateStep(
                    state.run,
                    self._kind,
                    _CHUNK,
                    self.name,
                    self.step_id,
                    self._parent_id,
                    _clock_ns() + state.clock_offset_ns,
                    chunk=capture(data) if audience.listens else None,
                )
            )

    def _pass_over_chunk(self) -> None:
        # The step was passed over, or is outside every run. Where steps and not spans are counted, it counts.
        scope = current.get()
        state = scope._state if scope is not None else None
        if state is not None:
            audience = state.stream.kept[0] or state.stream.gathered()
            if not audience.everyone and not audience.heeds:
                audience.pass_over()
            elif not audience.heeds:
                state.stream.publish(IntermediateStep(state.run, self._kind, _CHUNK, self.name, "", None, 0))

    def set_attribute(self, name: str, value: object) -> None:
        """
        Record a value, as it is now, under a name that is kept as it is; it replaces an earlier one of that name.

        Values are text, numbers, bools, bytes, and sequences and mappings of these; anything else is recorded as an
        input is.
        """
        if (details := self._taking()) is not None:
            details.set_attribute(name, value)

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Set several attributes."""
        if (details := self._taking()) is not None:
            details.set_attributes(attributes)

    def event(
        self,
        name: str,
        attributes: Mapping[str, object] | None = None,
        time: int | datetime | None = None,
    ) -> None:
        """Record that something happened; `time` is nanoseconds since the epoch or a `datetime`, by default now."""
        if (details := self._taking()) is not None:
            state = self._state
            now_ns = _clock_ns() + state.clock_offset_ns if state is not None else clocks.time_ns()
            details.event(name, attributes, time, now_ns)

    def link(
        self,
        traceparent: object,
        attributes: Mapping[str, object] | None = None,
        *,
        tracestate: str | None = None,
    ) -> None:
        """Relate this step to the span that a W3C `traceparent` names, and that is not its parent."""
        if (details := self._taking()) is not None:
            details.link(traceparent, attributes, tracestate)

    def set_status(self, status: Status | str, message: str | None = None) -> None:
        """Set how the step ends, "ok" or "error", and why. An exception that ends it is an error whatever was set."""
        if (details := self._taking()) is not None:
            details.set_status(status, message)

    def _taking(self) -> StepDetails | None:
        """Return where details go; None if there is no subscriber to them."""
        state = self._state
        if state is None:
            # Before its block, outside every run, or passed over.
            scope = current.get()
            state = scope._state if scope is not None else None
            if state is None:
                return None
        elif self._closed:
            report_problem("something was recorded on a step after its end, and was dropped")
            return None
        if not (state.stream.kept[0] or state.stream.gathered()).listens:
            return None
        details = self._details
        if details is None:
            details = self._details = StepDetails()
        return details

    def enclose_in(self, parent_id: str | None) -> None:
        """Name another parent. Only for on-start callbacks that know better what is open here."""
        self._parent_id = parent_id

    def started(self) -> IntermediateStep:
        """Return what was recorded when the block began. Only for a step that has begun in a run."""
        state = self._state
        if state is None or self.step_id is None:
            raise RuntimeError(f"Step {self.name!r} has not begun in a run.")
        start = IntermediateStep(
            state.run,
            self._kind,
            _START,
            self.name,
            self.step_id,
            self._parent_id,
            self._start_ns,
            self._input,
            None,
            None,
            self._metadata,
            self._tags,
        )
        if self._details is not None:
            self._details.add_to_step(start)
        return start

    def _begin_unheard(self, audience: Audience, stream: EventStream) -> None:
        # No subscriber looks at the step: nothing is captured, and nothing that was not captured may leave if one comes
        # before it ends.
        self._input = self._metadata = None
        self._start_ns = 0
        if self._details is not None:
            self._details.forget()
        if not audience.everyone:
            stream.note_unheard()
