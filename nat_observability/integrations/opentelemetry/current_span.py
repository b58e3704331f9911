"""follow_steps(): runs and steps become OpenTelemetry's current span, which instrumented clients propagate."""

from __future__ import annotations

import sys
import weakref
from contextlib import AbstractContextManager
from types import TracebackType

from nat_observability.errors import MissingExtraError
from nat_observability.recording import bridge
from nat_observability.recording.bridge import TracedRun
from nat_observability.recording.enclosing_step import Scope, enclosing

try:
    from opentelemetry import context as otel
    from opentelemetry import trace
except ModuleNotFoundError:
    raise MissingExtraError(
        "nat_observability.integrations.opentelemetry.current_span", "opentelemetry"
    ) from None

_MINE = otel.create_key("nat_observability")


class StepSpan(trace.NonRecordingSpan):
    """
    A run or a step as OpenTelemetry's current span: it has ids and records nothing.

    Attributes:
        state: The run.
        scope: The step, or the run itself.
        outside: OpenTelemetry's context around it; None once the scope has been left.
    """

    def __init__(self, state: TracedRun, scope: Scope, outside: otel.Context | None) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.state = state
        self.scope = scope
        self.outside = outside

    def get_span_context(self) -> trace.SpanContext:
        # Not always the scope's own: a generator leaves its context to the code that it yields to.
        scope = enclosing(self.scope, self.state.generator_steps, sys._getframe(1))
        # Whether the run is sampled may have been decided since.
        if (
            scope is self.scope
            and self._context.is_valid
            and self._context.trace_flags == self.state.trace_flags
        ):
            return self._context
        found = _span_context(self.state, scope)
        if scope is self.scope:
            self._context = found
        return found

    def here(self) -> Scope:
        """Return the run or step around the calling code, whose OpenTelemetry context holds this span."""
        return enclosing(self.scope, self.state.generator_steps, sys._getframe(1))


def _span_context(state: TracedRun, scope: Scope) -> trace.SpanContext:
    run = state.run
    return trace.SpanContext(
        int(run.trace_id, 16),
        int(scope.step_id or state.span_id, 16),
        is_remote=scope is state and run.parent_span_id is not None,
        trace_flags=trace.TraceFlags(state.trace_flags),
    )


def step_span(context: otel.Context | None) -> StepSpan | None:
    """Return our run or step that encloses an OpenTelemetry context, across any number of spans between them."""
    found = otel.get_value(_MINE, context)
    return found if isinstance(found, StepSpan) else None


class Relayed:
    """An OpenTelemetry span that is a step of a run, as a parent of further steps."""

    __slots__ = ("_alive", "_parent", "ended", "parent_id", "state", "step_id")

    _previous = _generator = None
    _closed = False

    def __init__(
        self, span: trace.Span, state: TracedRun, parent: Scope | None, parent_id: str | None
    ) -> None:
        context = span.get_span_context()
        key = (context.trace_id, context.span_id)
        self.state = state
        # One of ours, never another span: spans that each start the next one would all be kept alive.
        self._parent = parent
        self.parent_id = parent_id
        self.ended = False
        self.step_id: str | None = f"{context.span_id:016x}"
        # For the span's lifetime: what it started may ask for it after it has ended.
        self._alive = weakref.ref(span, lambda _: _relayed.pop(key, None))
        _relayed[key] = self

    @property
    def parent(self) -> Scope | None:
        """Our run or step around it."""
        return self._parent


_relayed: dict[tuple[int, int], Relayed] = {}


def relayed(context: trace.SpanContext) -> Relayed | None:
    """Return the step that the span with these ids is, or None if it is not a step."""
    return _relayed.get((context.trace_id, context.span_id))


class _CurrentSpan:
    """Sets OpenTelemetry's current span. Never uses tokens, which belong to one context: a generator has several."""

    def traceparent(self) -> str | None:
        context = otel.get_current()
        if step_span(context) is not None:
            return None  # a run inside a run is a trace of its own
        current = trace.get_current_span(context).get_span_context()
        if not current.is_valid:
            return None
        return f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"

    def innermost(self, run: TracedRun, scope: Scope) -> Scope:
        context: otel.Context | None = otel.get_current()
        while context is not None:
            mine = step_span(context)
            current = trace.get_current_span(context)
            if current is not mine:
                inside = relayed(current.get_span_context())
                if (
                    inside is not None
                    and inside.state is run
                    and (inside.parent is scope or (mine is not None and mine.scope is scope))
                ):
                    return inside
            if mine is None or mine.scope is scope:
                break
            # A step of a generator that has yielded: it does not enclose this one.
            context = mine.outside
        return scope

    def on_run_enter(self, run: TracedRun) -> None:
        self.on_step_enter(run, run)

    def on_run_exit(self, run: TracedRun) -> None:
        self.on_step_exit(run, run, in_generator=False)

    def on_step_enter(self, run: TracedRun, step: Scope) -> None:
        outside = otel.get_current()
        _attach(StepSpan(run, step, outside), outside)

    def on_step_exit(self, run: TracedRun, step: Scope, *, in_generator: bool) -> None:
        mine = step_span(otel.get_current())
        while mine is not None and mine.scope is not step:
            mine = step_span(mine.outside) if mine.state is run and mine.outside is not None else None
        if mine is not None and mine.outside is not None:
            otel.attach(mine.outside)
            if not in_generator:
                # Keep no chain alive: tasks that each start the next one inside a step would grow it for ever.
                mine.outside = None

    def around_generator(
        self, run: TracedRun, step: Scope, running: AbstractContextManager[None]
    ) -> AbstractContextManager[None]:
        return _Driven(StepSpan(run, step, None), running)


class _Driven:
    """Makes the step of a decorated generator the current span while the generator runs, and only then."""

    __slots__ = ("_inside", "_outside", "_running", "_span")

    def __init__(self, span: StepSpan, running: AbstractContextManager[None]) -> None:
        self._span = span
        self._running = running
        self._inside: otel.Context | None = None

    def __enter__(self) -> None:
        self._running.__enter__()
        self._outside = otel.get_current()
        if self._inside is None:
            _attach(self._span, self._outside)
        else:
            otel.attach(self._inside)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside = otel.get_current()
        otel.attach(self._outside)
        self._running.__exit__(exc_type, exc, traceback)


def _attach(span: StepSpan, outside: otel.Context) -> None:
    otel.attach(otel.set_value(_MINE, span, trace.set_span_in_context(span, outside)))


_bridge = _CurrentSpan()


def follow_steps() -> None:
    """
    Make every run and step, from now on and in the whole process, OpenTelemetry's current span.

    Instrumented clients then send the run's trace id and the step's id in `traceparent`, and a tracer's spans have the
    step as their parent. A `ContextState` made inside a span, without a trace of its own, continues that span's trace.
    Needs only opentelemetry-api; without an SDK or a client that asks for the current span it has no effect. Calling it
    again changes nothing.
    """
    bridge.install(_bridge)


def unfollow_steps() -> None:
    """Undo `follow_steps`. What is open now stays OpenTelemetry's current span until its context ends."""
    bridge.install(None)
