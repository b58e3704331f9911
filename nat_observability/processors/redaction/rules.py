"""Pattern and Rule: what users add to redaction, everywhere or in some runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from nat_observability.errors import InvalidPatternError
from nat_observability.events import Run
from nat_observability.processors.redaction.marks import LABEL

_LONG = 0.02  # seconds for a few dozen characters
_LONGEST_BAIT = 32  # characters
_MOST_BAITS = 24


class Match(Protocol):
    """What an expression finds, as in `re.Match`."""

    def span(self, group: int | str = 0, /) -> tuple[int, int]: ...


class Expression(Protocol):
    """A compiled expression, of `re` or of a library with the same methods, such as google-re2."""

    @property
    def groupindex(self) -> Mapping[str, int]: ...
    def finditer(self, string: str, /) -> Iterator[Match]: ...


class Pattern:
    """
    What to redact wherever it stands, in every text and in every string of a JSON value.

    Args:
        name: The label of its marks, `[redacted:name]`: lower-case letters, digits, `_` and `-`.
        expression: A regular expression, or a compiled one. What is replaced is its group named `secret`, or the whole
            match if it has none. Each text is searched in one go, which takes as long as the expression does. With
            `re`, repetitions inside repetitions can take forever and stop the process for as long; the compiled
            expressions of a library such as google-re2 cannot.
        literals: Texts of which every match has at least one, in upper or lower case. Values without any of them are
            not searched; if there are no literals, every value is decoded and searched. ASCII.
        check: Takes what would be replaced, and says whether it is.

    Raises:
        InvalidPatternError: The expression does not compile, matches an empty text or takes exponential time; or the
            name or a literal is invalid.
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
                "Use a name such as 'ticket_number'.",
            )
        if isinstance(expression, str):
            try:
                expression = re.compile(expression)
            except (re.error, RecursionError, OverflowError) as error:
                raise InvalidPatternError(
                    name, f"it does not compile: {error}", "Use a regular expression of Python's re."
                ) from None
        for _ in expression.finditer(""):
            raise InvalidPatternError(
                name,
                "it matches an empty text, so it would be everywhere",
                "Use + instead of *, or {1,} instead of {0,}.",
            )
        if isinstance(expression, re.Pattern) and (bait := _endless(expression)) is not None:
            raise InvalidPatternError(
                name,
                f"it takes time that doubles with each further {bait!r}: repetitions are inside repetitions",
                "Use a repetition that cannot match the same text in several ways, or an expression of google-re2.",
            )
        self.name, self.literals = name, _literals(name, literals)
        self._expression, self._check = expression, check
        self._group: int | str = "secret" if "secret" in expression.groupindex else 0

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Find what to replace, in characters."""
        for match in self._expression.finditer(text):
            start, end = match.span(self._group)
            if end > start and (self._check is None or self._check(text[start:end])):
                yield start, end

    def __repr__(self) -> str:
        return f"Pattern({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A change to what a `Redactor` looks for, in some runs.

    Attributes:
        when: Takes a run (its conversation, user, workflow and tags) and says whether the rule applies to it. It is
            called once or a few times per run, on the delivery thread. If it raises, the item is dropped.
        keys: Further keys.
        patterns: Further patterns.
        personal: Further sets of personal data.
        without_keys: Keys, as they were given, that are not redacted in these runs.
        without_patterns: Names of patterns that are not looked for in these runs.
        without_personal: Sets of personal data that are not looked for in these runs.
    """

    when: Callable[[Run], bool]
    keys: Iterable[str] = ()
    patterns: Iterable[str | Pattern] = ()
    personal: Iterable[str] = ()
    without_keys: Iterable[str] = ()
    without_patterns: Iterable[str] = ()
    without_personal: Iterable[str] = ()


def _endless(expression: re.Pattern[str]) -> str | None:
    """Return a character of which a few dozen take an expression very long, None if none does."""
    beginning = re.match(r"[\w :=/-]*", expression.pattern)
    begin = "" if beginning is None else beginning[0]
    characters = dict.fromkeys("aA0 -_.:/@" + "".join(re.findall(r"\w", expression.pattern)))
    for character in list(characters)[:_MOST_BAITS]:
        for before in dict.fromkeys(("", begin, begin[:-1])):
            # One more at a time, so that the first that takes long does not take forever.
            for length in range(4, _LONGEST_BAIT):
                began = time.perf_counter()
                for _ in expression.finditer(f"{before}{character * length}\x00"):
                    pass
                if time.perf_counter() - began > _LONG and _is_long(
                    expression, f"{before}{character * length}\x00"
                ):
                    return character
    return None


def _is_long(expression: re.Pattern[str], bait: str) -> bool:
    """Say whether it takes long every time: not because the machine was busy."""
    began = time.thread_time()
    for _ in expression.finditer(bait):
        pass
    return time.thread_time() - began > _LONG


def _literals(name: str, literals: Iterable[str]) -> tuple[bytes, ...]:
    if isinstance(literals, str):
        literals = (literals,)
    found = tuple(literals)
    for literal in found:
        if not literal or not literal.isascii():
            raise InvalidPatternError(
                name,
                f"{literal!r} is not a literal",
                "Give texts of ASCII characters of which each match has one, or none at all.",
            )
    return tuple(literal.lower().encode() for literal in found)
