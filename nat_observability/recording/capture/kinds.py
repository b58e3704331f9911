"""The built-in kinds of values, and their methods by the base, because a subclass may raise in its own."""

from __future__ import annotations

import datetime
import decimal
import itertools
import uuid
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any

from nat_observability.foreign_errors import reraise_signal

LEAVES = frozenset({str, int, float, bool, type(None)})
BYTES = (bytes, bytearray, memoryview)
SEQUENCES = (list, tuple, set, frozenset, deque)
VIEWS = (KeysView, ValuesView, ItemsView)
_TIMES = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
FOREIGN_TRIES = 3
_FEW = 16
_LONG = 1 << 53
NATIVE = frozenset({*_TIMES, decimal.Decimal, uuid.UUID})
_OTHERS: set[type] = {object}


def length_of(kind: type) -> Callable[[Any], int]:
    for base in SEQUENCES:
        if issubclass(kind, base):
            return base.__len__
    return len


def iterator(value: Any) -> Iterator[Any]:
    for base in SEQUENCES:
        if issubclass(type(value), base):
            return base.__iter__(value)
    return iter(value)


def first(items: Callable[[], Iterable[Any]], count: int, tries: int = 100) -> list[Any]:
    """
    Return the first items; again if another thread changed the container between two instructions.

    Args:
        tries: At most. Few for foreign code, which may take as long as it likes to raise.
    """
    for _ in range(tries - 1):
        try:
            return list(itertools.islice(items(), count))
        except RuntimeError:
            continue
    return list(itertools.islice(items(), count))


def kinds_of(items: list[Any]) -> set[type]:
    """Return the types of values, `object` alone if that cannot be found out."""
    try:
        return set(map(type, items))
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
        reraise_signal(error)
        return _OTHERS


def is_short_key(key: Any) -> bool:
    """Return whether it is a tuple or a frozen set with a few texts and numbers in it."""
    base = next((base for base in (tuple, frozenset) if issubclass(type(key), base)), None)
    return (
        base is not None
        and base.__len__(key) <= _FEW
        and all(
            type(each) is str or type(each) in (float, bool) or (type(each) is int and -_LONG < each < _LONG)
            for each in base.__iter__(key)
        )
    )
