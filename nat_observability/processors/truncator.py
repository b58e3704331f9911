"""Limits and Truncator: how large an item may be, and what is cut off a larger one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nat_observability.errors import InvalidLimitError
from nat_observability.events import Captured, IntermediateStep, Item
from nat_observability.processors.redaction.marks import MARK

_LEAST_BYTES = 1024
_CUT = re.compile(r"\[cut:(\d+)\]")
_LONGEST_MARK = 80  # characters of a redaction mark
_LEAST_SHARE = 24  # bytes: parts of JSON are left out rather than cut to less
_MAX_DEPTH = 48

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large an item may be, with the names and defaults of OpenTelemetry.

    Attributes:
        attribute_count_limit: The most keys in `metadata`, and the most tags.
        attribute_value_length_limit: The most characters in one value; None for no limit.
        event_count_limit: The most events of an OpenTelemetry span that became a step: `otel.events` in its metadata.
        link_count_limit: The most links, likewise: `otel.links`.
        span_bytes_limit: The most bytes of everything recorded in one item; None for no limit.

    Raises:
        InvalidLimitError: A limit is not a whole number, or is too small.
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
    Cuts what exceeds the limits, and leaves a mark like `[cut:12345]` with the original size: characters of a text,
    items of a list, fields of an object.

    A cut splits neither a UTF-8 character nor a redaction mark, and JSON stays JSON. If an item has too many bytes, its
    longest parts are cut first. A traceback keeps its end. Ids and times stay as they are.
    """

    __slots__ = ("limits",)

    name = "truncate"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits

    def __call__(self, item: Item) -> Item:
        """Return `item` within the limits: the same object if it is within them already."""
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

# The parts of an item that have a length. Those of an error are attributes of the error.
_VALUES = ("input", "output", "chunk", "metadata")
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


# -- Cuts ------------------------------------------------------------------------------------------------------------


def cut_text(text: str, characters: int, *, keep_end: bool = False) -> str:
    """
    Return `text` in at most so many characters, with a mark like `[cut:12345]`, the number of characters it had.

    If there is no room for that mark, it is left out. A redaction mark at the cut is removed as a whole.

    Args:
        keep_end: Cut the beginning, not the end.
    """
    if len(text) <= characters:
        return text
    before = _CUT.match(text) if keep_end else _CUT.match(text, max(text.rfind("[cut:"), 0))
    # A text that was cut before keeps its original length.
    again = before is not None and (keep_end or before.end() == len(text))
    mark = before[0] if before is not None and again else f"[cut:{len(text)}]"
    room = characters - len(mark)
    if room < 0:
        mark, room = "", characters
    if keep_end:
        return mark + text[_outside_marks(text, len(text) - room, forward=True) :]
    return text[: _outside_marks(text, room, forward=False)] + mark


def cut_text_to_bytes(text: str, size: int, *, keep_end: bool = False) -> str:
    """Return `text` in at most so many bytes of UTF-8, as `cut_text` does."""
    characters = len(text)
    while characters > 0:
        cut = cut_text(text, characters, keep_end=keep_end)
        taken = len(cut.encode(errors="replace"))
        if taken <= size:
            return cut
        # In proportion to the bytes it took; a denser part takes another round.
        characters = min(characters - 1, len(cut) * size // taken)
    return ""


def cut_json(data: bytes, size: int, depth: int = 0) -> bytes | None:
    """
    Return JSON in at most so many bytes that is still JSON; None if there is no room for any.

    The longest parts are cut first, and end with a mark like `[cut:12345]`, the number of characters, items or fields
    they had.
    """
    if len(data) <= size:
        return data
    if depth == 0:
        data = data.strip()
    cut: bytes | None = None
    try:
        if depth <= _MAX_DEPTH and data.startswith(b"{"):
            cut = _cut_object(data, size, depth)
        elif depth <= _MAX_DEPTH and data.startswith(b"["):
            cut = _cut_array(data, size, depth)
        elif data.startswith(b'"'):
            cut = _cut_string(_string(data), size)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A Raw that the application made itself may be invalid, or too deep to read.
        cut = None
    if cut is not None and len(cut) <= size:
        return cut
    mark = _encode(f"[cut:{len(data)}]")
    return mark if len(mark) <= size else b'""' if size >= 2 else None


def shares(sizes: Sequence[int], room: int) -> int:
    """Return the size to which all larger ones must be cut so that the sum fits."""
    left = room
    for index, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - index)
        if size > share:
            return max(0, share)
        left -= size
    return max(sizes, default=0)


def _cut_string(text: str, size: int) -> bytes:
    room = size - 2
    while room > 0:
        cut = _encode(cut_text_to_bytes(text, room))
        if len(cut) <= size:
            return cut
        # Escapes take more.
        room = min(room - 1, room * size // len(cut))
    return b'""'


def _cut_object(data: bytes, size: int, depth: int) -> bytes | None:
    fields = {_encode(key): bytes(raw) for key, raw in _fields(data).items()}
    return _cut_parts(
        size, depth, b"{}", [(key + b":", value) for key, value in fields.items()], b'"[cut]":"[cut:%d]"'
    )


def _cut_array(data: bytes, size: int, depth: int) -> bytes | None:
    return _cut_parts(size, depth, b"[]", [(b"", bytes(raw)) for raw in _items(data)], b'"[cut:%d]"')


def _cut_parts(
    size: int, depth: int, brackets: bytes, parts: Sequence[tuple[bytes, bytes]], mark: bytes
) -> bytes | None:
    """Cut the parts of an object or a list to the same size; leave out the last ones if there are too many."""
    count = len(parts)
    end = b""
    if sum(len(name) + 1 + min(len(value), _LEAST_SHARE) for name, value in parts) + 2 > size:
        end = mark % count
        room, kept = size - 2 - len(end), 0
        for name, value in parts:
            room -= len(name) + 1 + min(len(value), _LEAST_SHARE)
            if room < 0:
                break
            kept += 1
        parts = parts[:kept]
    room = size - 2 - len(end) - sum(len(name) + 1 for name, _ in parts)
    share = shares([len(value) for _, value in parts], room)
    pieces: list[bytes] = []
    for name, value in parts:
        cut = cut_json(value, share, depth + 1)
        if cut is None:
            return None
        pieces.append(name + cut)
    if end:
        pieces.append(end)
    return brackets[:1] + b",".join(pieces) + brackets[1:]


def _outside_marks(text: str, at: int, *, forward: bool) -> int:
    """Return `at`, or the beginning or end of the mark that contains it."""
    for match in MARK.finditer(text, max(0, at - _LONGEST_MARK), at + _LONGEST_MARK):
        if match.start() < at < match.end():
            return match.end() if forward else match.start()
    return at
