"""Token: a kind of secret with a form of its own, as a row of the tables of providers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Each alphabet, as a class of characters and as letters for examples.
_ALPHABETS = {
    "hex": ("[0-9a-f]", "7a3f9c1e5b8d2064"),
    "Hex": ("[0-9a-fA-F]", "7a3F9c1E5b8D2064"),
    "b36": ("[a-z0-9]", "k7x2m9q4w8r3t6z1"),
    "B36": ("[A-Z0-9]", "K7X2M9Q4W8R3T6Z1"),
    "B32": ("[A-Z2-7]", "K7X2M3Q4W5R3T6Z2"),
    "b62": ("[A-Za-z0-9]", "k7Xm2Q9wR4tZ8bN3"),
    "w": (r"\w", "k7Xm2Q9wR4tZ8bN3"),
    "url": (r"[\w-]", "k7Xm2Q9wR4tZ8bN3"),
    "dot": (r"[\w.=-]", "k7Xm2Q9wR4tZ8bN3"),
    "b64": ("[A-Za-z0-9+/=]", "k7Xm2Q9wR4tZ8bN3"),
    "raw": ("[A-Za-z0-9+/]", "k7Xm2Q9wR4tZ8bN3"),
    "any": ("[A-Za-z0-9+/=_.-]", "k7Xm2Q9wR4tZ8bN3"),
    "path": (r"[\w./@+-]", "k7Xm2Q9wR4tZ8bN3"),
    "10": ("[0-9]", "7329104856"),
}
_PART = re.compile(r"(\w+):(=?)(\d+)")


@dataclass(frozen=True, slots=True)
class Token:
    """
    A kind of token that begins with fixed letters.

    Checksums are not compared: a token with a letter cut off is nearly as secret. The prefilter is derived from
    `begins` and `is_word`.

    Attributes:
        name: The label of its mark.
        maker: Who issues it.
        begins: The letters, several separated by blanks.
        rest: What follows them: parts separated by blanks, each `alphabet:least` for at least so many characters,
            `alphabet:=number` for exactly so many, or letters as they are.
        sources: Where the form is described: `m` the maker's documentation, `g` gitleaks, `t` trufflehog,
            `d` detect-secrets.
        is_word: Whether the letters up to a separator make a whole word; if not, they are searched for anywhere.
        is_checked: Whether the letters are so common that the prefilter tries the whole expression.
        before: What must stand before it, besides the beginning of a word.
        tail: What may follow the rest, as a regular expression.
    """

    name: str
    maker: str
    begins: str
    rest: str
    sources: str = "m"
    is_word: bool = True
    is_checked: bool = False
    before: str = ""
    tail: str = ""

    @property
    def expression(self) -> str:
        """The regular expression of what follows the letters."""
        return expression_of(self.rest) + self.tail

    @property
    def parts(self) -> Sequence[tuple[str, int | None, bool]]:
        """Each part of what follows the letters: its expression, the least number of them, and whether it is exact."""
        return tuple(_part(part) for part in self.rest.split())

    @property
    def example(self) -> str:
        """A made-up token of the shortest length."""
        return self.begins.split()[0] + example_of(self.rest)


@dataclass(frozen=True, slots=True)
class Around:
    """
    A kind of token that has fixed letters inside.

    Attributes:
        name: The label of its mark.
        maker: Who issues it.
        letters: The letters.
        before: What stands before them, as `Token.rest`.
        after: What stands after them.
        sources: As in `Token`.
    """

    name: str
    maker: str
    letters: str
    before: str
    after: str
    sources: str = "m"

    @property
    def example(self) -> str:
        """A made-up token of the shortest length."""
        return example_of(self.before) + self.letters + example_of(self.after)


def expression_of(rest: str) -> str:
    """Return the regular expression of parts such as `hex:32 . b62:=8`."""
    pieces = []
    for characters, least, is_exact in map(_part, rest.split()):
        if least is None:
            pieces.append(characters)
        else:
            pieces.append(
                f"{characters}{{{least}}}(?!{characters})" if is_exact else f"{characters}{{{least},}}"
            )
    return "".join(pieces)


def _part(part: str) -> tuple[str, int | None, bool]:
    match = _PART.fullmatch(part)
    if match is None:
        return re.escape(part), None, True
    return _ALPHABETS[match[1]][0], int(match[3]), bool(match[2])


def example_of(rest: str) -> str:
    """Return characters that the parts describe, of the shortest length."""
    pieces = []
    for part in rest.split():
        match = _PART.fullmatch(part)
        letters = part if match is None else _ALPHABETS[match[1]][1]
        count = len(part) if match is None else int(match[3])
        pieces.append((letters * (count // len(letters) + 1))[:count])
    return "".join(pieces)


class TokenStart:
    """
    One way in which tokens of a kind begin, whose expressions are compiled when it first occurs: most never do.

    Args:
        order: In which kinds are tried.
        letters: With which the token begins.
        token: Its kind.
    """

    __slots__ = ("_compiled", "_in_run", "_token", "letters", "name", "order")

    def __init__(self, order: int, letters: bytes, token: Token) -> None:
        self.order, self.letters, self.name, self._token = order, letters, token.name, token
        self._compiled: tuple[re.Pattern[bytes], re.Pattern[bytes]] | None = None
        self._in_run: re.Pattern[bytes] | None = None

    def expressions(self) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Return what follows the letters, and what may be before them."""
        if self._compiled is None:
            token = self._token
            self._compiled = re.compile(token.expression.encode()), re.compile(token.before.encode())
        return self._compiled

    def in_run(self) -> re.Pattern[bytes]:
        """Return what follows the letters in the same run: all up to a sign that runs do not have, such as a colon."""
        if self._in_run is None:
            parts = self._token.rest.split()
            ends = [at for at, part in enumerate(parts) if part == ":"]
            rest = expression_of(" ".join(parts[: ends[0]])) if ends else self._token.expression
            self._in_run = re.compile(rest.encode())
        return self._in_run
