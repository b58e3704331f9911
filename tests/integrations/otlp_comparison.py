"""A span after decoding, as OpenTelemetry's SDK has it and as OTLP carries it, to be compared field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan

_OURS = ("nat.", "gen_ai.conversation.id", "session.id", "user.id")


class Seen(NamedTuple):
    """A span without its trace, and without what the conventions of this project add to it."""

    name: str
    kind: str
    status: tuple[str, str]
    attributes: Mapping[str, Any]
    events: list[tuple[str, int, Mapping[str, Any]]]
    links: list[tuple[int, int, str, int, Mapping[str, Any]]]
    scope: tuple[str, str, str, Mapping[str, Any]]
    trace_state: str
    has_remote_parent: bool
    times: tuple[int, int]


def of_the_sdk(span: ReadableSpan) -> Seen:
    """Return a span as the SDK holds it."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None
    assert scope is not None
    code, description = span.status.status_code.name, span.status.description or ""
    return Seen(
        span.name,
        span.kind.name,
        (code, description),
        plain(span.attributes),
        [(event.name, event.timestamp, plain(event.attributes)) for event in span.events],
        [
            (
                link.context.trace_id,
                link.context.span_id,
                link.context.trace_state.to_header(),
                0x300 if link.context.is_remote else 0x100,
                plain(link.attributes),
            )
            for link in span.links
        ],
        (scope.name, scope.version or "", scope.schema_url or "", plain(scope.attributes)),
        context.trace_state.to_header(),
        span.parent is not None and span.parent.is_remote,
        (span.start_time or 0, span.end_time or 0),
    )


def of_otlp(request: bytes, *, ours_too: bool = False) -> dict[bytes, Seen]:
    """Return the spans of a request by their ids."""
    return {span.span_id: _seen(span, scope, ours_too=ours_too) for span, scope in _spans(request)}


def _spans(request: bytes) -> Iterator[tuple[trace_pb2.Span, trace_pb2.ScopeSpans]]:
    for resource_spans in ExportTraceServiceRequest.FromString(request).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield span, scope_spans


def _seen(span: trace_pb2.Span, of: trace_pb2.ScopeSpans, *, ours_too: bool) -> Seen:
    attributes = decoded(span.attributes)
    if not ours_too:
        attributes = {name: value for name, value in attributes.items() if not name.startswith(_OURS)}
    return Seen(
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        (
            trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            span.status.message,
        ),
        attributes,
        [(event.name, event.time_unix_nano, decoded(event.attributes)) for event in span.events],
        [
            (
                int.from_bytes(link.trace_id),
                int.from_bytes(link.span_id),
                link.trace_state,
                link.flags & ~0xFF,
                decoded(link.attributes),
            )
            for link in span.links
        ],
        (of.scope.name, of.scope.version, of.schema_url, decoded(of.scope.attributes)),
        span.trace_state,
        span.flags & 0x300 == 0x300,
        (span.start_time_unix_nano, span.end_time_unix_nano),
    )


def decoded(pairs: Any) -> dict[str, Any]:
    """Return attributes of a message as Python values."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return decoded(value.kvlist_value.values)
    found = getattr(value, kind)
    # Not a number is not equal to itself.
    return repr(found) if kind == "double_value" and found - found != 0 else found


def plain(value: Any) -> Any:
    """Return attributes of the SDK's as they are decoded."""
    if value is None:
        return {}
    return {name: _plain(each) for name, each in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return repr(value) if isinstance(value, float) and value - value != 0 else value
