"""Limits and Truncator: how large an item may be, and what is cut off a larger one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from nat_observability.errors import InvalidLimitError
from nat_observability.events import Captured, IntermediateStep, Item
from nat_observability.processors.cuts import cut_json, cut_text, cut_text_to_bytes, shares
from nat_observability.processors.detail_limits import (
    PARTS,
    bytes_of_parts,
    parts_within_bytes,
    shortened_details,
    within_counts,
)

_LEAST_BYTES = 1024
_RECORDED = 128  # the specification's default for each count, which is recorded in any case

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large an item may be, with the names and defaults of OpenTelemetry.

    Attributes:
        attribute_count_limit: The most attributes, keys in `metadata`, and tags.
        attribute_value_length_limit: The most characters in one value; None for no limit.
        event_count_limit: The most events.
        link_count_limit: The most links.
        event_attribute_count_limit: The most attributes of one event.
        link_attribute_count_limit: The most attributes of one link.
        span_bytes_limit: The most bytes of everything recorded in one item; None for no limit.

    Raises:
        InvalidLimitError: A limit is not a whole number, or is too small.
    """

    attribute_count_limit: int = 128
    attribute_value_length_limit: int | None = None
    event_count_limit: int = 128
    link_count_limit: int = 128
    event_attribute_count_limit: int = 128
    link_attribute_count_limit: int = 128
    span_bytes_limit: int | None = 1024 * 1024

    def __post_init__(self) -> None:
        _check("attribute_count_limit", self.attribute_count_limit, 0)
        _check("attribute_value_length_limit", self.attribute_value_length_limit, 0, optional=True)
        _check("event_count_limit", self.event_count_limit, 0)
        _check("link_count_limit", self.link_count_limit, 0)
        _check("event_attribute_count_limit", self.event_attribute_count_limit, 0)
        _check("link_attribute_count_limit", self.link_attribute_count_limit, 0)
        _check("span_bytes_limit", self.span_bytes_limit, _LEAST_BYTES, optional=True)


class Truncator:
    """
    Cuts what exceeds the limits, and leaves a mark like `[cut:12345]` with the original size: characters of a text,
    items of a list, fields of an object.

    A cut splits neither a UTF-8 character nor a redaction mark, and JSON stays JSON. If an item has too many bytes, its
    longest parts are cut first. A traceback keeps its end. Ids and times stay as they are.

    Attributes:
        leaves_up_to: Items with at most this many recorded bytes are always within the limits.
    """

    __slots__ = ("_limits", "leaves_up_to")

    name = "truncate"

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits = Limits() if limits is None else limits
        allowed = {
            "attributes": limits.attribute_count_limit,
            "events": limits.event_count_limit,
            "links": limits.link_count_limit,
            "event_attributes": limits.event_attribute_count_limit,
            "link_attributes": limits.link_attribute_count_limit,
        }
        self.leaves_up_to = _surely_within(limits) if type(self) is Truncator else -1
        if max(allowed.values()) > _RECORDED:
            # What is not recorded cannot be kept. Imported here, because only these limits need it.
            from nat_observability.recording.details.step_details import LIMITS

            LIMITS.allow(**allowed)

    @property
    def limits(self) -> Limits:
        """How large an item may be; for other limits, make another one."""
        return self._limits

    def __call__(self, item: Item) -> Item:
        """Return `item` within the limits: the same object if it is within them already."""
        limits = self._limits
        changes = _counted(item, limits)
        if item.attributes is not None or item.events or item.links:
            changes |= within_counts(item, limits)
        if limits.attribute_value_length_limit is not None:
            changes = _shortened(item, changes, limits.attribute_value_length_limit)
        if limits.span_bytes_limit is not None:
            changes = within_bytes(item, changes, limits.span_bytes_limit)
        return msgspec.structs.replace(item, **changes) if changes else item

    def __repr__(self) -> str:
        return f"Truncator({self._limits!r})"


def _check(name: str, value: object, least: int, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidLimitError(name, value, least, optional=optional)


def _surely_within(limits: Limits) -> int:
    """Return how many bytes, at least one for each character, are within all limits, whatever they are."""
    most = [
        # An empty field takes five bytes, "":1, and an item of a list two.
        5 * limits.attribute_count_limit,
        2 * limits.event_count_limit,
        2 * limits.link_count_limit,
        5 * limits.event_attribute_count_limit,
        5 * limits.link_attribute_count_limit,
    ]
    if limits.attribute_value_length_limit is not None:
        most.append(limits.attribute_value_length_limit)
    if limits.span_bytes_limit is not None:
        most.append(limits.span_bytes_limit // 4)  # bytes of a character in UTF-8
    return min(most)


# -- Counts ----------------------------------------------------------------------------------------------------------


def _counted(item: Item, limits: Limits) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    most = limits.attribute_count_limit
    if len(item.tags) > most:
        changes["tags"] = (*item.tags[: max(0, most - 1)], f"[cut:{len(item.tags)}]")[:most]
    if item.metadata is not None:
        metadata = bytes(item.metadata)
        counted = _counted_fields(metadata, limits)
        if counted is not metadata:
            changes["metadata"] = msgspec.Raw(counted)
    return changes


def _counted_fields(metadata: bytes, limits: Limits) -> bytes:
    lists = {"otel.events": limits.event_count_limit, "otel.links": limits.link_count_limit}
    # An empty field takes five bytes: "":1,
    if len(metadata) <= limits.attribute_count_limit * 5 and b'"otel.' not in metadata:
        return metadata
    try:
        fields = _fields(metadata)
        changed = False
        for name, most in lists.items():
            if name in fields and bytes(fields[name]).startswith(b"["):
                items = _items(fields[name])
                if len(items) > most:
                    changed = True
                    items[max(0, most - 1) :] = [msgspec.Raw(_encode(f"[cut:{len(items)}]"))]
                    fields[name] = msgspec.Raw(_encode(items[:most]))
        if len(fields) > limits.attribute_count_limit:
            changed = True
            kept = list(fields.items())
            kept[max(0, limits.attribute_count_limit - 1) :] = [
                ("[cut]", msgspec.Raw(_encode(f"[cut:{len(fields)}]")))
            ]
            fields = dict(kept[: limits.attribute_count_limit])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return metadata  # it has no fields
    return _encode(fields) if changed else metadata


# -- Lengths ---------------------------------------------------------------------------------------------------------

# The parts of an item that have a length. Those of an error are attributes of the error.
_VALUES = ("input", "output", "chunk", "metadata", "status_message")
_ERROR_TEXTS = ("message", "traceback")


def _parts(item: Item, changes: Mapping[str, Any]) -> dict[str, Captured]:
    """Return the values of an item after the changes so far, by name."""
    parts: dict[str, Captured] = {"name": item.name}
    for field in _VALUES:
        if field != "chunk" or isinstance(item, IntermediateStep):
            value = changes.get(field, getattr(item, field))
            if value is not None:
                parts[field] = value
    error = changes.get("error", item.error)
    if error is not None:
        for field in _ERROR_TEXTS:
            text = getattr(error, field)
            if text is not None:
                parts[field] = text
    return parts


def _with_parts(item: Item, changes: dict[str, Any], cut: Mapping[str, Captured]) -> dict[str, Any]:
    changes = changes | {field: value for field, value in cut.items() if field not in _ERROR_TEXTS}
    of_error = {field: value for field, value in cut.items() if field in _ERROR_TEXTS}
    error = changes.get("error", item.error)
    if of_error and error is not None:
        changes["error"] = msgspec.structs.replace(error, **of_error)
    return changes


def _shortened(item: Item, changes: dict[str, Any], most: int) -> dict[str, Any]:
    cut: dict[str, Captured] = {}
    for field, value in _parts(item, changes).items():
        if field == "name":
            continue  # not an attribute
        if isinstance(value, str):
            if len(value) > most:
                cut[field] = cut_text(value, most, keep_end=field == "traceback")
        elif value is not None:
            data = bytes(value)
            if len(data) > most and len(data.decode(errors="replace")) > most:
                cut[field] = _raw(cut_json(data, most))
    tags = changes.get("tags", item.tags)
    if any(len(tag) > most for tag in tags):
        changes = changes | {"tags": tuple(cut_text(tag, most) for tag in tags)}
    return _with_parts(item, changes | shortened_details(item, changes, most), cut)


def _surely_fits(item: Item, most: int) -> bool:
    """Say at a glance whether an item is small enough, however its texts are encoded."""
    if item.error is not None or item.tags or item.events or item.links or isinstance(item, IntermediateStep):
        return False
    characters, given, result = len(item.name), item.input, item.output
    if given is not None:
        characters += len(given)
    if result is not None:
        characters += len(result)
    if item.metadata is not None:
        characters += len(item.metadata)
    if item.attributes is not None:
        characters += len(item.attributes)
    if item.status_message is not None:
        characters += len(item.status_message)
    return 4 * characters <= most


def within_bytes(item: Item, changes: dict[str, Any], most: int) -> dict[str, Any]:
    """Return the fields to change, with `changes`, so that an item has at most so many bytes."""
    if not changes and _surely_fits(item, most):
        return changes
    parts = _parts(item, changes)
    attributes = changes.get("attributes", item.attributes)
    if attributes is not None:
        parts["attributes"] = attributes
    tags = changes.get("tags", item.tags)
    of_events, of_links = (bytes_of_parts(changes.get(field, getattr(item, field))) for field in PARTS)
    others = of_events + of_links
    if sum(map(_most_bytes, parts.values())) + sum(map(_most_bytes, tags)) + others <= most:
        return changes
    sizes = {field: _bytes(value) for field, value in parts.items()}
    of_tags = sum(map(_bytes, tags))
    if sum(sizes.values()) + of_tags + others <= most:
        return changes
    share = shares([*sizes.values(), of_tags, of_events, of_links], most)
    cut: dict[str, Captured] = {}
    for field, value in parts.items():
        if sizes[field] > share:
            if isinstance(value, str):
                cut[field] = cut_text_to_bytes(value, share, keep_end=field == "traceback")
            elif value is not None:
                cut[field] = _raw(cut_json(bytes(value), share))
    if of_tags > share:
        each = shares([_bytes(tag) for tag in tags], share)
        changes = changes | {"tags": tuple(cut_text_to_bytes(tag, each) for tag in tags)}
    changes = changes | parts_within_bytes(item, changes, share)
    return _with_parts(item, changes, cut)


def _most_bytes(value: Captured) -> int:
    """Return the most bytes that `value` can have, without encoding it."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    return 0 if value is None else memoryview(value).nbytes


def _bytes(value: Captured) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="replace"))
    return 0 if value is None else memoryview(value).nbytes


def _raw(data: bytes | None) -> msgspec.Raw | None:
    return None if data is None else msgspec.Raw(data)
