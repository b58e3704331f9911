"""Markup: the values of secret names in the tags, cells and tables of HTML and XML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import (
    LONGEST_NAME,
    LONGEST_VALUE,
    is_telling,
    label_before,
    label_of,
)
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_harmless, is_mixed

_TAG = re.compile(rb"<([A-Za-z\x80-\xff][\w:.\x80-\xff-]{0,80})([ \t=][^<>]{1,600}|(?=>))>")
_ATTRIBUTE = re.compile(
    rb"([\w:.-]{1,40})\s?=\s?(\\{0,64}[\"'])(.{0,512}?)\2|=([\w.:\x80-\xff-]{1,80})\Z", re.DOTALL
)
_NAMING = frozenset(
    (
        b"name",
        b"key",
        b"id",
        b"placeholder",
        b"aria-label",
        b"label",
        b"data-name",
        b"data-testid",
        b"itemprop",
        b"property",
        b"param",
        b"field",
        b"autocomplete",
    )
)
_HOLDING = frozenset((b"value", b"content", b"data-value", b"default", b"val"))
_VOID = frozenset(
    (
        b"input",
        b"meta",
        b"link",
        b"img",
        b"br",
        b"label",
        b"button",
        b"select",
        b"form",
        b"svg",
        b"a",
        b"script",
        b"option",
    )
)


def find_tags(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_TAG, data):
        label = None
        of_class = None
        held: list[tuple[int, int]] = []
        for attribute in _ATTRIBUTE.finditer(match[2]):
            name = (attribute[1] or b"").lower()
            if attribute[4] is not None:
                label = label or label_of(attribute[4], keys)
            elif name in _NAMING:
                label = label or label_of(attribute[3], keys)
            elif name == b"class":
                of_class = of_class or label_of(attribute[3], keys)
            elif name == b"type" and attribute[3] == b"password":
                label = label or "password"
            elif name in _HOLDING:
                held.append((match.start(2) + attribute.start(3), match.start(2) + attribute.end(3)))
        if label is None and of_class is not None and match[1].lower() not in _VOID:
            # Code is shown with such classes too: <span class="token">.
            for start, end, _ in _until_tag(data, match.end(), of_class, keys):
                if is_mixed(data[start:end]):
                    yield start, end, of_class
        if label is None or label == UNSURE:
            continue
        for start, end in held:
            if end > start and not is_harmless(keys, label, data[start:end]):
                yield start, end, label
        if match[1].lower() not in _VOID and not held:
            yield from _until_tag(data, match.end(), label, keys)


_INNER = re.compile(
    rb"(?:\s|\\{1,8}[nrt]){0,16}(?:<(?:value|string|val|code|span|b|strong|em|kbd)\b[^<>]{0,100}>(?:\s|\\{1,8}[nrt]){0,16}){0,3}(?:<!\[CDATA\[)?"
)


def _until_tag(data: bytes, at: int, label: str, keys: KeyMatcher) -> Iterator[Found]:
    inner = _INNER.match(data, at, at + 400)
    at = at if inner is None else inner.end()
    end = data.find(b"<", at, at + LONGEST_VALUE * 8)
    end = len(data) if end < 0 else end
    text = data[at:end]
    body = re.sub(rb"\\{1,8}[nrt]\Z", b"", text.strip())
    if not body:
        return
    start = at + text.find(body)
    lead = re.match(rb"(?:\\{1,8}[nrt]|\s)+", body)
    if lead is not None:
        start += lead.end()
        body = body[lead.end() :]
    if body and not is_harmless(keys, label, body):
        yield start, start + len(body), label


# The end of a cell or an emphasis, and the beginning of the next in the same row.
_CELL_END = re.compile(
    rb"</(td|th|dt|key|name|arg_key|b|strong|em|i|code|span|label|h[1-6])>\s{0,8}:?(?:\s|\\{1,8}[nrt]|"
    rb"&nbsp;){0,16}((?:<(?!tr|/|input|br|th)[a-z_]{1,12}[^<>]{0,200}>(?:\s|\\{1,8}[nrt]){0,8}){0,3})",
    re.IGNORECASE,
)


# What stands between a name and its value, and the tags that end with a name.
_LED = re.compile(
    rb"(?:(?::| is| =)\s{0,4}|</(?:b|strong)>:?\s{0,4})((?:<(?:code|strong|b|em|i|span|kbd|tt|samp|pre|mark|u)"
    rb"\b[^<>]{0,100}>\s{0,4}){1,3})"
)
_CLOSED = re.compile(rb"(?:</[a-z][a-z0-9]{0,9}>\s{0,4}){1,3}\Z")


def find_led(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_LED, data):
        named = label_before(data, match.start(), keys)
        if named is not None:
            yield from _until_tag(data, match.end(), named[0], keys)


def find_cells(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CELL_END, data):
        tag = match[1].lower()
        is_inline = tag in (b"b", b"strong", b"em", b"i", b"code", b"span") or tag.startswith(b"h")
        before = data[max(0, match.start() - 2) : match.start()]
        if is_inline and b":" not in before and b":" not in match[0][: match.start(2) - match.start()]:
            continue
        if not is_inline and not match[2]:
            continue
        closed = _CLOSED.search(data, max(0, match.start() - 40), match.start())
        named = label_before(data, match.start() if closed is None else closed.start(), keys)
        if named is not None:
            yield from _until_tag(data, match.end(), named[0], keys)


# <label>Password</label><input value="x">
LABELLED = (
    rb"[ :*]{0,4}</label>(?:\s|\\{1,8}[nrt]){0,8}(?:<(?:div|span|p|br)\b[^<>]{0,100}>(?:\s|\\{1,8}[nrt]){0,8}){0,2}"
    rb"<input\b([^<>]{0,600})>"
)
_LABELLED = re.compile(LABELLED, re.IGNORECASE)


def find_labelled(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_LABELLED, data):
        named = label_before(data, match.start(), keys)
        if named is None or named[0] == LIKELY:
            continue
        for attribute in _ATTRIBUTE.finditer(match[1]):
            value = attribute[3] or b""
            if (
                (attribute[1] or b"").lower() in _HOLDING
                and is_telling(value)
                and not is_harmless(keys, named[0], value)
            ):
                yield match.start(1) + attribute.start(3), match.start(1) + attribute.end(3), named[0]


_ROWS = re.compile(rb"<tr[^<>]{0,100}>(.{0,4000}?)</tr>", re.DOTALL | re.IGNORECASE)
_CELLS = re.compile(rb"<t[hd][^<>]{0,100}>(.{0,1000}?)</t[hd]>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(rb"<[^<>]{0,100}>")


def find_html_columns(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    columns: dict[int, str] = {}
    names: dict[int, bytes] = {}
    for row in matches(_ROWS, data):
        cells = list(_CELLS.finditer(row[1]))
        heads: dict[int, str] = {}
        for index, cell in enumerate(cells):
            label = label_of(_MARKUP.sub(b"", cell[1]), keys) if len(cell[1]) <= LONGEST_NAME else None
            if label is not None and label != UNSURE:
                heads[index] = label
                names[index] = _MARKUP.sub(b"", cell[1]).strip()
        if b"<th" in row[1].lower():
            columns = heads if len(cells) > 1 else {}
            continue
        for index, label in columns.items():
            if index < len(cells):
                start = row.start(1) + cells[index].start(1)
                text = cells[index][1]
                inner = _MARKUP.match(text)
                lead = 0 if inner is None else inner.end()
                end = text.find(b"<", lead)
                end = len(text) if end < 0 else end
                if text[lead:end].strip() and not is_harmless(
                    keys, label, text[lead:end], name=names.get(index, b"")
                ):
                    yield start + lead, start + end, label
