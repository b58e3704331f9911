"""Needle: letters that are in every name that a key matches, and expressions that find such letters in a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

UNSURE = "pass"
"""The label of the name that means either a password or that something has passed."""

_WORDS = re.compile(r"[-_. \t]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# From the most to the least frequent in text of all kinds.
_FREQUENCY = " etaoinsrhlducmfpygbwvk0123456789xjqz_"
# Words that are in texts of all kinds: no name is looked for by one of them if it has another.
_USUAL = frozenset(
    [
        "value",
        "data",
        "id",
        "str",
        "string",
        "bytes",
        "hash",
        "access",
        "is",
        "one",
        "time",
        "two",
        "number",
        "x",
        "cookie",
        "app",
        "root",
        "user",
    ]
)
# Of words that are written as one and as two.
_FIRST_PARTS = ("pass", "session", "priv", "user", "root", "admin", "bind")
_LEAST_JOINED = 6  # letters of a word that may be two
_LEAST_WORD = 3  # letters of a word by which a name of several words is looked for


class Needle(NamedTuple):
    """
    Letters that are in every name that a key matches.

    Attributes:
        words: The words in it, in lower case.
        is_end: Whether the name ends with them.
        is_likely: Whether only a value that looks random is secret.
        is_open: Whether anything, also blanks, may be in the name besides them.
    """

    words: tuple[str, ...]
    is_end: bool
    is_likely: bool
    is_open: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The words, and the parts of those that are written as one word and as two: passphrase, pass phrase."""
        return tuple(part for word in self.words for part in _parts_of(word))

    @property
    def is_unsure(self) -> bool:
        """Whether it is the name that means either a password or that something has passed."""
        return self.words == (UNSURE,)


def needles_of(keys: Iterable[str]) -> tuple[Needle, ...] | None:
    """Return the needles of keys, None if one of them matches any name."""
    return _needles_of(tuple(keys))


@lru_cache(maxsize=64)
def _needles_of(keys: tuple[str, ...]) -> tuple[Needle, ...] | None:
    found: dict[Needle, None] = {}
    for key in keys:
        if key.startswith("!"):
            continue
        literals = re.split(r"[*?]", key.removeprefix("~"))
        words = max((_words(literal) for literal in literals), key=lambda each: len("".join(each)))
        if not words:
            return None
        is_end = bool(literals[-1]) and _words(literals[-1]) == words
        is_open = any(sign in key.removeprefix("~").strip("*") for sign in "*?")
        found[Needle(words, is_end, key.startswith("~"), is_open)] = None
    return tuple(found)


def _words(literal: str) -> tuple[str, ...]:
    # The dot is what is left of a Turkish capital letter that is made lower-case.
    words = (word.lower().replace("\u0307", "") for word in _WORDS.split(literal.replace("^", "")))
    return tuple(word for word in words if word)


def _parts_of(word: str) -> tuple[str, ...]:
    first = next((each for each in _FIRST_PARTS if word.startswith(each) and word != each), "")
    return (first, word[len(first) :]) if first else (word,)


def joined_letters(keys: Iterable[str]) -> tuple[bytes, ...]:
    """
    Return the letters of keys that do not show of which words they are made, or that have other signs in them.

    In a name, separators may stand between any of them: patientid also means patient_id.
    """
    found: dict[bytes, None] = {}
    for key in keys:
        if key.startswith("!"):
            continue
        for words in [
            max(map(_words, re.split(r"[*?]", key.removeprefix("~"))), key=lambda each: len("".join(each)))
        ]:
            letters = "".join(words)
            if (len(words) == 1 and len(letters) >= _LEAST_JOINED) or not letters.replace("_", "").isalnum():
                found[letters.encode()] = None
    return tuple(found)


def phrases_of(needles: Iterable[Needle]) -> Sequence[bytes]:
    """Return the letters of the needles that have several words."""
    return tuple(dict.fromkeys("".join(each.parts).encode() for each in needles if len(each.parts) > 1))


def spellings(word: str) -> Sequence[str]:
    """Return a word beyond ASCII in the cases in which it is written."""
    upper = word.upper()
    return tuple(dict.fromkeys((word, upper, word.capitalize(), upper.replace("I", "\u0130"))))


@lru_cache(maxsize=64)
def stems_of(needles: tuple[Needle, ...]) -> tuple[str, ...]:
    """Return as few words as possible, of which one is in every name that has a needle."""
    stems: list[str] = []

    def has_stem(needle: Needle) -> bool:
        return any(stem in word for word in needle.words for stem in stems)

    for needle in sorted(needles, key=lambda each: (len(each.words), len(each.words[0]))):
        if len(needle.words) == 1 and not has_stem(needle):
            stems.append(needle.words[0])  # noqa: PERF401  the next ones are compared with it
    left = [needle for needle in needles if not has_stem(needle)]
    while left:
        counts = Counter(
            word for needle in left for word in dict.fromkeys(needle.words) if _is_rare(word, needle)
        )
        stems.append(max(counts, key=lambda word: (counts[word], len(word), word)))
        left = [needle for needle in left if not has_stem(needle)]
    return tuple(stems)


def _is_rare(word: str, needle: Needle) -> bool:
    rare = [each for each in needle.words if each not in _USUAL and len(each) >= _LEAST_WORD]
    return word in (rare or needle.words)


def any_of(literals: Iterable[bytes]) -> tuple[re.Pattern[bytes], dict[bytes, int]]:
    """
    Return an expression that finds any of some literals in one pass, and which letter of each it matches.

    An expression that begins with one of few bytes is searched for quickly, and quicker if they are rare. Each literal
    is therefore found at its rarest letter, and the others are looked for around it, so that none hides another.
    """
    anchors: dict[bytes, int] = {}
    by_anchor: dict[bytes, dict[bytes, None]] = {}
    for literal in literals:
        at = max(range(len(literal)), key=lambda place: _FREQUENCY.find(chr(literal[place])) % 64)
        anchors[literal] = at
        anchor, after = literal[at : at + 1], literal[at + 1 :]
        around = (b"(?<=" + re.escape(literal[: at + 1]) + b")" if at else b"") + (
            b"(?=" + re.escape(after) + b")" if after else b""
        )
        by_anchor.setdefault(anchor, {})[around] = None
    branches = [
        re.escape(anchor) + (b"(?:" + b"|".join(around) + b")" if all(around) else b"")
        for anchor, around in by_anchor.items()
    ]
    return re.compile(b"|".join(branches) or b"(?!)"), anchors
