"""Windows: parts of long texts that are searched alone, and regular expressions applied a window at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

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


_BEFORE_CHANGE, _BEHIND_CHANGE = 4096, 8192  # bytes
_LONGEST_LINE = 2048  # bytes of one that a window is extended to
LEAST_IN_PARTS = _BEFORE_CHANGE + _BEHIND_CHANGE
"""Bytes of a text of which more than one part is looked at."""


def around(data: bytes, places: Iterable[int]) -> Sequence[bytes]:
    """
    Return the parts of a text around some places, in order, from the beginning of a line to the end of one.

    They overlap nowhere. If they would be most of the text, that is all of it.
    """
    parts: list[tuple[int, int]] = []
    length = len(data)
    if length <= LEAST_IN_PARTS:
        return [data]
    for place in places:
        if parts and place + _BEHIND_CHANGE <= parts[-1][1]:
            continue
        start, end = max(0, place - _BEFORE_CHANGE), min(length, place + _BEHIND_CHANGE)
        start = max(start - _LONGEST_LINE, data.rfind(b"\n", max(0, start - _LONGEST_LINE), start) + 1, 0)
        line_end = data.find(b"\n", end, end + _LONGEST_LINE)
        end = min(length, end + _LONGEST_LINE) if line_end < 0 else line_end
        if parts and start <= parts[-1][1]:
            parts[-1] = parts[-1][0], end
        else:
            parts.append((start, end))
    if sum(end - start for start, end in parts) * 4 > length * 3:
        return [data]
    return [data[start:end] for start, end in parts]
