"""The protobuf wire format (https://protobuf.dev/programming-guides/encoding/), as far as OTLP needs it."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

FIXED64 = Struct("<Q")
DOUBLE = Struct("<d")

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_BYTES = tuple(bytes((number,)) for number in range(0x80))


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
