"""cut_text() and cut_json(): a value in less room, with a mark that says how large it was."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

MARK = re.compile(r"\[redacted:([a-z0-9_-]{1,40})(?::[0-9a-f]{16})?\]")
"""A mark of redaction."""

_CUT = re.compile(r"\[cut:(\d+)\]")
_LONGEST_MARK = 80  # characters of a redaction mark
_LEAST_SHARE = 24  # bytes: parts of JSON are left out rather than cut to less
_MAX_DEPTH = 48

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


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
        return mark + text[outside_marks(text, len(text) - room, forward=True) :]
    return text[: outside_marks(text, room, forward=False)] + mark


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


def outside_marks(text: str, at: int, *, forward: bool) -> int:
    """Return `at`, or the beginning or end of the mark that contains it."""
    for match in MARK.finditer(text, max(0, at - _LONGEST_MARK), at + _LONGEST_MARK):
        if match.start() < at < match.end():
            return match.end() if forward else match.start()
    return at
