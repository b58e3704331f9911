"""ReadableSpans: finished spans of the OpenTelemetry SDK as spans of ours, with everything that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import msgspec

from nat_observability.dialects.opentelemetry_spans import Mapped, decoded_json, mapped
from nat_observability.errors import MissingExtraError
from nat_observability.events import (
    Captured,
    ErrorDetails,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenUsage,
)
from nat_observability.integrations.opentelemetry.foreign_values import captured_attributes, retyped_values
from nat_observability.recording.capture import capture_label, capture_text

try:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import Event, ReadableSpan
except ModuleNotFoundError:
    raise MissingExtraError("ObservabilitySpanExporter", "opentelemetry-sdk") from None

_CACHED_RUNS = 1024
# Where instrumentations put the messages: in these attributes of events of these names, or in an event for each.
_CONTENT_EVENTS = {
    "gen_ai.content.prompt": ("gen_ai.prompt",),
    "gen_ai.content.completion": ("gen_ai.completion",),
    "gen_ai.client.inference.operation.details": ("gen_ai.input.messages", "gen_ai.output.messages"),
}
_MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}
_NOT_OF_MESSAGES = ("gen_ai.system", "gen_ai.provider.name", "event.name")
# The second and third are from the HTTP conventions, whose `error.type` is the status code, but not in all versions.
_ERROR_TYPES = ("error.type", "http.response.status_code", "http.status_code")


class ReadableSpans:
    """
    Makes spans of ours; those of one trace in this process are of one run, whose id is the trace's.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int | None, str | None, str | None], Run] = {}

    def span(self, span: ReadableSpan) -> Span:
        """Return the span of ours. Name, kind, status, attributes, events, links and scope stay as they are."""
        own = span.get_span_context()
        assert own is not None  # of a finished span
        seen = seen_in(span)
        parent = span.parent
        remote = parent.span_id if parent is not None and parent.is_remote else None
        start_ns = span.start_time or span.end_time or 0
        parent_id = None if parent is None else f"{parent.span_id:016x}"
        fields = ended_fields(span, own, parent_id, seen)
        return Span(
            self._run(own.trace_id, remote, seen.mapped.conversation_id, seen.mapped.user_id),
            span_id=f"{own.span_id:016x}",
            parent_id=parent_id,
            start_ns=start_ns,
            end_ns=span.end_time or start_ns,
            status=Status.OK if fields["error"] is None else Status.ERROR,
            **fields,
        )

    def _run(
        self, trace_id: int, remote: int | None, conversation_id: str | None, user_id: str | None
    ) -> Run:
        key = (trace_id, remote, conversation_id, user_id)
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= _CACHED_RUNS:
                self._runs.clear()
            text = f"{trace_id:032x}"
            parent_id = None if remote is None else f"{remote:016x}"
            run = self._runs[key] = Run(text, text, conversation_id, user_id, parent_span_id=parent_id)
        return run


class Seen(NamedTuple):
    """The attributes of a span, read once from the SDK, and what they and its events say about a step."""

    attributes: dict[str, Any]
    mapped: Mapped


class BegunFields(TypedDict):
    """What a span has when it begins, by the names of the fields of steps and spans of ours."""

    kind: StepKind
    name: str
    input: Captured
    tags: tuple[str, ...]
    attributes: msgspec.Raw | None
    links: tuple[SpanLink, ...]
    span_kind: SpanKind
    origin: SpanOrigin


class EndedFields(BegunFields):
    """What it has when it ends."""

    output: Captured
    metadata: msgspec.Raw | None
    usage: TokenUsage | None
    error: ErrorDetails | None
    events: tuple[SpanEvent, ...]
    status_message: str | None
    dropped_attributes_count: int
    dropped_events_count: int
    dropped_links_count: int


def begun_fields(
    span: ReadableSpan, own: trace.SpanContext, parent_id: str | None, seen: Seen | None = None
) -> BegunFields:
    """
    Return what a span has when it begins.

    Args:
        span: Open or finished.
        own: Its context.
        parent_id: Of the span of ours.
        seen: What is known of it already.
    """
    if seen is None:
        seen = seen_in(span)
    attributes, about = seen
    return {
        "kind": about.kind,
        "name": capture_label(span.name),
        "input": about.input,
        "tags": about.tags,
        "attributes": captured_attributes(attributes),
        "links": tuple(map(link_of, span.links)),
        "span_kind": SpanKind(span.kind.name.lower()),
        "origin": origin_of(span, own, parent_id, attributes),
    }


def ended_fields(
    span: ReadableSpan, own: trace.SpanContext, parent_id: str | None, seen: Seen | None = None
) -> EndedFields:
    """Return what a finished span has; the arguments are those of `begun_fields`."""
    if seen is None:
        seen = seen_in(span)
    attributes, about = seen
    description = span.status.description
    return {
        **begun_fields(span, own, parent_id, seen),
        "output": about.output,
        "metadata": about.metadata,
        "usage": about.usage,
        "error": error_of(span, attributes),
        "events": tuple(map(event_of, span.events)),
        "status_message": capture_text(description) if description else None,
        "dropped_attributes_count": span.dropped_attributes,
        "dropped_events_count": span.dropped_events,
        "dropped_links_count": span.dropped_links,
    }


def seen_in(span: ReadableSpan) -> Seen:
    """Return what a span says about itself, with the messages that its events hold."""
    attributes: dict[str, Any] = dict((span.attributes or {}).items())
    messages: dict[str, Any] = {}
    for event in span.events:
        name = str(event.name)
        if not name.startswith("gen_ai."):
            continue
        told = event.attributes or {}
        for key in _CONTENT_EVENTS.get(name, ()):
            if key in told:
                messages.setdefault(key, told[key])
        if (role := _MESSAGE_EVENTS.get(name)) is not None:
            side = "gen_ai.output.messages" if name == "gen_ai.choice" else "gen_ai.input.messages"
            listed = messages.setdefault(side, [])
            if isinstance(listed, list):
                listed.append(_message(role, told))
    return Seen(attributes, mapped({**messages, **attributes} if messages else attributes))


def _message(role: str, told: Mapping[str, Any]) -> Any:
    """Return the message of an event: an object in one attribute, or in an attribute for each of its fields."""
    whole = told.get("gen_ai.event.content")
    fields = {name: value for name, value in told.items() if name not in _NOT_OF_MESSAGES}
    if whole is not None:
        decoded = _structure(whole)
        if not isinstance(decoded, Mapping):
            return {"role": role, "content": decoded}
        fields = dict(decoded)
    fields = {name: _structure(value) for name, value in fields.items()}
    if isinstance(inner := fields.get("message"), Mapping):
        fields = {**{name: value for name, value in fields.items() if name != "message"}, **inner}
    elif inner is not None and "content" not in fields:
        fields["content"] = fields.pop("message")
    return {"role": role, **fields}


def _structure(value: Any) -> Any:
    # Other text may look like JSON, a number for instance.
    return decoded_json(value) if isinstance(value, str) and value.startswith(("{", "[")) else value


def event_of(event: Event) -> SpanEvent:
    """Return an event as one of ours."""
    return SpanEvent(
        capture_label(event.name),
        event.timestamp,
        captured_attributes(event.attributes),
        event.dropped_attributes,
    )


def link_of(link: trace.Link) -> SpanLink:
    """Return a link as one of ours."""
    context = link.context
    return SpanLink(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        captured_attributes(link.attributes),
        context.trace_state.to_header() or None,
        int(context.trace_flags),
        link.dropped_attributes,
        context.is_remote,
    )


def origin_of(
    span: ReadableSpan, own: trace.SpanContext, parent_id: str | None, attributes: Mapping[str, Any]
) -> SpanOrigin:
    """Return what a span has beside its attributes: scope, schema, `tracestate`, types that JSON does not have."""
    parent = span.parent
    # A step of ours may be the parent instead.
    is_remote = parent is not None and parent.is_remote and f"{parent.span_id:016x}" == parent_id
    scope = span.instrumentation_scope
    state = own.trace_state.to_header() or None
    ok = span.status.status_code is trace.StatusCode.OK
    retyped = tuple(retyped_values(span, attributes))
    flags = int(own.trace_flags)
    if scope is None:
        return SpanOrigin(
            trace_state=state, ok=ok, retyped=retyped, trace_flags=flags, parent_is_remote=is_remote
        )
    return SpanOrigin(
        capture_label(scope.name or ""),
        capture_label(scope.version) if scope.version else None,
        captured_attributes(scope.attributes),
        scope.schema_url or None,
        state,
        ok,
        retyped,
        flags,
        is_remote,
    )


def error_of(span: ReadableSpan, attributes: Mapping[str, Any]) -> ErrorDetails | None:
    """Return the error of a span whose status is an error."""
    if span.status.status_code is not trace.StatusCode.ERROR:
        return None  # a recorded exception that was handled is an event
    for event in reversed(span.events):
        if event.name == "exception":
            told: Mapping[str, Any] = event.attributes or {}
            traceback = told.get("exception.stacktrace")
            return ErrorDetails(
                capture_text(str(told.get("exception.type") or _error_type(attributes))),
                capture_text(str(told.get("exception.message") or span.status.description or "")),
                capture_text(str(traceback)) if traceback else None,
            )
    return ErrorDetails(capture_text(_error_type(attributes)), capture_text(span.status.description or ""))


def _error_type(attributes: Mapping[str, Any]) -> str:
    return next((str(attributes[key]) for key in _ERROR_TYPES if key in attributes), "_OTHER")
