"""Words: finds where names of secrets and forms may be in a text, by its words, without the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nat_observability.processors.redaction.memory import Memory
from nat_observability.processors.redaction.names.needles import Needle, any_of, spellings, stems_of
from nat_observability.processors.redaction.text.runs import has_any, lower_case

_LONG = 128  # bytes: of a longer word each letter of a name counts
_LONGEST_REMEMBERED = 64  # bytes
_LONGEST_PORT = 5  # digits: longer numbers are in no name and no literal
_MOST_REMEMBERED = 16 * 1024  # words
_PIECE = 4096  # bytes that are looked at and remembered together
_NEAR = 512  # bytes in which the words of a name are, and more
_OVERLAP = 64  # bytes: no letters of a name are longer
_IN_WORDS = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(range(0x80, 0x100))
)
_WORDS = bytes(code if code in _IN_WORDS else 32 for code in range(256))
_RUN = re.compile(rb"[A-Za-z0-9_.\x80-\xff-]+")


class _Literal(NamedTuple):
    """
    A literal of a form, and what it has of a word.

    Attributes:
        number: Of the form.
        literal: All of it.
        part: The part of it that is in one word; empty if there is none.
        begins: Whether the word begins with that part.
        ends: Whether the word ends with it.
    """

    number: int
    literal: bytes
    part: bytes
    begins: bool
    ends: bool

    @property
    def rarest(self) -> bytes:
        """Its character that is in few texts; one is found in no time."""
        return self.literal[1:2]

    def is_in(self, word: bytes) -> bool:
        at = word.find(self.part)
        if at < 0 or (self.begins and not word.startswith(self.part)):
            return False
        return not self.ends or word.endswith(self.part)


class _Suspicion(NamedTuple):
    """
    What a word may be.

    Attributes:
        needed: Letters of which some must be near it for it to be a part of a secret name; None if it never is one.
        is_spelled: Whether it has letters of a name beyond ASCII.
        literals: Those of which it has a part.
    """

    needed: tuple[bytes, ...] | None
    is_spelled: bool
    literals: tuple[_Literal, ...]


class _Seen(NamedTuple):
    """Words that were looked at, those of them that may be something, and what that is."""

    words: set[bytes]
    dubious: set[bytes]
    suspicions: dict[bytes, _Suspicion]


class Words:
    """
    Looks for names and forms by the words of a text, each of which is looked at once.

    Args:
        needles: What is in every secret name.
        literals: The number of each form without a name, and a literal of it.
        needed_near: Returns letters of which some must be near a word with letters of a name, for it to be a secret one
            or a part of one; none if it is one anyway, None if it never is.
    """

    __slots__ = (
        "_anywhere",
        "_literals",
        "_needed_near",
        "_parts",
        "_pieces",
        "_seen",
        "_spelled",
        "_stems",
    )

    def __init__(
        self,
        needles: Sequence[Needle],
        literals: Iterable[tuple[int, bytes]],
        needed_near: Callable[[bytes], tuple[bytes, ...] | None],
    ) -> None:
        self._needed_near = needed_near
        stems = stems_of(tuple(needles))
        self._stems = any_of(stem.encode() for stem in stems if stem.isascii())[0]
        self._spelled = tuple(
            spelling.encode() for stem in stems if not stem.isascii() for spelling in spellings(stem)
        )
        found = [_literal(number, literal) for number, literal in literals]
        parted = tuple(each for each in found if each.part)
        self._anywhere = tuple(each for each in found if not each.part)
        self._parts, letters = any_of(dict.fromkeys(each.part for each in parted))
        # By the letter at which the expression finds their parts.
        self._literals: dict[int, list[_Literal]] = {}
        for each in parted:
            self._literals.setdefault(each.part[letters[each.part]], []).append(each)
        self._seen = _Seen(set(), set(), {})
        self._pieces: Memory[int, tuple[list[int], list[tuple[int, int]]]] = Memory()

    def look(self, data: bytes) -> tuple[list[int], list[tuple[int, int]]]:
        """Return places behind a letter of each name, and the number of each form with where a literal of it ends."""
        if len(data) <= _PIECE:
            return self._look_at(data)
        names: list[int] = []
        forms: list[tuple[int, int]] = []
        for at in range(0, len(data), _PIECE):
            # What is in the overlap is seen with both pieces.
            start = max(0, at - _OVERLAP)
            piece = data[start : at + _PIECE + _OVERLAP]
            key = hash(piece)
            seen = self._pieces.get(key)
            if seen is None:
                seen = self._look_at(piece, is_part=True)
                self._pieces.put(key, seen)
            names += [start + place for place in seen[0]]
            forms += [(number, start + place) for number, place in seen[1]]
        return sorted(set(names)), sorted(set(forms), key=_place)

    def _look_at(self, data: bytes, *, is_part: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        names: list[int] = []
        forms: list[tuple[int, int]] = []
        blank = data.translate(_WORDS)
        words = blank.split()
        suspicions: dict[bytes, _Suspicion] = {}
        unique = set(words)
        seen = self._seen
        if new := unique.difference(seen.words):
            suspicions = self._learn(new, seen)
        for word in seen.dubious.intersection(unique):
            suspicions[word] = seen.suspicions[word]
        if is_part:
            self._add_cut(blank, names)
        if suspicions:
            padded = b" " + blank + b" "
            lower = lower_case(blank)
            literals: dict[_Literal, None] = {}
            is_spelled = False
            # Many words need the same ones.
            near: dict[tuple[bytes, ...], bool] = {(): True}
            for word, suspicion in suspicions.items():
                if suspicion.needed is not None:
                    # Near the end of a piece, what is needed may be behind that.
                    is_near = near.get(suspicion.needed)
                    if is_near is None:
                        is_near = near[suspicion.needed] = has_any(lower, suspicion.needed)
                    if is_near:
                        self._add_names(padded, word, names)
                    elif is_part:
                        self._add_names(padded[:_NEAR], word, names)
                        rest: list[int] = []
                        self._add_names(padded[-_NEAR:], word, rest)
                        names += [max(0, len(padded) - _NEAR) + place for place in rest]
                literals.update(dict.fromkeys(suspicion.literals))
                is_spelled = is_spelled or suspicion.is_spelled
            for literal in literals:
                _add_literal(data, literal, forms)
            if is_spelled:
                for spelling in self._spelled:
                    at = data.find(spelling)
                    while at >= 0:
                        names.append(at + len(spelling))
                        at = data.find(spelling, at + len(spelling))
            names.sort()
        for literal in self._anywhere:
            if data.find(literal.rarest) >= 0:
                _add_literal(data, literal, forms)
        if len(forms) > 1:
            forms.sort(key=_place)
        return names, forms

    def _add_names(self, padded: bytes, word: bytes, names: list[int]) -> None:
        """Add the places of a word, between blanks, behind its first letter."""
        inside = [1] if len(word) <= _LONG else [match.end() for match in self._stems.finditer(word.lower())]
        whole = b" " + word + b" "
        at = padded.find(whole)
        while at >= 0:
            names += [at + place for place in inside]
            at = padded.find(whole, at + len(word) + 1)

    def _add_cut(self, blank: bytes, names: list[int]) -> None:
        """Add the names in the words at both ends of a piece, of which there may be more outside."""
        first, last = blank.find(b" "), blank.rfind(b" ") + 1
        for begin, end in ((0, first if first >= 0 else len(blank)), (last, len(blank))):
            names += [begin + match.end() for match in self._stems.finditer(blank[begin:end].lower())]

    def _learn(self, new: Iterable[bytes], seen: _Seen) -> dict[bytes, _Suspicion]:
        """Return those of some new words that may be something, and remember all of them."""
        # Longer numbers are hardly seen again.
        words = [word for word in new if len(word) <= _LONGEST_PORT or not word.isdigit()]
        # One search in all of them takes a fraction of the time of one in each.
        joined = b" ".join(words)
        lower = joined.lower()
        dubious: set[bytes] = set()
        for expression, text in ((self._stems, lower), (self._parts, joined)):
            for match in expression.finditer(text):
                dubious.add(_word_at(joined, match.start()))
        if not joined.isascii() and has_any(joined, self._spelled):
            dubious.update(word for word in words if not word.isascii())
        found: dict[bytes, _Suspicion] = {}
        for word in dubious:
            suspicion = self._suspicion(word)
            if suspicion is not None:
                found[word] = suspicion
        if len(seen.words) + len(words) > _MOST_REMEMBERED:
            self._seen = seen = _Seen(set(), set(), {})
        # In this order: another thread takes a word that is not dubious for a harmless one.
        for word, suspicion in found.items():
            if len(word) <= _LONGEST_REMEMBERED:
                seen.suspicions[word] = suspicion
                seen.dubious.add(word)
        seen.words.update([word for word in words if len(word) <= _LONGEST_REMEMBERED])
        return found

    def _suspicion(self, word: bytes) -> _Suspicion | None:
        needed: tuple[bytes, ...] | None = None
        if self._stems.search(word.lower()) is not None:
            # A sign beyond ASCII may stand between the name and its value.
            needed = self._needed_near(word) if word.isascii() else ()
            # Directly behind an escape, as in JSON, it begins with the letter of that.
            if (
                needed != ()
                and word[:1] in b"nrtbf"
                and self._stems.search(word[1:].lower()) is not None
                and self._needed_near(word[1:]) is not None
            ):
                needed = ()
        is_spelled = not word.isascii() and any(word.find(spelling) >= 0 for spelling in self._spelled)
        letters = {word[match.start()] for match in self._parts.finditer(word)}
        literals = tuple(each for letter in letters for each in self._literals[letter] if each.is_in(word))
        if needed is None and not is_spelled and not literals:
            return None
        return _Suspicion(needed, is_spelled, literals)


def _word_at(words: bytes, at: int) -> bytes:
    """Return the word at a place, between blanks."""
    end = words.find(b" ", at)
    return words[words.rfind(b" ", 0, at) + 1 : end if end >= 0 else len(words)]


def _literal(number: int, literal: bytes) -> _Literal:
    run = max(_RUN.finditer(literal), key=_length, default=None)
    if run is None:
        return _Literal(number, literal, b"", begins=False, ends=False)
    return _Literal(number, literal, run[0], begins=run.start() > 0, ends=run.end() < len(literal))


def _add_literal(data: bytes, each: _Literal, forms: list[tuple[int, int]]) -> None:
    at = data.find(each.literal)
    while at >= 0:
        forms.append((each.number, at + len(each.literal)))
        at = data.find(each.literal, at + 1)


def _length(match: re.Match[bytes]) -> int:
    return len(match[0])


def _place(form: tuple[int, int]) -> int:
    return form[1]
