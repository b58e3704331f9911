"""Limits and Truncator: how large an item may be, and what is cut off one that is larger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from nat_observability.errors import InvalidLimitError
from nat_observability.events import Captured, IntermediateStep, Item
from nat_observability.processors.cut import cut_json, cut_text, cut_text_to_bytes, shares

_LEAST_BYTES = 1024
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large an item may be, in the words of OpenTelemetry and with its defaults.

    Attributes:
        attribute_count_limit: Most keys in `metadata`, and most tags.
        attribute_value_length_limit: Most characters in one value; None for any number.
        event_count_limit: Most events of an OpenTelemetry span that has become a step: `otel.events` in its metadata.
        link_count_limit: Most links, likewise: `otel.links`.
        span_bytes_limit: Most bytes of everything that is recorded in one item; None for any number.

    Raises:
        InvalidLimitError: A limit is not a whole number, or less than it can be.
    """

    attribute_count_limit: int = 128
    attribute_value_length_limit: int | None = None
    event_count_limit: int = 128
    link_count_limit: int = 128
    span_bytes_limit: int | None = 1024 * 1024

    def __post_init__(self) -> None:
        _check("attribute_count_limit", self.attribute_count_limit, 0)
        _check("attribute_value_length_limit", self.attribute_value_length_limit, 0, optional=True)
        _check("event_count_limit", self.event_count_limit, 0)
        _check("link_count_limit", self.link_count_limit, 0)
        _check("span_bytes_limit", self.span_bytes_limit, _LEAST_BYTES, optional=True)


class Truncator:
    """
    Cuts what is over the limits. What is cut has a mark like `[cut:12345]`, which says how much there was: characters
    of a text, items of a list, fields of an object.

    A cut splits no UTF-8 character and no mark of a redaction, and JSON stays JSON. Of the bytes of an item the
    longest parts are cut first. A traceback keeps its end. Ids and times stay as they are.
    """

    __slots__ = ("limits",)

    name = "truncate"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits

    def __call__(self, item: Item) -> Item:
        """Return `item` within the limits: the same object where it was."""
        limits = self.limits
        changes = _counted(item, limits)
        if limits.attribute_value_length_limit is not None:
            changes = _shortened(item, changes, limits.attribute_value_length_limit)
        if limits.span_bytes_limit is not None:
            changes = _within_bytes(item, changes, limits.span_bytes_limit)
        return msgspec.structs.replace(item, **changes) if changes else item

    def __repr__(self) -> str:
        return f"Truncator({self.limits!r})"


def _check(name: str, value: object, least: int, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidLimitError(name, value, least, optional=optional)


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

# The parts of an item that have a length, each with how to reach it. Those of an error are in the error.
_VALUES = ("input", "output", "chunk", "metadata")
_ERROR_TEXTS = ("message", "traceback")


def _parts(item: Item, changes: Mapping[str, Any]) -> dict[str, Captured]:
    """Return the values of an item, as they are after the changes so far, by their names."""
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
            continue  # no attribute
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
    return _with_parts(item, changes, cut)


def _surely_fits(item: Item, most: int) -> bool:
    """Say at a glance whether an item is small enough, however its texts are encoded."""
    if item.error is not None or item.tags or isinstance(item, IntermediateStep):
        return False
    characters, given, result = len(item.name), item.input, item.output
    if given is not None:
        characters += len(given)
    if result is not None:
        characters += len(result)
    if item.metadata is not None:
        characters += len(item.metadata)
    return 4 * characters <= most


def _within_bytes(item: Item, changes: dict[str, Any], most: int) -> dict[str, Any]:
    if not changes and _surely_fits(item, most):
        return changes
    parts = _parts(item, changes)
    tags = changes.get("tags", item.tags)
    if sum(map(_most_bytes, parts.values())) + sum(map(_most_bytes, tags)) <= most:
        return changes
    sizes = {field: _bytes(value) for field, value in parts.items()}
    of_tags = sum(map(_bytes, tags))
    if sum(sizes.values()) + of_tags <= most:
        return changes
    share = shares([*sizes.values(), of_tags], most)
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
    return _with_parts(item, changes, cut)


def _most_bytes(value: Captured) -> int:
    """Return how many bytes `value` may have, without counting them."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    return 0 if value is None else memoryview(value).nbytes


def _bytes(value: Captured) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="replace"))
    return 0 if value is None else memoryview(value).nbytes


def _raw(data: bytes | None) -> msgspec.Raw | None:
    return None if data is None else msgspec.Raw(data)
