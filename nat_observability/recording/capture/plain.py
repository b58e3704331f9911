"""plain_json(): plain data, of lists, dicts and what JSON holds, encoded at the speed of C within bounds."""

from __future__ import annotations

import gc
import types
from operator import length_hint
from typing import Any

import msgspec

MAX_NODES = 100_000
"""Most values that one capture visits."""
MAX_BYTES = 1024 * 1024
"""Most bytes that one capture keeps."""

_MAX_LEVELS = 256
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


def plain_json(
    value: Any, most: int = MAX_BYTES, nodes: int = MAX_NODES, *, small: bool = False
) -> bytes | None:
    """
    Return the JSON of a value of plain data, None if it is too large or anything else is in it.

    Args:
        most: Characters of text, up to `MAX_BYTES`; of more than a few values it may be more.
        nodes: Values; of no more than a few they are not counted.
        small: Give up on more than a few values.
    """
    kind = type(value)
    try:
        if kind in CONTAINERS:
            if len(value) <= _FEW and _size(value, _FEW) <= most:
                return _encode(value)
            if small or len(value) > nodes or not _is_plain(value, nodes):
                return None
            return _bounded(value)
        if kind in _LEAVES or (kind is str and len(value) <= most):
            return _encode(value)
    except Exception:  # noqa: BLE001  what JSON lacks, and the bounds
        pass
    return None


def _size(value: Any, few: int) -> int:
    """Return the characters of text in a small container of plain data, more than any limit of anything else."""
    size = 0
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return _TOO_LARGE
            kind = type(item)
            if kind is str:
                size += len(key) + len(item)
            elif kind in _LEAVES:
                size += len(key)
            elif kind in CONTAINERS and len(item) <= few:
                size += len(key) + _size(item, few >> 2)
            else:
                return _TOO_LARGE
        return size
    for item in value:
        kind = type(item)
        if kind is str:
            size += len(item)
        elif kind in CONTAINERS and len(item) <= few:
            size += _size(item, few >> 2)
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


def _is_plain(value: object, left: int) -> bool:
    """
    Return whether there is nothing but plain data in a list, dict or tuple, of no more than so many values.

    Level by level, at the speed of C: the garbage collector names what is in the containers, except the keys of a dict
    whose keys are all `str`. To be asked before the encoder walks: the code of a time zone or of a dataclass's
    attributes, which it would run, may change the list that it walks through, and the process crashes.
    """
    size = MAX_BYTES
    level = gc.get_referents(value)
    for _ in range(_MAX_LEVELS):
        if not level:
            return True
        left -= len(level)
        if left < 0:
            return False
        kinds = set(map(type, level))
        if not kinds <= _PLAIN:
            return False
        if kinds.isdisjoint(CONTAINERS):
            return True
        # No more than the JSON has, and what the next level is of: lists that come again and again may be endless.
        size -= sum(map(len if kinds.isdisjoint(_LEAVES) else length_hint, level))
        if size < 0:
            return False
        level = gc.get_referents(*level)
    return False
