"""Escapes that can hide a text: those of JSON, at any depth, percent-encoding, and terminal colours."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_LAYERS = 8  # of escapes inside escapes

_UNICODE_ESCAPE = re.compile(rb"(?<!\\)(\\++)(?:u([0-9a-fA-F]{4})|/)")
_COLOUR = re.compile(rb"(?:\x1b|(?<!\\)\\++x1b)\[[0-9;]{0,32}+m")
_ESCAPED = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|x1b\[|/)")
_PERCENT = re.compile(rb"%[0-9a-fA-F]{2}")
_DIGITS = "0123456789abcdefABCDEF"
_DECODED = {(one + other).encode(): bytes((int(one + other, 16),)) for one in _DIGITS for other in _DIGITS}


def is_escaped(data: bytes) -> bool:
    """Say whether `data` may have escapes that hide a text."""
    # Names that are not ASCII can be written with escapes alone.
    find = data.find
    return (
        (find(b"%") >= 0 and _PERCENT.search(data) is not None)
        or find(b"\x1b") >= 0
        or (find(b"\\") >= 0 and _ESCAPED.search(data) is not None)
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
    return unquoted(unescaped(_COLOUR.sub(b"", data) if b"\x1b" in data or b"x1b[" in data else data))


def unescaped(data: bytes) -> bytes:
    r"""
    Return `data` with the characters that JSON escapes as `\uXXXX` or `\/`, with any number of backslashes.

    Half a surrogate pair becomes a question mark: no secret contains one.
    """
    return _UNICODE_ESCAPE.sub(_character, data) if b"\\u" in data or b"\\/" in data else data


def unquoted(data: bytes) -> bytes:
    """Return `data` without its percent-encoding. The result may not be UTF-8."""
    if b"%" not in data:
        return data
    first, *rest = data.split(b"%")
    character = _DECODED.get
    # This takes half the time of a regular expression.
    return first + b"".join([character(part[:2], b"%" + part[:2]) + part[2:] for part in rest])


def _character(match: re.Match[bytes]) -> bytes:
    digits = match[2]
    character = b"/" if digits is None else chr(int(digits, 16)).encode(errors="replace")
    # Each level of JSON around it doubles the backslashes of an even number, down to the odd one that escapes. Of three
    # there, two are an escaped one, which may begin the next escape.
    count = len(match[1])
    while count % 2 == 0:
        count //= 2
    return b"\\" * (count // 2) + character
