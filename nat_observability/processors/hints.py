"""Hints: whether a value can hold anything to redact, told quickly and without decoding it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nat_observability.processors.encodings import decoded
from nat_observability.processors.personal import FINDERS
from nat_observability.processors.tokens import Runs, has_any

_PIECE = 256 * 1024  # bytes: the interpreter can do nothing else while it looks through a piece
_OVERLAP = 4 * 1024
_SHORT, _REMEMBERED = 64, 512  # bytes of data that is remembered, and how many of them
MOST_LAYERS = 8  # of escapes in escapes
# Bytes in which a name is that ends where they do: with those of the words before it, which belong to it.
_TAIL = 112
_LONG_NAME = 48
_FAR = _TAIL + 128  # bytes: the same, with separators behind the name, unless they are escapes
_DENSE = 96  # bytes: where what assigns is as near as that, a look at everything takes no longer
_END_OF_NAME = b" \t\r\n\f\v+\"'`*_\\],"
_MARGIN = 512  # bytes: name and separators are in no more than twice that, unless the name is very long
_VERY_LONG_NAME = 256
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ=", b"abcdefghijklmnopqrstuvwxyz:")
_LEFT_OUT = b"-_. +\"'`*\\[]/"
_LINE_ENDS = b"\t\r\n\f\v"
# The same, with what ends texts for what ends names.
_TEXTS = bytes.maketrans(b'ABCDEFGHIJKLMNOPQRSTUVWXYZ="', b"abcdefghijklmnopqrstuvwxyz::")
_LEFT_OUT_OF_TEXTS = _LEFT_OUT.replace(b'"', b"") + _LINE_ENDS
_QUOTES = frozenset((b'"', b"'", b"\\", b" ", b"+", b"\n", b"\r", b"\t"))
_PREFIXED = re.compile(rb"""[bBrRuUfF]{1,2}["'\\]""")
_ESCAPES = (b"\\n:", b"\\r:", b"\\t:")
_FLAG = re.compile(rb"""["']--([^"']{1,256}+)["']|--([A-Za-z][\w.-]*+)""")
_MANY = 64
_FEW_BYTES = 48
_BETWEEN_ITEMS = frozenset((b" -", b"+-"))
_ESCAPED = re.compile(rb"\\(?:u00|x1b\[|/)").search
_DEEP = b"\\" * 8
_PART = 2048  # bytes
_IN_NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(range(0x80, 0x100))
_LONG_WORD = 6
_STEM = 5  # letters that two names have to have in common to be looked for as one
_COMMON = b"key"
_IN_NAME = bytes(97 if code in _IN_NAMES else 32 for code in range(256))


def _tables() -> dict[tuple[bool, bool, bool], tuple[bytes, bytes, tuple[bytes, ...]]]:
    """Return how a text becomes names, each with a colon at its end, by which signs assign besides `:` and `=`."""
    tables = {}
    for pairs in (False, True):
        for items in (False, True):
            for tags in (False, True):
                ends = b"," * pairs + _LINE_ENDS * items + b">" * tags
                table = bytearray(_LOWER)
                for code in ends:
                    table[code] = ord(":")
                tables[pairs, items, tags] = (
                    bytes(table),
                    _LEFT_OUT if items else _LEFT_OUT + _LINE_ENDS,
                    tuple(bytes((code,)) for code in b":=" + ends),
                )
    return tables


_TABLES = _tables()
_PLAIN_TABLE = _TABLES[False, False, False]


class Hints:
    """
    Looks for what every secret has: the letters of its name, or those that it begins with, or its form.

    It works on text and on JSON as it is encoded, and looks behind its escapes where there are any. It says yes
    without need now and then, and no only where there is nothing.

    Args:
        keys: Letters of which the names of secret fields have some, without case and separators; a colon at the end
            says that the name ends there.
        tokens: Whether tokens are looked for.
        literals: What the users' own patterns need, in lower case.
        personal: The sets of personal data that are looked for.
        always: Say yes to everything: there are patterns without literals.
        disabled: Say yes to everything, and that a name may be anywhere.
    """

    __slots__ = (
        "_always",
        "_any_name",
        "_common",
        "_disabled",
        "_finders",
        "_harmless",
        "_literals",
        "_rare",
        "_search",
        "_stems",
        "_tokens",
    )

    def __init__(
        self,
        *,
        keys: Iterable[str],
        tokens: bool,
        literals: Iterable[bytes],
        personal: Iterable[str],
        always: bool,
        disabled: bool = False,
    ) -> None:
        needles = _fewest(key.encode() for key in keys)
        # Most names of secrets have the word key in them, and most values do not.
        self._common = tuple(needle for needle in needles if _COMMON in needle)
        self._rare = tuple(needle for needle in needles if _COMMON not in needle)
        self._search = re.compile(b"|".join(map(re.escape, needles)) or b"(?!)").search
        self._stems = tuple(needle.rstrip(b":") for needle in needles)
        self._tokens = tokens
        self._literals = tuple(literals)
        self._finders = tuple(FINDERS[name] for name in personal)
        self._any_name = b"" in needles  # there is a key of asterisks alone
        self._always = always or disabled or self._any_name
        self._disabled = disabled
        self._harmless: set[bytes] = (
            set()
        )  # short data without anything: the names of steps come again and again

    def in_any(self, data: bytes) -> bool:
        """Say whether `data` can hold anything to redact, in any encoding."""
        if self._always:
            return True
        if len(data) <= _SHORT:
            return data not in self._harmless and self._in_short(data)
        if len(data) <= _PIECE:
            return self._in_piece(data)
        pieces = [(at, at + _PIECE) for at in range(0, len(data), _PIECE - _OVERLAP)]
        if any(self._in_piece(data[start:end]) for start, end in pieces):
            return True
        # Of {"value": "x", "name": "password"} the one may be in another piece than the other.
        return any(_has_value(data[start:end]) for start, end in pieces) and any(
            self._ends_text(layer)
            for start, end in pieces
            for layer in (data[start:end], *layers(data[start:end]))
        )

    def in_text(self, data: bytes) -> bool:
        """Say whether `data`, as it is, can hold anything to redact."""
        if self._always or (self._tokens and self.has_token(data)) or self.has_name(data):
            return True
        if self._literals and has_any(data.lower(), self._literals):
            return True
        return bool(self._finders) and any(next(find(data), None) is not None for find in self._finders)

    def _in_short(self, data: bytes) -> bool:
        if self._in_piece(data):
            return True
        if len(self._harmless) >= _REMEMBERED:
            self._harmless.clear()
        self._harmless.add(data)
        return False

    def _in_piece(self, data: bytes) -> bool:
        if self.in_text(data):
            return True
        return any(self.in_text(layer) for layer in layers(data))

    def has_token(self, data: bytes) -> bool:
        """Say whether `data` can hold a token, a private key or a password in a URL."""
        if self._disabled:
            return True
        if data.find(b"-----BEGIN") >= 0 or (data.find(b"@") >= 0 and data.find(b"//") >= 0):
            return True
        runs = Runs.of(data)
        return runs is not None and runs.may_be_secret

    def has_name(self, data: bytes) -> bool:
        """Say whether `data` can hold the name of a secret field, and something after it."""
        if self._any_name or self._disabled:
            return True
        find = data.find
        pairs = _has_pairs(data)
        flags, items = _hyphens(data)
        tags = find(b"<") >= 0 and (find(b"</") >= 0 or find(b"[cut:") >= 0)
        if flags and self._has_words(_names([one or other for one, other in _FLAG.findall(data)])):
            return True
        if not (pairs or items or tags or find(b":") >= 0 or find(b"=") >= 0):
            return False
        escapes = find(b"\\") >= 0
        if items and escapes:
            data += b"\n" + data.replace(b"\\n", b"\n").replace(b"\\r", b"\n")
        table, left_out, ends = _TABLES[pairs, items, tags] if pairs or items or tags else _PLAIN_TABLE
        names = None if escapes and find(_DEEP) >= 0 else _before(data, ends)
        if names is not None:
            if self._has_words(names):
                return True
        else:
            plain = data.translate(table, left_out)
            if self._has_words(plain):
                return True
            if escapes:
                kept = data.translate(table, left_out.replace(b"\\", b""))
                if has_any(kept, _ESCAPES) and has_any(plain, self._stems):
                    return True
        if find(b"alue") < 0:
            return False
        plain = data.translate(table, left_out)
        value = b"value" if escapes else b"value:"
        if plain.find(value) < 0:
            return False
        # {"name": "password", "value": "x"}
        before = _tails(plain.split(value))
        if escapes and has_any(b":".join(before), self._stems):
            return True
        # {"value": "x", "name": "password"}
        return self._has_words(b":".join([each.rstrip(b",:") for each in before] + [b""])) or self._ends_text(
            data
        )

    def _ends_text(self, data: bytes) -> bool:
        """Say whether a text in quotes can end with the name of a secret field."""
        return self._has_words(data.translate(_TEXTS, _LEFT_OUT_OF_TEXTS))

    def _has_words(self, names: bytes) -> bool:
        if len(names) <= _FEW_BYTES:
            return self._search(names) is not None  # takes less than one call for each
        return has_any(names, self._rare) or (names.find(_COMMON) >= 0 and has_any(names, self._common))

    def with_names(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Return the parts of a text in which there may be a name of a secret field, from where a word begins."""
        if (
            len(data) <= _PART
            or self._disabled
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


def _has_value(data: bytes) -> bool:
    """Say whether a name can end with the word value."""
    return any(layer.find(b"alue") >= 0 for layer in (data, *layers(data)))


def _names(names: list[bytes]) -> bytes:
    """Return names without case and separators, each with a colon at its end."""
    return b":".join([*names, b""]).translate(_LOWER, _LEFT_OUT)


def _before(data: bytes, ends: tuple[bytes, ...]) -> bytes | None:
    """
    Return what stands before each of `ends`, without case and separators, and with a colon behind it.

    None if that would be nearly everything, or is not all of some names.
    """
    find = data.find
    names: set[bytes] = set()
    most = len(data) // _DENSE + 1
    for end in ends:
        if find(end) < 0:
            continue
        parts = data.split(end)
        del parts[-1]
        most -= len(parts)
        if most < 0:
            return None
        for part in parts:
            if part[-1:] == b'"':
                # Most are in quotes, and the same again and again.
                name = part[part.rfind(b'"', -_TAIL, -1) + 1 : -1]
                if name.isalnum():
                    names.add(name)
                    continue
            names.add(part[-_FAR:].rstrip(_END_OF_NAME)[-_TAIL:])
    joined = b":".join([*names, b""])
    if (len(joined) >= _LONG_NAME and _has_name_of(joined, _LONG_NAME)) or (
        joined.find(b"\\") >= 0 and has_any(joined, _ESCAPES)
    ):
        return None
    return joined.translate(_LOWER, _LEFT_OUT + _LINE_ENDS)


def _has_name_of(data: bytes, length: int) -> bool:
    """Say whether there is a word of that many bytes."""
    return data.translate(_IN_NAME).find(b"a" * length) >= 0


def _hyphens(data: bytes) -> tuple[bool, bool]:
    """Say whether there are flags, and items of a list in a list as YAML has them: --password x, - - password."""
    flags = items = False
    at = data.find(b"-")
    for _ in range(_MANY):
        if at < 0:
            return flags, items
        after = data[at + 1 : at + 3]
        if after in _BETWEEN_ITEMS:
            items = True
        elif after[:1] == b"-":
            flags = True
        at = data.find(b"-", at + 1)
    if at < 0:
        return flags, items
    return (
        flags or data.find(b"--", at) >= 0,
        items or data.find(b"- -", at) >= 0 or data.find(b"-+-", at) >= 0,
    )


def _has_pairs(data: bytes) -> bool:
    """Say whether there is a list that begins with a text: ["name", "value"], (b'name', b'value')."""
    for bracket in (b"[", b"("):
        at = data.find(bracket)
        for _ in range(_MANY):
            if at < 0:
                break
            if data[at + 1 : at + 2] in _QUOTES or _PREFIXED.match(data, at + 1) is not None:
                return True
            at = data.find(bracket, at + 1)
        else:
            return True
    return False


def _begin_of_word(data: bytes, at: int) -> int:
    window = data[max(0, at - _OVERLAP) : at]
    return at - (len(window) - len(window.rstrip(_IN_NAMES)))


def layers(data: bytes) -> Sequence[bytes]:
    """Return what is behind the escapes of `data`, and what is behind the escapes of that, and so on."""
    # Those of ASCII: behind others there is nothing, and what follows them is seen without looking behind them.
    find = data.find
    if find(b"%") < 0 and find(b"\x1b") < 0 and (find(b"\\") < 0 or _ESCAPED(data) is None):
        return ()
    found: list[bytes] = []
    for _ in range(MOST_LAYERS):
        inner = decoded(data)
        if inner is data or inner == data:
            break
        found.append(inner)
        data = inner
    return found


def _tails(parts: list[bytes]) -> list[bytes]:
    del parts[-1]
    return [part[-_TAIL:] for part in parts]


def _fewest(needles: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return as few needles as are in everything that has one of `needles`, or more."""
    given = sorted({*needles}, key=len)
    # First those that end where the name does: the end of a long one may be all of a short one.
    ends = [each for each in given if not any(each is not other and each.endswith(other) for other in given)]
    kept: list[bytes] = []
    for end in ends:
        # A long word without its colon, so that it can stand for others that begin with it.
        needle = end.rstrip(b":") if len(end) > _LONG_WORD else end
        if any(each in needle for each in kept):
            continue
        for index, each in enumerate(kept):
            start = _common_start(each, needle)
            if len(start) >= _STEM:
                kept[index] = start
                break
        else:
            kept.append(needle)
    return tuple(kept)


def _common_start(first: bytes, second: bytes) -> bytes:
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((at for at, (one, other) in pairs if one != other), None)]
