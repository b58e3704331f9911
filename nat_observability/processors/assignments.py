"""find_assignments(): secret values in text, behind the names of their fields."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.keys import KeyMatcher
from nat_observability.processors.tokens import Found
from nat_observability.processors.windows import matches, search

# A name, in quotes or not, and what assigns: password=x, "password": "x", 'password' => 'x', [("password", "x")],
# --password=x. With escaped quotes and escaped line ends too, where JSON is in a text of which it is a part. A name
# begins where the word begins, and takes the whole word at once, so that no word is looked at twice.
_NAME = rb"[A-Za-z0-9_\x80-\xff][A-Za-z0-9_.\-\x80-\xff]*+"
_BEGIN = rb"(?:(?<![A-Za-z0-9_.\-\x80-\xff\\])|(?<=\\)(?![nrtbf])|(?<=\\[nrtbf]))[.-]*+"
# Blanks and line ends, escaped ones too, where JSON is in a text of which it is a part.
_SPACE = rb"(?:\s|\\++[nrt]){0,64}+"
_ASSIGNED = re.compile(
    _BEGIN
    + b"("
    + _NAME
    + rb""")(?:(?:\\{0,32}+["'\]]){1,3}+"""
    + _SPACE
    + rb"""(?:=>|:=|={1,3}+|:|,)|\s{0,8}+(?:=>|:=|={1,3}+|:(?!//)))"""
)
# {"name": "password", "value": "x"}
_NAMED = re.compile(
    rb"""["']([A-Za-z0-9_. \-\x80-\xff]{1,80}+)\\{0,32}+["']"""
    + _SPACE
    + b","
    + _SPACE
    + rb"""\\{0,32}+["'][Vv]alue\\{0,32}+["']"""
    + _SPACE
    + b"[:=]"
)
_TAG = re.compile(rb"<([\w.:-]++)(?:\s[^<>]{0,512})?>(?!</)")
_FLAG = re.compile(
    rb"""(?<![\w.-])--([A-Za-z][\w.-]*+)(?:[ \t]{1,8}+(?!-)|\\{0,32}+["']"""
    + _SPACE
    + b","
    + _SPACE
    + rb"""(?!\\*+["']-))"""
)

_QUOTED = re.compile(_SPACE + rb"""[bBrRuUfF]{0,2}(\\*+)(["'`])""")
_BRACKET = re.compile(_SPACE + rb"(?=[{\[])(?!\[redacted:)")
_BLANKS = re.compile(rb"[ \t]{0,64}+")
# To the end of a line, or of the quotes around name and value.
_LINE = re.compile(rb"[^\r\n]*+")
# A comma, semicolon or ampersand ends a value where something else begins.
_WORD = re.compile(
    rb"""(?:[^\s"'`<>&;,]|&(?![\w.%\[\]-]{1,64}=)|;(?!\s|\Z|[\w .-]{1,64}=)|,(?!\s|\Z|[\w."'-]{1,64}[=:]))++"""
)
_ITEM = re.compile(rb"(?:[^\r\n;\"']|;(?!\s|\Z|[\w .-]{1,64}=))*+")
_BLOCK = re.compile(rb"[|>][+-]?[ \t]*+(?:(?:\r?\n)++[ \t]++[^\r\n]*+)++")
_EMPTY = frozenset((b"null", b"none", b"nil", b"true", b"false", b"undefined"))
_OPENING = {ord("{"): ord("}"), ord("["): ord("]")}
_BEFORE_PAIR = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.- \t\r\n\\\"'"
_CLOSING = {close: open_ for open_, close in _OPENING.items()} | {ord(")"): ord("(")}
_STRUCTURE = re.compile(rb"[\"'\[\]{}]")
_LONGEST_HEADER = 8192  # bytes
_HEADERS = ("authorization", "cookie", "cookies")  # with spaces, quotes and commas in their values


def find_assignments(
    data: bytes, keys: KeyMatcher, start: int = 0, stop: int | None = None
) -> Iterator[Found]:
    """Find the values in `data` that belong to secret names which end between `start` and `stop`."""
    stop = len(data) if stop is None else stop
    reached = start
    while reached < stop and (match := search(_ASSIGNED, data, reached, stop)) is not None:
        reached = match.end()
        label = _label(data, match, keys)
        if label is None:
            continue
        if data[match.end() - 1] == 0x2C and not _opens_pair(data, match.start()):
            continue
        begin, end = _value(data, match.start(), match.end(), label)
        if end > begin:
            yield begin, end, label
            reached = end


def find_others(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in `data` that belong to secret names without an assignment: flags, tags, pairs by name."""
    if b"alue" in data:
        yield from _behind(_NAMED, data, keys)
    if b"--" in data:
        yield from _behind(_FLAG, data, keys)
    if b"</" in data:
        reached = 0
        for match in matches(_TAG, data):
            if match.start() >= reached and (label := keys.label(_text(match[1]))) is not None:
                end = data.find(b"</", match.end())
                reached = end if end >= 0 else len(data)
                yield match.end(), reached, label


def _behind(expression: re.Pattern[bytes], data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    reached = 0
    for match in matches(expression, data):
        # Not inside a value that was found: each byte is looked at once.
        if match.start() >= reached and (label := keys.label(_text(match[1]))) is not None:
            start, end = _value(data, match.start(), match.end(), label)
            if end > start:
                reached = end
                yield start, end, label


def _label(data: bytes, match: re.Match[bytes], keys: KeyMatcher) -> str | None:
    name = _text(match[1])
    label = keys.label(name)
    start = match.start(1)
    if label is None and start:
        before = data[start - 1]
        if before == 0x20:
            # Several words, in quotes or not: {'shared access key': 'x'}, API key: x.
            words = data[max(0, start - 64) : start]
            quote = max(words.rfind(b'"'), words.rfind(b"'"))
            label = keys.label(_text(words[quote + 1 :]) + name) if quote >= 0 else None
            label = label or keys.label(_text(words.rsplit(None, 1)[-1]) + name)
        elif data[max(0, start - 2) : start - 1] == b"\\":
            # No escape, but a name after a backslash: DOMAIN\token=x.
            label = keys.label(chr(before) + name)
    return label


def _opens_pair(data: bytes, start: int) -> bool:
    """Say whether a quoted name is the first of a pair: [("password", "x")], [b"password", b"x"]."""
    return data[max(0, start - 128) : start].rstrip(_BEFORE_PAIR).endswith((b"(", b"["))


def _value(data: bytes, begin: int, at: int, label: str) -> tuple[int, int]:
    """Return where the value at `at` begins and ends, of a name that begins at `begin`."""
    quoted = _QUOTED.match(data, at)
    if quoted is not None:
        start = quoted.end()
        return start, _end_of_quotes(data, start, quoted[2], len(quoted[1]))
    start = _end(_BLANKS, data, at)
    around = data[begin - 1 : begin] if begin else b""
    if around in (b'"', b"'", b"`") and around not in data[begin:at]:
        # The quotes are around both: -H "Authorization: Basic x".
        end = data.find(around, start, start + _LONGEST_HEADER)
        if end >= 0 and data.find(b"\n", start, end) < 0:
            return start, end - _backslashes(data, end)
    if label.endswith(_HEADERS):
        return start, _end(_LINE, data, start)
    bracket = _BRACKET.match(data, at)
    if bracket is not None:
        return bracket.end(), _end_of_brackets(data, bracket.end())
    if around == b";":
        # Of a connection string, where a value may have spaces in it.
        return start, _end(_ITEM, data, start)
    block = _BLOCK.match(data, start)
    if block is not None:
        return start, block.end()
    end = _end(_WORD, data, start)
    while end > start and data[end - 1] in _CLOSING and _is_unopened(data, start, end):
        end -= 1
    return (start, start) if data[start:end].lower().rstrip(b")]},;.") in _EMPTY else (start, end)


def _is_unopened(data: bytes, start: int, end: int) -> bool:
    """Say whether the bracket that ends a word closes one before it: f(password=x)."""
    close = data[end - 1]
    return data.count(close, start, end) > data.count(_CLOSING[close], start, end)


def _end_of_quotes(data: bytes, start: int, quote: bytes, depth: int) -> int:
    """Return where the text ends that was opened by a quote after `depth` backslashes, or where everything ends."""
    end = data.find(quote, start)
    while end >= 0:
        escapes = _backslashes(data, end)
        # As many as before the opening one, or an even number of them before a plain quote, or the quotes around.
        if escapes <= depth or (depth == 0 and escapes % 2 == 0):
            return end - (escapes if depth else 0)
        end = data.find(quote, end + 1)
    return len(data)


def _backslashes(data: bytes, at: int) -> int:
    """Return how many backslashes there are before `at`."""
    window = data[max(0, at - 4096) : at]
    return len(window) - len(window.rstrip(b"\\"))


def _end_of_brackets(data: bytes, start: int) -> int:
    """Return where the bracket at `start` is closed, or where everything ends."""
    open_brackets: list[int] = []
    at = start
    while (match := search(_STRUCTURE, data, at)) is not None:
        at = match.end()
        code = data[at - 1]
        if code in _OPENING:
            open_brackets.append(_OPENING[code])
        elif code in (0x22, 0x27):
            at = _end_of_quotes(data, at, match[0], _backslashes(data, at - 1)) + 1
            at += _escapes_after(data, at - 1)
        elif open_brackets and code == open_brackets[-1]:
            open_brackets.pop()
            if not open_brackets:
                return at
    return len(data)


def _escapes_after(data: bytes, at: int) -> int:
    """Return how many backslashes stand at `at`: those of the quote that follows them."""
    window = data[at : at + 4096]
    return len(window) - len(window.lstrip(b"\\"))


def _end(expression: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = expression.match(data, at)
    return at if match is None else match.end()


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
