"""roughly_cut() and without_margin(): an item too large to be searched, cut so that no half of a secret stays."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nat_observability.events import Captured, Item, Span
from nat_observability.processors.cuts import outside_marks
from nat_observability.processors.item_limits import within_bytes
from nat_observability.processors.redaction.json import places_of_strings

# What is before a cut is searched and then left out, because what ends there may be a half of a secret.
_MARGIN = 512  # characters
# Behind a cut beginning, the name or the header of what follows may be missing.
_MARGIN_BEFORE = 4096  # characters
_CUT = re.compile(r"\[cut:\d+\]")
_DETAILS = ("events", "links")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def roughly_cut(item: Item, most: int) -> dict[str, Any]:
    """
    Return the fields of an item to cut so that at most so many bytes are searched: none if it is small enough.

    Once they are searched, `without_margin` must leave out what is next to the cuts.
    """
    changes = within_bytes(item, {}, most)
    if _is_in_pieces(item) and (cut := changes.get("output")) is not None:
        # A secret may be split over pieces, so none but the last ones may be missing.
        changes["output"] = _first_pieces(item.output, len(cut))
    return changes


def without_margin(item: Item, cut: dict[str, Any]) -> Item:
    """Return an item, searched after the fields `cut` were cut, without what is next to the cuts."""
    changes: dict[str, Any] = {}
    for field, before in cut.items():
        value = getattr(item, field)
        if field == "error":
            traceback = value.traceback
            changes[field] = msgspec.structs.replace(
                value,
                message=_text(value.message, before.message),
                traceback=None if traceback is None else _text(traceback, before.traceback, keep_end=True),
            )
        elif field == "tags":
            changes[field] = tuple(map(_text, value, before))
        elif field in _DETAILS:
            changes[field] = tuple(
                msgspec.structs.replace(part, attributes=_json(part.attributes, cut_part.attributes))
                for part, cut_part in zip(value, before, strict=True)
            )
        elif field == "output" and _is_in_pieces(item):
            changes[field] = _pieces(value)
        elif isinstance(value, str):
            changes[field] = _text(value, before)
        elif isinstance(value, msgspec.Raw):
            changes[field] = _json(value, before)
    return msgspec.structs.replace(item, **changes)


def _is_in_pieces(item: Item) -> bool:
    return isinstance(item, Span) and item.chunks > 1 and isinstance(item.output, msgspec.Raw)


def _text(text: str, before: object, *, keep_end: bool = False) -> str:
    """Return a text without what is next to the cut, which `before`, the text before the search, has if it was cut."""
    if not isinstance(before, str):
        return text
    if keep_end:
        mark = _CUT.match(before)
        if mark is None:
            return text
        rest = text.removeprefix(mark[0])
        return mark[0] + rest[outside_marks(rest, min(len(rest), _MARGIN_BEFORE), forward=True) :]
    mark = _CUT.match(before, max(before.rfind("[cut:"), 0))
    if mark is None or mark.end() < len(before):
        return text
    # A value that seemed to go on to the end has taken the mark with it.
    rest = text.removesuffix(mark[0])
    return rest[: outside_marks(rest, max(0, len(rest) - _MARGIN), forward=False)] + mark[0]


def _json(value: msgspec.Raw | None, before: Captured) -> msgspec.Raw | None:
    if value is None or not isinstance(before, msgspec.Raw):
        return value
    try:
        return msgspec.Raw(_encode(_within(_decode(value), _decode(before))))
    except _UNREADABLE:
        return value


def _within(value: Any, before: Any) -> Any:
    if isinstance(value, str):
        return _text(value, before)
    if isinstance(value, list | dict) and (type(before) is not type(value) or len(before) != len(value)):
        before = value  # some names of fields were secret, and have the same mark now
    if isinstance(value, list):
        return list(map(_within, value, before))
    if isinstance(value, dict):
        return {
            name: _within(each, old) for (name, each), old in zip(value.items(), before.values(), strict=True)
        }
    return value


def _first_pieces(value: Captured, most: int) -> Captured:
    try:
        pieces = _items(value or b"")
    except _UNREADABLE:
        return msgspec.Raw(_encode(f"[cut:{len(value or '')}]"))
    room, kept = most - 64, 0
    for piece in pieces:
        room -= len(piece) + 1
        if room < 0:
            break
        kept += 1
    # An object, so that it is not taken for the end of the text.
    return msgspec.Raw(_encode([*pieces[:kept], {"[cut]": f"[cut:{len(pieces)}]"}]))


def _pieces(value: Captured) -> Captured:
    """Return the pieces of a text without the end of it."""
    try:
        pieces = _decode(value or b"")
    except _UNREADABLE:
        return value
    if not isinstance(pieces, list) or not pieces or not isinstance(pieces[-1], dict):
        return value
    mark = pieces.pop().get("[cut]")
    for parts in places_of_strings(pieces):
        left = _MARGIN
        for container, place in reversed(parts):
            piece = container[place]
            kept = outside_marks(piece, max(0, len(piece) - left), forward=False)
            left -= len(piece) - kept
            container[place] = piece[:kept]
            if left <= 0:
                break
    return msgspec.Raw(_encode([*pieces, mark]))
