"""Sights: what could be secret in a text, as the first look at it sees it."""

from __future__ import annotations

from typing import NamedTuple


class Sights(NamedTuple):
    """
    What could be secret in a text. All places are in bytes, and in order.

    Attributes:
        names: Places behind a letter of each name that may be secret.
        random: Where values are that look random; None if that is not known.
        tokens: Where the first letters of tokens end, and what private keys and passwords in URLs have; None if that is
            not known.
        forms: Forms without a name: the number of each in its table, and where one of its literals ends.
        has_literal: Whether it has a literal of a user's own pattern.
        is_escaped: Whether it has escapes that can hide something.
        is_odd: Whether it has characters that look like others, or like nothing.
    """

    names: list[int]
    random: list[int] | None
    tokens: list[int] | None
    forms: list[tuple[int, int]]
    has_literal: bool
    is_escaped: bool
    is_odd: bool
