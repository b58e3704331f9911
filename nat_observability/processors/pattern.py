"""Pattern: a regular expression with a name, for what is to be redacted wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class Match(Protocol):
    """What a compiled expression finds, as in `re.Match`."""

    def group(self, group: int = 0, /) -> str: ...
    def span(self, group: int | str = 0, /) -> tuple[int, int]: ...


class Expression(Protocol):
    """A compiled expression: of `re`, or of a library that has the same methods, such as google-re2."""

    def finditer(self, string: str, /) -> Iterator[Match]: ...


class Pattern:
    """
    What is to be redacted wherever it stands: in every text, and in every string of a JSON value.

    Args:
        name: Stands in the mark that replaces a match, as `[redacted:name]`: lower-case letters, digits, `_`, `-`.
        expression: A regular expression, or a compiled one. A group named `secret` is what is replaced; without
            one the whole match is. Matching takes as long as the expression does: one with nested repetitions can
            take for ever with `re`, and cannot with the compiled expression of a library such as google-re2.
        literals: Texts of which one is in every match, in upper or lower case, so that most values need not be
            searched at all. ASCII.
        check: Takes what would be replaced, and says whether it is.

    Raises:
        InvalidPatternError: The expression does not compile or matches the empty text, the name or a literal is
            not as it should be.
    """

    __slots__ = ("check", "expression", "literals", "name")

    def __init__(
        self,
        name: str,
        expression: str | Expression,
        *,
        literals: Iterable[str] = (),
        check: Callable[[str], bool] | None = None,
    ) -> None:
        self.name, self.literals, self.check = name, tuple(literals), check
        self.expression = expression
