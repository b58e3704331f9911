"""within_counts(): the attributes, events and links of an item within limits of their numbers and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from nat_observability.events import Item, SpanEvent, SpanLink
from nat_observability.processors.cuts import cut_json, cut_text, shares

PARTS = ("events", "links")
"""The fields that hold several parts, each with attributes of its own."""

_BARE = 32  # bytes of an event or a link without its name and attributes
_LEAST = 24  # bytes of attributes: parts are left out rather than cut to less

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CountLimits(Protocol):
    """The limits of counts, by OpenTelemetry's names."""

    @property
    def attribute_count_limit(self) -> int: ...
    @property
    def event_count_limit(self) -> int: ...
    @property
    def link_count_limit(self) -> int: ...
    @property
    def event_attribute_count_limit(self) -> int: ...
    @property
    def link_attribute_count_limit(self) -> int: ...


def within_counts(item: Item, limits: CountLimits) -> dict[str, Any]:
    """Return the fields to change so that there are no more than so many; what is dropped is counted."""
    changes: dict[str, Any] = {}
    attributes, dropped = _first(item.attributes, limits.attribute_count_limit)
    if dropped:
        changes["attributes"] = attributes
        changes["dropped_attributes_count"] = item.dropped_attributes_count + dropped
    for field, most, of_part in (
        ("events", limits.event_count_limit, limits.event_attribute_count_limit),
        ("links", limits.link_count_limit, limits.link_attribute_count_limit),
    ):
        parts = getattr(item, field)
        kept = tuple(_counted(part, of_part) for part in parts[:most])
        if kept != parts:
            changes[field] = kept
        if len(parts) > most:
            count = f"dropped_{field}_count"
            changes[count] = getattr(item, count) + len(parts) - most
    return changes


def shortened_details(item: Item, changes: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the fields to change so that no text in an attribute is longer than so many characters."""
    found: dict[str, Any] = {}
    attributes = changes.get("attributes", item.attributes)
    shorter = _shortened(attributes, most)
    if shorter is not attributes:
        found["attributes"] = shorter
    for field in PARTS:
        parts = changes.get(field, getattr(item, field))
        kept = tuple(
            msgspec.structs.replace(part, attributes=_shortened(part.attributes, most)) for part in parts
        )
        if kept != parts:
            found[field] = kept
    return found


def bytes_of_parts(parts: Sequence[SpanEvent | SpanLink]) -> int:
    """Return about how many bytes events or links take."""
    return sum(_overhead(part) + _size(part.attributes) for part in parts)


def parts_within_bytes(item: Item, changes: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Return the fields to change so that neither events nor links take more than so many bytes."""
    found: dict[str, Any] = {}
    for field in PARTS:
        parts = changes.get(field, getattr(item, field))
        if bytes_of_parts(parts) <= room:
            continue
        left, kept = room, []
        for part in parts:
            left -= _overhead(part) + min(_size(part.attributes), _LEAST)
            if left < 0:
                break
            kept.append(part)
        of_attributes = room - sum(map(_overhead, kept))
        share = shares([_size(part.attributes) for part in kept], of_attributes)
        found[field] = tuple(
            msgspec.structs.replace(part, attributes=_cut(part.attributes, share)) for part in kept
        )
        if len(kept) < len(parts):
            count = f"dropped_{field}_count"
            found[count] = changes.get(count, getattr(item, count)) + len(parts) - len(kept)
    return found


def _first(attributes: msgspec.Raw | None, most: int) -> tuple[msgspec.Raw | None, int]:
    """Return the first attributes, and how many are left out."""
    # An empty one takes five bytes: "":1,
    if attributes is None or len(attributes) <= most * 5:
        return attributes, 0
    try:
        fields = _fields(attributes)
    except _UNREADABLE:
        return attributes, 0  # the application made it itself
    if len(fields) <= most:
        return attributes, 0
    kept = dict(list(fields.items())[:most])
    return msgspec.Raw(_encode(kept)) if kept else None, len(fields) - most


def _counted(part: Any, most: int) -> Any:
    attributes, dropped = _first(part.attributes, most)
    if not dropped:
        return part
    return msgspec.structs.replace(
        part, attributes=attributes, dropped_attributes_count=part.dropped_attributes_count + dropped
    )


def _shortened(attributes: msgspec.Raw | None, most: int) -> msgspec.Raw | None:
    if attributes is None or len(attributes) <= most:
        return attributes
    try:
        fields = _decode(attributes)
        if isinstance(fields, dict):
            shorter = {name: _short(value, most) for name, value in fields.items()}
            return attributes if shorter == fields else msgspec.Raw(_encode(shorter))
    except _UNREADABLE:
        pass
    return _cut(attributes, most)


def _short(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, most)
    if isinstance(value, list):
        return [_short(item, most) for item in value]
    if isinstance(value, dict):
        return {name: _short(item, most) for name, item in value.items()}
    return value


def _cut(attributes: msgspec.Raw | None, size: int) -> msgspec.Raw | None:
    cut = None if attributes is None else cut_json(bytes(attributes), size)
    return None if cut is None else msgspec.Raw(cut)


def _overhead(part: SpanEvent | SpanLink) -> int:
    name = part.name if isinstance(part, SpanEvent) else part.trace_state or ""
    return _BARE + len(name.encode(errors="replace"))


def _size(attributes: msgspec.Raw | None) -> int:
    return 0 if attributes is None else len(attributes)
