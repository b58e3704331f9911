"""plain_json(): plain data, of lists, dicts and what JSON holds, encoded at the speed of C within bounds."""

from __future__ import annotations

import gc
import types
from typing import Any

import msgspec

MAX_NODES = 100_000
"""Most values that one capture visits."""
MAX_BYTES = 1024 * 1024
"""Most bytes that one capture keeps."""

_FEW = 16  # items: a loop over them takes less than the calls for many
_TOO_LARGE = 2**62
_LEAVES = frozenset({int, float, bool, types.NoneType})
CONTAINERS = frozenset({list, dict, tuple})
_PLAIN = frozenset({str, *_LEAVES, *CONTAINERS})

_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_encode_into = _encoder.encode_into
_END = MAX_BYTES - len(b"null")
_buffers: list[bytearray] = []
_MAX_BUFFERS = 4


def plain_json(value: Any, most: int = MAX_BYTES, *, small: bool = False) -> bytes | None:
    """
    Return the JSON of a value of plain data, None if it is too large or anything else is in it.

    Args:
        most: Characters of text, up to `MAX_BYTES`; of more than a few values it may be more.
        small: Give up on more than a few values.
    """
    kind = type(value)
    try:
        if kind in CONTAINERS:
            if len(value) <= _FEW and _size(value, _FEW) <= most:
                return _encode(value)
            if small or len(value) > MAX_NODES:
                return None
            data = _bounded(value)
            return data if _is_plain(value) else None
        if kind in _LEAVES or (kind is str and len(value) <= most):
            return _encode(value)
    except Exception:  # noqa: BLE001  what JSON lacks, and the bounds
        pass
    return None


def _size(value: Any, few: int) -> int:
    """Return the characters of text in a small container of plain data, more than any limit of anything else."""
    size = 0
    items = value
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return _TOO_LARGE
            size += len(key)
        items = value.values()
    for item in items:
        kind = type(item)
        if kind is str:
            size += len(item)
        elif kind in CONTAINERS:
            if len(item) > few:
                return _TOO_LARGE
            size += _size(item, few // 4)
        elif kind not in _LEAVES:
            return _TOO_LARGE
    return size


def _bounded(value: object) -> bytes:
    """
    Return the JSON of `value`.

    Raises:
        BufferError: It takes more than `MAX_BYTES`.
    """
    try:
        buffer = _buffers.pop()
    except IndexError:
        buffer = bytearray(MAX_BYTES)
    # Back to its full size: the encoder fills it up to there without writing to it.
    _encode_into(None, buffer, _END)
    try:
        # A buffer with a view of it cannot grow, so that the encoder stops at its end.
        with memoryview(buffer):
            _encode_into(value, buffer)
        return bytes(buffer)
    finally:
        if len(_buffers) < _MAX_BUFFERS:
            _buffers.append(buffer)


def _is_plain(value: object) -> bool:
    """
    Return whether there is nothing but plain data in a list, dict or tuple, of not too many values.

    Only of what has been encoded, which is a tree of a bounded size. Level by level, at the speed of C: the garbage
    collector names what is in the containers, except the keys of a dict whose keys are all `str`.
    """
    left = MAX_NODES
    level = gc.get_referents(value)
    while level:
        left -= len(level)
        if left < 0:
            return False
        if type(level[0]) is str:
            try:
                "".join(level)
            except TypeError:
                pass
            else:
                return True
        kinds = set(map(type, level))
        if not kinds <= _PLAIN:
            return False
        if kinds.isdisjoint(CONTAINERS):
            return True
        level = gc.get_referents(*level)
    return True
