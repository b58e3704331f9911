"""The table of forms: what finds values near a secret name, or after the word of a command, and where to look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nat_observability.processors.redaction.forms.calls import (
    BEHIND_ARGUMENT,
    BEHIND_RETURNED,
    COMPARED_BEFORE,
    LITERALS,
    find_arguments,
    find_compared,
    find_positional,
    find_returned,
)
from nat_observability.processors.redaction.forms.code import (
    BEHIND_CALLED,
    BEHIND_LOOKED_UP,
    DECLARED,
    find_calls,
    find_declared,
)
from nat_observability.processors.redaction.forms.commands import (
    find_commands,
    find_redirected,
    find_settings,
)
from nat_observability.processors.redaction.forms.markup import find_cells, find_html_columns, find_tags
from nat_observability.processors.redaction.forms.prose import BELOW, BESIDE, FROM, IS, LISTED, SEED, SPELLED, find_prose
from nat_observability.processors.redaction.forms.protocols import (
    BEHIND_COMPARED,
    find_comparisons,
    find_mail,
    find_netrc,
    find_pgpass,
    find_sql,
)
from nat_observability.processors.redaction.forms.records import (
    AUTOMATED,
    find_automated,
    find_input_values,
    find_jwk,
    find_kubernetes,
    find_multipart,
    find_variables,
)
from nat_observability.processors.redaction.forms.tabular import find_aligned, find_bars, find_columns
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import KeyMatcher
from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.text.runs import has_any

Find = Callable[[bytes, KeyMatcher], Iterator[Found]]
Near = Callable[[bytes, Place], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    One form in which a value stands near its name, or without one.

    Attributes:
        find: Finds the values in a part of a text.
        near: Says whether the form may be at a name.
        literals: For forms without a name: one of them is in every text with the form.
        before: Bytes before the name, or the literal, in which the form is.
        behind: Bytes behind it.
        is_from_line: Whether the form begins with the line of the name.
    """

    find: Find
    near: Near | None = None
    literals: tuple[bytes, ...] = ()
    before: int = 700
    behind: int = 4096
    is_from_line: bool = False


# The words that may follow the letters of a name, and what may stand around names.
_MORE = rb"(?:[ +]{1,2}[\w.\-\x80-\xff]{1,64}+){0,4}?"
_AROUND = rb"[ \t:*`\"'\\]{0,12}"
_LINE_END = rb"(?:\r?\n|\\{1,8}[nr])"


def _follows(expression: bytes, flags: int = 0) -> Near:
    """Return whether an expression matches behind the name, and the further words of it."""
    match = re.compile(expression, flags).match
    return lambda data, place: match(data, place.end, place.end + 600) is not None


def _precedes(expression: bytes, longest: int, flags: int = 0) -> Near:
    """Return whether an expression matches up to the name."""
    search = re.compile(expression + rb"\Z", flags).search
    return lambda data, place: search(data, max(0, place.begin - longest), place.begin) is not None


def _either(first: Near, second: Near) -> Near:
    return lambda data, place: first(data, place) or second(data, place)


def _both(first: Near, second: Near) -> Near:
    return lambda data, place: first(data, place) and second(data, place)


def _before(literals: tuple[bytes, ...], longest: int) -> Near:
    return lambda data, place: has_any(data[max(0, place.begin - longest) : place.end], literals)


def _ahead(literal: bytes, longest: int = 600) -> Near:
    return lambda data, place: data.find(literal, place.end, place.end + longest) >= 0


# What begins a setting, as it stands before the name; and the characters of what may stand between.
_SETS = (
    b"setx", b"#define", b"ENV", b"ARG", b"SetEnv", b"set", b"setenv", b"add", b"put", b"create", b"git config",
    b"proxy_set_header", b"add_header", b"fastcgi_param", b"require", b"config", b"read", b"setx /M", b"setx /m",
)  # fmt: skip
_SETTING = re.compile(
    rb"(?:setx(?: /[mM])?|read(?: -\w{1,4}){0,3}|config(?: --\w{1,20}){0,2}|#define|ENV|ARG|SetEnv|set(?:env)?(?: -\w{1,8}){0,3}|add|put|create|git config"
    rb"(?: --\w{1,20}){0,3}|proxy_set_header|add_header|fastcgi_param|require)[ \t]{1,16}"
    rb"\\{0,64}[\"']?[\w./:-]{0,100}\Z"
)
_LONGEST_SETTING = 260  # bytes
_PARTS_OF_NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-"


def _is_set(data: bytes, place: Place) -> bool:
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
_LONGEST_LIST = 2000  # bytes of the names of columns


def _is_inserted(data: bytes, place: Place) -> bool:
    """Say whether a name is in brackets before values: INSERT INTO users (name, password) VALUES."""
    closing = data.find(b")", place.end, place.end + _LONGEST_LIST)
    return (
        closing >= 0 and data.find(b"(", place.end, closing) < 0 and _VALUES.match(data, closing) is not None
    )


_IN_HEADS = re.compile(rb"[\w .\x80-\xff\-\"'\\,;\t]{0,2000}+(?=(.))?", re.DOTALL)
_HEAD_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ .-\"'\\,;\t" + bytes(
    range(0x80, 0x100)
)
_SEPARATORS = re.compile(rb"[,;\t]|\\t")
_BEGIN_OF_ROW = re.compile(rb"(?:\A|\n|\\n)[\"'\\]{0,4}\Z")
_AFTER_CELL = re.compile(
    rb"(?:[ +]{1,2}[\w.\-\x80-\xff]{1,64}+){0,4}[\"'\\ ]{0,12}(?:[,;\t]|\\{1,8}[tnr]|\r?\n|\Z|[\"'`])"
)


def _is_head(data: bytes, place: Place) -> bool:
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


def _is_row_of_pair(data: bytes, place: Place) -> bool:
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
    begin = line_end.end()
    next_end = _LINE_ENDS.search(data, begin, begin + _LONGEST_ROW)
    row = data[begin : begin + _LONGEST_ROW if next_end is None else next_end.start()]
    head += data[at : line_end.start()]
    return any(separator in head and separator in row for separator in (b",", b";", b"\t", b"\\t"))


_ALIGNED = re.compile(rb"[\w. -]{0,400}(?=(\n|\\{1,8}n|\r)(\d)?)")


def _is_aligned_head(data: bytes, place: Place) -> bool:
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


def _has_bars(data: bytes, place: Place) -> bool:
    """Say whether there are bars in the line of a name."""
    begin = max(data.rfind(b"\n", max(0, place.begin - 600), place.begin), place.begin - 600, 0)
    end = data.find(b"\n", place.end, place.end + 600)
    line = data[begin : end if end >= 0 else place.end + 600]
    if line.find(b"|") >= 0:
        return True
    return not line.isascii() and any(line.find(bar) >= 0 for bar in _OTHER_BARS)


_OTHER_BARS = (b"\xe2\x94\x82", b"\xe2\x95\x91")


def _is_behind_cells(data: bytes, place: Place) -> bool:
    """Say whether tags of a table may be before a name."""
    begin, end = max(0, place.begin - 1200), place.end
    return data.rfind(b"<", begin, end) >= 0 and (
        data.find(b"<t", begin, end) >= 0 or data.find(b"<T", begin, end) >= 0
    )


_SPELLED = re.compile(SPELLED)


def _is_in_tag(data: bytes, place: Place) -> bool:
    at = data.rfind(b"<", max(0, place.begin - 700), place.begin)
    if at < 0 or data.find(b">", at, place.begin) >= 0:
        return False
    end = data.find(b">", place.end, place.end + 700)
    return end >= 0 and data.find(b"<", place.end, end) < 0


NAMED: tuple[Form, ...] = (
    Form(find=find_tags, near=_is_in_tag),
    Form(find=find_cells, near=_both(_ahead(b"</"), _follows(_MORE + _AROUND + rb"</")), before=200),
    Form(find=find_html_columns, near=_is_behind_cells),
    Form(find=find_bars, near=_has_bars),
    Form(find=find_columns, near=_is_head, is_from_line=True),
    Form(find=find_columns, near=_is_row_of_pair),
    Form(find=find_aligned, near=_is_aligned_head),
    Form(
        find=find_settings,
        near=_either(
            _is_set,
            _both(
                lambda data, place: data.find(b"-", place.begin, place.end) >= 0,
                _follows(rb"[ \t]{1,8}(?![-\s])"),
            ),
        ),
    ),
    Form(
        find=find_redirected,
        near=_both(_before((b"> ", b">>", b">"), 100), _before((b"echo", b"printf"), 400)),
    ),
    Form(
        find=find_netrc,
        near=_both(
            lambda data, place: data.endswith(b"password", place.begin, place.end),
            _both(_follows(rb"\s|\\"), _before((b"login", b"user", b"machine", b"default"), 500)),
        ),
    ),
    Form(
        find=find_comparisons,
        near=_either(
            _follows(BEHIND_COMPARED, re.IGNORECASE),
            _both(
                _is_inserted,
                _both(_follows(rb"[\s`\"\]\\]*[,)]"), _before((b"into", b"INTO", b"Into"), 2300)),
            ),
        ),
        before=2300,
        behind=8192,
    ),
    Form(find=find_multipart, near=_before((b"form-data",), 200)),
    Form(
        find=find_input_values,
        near=_ahead(b"input_valu"),
    ),
    Form(
        find=find_automated,
        near=_either(
            _both(
                _ahead(b").", 140),
                _follows(rb"[^\n;]{0,130}?" + AUTOMATED),
            ),
            _both(
                _precedes(
                    rb"[\"'`]\s{1,4}(?:in|into|to|for|as)\s{1,4}(?:the\s{1,4})?\\{0,64}[\"'`]?[\w #.-]{0,80}",
                    120,
                ),
                _before((b"yped", b"ntered", b"yping", b"ill", b"nput"), 500),
            ),
        ),
    ),
    Form(find=find_variables, near=_follows(rb"\\{0,64}\"\s{0,4}\{")),
    Form(
        find=find_declared,
        near=_follows(_AROUND + b"(?:" + DECLARED + b")"),
    ),
    Form(
        find=find_calls,
        near=_follows(rb"(?:" + BEHIND_CALLED + b"|" + BEHIND_LOOKED_UP + b")"),
        before=400,
    ),
    Form(
        find=find_prose,
        near=lambda data, place: not data[place.begin : place.end].isascii() and _SPELLED.search(data, place.begin, place.end + 160) is not None,
        before=200,
    ),
    Form(find=find_returned, near=_follows(BEHIND_RETURNED), before=100),
    Form(find=find_arguments, near=_follows(BEHIND_ARGUMENT), before=500),
    Form(find=find_compared, near=_precedes(COMPARED_BEFORE, 120), before=300),
    Form(
        find=find_prose,
        near=_either(
            _either(
                _follows(_MORE + _AROUND + b"(?:" + IS + b"|" + BESIDE + b"|" + FROM + b"|" + SEED + b")"),
                _either(
                    _both(_ahead(b"\n", 300), _follows(_MORE + _AROUND + b"(?:" + LISTED + b")")),
                    _both(_ahead(b":", 300), _follows(_MORE + _AROUND + BELOW)),
                ),
            ),
            _either(
                _precedes(
                    rb"(?:[\"'`]|[0-9][^\s]{0,64}?),? (?:(?:as|for|is) )?\(?(?:(?:the|your|my|our|its|a)(?: new)? )?[\w ]{0,40}", 120
                ),
                _both(_before((b"# ",), 80), _precedes(rb"#{1,6} [\w -]{0,60}", 80)),
            ),
        ),
        before=500,
        behind=1400,
    ),
)
"""The forms with a name."""

# Those without a name: one of the texts is in every text in which they find something.
UNNAMED: tuple[Form, ...] = (
    Form(
        find=find_commands,
        literals=(
            b" -u", b" -p", b" -P", b" -a", b" -w ", b" -k ", b" -N ", b" -U", b"--user", b"--proxy-user", b"-pass",
            b"htpasswd -", b"vault login", b"rabbitmqctl", b"-stdin", b"/user:", b"<<<", b"--with-token", b"sudo -S",
            b"chpasswd", b"cargo login", b"wandb login", b"railway login", b"authtoken ", b"auth init", b"-oauth.",
            b"-token.", b"http-basic.", b"bundle config", b"mc alias", b"mc config", b"net user", b"wpa_passphrase",
            b"nmcli", b"gem push", b"snmp", b"ipmitool", b" /p:", b"ldap", b"curl ", b"SecureString", b"assword",
            b"sqlplus", b"thin:", b"@//", b"WIFI:", b"rclone", b"secret put", b"| passwd", b"kinit",
        ),
        before=1400,
        behind=1400,
    ),
    Form(find=find_pgpass, literals=(b":5432:", b":5433:", b":6432:", b":3306:", b":*:"), before=400, behind=700),
    Form(find=find_mail, literals=(b"PASS ", b"AUTH ", b"LOGIN "), before=500, behind=2400),
    Form(find=find_sql, literals=(b"DENTIFIED", b"dentified", b"PASSWORD '", b"PASSWORD \\"), before=100),
    Form(find=find_jwk, literals=(b"kty",), before=4096, behind=8192),
    Form(find=find_kubernetes, literals=(b"Secret",), before=4096 + 200, behind=8192),
    Form(find=find_positional, literals=LITERALS, before=100),
)  # fmt: skip
"""The forms without one."""


def forms_near(data: bytes, place: Place) -> Sequence[int]:
    """Return the numbers of the forms with a name that may be at a place."""
    return [number for number, form in enumerate(NAMED) if form.near is not None and form.near(data, place)]


def find_named(data: bytes, near: Iterable[tuple[Place, Sequence[int]]], keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in the forms that may be at these places, each with the numbers of its forms, in order."""
    by_form: dict[int, list[tuple[int, int]]] = {}
    for place, numbers in near:
        for number in numbers:
            form = NAMED[number]
            if form.is_from_line:
                begin = max(
                    0,
                    data.rfind(b"\n", max(0, place.begin - _LONGEST_LIST), place.begin) + 1,
                    place.begin - _LONGEST_LIST,
                )
            else:
                begin = _begin_of_line(data, place.begin - form.before)
            _add(by_form.setdefault(number, []), begin, place.end + form.behind)
    for number in sorted(by_form):
        for start, end in by_form[number]:
            yield from _find_in(NAMED[number], data, start, end, keys)


def is_form_near(data: bytes, place: Place) -> bool:
    """Say whether one of the forms with a name may be at a place."""
    return any(form.near is not None and form.near(data, place) for form in NAMED)


def find_unnamed(data: bytes, literals: Iterable[tuple[int, int]], keys: KeyMatcher) -> Iterator[Found]:
    """
    Find the values in the forms without a name.

    Args:
        literals: The number of a form, and where one of its literals ends, in order.
    """
    by_form: dict[int, list[tuple[int, int]]] = {}
    for number, end in literals:
        form = UNNAMED[number]
        windows = by_form.setdefault(number, [])
        if windows and end - form.before <= windows[-1][1]:
            # Wherever its line begins.
            windows[-1] = (windows[-1][0], max(end + form.behind, windows[-1][1]))
        else:
            _add(windows, _begin_of_line(data, end - form.before), end + form.behind)
    for number, windows in by_form.items():
        for start, stop in windows:
            yield from _find_in(UNNAMED[number], data, start, stop, keys)


def find_anywhere(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in all forms, without a look at where they may be."""
    for form in (*NAMED, *UNNAMED):
        if not form.literals or any(data.find(literal) >= 0 for literal in form.literals):
            yield from form.find(data, keys)


def _add(windows: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a window, joined with the last one if they overlap."""
    if windows and start <= windows[-1][1]:
        windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
    else:
        windows.append((start, end))


def _begin_of_line(data: bytes, at: int) -> int:
    """Return where a window may begin: with a line, if one begins shortly before."""
    if at <= 0:
        return 0
    line = data.rfind(b"\n", max(0, at - 300), at)
    return line + 1 if line >= 0 else at


def _find_in(form: Form, data: bytes, start: int, end: int, keys: KeyMatcher) -> Iterator[Found]:
    part = data[start:end] if start or end < len(data) else data
    for begin, stop, label in form.find(part, keys):
        yield start + begin, start + stop, label
