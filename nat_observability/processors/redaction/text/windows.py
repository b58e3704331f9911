"""search() and matches(): regular expressions applied to long texts, a window at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WINDOW = 32 * 1024
_OVERLAP = 4 * 1024


def search(
    expression: re.Pattern[bytes], data: bytes, start: int = 0, end: int | None = None
) -> re.Match[bytes] | None:
    """
    Return the first match from `start` on, as `expression.search` does.

    That would block other threads until it has found something; this lets them run after each window. An expression
    must not look further around a match, to either side, than the overlap of two windows.
    """
    end = len(data) if end is None else end
    while end - start > _WINDOW:
        stop = start + _WINDOW
        match = expression.search(data, start, stop)
        if match is None:
            start = stop - _OVERLAP
        elif match.end() <= stop - _OVERLAP:
            return match
        elif match.start() > start:
            # It may go on after the window.
            start = match.start()
        elif (match := expression.match(data, start, end)) is not None:
            return match
        else:
            start += 1
    return expression.search(data, start, end)


def matches(
    expression: re.Pattern[bytes], data: bytes, start: int = 0, end: int | None = None
) -> Iterator[re.Match[bytes]]:
    """Return all matches in order, as `expression.finditer` does."""
    end = len(data) if end is None else end
    if end - start <= _WINDOW:
        yield from expression.finditer(data, start, end)
        return
    while start <= end and (match := search(expression, data, start, end)) is not None:
        yield match
        start = match.end() if match.end() > match.start() else match.end() + 1
