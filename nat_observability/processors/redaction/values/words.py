"""Words: where a value without quotes ends, and one in quotes, with what a shell joins to either."""

from __future__ import annotations

import re

# A comma, semicolon or ampersand ends a value if another field follows.
WORD = re.compile(
    rb"""(?:[^\s"'`<>&;,]|&(?![\w.%\[\]-]{1,64}=)|;(?!\s|\Z|[\w .-]{1,64}=)|,(?!\s|\Z|["'][\w."'-]{0,64}[=:]|[A-"""
    rb"""Za-z_][A-Za-z_"'][\w."'-]{0,62}[=:]))++"""
)
QUOTES = frozenset((b'"', b"'", b"`"))
OPENING = {ord("{"): ord("}"), ord("["): ord("]"), ord("("): ord(")")}
_CLOSING_BRACKETS = b")]}"
_CLOSING = {close: open_ for open_, close in OPENING.items()}
# What a shell joins to a value: a piece in quotes, directly behind it, or a quote by itself.
_PIECES = {
    quote: re.compile(quote + rb"(?![,:;=(){}\[\]<>])[^\s" + quote + rb"]{1,256}+" + quote)
    for quote in (b'"', b"'", b"`")
}
_QUOTE_ALONE = re.compile(rb"""\\["'](?=["'])""")
_MOST_PIECES = 16
IN_VALUE = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_APOSTROPHE = re.compile(rb"(?<=[A-Za-z])'(?=[A-Za-z])")
_IN_TAG = re.compile(rb"<[/!?]?[A-Za-z][^<>\n]{0,200}>")
_CONTINUED_LINE = re.compile(rb"\r?\n(?=[^\s-])")
_LONGEST_BEFORE_QUOTE = 512  # bytes of a line before a value


def end_of_word(data: bytes, start: int) -> int:
    """
    Return the end of a word, without closing brackets that were opened before it: f(password=x).

    With the quotes and brackets inside it, unless they were opened before it: k9'x, k9"x y"z, a<b, and a\\ b.
    """
    end = end_at(WORD, data, start)
    for _ in range(_MOST_PIECES):
        further = _end_behind_sign(data, start, end)
        if further <= end:
            break
        end = further
    word_end = start + len(data[start:end].rstrip(_CLOSING_BRACKETS))
    if word_end == end:
        return end
    unopened = {
        close: data.count(close, start, end) - data.count(open_, start, end)
        for close, open_ in _CLOSING.items()
    }
    while end > word_end and unopened[data[end - 1]] > 0:
        end -= 1
        unopened[data[end]] -= 1
    return end


def _end_behind_sign(data: bytes, start: int, end: int) -> int:
    """Return where a word ends that goes on behind the sign at `end`; `end` if it does not."""
    sign = data[end : end + 1]
    if not sign:
        return end
    before = data[end - 1 : end] if end > start else b""
    if sign in b" \r\n":
        if before != b"\\":
            return end
        line = _CONTINUED_LINE.match(data, end)
        if line is not None:
            return end_at(WORD, data, line.end())
        return end_at(WORD, data, end + 1) if sign == b" " and IN_VALUE.match(data, end + 1) else end
    if sign in QUOTES:
        if before in (b"", b"\\") or _is_enclosed(data, start, sign):
            return end
        piece = _PIECES[sign].match(data, end)
        if piece is not None:
            return end_at(WORD, data, piece.end())
    elif sign == b"<":
        if _IN_TAG.match(data, end) is not None:
            return end
    elif sign == b">":
        before_it = data[max(0, start - _LONGEST_BEFORE_QUOTE) : start].rpartition(b"\n")[2]
        if before_it.rfind(b"<") > before_it.rfind(b">") or b"<" in data[start:end]:
            return end
    else:
        return end
    return end_at(WORD, data, end + 1) if IN_VALUE.match(data, end + 1) is not None else end


def _is_enclosed(data: bytes, start: int, quote: bytes) -> bool:
    """Say whether a quote before `start`, on the same line, encloses what is there."""
    line = data[max(0, start - _LONGEST_BEFORE_QUOTE) : start].rpartition(b"\n")[2]
    count = line.count(quote)
    if quote == b"'":
        count -= len(_APOSTROPHE.findall(line))
    return count % 2 == 1


def end_of_quotes(data: bytes, start: int, quote: bytes, depth: int) -> int:
    """Return the place of the quote that closes one with `depth` backslashes before it, or the end of everything."""
    end = data.find(quote, start)
    while end >= 0:
        escapes = backslashes(data, end)
        # As many as before the opening quote; or fewer, if it is the quote around; or pairs, which escape each other.
        if escapes <= depth or (depth == 0 and escapes % 2 == 0):
            return end - (escapes if depth else 0)
        end = data.find(quote, end + 1)
    return len(data)


def end_of_pieces(data: bytes, start: int, at: int) -> int:
    """Return where the last of the pieces ends that a shell joins to a value in quotes: 'a'"b"c, 'it'\\''s'."""
    for _ in range(_MOST_PIECES):
        alone = _QUOTE_ALONE.match(data, at)
        place = at if alone is None else alone.end()
        sign = data[place : place + 1]
        if sign in _PIECES and (alone is not None or not _is_enclosed(data, start - 1, sign)):
            piece = _PIECES[sign].match(data, place)
            if piece is None:
                break
            at = end_at(WORD, data, piece.end())
        else:
            break
    return at


def backslashes(data: bytes, at: int) -> int:
    """Return the number of backslashes directly before `at`."""
    window = data[max(0, at - 4096) : at]
    return len(window) - len(window.rstrip(b"\\"))


def end_at(expression: re.Pattern[bytes], data: bytes, at: int, stop: int | None = None) -> int:
    match = expression.match(data, at, len(data) if stop is None else stop)
    return at if match is None else match.end()


# A type of a language, with its parameters, or one whose own name says what it is the type of.
_TYPE = re.compile(
    rb"(?:typing\.|t\.)?(?:[Dd]ict|[Ll]ist|[Tt]uple|[Ss]et|[Ff]rozen[Ss]et|[Tt]ype|Mutable(?:Mapping|Sequence)|Mapping|Sequence"
    rb"|Iterable|Iterator|Optional|Union|Callable|Awaitable|Literal|Annotated)\[[A-Za-z_\"'\[(]"
    rb"|(?:[a-z_][a-z_]{0,20}\.){0,2}_?(?:[A-Z][a-z]{1,20}){0,4}"
    rb"(?:Tokens?|Passwords?|Secrets?|Cookies?|Auth|Credentials?|Authorization|Signature|(?<=[a-z])Keys?)"
    rb"(?:[A-Z][a-z]{0,20}){1,4}(?:[)\]:?]{0,4}\Z|,\s{0,8}\Z|\s{1,4}[|=]\s)"
)
# An element or a part of what a variable holds; its last bracket may be cut off.
_INDEXED = re.compile(
    rb"[A-Za-z_]{1,40}(?:\.[A-Za-z_]{1,40}){0,4}\["
    rb"(?:[A-Za-z_]{1,20}|-?[0-9]{1,3})?(?:\s?[:+-]\s?(?:[A-Za-z_]{1,20}|-?[0-9]{1,3})?)?\]?"
)


def is_indexed(text: bytes) -> bool:
    """Say whether a text is an element of a variable, such as `parts[0]` or `line[start:end]`."""
    return _INDEXED.fullmatch(text) is not None


def is_type(text: bytes) -> bool:
    """Say whether a text is a type of a language with parameters, or one that is named for what it is the type of."""
    return _TYPE.match(text) is not None
