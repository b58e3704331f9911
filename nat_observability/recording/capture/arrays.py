"""arrays(): how arrays, tensors, data frames, images and buffers are recorded: the large ones by their shape."""

from __future__ import annotations

import codecs
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from nat_observability.recording.capture.budget import (
    CONTAINER,
    CONVERTED,
    GATHERED,
    MAX_COLUMNS,
    MAX_ITEMS,
    OBJECT,
    TEXTS,
)
from nat_observability.recording.capture.kinds import BYTES
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.text import cut_text
from nat_observability.recording.capture.walk import Walk

_BUILTIN = (str, int, float, list, tuple, dict, *BYTES)
_MAX_ARRAY = 64 * 1024  # bytes of an array that is recorded in full
_TEXT = 64  # times as many of texts, of which each character takes four
_MARK = len("[cut:]") + 19
_TEXT_LIKE = 8  # bytes: fewer are numbers, however they look
_MEDIA: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
)
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}


def arrays(kind: Any, module: str) -> Callable[[Walk, Any, int], Any] | None:
    """Return the method for arrays or images of this class, None if it is none of them."""
    if module.startswith("PIL.") and hasattr(kind, "getbands"):
        return _image
    if hasattr(kind, "shape") and hasattr(kind, "dtype"):
        return _series if kind.__name__.endswith("Series") else _array
    if hasattr(kind, "tolist"):
        return _converted_array
    if hasattr(kind, "isoformat"):
        return converted
    return None


def _image(walk: Walk, value: Any, depth: int) -> Any:
    return walk.summary(value, depth, mode=value.mode, size=list(value.size))


def frame(walk: Walk, value: Any, depth: int) -> Any:
    # Those of Arrow's tables are the data.
    names = value.column_names if hasattr(type(value), "column_names") else value.columns
    columns = list(itertools.islice(names, MAX_COLUMNS))
    return walk.summary(value, depth, shape=list(value.shape), columns=[walk.key(each) for each in columns])


def _series(walk: Walk, value: Any, depth: int) -> Any:
    # A column of a frame: without the names of its rows its values would be something else.
    name = None if value.name is None else walk.key(value.name)
    return walk.summary(value, depth, name=name, dtype=str(value.dtype), shape=list(value.shape))


def _array(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= 2 * OBJECT
    shape, dtype = value.shape, value.dtype
    if isinstance(shape, tuple | list):
        lengths = [*map(int, shape)]
        names = getattr(dtype, "names", None)
        names = names if isinstance(names, tuple) else ()
        has_rows = len(lengths) == 1 or (bool(lengths) and not names)
        most = MAX_ITEMS // max(1, len(names))
        weight = _weight(dtype) if most else _MAX_ARRAY
        count = math.prod(lengths)
        if count <= most and count * weight <= _MAX_ARRAY and (has_rows or not lengths):
            if names:
                return walk.inside(value, depth, functools.partial(_records, walk, names))
            if not (str(dtype).endswith("int8") and _is_text(value.tolist())):
                walk.nodes_left -= _nodes(dtype, count)
                if getattr(dtype, "kind", None) in ("M", "m"):
                    # As a list they are numbers, or objects, by their unit.
                    walk.nodes_left -= CONVERTED * count
                    return walk.inside(value, depth, functools.partial(_times, walk))
                return converted(walk, value, depth)
        elif has_rows and (names or _holds_text(dtype)):
            columns = max(1, math.prod(lengths[1:]))
            fitting = min(lengths[0], most // columns, int(_MAX_ARRAY / max(weight, 1 / _TEXT) / columns))
            if fitting:
                return walk.inside(value, depth, functools.partial(_first_items, walk, names, fitting))
    return walk.summary(value, depth, dtype=str(dtype), shape=[int(each) for each in shape])


def _times(walk: Walk, value: Any, depth: int) -> Any:
    return walk.value(value.astype(str).tolist(), depth)


def _holds_text(dtype: Any) -> bool:
    return getattr(dtype, "kind", None) in ("U", "S")


def _weight(dtype: Any) -> float:
    """Return how many bytes an item of an array takes; those of texts, which are copied fast, count as few."""
    names, fields = getattr(dtype, "names", None), getattr(dtype, "fields", None)
    if isinstance(names, tuple) and isinstance(fields, Mapping):
        return sum(_weight(fields[name][0]) for name in names)
    part = getattr(dtype, "subdtype", None)
    if isinstance(part, tuple):
        return _weight(part[0]) * math.prod(part[1])
    size = getattr(dtype, "itemsize", 1)
    return (size / _TEXT if _holds_text(dtype) else size) if isinstance(size, int) else 0


def _nodes(dtype: Any, count: int) -> int:
    """Return what so many items of an array cost to copy, beside what each costs as a value."""
    is_wide = _holds_text(dtype) or isinstance(getattr(dtype, "names", None), tuple)
    return count * int(getattr(dtype, "itemsize", 0)) // TEXTS if is_wide else 0


def _records(walk: Walk, names: tuple[str, ...], value: Any, depth: int) -> Any:
    """Return what an array of records holds, with the names of its fields."""
    walk.nodes_left -= _nodes(value.dtype, math.prod(map(int, value.shape)))
    rows = value.tolist()
    if isinstance(rows, tuple):
        return walk.value(dict(zip(names, rows, strict=False)), depth)
    return walk.value([dict(zip(names, row, strict=False)) for row in rows], depth)


def _first_items(walk: Walk, names: tuple[str, ...], fitting: int, value: Any, depth: int) -> Any:
    """Return so many items of an array of texts or records, and the mark of a cut."""
    first = value[:fitting]
    walk.nodes_left -= _nodes(first.dtype, math.prod(map(int, first.shape)))
    copies: list[Any] = []
    for row in first.tolist():
        if walk.nodes_left <= 0 or walk.bytes_left <= limits.reserved_size:
            break
        copies.append(walk.value(dict(zip(names, row, strict=False)) if names else row, depth))
    return [*copies, f"[cut:{int(value.shape[0])}]"]


def _is_text(numbers: Any) -> bool:
    """Return whether numbers are the bytes of some text: a secret among them would not be recognised."""
    flat: list[Any] = [numbers]
    while flat and isinstance(flat[0], list):
        flat = list(itertools.chain.from_iterable(flat))
    if len(flat) < _TEXT_LIKE:
        return False
    return _is_printable(bytes(each & 255 for each in flat), _TEXT_LIKE)


def _is_printable(data: bytes, least: int = 1) -> bool:
    """Return whether bytes are at least so many characters of text; a buffer may be larger than what is in it."""
    try:
        text, _ = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    text = text.replace("\0", "").replace("\n", " ")
    return len(text) >= least and text.isprintable()


def array_array(walk: Walk, value: Any, depth: int) -> Any:
    if value.typecode in "uw":
        return walk.value(value[: limits.size + 1].tounicode(), depth)
    if value.typecode in "bB" and _is_printable(value[: limits.size].tobytes()):
        return buffer(walk, value, depth)
    if len(value) > MAX_ITEMS:
        return walk.summary(value, depth, dtype=value.typecode, shape=[len(value)])
    return walk.value(value.tolist(), depth)


def buffer(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= CONTAINER
    with memoryview(value) as view:
        if view.ndim != 1 or view.format not in ("B", "b", "c"):
            if view.nbytes <= MAX_ITEMS and view.ndim <= 1:
                return walk.value(view.tolist(), depth)
            return walk.summary(value, depth, dtype=view.format, shape=list(view.shape or ()))
        size = view.nbytes
        most = limits.size
        if not view.contiguous:
            # It is put together byte by byte.
            room = walk.nodes_left - limits.reserved_nodes
            most = max(0, min(most // 2, walk.bytes_left, room * GATHERED))
            walk.nodes_left -= min(size, most) // GATHERED
        head = view[: most + 1].tobytes()
    media = _media_type(head)
    try:
        if media and not (head.isascii() and b"\0" not in head[:64]):
            return f"<{size} bytes of {media}>"
        text, _ = codecs.utf_8_decode(head, "strict", size <= len(head))
    except UnicodeDecodeError:
        return f"<{size} bytes>"
    if size > len(head):
        # The mark counts all of it, the text is what has been looked at.
        left = walk.bytes_left - limits.reserved_size - (_MARK if depth else 0)
        kept = cut_text(text, min(len(text) - 1, max(0, left)))
        text = f"{kept[: kept.rindex('[cut:')]}[cut:{size}]"
    elif not depth:
        text = walk.text(text)
    # At the top it is recorded as text, which is not escaped.
    return walk.value(text, depth) if depth else text


def _media_type(head: bytes) -> str:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    for magic, media in _MEDIA:
        if head.startswith(magic):
            return media
    return ""


def _converted_array(walk: Walk, value: Any, depth: int) -> Any:
    """Return the items of what is like an array, and says neither its shape nor the type of its items, if few."""
    count = len(value) if hasattr(type(value), "__len__") else 0
    return walk.summary(value, depth, shape=[count]) if count > MAX_ITEMS else converted(walk, value, depth)


def converted(walk: Walk, value: Any, depth: int) -> Any:
    for method in ("tolist", "isoformat"):
        convert = getattr(type(value), method, None)
        copy = convert(value) if callable(convert) else None
        # What a mock returns is another mock, and so on.
        if isinstance(copy, _BUILTIN):
            return walk.inside(value, depth, functools.partial(_other, walk, copy))
    return walk.opaque(value)


def _other(walk: Walk, copy: Any, _: Any, depth: int) -> Any:
    return walk.value(copy, depth)
