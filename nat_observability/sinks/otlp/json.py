"""json_request(): an OTLP request as JSON instead of protobuf, as the OTLP specification maps one to the other."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from nat_observability.sinks.otlp.wire_format import DOUBLE, FIXED64, fields

SPANS_BETWEEN = 64
"""Spans that are converted in one stretch."""

_encode = msgspec.json.Encoder().encode

Converter = Callable[[Any], Any]
"""Converts the value of a field as it comes over the wire: an int for a varint, else the bytes."""


class _Field(NamedTuple):
    name: str
    convert: Converter
    repeated: bool = False


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _hex(data: bytes) -> str:
    return data.hex()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fixed64(data: bytes) -> str:
    return str(FIXED64.unpack(data)[0])


def _fixed32(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _int64(number: int) -> str:
    return str(number - (1 << 64) if number >> 63 else number)


def _number(number: int) -> int:
    return number


def _double(data: bytes) -> float | str:
    number: float = DOUBLE.unpack(data)[0]
    # JSON has no such numbers: these are the names that the mapping of protobuf gives them.
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _message(schema: Mapping[int, _Field]) -> Converter:
    def convert(data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, value in fields(data):
            known = schema.get(number)
            if known is None:
                continue
            if known.repeated:
                found.setdefault(known.name, []).append(known.convert(value))
            else:
                found[known.name] = known.convert(value)
        return found

    return convert


# The field numbers of opentelemetry/proto/{common,resource,trace}/v1/*.proto. By the section "JSON Protobuf Encoding"
# of the OTLP specification ids are hexadecimal, enumerations are numbers, and names are in lowerCamelCase; the rest is
# the mapping of protobuf to JSON, which has 64-bit integers as text.
_VALUE: dict[int, _Field] = {
    1: _Field("stringValue", _text),
    2: _Field("boolValue", bool),
    3: _Field("intValue", _int64),
    4: _Field("doubleValue", _double),
    7: _Field("bytesValue", _base64),
}
_KEY_VALUE = {1: _Field("key", _text), 2: _Field("value", _message(_VALUE))}
_ATTRIBUTES = _Field("attributes", _message(_KEY_VALUE), repeated=True)


def _list(item: Mapping[int, _Field]) -> Converter:
    convert = _message({1: _Field("values", _message(item), repeated=True)})
    # An empty list is one too, which the absence of its field would not say.
    return lambda data: convert(data) or {"values": []}


_VALUE[5] = _Field("arrayValue", _list(_VALUE))
_VALUE[6] = _Field("kvlistValue", _list(_KEY_VALUE))
_EVENT = {
    1: _Field("timeUnixNano", _fixed64),
    2: _Field("name", _text),
    3: _ATTRIBUTES,
    4: _Field("droppedAttributesCount", _number),
}
_LINK = {
    1: _Field("traceId", _hex),
    2: _Field("spanId", _hex),
    3: _Field("traceState", _text),
    4: _ATTRIBUTES,
    5: _Field("droppedAttributesCount", _number),
    6: _Field("flags", _fixed32),
}
_STATUS = {2: _Field("message", _text), 3: _Field("code", _number)}
_SPAN = {
    1: _Field("traceId", _hex),
    2: _Field("spanId", _hex),
    3: _Field("traceState", _text),
    4: _Field("parentSpanId", _hex),
    5: _Field("name", _text),
    6: _Field("kind", _number),
    7: _Field("startTimeUnixNano", _fixed64),
    8: _Field("endTimeUnixNano", _fixed64),
    9: _ATTRIBUTES,
    10: _Field("droppedAttributesCount", _number),
    11: _Field("events", _message(_EVENT), repeated=True),
    12: _Field("droppedEventsCount", _number),
    13: _Field("links", _message(_LINK), repeated=True),
    14: _Field("droppedLinksCount", _number),
    15: _Field("status", _message(_STATUS)),
    16: _Field("flags", _fixed32),
}
_SCOPE = {
    1: _Field("name", _text),
    2: _Field("version", _text),
    3: _ATTRIBUTES,
    4: _Field("droppedAttributesCount", _number),
}
_RESOURCE = {1: _ATTRIBUTES, 2: _Field("droppedAttributesCount", _number)}


def json_request(request: bytes, between: Callable[[], object] | None = None) -> bytes:
    """
    Return an ExportTraceServiceRequest, as protobuf, in the JSON that the specification maps it to, on one line.

    Fields that the specification did not have yet are left out.

    Args:
        request: The message as protobuf.
        between: Called between two stretches of `SPANS_BETWEEN` spans.

    Raises:
        ValueError: The bytes are not such a message.
    """
    count = 0
    convert_span = _message(_SPAN)

    def span(data: bytes) -> msgspec.Raw:
        nonlocal count
        count += 1
        if between is not None and count % SPANS_BETWEEN == 0:
            between()
        return msgspec.Raw(_encode(convert_span(data)))

    scope_spans = {
        1: _Field("scope", _message(_SCOPE)),
        2: _Field("spans", span, repeated=True),
        3: _Field("schemaUrl", _text),
    }
    resource_spans = {
        1: _Field("resource", _message(_RESOURCE)),
        2: _Field("scopeSpans", _message(scope_spans), repeated=True),
        3: _Field("schemaUrl", _text),
    }
    whole = _message({1: _Field("resourceSpans", _message(resource_spans), repeated=True)})
    return _encode(whole(request) or {"resourceSpans": []})
