"""Memory: which data was found to be harmless, by hash, so that what recurs is searched once."""

from __future__ import annotations

MOST = 8192
"""Entries of each of two generations."""


class Memory:
    """
    Answers by the hash of what they are about, of which the last `MOST` at least are kept.

    Equal hashes of different data are as likely as a guessed key of 64 bits. Several threads may use it.
    """

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, key: int) -> int | None:
        """Return the answer for a hash, None if it is not known."""
        found = self._new.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: int, answer: int) -> None:
        """Remember an answer."""
        if len(self._new) >= MOST:
            self._old, self._new = self._new, {}
        self._new[key] = answer
