"""Hints: whether a value can hold anything to redact, told quickly and without decoding it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nat_observability.processors.encodings import unescaped, unquoted
from nat_observability.processors.personal import FINDERS
from nat_observability.processors.tokens import Runs

_PIECE = 256 * 1024  # bytes: the interpreter can do nothing else while it looks through a piece
_OVERLAP = 4 * 1024
MOST_LAYERS = 4  # of escapes in escapes
_TAIL = 64  # bytes before what assigns, in which the name is
_PLAIN = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ=", b"abcdefghijklmnopqrstuvwxyz:")
_LEFT_OUT = b"-_. \t\r\n\"'`\\]"
_PAIRS = (b'["', b"['", b'[\\"', b'("', b"('", b"(b'", b'(b"', b"[b'")
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

    __slots__ = ("_always", "_common", "_finders", "_literals", "_rare", "_tokens")

    def __init__(
        self,
        *,
        keys: Iterable[str],
        tokens: bool,
        literals: Iterable[bytes],
        personal: Iterable[str],
        always: bool,
    ) -> None:
        needles = _shortest(key.encode() for key in keys)
        # Most names of secrets have the word key in them, and most values do not.
        self._common = tuple(needle for needle in needles if _COMMON in needle)
        self._rare = tuple(needle for needle in needles if _COMMON not in needle)
        self._tokens = tokens
        self._literals = tuple(literals)
        self._finders = tuple(FINDERS[name] for name in personal)
        self._always = always or b"" in needles

    def in_any(self, data: bytes) -> bool:
        """Say whether `data` can hold anything to redact, in any encoding."""
        if self._always:
            return True
        if len(data) <= _PIECE:
            return self._in_piece(data)
        step = _PIECE - _OVERLAP
        return any(self._in_piece(data[at : at + _PIECE]) for at in range(0, len(data), step))

    def in_text(self, data: bytes) -> bool:
        """Say whether `data`, as it is, can hold anything to redact."""
        return (
            self._always
            or (self._tokens and self.has_token(data))
            or self.has_name(data)
            or (bool(self._literals) and self._has_literal(data))
            or any(next(find(data), None) is not None for find in self._finders)
        )

    def _in_piece(self, data: bytes) -> bool:
        return self.in_text(data) or any(self.in_text(layer) for layer in layers(data))

    def has_token(self, data: bytes) -> bool:
        """Say whether `data` can hold a token, a private key or a password in a URL."""
        runs = Runs.of(data)
        if runs is not None and (runs.may_be_secret or b"PRIVATE KEY" in data):
            return True
        return b"@" in data and (b"://" in data or b":\\/\\/" in data)

    def has_name(self, data: bytes) -> bool:
        """Say whether `data` can hold the name of a secret field, and something after it."""
        if (data.count(b":") + data.count(b"=")) * _TAIL > len(data):
            before = [data]
        else:
            before = _tails(data, b":")
            before += _tails(data, b"=")
        if (b"[" in data or b"(" in data) and any(pair in data for pair in _PAIRS):
            before += _tails(data, b'",')
            before += _tails(data, b"',")
        if b"<" in data and b"</" in data:
            before += _tails(data, b">")
        names = b":".join((*before, b"")).translate(_PLAIN, _LEFT_OUT)
        if self._among(names):
            return True
        # Names that are not before what assigns: --password x, {"name": "password", "value": "x"}.
        apart = [part[:_TAIL] for part in data.split(b"--")[1:]] if b"--" in data else []
        if b"value:" in names:
            apart.append(data)
        if not apart:
            return False
        names = b" ".join(apart).translate(_PLAIN, _LEFT_OUT)
        return any(needle.rstrip(b":") in names for needle in (*self._rare, *self._common))

    def _among(self, names: bytes) -> bool:
        return any(needle in names for needle in self._rare) or (
            _COMMON in names and any(needle in names for needle in self._common)
        )

    def _has_literal(self, data: bytes) -> bool:
        lower = data.lower()
        return any(literal in lower for literal in self._literals)


def layers(data: bytes) -> Iterator[bytes]:
    """Return what is behind the escapes of `data`, and what is behind the escapes of that, and so on."""
    for _ in range(MOST_LAYERS):
        inner = unquoted(unescaped(data))
        if inner == data:
            return
        data = inner
        yield data


def _tails(data: bytes, separator: bytes) -> list[bytes]:
    parts = data.split(separator)
    parts.pop()
    return [part[-_TAIL:] for part in parts]


def _shortest(needles: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return `needles` without those that have another one in them."""
    kept: list[bytes] = []
    for needle in sorted(set(needles), key=len):
        if not any(each in needle for each in kept):
            kept.append(needle)
    return tuple(kept)
