"""Folding: a text without invisible characters, in plain letters, and the way back to places in the original."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from nat_observability.processors.redaction.text.runs import has_any
from nat_observability.processors.redaction.text.windows import LEAST_IN_PARTS, around

# Those that a text written in plain ASCII may have.
CONTROLS = tuple(bytes((code,)) for code in (0x00, 0x08, 0x0B, 0x0C, 0x7F, 0x01, 0x02, 0x1F))
# The bytes of all characters that are folded, and of some that are not.
ODD_BYTES = re.compile(
    rb"\xc2[\x80-\xa0\xad\xab\xbb]|\xcb\x90|\xcc[\x80-\xbf]|\xcd[\x80-\xaf]|\xe2\x88\xb6|\xea\x9e\x89|\xd8\x9c|\xe1(?:\x9a\x80|\xa0\x8e|\xa0[\x8b-\x8f])|\xe2(?:\x80|\x81"
    rb"|\x82[\x80-\x9f]|\x84|\x85|\x88\x92|\x91|\x92|\x93)"
    rb"|\xe3\x80\x80|\xe3\x85\xa4|\xef(?:[\xb8-\xbe]|\xac)|\xf0\x9d[\x90-\x9f]|\xf0\x9f[\x84\x85]|\xf3\xa0"
)
# Those that hide letters: invisible ones between letters, and letters in other shapes.
_HIDING = re.compile(
    rb"\xc2[\x80-\x84\x86-\x9f\xad]|\xcc[\x80-\xbf]|\xcd[\x80-\xaf]|\xd8\x9c|\xe1\xa0[\x8b-\x8f]|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xbf]"
    rb"|\xe2\x82[\x80-\x9f]|\xe2(?:\x84|\x85|\x91|\x92|\x93)|\xe3\x85\xa4"
    rb"|\xef(?:\xb8[\x80-\x8f]|\xb9[\x90-\xaf]|\xbb\xbf|\xac|\xbc[\x90-\x99\xa1-\xba\xbf]|\xbd[\x81-\x9a]|\xbd[\xa1-\xbf]|\xbe)"
    rb"|\xf0\x9d[\x90-\x9f]|\xf0\x9f[\x84\x85]|\xf3\xa0"
)
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\xa0\xab\xad\xbb\u061c\u1680\u180b-\u180f\u2000-\u206f"
    "\u2070-\u209f\u2100-\u215f\u2212\u2236\u02d0\ua789\u0300-\u036f"
    "\u2460-\u24ff\u3000\u3164\ufb00-\ufb06\ufe00-\ufe0f\ufe50-\ufe6f\ufeff\uff01-\uffef"
    "\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff\U000e0000-\U000e01ef]"
)
# Letters of other scripts that look like those of ASCII, and these.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u0501\u051b\u051d\u04bb\u043a\u0442\u0432\u043c\u0475"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408"
    "\u03bf\u03b1\u03b5\u03b9\u03ba\u03bd\u03c1\u03c4\u03c5\u03c7\u03c9\u03f2\u03f3"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxsijdqwhktbmvABEKMHOPCTYXSIJoaeikvptuxwcjABEZHIKMNOPTYX",
)
_LOOKING = "[" + "".join(map(chr, _LOOKALIKES)) + "]"
# In a word of one script they are what they are: only a word of both hides something.
_MIXED = re.compile(f"(?<=[A-Za-z]){_LOOKING}+|{_LOOKING}+(?=[A-Za-z])")
_LEADS = tuple(bytes((code,)) for code in range(0xCD, 0xD5))  # the first bytes of Greek and Cyrillic letters
_SCRIPTS = bytes(
    97
    if chr(code).isalpha() and code < 0x80
    else 99
    if 0xCD <= code <= 0xD4
    else 120
    if 0x80 <= code <= 0xBF
    else 32
    for code in range(256)
)
# What stands in French before a word that begins with a vowel, between the words of a name: clé d'API.
_ELIDED = r"(?:cl(?:\xe9|e\u0301?|ef)s?|codes?|jetons?|secrets?|phrase) (d(?:'|\u2019))(?=[a-z\xe0-\xff])"
_ELISION = re.compile(_ELIDED, re.IGNORECASE)
ELISIONS = (b" d'", b" D'", b" d\xe2\x80\x99", b" D\xe2\x80\x99")
_PLAIN = {
    **dict.fromkeys("\u2028\u2029\x85\x0b\x0c", "\n"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\xab\xbb\u2033", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
    **dict.fromkeys("\u2236\u02d0\ua789", ":"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
}


def is_odd(data: bytes) -> bool:
    """Say whether a text may have characters that `fold` changes."""
    return (
        (not data.isascii() and (ODD_BYTES.search(data) is not None or _is_mixed(data)))
        or has_any(data, CONTROLS)
        or _has_elision(data)
    )


def _has_elision(data: bytes) -> bool:
    return has_any(data, ELISIONS) and _ELISION.search(data.decode(errors="replace")) is not None


def _is_mixed(data: bytes) -> bool:
    """Say whether Greek or Cyrillic letters may stand beside those of ASCII."""
    if not has_any(data, _LEADS):
        return False
    classes = data.translate(_SCRIPTS)
    return classes.find(b"ac") >= 0 or classes.find(b"cxa") >= 0


def hides_letters(data: bytes) -> bool:
    """Say whether a text has characters that may hide the letters of a name, rather than signs and blanks."""
    if data.isascii():
        return is_odd(data)
    return (
        _HIDING.search(data) is not None or _is_mixed(data) or has_any(data, CONTROLS) or _has_elision(data)
    )


def folded_apart(name: str) -> str:
    """Return what folding leaves of a name whose accents are characters of their own, as some systems write them."""
    return _ODD.sub(_folded_character, unicodedata.normalize("NFD", name))


def folded_names(name: str) -> Sequence[str]:
    """
    Return a name as it can be read: without invisible characters, and then also in plain letters.

    Where letters of two scripts meet, a word in one of them may stand beside one in the other.
    """
    for elision in _ELISION.findall(name):
        name = name.replace(f" {elision}", " ")
    if name.isascii() and name.isprintable():
        return (name,)
    seen = _ODD.sub(_folded_character, name)
    plain = _MIXED.sub(_plain_letters, seen)
    return (seen,) if plain == seen else (seen, plain)


def _plain_letters(match: re.Match[str]) -> str:
    return match[0].translate(_LOOKALIKES)


class _Table(dict[int, str | int]):
    """What each character looks like, for `str.translate`."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        looks = _looks_like(character) if _ODD.match(character) is not None else code
        if len(self) < _MOST_CHARACTERS:
            self[code] = looks
        return looks


_MOST_CHARACTERS = 16 * 1024
_TABLE = _Table()


def _folded_character(match: re.Match[str]) -> str:
    return _looks_like(match[0])


def _looks_like(character: str) -> str:
    plain = _PLAIN.get(character)
    if plain is not None:
        return plain
    kind = unicodedata.category(character)
    if kind in ("Cf", "Cc", "Mn") or character == "\u3164":
        return ""
    return " " if kind == "Zs" else unicodedata.normalize("NFKC", character)


def _changes(text: str) -> Iterable[tuple[int, int, str]]:
    """Return the characters that look like others, or like nothing, in order: begin, end, and what they look like."""
    elisions = [match.span(1) for match in _ELISION.finditer(text)]
    elided = frozenset(at for span in elisions for at in range(*span))
    found = [
        (*match.span(), _folded_character(match))
        for match in _ODD.finditer(text)
        if match.start() not in elided
    ]
    found = sorted((*found, *((*span, "") for span in elisions))) if elisions else found
    if has_any(text.encode(errors="replace"), _LEADS):
        odd = frozenset(start for start, _, _ in found)
        # Without what is invisible between them, so that nothing hides that they are in one word.
        seen = [at for at in range(len(text)) if at not in odd] if odd else range(len(text))
        for match in _MIXED.finditer("".join([text[at] for at in seen]) if odd else text):
            for place in range(*match.span()):
                at = seen[place]
                found.append((at, at + 1, text[at].translate(_LOOKALIKES)))
        found.sort()
    return found


class _Pieces(NamedTuple):
    """Where each piece of a text begins, in the folded text and in the original: what is unchanged and what is not."""

    at: list[int]
    original: list[int]

    @staticmethod
    def of(text: str, changes: Iterable[tuple[int, int, str]], here: int = 0, there: int = 0) -> _Pieces:
        """Return the pieces of a text that begins at these places."""
        at: list[int] = []
        original: list[int] = []
        reached = 0
        for start, end, plain in changes:
            unchanged = len(text[reached:start].encode())
            at += (here, here + unchanged)
            original += (there, there + unchanged)
            here += unchanged + len(plain.encode())
            there += unchanged + len(text[start:end].encode())
            reached = end
        rest = len(text[reached:].encode())
        at += (here, here + rest)
        original += (there, there + rest)
        return _Pieces(at, original)


class Folded:
    """
    A text as it looks, in UTF-8.

    Where its parts were in the original is only found out for those that are asked for, in blocks.

    Args:
        data: The original.
    """

    __slots__ = ("_begins", "_blocks", "_pieces", "_text", "data")

    def __init__(self, data: bytes) -> None:
        text = self._text = data.decode(errors="replace")
        self._pieces: dict[int, _Pieces] = {}
        if has_any(data, _LEADS) or _has_elision(data):
            # What a letter looks like depends on those beside it.
            changes = list(_changes(text))
            parts: list[str] = []
            reached = 0
            for start, end, plain in changes:
                parts += (text[reached:start], plain)
                reached = end
            self.data = "".join((*parts, text[reached:])).encode()
            self._blocks: Sequence[str] = (text,)
            self._begins: list[tuple[int, int]] = [(0, 0)]
            self._pieces[0] = _Pieces.of(text, changes)
        else:
            self._blocks = [text[at : at + _BLOCK] for at in range(0, len(text), _BLOCK)]
            folded = [block.translate(_TABLE).encode() for block in self._blocks]
            self.data = b"".join(folded)
            lengths = zip(
                accumulate(map(len, folded), initial=0),
                accumulate((len(block.encode()) for block in self._blocks), initial=0),
                strict=True,
            )
            self._begins = list(lengths)[:-1]

    def parts_around_changes(self) -> Sequence[bytes]:
        """Return the parts of the folded text around what differs from the original: all of it if that is most."""
        if len(self.data) <= LEAST_IN_PARTS or len(_ODD.findall(self._text)) * _SPARSE > len(self._text):
            return [self.data]
        return around(
            self.data,
            (at for block in range(len(self._blocks)) for at in self._pieces_of(block).at[1:-1:2]),
        )

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the places in the original of a part of the folded text."""
        pieces = self._pieces_at(start)
        first = bisect_right(pieces.at, start) - 1
        begin = pieces.original[first] + start - pieces.at[first]
        pieces = self._pieces_at(end - 1)
        last = bisect_right(pieces.at, end - 1) - 1
        stop = pieces.original[last] + end - pieces.at[last]
        if last + 1 < len(pieces.at) and pieces.at[last + 1] == end:
            # All of an original character, however long.
            stop = max(stop, min(pieces.original[last + 1], stop + 4))
        return begin, stop

    def _pieces_at(self, place: int) -> _Pieces:
        return self._pieces_of(max(0, bisect_right(self._begins, place, key=_here) - 1))

    def _pieces_of(self, block: int) -> _Pieces:
        pieces = self._pieces.get(block)
        if pieces is None:
            text = self._blocks[block]
            pieces = self._pieces[block] = _Pieces.of(text, _changes(text), *self._begins[block])
        return pieces


_BLOCK = 4096  # characters
_SPARSE = 64  # characters for each that differs


def _here(begin: tuple[int, int]) -> int:
    return begin[0]


def fold(data: bytes) -> Folded | None:
    """Return how a text looks, None if that is how it is."""
    if not is_odd(data):
        return None
    folded = Folded(data)
    return None if folded.data == data else folded
