"""Pattern: a regular expression with a name, for what is to be redacted wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from nat_observability.errors import InvalidPatternError
from nat_observability.processors.mark import LABEL


class Match(Protocol):
    """What an expression finds, as in `re.Match`."""

    def span(self, group: int | str = 0, /) -> tuple[int, int]: ...


class Expression(Protocol):
    """A compiled expression: of `re`, or of a library with the same methods, such as google-re2."""

    @property
    def groupindex(self) -> Mapping[str, int]: ...
    def finditer(self, string: str, /) -> Iterator[Match]: ...


class Pattern:
    """
    What is to be redacted wherever it stands: in every text, and in every string of a JSON value.

    Args:
        name: What the mark in the place of a match says, `[redacted:name]`: lower-case letters, digits, `_` and `-`.
        expression: A regular expression, or a compiled one. What is replaced is its group named `secret`, or the
            whole match where it has none. Each text is searched in one go. That takes as long as the expression
            does: with `re` one with repetitions inside repetitions can take for ever, and stop the process for as
            long. The compiled expressions of a library such as google-re2 cannot.
        literals: Texts of which one is in every match, in upper or lower case. A value that has none of them need
            not be searched: without them each value is decoded and searched. ASCII.
        check: Takes what would be replaced, and says whether it is.

    Raises:
        InvalidPatternError: The expression does not compile or matches an empty text; the name or a literal is not
            as it should be.
    """

    __slots__ = ("_check", "_expression", "_group", "literals", "name")

    def __init__(
        self,
        name: str,
        expression: str | Expression,
        *,
        literals: Iterable[str] = (),
        check: Callable[[str], bool] | None = None,
    ) -> None:
        if not LABEL.fullmatch(name):
            raise InvalidPatternError(
                name,
                "the name of a pattern is at most 40 lower-case letters, digits, _ and -",
                "Cure: a name such as 'ticket_number'.",
            )
        if isinstance(expression, str):
            try:
                expression = re.compile(expression)
            except (re.error, RecursionError, OverflowError) as error:
                raise InvalidPatternError(
                    name, f"it does not compile: {error}", "Cure: a regular expression of Python's re."
                ) from None
        for _ in expression.finditer(""):
            raise InvalidPatternError(
                name,
                "it matches an empty text, so it would be everywhere",
                "Cure: + for *, or {1,} for {0,}.",
            )
        self.name, self.literals = name, _literals(name, literals)
        self._expression, self._check = expression, check
        self._group: int | str = "secret" if "secret" in expression.groupindex else 0

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Find what is to be replaced, in characters."""
        for match in self._expression.finditer(text):
            start, end = match.span(self._group)
            if end > start and (self._check is None or self._check(text[start:end])):
                yield start, end

    def __repr__(self) -> str:
        return f"Pattern({self.name!r})"


def _literals(name: str, literals: Iterable[str]) -> tuple[bytes, ...]:
    if isinstance(literals, str):
        literals = (literals,)
    found = tuple(literals)
    for literal in found:
        if not literal or not literal.isascii():
            raise InvalidPatternError(
                name,
                f"{literal!r} is no literal",
                "Cure: texts of ASCII characters of which each match has one; or none at all.",
            )
    return tuple(literal.lower().encode() for literal in found)
