"""ContextState and step(): what a run is and what happens in it; the only ContextVar of the project lives here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from nat_observability.errors import EXITS, UnknownStepKindError, reraise_signal
from nat_observability.events import (
    Boundary,
    IntermediateStep,
    Run,
    Span,
    Status,
    StepKind,
    TokenUsage,
)
from nat_observability.propagation.ids import more_span_ids, new_run_id, new_span_id, spare_span_ids
from nat_observability.propagation.traceparent import defined_flags, is_trace_id, parse_traceparent
from nat_observability.recording.capture import MAX_BYTES, capture, capture_json, capture_label, merged_json
from nat_observability.recording.decorator import FunctionT, decorated
from nat_observability.recording.generators import (
    CONTEXTLIB,
    GENERATORS,
    GeneratorScope,
    Scope,
    enclosing,
    generator_frame,
    visible,
)
from nat_observability.recording.outcome import step_error, token_usage
from nat_observability.stream import EventStream, hand, report

_current: ContextVar[ContextState | step | None] = ContextVar("nat_observability_current", default=None)

_frame = sys._getframe
_clock_ns = time.perf_counter_ns

_KINDS = {kind.value.lower(): kind for kind in StepKind} | {kind.value: kind for kind in StepKind}
_START, _CHUNK, _END = Boundary.START, Boundary.CHUNK, Boundary.END
_OK, _ERROR = Status.OK, Status.ERROR
_NO_TAGS: tuple[str, ...] = ()


class Parent(Scope, Protocol):
    """A scope that a step can have for its parent: a run, a step, or what another tracing system has opened in it."""

    @property
    def step_id(self) -> str | None: ...


class Follower(Protocol):
    """
    Another tracing system's idea of what is current, kept in step with ours. None of its methods may raise.

    They are called on the thread, and in the context, of the code that enters a run or a step, or leaves it.
    """

    def traceparent(self) -> str | None:
        """Return what a run that is made here continues, where its maker does not say."""
        ...

    def enclosing(self, state: ContextState, scope: ContextState | step) -> Parent:
        """Return what encloses the code that runs: `scope`, or something of the other system's that lies in it."""
        ...

    def entered(self, state: ContextState, scope: ContextState | step) -> None:
        """A run, or a step of it, has become current."""
        ...

    def left(self, state: ContextState, scope: ContextState | step) -> None:
        """What was entered in this context is no longer current."""
        ...

    def driving(
        self, state: ContextState, scope: step, running: AbstractContextManager[None]
    ) -> AbstractContextManager[None]:
        """Return `running`, which makes a generator's step current while the generator runs, and one's own part."""
        ...


_follower: Follower | None = None


def follow(follower: Follower | None) -> None:
    """Have `follower` told from now on, in the whole process, of what becomes current; None for nobody."""
    global _follower
    _follower = follower


def scope_at(scope: ContextState | step, frame: FrameType) -> ContextState | step:
    """Return the innermost run or step around the code in `frame`, whose context says that it is `scope`."""
    state = scope._state
    if state is None or not (state._generator_steps or scope.closed):
        return scope
    return enclosing(scope, state._generator_steps, frame)


def current_scope() -> ContextState | step | None:
    """Return the innermost run or step around the calling code."""
    head = _current.get()
    return head if head is None else scope_at(head, _frame(1))


class ContextState:
    """
    The state of one run: its ids and its stream of steps.

    Args:
        run_id: Unique name of the run; a random UUID by default.
        trace_id: 32 lower-case hex digits; by default that of `traceparent`, else a new one.
        conversation_id: What several runs of one conversation or session share.
        user_id: On whose behalf the run works.
        workflow_name: What is run.
        traceparent: W3C header of the caller, whose trace this run continues. A malformed one starts a new trace.
        tags: Names and values that every step and span of the run carries along: the tenant, the route, the plan.

    Attributes:
        failed: Whether the run has failed; the manager sets it where the run's block raises. An integration sets it,
            before the block ends, where a failure is no exception there: an answer with the status 500, say.
        step_id: What a step at the top of the run has for a parent: the caller's span, where there is one.

    Raises:
        TypeError: `tags` is not a mapping.
        ValueError: `trace_id` is not 32 lower-case hex digits, or all zero.
    """

    __slots__ = (
        "_clock_offset",
        "_flags",
        "_generator_steps",
        "_span_id",
        "failed",
        "run",
        "step_id",
        "stream",
    )

    parent = previous = generator = None  # as a Scope: nothing is around a run
    closed = False

    def __init__(
        self,
        *,
        run_id: str | None = None,
        trace_id: str | None = None,
        conversation_id: str | None = None,
        user_id: str | None = None,
        workflow_name: str | None = None,
        traceparent: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if _follower is not None and trace_id is None and traceparent is None:
            traceparent = _follower.traceparent()
        parent_span_id, self._flags = None, "01"
        if trace_id is not None and not is_trace_id(trace_id):
            raise ValueError(
                "trace_id is 32 lower-case hex digits, not all zero (W3C Trace Context, section 3.2.2.3)."
            )
        if traceparent is not None and (link := parse_traceparent(traceparent)) is not None:
            linked_trace, linked_span, flags = link
            if trace_id is None or trace_id == linked_trace:
                trace_id, parent_span_id = linked_trace, linked_span
                self._flags = defined_flags(flags)
        self.run = Run(
            new_run_id() if run_id is None or run_id == "" else capture_label(run_id),
            trace_id or new_span_id() + new_span_id(),
            conversation_id if conversation_id is None else capture_label(conversation_id),
            user_id if user_id is None else capture_label(user_id),
            workflow_name if workflow_name is None else capture_label(workflow_name),
            parent_span_id,
            () if tags is None else _run_tags(tags),
        )
        self.stream = EventStream()
        self.failed = False
        self._span_id = self.step_id = parent_span_id
        self._clock_offset = time.time_ns() - time.perf_counter_ns()
        self._generator_steps: dict[FrameType, list[step]] = {}

    @classmethod
    def current(cls) -> ContextState | None:
        """Return the state of the run that the calling code belongs to, None outside every run."""
        scope = _current.get()
        return scope._state if scope is not None else None

    @property
    def _state(self) -> ContextState:
        return self

    @property
    def caller_sampled(self) -> bool | None:
        """Whether the caller records the trace that this run continues, by its `traceparent`; None without a caller."""
        return None if self.run.parent_span_id is None else bool(int(self._flags, 16) & 1)

    @property
    def traceparent(self) -> str:
        """The W3C header for calls to other services: this run's trace, the step that runs now as the parent."""
        scope = _current.get()
        span_id = scope.step_id if scope is not None and scope._state is self else None
        return f"00-{self.run.trace_id}-{span_id or self.span_id}-{self._flags}"

    @property
    def span_id(self) -> str:
        """What a call to another service has for a parent at the top of the run: the caller's span, or a new id."""
        if self._span_id is None:
            self._span_id = new_span_id()
        return self._span_id

    @property
    def trace_flags(self) -> int:
        """The W3C trace flags of the caller, or 1, sampled, where this run's trace is its own."""
        return int(self._flags, 16)

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch by a clock that never goes back during the run."""
        return time.perf_counter_ns() + self._clock_offset

    @contextmanager
    def attach(self) -> Iterator[ContextState]:
        """Make this the current run for a block, in a thread of one's own for example, without any exporter."""
        previous = enter_run(self)
        try:
            yield self
        finally:
            leave_run(self, previous)

    def __repr__(self) -> str:
        return f"ContextState(run_id={self.run.run_id!r}, trace_id={self.run.trace_id!r})"


def enter_run(state: ContextState) -> ContextState | step | None:
    """Make `state` current in the calling context; return what was current before, for `leave_run`."""
    previous = _current.get()
    _current.set(state)
    if _follower is not None:
        _follower.entered(state, state)
    return previous


def leave_run(state: ContextState, previous: ContextState | step | None) -> None:
    """Make `previous` current again, where the calling context is still inside `state`."""
    # A run may be left in another context than it was entered in (a generator fixture, a task that finishes the
    # work of another): that context never saw the run, and a ContextVar token would raise there.
    scope = _current.get()
    if scope is not None and scope._state is state:
        _current.set(previous)
        if _follower is not None:
            _follower.left(state, state)


class step:  # noqa: N801  a context manager and decorator, named like contextlib.suppress
    """
    One step of the current run, as a context manager, sync or async, or as a decorator.

    As a decorator it records the arguments as input (without `self` and `cls`), the result as output, and what
    a generator yields as chunks; it works for functions, coroutine functions and both kinds of generator.
    Outside every run it records nothing and costs next to nothing.

    Args:
        kind: A `StepKind` or its name in any case: llm, tool, workflow, task, function, custom, span, ttc.
        name: What is done: the tool, the model, the function.
        input: Recorded as it is when the block begins.
        metadata: A mapping, recorded when the block begins.
        tags: Short labels.

    Attributes:
        output: Set it inside the block; recorded as it is when the block ends.
        metadata: A mapping, set inside the block; recorded when the block ends, beside what was given for it.
        name: May be changed inside the block; a span has the one that it ended with.
        usage: A `TokenUsage`, or a mapping with its field names.
        step_id: 16 hex digits, None outside a run and before the block.

    Raises:
        UnknownStepKindError: There is no such kind.
        RuntimeError: The same object is entered twice.
        TypeError: It decorates a class, or stands above `@classmethod`, `@staticmethod` or `@property`.
    """

    __slots__ = (
        "__weakref__",
        "_input",
        "_kind",
        "_metadata",
        "_parent_id",
        "_start_ns",
        "_state",
        "_tags",
        "closed",
        "generator",
        "metadata",
        "name",
        "output",
        "parent",
        "previous",
        "step_id",
        "usage",
    )

    # Of a step that has begun, which outside every run none ever does:
    closed: bool
    generator: GeneratorScope | None
    parent: Scope | None
    previous: ContextState | step | None
    _parent_id: str | None
    _start_ns: int

    def __init__(
        self,
        kind: StepKind | str,
        name: str,
        *,
        input: object = None,  # noqa: A002  the field's own name, in every convention
        metadata: object = None,
        tags: Iterable[str] = _NO_TAGS,
    ) -> None:
        try:
            self._kind = _KINDS[kind]
        except (KeyError, TypeError):
            self._kind = _kind(kind)
        self.name = name
        # What they are when the block begins replaces them then.
        self._input: Any = input
        self._metadata: Any = metadata
        self._tags = tags if tags is _NO_TAGS else _labels(tags)
        self.output: object = None
        self.metadata: object = None
        self.usage: TokenUsage | Any = None
        self.step_id: str | None = None
        self._state: ContextState | None = None

    def __enter__(self) -> Self:
        head = _current.get()
        if head is None:
            return self
        frame = _frame(1)
        if type(head) is ContextState:
            state: ContextState | None = head
        else:
            state = head._state
        if (
            state is None
            or self._state is not None
            or state._generator_steps
            or (state is not head and head.closed)
            or frame.f_code.co_flags & GENERATORS
            or frame.f_globals is CONTEXTLIB
            or _follower is not None
        ):
            self._enter(head, frame)
            return self
        # What `_enter` does where there is no generator far and wide, which is nearly always.
        self.generator = None
        self._open(state, head)
        self.previous = head
        _current.set(self)
        return self

    async def __aenter__(self) -> Self:
        head = _current.get()
        if head is not None:
            self._enter(head, _frame(1))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        state = self._state
        if state is None:
            return
        if self.generator is not None:
            self._leave_generator(state, self.generator)
        # Only where this context is still inside the step: a generator that another task closes, or steps that
        # end in another order than they began, leave the ContextVar alone (see nesting).
        if _current.get() is self:
            _current.set(self.previous)
            if self.generator is None:
                # Keep no chain alive: tasks that each start the next one inside a step would grow it for ever.
                self.parent = self.previous = None
            if _follower is not None:
                _follower.left(state, self)
        self._close(state, exc)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def chunk(self, data: object) -> None:
        """Record one piece of a streamed output. The pieces are joined where `output` is not set."""
        state = self._state
        if state is not None and self.step_id is not None:
            state.stream.publish(
                IntermediateStep(
                    state.run,
                    self._kind,
                    _CHUNK,
                    self.name,
                    self.step_id,
                    self._parent_id,
                    _clock_ns() + state._clock_offset,
                    chunk=capture(data),
                )
            )

    def __call__(self, function: FunctionT) -> FunctionT:
        """Return `function` with each call recorded as a step of this kind and name."""
        return decorated(function, self._of_call)

    def _of_call(self, arguments: Callable[[], object]) -> step:
        recorded = self._input
        if recorded is None and _current.get() is not None:
            recorded = arguments()
        return step(self._kind, self.name, input=recorded, metadata=self._metadata, tags=self._tags)

    @contextmanager
    def driven(self) -> Iterator[AbstractContextManager[None]]:
        """Open the step around a generator; what it yields is entered each time the generator itself runs."""
        head = _current.get()
        state = head._state if head is not None else None
        if head is None or state is None:
            yield nullcontext()
            return
        self.previous = self.generator = None
        parent = enclosing(head, state._generator_steps, _frame())
        running: AbstractContextManager[None] = _Running(self)
        if _follower is not None:
            self._open(state, _follower.enclosing(state, parent))
            running = _follower.driving(state, self, running)
        else:
            self._open(state, parent)
        try:
            yield running
        except BaseException as error:
            self._close(state, error)
            raise
        else:
            self._close(state, None)
        finally:
            self.parent = None  # as in __exit__

    def _enter(self, head: ContextState | step, frame: FrameType) -> None:
        state = head._state
        if state is None or self._state is not None:
            raise RuntimeError(f"Step {self.name!r} was entered before. Make a new step for each block.")
        parent = head
        if state._generator_steps or head.closed:
            parent = enclosing(head, state._generator_steps, frame)
            head = visible(head) if head.closed else head
        self.generator = None
        if (frame.f_code.co_flags & GENERATORS or frame.f_globals is CONTEXTLIB) and (
            own := generator_frame(frame)
        ) is not None:
            self.generator = GeneratorScope(own)
            state._generator_steps.setdefault(own, []).append(self)
        if _follower is not None:
            self._open(state, _follower.enclosing(state, parent))
        else:
            self._open(state, parent)
        self.previous = head
        _current.set(self)
        if _follower is not None:
            _follower.entered(state, self)

    def _open(self, state: ContextState, parent: Parent) -> None:
        self._state = state
        self.closed = False
        name, value = self.name, self._input
        if type(name) is not str or not name.isascii():
            self.name = capture_label(name)
        self.parent = parent
        self._parent_id = parent.step_id
        try:
            self.step_id = spare_span_ids.pop()
        except IndexError:
            self.step_id = more_span_ids()
        self._start_ns = _clock_ns() + state._clock_offset
        if value is not None and not (type(value) is str and len(value) <= MAX_BYTES and value.isascii()):
            self._input = capture(value)
        if self._metadata is not None:
            self._metadata = capture_json(self._metadata)
        stream = state.stream
        audience = stream.kept[0] or stream.gathered()
        for take in audience.begun:
            try:
                take(self)
            except EXITS:
                raise
            except BaseException as error:  # noqa: BLE001  as in `hand`, whose call would cost more than this
                report(take, error)
        if audience.steps:
            hand(audience.steps, self.started())
        elif not audience.everyone:
            stream.note_unheard()

    def enclose_in(self, parent_id: str | None) -> None:
        """Name another parent. Only for who is told that the step begins, and knows better what is open here."""
        self._parent_id = parent_id

    def started(self) -> IntermediateStep:
        """Return what was recorded when the block began. Only of a step that has begun in a run."""
        state = self._state
        if state is None or self.step_id is None:
            raise RuntimeError(f"Step {self.name!r} has not begun in a run.")
        return IntermediateStep(
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

    def _close(self, state: ContextState, exc: BaseException | None) -> None:
        self.closed = True
        end_ns = _clock_ns() + state._clock_offset
        output: Any = self.output
        usage, error = self.usage, None
        if output is not None and not (type(output) is str and len(output) <= MAX_BYTES and output.isascii()):
            output = capture(output)
        if usage is not None:
            usage = token_usage(usage)
        # A consumer that has seen enough closes the generator: nothing failed.
        if exc is not None and not isinstance(exc, GeneratorExit):
            error = step_error(exc)
        if type(self.name) is not str or not self.name.isascii():
            self.name = capture_label(self.name)  # it may have been changed
        metadata = whole = None if self.metadata is None else capture_json(self.metadata)
        if self._metadata is not None:
            whole = merged_json(self._metadata, metadata)
        stream, step_id = state.stream, self.step_id or ""
        audience = stream.kept[0] or stream.gathered()
        if audience.finished:
            span = Span(
                state.run,
                self._kind,
                self.name,
                step_id,
                self._parent_id,
                self._start_ns,
                end_ns,
                _OK if error is None else _ERROR,
                self._input,
                output,
                whole,
                self._tags,
                usage,
                error,
            )
            for take in audience.finished:
                try:
                    take(span)
                except EXITS:
                    raise
                except BaseException as problem:  # noqa: BLE001  as in `_open`
                    report(take, problem)
        if audience.steps:
            end = IntermediateStep(
                state.run,
                self._kind,
                _END,
                self.name,
                step_id,
                self._parent_id,
                end_ns,
                None,
                output,
                None,
                metadata,
                (),
                usage,
                error,
            )
            hand(audience.steps, end)
        elif not audience.everyone:
            stream.note_unheard()

    def _leave_generator(self, state: ContextState, generator: GeneratorScope) -> None:
        steps = state._generator_steps.get(generator.frame)
        if steps is not None:
            if self in steps:
                steps.remove(self)
            if not steps:
                state._generator_steps.pop(generator.frame, None)


class _Running:
    """Makes a generator's step, or what is open inside it, current while the generator runs, and only then."""

    __slots__ = ("_inside", "_outside")

    def __init__(self, current: step) -> None:
        self._inside: ContextState | step | None = current
        self._outside: ContextState | step | None = None

    def __enter__(self) -> None:
        self._outside = _current.get()
        _current.set(self._inside)

    def __exit__(self, *exc_info: object) -> None:
        self._inside = _current.get()
        _current.set(self._outside)


def _kind(kind: object) -> StepKind:
    known = _KINDS.get(kind.lower()) if isinstance(kind, str) else None
    if known is None:
        raise UnknownStepKindError(kind, [each.value.lower() for each in StepKind])
    return known


def _run_tags(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags is a mapping of names to values, not of type {type(tags).__name__}.")
    return tuple(sorted({capture_label(name): capture_label(value) for name, value in tags.items()}.items()))


def _labels(tags: Iterable[object]) -> tuple[str, ...]:
    if isinstance(tags, str):
        return (capture_label(tags),)
    try:
        return tuple([capture_label(tag) for tag in tags])
    except BaseException as error:  # noqa: BLE001  foreign code: an iterable of the application's
        reraise_signal(error)
        return ()
