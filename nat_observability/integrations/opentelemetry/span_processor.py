"""StepSpanProcessor: spans that OpenTelemetry instrumentations record become steps of the current run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat_observability.context import ContextState, current_scope
from nat_observability.dialects.opentelemetry_spans import mapped
from nat_observability.errors import MissingExtraError
from nat_observability.events import (
    Boundary,
    ErrorDetails,
    IntermediateStep,
    SpanEvent,
    SpanKind,
    SpanLink,
)
from nat_observability.integrations.opentelemetry.current_span import (
    Relayed,
    follow_steps,
    relayed,
    step_span,
)
from nat_observability.recording.capture import capture_json, capture_label, capture_text
from nat_observability.recording.details.attributes import captured_attributes
from nat_observability.recording.generators import Scope

try:
    from opentelemetry import context as otel
    from opentelemetry import trace
    from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
except ModuleNotFoundError:
    raise MissingExtraError("StepSpanProcessor", "opentelemetry-sdk") from None

# Where instrumentations of the first GenAI conventions put the messages: events of these names, in this attribute.
_CONTENT_EVENTS = {
    "gen_ai.content.prompt": "gen_ai.prompt",
    "gen_ai.content.completion": "gen_ai.completion",
}
# The second and third are from the HTTP conventions, whose `error.type` is the status code, but not in all versions.
_ERROR_TYPES = ("error.type", "http.response.status_code", "http.status_code")


class StepSpanProcessor(SpanProcessor):
    """
    Makes each span that starts inside a run a step of that run, below the step or span that it started in.

    Pass it to `TracerProvider.add_span_processor`. The span's id is the step's, so one trace holds both; see
    `follow_steps`, which this calls, for the other direction. Kind, name, input, output, usage, tags and error are read
    as `mapped` describes, when the span ends. The attributes, the events, the links, the span kind and the status's
    description are the step's too, as they were set; its metadata has what `mapped` does not show, and under `otel.`
    the span's own name, kind and instrumentation.

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
        seen = mapped(span.name, span.attributes or {})
        state.stream.publish(
            IntermediateStep(
                state.run,
                seen.kind,
                Boundary.START,
                seen.name,
                f"{own.span_id:016x}",
                parent_id,
                span.start_time or state.now_ns(),
                seen.input,
                tags=seen.tags,
            )
        )

    def on_end(self, span: ReadableSpan) -> None:
        own = span.get_span_context()
        entry = relayed(own) if own is not None else None
        if entry is None or entry.ended:
            return
        entry.ended = True
        attributes: dict[str, Any] = dict(span.attributes or {})
        for event in span.events:
            key = _CONTENT_EVENTS.get(event.name)
            if key is not None and event.attributes and key in event.attributes:
                attributes.setdefault(key, event.attributes[key])
        error, told_by = _error(span)
        seen = mapped(span.name, attributes)
        entry.state.stream.publish(
            IntermediateStep(
                entry.state.run,
                seen.kind,
                Boundary.END,
                seen.name,
                entry.step_id or "",
                entry.parent_id,
                span.end_time or entry.state.now_ns(),
                seen.input,
                seen.output,
                metadata=capture_json({**seen.rest, **_circumstances(span, seen.name, told_by)}),
                tags=seen.tags,
                usage=seen.usage,
                error=error,
                attributes=captured_attributes(span.attributes),
                events=tuple(map(_event, span.events)),
                links=tuple(map(_link, span.links)),
                span_kind=SpanKind(span.kind.name.lower()),
                status_message=capture_text(span.status.description) if span.status.description else None,
                dropped_attributes_count=span.dropped_attributes,
                dropped_events_count=span.dropped_events,
                dropped_links_count=span.dropped_links,
            )
        )

    def shutdown(self) -> None:
        self._closed = True


def _event(event: Event) -> SpanEvent:
    return SpanEvent(
        capture_label(event.name),
        event.timestamp,
        captured_attributes(event.attributes),
        event.dropped_attributes,
    )


def _link(link: trace.Link) -> SpanLink:
    context = link.context
    return SpanLink(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        captured_attributes(link.attributes),
        context.trace_state.to_header() or None,
        int(context.trace_flags),
        link.dropped_attributes,
    )


def _error(span: ReadableSpan) -> tuple[ErrorDetails | None, Event | None]:
    """Return the error of a span whose status is an error, and the event that recorded it."""
    if span.status.status_code is not trace.StatusCode.ERROR:
        return None, None  # a recorded exception that was handled is an event
    attributes = span.attributes or {}
    for event in reversed(span.events):
        if event.name == "exception":
            told: Mapping[str, Any] = event.attributes or {}
            traceback = told.get("exception.stacktrace")
            return ErrorDetails(
                capture_text(str(told.get("exception.type") or _error_type(attributes))),
                capture_text(str(told.get("exception.message") or span.status.description or "")),
                capture_text(str(traceback)) if traceback else None,
            ), event
    return ErrorDetails(
        capture_text(_error_type(attributes)), capture_text(span.status.description or "")
    ), None


def _error_type(attributes: Mapping[str, Any]) -> str:
    return next((str(attributes[key]) for key in _ERROR_TYPES if key in attributes), "_OTHER")


def _circumstances(span: ReadableSpan, name: str, told_by: Event | None) -> dict[str, Any]:
    """Return the parts of a span that a step has no field for."""
    found: dict[str, Any] = {}
    if span.name != name:
        found["otel.name"] = span.name
    if span.kind is not trace.SpanKind.INTERNAL:
        found["otel.kind"] = span.kind.name.lower()
    if span.instrumentation_scope is not None:
        found["otel.scope"] = span.instrumentation_scope.name
    events = [
        {"name": event.name, "time_ns": event.timestamp, "attributes": dict(event.attributes or {})}
        for event in span.events
        if event is not told_by and event.name not in _CONTENT_EVENTS
    ]
    if events:
        found["otel.events"] = events
    links = [
        {"trace_id": f"{link.context.trace_id:032x}", "span_id": f"{link.context.span_id:016x}"}
        for link in span.links
    ]
    if links:
        found["otel.links"] = links
    return found
