"""Instrumentation scopes of spans, and their encoding."""

from __future__ import annotations

from collections.abc import Sequence

from nat_observability.dialects.vocabulary import decoded_attributes
from nat_observability.events import Span, SpanOrigin
from nat_observability.recording.capture import capture_text
from nat_observability.sinks.otlp.span_message import encodable_attribute, retyped
from nat_observability.sinks.otlp.wire_format import attribute, length_delimited


def spans_by_scope(batch: Sequence[Span]) -> list[tuple[SpanOrigin | None, Sequence[Span]]]:
    """Return the spans of each instrumentation scope, ours as None and first."""
    scopes: dict[tuple[object, ...], tuple[SpanOrigin | None, list[Span]]] = {(): (None, [])}
    for span in batch:
        origin = span.origin
        key: tuple[object, ...] = ()
        if origin is not None:
            attributes = None if origin.scope_attributes is None else bytes(origin.scope_attributes)
            types = tuple(each for each in origin.retyped if each[0].startswith("scope\n"))
            key = (origin.scope_name, origin.scope_version, attributes, origin.schema_url, types)
        scopes.setdefault(key, (origin, []))[1].append(span)
    return [each for each in scopes.values() if each[1]]


def scope_field(origin: SpanOrigin) -> bytes:
    """Return the scope and the schema URL of a ScopeSpans."""
    scope = length_delimited(1, capture_text(origin.scope_name).encode())
    if origin.scope_version is not None:
        scope += length_delimited(2, capture_text(origin.scope_version).encode())
    attributes = decoded_attributes(origin.scope_attributes)
    if origin.retyped:
        attributes |= retyped(origin, "scope", attributes)
    for name, value in attributes.items():
        scope += attribute(3, *encodable_attribute(name, value))
    field = length_delimited(1, scope)
    if origin.schema_url is not None:
        field += length_delimited(3, capture_text(origin.schema_url).encode())
    return field
