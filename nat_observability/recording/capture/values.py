"""capture(): a value as it is at this moment, as text or JSON, whatever the application does to it later."""

from __future__ import annotations

from typing import Any

import msgspec

from nat_observability.events import Captured
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.copiers import walked
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.plain import (
    BITS,
    CONTAINERS,
    FEW,
    FEW_IN_ALL,
    LEAVES,
    NUMBERS,
    SHORT,
    SOME,
    TWO,
    few_leaves_json,
    few_rows_json,
    plain_json,
    size_in_few,
)
from nat_observability.recording.capture.text import class_name, cut_text, utf8_text

_BYTES = (bytes, bytearray, memoryview)
_encode = msgspec.json.Encoder().encode
_Raw = msgspec.Raw
_LONG = 2**63 - 1
_INSIDE = FEW >> 1  # items of a container in another one


def capture(value: Any) -> Captured:
    """
    Return `value` as it is now.

    Text is kept as text, None stays None; anything else becomes JSON at once, so a list that grows or a dict that
    is cleared afterwards changes nothing. Never raises: what JSON cannot hold (a lone surrogate, a recursive
    structure, an object of an unknown class, a dict key that is not text) is replaced by a readable mark, and only
    that part of the value. Iterators are not consumed. A `msgspec.Raw` is JSON already and taken as it is; one that is
    not is recorded as text.

    Takes a bounded time: at most `MAX_NODES` values are visited, and `MAX_BYTES` bytes of text kept; what is left out
    is marked with its size. An object that comes again is a mark the second time, arrays and frames are recorded by
    their shape, web requests by their method and URL. Bytes that are UTF-8 are recorded as text.
    """
    if value is None:
        return None
    kind = type(value)
    if kind is str:
        if len(value) <= limits.size:
            if value.isascii():
                return value  # type: ignore[no-any-return]
            if len(value) << 2 <= limits.size:
                return utf8_text(value)  # its characters take four bytes at most
        return cut_text(value, limits.size)
    if kind is dict or kind is list or kind is tuple:
        # The most frequent values, without a further call.
        try:
            if len(value) > FEW:
                pass
            elif kind is dict:
                for key, item in value.items():
                    kind = type(item)
                    if kind is str:
                        if len(item) > SHORT:
                            break
                    elif kind is int:
                        if item.bit_length() > BITS:
                            break
                    elif kind in CONTAINERS:
                        if len(item) > FEW or limits.nodes < FEW_IN_ALL or size_in_few(item, _INSIDE) > SHORT:
                            break
                    elif kind not in NUMBERS:
                        break
                    if type(key) is not str or len(key) > SHORT:
                        break
                else:
                    encoded = _encode(value)
                    if len(encoded) <= limits.size:
                        return _Raw(encoded)
            elif not value:
                return _Raw(b"[]")
            elif (
                (kind := type(value[0])) is dict
                and len(value[0]) == TWO
                and type(value[-1]) is dict
                and len(value[-1]) == TWO
            ):
                data = few_rows_json(value)
                if data is not None:
                    return _Raw(data)
            elif len(value) < SOME:
                if limits.nodes >= FEW_IN_ALL and size_in_few(value, FEW) <= limits.size >> 2:
                    encoded = _encode(value)
                    if len(encoded) <= limits.size:
                        return _Raw(encoded)
            elif kind in LEAVES and type(value[-1]) in LEAVES and (kind is not str or len(value[0]) <= SHORT):
                data = few_leaves_json(value)
                if data is not None:
                    return _Raw(data)
        except BaseException as error:  # noqa: BLE001  other data, changes by another thread, a metaclass's hash
            reraise_signal(error)
        data = plain_json(value)
        return _Raw(_encode(walked(value)) if data is None else data)
    if kind is bool or kind is float or (kind is int and -_LONG <= value <= _LONG):
        return _Raw(_encode(value))
    try:
        if issubclass(kind, str):
            return cut_text(str.__str__(value), limits.size)
        if issubclass(kind, _BYTES):
            recorded = walked(value)
            if type(recorded) is str:
                return recorded
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass of the application's
        reraise_signal(error)
    return capture_json(value)


def capture_json(value: object) -> msgspec.Raw:
    """Return `value` as JSON, text included, within the bounds of `capture`. Never raises."""
    data = plain_json(value)
    if data is None:
        recorded = walked(value)
        if type(recorded) is str and len(recorded) > SHORT:
            recorded = walked(recorded)  # its characters may take six bytes each
        data = _encode(recorded)
    return msgspec.Raw(data)


def joined_json(value: object) -> msgspec.Raw:
    """Return what is made of captured values as JSON, however large they are together. Never raises."""
    try:
        return msgspec.Raw(_encode(value))
    except Exception:  # noqa: BLE001  what JSON lacks
        return capture_json(value)


def merged_json(first: msgspec.Raw | None, second: msgspec.Raw | None) -> msgspec.Raw | None:
    """Merge the JSON objects of a step's START and its END: of the same key the END's value, unless it is null."""
    if first is None or second is None:
        return first if second is None else second
    try:
        before: Any = msgspec.json.decode(first)
        after: Any = msgspec.json.decode(second)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return second  # a Raw that the application made itself
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return second
    return joined_json(
        before | {key: value for key, value in after.items() if value is not None or key not in before}
    )


def capture_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as backslash escapes."""
    return utf8_text(text)


def captured_text(text: str) -> str:
    """Return what `capture` does of a text."""
    return cut_text(str.__str__(text), limits.size)


def capture_label(value: object) -> str:
    """Return what was given for a name, an id or a tag, which should be text, as text. Never raises."""
    try:
        if isinstance(value, str):
            return captured_text(value)
        if isinstance(value, _BYTES):
            return captured_text(str(capture(value)))
        return captured_text(str(value))
    except BaseException as error:  # noqa: BLE001  foreign code: a __str__ of the application's
        reraise_signal(error)
        return f"<{class_name(type(value))}>"
