"""attribute_value(): the names and values of attributes as they are recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.recording.capture import LEAST_BYTES, capture, capture_json, capture_label
from nat_observability.recording.capture.plain import plain_json
from nat_observability.recording.capture.text import is_json

UNNAMED = "<unnamed>"
"""The name of an attribute or an event that was given an empty one."""

MAX_INT = 2**63
"""The first whole number that is not one of 64 bits."""

_MOST_BYTES = 64 * 1024  # of a value in which NaN is looked for
_LEAVES = frozenset({str, int, float, bool, type(None), msgspec.Raw})
_STRUCTURES = frozenset({list, tuple, dict})


_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_limiters: dict[str, RepeatedEvent] = {}  # by what is said, of which there are a few


def attribute_value(value: Any) -> Any:
    """
    Return the value of an attribute as it is now: text, a number, a bool, None, or a `msgspec.Raw` of anything else.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity", because JSON has no such numbers.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) <= LEAST_BYTES and value.isascii() else capture(value)
    if kind is float:
        return value if math.isfinite(value) else _named_number(value)
    if value is None or kind is bool or (kind is int and -MAX_INT <= value < MAX_INT):
        return value
    if kind is dict or kind is list or kind is tuple:  # not by a hash, which may be a metaclass's
        data = plain_json(value)
        if data is None:
            data = bytes(capture_json(value))
        # JSON has null for a NaN, which is hardly ever there.
        if b"null" in data and len(data) <= _MOST_BYTES:
            return capture_json(_with_named_numbers(value, 0))
        return msgspec.Raw(data)
    if kind is msgspec.Raw and not is_json(value):
        value = bytes(value)
    captured_value = capture(value)
    if isinstance(captured_value, msgspec.Raw) and len(captured_value) <= 32:
        return _simple(value, captured_value)
    return captured_value


def plain_attributes(attributes: dict[Any, Any]) -> bytes | None:
    """Return the JSON of a few attributes of plain data, at the speed of C; None if there is anything odd in them."""
    data = plain_json(attributes, small=True)
    # An empty name, and a NaN or None: JSON has null for both.
    if data is None or b'"":' in data or b"null" in data or data == b"{}":
        return None
    return data


def merged_attributes(first: msgspec.Raw | None, second: msgspec.Raw | None) -> msgspec.Raw | None:
    """Merge the attributes of a step's START and its END: of the same name the END's value."""
    if first is None or second is None:
        return first if second is None else second
    try:
        return msgspec.Raw(_encode(_object(first) | _object(second)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return second  # a Raw that the application made itself


def report_problem(problem: str) -> None:
    """Log what is wrong with something that was recorded. Each step may repeat it, so the line is rate-limited."""
    limiter = _limiters.get(problem)
    if limiter is None:
        limiter = _limiters.setdefault(problem, RepeatedEvent())
    if (suppressed := limiter.due()) is not None:
        get_logger().warning("step_data_invalid", problem=problem, suppressed=suppressed)


def _simple(value: object, captured: msgspec.Raw) -> Any:
    """Return a number of a foreign kind as one of Python's: those of numpy, for example."""
    decoded = msgspec.json.decode(captured)
    if decoded is None:
        try:
            return _named_number(float(value))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001  foreign code
            reraise_signal(error)
    return decoded if type(decoded) in _LEAVES else captured


def _named_number(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _with_named_numbers(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else _named_number(value)
    if depth > 8 or kind not in _STRUCTURES:
        return value
    if kind is dict:
        return {name: _with_named_numbers(each, depth + 1) for name, each in value.copy().items()}
    return [_with_named_numbers(each, depth + 1) for each in tuple(value)]


def size_of(value: Any) -> int:
    """Return about how many bytes a captured value takes."""
    return len(value) if type(value) is str or type(value) is msgspec.Raw else 8


def attribute_name(name: object) -> str:
    # By the type: `isinstance` asks the object for its class, and a lazy one may raise then.
    if not issubclass(type(name), str):
        report_problem("the name of an attribute or an event was not text, and was recorded as its text")
    text = capture_label(name)
    if not text:
        report_problem(f"the name of an attribute or an event was empty, and was recorded as {UNNAMED}")
        return UNNAMED
    return text


def pairs_of(attributes: object, most: int) -> tuple[list[tuple[object, object]], int]:
    """Return the first names and values of what should be a mapping, and the number of the others."""
    if type(attributes) is dict and len(attributes) <= most:
        return list(attributes.items()), 0
    try:
        if isinstance(attributes, Mapping):
            return list(islice(attributes.items(), most)), max(0, len(attributes) - most)
    except BaseException as error:  # noqa: BLE001  foreign code: a mapping of the application's
        reraise_signal(error)
        report_problem("attributes were a mapping whose items cannot be read, and were dropped")
        return [], 1
    report_problem("attributes were not a mapping, and were recorded as one value")
    return [("value", attributes)], 0
