"""A run as an ExportTraceServiceRequest in OTLP's JSON encoding, written span by span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from nat_observability.dialects.span_attributes import decoded_attributes
from nat_observability.events import Span, SpanKind, Status
from nat_observability.sinks.otlp.span_message import encodable, has_exception_event, id_bytes
from nat_observability.store import Store
from nat_observability.version import package_version
from nat_observability.viewer.store_file import Reader, StoreFile

_SPAN_KINDS = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_AT_ONCE = 200
_INCOMPLETE = "The run ended before this step did."


async def pieces(store: StoreFile, run_id: str) -> AsyncIterator[bytes]:
    """
    Yield the request in pieces, one for some spans.

    Raises:
        SinkError: The store, or a span in it, cannot be read.
    """
    ids = await store.read(lambda reader: _ids(reader, run_id), 20.0)
    scope = {"name": "nat_observability", "version": await asyncio.to_thread(package_version)}
    yield b'{"resourceSpans":[{"resource":{"attributes":['
    yield msgspec.json.encode(_attribute("service.name", "unknown_service"))
    yield b']},"scopeSpans":[{"scope":' + msgspec.json.encode(scope) + b',"spans":['
    separator = b""
    for some in _batched(ids):
        encoded = await asyncio.to_thread(_encoded, store.path, run_id, some)
        if encoded:
            yield separator + b",".join(encoded)
            separator = b","
    yield b"]}]}]}"


def span_message(span: Span) -> dict[str, Any]:
    """Return a span as a message of OTLP's JSON encoding: ids in hex, times and integers as text."""
    clean, attributes = encodable(span)
    message: dict[str, Any] = {
        "traceId": id_bytes(clean.run.trace_id, 16).hex(),
        "spanId": id_bytes(clean.span_id, 8).hex(),
        "name": clean.name,
        "kind": _SPAN_KINDS[clean.span_kind],
        "startTimeUnixNano": str(clean.start_ns),
        "endTimeUnixNano": str(clean.end_ns),
        "attributes": _attributes(attributes),
    }
    if clean.parent_id is not None:
        message["parentSpanId"] = id_bytes(clean.parent_id, 8).hex()
    if clean.status is Status.INCOMPLETE:
        message["attributes"].append(_attribute("nat.span.incomplete", True))
    events = [
        {
            "timeUnixNano": str(event.time_ns),
            "name": event.name,
            "attributes": _attributes(decoded_attributes(event.attributes)),
            "droppedAttributesCount": event.dropped_attributes_count,
        }
        for event in clean.events
    ]
    error = clean.error
    if error is not None and not has_exception_event(clean, error):
        facts = {"exception.type": error.type, "exception.message": error.message}
        if error.traceback is not None:
            facts["exception.stacktrace"] = error.traceback
        events.append(
            {"timeUnixNano": str(clean.end_ns), "name": "exception", "attributes": _attributes(facts)}
        )
    if events:
        message["events"] = events
    if clean.links:
        message["links"] = [
            {
                "traceId": id_bytes(link.trace_id, 16).hex(),
                "spanId": id_bytes(link.span_id, 8).hex(),
                "traceState": link.trace_state or "",
                "attributes": _attributes(decoded_attributes(link.attributes)),
                "droppedAttributesCount": link.dropped_attributes_count,
                "flags": link.trace_flags & 0xFF,
            }
            for link in clean.links
        ]
    dropped = {
        "droppedAttributesCount": clean.dropped_attributes_count,
        "droppedEventsCount": clean.dropped_events_count,
        "droppedLinksCount": clean.dropped_links_count,
    }
    message |= {name: number for name, number in dropped.items() if number}
    if clean.status is not Status.OK:
        described = clean.status_message or (error and (error.message or error.type))
        incomplete = _INCOMPLETE if clean.status is Status.INCOMPLETE else ""
        message["status"] = {"code": 2, "message": described or incomplete}
    return message


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_attribute(key, value) for key, value in values.items()]


def _attribute(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {} if value is None else {"stringValue": str(value)}


def _encoded(path: str, run_id: str, span_ids: tuple[str, ...]) -> list[bytes]:
    with Store(path) as store:
        found = (store.span(run_id, span_id) for span_id in span_ids)
        # A step that is still open has no end yet, and is no span.
        return [
            msgspec.json.encode(span_message(node.span))
            for node in found
            if node is not None and not node.running
        ]


def _ids(reader: Reader, run_id: str) -> list[str]:
    return [
        span_id
        for (span_id,) in reader.rows("SELECT span_id FROM spans WHERE run_id = ? ORDER BY start_ns", run_id)
    ]


def _batched(ids: list[str]) -> list[tuple[str, ...]]:
    return [tuple(ids[at : at + _AT_ONCE]) for at in range(0, len(ids), _AT_ONCE)]
