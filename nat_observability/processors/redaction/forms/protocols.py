"""Protocols: passwords in files of logins, in mail and FTP sessions, and in SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import STRONG, argument, is_telling, label_of, quoted
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_harmless

_CRLF = rb"(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n)"
_NETRC = re.compile(
    rb"(?:\b(?:login|user)\s{1,8}\S{1,100}|\bmachine\s{1,8}\S{1,200}|\bdefault)(?:\s|\\{1,8}n){1,16}(?"
    rb":account\s{1,8}\S{1,100}\s{1,8})?password\s{1,16}(\\{0,64}[\"']?)([^\s\"'\\]{1,300})"
)
_PGPASS = re.compile(
    rb"(?:[\w.*-]{1,200}):(?:5432|5433|6432|3306|\*):(?:[\w.*-]{1,100}):(?:[\w.*@-]{1,100}):((?:[^\s:\\"
    rb"]|\\[:\\]){1,300})(?=\s|\\{1,8}[nr]|[\"'`]|\Z)"
)
_MAIL = re.compile(
    rb"(?:(?<=\n)|(?<=\\n)|(?<![\w.]))(?:[CS>]:? ?)?(?:PASS[ ]|AUTH (?:PLAIN|LOGIN|XOAUTH2|CRAM-MD5|NTL"
    rb"M)[ ]|(?:\w{1,10} )?LOGIN \S{1,100} |AUTH (?:default )?)(\\{0,64}[\"']?)([^\s\"'\\]{3,2000})(?="
    rb"\\{0,64}[\"']?(?:\s|\\{1,8}[nr]|\Z))"
)
_SQL = re.compile(
    rb"(?:\bIDENTIFIED\s{1,8}(?:WITH\s{1,8}\S{1,64}\s{1,8})?(?:BY|AS)(?:\s{1,8}PASSWORD)?|\bPASSWORD|\b"
    rb"PWD|\bWITH SECRET\s?=|\bSECRET)\s{1,8}N?(\\{0,64}['\"])",
    re.IGNORECASE,
)
_IDENTIFIED_BY = re.compile(rb"(?:\s|\\{1,64}[nrtu0-9a-f]){1,16}(?:by|as|with)\b", re.IGNORECASE)
BEHIND_COMPARED = (
    rb"\\{0,64}[`\"\]]?(?:\s{1,4}(?:(?:NOT\s{1,4})?(?:I?LIKE|IN\s?\(|SIMILAR\s{1,4}TO|REGEXP|RLIKE)|IS(?:\s{1,4}"
    rb"NOT)?(?:\s{1,4}DISTINCT\s{1,4}FROM)?)|\s{0,4}(?:<>|!==?))\s{0,4}\(?N?(\\{0,64}[\"'])"
)
_COMPARED = re.compile(rb"([A-Za-z_\x80-\xff][\w.\x80-\xff]{0,60})" + BEHIND_COMPARED, re.IGNORECASE)
_FURTHER = re.compile(rb",\s{0,4}N?(\\{0,64}')")
_INSERT = re.compile(
    rb"\binto\s{1,8}[\w.`\"\[\]\\]{1,100}\s{0,8}\(([^()]{1,2000})\)\s{0,8}(?:\\{1,8}n\s{0,8})?(?:OUTPU"
    rb"T [^()]{1,100})?values\s{0,8}",
    re.IGNORECASE,
)
_TUPLE = re.compile(rb"\s{0,8},?(?:\s|\\{1,8}n){0,16}\(")
_SQL_VALUE = re.compile(
    rb"(?:\s|\\{1,8}n){0,8}(?:N?(\\{0,64}')((?:[^'\\]|''|\\{1,64}[^'n])*+)\\{0,64}'|((?:[^,()']|\([^()"
    rb"]{0,200}\)){0,500}))(?:\s|\\{1,8}n){0,8}(,|\))"
)


def find_netrc(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_NETRC, data):
        yield from argument(data, match.start(2), match.end(2), match[1], keys)


def find_pgpass(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_PGPASS, data):
        yield from argument(data, match.start(1), match.end(1), b"", keys)


# Answers in a dialogue: of Redis, and of mail servers that ask in Base64.
_DIALOGUE = re.compile(
    rb"(?:AUTH" + _CRLF + rb"(?:\$\d{1,4}" + _CRLF + rb"[^\s\\]{1,100}" + _CRLF + rb")?\$\d{1,4}" + _CRLF
    + rb"|334 UGFzc3dvcmQ6" + _CRLF + rb"(?:[CS>]:? ?)?)([^\s\\\"']{3,300})"
)  # fmt: skip


def find_mail(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_DIALOGUE, data):
        yield from argument(data, *match.span(1), b"", keys)
    for match in matches(_MAIL, data):
        value = match[2]
        is_pass = match[0].lstrip(b"CS>: ").startswith(b"PASS")
        if (
            is_pass
            and (
                not any(
                    each in data[max(0, match.start() - 300) : match.start()] for each in (b"USER ", b"331 ")
                )
                or (b"/" in value and b"." in value)
            )
        ) or (
            not is_pass
            and b"LOGIN " in match[0]
            and STRONG.fullmatch(value) is None
            and b" LOGIN " in match[0]
            and value.isalpha()
            and b'"' not in match[1]
        ):
            continue
        if b"AUTH " in match[0] and not is_telling(value) and b"=" not in value:
            continue
        yield from argument(data, match.start(2), match.end(2), match[1], keys)


_BARE = re.compile(rb"\bIDENTIFIED\s{1,8}BY\s{1,8}([^\s'\";\\]{4,100})", re.IGNORECASE)


def is_identified_by(data: bytes, at: int) -> bool:
    """Say whether the word that ends there may be of a statement, and not "the objects identified here"."""
    return _IDENTIFIED_BY.match(data, at) is not None


def find_sql(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_BARE, data):
        if STRONG.fullmatch(match[1]) is not None:
            yield *match.span(1), "password"
    for match in matches(_SQL, data):
        yield from quoted(data, match.end(), match[1], "password", keys)


def find_comparisons(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_COMPARED, data):
        label = label_of(match[1].rpartition(b".")[2], keys)
        if label is not None and label != UNSURE:
            yield from quoted(data, match.end(), match[2], label, keys)
            if b"(" in match[0]:
                closing = data.find(b")", match.end(), match.end() + 1000)
                for further in _FURTHER.finditer(data, match.end(), max(match.end(), closing)):
                    yield from quoted(data, further.end(), further[1], label, keys)
    for match in matches(_INSERT, data):
        names = [name.strip(b' \t\r\n`"[]\\') for name in match[1].replace(b"\\n", b" ").split(b",")]
        columns = {
            index: label
            for index, name in enumerate(names)
            if (label := label_of(name, keys)) not in (None, UNSURE)
        }
        if not columns:
            continue
        at = match.end()
        for _ in range(1000):
            opening = _TUPLE.match(data, at)
            if opening is None:
                break
            at = opening.end()
            for index in range(len(names) + 1):
                value = _SQL_VALUE.match(data, at)
                if value is None:
                    break
                label = columns.get(index)
                group = 2 if value[1] is not None else 3
                if (
                    label is not None
                    and value[group].strip()
                    and not is_harmless(keys, label, value[group])
                    and (group == 2 or value[3].strip().isdigit())
                ):
                    yield value.start(group), value.end(group), label
                at = value.end()
                if value[4] == b")":
                    break
            else:
                break
