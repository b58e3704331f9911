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
from nat_observability.processors.redaction.forms.markup import (
    find_cells,
    find_html_columns,
    find_led,
    find_tags,
)
from nat_observability.processors.redaction.forms.nearness import (
    AROUND,
    LONGEST_LIST,
    MORE,
    SPELLED_OUT,
    Near,
    ahead,
    before,
    both,
    either,
    follows,
    has_bars,
    is_aligned_head,
    is_behind_cells,
    is_head,
    is_in_tag,
    is_inserted,
    is_row_of_pair,
    is_said_before,
    is_set,
    precedes,
)
from nat_observability.processors.redaction.forms.prose import (
    BELOW,
    BESIDE,
    FROM,
    IS,
    LISTED,
    SEED,
    find_prose,
)
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
from nat_observability.processors.redaction.forms.urls import find_key_lines, find_queries, find_xml_keys
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import KeyMatcher
from nat_observability.processors.redaction.names.places import Place

Find = Callable[[bytes, KeyMatcher], Iterator[Found]]


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


NAMED: tuple[Form, ...] = (
    Form(find=find_tags, near=is_in_tag),
    Form(
        find=find_led,
        near=follows(MORE + AROUND + rb"(?:(?::| is| =)\s{0,4}|</b>:?\s{0,4}|</strong>:?\s{0,4})<[a-z]"),
        before=200,
    ),
    Form(find=find_cells, near=both(ahead(b"</"), follows(MORE + AROUND + rb"</")), before=200),
    Form(find=find_html_columns, near=is_behind_cells),
    Form(find=find_bars, near=has_bars),
    Form(find=find_columns, near=is_head, is_from_line=True),
    Form(find=find_columns, near=is_row_of_pair),
    Form(find=find_aligned, near=is_aligned_head),
    Form(
        find=find_settings,
        near=either(
            is_set,
            both(
                lambda data, place: data.find(b"-", place.begin, place.end) >= 0,
                follows(rb"[ \t]{1,8}(?![-\s])"),
            ),
        ),
    ),
    Form(
        find=find_redirected,
        near=both(before((b"> ", b">>", b">"), 100), before((b"echo", b"printf"), 400)),
    ),
    Form(
        find=find_netrc,
        near=both(
            lambda data, place: data.endswith(b"password", place.begin, place.end),
            both(follows(rb"\s|\\"), before((b"login", b"user", b"machine", b"default"), 500)),
        ),
    ),
    Form(
        find=find_comparisons,
        near=either(
            follows(BEHIND_COMPARED, re.IGNORECASE),
            both(
                is_inserted,
                both(follows(rb"[\s`\"\]\\]*[,)]"), before((b"into", b"INTO", b"Into"), 2300)),
            ),
        ),
        before=2300,
        behind=8192,
    ),
    Form(find=find_multipart, near=before((b"form-data",), 200)),
    Form(
        find=find_input_values,
        near=ahead(b"input"),
    ),
    Form(
        find=find_automated,
        near=either(
            both(
                ahead(b").", 140),
                follows(rb"[^\n;]{0,130}?" + AUTOMATED),
            ),
            both(
                # The verb first: the expression takes longer.
                before(
                    (
                        b"yped ",
                        b"ype ",
                        b"ntered ",
                        b"nter ",
                        b"ntering ",
                        b"yping ",
                        b"ill ",
                        b"illed ",
                        b"illing ",
                        b"nput ",
                        b"Put ",
                    ),
                    300,
                ),
                precedes(
                    rb"(?:[\"'`]|[0-9][^\s]{0,64}?)\s{1,4}(?:in|into|to|for|as)\s{1,4}(?:the\s{1,4})?\\{0,64}[\""
                    rb"'`]?[\w #.:-]{0,80}",
                    200,
                ),
            ),
        ),
    ),
    Form(find=find_variables, near=follows(rb"\\{0,64}\"\s{0,4}\{")),
    Form(
        find=find_declared,
        near=follows(AROUND + b"(?:" + DECLARED + b")"),
    ),
    Form(
        find=find_calls,
        near=follows(rb"(?:" + BEHIND_CALLED + b"|" + BEHIND_LOOKED_UP + b")"),
        before=400,
    ),
    Form(
        find=find_prose,
        near=lambda data, place: (
            not data[place.begin : place.end].isascii()
            and SPELLED_OUT.search(data, place.begin, place.end + 160) is not None
        ),
        before=200,
    ),
    Form(find=find_returned, near=follows(BEHIND_RETURNED), before=100),
    Form(find=find_arguments, near=follows(BEHIND_ARGUMENT), before=500),
    Form(find=find_compared, near=precedes(COMPARED_BEFORE, 120), before=300),
    Form(
        find=find_prose,
        near=either(
            either(
                follows(MORE + AROUND + b"(?:" + IS + b"|" + BESIDE + b"|" + FROM + b"|" + SEED + b")"),
                either(
                    both(ahead(b"\n", 300), follows(MORE + AROUND + b"(?:" + LISTED + b")")),
                    both(ahead(b":", 300), follows(MORE + AROUND + BELOW)),
                ),
            ),
            either(
                is_said_before,
                both(before((b"# ",), 80), precedes(rb"#{1,6} [\w -]{0,60}", 80)),
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
            b"ickServ", b"ICKSERV",
            b"sqlplus", b"thin:", b"@//", b"WIFI:", b"rclone", b"secret put", b"| passwd", b"kinit",
        ),
        before=1400,
        behind=1400,
    ),
    Form(find=find_pgpass, literals=(b":5432:", b":5433:", b":6432:", b":3306:", b":*:"), before=400, behind=700),
    Form(
        find=find_mail,
        literals=(b"PASS ", b"AUTH ", b"LOGIN ", b"AUTH\r", b"AUTH\\r", b"334 UGFzc3dvcmQ6"),
        before=500,
        behind=2400,
    ),
    Form(find=find_sql, literals=(b"DENTIFIED", b"dentified", b"PASSWORD '", b"PASSWORD \\"), before=100),
    Form(find=find_jwk, literals=(b"kty",), before=4096, behind=8192),
    Form(find=find_kubernetes, literals=(b"Secret",), before=4096 + 200, behind=8192),
    Form(
        find=find_queries,
        literals=(
            b"?code=", b"&code=", b"?key=", b"&key=", b"?appid=", b"&appid=", b"?tk=", b"&tk=", b"?sso=",
            b"?magic=", b"grant_type=",
        ),
        before=500,
        behind=1200,
    ),
    Form(find=find_xml_keys, literals=(b"RSAKeyValue",), before=4096),
    Form(find=find_key_lines, literals=(b"Private-Lines:", b"---- BEGIN SSH2"), before=100, behind=8192),
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
                    data.rfind(b"\n", max(0, place.begin - LONGEST_LIST), place.begin) + 1,
                    place.begin - LONGEST_LIST,
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
