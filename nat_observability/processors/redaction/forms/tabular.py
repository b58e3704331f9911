"""Tabular: the values in tables of text, under the name of their column or beside their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from nat_observability.processors.redaction.forms.near import LONGEST_NAME, LONGEST_VALUE, label_of
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.values.verdicts import is_harmless

# Each way begins with a letter of its own, by which it is searched for.
_LINE_END = re.compile(rb"\n|\r\n|\\\\{0,7}(?:r\\{1,8})?n")
_RULE = re.compile(rb"[-+|:= \t\xe2\x94\x80-\x8c\xbc\xa4\xb4\x9c\xac\xb8\x90\x98\x94]{2,4000}")
_BAR = re.compile(rb"\||\xe2\x94\x82|\xe2\x95\x91")
_NAMES_ALONE = re.compile(
    rb"[A-Za-z_\x80-\xff][A-Za-z_ \x80-\xff]{0,60}(?:\|[A-Za-z_\x80-\xff][A-Za-z_ \x80-\xff]{0,60}){1,24}"
)
DECORATION = b" \t`*_\"'\\"
_MOST_CELLS = 256


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    for match in _LINE_END.finditer(data):
        yield at, match.start()
        at = match.end()
    yield at, len(data)


# What stands before each line of a table that is quoted, commented out or indented.
_MARGIN = re.compile(rb"(?:[ ]{0,64}(?:>{1,4}|#{1,4}|//|\*|;)(?=[ ]))?[ ]{1,64}|")


def _lines_behind_margin(data: bytes) -> Iterator[tuple[int, int]]:
    for start, end in _lines(data):
        margin = _MARGIN.match(data, start, end)
        yield start if margin is None else margin.end(), end


def _cells(data: bytes, start: int, end: int, separator: re.Pattern[bytes]) -> list[tuple[int, int]]:
    """Return where the cells of a line are, without blanks and decoration."""
    cells: list[tuple[int, int]] = []
    at = start
    for match in separator.finditer(data, start, end):
        cells.append((at, match.start()))
        at = match.end()
        if len(cells) >= _MOST_CELLS:
            break
    cells.append((at, end))
    stripped = []
    for begin, stop in cells:
        text = data[begin:stop]
        lead = len(text) - len(text.lstrip(DECORATION))
        stripped.append((begin + lead, begin + max(lead, len(text.rstrip(DECORATION)))))
    return stripped


def _heads(data: bytes, cells: list[tuple[int, int]], keys: KeyMatcher) -> dict[int, str]:
    found = {}
    for index, (start, end) in enumerate(cells):
        if 0 < end - start <= LONGEST_NAME:
            label = label_of(data[start:end], keys)
            if label is not None and label != UNSURE:
                found[index] = label
    return found


def find_bars(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in tables with bars between their cells: Markdown, psql, MySQL, boxes."""
    columns: dict[int, str] = {}
    names: dict[int, bytes] = {}
    count = 0
    before: list[tuple[int, int]] | None = None
    lines = list(_lines_behind_margin(data))
    for (start, end), (next_start, next_end) in zip(lines, [*lines[1:], (0, 0)], strict=True):
        line = data[start:end]
        if _BAR.search(line) is None:
            if line.strip() and _RULE.fullmatch(line.strip(b"\"' ")) is None:
                columns, before = {}, None
            elif line.strip() and before is not None and not columns:
                columns, count = _heads(data, before, keys), len(before)
                names = {index: data[first:last] for index, (first, last) in enumerate(before)}
            elif not line.strip():
                columns, before = {}, None
            continue
        if _RULE.fullmatch(line.strip(b"\"'{}:, ")) is not None:
            if before is not None and not columns:
                columns, count = _heads(data, before, keys), len(before)
                names = {index: data[first:last] for index, (first, last) in enumerate(before)}
            continue
        cells = _cells(data, start, end, _BAR)
        if (
            before is None
            and not columns
            and _NAMES_ALONE.fullmatch(line) is not None
            and _NAMES_ALONE.fullmatch(data, next_start, next_end) is None
            and len(_BAR.findall(line)) == len(_BAR.findall(data[next_start:next_end]))
        ):
            # A head without a rule below it.
            columns, count, before = _heads(data, cells, keys), len(cells), cells
            names = {index: data[first:last] for index, (first, last) in enumerate(cells)}
            continue
        if columns and len(cells) == count:
            for index, label in columns.items():
                yield from _cell(data, cells[index], label, keys, names.get(index, b""))
        filled = [cell for cell in cells if cell[1] > cell[0]]
        is_head = (
            next_end > next_start
            and _RULE.fullmatch(data[next_start:next_end].strip(b"\"'{}:, ")) is not None
        )
        if is_head and not line.strip().startswith(b"+"):
            columns = {}
        elif len(filled) == 2 and not columns and not _is_annotation(data, filled[0], line):
            own = _heads(data, filled[:1], keys).get(0)
            if own is not None and own != LIKELY:
                yield from _cell(data, filled[1], own, keys)
        elif columns and len(filled) == 2:
            own = _heads(data, filled[:1], keys).get(0)
            if own is not None:
                yield from _cell(data, filled[1], own, keys)
        before = cells


_ANNOTATED = re.compile(rb"[\w\"'\])]\s{0,4}(?::|->)\s{0,4}[A-Za-z_\"']")


def _is_annotation(data: bytes, first: tuple[int, int], line: bytes) -> bool:
    """Say whether a line with one bar is no row, but a name with one of several types: `x: str | None`."""
    return line.count(b"|") == 1 and _ANNOTATED.search(data, *first) is not None


def _cell(
    data: bytes, cell: tuple[int, int], label: str, keys: KeyMatcher, name: bytes = b""
) -> Iterator[Found]:
    start, end = cell
    if end > start and end - start <= LONGEST_VALUE * 4 and _RULE.fullmatch(data[start:end]) is None:
        if _heads(data, [cell], keys).get(0, "pepper") != "pepper" or is_harmless(
            keys, label, data[start:end], name=name
        ):
            return
        yield start, end, label


# In a text in quotes or behind a tag, a table begins there.
_LAST_OPENING = re.compile(rb"[^\n]{0,400}[\"'>]")
_SEPARATED = re.compile(rb",|;|\t|\\{1,8}t")
_CSV_HEAD = re.compile(rb"[\"'\\`*]{0,64}[A-Za-z_\x80-\xff][\w .\"'\\`*\x80-\xff-]{0,120}(?:[,;\t]|\\{1,8}t)")
_MOST_ROWS = 10_000


def find_columns(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in comma-separated values and the like, under the name of their column or beside their own."""
    lines = list(_lines_behind_margin(data)) if len(data) < 1024 * 1024 else []
    index = 0
    while index < len(lines):
        start, end = lines[index]
        index += 1
        # In JSON inside a text the table begins after a quote.
        quote = (
            max(data.rfind(b'"', start, end - 2), start - 1)
            if b": " in data[start:end] or b'":' in data[start:end]
            else start - 1
        )
        first = _SEPARATED.search(data, start, end)
        inner = _LAST_OPENING.match(data, start, end if first is None else first.start())
        for begin in dict.fromkeys((quote + 1, start, start if inner is None else inner.end())):
            if end - begin > 2000 or _CSV_HEAD.match(data, begin, end) is None:
                continue
            found = _SEPARATED.search(data, begin, end)
            if found is None:
                continue
            separator = re.compile(re.escape(found[0]))
            head = _cells(data, begin, end, separator)
            columns = _heads(data, head, keys)
            names = [data[first:last].lower() for first, last in head]
            if not all(re.fullmatch(rb"[A-Za-z_\x80-\xff][\w .\x80-\xff-]{0,60}", name) for name in names):
                continue
            is_pairs = len(head) == 2 and names[1] in (b"value", b"val") and set(columns.values()) <= {LIKELY}
            if not columns and not is_pairs:
                continue
            while index < len(lines):
                start, end = lines[index]
                row = _cells(data, start, end, separator)
                if len(row) < 2 or len(row) < len(head):
                    break
                index += 1
                if is_pairs:
                    label = _heads(data, row[:1], keys).get(0)
                    if label is not None:
                        yield from _cell(data, (row[1][0], row[-1][1]), label, keys)
                elif len(row) == len(head):
                    for column, label in columns.items():
                        yield from _cell(data, row[column], label, keys, names[column])
                else:
                    for column, label in columns.items():
                        yield from _cell(data, (row[column][0], row[-1][1]), label, keys)
            break


# NAME  TOKEN, or as data frames are shown: "  user password".
_ALIGNED_HEAD = re.compile(
    rb"[ ]{0,64}[A-Za-z_\x80-\xff][\w.\x80-\xff-]{0,60}(?:[ ]{1,200}[A-Za-z_\x80-\xff][\w.\x80-\xff-]{0,60}){0,2"
    rb"4}[ ]{0,200}"
)
_WORD = re.compile(rb"[^ ]+")
_MOST_ALIGNED = 1000  # rows


def find_aligned(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in tables whose columns are aligned by blanks, under the name of their column."""
    lines = list(_lines(data)) if len(data) < 1024 * 1024 else []
    index = 0
    while index < len(lines):
        start, end = lines[index]
        index += 1
        start = max(start, data.rfind(b'"', start, end) + 1)
        if end - start > 2000 or _ALIGNED_HEAD.fullmatch(data, start, end) is None:
            continue
        # Blanks before the first name are of a column of numbers of rows.
        is_numbered = data[start : start + 1] == b" "
        head = [match.span() for match in _WORD.finditer(data, start, end)]
        gaps = (after[0] - before[1] for before, after in pairwise(head))
        if not is_numbered and (len(head) < 2 or min(gaps) < 2):
            continue
        columns = _heads(data, head, keys)
        for column, label in columns.items():
            for first, last in lines[index : index + _MOST_ALIGNED]:
                cells = [match.span() for match in _WORD.finditer(data, first, last)]
                place = column + is_numbered
                if len(cells) != len(head) + is_numbered:
                    break
                if is_numbered and not data[cells[0][0] : cells[0][1]].isdigit():
                    break
                yield from _cell(data, cells[place], label, keys)
