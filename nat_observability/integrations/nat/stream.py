"""NatStream: the event stream of one run of the toolkit as one of ours, with the steps of both in each."""

from __future__ import annotations

import sys
import threading
from typing import Any, NamedTuple, cast
from weakref import ref

import msgspec

from nat_observability.context import AdoptedState
from nat_observability.events import Boundary, ErrorDetails, IntermediateStep, Span, StepKind
from nat_observability.foreign_errors import locate
from nat_observability.integrations.nat.adopted_runs import adopted_runs
from nat_observability.integrations.nat.toolkit_state import ToolkitState
from nat_observability.integrations.nat.toolkit_steps import ROOT, read_step, write_step
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.recording.capture import step_error
from nat_observability.sinks.otlp.span_message import span_id_bytes
from nat_observability.stream import EventStream, OpenStep, SpanTaker, StepCounter, Subscriber

_START, _END = Boundary.START, Boundary.END
_WORKFLOW = StepKind.WORKFLOW
_MAX_CAUSES = 16
# What ends a generator, or whoever reads it, in the ordinary course of things.
_NO_FAILURES = (GeneratorExit, StopIteration, StopAsyncIteration)

_log_unread, _log_untold = RepeatedEvent(), RepeatedEvent()


class Opened(NamedTuple):
    """A step of the toolkit's that has begun, and the exception that was being handled there."""

    start: IntermediateStep
    handling: BaseException | None


class Own(NamedTuple):
    """The toolkit's stack of open steps outside and inside a step of ours that has begun."""

    outside: list[str]
    inside: list[str]


class NatStream(EventStream):
    """
    The steps of one run of the toolkit: its own and ours.

    It is subscribed to the toolkit's event stream as long as anything is subscribed to it. A step is taken on the
    thread that pushed it, and written to JSON there, by the toolkit's own serializer where that can do it. What it
    cannot serialize, and would write to a file as something else than JSON, is marked part by part.

    An END that has no output, and comes while an exception passes by that was not there at the START, has ended
    with that exception: the toolkit ends a function that fails so, and says nothing of it.
    """

    __slots__ = (
        "_attending",
        "_connecting",
        "_connection",
        "_failed",
        "_open",
        "_own",
        "_state",
        "_subject",
        "_toolkit",
        "_workflow",
    )

    def __init__(self, state: AdoptedState, toolkit: ToolkitState) -> None:
        super().__init__()
        self._state = ref(state)  # whoever subscribes or records has it
        self._toolkit = toolkit
        self._subject = toolkit.event_stream.get()
        self._connecting = threading.RLock()
        self._connection: Any = None
        self._attending = True
        super().subscribe(self, _ignore, self)  # the first: it corrects the parent, which others then see
        self._workflow: str | None = None
        self._open: dict[str, Opened] = {}
        self._failed: dict[str, ErrorDetails] = {}  # by what encloses the step that failed
        self._own: dict[str, Own] = {}

    @property
    def listeners(self) -> int:
        """How many are subscribed, without this object itself."""
        return super().listeners - self._attending

    def subscribe(
        self,
        key: object,
        subscriber: Subscriber,
        taker: SpanTaker | None = None,
        counter: StepCounter | None = None,
    ) -> None:
        with self._connecting:
            super().subscribe(key, subscriber, taker, counter)
            if self._connection is None:
                self._connection = self._subject.subscribe(self._take)

    def unsubscribe(self, key: object) -> None:
        with self._connecting:
            super().unsubscribe(key)
            if self._connection is not None and not self.listeners:
                self._connection.unsubscribe()
                self._connection = None
                self.let_go()

    def publish(self, step: IntermediateStep) -> None:
        """Hand what is published here, and not pushed into the toolkit's stream, to our subscribers and to its own."""
        if step.boundary is _START:
            parent_id = self._begin(step.step_id, step.parent_id)
            if parent_id != step.parent_id:
                step = msgspec.structs.replace(step, parent_id=parent_id)
        super().publish(step)
        if step.boundary is _END:
            self._note_failure(step.parent_id, step.error)
            self._leave(step.step_id)
        self._tell(step)
        if step.boundary is _END:
            self._own.pop(step.step_id, None)

    def begun(self, step: OpenStep) -> None:
        """Give a step that `step` begins its place among those of the toolkit, and tell the toolkit's subscribers."""
        start = step.started()
        parent_id = self._begin(start.step_id, start.parent_id)
        if parent_id != start.parent_id:
            step.enclose_in(parent_id)
            start = msgspec.structs.replace(start, parent_id=parent_id)
        self._tell(start)

    def finished(self, span: Span) -> None:
        """Take such a step away again, and tell."""
        self._note_failure(span.parent_id, span.error)
        self._leave(span.span_id)
        self._tell(
            IntermediateStep(
                span.run,
                span.kind,
                _END,
                span.name,
                span.span_id,
                span.parent_id,
                span.end_ns,
                output=span.output,
                usage=span.usage,
                error=span.error,
                attributes=span.attributes,
            )
        )
        self._own.pop(span.span_id, None)

    def enclosing(self) -> str | None:
        """Return the innermost step of the toolkit's that is open in the calling context."""
        for step_id in reversed(self._toolkit.active_span_id_stack.get()):
            if step_id not in self._own:
                return None if step_id == ROOT else cast(str, step_id)
        return None

    def innermost(self, step_id: str) -> str:
        """Return `step_id`, or the step of the toolkit's that is open inside it in the calling context."""
        stack: list[str] = self._toolkit.active_span_id_stack.get()
        # Where a step of ours is on top, `step` knows better what encloses the code that runs: see nesting.
        return stack[-1] if step_id in stack and stack[-1] not in self._own else step_id

    def end_workflow(self, error: BaseException | None) -> None:
        """
        End what the toolkit has left open where the run's end tells how it ended.

        The step of the workflow ends with `error`, or well, where the run did: the toolkit does not end it where a run
        fails, and cannot where another run inside it has taken its event stream away. A step inside of which a step
        has failed with that error, or with one that led to it, ends with the same; a tool, most of all, which the
        toolkit does not end where it fails. What else is open stays so, and so does all of it where a stream's reader
        has gone: nobody knows how it would have ended.
        """
        opened, failed = list(self._open.values()), dict(self._failed)
        self._open.clear()
        self._failed.clear()
        if isinstance(error, _NO_FAILURES):
            return
        causes = _causes(error)
        for start, _ in reversed(opened):
            ended = failed.get(start.step_id)
            if start.step_id == self._workflow:
                ended = None if error is None else step_error(error)
            elif ended is None or (ended.type, ended.message) not in causes:
                continue
            if ended is not None and start.parent_id is not None:
                failed.setdefault(start.parent_id, ended)
            self._end(start, ended)

    def _end(self, start: IntermediateStep, error: ErrorDetails | None) -> None:
        state = self._state()
        if state is not None:
            super().publish(
                IntermediateStep(
                    start.run,
                    start.kind,
                    _END,
                    start.name,
                    start.step_id,
                    start.parent_id,
                    state.now_ns(),
                    error=error,
                )
            )

    def let_go(self) -> None:
        """Forget the run, which has ended: the next one that has the same event stream is another one."""
        if self._attending:
            # It would be a reference cycle, which only the garbage collector could free.
            self._attending = False
            super().unsubscribe(self)
        adopted_runs.forget(self._subject, self._state())

    def _take(self, foreign: Any) -> None:
        """Take a step of the toolkit's."""
        try:
            if foreign.payload.UUID in self._own:
                return  # ours, on its way to the toolkit's subscribers
            step = self._read(foreign)
        except Exception as error:  # noqa: BLE001  foreign code: whatever was pushed into the stream
            if (suppressed := _log_unread.due()) is not None:
                get_logger().warning("nat_step_not_read", error=locate(error), suppressed=suppressed)
            return
        if step is not None:
            super().publish(step)

    def _read(self, foreign: Any) -> IntermediateStep | None:
        state = self._state()
        if state is None:
            return None
        line = read_step(foreign)
        if line.kind is _WORKFLOW and line.boundary is _START and self._workflow is None:
            self._workflow = line.uuid
            # Nothing was published before it: the run's steps still all have one run.
            state.run = msgspec.structs.replace(state.run, workflow_name=line.name)
        step = line.step(state.run)
        if line.boundary is _START:
            self._open.setdefault(step.step_id, Opened(step, sys.exception()))
        elif line.boundary is _END:
            opened = self._open.pop(step.step_id, None)
            self._failed.pop(step.step_id, None)
            error = sys.exception()
            if opened is None or error is None or error is opened.handling or step.output is not None:
                return step
            if not isinstance(error, _NO_FAILURES):
                step = msgspec.structs.replace(step, error=step_error(error))
                self._note_failure(step.parent_id, step.error)
        return step

    def _note_failure(self, parent_id: str | None, error: ErrorDetails | None) -> None:
        # Not the exception itself: that would keep alive what its traceback holds.
        if error is not None and parent_id in self._open:
            self._failed[parent_id] = error

    def _begin(self, step_id: str, parent_id: str | None) -> str | None:
        """Put a step of ours on the toolkit's stack; return its parent, which may be a step of the toolkit's."""
        stack = self._toolkit.active_span_id_stack
        outside = stack.get()
        if parent_id is not None and parent_id in outside:
            parent_id = self.innermost(parent_id)
        elif (enclosing := self.enclosing()) is not None and parent_id == span_id_bytes(enclosing).hex():
            parent_id = enclosing  # what NatState.step_id stands for
        # A new list, as the toolkit makes one: other tasks have the old one.
        inside = [*outside, step_id]
        stack.set(inside)
        self._own[step_id] = Own(outside, inside)
        return parent_id

    def _leave(self, step_id: str) -> None:
        own = self._own.get(step_id)
        if own is None:
            return
        stack = self._toolkit.active_span_id_stack
        if stack.get() is own.inside:
            stack.set(own.outside)
        # Where another task has it, or an inner step puts it back later, the list itself must not name a step that
        # has ended; the toolkit does the same with its own.
        if own.inside[-1:] == [step_id]:
            own.inside.pop()

    def _tell(self, step: IntermediateStep) -> None:
        """Push a step of ours into the toolkit's event stream."""
        try:
            told = write_step(step, self._toolkit.active_function.get())
            if told is not None:
                self._subject.on_next(told)
        except Exception as error:  # noqa: BLE001  foreign code: the toolkit's models and its subscribers
            if (suppressed := _log_untold.due()) is not None:
                get_logger().warning("nat_step_not_told", error=locate(error), suppressed=suppressed)


def _ignore(step: IntermediateStep) -> None:
    """Take nothing of what is published: it comes from here."""


def _causes(error: BaseException | None) -> set[tuple[str, str]]:
    """Return type and message of an exception and of those that led to it."""
    causes: set[tuple[str, str]] = set()
    while error is not None and len(causes) < _MAX_CAUSES:
        told = step_error(error)
        if (told.type, told.message) in causes:
            break
        causes.add((told.type, told.message))
        error = error.__cause__ or error.__context__
    return causes
