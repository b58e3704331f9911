"""otlp_json(): spans as an OTLP request in JSON, as the exporters send them in protobuf."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from nat_observability.events import Span
from nat_observability.sinks.otlp.encoding import encode

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Field(NamedTuple):
    name: str
    read: Callable[[Any], Any]
    repeated: bool = False


def otlp_json(spans: Sequence[Span]) -> bytes:
    """
    Return spans as the JSON form of an ExportTraceServiceRequest, which a collector takes at `/v1/traces`.

    It is the request that the exporters send, read back: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
    """
    return msgspec.json.encode(_message(encode(spans, {"service.name": "nat-observability"}), _REQUEST))


def _message(data: bytes, fields: dict[int, _Field]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _wire(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.repeated:
            found.setdefault(field.name, []).append(field.read(value))
        else:
            found[field.name] = field.read(value)
    return found


def _wire(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a message; https://protobuf.dev/programming-guides/encoding/."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif kind == _BYTES:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        else:
            size = 8 if kind == _FIXED64 else 4
            yield number, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _time(value: bytes) -> str:
    return str(int.from_bytes(value, "little"))  # 64 bits are text in JSON


def _flags(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _integer(value: int) -> str:
    return str(value - (1 << 64) if value >= 1 << 63 else value)


def _double(value: bytes) -> float | str:
    (number,) = struct.unpack("<d", value)
    # JSON has no such numbers; protobuf's form of it writes their names.
    return (
        number
        if abs(number) < float("inf")
        else "NaN"
        if number != number
        else str(number).replace("inf", "Infinity")
    )


def _nested(fields: dict[int, _Field]) -> Callable[[bytes], dict[str, Any]]:
    return lambda data: _message(data, fields)


_ANY: dict[int, _Field] = {}
_PAIR = {1: _Field("key", _text), 2: _Field("value", _nested(_ANY))}
_ANY |= {
    1: _Field("stringValue", _text),
    2: _Field("boolValue", bool),
    3: _Field("intValue", _integer),
    4: _Field("doubleValue", _double),
    5: _Field("arrayValue", _nested({1: _Field("values", _nested(_ANY), True)})),
    6: _Field("kvlistValue", _nested({1: _Field("values", _nested(_PAIR), True)})),
    7: _Field("bytesValue", lambda value: base64.b64encode(value).decode()),
}
_ATTRIBUTES = _Field("attributes", _nested(_PAIR), True)
_EVENT = {
    1: _Field("timeUnixNano", _time),
    2: _Field("name", _text),
    3: _ATTRIBUTES,
    4: _Field("droppedAttributesCount", int),
}
_LINK = {
    1: _Field("traceId", bytes.hex),
    2: _Field("spanId", bytes.hex),
    3: _Field("traceState", _text),
    4: _ATTRIBUTES,
    5: _Field("droppedAttributesCount", int),
    6: _Field("flags", _flags),
}
_SPAN = {
    1: _Field("traceId", bytes.hex),
    2: _Field("spanId", bytes.hex),
    3: _Field("traceState", _text),
    4: _Field("parentSpanId", bytes.hex),
    5: _Field("name", _text),
    6: _Field("kind", int),
    7: _Field("startTimeUnixNano", _time),
    8: _Field("endTimeUnixNano", _time),
    9: _ATTRIBUTES,
    10: _Field("droppedAttributesCount", int),
    11: _Field("events", _nested(_EVENT), True),
    12: _Field("droppedEventsCount", int),
    13: _Field("links", _nested(_LINK), True),
    14: _Field("droppedLinksCount", int),
    15: _Field("status", _nested({2: _Field("message", _text), 3: _Field("code", int)})),
    16: _Field("flags", _flags),
}
_SCOPE = {1: _Field("name", _text), 2: _Field("version", _text), 3: _ATTRIBUTES}
_SCOPE_SPANS = {1: _Field("scope", _nested(_SCOPE)), 2: _Field("spans", _nested(_SPAN), True)}
_RESOURCE_SPANS = {
    1: _Field("resource", _nested({1: _ATTRIBUTES})),
    2: _Field("scopeSpans", _nested(_SCOPE_SPANS), True),
}
_REQUEST = {1: _Field("resourceSpans", _nested(_RESOURCE_SPANS), True)}
