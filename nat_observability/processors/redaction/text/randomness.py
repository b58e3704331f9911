"""random_places(): where values that may be random are in a text."""

from __future__ import annotations

from collections.abc import Iterator

LEAST_CHANGES = 3
"""How often digits and letters change in a value that looks random."""

_LEAST_PIECE = 10  # characters
# Digits, letters and the others of a piece.
_CLASSES = bytes(
    48 if 48 <= code <= 57 else 97 if chr(code).isalpha() and code < 128 else 120 if code in b"+/=" else 32
    for code in range(256)
)


def random_places(data: bytes) -> Iterator[int]:
    """Find where words begin that may be all or a part of a value that looks random."""
    classes = data.translate(_CLASSES)
    at = classes.find(b"0a")
    while at >= 0:
        start, end = classes.rfind(b" ", 0, at) + 1, classes.find(b" ", at)
        end = end if end >= 0 else len(classes)
        if (
            end - start >= _LEAST_PIECE
            and classes.count(b"0a", start, end) + classes.count(b"a0", start, end) >= LEAST_CHANGES
        ):
            yield start
        at = classes.find(b"0a", end)
