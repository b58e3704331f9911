"""The parts of an OTLP Span message: ids, status, events and links as protobuf fields, and what stands for a value."""

# Written by hand, because the messages of opentelemetry-proto take 2.3 times as long, which is too slow; the tests
# decode with them. Field numbers and types: opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto,
# release 1.10.

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from nat_observability.dialects.dialect import Attributes
from nat_observability.dialects.vocabulary import decoded_attributes
from nat_observability.events import (
    Captured,
    ErrorDetails,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
)
from nat_observability.recording.capture import capture, capture_json, capture_text
from nat_observability.sinks.otlp.wire_format import (
    FIXED64,
    NOT_ENCODABLE,
    OddDouble,
    any_value,
    attribute,
    length_delimited,
    varint,
)

NO_TRACE, NO_SPAN = "0" * 32, "0" * 16
"""The ids that OpenTelemetry calls invalid."""

_MAX_TIME = 2**64 - 1
_MAX_COUNT = 2**32 - 1
_MAX_DEPTH = 64  # twice what a capture records; a processor may make more
_STATUS_ERROR = b"\x18\x02"
STATUS_OK = b"\x7a\x02\x18\x01"
"""The status of a span of another instrumentation that set it to OK."""

_ESCAPED = re.compile(r"\\([\\n])")
_INCOMPLETE = "The run ended before this step did."

SPAN_KINDS = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
"""The fields of the span kinds."""


INCOMPLETE_MARK = attribute(9, "nat.span.incomplete", True)


def hex_ids(trace_id: str, span_id: str, parent_id: str | None) -> bytes | None:
    """Return the fields of the ids, or None if one of them is not a valid id of OpenTelemetry."""
    if len(trace_id) != 32 or len(span_id) != 16 or trace_id == NO_TRACE or span_id == NO_SPAN:
        return None
    try:
        # fromhex() skips white space, so the length shows whether all of it was digits.
        if parent_id is None:
            ids = bytes.fromhex(f"0a10{trace_id}1208{span_id}")
            return ids if len(ids) == 28 else None
        if len(parent_id) != 16 or parent_id == NO_SPAN:
            return None
        ids = bytes.fromhex(f"0a10{trace_id}1208{span_id}2208{parent_id}")
        return ids if len(ids) == 38 else None
    except ValueError:
        return None


def hashed_ids(trace_id: str, span_id: str, parent_id: str | None) -> bytes:
    ids = length_delimited(1, id_bytes(trace_id, 16)) + length_delimited(2, id_bytes(span_id, 8))
    return ids if parent_id is None else ids + length_delimited(4, id_bytes(parent_id, 8))


def span_id_bytes(step_id: str) -> bytes:
    """Return the 8 bytes that a step's id is sent as: its hex digits decoded, or a hash of any other id."""
    return id_bytes(step_id, 8)


def id_bytes(text: str, size: int) -> bytes:
    """Return the bytes of an id: its hex digits decoded, or else a hash, which is never all zero."""
    try:
        encoded = bytes.fromhex(text)
        if len(text) == 2 * size == 2 * len(encoded) and any(encoded):
            return encoded
    except ValueError:
        pass
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return digest if any(digest) else bytes(size - 1) + b"\x01"


def status_field(span: Span) -> bytes:
    """Return the status ERROR, with its message, or the exception's as the conventions on recording errors say."""
    error = span.error
    if span.status_message:
        message = span.status_message
    elif span.origin is not None and span.status is Status.ERROR:
        message = ""
    elif error is not None:
        message = error.message or error.type
    else:
        message = _INCOMPLETE if span.status is Status.INCOMPLETE else ""
    described = length_delimited(2, message.encode()) if message else b""
    return length_delimited(15, described + _STATUS_ERROR)


def has_exception_event(span: Span, error: ErrorDetails) -> bool:
    """Whether the exception that ended a span is among its own events."""
    return any(
        event.name == "exception" and decoded_attributes(event.attributes).get("exception.type") == error.type
        for event in span.events
    )


def exception_event(error: ErrorDetails, time_ns: int) -> bytes:
    """Return the event of https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/."""
    event = b"\x09" + FIXED64.pack(time_ns) + length_delimited(2, b"exception")
    event += attribute(3, "exception.type", error.type) + attribute(3, "exception.message", error.message)
    if error.traceback is not None:
        event += attribute(3, "exception.stacktrace", error.traceback)
    return length_delimited(11, event)


def events_and_links(span: Span) -> bytes:
    """Return the events and links of a span, and the counts of what was dropped."""
    origin = span.origin if span.origin is not None and span.origin.retyped else None
    parts = [
        length_delimited(11, _event(event, _of_part(origin, f"events\n{index}", event)))
        for index, event in enumerate(span.events)
    ]
    parts += [
        length_delimited(13, _link(link, _of_part(origin, f"links\n{index}", link)))
        for index, link in enumerate(span.links)
    ]
    for number, count in (
        (10, span.dropped_attributes_count),
        (12, span.dropped_events_count),
        (14, span.dropped_links_count),
    ):
        parts.append(_count(number, count))
    return b"".join(parts)


def _of_part(origin: SpanOrigin | None, place: str, part: SpanEvent | SpanLink) -> Attributes:
    attributes = decoded_attributes(part.attributes)
    return attributes if origin is None else attributes | retyped(origin, place, attributes)


def retyped(origin: SpanOrigin, place: str, attributes: Attributes) -> Attributes:
    """
    Return those attributes whose values JSON has no type for, as another instrumentation gave them.

    What a processor has changed since stays as it is.

    Args:
        place: Of the attributes in the span, as in `SpanOrigin.retyped`.
    """
    found: Attributes = {}
    for path, kind in origin.retyped:
        if not path.startswith(f"{place}\n"):
            continue
        name, *inner = map(_unescaped, path[len(place) + 1 :].split("\n"))
        if name in attributes:
            found[name] = _retyped(found.get(name, attributes[name]), inner, kind)
    return found


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else "\\", name) if "\\" in name else name


def _retyped(value: Any, path: list[str], kind: str) -> Any:
    if path and isinstance(value, list | tuple):
        index = int(path[0]) if path[0].isdecimal() else -1
        return [_retyped(each, path[1:], kind) if at == index else each for at, each in enumerate(value)]
    if path and isinstance(value, dict):
        return {
            name: _retyped(each, path[1:], kind) if name == path[0] else each for name, each in value.items()
        }
    if path or not isinstance(value, str):
        return value
    if kind == "double":
        return OddDouble(value) if value in ("NaN", "Infinity", "-Infinity") else value
    if kind == "bytes":
        return value.encode()
    if kind == "latin-1":
        return value.encode("latin-1", errors="replace")
    try:  # of a spool of version 0.1.0
        return base64.b64decode(value, validate=True)
    except ValueError:
        return value


def encodable_attribute(name: str, value: Any) -> tuple[str, Any]:
    """Return an attribute that can be encoded."""
    return _text(name), _value(value)


def _event(event: SpanEvent, attributes: Attributes) -> bytes:
    return b"".join(
        [
            b"\x09" + FIXED64.pack(event.time_ns),
            length_delimited(2, event.name.encode()),
            *(attribute(3, key, value) for key, value in attributes.items()),
            _count(4, event.dropped_attributes_count),
        ]
    )


def _link(link: SpanLink, attributes: Attributes) -> bytes:
    return b"".join(
        [
            # OpenTelemetry has links to no span, which have attributes or a trace state.
            length_delimited(1, bytes(16) if link.trace_id == NO_TRACE else id_bytes(link.trace_id, 16)),
            length_delimited(2, bytes(8) if link.span_id == NO_SPAN else id_bytes(link.span_id, 8)),
            length_delimited(3, link.trace_state.encode()) if link.trace_state else b"",
            *(attribute(4, key, value) for key, value in attributes.items()),
            _count(5, link.dropped_attributes_count),
            b"\x35" + struct.pack("<I", flags) if (flags := _link_flags(link)) else b"",
        ]
    )


def _link_flags(link: SpanLink) -> int:
    # Bit 8 says that bit 9 does, which is set if the linked span's context came from another process.
    remote = 0 if link.is_remote is None else 0x300 if link.is_remote else 0x100
    return link.trace_flags & 0xFF | remote


def _count(number: int, count: int) -> bytes:
    return bytes((number << 3,)) + varint(min(count, _MAX_COUNT)) if count > 0 else b""


def encodable(span: Span, attributes_of: Callable[[Span], Attributes]) -> tuple[Span, Attributes]:
    """
    Return a span and its attributes with what cannot be encoded replaced, and named in `nat.span.replaced`.

    Args:
        attributes_of: Returns the attributes of a span in the dialects of the back end.
    """
    replaced: list[str] = []

    def kept(name: str, before: Any, after: Any) -> Any:
        if before != after or not isinstance(before, type(after)):
            replaced.append(name)
        return after

    def payload(name: str, value: Captured) -> Captured:
        if isinstance(value, msgspec.Raw):
            try:
                str(value, "utf-8")
            except UnicodeDecodeError:
                replaced.append(name)
                return bytes(value).decode("utf-8", "backslashreplace")
            return value
        clean: Captured = kept(name, value, capture(value))
        return clean

    error = span.error
    if error is not None:
        trace = error.traceback
        error = ErrorDetails(
            kept("exception.type", error.type, _text(error.type)),
            kept("exception.message", error.message, _text(error.message)),
            trace if trace is None else kept("exception.stacktrace", trace, _text(trace)),
        )
    metadata = payload("metadata", span.metadata)

    def part(name: str, each: Any) -> Any:
        """Return an event or a link whose attributes can be encoded."""
        attributes = decoded_attributes(each.attributes)
        values = {_text(key): kept(name, value, _value(value)) for key, value in attributes.items()}
        return msgspec.structs.replace(each, attributes=capture_json(values) if values else None)

    clean = msgspec.structs.replace(
        span,
        name=kept("name", span.name, _text(span.name)),
        start_ns=kept("start_time", span.start_ns, _time(span.start_ns)),
        end_ns=kept("end_time", span.end_ns, _time(span.end_ns)),
        input=payload("input.value", span.input),
        output=payload("output.value", span.output),
        metadata=capture_json(metadata) if isinstance(metadata, str) else metadata,
        error=error,
        events=tuple(
            msgspec.structs.replace(
                part("events", each),
                name=kept("events", each.name, _text(each.name)),
                time_ns=kept("events", each.time_ns, _time(each.time_ns)),
            )
            for each in span.events
        ),
        links=tuple(
            msgspec.structs.replace(
                part("links", each),
                trace_state=None
                if each.trace_state is None
                else kept("links", each.trace_state, _text(each.trace_state)),
            )
            for each in span.links
        ),
        status_message=None
        if span.status_message is None
        else kept("status_message", span.status_message, _text(span.status_message)),
    )
    attributes = {_text(key): kept(key, value, _value(value)) for key, value in attributes_of(clean).items()}
    if replaced:
        attributes["nat.span.replaced"] = tuple(dict.fromkeys(replaced))
    return clean, attributes


def _value(value: Any, depth: int = 0) -> Any:
    if isinstance(value, tuple | list | dict) and depth > _MAX_DEPTH:
        return _text(value)
    if isinstance(value, tuple | list):
        values = [_value(item, depth + 1) for item in value]
        return tuple(values) if isinstance(value, tuple) else values
    if isinstance(value, dict):
        return {_text(key): _value(item, depth + 1) for key, item in value.items()}
    try:
        any_value(value)
    except NOT_ENCODABLE:
        return _text(value)
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return capture_text(value)
    if isinstance(value, float):
        return str(value)
    return str(bytes(capture_json(value)), "utf-8")


def _time(value: object) -> int:
    return min(max(value, 0), _MAX_TIME) if isinstance(value, int) else 0
