"""Escapes that can hide a text: of JSON and code at any depth, of markup and URLs, and those of terminals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html.entities import html5

MOST_LAYERS = 8  # of escapes inside escapes

# \u0041, \u{41}, \x{41}, \U00000041, \x41, \101, \N{LATIN CAPITAL LETTER A} and \/, with the backslashes of JSON in
# JSON.
_ESCAPE = re.compile(
    rb"(?<!\\)(\\++)(?:u{1,8}([0-9a-fA-F]{4})|[ux]\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})"
    rb"|([0-3][0-7]{2})|N\{([A-Z0-9 -]{2,80})\}|/)"
)
_COLOUR = re.compile(
    rb"(?:\x1b|(?<!\\)\\++(?:x1b|033|e))(?:\[[0-9;]{0,32}+[mK]|\]8;[^\x07\x1b\s]{0,512}(?:\x07|\x1b\\))"
)
_ENTITY = re.compile(rb"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z]{2,8}));")
# Of those with a name, only these stand between a name and its value, or are a part of either.
_NAMED = {
    name.encode(): html5[f"{name};"].encode()
    for name in [
        "amp",
        "quot",
        "apos",
        "lt",
        "gt",
        "nbsp",
        "colon",
        "equals",
        "semi",
        "comma",
        "lowbar",
        "UnderBar",
        "sol",
        "bsol",
        "dollar",
        "num",
        "excl",
        "quest",
        "percnt",
        "commat",
        "lpar",
        "rpar",
        "lsqb",
        "rsqb",
        "lbrack",
        "rbrack",
        "lcub",
        "rcub",
        "lbrace",
        "rbrace",
        "verbar",
        "vert",
        "plus",
        "ast",
        "period",
        "grave",
        "Tab",
        "NewLine",
        "QUOT",
        "AMP",
        "LT",
        "GT",
        "hyphen",
        "dash",
    ]
}
ESCAPES = (
    rb"%[0-9a-fA-F]{2}",
    rb"\x1b[\[\]]",
    rb"\\(?:u{1,8}[0-9a-fA-F]{4}|[ux]\{[0-9a-fA-F]|U000|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|N\{[A-Z]|e\[|/)",
    rb"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|quot|apos|amp|lt|gt|nbsp|colon|equals|lowbar|QUOT|LT|AMP);",
)
"""Expressions of which one is in every text in which escapes may hide another."""
_ESCAPED = re.compile(b"|".join(ESCAPES[2:]))
_PERCENT = re.compile(ESCAPES[0])
_DIGITS = "0123456789abcdefABCDEF"
_DECODED = {(one + other).encode(): bytes((int(one + other, 16),)) for one in _DIGITS for other in _DIGITS}


def is_escaped(data: bytes) -> bool:
    """Say whether `data` may have escapes that hide a text."""
    find = data.find
    return (
        (find(b"%") >= 0 and _PERCENT.search(data) is not None)
        or find(b"\x1b") >= 0
        or ((find(b"\\") >= 0 or find(b"&") >= 0) and _ESCAPED.search(data) is not None)
    )


def escapes(data: bytes) -> Sequence[int]:
    """Return the places of the escapes that may hide a text, in order."""
    found = [match.start() for expression in (_PERCENT, _ESCAPED) for match in expression.finditer(data)]
    at = data.find(b"\x1b")
    while at >= 0:
        found.append(at)
        at = data.find(b"\x1b", at + 1)
    found.sort()
    return found


def layers(data: bytes) -> Sequence[bytes]:
    """Return `data` with one layer of escapes removed, with two, and so on, until there are none."""
    if not is_escaped(data):
        return ()
    found: list[bytes] = []
    for _ in range(MOST_LAYERS):
        inner = decoded(data)
        if inner is data or inner == data:
            break
        found.append(inner)
        data = inner
    return found


def decoded(data: bytes) -> bytes:
    """Return `data` with one layer of all kinds of escapes removed. The result may not be UTF-8."""
    if (
        data.find(b"\x1b") >= 0
        or data.find(b"x1b") >= 0
        or data.find(b"\\033") >= 0
        or data.find(b"\\e") >= 0
    ):
        data = _COLOUR.sub(b"", data)
    return unquoted(without_entities(unescaped(data)))


def unescaped(data: bytes) -> bytes:
    r"""
    Return `data` with the characters that JSON and code escape as `\uXXXX`, `\xXX`, `\ooo` or `\/`, with any number of
    backslashes.

    Half a surrogate pair becomes a question mark: no secret contains one.
    """
    return _ESCAPE.sub(_character, data) if data.find(b"\\") >= 0 else data


def without_entities(data: bytes) -> bytes:
    """Return `data` with the characters that XML and HTML write as entities."""
    return _ENTITY.sub(_named, data) if data.find(b"&") >= 0 else data


def unquoted(data: bytes) -> bytes:
    """Return `data` without its percent-encoding. The result may not be UTF-8."""
    if b"%" not in data:
        return data
    first, *rest = data.split(b"%")
    character = _DECODED.get
    # This takes half the time of a regular expression.
    return first + b"".join([character(part[:2], b"%" + part[:2]) + part[2:] for part in rest])


def _named(match: re.Match[bytes]) -> bytes:
    if match[3] is not None:
        return _NAMED.get(match[3], match[0])
    return _encoded(int(match[1]) if match[1] is not None else int(match[2], 16))


def _encoded(code: int) -> bytes:
    return chr(code).encode(errors="replace") if code <= 0x10FFFF else b"?"


def _character(match: re.Match[bytes]) -> bytes:
    digits = match[2] or match[3] or match[4]
    if digits is not None:
        character = _encoded(int(digits, 16))
    elif match[5] is not None:
        # In the bytes of Python, one of UTF-8.
        character = bytes((int(match[5], 16),))
    elif match[6] is not None:
        character = bytes((int(match[6], 8),))
    elif match[7] is not None:
        try:
            character = unicodedata.lookup(match[7].decode()).encode()
        except KeyError:
            return match[0]
    else:
        character = b"/"
    # Each level of JSON around it doubles the backslashes of an even number, down to the odd one that escapes. Of three
    # there, two are an escaped one, which may begin the next escape.
    count = len(match[1])
    while count % 2 == 0:
        count //= 2
    return b"\\" * (count // 2) + character
