"""step: one step of the current run, as a context manager or a decorator; the hot path of recording."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self

from msgspec.structs import force_setattr

from nat_observability.context import CLOCK_JUMP_NS, ContextState, CurrentScope, Inside, current
from nat_observability.events import (
    STEP_KINDS,
    Boundary,
    IntermediateStep,
    Span,
    SpanKind,
    Status,
    StepKind,
)
from nat_observability.propagation.ids import more_span_ids, spare_span_ids
from nat_observability.recording import bridge
from nat_observability.recording.answers import token_usage
from nat_observability.recording.capture import (
    LEAST_BYTES,
    capture,
    capture_json,
    capture_label,
    merged_json,
    step_error,
)
from nat_observability.recording.decorator import FunctionT, Suspended, decorated
from nat_observability.recording.details.step_details import StepDetails, labels
from nat_observability.recording.enclosing_step import (
    CONTEXTLIB,
    GENERATORS,
    GeneratorScope,
    Scope,
    enclosing,
    generator_frame,
    visible,
)
from nat_observability.recording.model_calls import ModelCallRecorder, provided
from nat_observability.recording.recorder import PASSED_OVER
from nat_observability.recording.stray_steps import open_runs, report_stray_step
from nat_observability.stream import Audience, hand, report

_frame, _clock_ns, _wall_ns = sys._getframe, time.perf_counter_ns, time.time_ns

_END, _OK, _ERROR, _CLIENT = Boundary.END, Status.OK, Status.ERROR, SpanKind.CLIENT
_LLM, _EMBEDDING, _RETRIEVER = StepKind.LLM, StepKind.EMBEDDING, StepKind.RETRIEVER
_NO_TAGS: tuple[str, ...] = ()


class step(ModelCallRecorder):  # noqa: N801  a context manager and decorator, named like contextlib.suppress
    """
    One step of the current run, as a context manager, sync or async, or as a decorator.

    As a decorator it records the arguments as input (without `self` and `cls`), the result as output, and what
    a generator yields as chunks; it works for functions, coroutine functions and both kinds of generator. Around a
    stream that the function returns the step stays open until that is consumed. Outside every run it records nothing.

    Args:
        kind: A `StepKind` or its name in any case: llm, tool, agent, retriever, embedding, reranker, guardrail,
            evaluator, prompt, chain, workflow, task, function, custom, span, ttc.
        name: What is done: the tool, the model, the function.
        input: Recorded as it is when the block begins.
        attributes: A mapping of names, kept as they are, to values; recorded when the block begins.
        links: Spans of other traces, each by its `traceparent`, or a pair of that and attributes.
        metadata: A mapping, recorded when the block begins.
        tags: Short labels.
        provider: Who runs the model: openai, anthropic, aws.bedrock; recorded under its name in the conventions.
        span_kind: A `SpanKind` or its name; by default client for calls of models and data sources, else internal.
        follow: As a decorator: whether the step stays open around a stream, a generator or an awaitable that the
            function returns, until that is consumed. If False, the step ends when the function returns.

    Attributes:
        output: Set it inside the block; recorded as it is when the block ends.
        metadata: A mapping, set inside the block; recorded when the block ends, beside what was passed as an argument.
        name: May be changed inside the block; a span has the one that it ended with.
        usage: A `TokenUsage`, or the usage that a model's client gives.
        step_id: 16 hex digits; None before the block, outside a run, and if no exporter of the run takes the step.

    Raises:
        UnknownStepKindError: No kind has that name.
        RuntimeError: The same object is entered twice.
        TypeError: It decorates a class, or stands above `@classmethod`, `@staticmethod` or `@property`.
    """

    __slots__ = ("__weakref__", "_follow", "_generator", "_parent", "_previous", "metadata")

    # Only for a step that has begun, which never happens outside a run:
    _generator: GeneratorScope | None
    _parent: Scope | None
    _previous: CurrentScope | None

    def __init__(
        self,
        kind: StepKind | str,
        name: str,
        *,
        input: object = None,  # noqa: A002  the field's own name, in every convention
        attributes: object = None,
        links: object = None,
        metadata: object = None,
        tags: Iterable[str] = _NO_TAGS,
        span_kind: SpanKind | str | None = None,
        provider: str | None = None,
        follow: bool = True,
    ) -> None:
        try:
            self._kind = STEP_KINDS[kind]
        except (KeyError, TypeError):
            self._kind = StepKind.parse(kind)
        self.name = name
        # Their values when the block begins replace these.
        self._input = input
        self._metadata = metadata
        self._tags = tags if tags is _NO_TAGS else labels(tags)
        if provider is not None:
            attributes = provided(attributes, provider)
        has_details = attributes is not None or links is not None or span_kind is not None
        self._details = StepDetails(attributes, links, span_kind) if has_details else None
        self.output = None
        self.metadata: object = None
        self.usage = None
        self._reader = None
        self.step_id = None
        self._state = None
        if not follow:
            self._follow = False  # read only by a decorator, so that other steps need not set it

    def __enter__(self) -> Self:
        head = current.get()
        if head is None:
            if open_runs:
                report_stray_step(self._kind)
            return self
        if type(head) is ContextState:
            state: ContextState | None = head
        else:
            state = head._state
        if state is not None:
            audience = state.stream.kept[0] or state.stream.gathered()
            if not audience.heeds and bridge.installed is None:
                self._input, self._metadata = PASSED_OVER, audience.passed_over
                audience.pass_over()
                return self
        frame = _frame(1)
        if (
            state is None
            or self._state is not None
            or state.generator_steps
            or (state is not head and head._closed)
            or frame.f_code.co_flags & GENERATORS
            or frame.f_globals is CONTEXTLIB
            or bridge.installed is not None
        ):
            self._enter(head, frame)
            return self
        # Fast path of `_enter`: no generator and no other tracer involved, which is nearly always so.
        self._generator = None
        self._open(state, head, audience)
        self._previous = head
        current.set(self)
        return self

    async def __aenter__(self) -> Self:
        head = current.get()
        if head is not None:
            self._enter(head, _frame(1))
        elif open_runs:
            report_stray_step(self._kind)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        state = self._state
        if state is None:
            if self._input is PASSED_OVER:
                self._metadata()
                self._input = self._metadata = None
            return
        generator = self._generator
        if generator is not None:
            self._leave_generator(state, generator)
        # Only if this context is still inside the step: a generator that another task closes, or steps that
        # end in another order than they began, leave the ContextVar alone (see nesting).
        if current.get() is self:
            current.set(self._previous)
            if generator is None:
                # Keep no chain alive: tasks that each start the next one inside a step would grow it forever.
                self._parent = self._previous = None
            if bridge.installed is not None:
                bridge.installed.on_step_exit(state, self, in_generator=generator is not None)
        self._close(state, exc)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Return `function` with each call recorded as a step of this kind and name."""
        return decorated(
            function, self._of_call, step._driven, step._suspended, follows=getattr(self, "_follow", True)
        )

    def _of_call(self, arguments: Callable[[], object]) -> step:
        recorded: Any = self._input
        if recorded is None:
            scope = current.get()
            state = scope._state if scope is not None else None
            # As in `_open`: without a subscriber nothing is captured.
            if state is not None and (state.stream.kept[0] or state.stream.gathered()).listens:
                recorded = arguments()
        call = step(self._kind, self.name, input=recorded, metadata=self._metadata, tags=self._tags)
        if self._details is not None:
            call._details = StepDetails(*self._details.arguments)
        return call

    def _suspended(self) -> Suspended | None:
        """Leave the step, entered by a decorated call, and keep it open around what the call has returned."""
        state = self._state
        if state is None:
            return None
        if current.get() is self:
            current.set(self._previous)
            if bridge.installed is not None:
                bridge.installed.on_step_exit(state, self, in_generator=False)
        self._previous = None

        def close(error: BaseException | None) -> None:
            self._close(state, error)
            self._parent = None  # as in __exit__

        return partial(self._running, state), close

    def _running(self, state: ContextState) -> AbstractContextManager[None]:
        """Return what makes the step current while a generator, or what a call has returned, runs."""
        inside = Inside(self)
        return inside if bridge.installed is None else bridge.installed.around_generator(state, self, inside)

    @contextmanager
    def _driven(self) -> Iterator[AbstractContextManager[None]]:
        """Open the step around a generator; what it yields is entered each time the generator itself runs."""
        head = current.get()
        self._previous = self._generator = None
        state = head._state if head is not None else None
        if head is None or state is None:
            if open_runs:
                report_stray_step(self._kind)
            yield nullcontext()
            return
        if bridge.installed is None:
            audience = state.stream.kept[0] or state.stream.gathered()
            if not audience.heeds:
                audience.pass_over()
                yield nullcontext()
                audience.passed_over()
                return
        parent = enclosing(head, state.generator_steps, _frame())
        self._open(state, parent if bridge.installed is None else bridge.installed.innermost(state, parent))
        try:
            yield self._running(state)
        except BaseException as error:
            self._close(state, error)
            raise
        else:
            self._close(state, None)
        finally:
            self._parent = None  # as in __exit__

    def _enter(self, head: CurrentScope, frame: FrameType) -> None:
        state = head._state
        if state is None or self._state is not None:
            raise RuntimeError(f"Step {self.name!r} was entered before. Make a new step for each block.")
        if bridge.installed is None:
            audience = state.stream.kept[0] or state.stream.gathered()
            if not audience.heeds:
                self._input, self._metadata = PASSED_OVER, audience.passed_over
                audience.pass_over()
                return
        parent: Scope = head
        if state.generator_steps or head._closed:
            parent = enclosing(head, state.generator_steps, frame)
            head = visible(head) if head._closed else head
        self._generator = None
        if (frame.f_code.co_flags & GENERATORS or frame.f_globals is CONTEXTLIB) and (
            own := generator_frame(frame)
        ) is not None:
            self._generator = GeneratorScope(own)
            state.generator_steps.setdefault(own, []).append(self)
        if bridge.installed is not None:
            self._open(state, bridge.installed.innermost(state, parent))
        else:
            self._open(state, parent)
        self._previous = head
        current.set(self)
        if bridge.installed is not None:
            bridge.installed.on_step_enter(state, self)

    def _open(self, state: ContextState, parent: Scope, audience: Audience | None = None) -> None:
        self._state = state
        self._closed = False
        name, value = self.name, self._input
        if type(name) is not str or not name.isascii():
            self.name = capture_label(name)
        self._parent = parent
        self._parent_id = parent.step_id
        try:
            self.step_id = spare_span_ids.pop()
        except IndexError:
            self.step_id = more_span_ids()
        stream = state.stream
        if audience is None:
            audience = stream.kept[0] or stream.gathered()
        if not audience.usual:
            for counter in audience.counters:
                counter.step_began()
            if not audience.listens:
                self._begin_unheard(audience, stream)
                return
        start_ns = _clock_ns() + state.clock_offset_ns
        self._start_ns = start_ns if _wall_ns() - start_ns <= CLOCK_JUMP_NS else state.follow_wall_clock()
        if value is not None and not (type(value) is str and len(value) <= LEAST_BYTES and value.isascii()):
            self._input = capture(value)
        if self._metadata is not None:
            self._metadata = capture_json(self._metadata)
        if self._details is not None:
            self._details.begin()
        for take in audience.begun:
            try:
                take(self)
            except BaseException as error:  # noqa: BLE001  as in `hand`, whose call would cost more than this
                report(take, error)
        if audience.steps:
            hand(audience.steps, self.started())
            if self._details is not None:
                self._details.mark_start()

    def _close(self, state: ContextState, exc: BaseException | None) -> None:
        if self._closed:
            return  # left a second time
        if self._reader or (self._kind is _LLM and self.usage is None and type(self.output) is not str):
            self._finish_reading()
        self._closed = True
        stream = state.stream
        audience = stream.kept[0] or stream.gathered()
        if not audience.usual:
            for counter in audience.counters:
                counter.step_ended()
            if not audience.listens:
                if not audience.everyone:
                    stream.note_unheard()
                return
        end_ns = _clock_ns() + state.clock_offset_ns
        output: Any = self.output
        usage, error, details = self.usage, None, self._details
        if (
            output is not None
            and not (type(output) is str and len(output) <= LEAST_BYTES and output.isascii())
            and (details is None or output is not details.said)
        ):
            output = capture(output)
        if usage is not None:
            usage = token_usage(usage)
        # A consumer that has seen enough closes the generator: nothing failed.
        if exc is not None and not issubclass(type(exc), GeneratorExit):
            error = step_error(exc)
        name = self.name
        if type(name) is not str or not name.isascii():
            self.name = name = capture_label(name)  # it may have been changed
        metadata = whole = None if self.metadata is None else capture_json(self.metadata)
        if self._metadata is not None:
            whole = self._metadata if metadata is None else merged_json(self._metadata, metadata)
        kind, step_id = self._kind, self.step_id or ""
        if audience.finished:
            status = _OK if error is None else _ERROR
            span = Span(
                state.run,
                kind,
                name,
                step_id,
                self._parent_id,
                self._start_ns,
                end_ns,
                status,
                self._input,
                output,
                whole,
                self._tags,
                usage,
                error,
            )
            if kind is _LLM or kind is _EMBEDDING or kind is _RETRIEVER:  # as `kind.span_kind`, in less time
                force_setattr(span, "span_kind", _CLIENT)
            if details is not None:
                details.add_to_span(span)
            for take in audience.finished:
                try:
                    take(span)
                except BaseException as problem:  # noqa: BLE001  as in `_open`
                    report(take, problem)
        if audience.steps:
            end = IntermediateStep(
                state.run,
                kind,
                _END,
                name,
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
            if details is not None:
                details.add_to_step(end)
            hand(audience.steps, end)

    def _leave_generator(self, state: ContextState, generator: GeneratorScope) -> None:
        steps = state.generator_steps.get(generator.frame)
        if steps is not None:
            if self in steps:
                steps.remove(self)
            if not steps:
                state.generator_steps.pop(generator.frame, None)
