"""Escapes behind which a text can hide: those of JSON, at any depth, and percent-encoding."""

from __future__ import annotations

import re

_UNICODE_ESCAPE = re.compile(rb"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|/)")
_PERCENT_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")


def unescaped(data: bytes) -> bytes:
    r"""
    Return `data` with the characters that JSON escapes as `\uXXXX` or `\/`, however many backslashes deep.

    A half of a surrogate pair becomes a question mark: no secret has one in it.
    """
    return _UNICODE_ESCAPE.sub(_character, data) if b"\\u" in data or b"\\/" in data else data


def unquoted(data: bytes) -> bytes:
    """Return `data` without its percent-encoding. What comes out may be no UTF-8."""
    return _PERCENT_ESCAPE.sub(_byte, data) if b"%" in data else data


def _character(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    return b"/" if digits is None else chr(int(digits, 16)).encode(errors="replace")


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))
