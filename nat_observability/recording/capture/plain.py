"""plain_json(): plain data, of lists, dicts and what JSON holds, encoded at the speed of C within bounds."""

from __future__ import annotations

import gc
import itertools
import operator
import sys
import types
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.budget import PLAIN_CONTAINER, PLAIN_LEVEL
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.text import cut_text, utf8_text

_MAX_LEVELS = 256
_FLAT = _MAX_LEVELS - 4  # deeper levels are charged for
_DEEPER = 5  # nodes for a container
FEW = 16  # items: a loop over them takes less than the calls for many
FEW_IN_ALL = 16 * 16 * 8 * 4 * 2  # values in small containers that hold small containers
_MANY_ROWS = 32
_MANY_CONTAINERS = 128
_MANY = 2048
_SAMPLE = 256
SHORT = 4096  # characters
_SHORTER = 512
SOME = 5  # items: fewer are looked at faster in Python
_MOST_LEAVES = 256
TWO = 2  # fields of a message that is a text
_NUMBER = 25  # bytes of the longest of 64 bits, or of a float, with a comma
_MOST_NUMBERS = 8192  # that may turn out to be long ones
_TOO_LARGE = 2**62
BITS = 63  # of an integer that is written fast
_LONG_TEXT = 8192  # characters of one that is not written in full to find out its length in JSON
_PIECE = 256
_PIECES = 16
_MOSTLY_CONTROL = 4
_SHARES = (1, 7 / 8, 1 / 2)
_QUOTES = 2
_MARK = len("[cut:]") + 19
_BYTES = 6  # of a character, at most
_ESCAPES = 24  # a control character takes six bytes, and the more of them, the less they say
_LONG = 2**63 - 1
NUMBERS = frozenset({int, float, bool, types.NoneType})
LEAVES = NUMBERS | {str}
CONTAINERS = frozenset({list, dict, tuple})
PLAIN = LEAVES | CONTAINERS
_DICT = frozenset({dict})
_KEYS = frozenset({str, int})

_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_encode_into = _encoder.encode_into
_convert = msgspec.convert
_referents = gc.get_referents


def _are_hidden() -> bool:
    """Return whether the interpreter keeps the attributes of an object where the garbage collector names none."""
    living: Any = type("Living", (), {})()
    living.attribute = []
    return not _referents(vars(living))


# Of Python 3.13 and later, which the encoder would still find in the `vars()` of the object.
_HIDDEN = _are_hidden()
_NULL = len(b"null")
_buffers: list[bytearray] = []
_MAX_BUFFERS = 4

# What msgspec checks at the speed of C before it encodes. It looks at types alone and calls no code of theirs.
# Longer integers take longer the longer they are; a text that is too long does not even begin to be encoded.
_Integer = Annotated[int, msgspec.Meta(ge=-_LONG, le=_LONG)]
_Leaf = str | _Integer | float | bool | None


class _Leaves(msgspec.Struct, array_like=True, gc=False):
    leaves: list[_Leaf]


class _FewLeaves(msgspec.Struct, array_like=True, gc=False):
    leaves: list[Annotated[str, msgspec.Meta(max_length=SHORT)] | _Integer | float | bool | None]


class _ManyLeaves(msgspec.Struct, array_like=True, gc=False):
    leaves: list[Annotated[str, msgspec.Meta(max_length=_SHORTER)] | _Integer | float | bool | None]


_Name = Annotated[str, msgspec.Meta(max_length=_SHORTER)]


class _Numbers(msgspec.Struct, array_like=True, gc=False):
    numbers: list[int | float | bool | None]


class _Rows(msgspec.Struct, array_like=True, gc=False):
    rows: list[
        Annotated[
            dict[_Name, Annotated[str, msgspec.Meta(max_length=SHORT)] | _Integer | float | bool | None],
            msgspec.Meta(max_length=TWO),
        ]
    ]


def plain_json(value: Any, *, small: bool = False) -> bytes | None:
    """
    Return the JSON of a value of plain data, None if it is too large or anything else is in it.

    Args:
        small: Give up on more than a few values.
    """
    kind = type(value)
    try:
        if kind is dict or kind is list or kind is tuple:
            count = len(value)
            data: bytes | None = None
            # A character may take six bytes.
            if (
                count <= FEW
                and (count < SOME or kind is dict or type(value[0]) is not dict)
                and size_in_few(value, FEW) <= limits.size >> 2
            ):
                data = _encode(value)
                is_bounded = limits.nodes >= FEW_IN_ALL or data.count(b",") <= limits.nodes
                return data if is_bounded and len(data) <= limits.size else None
            if small or count > limits.nodes:
                return None
            if kind is not dict and count <= _MOST_NUMBERS:
                first = type(value[0])
                if first in NUMBERS and count > FEW:
                    data = numbers_json(value, limits.size)
                elif first is str and count <= _MOST_LEAVES:
                    data = few_leaves_json(value, _FewLeaves if count <= 2 * FEW else _ManyLeaves)
                elif first is dict:
                    data = _rows_json(value)
                if data is not None:
                    return data
            if count > _MANY and _exceeds(_sample(value, kind), count):
                return None
            return bounded(value, limits.size) if _left(value, limits.nodes) >= 0 else None
        if kind in LEAVES and (kind is not str or len(value) <= limits.size):
            encoded = _encode(value)
            return encoded if len(encoded) <= limits.size else None
    except BaseException as error:  # noqa: BLE001  what JSON lacks, the bounds, and a metaclass's own hash
        reraise_signal(error)
    return None


def plain_part(value: Any, most: int, nodes: int, *, small: bool) -> tuple[bytes, int] | None:
    """
    Return the JSON of a container of plain data inside another value, and the nodes that it has taken.

    Args:
        most: Bytes that there may be.
        nodes: Nodes that it may take.
        small: Give up on more than a few values.
    """
    try:
        if len(value) <= FEW and size_in_few(value, FEW) <= most:
            data = _encode(value)
            return data, PLAIN_LEVEL + data.count(b",") + PLAIN_CONTAINER * (
                data.count(b"[") + data.count(b"{")
            )
        left = -1 if small else _left(value, nodes)
        return None if left < 0 else (bounded(value, most), nodes - left + PLAIN_LEVEL)
    except BaseException as error:  # noqa: BLE001  as above
        reraise_signal(error)
        return None


def _is_long(number: Any) -> bool:
    return type(number) is int and not -_LONG <= number <= _LONG


def numbers_json(value: Any, most: int) -> bytes | None:
    """
    Return the JSON of a list of numbers in at most so many bytes.

    None if it holds anything else, or integers that take long to write.
    """
    if not sys.get_int_max_str_digits() or _is_long(value[0]) or _is_long(value[-1]):
        return None
    try:
        _convert((value,), _Numbers)
        data = bounded(value, min(most, _NUMBER * len(value)))
    except (msgspec.ValidationError, BufferError, ValueError, TypeError):  # the last: a class of one's own
        return None
    return data if data.find(b'"') < 0 else None  # a decimal number


def few_leaves_json(value: Any, leaves: type = _FewLeaves) -> bytes | None:
    """Return the JSON of a list of a few short texts and numbers; None if it is anything else."""
    try:
        _convert((value,), leaves)
    except msgspec.ValidationError:
        return None
    data = _encode(value)
    return data if len(data) <= limits.size else None


def few_rows_json(value: Any) -> bytes | None:
    """Return the JSON of a few dicts of short texts and numbers; None if it is anything else."""
    if not _DICT.issuperset(map(type, value)):
        return None
    try:
        _convert((value,), _Rows)
    except msgspec.ValidationError:
        return None
    data = _encode(value)
    return data if len(data) <= limits.size else None


def _rows_json(value: Any) -> bytes | None:
    """Return the JSON of a list of dicts of texts and numbers, such as a chat's messages; None if it is not one."""
    if not _DICT.issuperset(map(type, value)):
        return None
    count = sum(map(len, value))
    if len(value) + count > limits.nodes:
        return None
    cells = _referents(*value)
    # More if there are keys among them, which are not text.
    if len(cells) != count or not count or type(cells[0]) in CONTAINERS or type(cells[-1]) in CONTAINERS:
        return None
    return bounded(value, limits.size) if _are_leaves(cells) and _are_named(value) else None


def _sample(value: Any, kind: Any) -> Any:
    return dict(itertools.islice(value.items(), _SAMPLE)) if kind is dict else value[:_SAMPLE]


def _exceeds(sample: Any, count: int) -> bool:
    """Return whether so many items like these are hardly within the bounds, or are anything else than plain data."""
    left = _left(sample, limits.nodes)
    if left < 0:
        return True
    times = count / len(sample)
    return (limits.nodes - left) * times > limits.nodes or len(
        bounded(sample, limits.size)
    ) * times > limits.size


def size_in_few(value: Any, few: int) -> int:
    """Return the characters of text in a small container of plain data, more than any limit of anything else."""
    size = 0
    if type(value) is dict:
        for key, item in value.items():
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is int:
                if item.bit_length() > BITS:
                    return _TOO_LARGE
            elif kind in CONTAINERS:
                if len(item) > few:
                    return _TOO_LARGE
                size += size_in_few(item, few >> 1)
            elif kind not in NUMBERS:
                return _TOO_LARGE
            if type(key) is not str:
                return _TOO_LARGE
            size += len(key)
        return size
    for item in value:
        kind = type(item)
        if kind is str:
            size += len(item)
        elif kind is int:
            if item.bit_length() > BITS:
                return _TOO_LARGE
        elif kind in CONTAINERS:
            if len(item) > few:
                return _TOO_LARGE
            size += size_in_few(item, few >> 1)
        elif kind not in NUMBERS:
            return _TOO_LARGE
    return size


def bounded(value: object, most: int) -> bytes:
    """
    Return the JSON of `value`.

    Raises:
        BufferError: It takes more than `most` bytes.
    """
    try:
        buffer = _buffers.pop()
    except IndexError:
        buffer = bytearray(limits.size)
    # To its full size: the encoder fills it up to there without writing to it.
    _encode_into(None, buffer, most - _NULL if most > 2 * _NULL else _NULL)
    # A buffer with a view of it cannot grow, so that the encoder stops at its end.
    view = memoryview(buffer)
    try:
        _encode_into(value, buffer)
        return bytes(buffer)
    finally:
        view.release()
        if len(_buffers) < _MAX_BUFFERS:
            _buffers.append(buffer)


def text_json(text: str, most: int) -> bytes:
    """Return an exact `str` as JSON, which may be six times as long, cut to so many bytes."""
    if len(text) <= min(_LONG_TEXT, most // _BYTES):
        try:
            return _encode(text)
        except UnicodeEncodeError:
            data = _encode(text.encode("utf-8", "backslashreplace").decode())
            if len(data) <= most:
                return data
    ratio = _ratio(text[:most])
    if ratio <= _MOSTLY_CONTROL:
        for share in _SHARES:
            try:
                return bounded(cut_text(text, max(0, int(most * share / ratio) - _MARK)), most + _QUOTES)
            except BufferError:
                continue  # there are more escapes elsewhere
    return _encode(cut_text(text, most // _ESCAPES))


def _ratio(text: str) -> float:
    """Return how much longer a text is in JSON, by samples of it."""
    pieces = [
        text[start : start + _PIECE] for start in range(0, len(text), max(_PIECE, len(text) // _PIECES))
    ]
    sample = utf8_text("".join(pieces))
    return (len(_encode(sample)) - _QUOTES) / max(1, len(sample.encode()))


def _left(value: Any, left: int) -> int:
    """
    Return how many of so many nodes plain data in a list, dict or tuple leaves; negative if anything else is in it.

    Level by level, at the speed of C: the garbage collector names what is in the containers, except the keys of a dict
    whose keys are all `str`. To be asked before the encoder walks: the code of a time zone or of a dataclass's
    attributes, which it would run, may change the list that it walks through, and the process crashes.
    """
    left -= len(value)
    if left < 0:
        return -1
    if type(value) is dict:
        level = _referents(value)
        if len(level) < len(value):
            return -1
        if len(level) == len(value):
            if CONTAINERS.isdisjoint((type(level[0]), type(level[-1]))) and _are_leaves(level):
                return left
        else:  # keys too
            if _mixed(value) or not set(map(type, value)) <= _KEYS:
                return -1
            left -= len(value)
        return _after(level, left, _MAX_LEVELS)
    return _after(value, left, _MAX_LEVELS)


def _after(level: Any, left: int, levels: int) -> int:
    """Return what the values in the containers of a level leave of so many nodes, negative if they are too many."""
    while level and left >= 0:
        ends = {type(level[0]), type(level[-1])}
        if not ends <= PLAIN or levels <= 0:
            return -1
        if ends.isdisjoint(CONTAINERS) and _are_leaves(level):
            return left
        if ends <= CONTAINERS and len(level) > left:
            return -1  # unless they are empty
        kinds = set(map(type, level))
        if not kinds <= PLAIN:
            return -1
        inner = level
        if not kinds <= CONTAINERS:
            inner = [each for each in level if type(each) in CONTAINERS]
            if int in kinds and not _are_leaves([each for each in level if type(each) is int]):
                return -1
        levels -= 1
        if levels < _FLAT:
            # Of many containers the more, the deeper they are: no data has so many in so many levels.
            left -= PLAIN_LEVEL + _DEEPER * (1 if len(inner) < _MANY_CONTAINERS else _FLAT - levels) * len(
                inner
            )
        # Before the next level is made: lists that come again and again may be endless.
        lengths = [*map(len, inner)]
        count = sum(lengths)
        left -= count
        if left < 0:
            return -1
        level = _referents(*inner)
        if len(level) < count or (
            _HIDDEN and dict in kinds and not _are_named([each for each in inner if type(each) is dict])
        ):
            return -1
        if len(level) > count and any(_mixed(each) for each in inner if type(each) is dict):
            return -1
        width = lengths[0]
        if (
            len(lengths) >= _MANY_ROWS
            and 1 < width <= FEW
            and len(level) == width * lengths.count(width)
            and not CONTAINERS.isdisjoint(row := set(map(type, level[:width])))
            and not row <= CONTAINERS
        ):
            # What rows have in one place is mostly of one kind, and looked at faster than if it is mixed.
            for column in range(width):
                left = _after(level[column::width], left, levels)
                if left < 0:
                    break
            return left
    return left


def _are_named(dicts: Iterable[Any]) -> bool:
    """
    Return whether the garbage collector names all values of each of the dicts.

    One by one: the keys that it names of one would make up for the values that it does not name of another.
    """
    return not _HIDDEN or all(map(operator.le, map(len, dicts), map(len, map(_referents, dicts))))


def _mixed(value: Any) -> bool:
    """Return whether a dict has keys of several types: 1 and "1" are one name in JSON."""
    return len(set(map(type, value))) > 1


def _are_leaves(level: Any) -> bool:
    try:
        _convert((level,), _Leaves)
    except msgspec.ValidationError:
        return False
    return True
