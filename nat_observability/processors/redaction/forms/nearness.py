"""Nearness: says cheaply whether a form may be at a place with the letters of a name."""

from __future__ import annotations

import re

from nat_observability.processors.redaction.forms.code import LOOKED_UP
from nat_observability.processors.redaction.forms.commands import FLAG
from nat_observability.processors.redaction.forms.prose import SPELLED
from nat_observability.processors.redaction.forms.records import AUTOMATED
from nat_observability.processors.redaction.forms.tabular import DECORATION
from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.text.runs import has_any

# The words that may follow the letters of a name, and what may stand around names.
MORE = rb"(?:[ +]{1,2}[\w.\-\x80-\xff]{1,64}+){0,4}?"
AROUND = rb"[ \t:*`\"'\\]{0,12}"


def is_said_before(data: bytes, place: Place) -> bool:
    """Say whether a sentence may say a value before its name: x1y2 is the password, "x" as the password."""
    window = data[max(0, place.begin - _LONGEST_SAID) : place.begin]
    return has_any(window[-_LONGEST_SAYING:], (b" as ", b" for ", b" is ", b", the ", b" (")) and (
        has_any(window, (b'"', b"'", b"`"))
        or not window.isascii()
        or _DIGIT.search(window) is not None
        or window.count(b"-") >= 2
    )


_LONGEST_SAID, _LONGEST_SAYING = 160, 48  # bytes
_DIGIT = re.compile(rb"[0-9]")


# What begins a setting, as it stands before the name; and the characters of what may stand between.
_SETS = (
    b"setx", b"#define", b"ENV", b"ARG", b"SetEnv", b"set", b"setenv", b"add", b"put", b"create", b"git config",
    b"proxy_set_header", b"add_header", b"fastcgi_param", b"require", b"config", b"read", b"setx /M", b"setx /m",
)  # fmt: skip
_SETTING = re.compile(
    rb"(?:setx(?: /[mM])?|read(?: -\w{1,4}){0,3}|config(?: --\w{1,20}){0,2}|#define|ENV|ARG|SetEnv|set(?:env)?(?"
    rb": -\w{1,8}){0,3}|add|put|create|git config"
    rb"(?: --\w{1,20}){0,3}|proxy_set_header|add_header|fastcgi_param|require)[ \t]{1,16}"
    rb"\\{0,64}[\"']?[\w./:-]{0,100}\Z"
)
_LONGEST_SETTING = 260  # bytes
_PARTS_OF_NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-"


def is_set(data: bytes, place: Place) -> bool:
    """Say whether the word of a command or a file of settings stands before a name."""
    window = data[max(0, place.begin - _LONGEST_SETTING) : place.begin]
    rest = window.rstrip(_PARTS_OF_NAMES)
    rest = rest.removesuffix(b'"') if rest.endswith(b'"') else rest.removesuffix(b"'")
    rest = rest.rstrip(b"\\")
    if not rest.endswith((b" ", b"\t")):
        return False
    rest = rest.rstrip(b" \t")
    # Its last word may be an option: set -gx TOKEN.
    if not rest.endswith(_SETS) and rest[rest.rfind(b" ") + 1 :][:1] != b"-":
        return False
    return _SETTING.search(window) is not None


_VALUES = re.compile(rb"\)\s{0,8}(?:\\{1,8}n\s{0,8})?(?:OUTPUT [^()]{1,100})?values", re.IGNORECASE)
LONGEST_LIST = 2000  # bytes of the names of columns


def is_inserted(data: bytes, place: Place) -> bool:
    """Say whether a name is in brackets before values: INSERT INTO users (name, password) VALUES."""
    closing = data.find(b")", place.end, place.end + LONGEST_LIST)
    return (
        closing >= 0 and data.find(b"(", place.end, closing) < 0 and _VALUES.match(data, closing) is not None
    )


_IN_HEADS = re.compile(rb"[\w .\x80-\xff\-\"'\\,;\t`*]{0,2000}+(?=(.))?", re.DOTALL)
_HEAD_CHARACTERS = b"`*abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ .-\"'\\,;\t" + bytes(
    range(0x80, 0x100)
)
_SEPARATORS = re.compile(rb"[,;\t]|\\t")
_PAIR_HEAD = re.compile(
    rb"(?:[,;\t]|\\t)[ \"'`*_\\]{0,64}[Vv][Aa][Ll](?:[Uu][Ee])?[ \"'`*_\\]{0,64}(?:[\r\n]|(?<=\\)[nr])"
)
_AFTER_FIRST = re.compile(rb"[^\n,;\t]{0,96}?(?:[,;\t]|\\{1,8}t)")
_AFTER_CELL = re.compile(
    rb"(?:[ +]{1,2}[\w.\-\x80-\xff]{1,64}+){0,4}[\"'\\ `*]{0,64}(?:[,;\t]|\\{1,8}[tnr]|\r?\n|\Z|[\"'`])"
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
    is_line = (
        len(before) == place.begin
        or (bound != b"" and bound in b"\n\r>#/;")
        or has_any(before, (b'"', b"'", b"\\"))
    )
    ends = (
        behind is None
        or behind[1] is None
        or behind[1] in (b"\n", b"\r")
        or has_any(after, (b"\\", b'"', b"'"))
    )
    return is_line and ends and _has_row_below(data, place.end, before + b" " + after)


def is_row_of_pair(data: bytes, place: Place) -> bool:
    """Say whether a name may begin a row, of a table with names and values."""
    return (
        _AFTER_FIRST.match(data, place.end) is not None
        and _is_early_in_row(data, place.begin)
        and data[max(0, place.begin - 4096) : place.begin].lower().find(b"val") >= 0
        and _PAIR_HEAD.search(data, max(0, place.begin - 4096), place.begin) is not None
    )


def _is_early_in_row(data: bytes, at: int) -> bool:
    """Say whether a line begins shortly before a place."""
    return (
        at <= _LONGEST_FIRST
        or data.rfind(b"\n", at - _LONGEST_FIRST - 1, at) >= 0
        or data.rfind(b"\\n", at - _LONGEST_FIRST - 2, at) >= 0
    )


_LONGEST_FIRST = 96  # bytes of the first cell
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


_ALIGNED = re.compile(rb"[\w. \x80-\xff-]{0,400}(?=(\n|\\{1,8}n|\r)(\d)?)")


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


def is_behind_cells(data: bytes, place: Place) -> bool:
    """Say whether tags of a table may be before a name."""
    begin, end = max(0, place.begin - 1200), place.end
    return data.rfind(b"<", begin, end) >= 0 and (
        data.find(b"<t", begin, end) >= 0 or data.find(b"<T", begin, end) >= 0
    )


_SPELLED_OUT = re.compile(SPELLED)


def is_spelled(data: bytes, place: Place) -> bool:
    """Say whether a value follows a name of a language that writes no blank between them."""
    return (
        not data[place.begin : place.end].isascii()
        and _SPELLED_OUT.search(data, place.begin, place.end + 160) is not None
    )


_LOOKED_UP = re.compile(LOOKED_UP + rb"\Z")
_LONGEST_LOOKUP = 200  # bytes


def is_looked_up(data: bytes, place: Place) -> bool:
    """Say whether a name is what is looked up in an environment or a configuration."""
    return _LOOKED_UP.search(data, max(0, place.end - _LONGEST_LOOKUP), place.end) is not None


_AUTOMATED = re.compile(rb"[^\n;]{0,130}?" + AUTOMATED)


def is_automated(data: bytes, place: Place) -> bool:
    """Say whether something is done to a field of a form behind a name: fill("x")."""
    end = place.end
    return data.find(b").", end, end + 140) >= 0 and _AUTOMATED.match(data, end, end + 600) is not None


def is_flagged(data: bytes, place: Place) -> bool:
    """Say whether a name is an option with one dash."""
    return FLAG.search(data, place.begin, place.end + 9) is not None


def is_in_tag(data: bytes, place: Place) -> bool:
    at = data.rfind(b"<", max(0, place.begin - 700), place.begin)
    if at < 0 or data.find(b">", at, place.begin) >= 0:
        return False
    end = data.find(b">", place.end, place.end + 700)
    return end >= 0 and data.find(b"<", place.end, end) < 0
