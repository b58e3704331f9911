"""StepSpanProcessor: spans that OpenTelemetry instrumentations record become steps of the current run."""

from __future__ import annotations

from nat_observability.context import ContextState, current_scope
from nat_observability.errors import MissingExtraError
from nat_observability.events import Boundary, IntermediateStep
from nat_observability.integrations.opentelemetry.current_span import (
    Relayed,
    follow_steps,
    relayed,
    step_span,
)
from nat_observability.integrations.opentelemetry.readable_spans import begun_fields, ended_fields
from nat_observability.recording.enclosing_step import Scope

try:
    from opentelemetry import context as otel
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
except ModuleNotFoundError:
    raise MissingExtraError("StepSpanProcessor", "opentelemetry-sdk") from None


class StepSpanProcessor(SpanProcessor):
    """
    Makes each span that starts inside a run a step of that run, below the step or span that it started in.

    Pass it to `TracerProvider.add_span_processor`. The span's id is the step's, so one trace holds both; see
    `follow_steps`, which this calls, for the other direction. Name, span kind, status, attributes, events, links and
    trace state are the step's as they were set, and its `origin` has the instrumentation scope, so that an exporter
    over OTLP sends what the SDK's own would. The step's kind, input, output, usage, tags and error are read beside
    them, as `mapped` describes, when the span ends.

    - A span belongs to its parent's run, in whichever thread it starts; without such a parent, to the run that is
      current where it starts; outside every run it is left alone.
    - A span that is open when its run ends is exported as incomplete, as an open step is, and its end counts as
      `unheard` by the run's stream.
    - What the provider's sampler drops is dropped here too.

    It buffers nothing and sends nothing: after `shutdown` it takes no further spans.
    """

    def __init__(self) -> None:
        follow_steps()
        self._closed = False

    def on_start(self, span: Span, parent_context: otel.Context | None = None) -> None:
        own = span.get_span_context()
        if self._closed or not own.trace_flags.sampled or relayed(own) is not None:
            return
        context = parent_context if parent_context is not None else otel.get_current()
        scope: Scope | None
        if (around := relayed(trace.get_current_span(context).get_span_context())) is not None:
            state, scope, parent_id = around.state, around.parent, around.step_id
        elif (mine := step_span(context)) is not None:
            state, scope = mine.state, (here := mine.here())
            parent_id = here.step_id
        # A deliberate root span, or an instrumentation that keeps its own contexts.
        elif (current := ContextState.current()) is not None and (found := current_scope()) is not None:
            state, scope, parent_id = current, found, found.step_id
        else:
            return
        Relayed(span, state, scope, parent_id)
        state.stream.publish(
            # Whole, for a step that its run does not see end.
            IntermediateStep(
                state.run,
                boundary=Boundary.START,
                step_id=f"{own.span_id:016x}",
                parent_id=parent_id,
                time_ns=span.start_time or state.now_ns(),
                **begun_fields(span, own, parent_id),
            )
        )

    def on_end(self, span: ReadableSpan) -> None:
        own = span.get_span_context()
        entry = relayed(own) if own is not None else None
        if own is None or entry is None or entry.ended:
            return
        entry.ended = True
        entry.state.stream.publish(
            IntermediateStep(
                entry.state.run,
                boundary=Boundary.END,
                step_id=entry.step_id or "",
                parent_id=entry.parent_id,
                time_ns=span.end_time or entry.state.now_ns(),
                **ended_fields(span, own, entry.parent_id),
            )
        )

    def shutdown(self) -> None:
        self._closed = True
