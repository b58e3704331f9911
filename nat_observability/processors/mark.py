"""Marks: what stands in the place of what was redacted."""

from __future__ import annotations

import hmac
import re

_LEAST_KEY = 16  # bytes: a shorter key could be found by trying

MARK = re.compile(r"\[redacted:([a-z0-9_-]{1,40})(?::[0-9a-f]{16})?\]")
LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Marks:
    """
    Makes marks: `[redacted:label]`, or `[redacted:label:0123456789abcdef]` with 64 bits of an HMAC-SHA-256.

    Args:
        key: Of the hash, 16 bytes or more; None for marks without one.

    Raises:
        ValueError: The key is shorter. The message does not hold it.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None) -> None:
        if key is not None and len(key) < _LEAST_KEY:
            raise ValueError(
                f"hash_key is {_LEAST_KEY} bytes or more, so that nobody finds it by trying. "
                "Cure: secrets.token_bytes(32), or the bytes of a long random text."
            )
        self._key = key

    def mark(self, label: str, value: bytes) -> str:
        """Return the mark for `value`."""
        if self._key is None:
            return f"[redacted:{label}]"
        return f"[redacted:{label}:{hmac.digest(self._key, value, 'sha256')[:8].hex()}]"
