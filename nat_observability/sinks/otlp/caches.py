"""What an encoder remembers of attributes that recur: their bytes, by name and value."""

from __future__ import annotations

from typing import TypeVar

from nat_observability.dialects.openinference import INDEXED_PREFIXES
from nat_observability.sinks.otlp.span_message import attribute_header

_CACHED_LENGTH = 256
_CACHED_VALUES = 1024
_CACHED_NAMES = 256

KeyT = TypeVar("KeyT")


class ByName(dict[str, dict[KeyT, bytes]]):
    """What is cached for each attribute, by its name: an application may make up a new one for each span."""

    def __missing__(self, name: str) -> dict[KeyT, bytes]:
        if len(name) > _CACHED_LENGTH or name.startswith(INDEXED_PREFIXES):
            return {}
        if len(self) >= _CACHED_NAMES:
            self.clear()
        made: dict[KeyT, bytes] = {}
        self[name] = made
        return made


class PayloadHeaders(dict[int, bytes]):
    """
    The bytes before a text in an attribute, by the length of the text.

    Args:
        key: The attribute's name.
        before: The bytes before that: the attribute that says what the text is.
    """

    def __init__(self, key: str, before: bytes = b"") -> None:
        super().__init__()
        self._key, self._before = key, before

    def header(self, length: int) -> bytes:
        """Return the bytes for a length that is not cached yet."""
        encoded = self._before + attribute_header(self._key, str, length)
        keep(self, length, encoded)
        return encoded


def keep(cache: dict[KeyT, bytes], key: KeyT, encoded: bytes, longest: int = _CACHED_LENGTH) -> None:
    if len(encoded) > longest:
        return
    if len(cache) >= _CACHED_VALUES:
        # Cheaper than counting uses: what recurs is back after one span.
        cache.clear()
    cache[key] = encoded
