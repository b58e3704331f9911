"""Marks: what replaces something redacted, and where marks are in a text."""

from __future__ import annotations

import hmac
import re
from bisect import bisect_left
from collections.abc import Collection, Sequence

from nat_observability.processors.cuts import MARK

_LEAST_KEY = 16  # bytes: a shorter key could be found by trying all

_MARK = re.compile(MARK.pattern.encode())
LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

# Credentials with the name of their scheme are those without it.
_SCHEME = re.compile(rb"\A(?:Bearer|Basic|Token|ApiKey|Digest)[ +]+", re.IGNORECASE)
_GROUPED = frozenset(("card", "iban", "phone"))
_BETWEEN_GROUPS = b" -().\t/\xc2\xa0"

Found = tuple[int, int, str]
"""Where something secret begins and ends, in bytes, and the label of its mark."""


class Marks:
    """
    Makes marks: `[redacted:label]`, or `[redacted:label:0123456789abcdef]` with 64 bits of an HMAC-SHA-256.

    Args:
        key: The key of the hash, 16 bytes or more; None for marks without a hash.

    Raises:
        ValueError: The key is shorter. The message does not contain it.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None) -> None:
        if key is not None and len(key) < _LEAST_KEY:
            raise ValueError(
                f"hash_key must be {_LEAST_KEY} bytes or more, so that it cannot be found by trying. "
                "Use secrets.token_bytes(32), or the bytes of a long random text."
            )
        self._key = key

    def mark(self, label: str, value: bytes) -> str:
        """Return the mark for `value`."""
        if self._key is None:
            return f"[redacted:{label}]"
        return f"[redacted:{label}:{hmac.digest(self._key, _plain(label, value), 'sha256')[:8].hex()}]"


def _plain(label: str, value: bytes) -> bytes:
    """Return what is the same in each way of writing a value, so that equal values have equal hashes."""
    if label == "email":
        return value.lower()
    if label in _GROUPED:
        return value.translate(None, _BETWEEN_GROUPS).upper()
    return _SCHEME.sub(b"", value)


def is_mark(text: str, labels: Collection[str]) -> bool:
    """Say whether `text` is a mark with one of `labels`."""
    match = MARK.fullmatch(text)
    return match is not None and match[1] in labels


def marks_in(text: str, labels: Collection[str]) -> Sequence[tuple[int, int]]:
    """Return where the marks with one of `labels` begin and end, in order."""
    return [match.span() for match in MARK.finditer(text) if match[1] in labels]


def without_labels(data: bytes, labels: Collection[str]) -> bytes:
    """Return a text in which the marks with one of `labels` have stars in place of it, so that it is no name itself."""

    def starred(match: re.Match[bytes]) -> bytes:
        if match[1].decode() not in labels:
            return match[0]
        return b"[redacted:" + b"*" * (len(match[0]) - len(b"[redacted:]")) + b"]"

    return _MARK.sub(starred, data)


def mark_at(at: int, marks: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the mark that begins at `at` or contains it."""
    after = bisect_left(marks, (at + 1, 0))
    return marks[after - 1] if after > 0 and marks[after - 1][1] > at else None


def overlaps_mark(start: int, end: int, marks: Sequence[tuple[int, int]]) -> bool:
    """Say whether a span of a text overlaps one of its marks."""
    after = bisect_left(marks, (end, 0))
    return after > 0 and marks[after - 1][1] > start
