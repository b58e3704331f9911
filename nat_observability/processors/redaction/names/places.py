"""Places: where the names of fields whose values may be secret stand in a text, in order."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nat_observability.processors.redaction.memory import Memory
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.names.needles import Needle, any_of, phrases_of
from nat_observability.processors.redaction.text.randomness import random_places
from nat_observability.processors.redaction.text.runs import has_any, lower_case

# The characters of a name.
NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(
    range(0x80, 0x100)
)
_LONGEST_WORD = 256  # bytes; of a longer one only so many are looked at
_REST_OF_WORD = re.compile(rb"[A-Za-z0-9_.\-\x80-\xff]{0,256}+")
_MOST_WORDS = 4  # before the letters
# Dashes between blanks are no words.
_WORDS_BEHIND = re.compile(rb"(?:[ +]{1,4}(?:[-_.]{1,4}[ +]{1,4})?[A-Za-z0-9_.\-\x80-\xff]{1,64}){1,3}")
_LONGEST_BEFORE = 128  # bytes
_MOST_PARTNERS = 24  # of a word; more take longer to look for
_LONGEST_REMEMBERED = 64  # bytes
# How near a value must be for its name to count if it must look random.
_RANDOM_BEFORE, _RANDOM_BEHIND = 2048, 4608  # bytes
_NOT_A_NAME, _UNSURE, _LIKELY, _SURE = range(4)
_IN_PHRASE = 4
_ESCAPED = b"nrtbf"
# Signs beyond ASCII, which end a name as those of ASCII do.
_SIGNS = re.compile(
    rb"\xc2[\xa0-\xbf]|\xe2[\x80-\xaf][\x80-\xbf]|\xe3\x80[\x80-\x84\x88-\x9f]|\xef\xbc[\x80-\x8f\x9a-\xa0]"
)
_STRIPPED = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
_SEPARATORS = b"-_. \t+"


class Place(NamedTuple):
    """
    A word with the letters of a secret name, which may be only a part of the name.

    Attributes:
        begin: Where it begins, in bytes.
        end: Where it ends.
        is_unsure: Whether only a sign behind it makes it a name.
    """

    begin: int
    end: int
    is_unsure: bool


class _RandomValues:
    """
    The values in a text that look random.

    Args:
        data: The text.
        places: Where they are, in order; None if that is not known.
        anywhere: Whether they count wherever they are.
    """

    __slots__ = ("_anywhere", "_data", "_places")

    def __init__(self, data: bytes, places: Sequence[int] | None, *, anywhere: bool) -> None:
        self._data, self._places, self._anywhere = data, places, anywhere

    def has_one(self, begin: int, end: int) -> bool:
        """Say whether one is near a name."""
        places = self._places
        if places is None:
            places = self._places = list(random_places(self._data))
        if self._anywhere or not places:
            return bool(places)
        first = bisect_left(places, begin - _RANDOM_BEFORE)
        return first < len(places) and places[first] <= end + _RANDOM_BEHIND


class Places:
    """
    Finds where secret names stand.

    Args:
        keys: Says which names are secret.
        needles: What is in every such name.
    """

    __slots__ = ("_in_phrases", "_keys", "_kinds", "_open", "_partners", "_parts", "_phrases")

    def __init__(self, keys: KeyMatcher, needles: Sequence[Needle]) -> None:
        self._keys = keys
        self._phrases = any_of(phrases_of(needles))[0]
        self._open = tuple("".join(needle.words).encode() for needle in needles if needle.is_open)
        words = {part.encode() for needle in needles if len(needle.parts) > 1 for part in needle.parts}
        self._in_phrases = any_of([*sorted(words), *self._open])[0]
        self._kinds: Memory[bytes, int] = Memory()
        self._parts: dict[bytes, list[tuple[bytes, ...]]] = {}
        for needle in needles:
            parts = tuple(part.encode() for part in needle.parts)
            for part in parts if len(parts) > 1 else ():
                self._parts.setdefault(part, []).append(parts)
        self._partners: Memory[bytes, tuple[bytes, ...]] = Memory()

    @staticmethod
    def has_letters(data: bytes, letters: Iterable[bytes]) -> bool:
        """Say whether letters are anywhere, whatever separates them."""
        joined = data.translate(_STRIPPED, _SEPARATORS)
        return any(joined.find(each) >= 0 for each in letters)

    def at(
        self, data: bytes, ends: Iterable[int], random: Sequence[int] | None = None, *, anywhere: bool = False
    ) -> Iterator[Place]:
        """
        Return the words that may belong to a secret name.

        Args:
            ends: Places behind one of their letters each, in order.
            random: Where values that look random are, in order; None if that is not known.
            anywhere: Whether such a value may be anywhere rather than near its name.
        """
        reached = -1
        is_ascii = data.isascii()
        near = _RandomValues(data, random, anywhere=anywhere)
        for end in ends:
            if end <= reached:
                continue
            window = data[max(0, end - _LONGEST_WORD) : end]
            begin = end - (len(window) - len(window.rstrip(NAME_CHARACTERS)))
            rest = _REST_OF_WORD.match(data, end)
            reached = end if rest is None else rest.end()
            if is_ascii or _SIGNS.search(data, begin, reached) is None:
                place = self._place(data, begin, reached, near)
                if place is not None:
                    yield place
                continue
            for first, last in ((begin, reached), *_pieces(data, begin, reached)):
                place = self._place(data, first, last, near)
                if place is not None:
                    yield place

    def _place(self, data: bytes, begin: int, end: int, near: _RandomValues) -> Place | None:
        """Return the place of a word, None if it belongs to no secret name."""
        word = data[begin:end]
        kind = self._known_kind(word)
        sureness = kind & 3
        if begin and data[begin - 1] == 0x5C and word[:1] in _ESCAPED:
            # The letter of an escape is not a part of the name behind it.
            inner = self._known_kind(word[1:]) & 3
            if inner and inner >= sureness:
                begin, sureness = begin + 1, inner
        if sureness != _SURE and begin > 1 and data[begin - 2] == 0x5C:
            # The sign behind a backslash is read as a part of the name.
            sureness = max(sureness, self._known_kind(data[begin - 1 : end]) & 3)
        if sureness != _SURE and kind & _IN_PHRASE:
            sureness = max(sureness, self._kind_of_phrase(data, begin, end))
        if sureness == _NOT_A_NAME or (sureness == _LIKELY and not near.has_one(begin, end)):
            return None
        if data[end : end + 1] == b">" and word.endswith(b"-"):
            end -= 1  # an arrow
        return Place(begin, end, sureness == _UNSURE)

    def needed_near(self, word: bytes) -> tuple[bytes, ...] | None:
        """
        Return letters of which some, in either case, must be near a word with letters of a name for it to be one.

        Without any, it is one wherever it stands; None if it never is.
        """
        kind = self._kind(word)
        if kind == _NOT_A_NAME:
            return None
        return self._others(word) or () if kind == _IN_PHRASE else ()

    def _known_kind(self, word: bytes) -> int:
        kind = self._kinds.get(word)
        if kind is None:
            kind = self._kind(word)
            if len(word) <= _LONGEST_REMEMBERED:
                self._kinds.put(word, kind)
        return kind

    def _kind(self, word: bytes) -> int:
        if len(word) >= _LONGEST_WORD:
            return _SURE
        lower = word.lower()
        kind = self._sureness(self._keys.label(word.decode(errors="replace")))
        return kind | (_IN_PHRASE if self._in_phrases.search(lower) else 0)

    def _others(self, word: bytes) -> tuple[bytes, ...] | None:
        """Return letters of which some are near a word if it is a part of a name; None if that tells nothing."""
        known = self._partners.get(word)
        if known is None:
            known = self._partners_of(word.lower())
            if len(word) <= _LONGEST_REMEMBERED:
                self._partners.put(word, known)
        return known or None

    def _partners_of(self, lower: bytes) -> tuple[bytes, ...]:
        if any(each in lower for each in self._open):
            return ()
        found: set[bytes] = set()
        for part, names in self._parts.items():
            if part in lower:
                for name in names:
                    found.add(max((each for each in name if each not in lower), key=len, default=b""))
                    if len(found) > _MOST_PARTNERS:
                        return ()
        return () if b"" in found else tuple(found)

    @staticmethod
    def _sureness(label: str | None) -> int:
        if label is None:
            return _NOT_A_NAME
        return _LIKELY if label == LIKELY else _UNSURE if label == UNSURE else _SURE

    def _kind_of_phrase(self, data: bytes, begin: int, end: int) -> int:
        """Return how sure it is that a word with those around it is a secret name."""
        word = data[begin:end]
        others = self._others(word)
        if others is not None and not has_any(
            lower_case(data[max(0, begin - _LONGEST_BEFORE) : end + _LONGEST_BEFORE]), others
        ):
            return _NOT_A_NAME
        before = _words_before(data, begin)
        behind_match = _WORDS_BEHIND.match(data, end, end + _LONGEST_BEFORE)
        behind = [] if behind_match is None else behind_match[0].replace(b"+", b" ").split()
        if not before and not behind:
            return _NOT_A_NAME
        joined = lower_case(b"".join([*before, word, *behind])).translate(None, _SEPARATORS)
        if self._phrases.search(joined) is None and not any(letters in joined for letters in self._open):
            return _NOT_A_NAME
        best = _NOT_A_NAME
        for first in range(len(before), -1, -1):
            for last in range(len(behind) + 1):
                if first < len(before) or last:
                    name = b" ".join([*before[first:], word, *behind[:last]])
                    best = max(best, self._sureness(self._keys.label(name.decode(errors="replace"))))
                    if best == _SURE:
                        return best
        return best


def _pieces(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Return the parts of a word between its signs beyond ASCII."""
    at = begin
    for sign in _SIGNS.finditer(data, begin, end):
        if sign.start() > at:
            yield at, sign.start()
        at = sign.end()
    if end > at:
        yield at, end


def _words_before(data: bytes, at: int) -> list[bytes]:
    """Return the few words before a place, in order."""
    if not at or data[at - 1] not in b" +":
        return []
    words: list[bytes] = []
    for piece in reversed(data[max(0, at - _LONGEST_BEFORE) : at].replace(b"+", b" ").split(b" ")):
        word = piece[len(piece.rstrip(NAME_CHARACTERS)) :]
        if word.strip(b"-_."):
            words.append(word)
        if len(words) == _MOST_WORDS or len(word) < len(piece):
            break
    return words[::-1]
