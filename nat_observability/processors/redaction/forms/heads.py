"""Heads: says whether a name may stand in a table of text, as the head of a column or of a row."""

from __future__ import annotations

import re

from nat_observability.processors.redaction.forms.tabular import DECORATION
from nat_observability.processors.redaction.names.places import Place

_IN_HEADS = re.compile(rb"[\w .\x80-\xff\-\"'\\,;\t]{0,2000}+(?=(.))?", re.DOTALL)
_HEAD_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ .-\"'\\,;\t" + bytes(
    range(0x80, 0x100)
)
_SEPARATORS = re.compile(rb"[,;\t]|\\t")
_BEGIN_OF_ROW = re.compile(rb"(?:\A|\n|\\n)[\"'\\]{0,4}\Z")
_AFTER_CELL = re.compile(
    rb"(?:[ +]{1,2}[\w.\-\x80-\xff]{1,64}+){0,4}[\"'\\ ]{0,12}(?:[,;\t]|\\{1,8}[tnr]|\r?\n|\Z|[\"'`])"
)


def is_head(data: bytes, place: Place) -> bool:
    """Say whether a name may be the head of a column, with separators around it."""
    if _AFTER_CELL.match(data, place.end) is None:
        return False
    window = data[max(0, place.begin - 2000) : place.begin]
    before = window[len(window.rstrip(_HEAD_CHARACTERS)) :]
    behind = _IN_HEADS.match(data, place.end)
    after = b"" if behind is None else behind[0]
    if _SEPARATORS.search(before) is None and _SEPARATORS.search(after) is None:
        return False
    bound = data[place.begin - len(before) - 1 : place.begin - len(before)]
    is_line = len(before) == place.begin or bound in (b"\n", b"\r") or b'"' in before or b"\\" in before
    ends = (
        behind is None or behind[1] is None or behind[1] in (b"\n", b"\r") or b"\\" in after or b'"' in after
    )
    return is_line and ends and _has_row_below(data, place.end, before + b" " + after)


def is_row_of_pair(data: bytes, place: Place) -> bool:
    """Say whether a name may begin a row, of a table with names and values."""
    return (
        _BEGIN_OF_ROW.search(data, max(0, place.begin - 8), place.begin) is not None
        and _AFTER_CELL.match(data, place.end) is not None
        and data.find(b"alue", max(0, place.begin - 4096), place.begin) >= 0
    )


_LINE_ENDS = re.compile(rb"\n|\r\n|\\\\{0,7}(?:r\\{1,8})?n")
_LONGEST_ROW = 4096  # bytes of the rest of the head, and of the row below it


def _has_row_below(data: bytes, at: int, head: bytes) -> bool:
    """Say whether the line below one with separators has one of them too."""
    stop = at + _LONGEST_ROW
    if data.find(b"\n", at, stop) < 0 and data.find(b"\\", at, stop) < 0:
        return stop < len(data)
    line_end = _LINE_ENDS.search(data, at, stop)
    if line_end is None:
        return stop < len(data)
    if data[at : line_end.start()].rstrip(DECORATION).endswith((b",", b";")):
        return False  # a column without a name
    begin = line_end.end()
    next_end = _LINE_ENDS.search(data, begin, begin + _LONGEST_ROW)
    row = data[begin : begin + _LONGEST_ROW if next_end is None else next_end.start()]
    head += data[at : line_end.start()]
    return any(separator in head and separator in row for separator in (b",", b";", b"\t", b"\\t"))


_ALIGNED = re.compile(rb"[\w. -]{0,400}(?=(\n|\\{1,8}n|\r)(\d)?)")


def is_aligned_head(data: bytes, place: Place) -> bool:
    """Say whether a name may be the head of a column among blanks alone."""
    if data[place.begin - 1 : place.begin] not in (b" ", b"\n", b"n", b'"', b"") and place.begin:
        return False
    line = _ALIGNED.match(data, place.end)
    if line is None:
        return False
    if line[2] is not None:
        return True  # as data frames are shown, with numbers of rows
    before = data[max(0, place.begin - 400) : place.begin].rpartition(b"\n")[2]
    return line[0].startswith(b"  ") or (before.endswith(b"  ") and not before.isspace())


def has_bars(data: bytes, place: Place) -> bool:
    """Say whether there are bars in the line of a name."""
    around = max(0, place.begin - 600), place.end + 600
    if data.find(b"|", *around) < 0 and data.find(b"\xe2", *around) < 0:
        return False
    begin = max(data.rfind(b"\n", max(0, place.begin - 600), place.begin), place.begin - 600, 0)
    end = data.find(b"\n", place.end, place.end + 600)
    line = data[begin : end if end >= 0 else place.end + 600]
    if line.find(b"|") >= 0:
        return True
    return not line.isascii() and any(line.find(bar) >= 0 for bar in _OTHER_BARS)


_OTHER_BARS = (b"\xe2\x94\x82", b"\xe2\x95\x91")
