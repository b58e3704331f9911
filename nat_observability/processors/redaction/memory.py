"""Memory: what was found out about data or names, and what long texts began with, so that it is looked at once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")

MOST = 8192
"""Entries of each of two generations."""


class Memory(Generic[Key, Answer]):
    """
    Answers by what they are about, or by its hash, of which the last `MOST` at least are kept.

    Equal hashes of different data are as likely as a guessed key of 64 bits. Several threads may use it.
    """

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[Key, Answer] = {}
        self._old: dict[Key, Answer] = {}

    def get(self, key: Key) -> Answer | None:
        """Return the answer for a key, None if it is not known."""
        found = self._new.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Key, answer: Answer) -> None:
        """Remember an answer."""
        if len(self._new) >= MOST:
            self._old, self._new = self._new, {}
        self._new[key] = answer


_FIRST = 256  # bytes by which texts that begin alike are found
_MOST_ALIKE = 4
_MOST_BYTES = 4 * 1024 * 1024


class Beginnings:
    """
    The last few long texts in which there was nothing, to know again what begins with one of them.

    Several threads may use it.
    """

    __slots__ = ("_known", "_size")

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, ...]] = {}
        self._size = 0

    def is_new(self, data: bytes) -> bool:
        """Say whether no text before began like this one: it is not worth remembering until one has."""
        first = hash(data[:_FIRST])
        if first in self._known:
            return False
        self._keep(first, ())
        return True

    def length(self, data: bytes) -> int:
        """Return how much of the beginning of a text is known: that of the longest known text it begins with."""
        alike = self._known.get(hash(data[:_FIRST]), ())
        return max((len(known) for known in alike if data.startswith(known)), default=0)

    def put(self, data: bytes) -> None:
        """Remember a text, in place of those with which it begins."""
        first = hash(data[:_FIRST])
        others = [known for known in self._known.get(first, ()) if not data.startswith(known)]
        self._keep(first, (data, *others[: _MOST_ALIKE - 1]))

    def _keep(self, first: int, alike: tuple[bytes, ...]) -> None:
        self._known[first] = alike
        self._size += _size_of(alike)  # with what it replaces
        if self._size > _MOST_BYTES:
            self._size = sum(map(_size_of, list(self._known.values())))
            if self._size > _MOST_BYTES:
                self._known, self._size = {first: alike}, _size_of(alike)


def _size_of(alike: tuple[bytes, ...]) -> int:
    return _FIRST + sum(map(len, alike))
