"""Hints: whether a value can hold anything to redact, told quickly and without decoding it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nat_observability.processors.encodings import decoded
from nat_observability.processors.personal import FINDERS
from nat_observability.processors.tokens import Runs, has_any

_PIECE = 256 * 1024  # bytes: the interpreter can do nothing else while it looks through a piece
_OVERLAP = 4 * 1024
MOST_LAYERS = 8  # of escapes in escapes
_TAIL = 64  # bytes before what assigns, in which the name is
_MARGIN = 512  # bytes: the same, with the backslashes behind it
_PLAIN = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ=", b"abcdefghijklmnopqrstuvwxyz:")
_LEFT_OUT = b"-_. +\t\r\n\"'`*\\]"
# The same, with what ends texts for what ends names.
_TEXTS = bytes.maketrans(b'ABCDEFGHIJKLMNOPQRSTUVWXYZ="', b"abcdefghijklmnopqrstuvwxyz::")
_LEFT_OUT_OF_TEXTS = _LEFT_OUT.replace(b'"', b"")
_QUOTES = frozenset((b'"', b"'", b"\\", b"b", b" ", b"\n", b"\r", b"\t"))
_MANY = 64
_FEW_BYTES = 48
_VALUE = b"value:"
_BETWEEN_ITEMS = frozenset((b" -", b"+-"))
_ESCAPED = re.compile(rb"\\(?:u00|x1b\[|/)").search
_DEEP = b"\\" * 24
_PART = 2048  # bytes
_IN_NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(range(0x80, 0x100))
_LONG_WORD = 6
_STEM = 5  # letters that two names have to have in common to be looked for as one
_COMMON = b"key"


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
    """

    __slots__ = ("_always", "_any_name", "_common", "_finders", "_literals", "_rare", "_search", "_tokens")

    def __init__(
        self,
        *,
        keys: Iterable[str],
        tokens: bool,
        literals: Iterable[bytes],
        personal: Iterable[str],
        always: bool,
    ) -> None:
        needles = _fewest(key.encode() for key in keys)
        # Most names of secrets have the word key in them, and most values do not.
        self._common = tuple(needle for needle in needles if _COMMON in needle)
        self._rare = tuple(needle for needle in needles if _COMMON not in needle)
        self._search = re.compile(b"|".join(map(re.escape, needles)) or b"(?!)").search
        self._tokens = tokens
        self._literals = tuple(literals)
        self._finders = tuple(FINDERS[name] for name in personal)
        self._any_name = b"" in needles  # there is a key of asterisks alone
        self._always = always or self._any_name

    def in_any(self, data: bytes) -> bool:
        """Say whether `data` can hold anything to redact, in any encoding."""
        if self._always:
            return True
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

    def _in_piece(self, data: bytes) -> bool:
        if self.in_text(data):
            return True
        return any(self.in_text(layer) for layer in layers(data))

    def has_token(self, data: bytes) -> bool:
        """Say whether `data` can hold a token, a private key or a password in a URL."""
        runs = Runs.of(data)
        if runs is not None and (runs.may_be_secret or data.find(b"-----BEGIN") >= 0):
            return True
        return data.find(b"@") >= 0 and data.find(b"//") >= 0

    def has_name(self, data: bytes) -> bool:
        """Say whether `data` can hold the name of a secret field, and something after it."""
        if self._any_name:
            return True
        backslash = data.find(b"\\")
        if backslash >= 0 and data.find(_DEEP, backslash) >= 0:
            data = data.translate(None, b"\\")
        before = data.split(b":")
        dense = len(before) * _TAIL > len(data)
        before = [data] if dense else _tails(before)
        find = data.find
        if not dense and find(b"=") >= 0:
            before += _tails(data.split(b"="))
        if _has_pairs(data):
            before += _tails(data.split(b'",'))
            before += _tails(data.split(b"',"))
        flags, items = _hyphens(data)
        if items:
            # [["password", "x"]] in YAML.
            before += _tails(data.replace(b"\\n", b"\n").split(b"\n"))
        if find(b"<") >= 0 and (find(b"</") >= 0 or find(b"[cut:") >= 0):
            before += _tails(data.split(b">"))
        names = b""
        if before:
            names = _plain_names(before)
            if self._has_words(names):
                return True
            if names.find(_VALUE) >= 0:
                # {"name": "password", "value": "x"}
                plain = data.replace(b"\\n", b"") if find(b"\\n") >= 0 else data
                pairs = _tails(plain.translate(_PLAIN, _LEFT_OUT).split(_VALUE))
                if self._has_words(_plain_names([each.rstrip(b",") for each in pairs])):
                    return True
                # {"value": "x", "name": "password"}
                if self._ends_text(data):
                    return True
        return flags and self._has_words(
            # --password x
            _plain_names([_first_word(part[:_TAIL]) for part in data.split(b"--")[1:]])
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
        if len(data) <= _PART:
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


def _plain_names(parts: list[bytes]) -> bytes:
    """Return what stands before something, without case and separators, each with a colon at its end."""
    parts.append(b"")
    return b":".join(parts).translate(_PLAIN, _LEFT_OUT)


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
            if data[at + 1 : at + 2] in _QUOTES:
                return True
            at = data.find(bracket, at + 1)
        else:
            return True
    return False


def _first_word(part: bytes) -> bytes:
    words = part.replace(b"\\n", b" ").replace(b"+", b" ").split(None, 1)
    return words[0] if words else b""


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
