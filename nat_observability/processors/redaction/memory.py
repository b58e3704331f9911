"""Memory: what was found out about data or names, so that what recurs is looked at once."""

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
