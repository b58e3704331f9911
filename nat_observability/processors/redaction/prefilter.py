"""Prefilter: a quick look at whether a value can hold anything to redact, derived from the tables of recognisers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nat_observability.processors.redaction.encodings import layers
from nat_observability.processors.redaction.folding import fold, is_odd
from nat_observability.processors.redaction.forms.table import may_have_form
from nat_observability.processors.redaction.keys import KeyMatcher
from nat_observability.processors.redaction.memory import Memory
from nat_observability.processors.redaction.needles import Needles, fewest
from nat_observability.processors.redaction.personal import FINDERS
from nat_observability.processors.redaction.recognisers import (
    LONGEST_WORDS,
    NAME_CHARACTERS,
    RECOGNISERS,
    Recogniser,
)
from nat_observability.processors.redaction.tokens import has_any, may_have_token
from nat_observability.processors.redaction.verdicts import random_places

# Bytes: a piece is remembered if there is nothing in it, so that the beginning of a growing history is searched once.
_PIECE = 8 * 1024
_OVERLAP = 4 * 1024
_WHOLE = 64 * 1024  # bytes that are searched together if they will not come again
_PASSES, _MAY_HAVE_COMPANION = 1, 2  # the bits of what is remembered
_SHORT, _MOST_HARMLESS = 64, 512  # bytes of data that is remembered, and how many of them
_PART = 2048  # bytes
_MARGIN = 512  # bytes: a name and what separates it from its end take no more than twice that

# Names up to this length are found by what stands before their ends, with the words before them.
_LONG_NAME = 48
_TAIL = _LONG_NAME + LONGEST_WORDS
_FAR = _TAIL + 128  # bytes, with quotes and blanks behind the name
_VERY_LONG_NAME = 256
_DEEP = b"\\" * 8  # more of them than what separates a name from its end has in between
_DENSE = 96  # bytes: if the ends are that close to each other, looking at everything takes no longer
_AFTER_NAME = b" \t\r\n\f\v+\"'`*_\\],"
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
# Neither separators nor quotes matter in a name.
_LEFT_OUT = b"-_. +\"'`*\\[]/\t\r\n\f\v"
_ESCAPED_ENDS = (b"\\n:", b"\\r:", b"\\t:")
_IN_NAME = bytes(97 if code in NAME_CHARACTERS else 32 for code in range(256))

_BETWEEN_WORDS = b"_-. "


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    How the names in a text are found, for the recognisers that may find something in it.

    Attributes:
        ends: What may follow a name.
        long_ends: Those of several bytes.
        names: Expressions that find names.
        table: Makes names lower-case, and a colon of each end.
        left_out: The separators and quotes that are left out of names.
    """

    ends: tuple[bytes, ...]
    long_ends: tuple[bytes, ...]
    names: tuple[re.Pattern[bytes], ...]
    table: bytes
    left_out: bytes

    @staticmethod
    def of(recognisers: Iterable[Recogniser]) -> _Plan:
        recognisers = tuple(recognisers)
        ends = tuple(dict.fromkeys(end for each in recognisers for end in each.name_ends))
        short = b"".join(end for end in ends if len(end) == 1)
        table = bytearray(_LOWER)
        for code in short:
            table[code] = ord(":")
        return _Plan(
            ends,
            tuple(end for end in ends if len(end) > 1),
            tuple(each.names for each in recognisers if each.names is not None),
            bytes(table),
            bytes(code for code in _LEFT_OUT if code not in short),
        )


# The recognisers with the same triggers have one bit, and each trigger stands beside its bit. Those with a companion
# are tried only if there is a field of that name.
_ALONE = [each for each in RECOGNISERS if not each.companion]
_BY_TRIGGERS = [
    tuple(each for each in _ALONE if each.triggers == triggers)
    for triggers in dict.fromkeys(each.triggers for each in _ALONE)
]
_TRIGGERS = [
    (trigger.literal, trigger, 1 << index)
    for index, recognisers in enumerate(_BY_TRIGGERS)
    for trigger in recognisers[0].triggers
]
# A value that ends with a literal may end in another part of a text.
_ENDED = sum(
    1 << index
    for index, recognisers in enumerate(_BY_TRIGGERS)
    if any(each.value_end for each in recognisers)
)
_BY_LITERAL = [
    (literal, [(trigger, bit) for each, trigger, bit in _TRIGGERS if each == literal])
    for literal in dict.fromkeys(literal for literal, _, _ in _TRIGGERS)
]
_COMPANIONS = {
    companion: [each for each in RECOGNISERS if each.companion == companion]
    for companion in dict.fromkeys(each.companion for each in RECOGNISERS if each.companion)
}
_ANY_COMPANION = b"alue"
_PLANS = [
    _Plan.of(
        each for index, recognisers in enumerate(_BY_TRIGGERS) if bits & 1 << index for each in recognisers
    )
    for bits in range(1 << len(_BY_TRIGGERS))
]
_PLANS_WITH = {companion: _Plan.of(recognisers) for companion, recognisers in _COMPANIONS.items()}
_SIGNS = _PLANS[1]
_APART = _Plan.of(each for each in RECOGNISERS if each.is_apart)


class Prefilter:
    """
    Tells whether a value can hold anything to redact, without decoding it.

    It looks at text and at encoded JSON, and behind their escapes, for what each recogniser needs: its trigger, and
    before or behind that the letters of a secret name. It sometimes says yes for nothing, and never says no if there is
    something.

    Args:
        names: Says which names are secret; its needles are letters of which every secret name has some, without case
            and separators. A colon at the end says that the name ends there.
        tokens: Whether tokens are looked for.
        literals: What the users' own patterns need, in lower case.
        personal: The sets of personal data that are looked for.
        always: Whether to say yes to everything, because some patterns have no literals.
        is_enabled: If false, it says yes to everything, and that a name may be anywhere.
        first_look: Says whether data can hold anything, in less time; None if nothing else does.
    """

    __slots__ = (
        "_always",
        "_any_name",
        "_apart",
        "_finders",
        "_first_look",
        "_harmless",
        "_literals",
        "_names",
        "_needles",
        "_pieces",
        "_sure",
        "_tokens",
        "is_enabled",
    )

    def __init__(
        self,
        *,
        names: KeyMatcher,
        tokens: bool,
        literals: Iterable[bytes],
        personal: Iterable[str],
        always: bool,
        is_enabled: bool = True,
        first_look: Callable[[bytes], bool] | None = None,
    ) -> None:
        needles = fewest(frozenset(key.encode() for key in names.needles | names.likely_needles))
        self._names = names if needles else None
        self._needles = Needles(needles)
        # Those of names whose values are secret even if they do not look random.
        self._sure = Needles(fewest(frozenset(key.encode() for key in names.needles)))
        # Short data with nothing in it: the names of steps come again and again.
        self._harmless: set[bytes] = set()
        self._pieces, self._apart = Memory(), Memory()
        self._first_look = first_look
        self._tokens = tokens
        self._literals = tuple(literals)
        self._finders = tuple(FINDERS[name] for name in personal)
        self._any_name = b"" in needles or not is_enabled  # a key is only asterisks
        self._always = always or self._any_name
        self.is_enabled = is_enabled

    def passes(self, data: bytes, *, comes_again: bool = True) -> bool:
        """
        Say whether `data` can hold anything to redact, in any encoding.

        Args:
            comes_again: Whether its beginning may come again, so that it is worth being remembered.
        """
        if self._always:
            return True
        size = len(data)
        if size <= _SHORT:
            return data not in self._harmless and self._passes_short(data)
        if size <= _PIECE or (size <= _WHOLE and not comes_again):
            return self._passes_piece(data)
        known = self._pieces
        may_have_companion = 0
        for at in range(0, size, _PIECE):
            piece = data[at : at + _PIECE + _OVERLAP]
            key = hash(piece)
            bits = known.get(key)
            if bits is None:
                bits = _PASSES if self._passes_piece(piece, is_part=True) else 0
                # Loosely: with the name, it is looked for as a name.
                bits |= _MAY_HAVE_COMPANION if piece.find(_ANY_COMPANION) >= 0 else 0
                known.put(key, bits)
            if bits & _PASSES:
                return True
            may_have_companion |= bits
        # A companion may be in another piece than the name.
        return bool(may_have_companion) and self._passes_apart(data)

    def _passes_apart(self, data: bytes) -> bool:
        """Say whether a companion may be anywhere in `data`, and a name with it."""
        found = 0
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE + _OVERLAP]
            key = hash(piece)
            bits = self._apart.get(key)
            if bits is None:
                every = (piece, *layers(piece))
                has_companion = any(
                    _has_companion(companion, *_names_before(layer, _SIGNS))
                    for layer in every
                    for companion in _PLANS_WITH
                )
                has_name = any(self._needles.are_in(*_names_before(layer, _APART)) for layer in every)
                bits = has_companion | has_name << 1
                self._apart.put(key, bits)
            found |= bits
            if found == 3:
                return True
        return False

    def _passes_short(self, data: bytes) -> bool:
        if self._passes_piece(data):
            return True
        if len(self._harmless) >= _MOST_HARMLESS:
            self._harmless.clear()
        self._harmless.add(data)
        return False

    def _passes_piece(self, data: bytes, *, is_part: bool = False) -> bool:
        if self._first_look is not None and not self._first_look(data):
            return False
        if self._passes_layer(data, is_part=is_part) or any(
            self._passes_layer(layer, is_part=is_part) for layer in layers(data)
        ):
            return True
        if is_odd(data):
            folded = fold(data)
            return folded is not None and (
                self._passes_layer(folded.data, is_part=is_part)
                or any(self._passes_layer(layer, is_part=is_part) for layer in layers(folded.data))
            )
        return False

    def _passes_layer(self, data: bytes, *, is_part: bool = False) -> bool:
        if (
            (self._tokens and may_have_token(data))
            or self.has_name(data, is_part=is_part)
            or self.has_form(data)
        ):
            return True
        if self._literals and has_any(data.lower(), self._literals):
            return True
        return bool(self._finders) and any(next(find(data), None) is not None for find in self._finders)

    def has_token(self, data: bytes) -> bool:
        """Say whether `data`, as it is, can hold a token, a private key or a password in a URL."""
        return not self.is_enabled or may_have_token(data)

    def has_form(self, data: bytes) -> bool:
        """Say whether `data`, as it is, can hold a secret in one of the forms of code, tools and documents."""
        return self._names is not None and (not self.is_enabled or may_have_form(data, self._names))

    def has_name(self, data: bytes, *, is_part: bool = False) -> bool:
        """
        Say whether `data`, as it is, can hold the name of a secret field, and a value.

        Args:
            is_part: Whether the end of its value may be in another part.
        """
        if self._any_name:
            return True
        bits = 0
        find = data.find
        for literal, triggers in _BY_LITERAL:
            at = find(literal)
            if at >= 0:
                for trigger, bit in triggers:
                    if not bits & bit and (trigger.is_in(data, at) or (is_part and bit & _ENDED)):
                        bits |= bit
        if not bits:
            return False
        plan = _PLANS[bits]
        if plan.names and self._has_secret(data, _found_names(data, plan.names)):
            return True
        if not plan.ends:
            return False
        names, is_inexact = _names_before(data, plan)
        if self._has_secret(data, names, is_inexact):
            return True
        for companion, recognisers in _PLANS_WITH.items():
            if _has_companion(companion, names, is_inexact) and self._has_secret(
                data, *_names_before(data, recognisers)
            ):
                return True
        return False

    def _has_secret(self, data: bytes, names: bytes, is_inexact: bool = False) -> bool:
        """Say whether one of the names in `data` is secret, with any value or with one that looks random."""
        return self._needles.are_in(names, is_inexact) and (
            next(random_places(data), None) is not None or self._sure.are_in(names, is_inexact)
        )

    def parts(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Return the parts of a text in which the name of a secret field may be, each from the beginning of a word."""
        if (
            len(data) <= _PART
            or not self.is_enabled
            or data.find(_DEEP) >= 0
            or _has_name_of(data, _VERY_LONG_NAME)
        ):
            yield 0, len(data)
            return
        begun: int | None = None
        for start in range(0, len(data), _PART):
            end = min(start + _PART, len(data))
            if self.has_name(data[max(0, start - _MARGIN) : end + _MARGIN]):
                if begun is None:
                    begun = _begin_of_word(data, max(0, start - _MARGIN))
            elif begun is not None:
                yield begun, min(start + _MARGIN, len(data))
                begun = None
        if begun is not None:
            yield begun, len(data)


def _found_names(data: bytes, expressions: Iterable[re.Pattern[bytes]]) -> bytes:
    """Return the names that `expressions` find, without case and separators, each with a colon behind it."""
    names = [
        group
        for expression in expressions
        for match in expression.finditer(data)
        for group in match.groups(b"")
    ]
    return b":".join([*names, b""]).translate(_LOWER, _LEFT_OUT)


def _has_companion(companion: bytes, names: bytes, is_inexact: bool) -> bool:
    """Say whether `companion` is among `names`."""
    at = names.find(companion)
    return at >= 0 and (is_inexact or names.find(companion + b":", at) >= 0)


def _names_before(data: bytes, plan: _Plan) -> tuple[bytes, bool]:
    """
    Return what stands before the ends of names, without case and separators, and with a colon behind it.

    The second value says whether more letters may stand between a name and its colon: those of escaped line ends.
    """
    names = _tails(data, plan.ends)
    if names is not None:
        return names, False
    names = data.translate(plan.table, plan.left_out)
    if plan.long_ends:
        replaced = data
        for end in plan.long_ends:
            replaced = replaced.replace(end, b":")
        names += b":" + replaced.translate(plan.table, plan.left_out + b",")
    if data.find(b"\\") < 0:
        return names, False
    if plan.long_ends:
        return names, True
    return names, has_any(data.translate(plan.table, plan.left_out.replace(b"\\", b"")), _ESCAPED_ENDS)


def _tails(data: bytes, ends: tuple[bytes, ...]) -> bytes | None:
    """
    Return what stands shortly before each of `ends`, without case and separators, and with a colon behind it.

    None if that would be nearly everything, or might lack the beginning or the end of a name.
    """
    names: set[bytes] = set()
    most = len(data) // _DENSE + 1
    for end in ends:
        parts = data.split(end)
        if len(parts) == 1:
            continue
        del parts[-1]
        most -= len(parts)
        if most < 0:
            return None
        # Mostly all names are in quotes, and the same again and again.
        quoted = {part[part.rfind(b'"', -_TAIL, -1) + 1 :] for part in parts}
        for name in quoted:
            if name[-1:] != b'"' or not name[:-1].translate(None, _BETWEEN_WORDS).isalnum():
                break
        else:
            names |= quoted
            continue
        for part in parts:
            tail = part[-_FAR:].rstrip(_AFTER_NAME)
            if len(tail) < _TAIL and len(part) > _FAR:
                return None
            names.add(tail[-_TAIL:])
    names.discard(b"")
    joined = b":".join([*names, b""])
    if (len(joined) >= _LONG_NAME and _has_name_of(joined, _LONG_NAME)) or (
        joined.find(b"\\") >= 0 and has_any(joined, _ESCAPED_ENDS)
    ):
        return None
    return joined.translate(_LOWER, _LEFT_OUT)


def _has_name_of(data: bytes, length: int) -> bool:
    """Say whether there is a word of that many bytes."""
    return data.translate(_IN_NAME).find(b"a" * length) >= 0


def _begin_of_word(data: bytes, at: int) -> int:
    window = data[max(0, at - _OVERLAP) : at]
    return at - (len(window) - len(window.rstrip(NAME_CHARACTERS)))
