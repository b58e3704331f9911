"""captured_attributes(): another tracer's attributes as they are recorded, and which of them JSON has no type for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nat_observability.recording.capture import capture_label
from nat_observability.recording.details.attributes import attribute_value

try:
    from opentelemetry.sdk.trace import ReadableSpan
except ModuleNotFoundError:
    from nat_observability.errors import MissingExtraError

    raise MissingExtraError("StepSpanProcessor", "opentelemetry-sdk") from None

_encode = msgspec.json.Encoder().encode
_MOST_DEPTH = 16
_PLAIN = frozenset({str, int, bool})


def captured_attributes(attributes: Mapping[str, Any] | None) -> msgspec.Raw | None:
    """Return the attributes of a span, event, link or scope, which the SDK has bounded in number."""
    if not attributes:
        return None
    return msgspec.Raw(
        _encode(
            {
                capture_label(name): attribute_value(value if type(value) in _PLAIN else _as_text(value))
                for name, value in attributes.items()
            }
        )
    )


def retyped_values(span: ReadableSpan, attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Yield the place and the type of each value that is recorded as text because JSON has no type for it.

    Args:
        attributes: The span's.
    """
    yield from _retyped("attributes", attributes)
    for index, event in enumerate(span.events):
        yield from _retyped(f"events\n{index}", event.attributes)
    for index, link in enumerate(span.links):
        yield from _retyped(f"links\n{index}", link.attributes)
    if span.instrumentation_scope is not None:
        yield from _retyped("scope", span.instrumentation_scope.attributes)


def _retyped(place: str, attributes: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for name, value in (attributes or {}).items():
        if type(value) not in _PLAIN:
            yield from _kinds(f"{place}\n{_escaped(capture_label(name))}", value, 0)


def _kinds(place: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place, "double"
    elif isinstance(value, bytes):
        yield place, "latin-1" if _text(value) is None else "bytes"
    elif depth < _MOST_DEPTH and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _kinds(f"{place}\n{_escaped(name)}", each, depth + 1)
    elif depth < _MOST_DEPTH and isinstance(value, tuple | list):
        for index, each in enumerate(value):
            if type(each) not in _PLAIN:
                yield from _kinds(f"{place}\n{index}", each, depth + 1)


def _escaped(name: str) -> str:
    if "\n" in name or "\\" in name:
        return name.replace("\\", "\\\\").replace("\n", "\\n")
    return name


def _as_text(value: Any, depth: int = 0) -> Any:
    """Return a value with its bytes as text."""
    if isinstance(value, bytes):
        text = _text(value)
        # Byte by byte, so that what is secret in it is found.
        return value.decode("latin-1") if text is None else text
    if depth < _MOST_DEPTH and isinstance(value, tuple | list):
        return [each if type(each) in _PLAIN else _as_text(each, depth + 1) for each in value]
    if depth < _MOST_DEPTH and isinstance(value, Mapping):
        return {name: _as_text(each, depth + 1) for name, each in value.items()}
    return value


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
