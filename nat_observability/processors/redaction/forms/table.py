"""The table of forms: what finds values near a secret name, or after the word of a command."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

from nat_observability.processors.redaction.forms.code import find_calls, find_credentials, find_declared
from nat_observability.processors.redaction.forms.commands import find_commands, find_settings
from nat_observability.processors.redaction.forms.markup import find_cells, find_html_columns, find_tags
from nat_observability.processors.redaction.forms.near import label_before
from nat_observability.processors.redaction.forms.prose import find_prose
from nat_observability.processors.redaction.forms.protocols import (
    find_comparisons,
    find_mail,
    find_netrc,
    find_pgpass,
    find_sql,
)
from nat_observability.processors.redaction.forms.records import (
    find_automated,
    find_input_values,
    find_jwk,
    find_kubernetes,
    find_multipart,
    find_variables,
)
from nat_observability.processors.redaction.forms.tabular import find_bars, find_columns
from nat_observability.processors.redaction.keys import LIKELY, KeyMatcher
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.verdicts import random_places

Find = Callable[[bytes, KeyMatcher], Iterator[Found]]

_NAMED: tuple[Find, ...] = (
    find_tags,
    find_cells,
    find_html_columns,
    find_bars,
    find_columns,
    find_settings,
    find_netrc,
    find_comparisons,
    find_multipart,
    find_input_values,
    find_automated,
    find_variables,
    find_declared,
    find_calls,
    find_prose,
)
# Those without a name: one of the texts is in every text in which they find something.
# The first text is a part of the others, or beside them, and tells most texts apart in one look.
UNNAMED: tuple[tuple[bytes, tuple[bytes, ...], Find], ...] = (
    (
        b" -",
        (
            b" -u", b" -p", b" -P", b" -a", b" -w ", b" -k ", b" -N ", b" -U", b"--user", b"--proxy-user", b"-pass",
            b"htpasswd -",
        ),
        find_commands,
    ),
    (b" ", (b"vault login", b"rabbitmqctl"), find_commands),
    (b":", (b":5432:", b":5433:", b":6432:", b":3306:", b":*:"), find_pgpass),
    (b" ", (b"PASS ", b"AUTH ", b"LOGIN "), find_mail),
    (b" ", (b"DENTIFIED", b"dentified", b"PASSWORD '", b"PASSWORD \\"), find_sql),
    (b"kty", (b"kty",), find_jwk),
    (b"Secret", (b"Secret",), find_kubernetes),
    (b"(", (b"Auth(", b"redentials(", b"ogin(", b"authenticate(", b"auth("), find_credentials),
)  # fmt: skip
# Letters that are in the names that these forms are looked for with, in lower case, and whether a letter may follow.
STEMS = (
    (b"pass", True), (b"pwd", False), (b"secret", True), (b"token", False), (b"key", False), (b">pw<", False),
    (b"cred", True), (b"psk", False), (b"mnemonic", False), (b"seed", True), (b"cookie", True),
    (b"signature", False), (b"senha", False), (b"wort", False), (b"parola", False), (b"contras", True),
    (b"otp", False), (b"pin", False), (b"_pw", False), (b" pw", False), (b"jwt", False), (b"heslo", True),
    (b"haslo", True), (b"salasana", True), (b"lozink", True), (b"senord", True), (b"sifre", False),
    (b"clave", False), (b"sess", True), (b"hmac", False), (b"pepper", False), (b"bearer", False),
    (b"adgangskode", True), (b"cvc", False), (b"cvv", True), (b"code", False),
    (b"assertion", True), ("пароль".encode(), True), ("密码".encode(), True), ("パスワード".encode(), True),
    ("비밀번호".encode(), True),
)  # fmt: skip
_ASCII_STEMS = tuple((stem, may_go_on) for stem, may_go_on in STEMS if stem.isascii())
_BEFORE, _BEHIND = 700, 4096  # bytes around a name in which these forms are looked for
_REST_OF_WORD = re.compile(rb"[A-Za-z0-9_.\-\x80-\xff]{0,80}+")
_LETTER = re.compile(rb"[a-z]")


def may_have_form(data: bytes, keys: KeyMatcher) -> bool:
    """Say whether `data` may have a secret in one of these forms: it has the name of one, or a word of a command."""
    return next(_names(data, keys), None) is not None or any(
        data.find(first) >= 0 and _has_any(data, literals) for first, literals, _ in UNNAMED
    )


def find_forms(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values of secret names in all of these forms."""
    for first, literals, find in UNNAMED:
        if data.find(first) >= 0 and _has_any(data, literals):
            yield from find(data, keys)
    begun = reached = -1
    for at in sorted(_names(data, keys)):
        if begun >= 0 and at - _BEFORE > reached:
            yield from _find_in(data, begun, reached, keys)
            begun = -1
        if begun < 0:
            begun = max(0, at - _BEFORE, data.rfind(b"\n", max(0, at - _BEFORE), at) - _BEFORE)
        reached = at + _BEHIND
    if begun >= 0:
        yield from _find_in(data, begun, reached, keys)


def _find_in(data: bytes, start: int, end: int, keys: KeyMatcher) -> Iterator[Found]:
    part = data[start:end]
    for find in _NAMED:
        for begin, stop, label in find(part, keys):
            yield start + begin, start + stop, label


def _names(data: bytes, keys: KeyMatcher) -> Iterator[int]:
    """Find where secret names end, except those without one of the stems."""
    lowered = data.lower()
    random: list[int] | None = None
    for stem, may_go_on in _ASCII_STEMS if data.isascii() else STEMS:
        at = lowered.find(stem)
        while at >= 0:
            end = at + len(stem)
            if may_go_on or _LETTER.match(lowered, end) is None:
                word = _REST_OF_WORD.match(data, end)
                end = end if word is None else word.end()
                named = label_before(data, end, keys)
                if named is None or named[0] == LIKELY:
                    named = label_before(data, at + len(stem), keys) or named
                if named is not None and named[0] == LIKELY:
                    # Its value must look random, so that most of such names need no further search.
                    if random is None:
                        random = list(random_places(data))
                    place = bisect_left(random, at - 2 * _BEFORE)
                    if place == len(random) or random[place] > at + _BEHIND:
                        named = None
                if named is not None:
                    yield end
            at = lowered.find(stem, end)


def _has_any(data: bytes, needles: tuple[bytes, ...]) -> bool:
    find = data.find
    return any(find(needle) >= 0 for needle in needles)
