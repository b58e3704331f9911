"""Trigger: a text without which a recogniser finds nothing."""

from __future__ import annotations

import re

_MANY = 64


class Trigger:
    """
    A text that is wherever a recogniser finds something.

    Args:
        literal: The text.
        behind: What must follow it.
    """

    __slots__ = ("_behind", "_whole", "literal")

    def __init__(self, literal: bytes, behind: bytes = b"") -> None:
        self.literal = literal
        self._behind = re.compile(behind) if behind else None
        self._whole = re.compile(re.escape(literal) + behind)

    def is_in(self, data: bytes, at: int) -> bool:
        """
        Say whether `data` has the text, with what must follow it.

        Args:
            at: Where the literal is for the first time.
        """
        if self._behind is None:
            return True
        # In most texts the literal is rare, and finding it takes a fraction of the time of the expression.
        for _ in range(_MANY):
            at += len(self.literal)
            if self._behind.match(data, at) is not None:
                return True
            at = data.find(self.literal, at)
            if at < 0:
                return False
        return self._whole.search(data, at) is not None

    def is_anywhere_in(self, data: bytes) -> bool:
        """Say whether `data` has the text, with what must follow it."""
        at = data.find(self.literal)
        return at >= 0 and self.is_in(data, at)
