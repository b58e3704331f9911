"""Attributes in OTLP: a name and a value as a protobuf field, and what an encoder remembers of those that recur."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, TypeVar

from nat_observability.dialects.dialect import AttributeValue
from nat_observability.dialects.openinference import INDEXED_PREFIXES
from nat_observability.sinks.otlp.wire_format import DOUBLE, length_delimited, varint

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


def keep(cache: dict[KeyT, bytes], key: KeyT, encoded: bytes, longest: int = _CACHED_LENGTH) -> None:
    """Remember what is encoded for a key, unless it is long."""
    if len(encoded) > longest:
        return
    if len(cache) >= _CACHED_VALUES:
        # Cheaper than counting uses: what recurs is back after one span.
        cache.clear()
    cache[key] = encoded
