"""URLs: codes and keys in their queries, and the private parts of keys in XML and of PuTTY."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_harmless, is_mixed, is_random

_QUERY = re.compile(
    rb"(?:[?&;]|(?<![\w.-]))(code|key|appid|app_id|sso|magic|tk)=([^&\s\"'`<>#\\]{6,512})", re.IGNORECASE
)
_BODY = (b"grant_type", b"redirect_uri")
_LEAST_DIGITS = 6  # of a code
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def find_queries(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    is_body = any(data.find(each) >= 0 for each in _BODY)
    for match in matches(_QUERY, data):
        name, value = match[1].lower(), match[2].rstrip(b".,;:!)]}")
        if match[0][:1] not in b"?&;" and not (is_body and name == b"code"):
            continue
        if name == b"code":
            label, is_short = "authorization_code", True
        else:
            label, is_short = "api_key", name == b"key"
        tells = is_random(value) or (
            is_short
            and (
                is_mixed(value)
                or value.count(b"-") >= 2
                or (value.isdigit() and len(value) >= _LEAST_DIGITS)
                or _UUID.fullmatch(value) is not None
                or (is_body and name == b"code")
            )
        )
        if tells and not is_harmless(keys, "token", value):
            yield match.start(2), match.start(2) + len(value), label


# Links that let their reader in, whose token is a part of the path.
_LINK = re.compile(
    rb"/(?:reset[-_]?password|password[-_]?reset|password/reset|forgot[-_]?password|set[-_]?password|magic[-_]?link|verify"
    rb"[-_]?email|confirm[-_]?email|activate|accept[-_]?invite)/([\w.~-]{8,512})",
    re.IGNORECASE,
)


def find_links(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_LINK, data):
        value = match[1].rstrip(b".")
        if is_mixed(value) or _UUID.fullmatch(value) is not None:
            yield match.start(1), match.start(1) + len(value), "token"


_XML_KEY = re.compile(rb"<(D|P|Q|DP|DQ|InverseQ)>([^<>]{4,2000})</\1>")


def find_xml_keys(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_XML_KEY, data):
        yield *match.span(2), "private_key"


_LINE_END = rb"(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n)"
_LINES = re.compile(
    rb"(?:Private-Lines: \d{1,4}" + _LINE_END + rb"|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----" + _LINE_END
    + rb"?)((?:(?![ ]?Private-MAC|----)[\w+/=:;., \"-]{1,128}(?:" + _LINE_END + rb"|\Z|(?=[\"'\\]))){1,400})"
)  # fmt: skip


def find_key_lines(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_LINES, data):
        yield match.start(1), match.start(1) + len(match[1].rstrip(b"\r\n\\rn")), "private_key"
