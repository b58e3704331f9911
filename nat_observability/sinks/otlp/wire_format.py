"""OTLP in protobuf's wire format: numbers, fields and attributes, and what an encoder remembers of what recurs."""

# https://protobuf.dev/programming-guides/encoding/, as far as OTLP needs it.

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from nat_observability.dialects.dialect import AttributeValue
from nat_observability.dialects.openinference import INDEXED_PREFIXES

FIXED64 = struct.Struct("<Q")
DOUBLE = struct.Struct("<d")

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_BYTES = tuple(bytes((number,)) for number in range(0x80))

NOT_ENCODABLE = (
    LookupError,
    OverflowError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    struct.error,
)
"""The exceptions for a span with a value that cannot be encoded; `encodable` replaces the value."""

_MAX_INT = 2**63
_CACHED_LENGTH = 256
_CACHED_VALUES = 1024
_CACHED_NAMES = 256

KeyT = TypeVar("KeyT")


def varint(number: int) -> bytes:
    """Return a non-negative number as a varint; pass a negative `int64` as its two's complement."""
    if 0 <= number < 0x80:
        return _BYTES[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def length_delimited(number: int, data: bytes) -> bytes:
    """Return the field `number` that holds a string, bytes or a message."""
    return varint(number << 3 | _LEN) + varint(len(data)) + data


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """
    Yield the fields of a message as numbers and values: an int for a varint, else the bytes.

    Raises:
        ValueError: The bytes are not a message, or only a part of one.
    """
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield tag >> 3, value
            continue
        if kind == _LEN:
            length, position = _read_varint(data, position)
        elif kind in (_I64, _I32):
            length = 8 if kind == _I64 else 4
        else:
            raise ValueError(f"no protobuf message: wire type {kind}")
        if position + length > len(data):
            raise ValueError("no protobuf message: it is cut off")
        yield tag >> 3, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("no protobuf message: it is cut off in a number")


def attribute_header(key: str, kind: type, length: int) -> bytes:
    """Return the bytes before the `length` bytes of a value in the attribute of a span."""
    tag = _tag(kind, length)
    key_value = length_delimited(1, key.encode()) + b"\x12" + varint(len(tag) + length) + tag
    return b"\x4a" + varint(len(key_value) + length) + key_value


def attribute(number: int, key: str, value: AttributeValue) -> bytes:
    """Return a KeyValue as the field `number`: 9 in a span, 3 in an event, 1 in a resource."""
    return length_delimited(number, length_delimited(1, key.encode()) + length_delimited(2, any_value(value)))


def any_value(value: AttributeValue) -> bytes:
    """Return the AnyValue of a value; raise what `NOT_ENCODABLE` lists."""
    data = VALUE_BYTES[type(value)](value)
    return _tag(type(value), len(data)) + data


def _tag(kind: type, length: int) -> bytes:
    return _TAGS[kind] + varint(length) if kind in _SIZED else _TAGS[kind]


def _integer(value: int) -> bytes:
    if 0 <= value < _MAX_INT:
        return varint(value)
    if not -_MAX_INT <= value < 0:
        raise OverflowError("not a 64-bit integer")
    return varint(value + 2**64)


def _double(value: float) -> bytes:
    # A protobuf double can be NaN, but the JSON in which most back ends store attributes has no such number.
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return DOUBLE.pack(value)


def _array(value: tuple[Any, ...] | list[Any]) -> bytes:
    return b"".join([length_delimited(1, any_value(item)) for item in value])


def _mapping(value: dict[str, Any]) -> bytes:
    return b"".join([attribute(1, key, item) for key, item in value.items()])


class OddDouble(float):
    """NaN or an infinity of another instrumentation, which is sent as it was given."""


def _nothing(value: None) -> bytes:
    return b""


# The fields of AnyValue; a value that is not there has none.
_TAGS: dict[type, bytes] = {
    str: b"\x0a",
    bool: b"\x10",
    int: b"\x18",
    float: b"\x21",
    tuple: b"\x2a",
    list: b"\x2a",
    dict: b"\x32",
    bytes: b"\x3a",
    OddDouble: b"\x21",
    type(None): b"",
}
_SIZED = frozenset({str, bytes, tuple, list, dict})
VALUE_BYTES: dict[type, Callable[[Any], bytes]] = {
    str: str.encode,
    bool: {False: b"\x00", True: b"\x01"}.__getitem__,
    int: _integer,
    float: _double,
    tuple: _array,
    list: _array,
    dict: _mapping,
    bytes: bytes,
    OddDouble: DOUBLE.pack,
    type(None): _nothing,
}
"""The encoders of attribute values, by type; what they raise is in `NOT_ENCODABLE`."""


class ByName(dict[str, dict[KeyT, bytes]]):
    """What is cached for each attribute, by its name: an application may make up a new one for each span."""

    def __missing__(self, name: str) -> dict[KeyT, bytes]:
        if len(name) > _CACHED_LENGTH or name.startswith(INDEXED_PREFIXES):
            return {}
        if len(self) >= _CACHED_NAMES:
            self.clear()
        made: dict[KeyT, bytes] = {}
        self[name] = made
        return made


class PayloadHeaders(dict[int, bytes]):
    """
    The bytes before a text in an attribute, by the length of the text.

    Args:
        key: The attribute's name.
        before: The bytes before that: the attribute that says what the text is.
    """

    def __init__(self, key: str, before: bytes = b"") -> None:
        super().__init__()
        self._key, self._before = key, before

    def header(self, length: int) -> bytes:
        """Return the bytes for a length that is not cached yet."""
        encoded = self._before + attribute_header(self._key, str, length)
        keep(self, length, encoded)
        return encoded


def payload_headers(name: str) -> tuple[PayloadHeaders, PayloadHeaders]:
    """Return the headers of an input or output that is text, and of one that is JSON."""
    if not name.endswith(".value"):
        headers = PayloadHeaders(name)
        return headers, headers
    texts, documents = (
        PayloadHeaders(name, attribute(9, f"{name.removesuffix('value')}mime_type", kind))
        for kind in ("text/plain", "application/json")
    )
    return texts, documents


def keep(cache: dict[KeyT, bytes], key: KeyT, encoded: bytes, longest: int = _CACHED_LENGTH) -> None:
    """Remember what is encoded for a key, unless it is long."""
    if len(encoded) > longest:
        return
    if len(cache) >= _CACHED_VALUES:
        # Cheaper than counting uses: what recurs is back after one span.
        cache.clear()
    cache[key] = encoded
