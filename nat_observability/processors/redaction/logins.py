"""Logins in URLs, and those that stand before a host without a scheme."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.text.runs import LEAST_RUN
from nat_observability.processors.redaction.text.token_words import is_mixed_token, is_random_token

_AUTHORITY = re.compile(rb"[^\s/?#\\\"'<>`]*+")
_REST_OF_URL = re.compile(rb"[^\s\"'<>`]{0,512}+")
# What examples have in place of a password.
_NO_PASSWORD = re.compile(
    rb"(?i:x{3,32}|\*{1,32}|\.{3}|(?:your|my)[-_]?(?:pass(?:word)?|secret|token))|%s|PASS(?:WORD)?|<[\w .-]{1,40}>"
    rb"|\[(?i:your |my )?(?i:pass(?:word)?|secret|token)\]"
    rb"|\$?\{{1,2}[A-Za-z_][A-Za-z_ .:-]{0,59}\}{1,2}|\$\(?[A-Z_][A-Z0-9_]{0,40}\)?|%[A-Z_]{1,40}%"
)
# What examples have in place of a login, at a host of examples or, where no service takes it for its own, the same one.
_NO_LOGIN = re.compile(
    rb"(?:user(?:name)?|usr|login|name):pass(?:word|wd)?@(?:localhost|127\.0\.0\.1|\[::1\]|host(?:name)?"
    rb"|(?P<example>(?:www\.|api\.)?example\.(?:com|org|net)))(?![\w.-])"
)
_OF_PAGES = (b"http", b"https", b"ws", b"wss", b"ftp", b"scheme", b"proto", b"protocol")
# bob:password@host without a scheme, with what tells that it is no e-mail address.
_USERINFO = re.compile(
    rb"(?<![\w/:.@+$-])(?!(?:npm|jsr|node|pkg|docker|oci|git|file|mailto):)[\w.$-]{1,64}:([^\s:@/\"'`<>,;()]{4,128})@(?P<host>(?:tcp|unix)\(|localhost\b|\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"
    rb"|[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}(?P<more>:\d{2,5}\b|/\w)?)"
)
_LEAST_USERINFO = re.compile(rb":[^\s:@/\"'`<>,;()]{4,128}@[\w]")
_ADDRESS = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_NUMBER = re.compile(rb"[0-9]{6,32}")
_STRONG = re.compile(rb"(?=[^ ]{0,128}[0-9])(?=[^ ]{0,128}[A-Za-z])[^ ]{6,128}")


def find_url_credentials(data: bytes) -> Iterator[Found]:
    # The password in scheme://user:password@host, and a token in place of both.
    at = data.find(b"://")
    while at >= 0:
        begin = at + 3
        authority = _end(_AUTHORITY, data, begin)
        host, colon = data.rfind(b"@", begin, authority), data.find(b":", begin, authority)
        if host < 0 <= colon and not data[colon + 1 : authority].isdigit():
            # Not a port: a password with a slash that should be encoded and is not.
            host = data.rfind(b"@", authority, _end(_REST_OF_URL, data, authority))
        if host > begin:
            # A token in place of the user may have been marked before.
            user_end = data.find(b"]", begin, host) if data.startswith(b"[redacted:", begin) else begin
            colon = data.find(b":", max(user_end, begin), host)
            if 0 <= colon < host - 1:
                if _NO_PASSWORD.fullmatch(data, colon + 1, host) is None and not _is_example(data, begin):
                    yield colon + 1, host, "url_password"
            elif colon < 0 and host - begin >= LEAST_RUN and is_random_token(data[begin:host]):
                yield begin, host, "url_token"
        at = data.find(b"://", max(host, begin))


def _is_example(data: bytes, begin: int) -> bool:
    """Say whether a URL whose scheme ends before a place has the login of an example: user:password@localhost."""
    match = _NO_LOGIN.match(data, begin)
    return match is not None and (
        match["example"] is None or data[max(0, begin - 16) : begin - 3].lower().endswith(_OF_PAGES)
    )


def find_userinfo(data: bytes) -> Iterator[Found]:
    at = data.find(b"@")
    while at >= 0:
        begin = max(0, at - _LONGEST_USERINFO)
        window = data[begin:at]
        first = (
            max(window.rfind(blank) for blank in (b" ", b"\n", b"\t", b'"', b"'", b"(", b"=", b"`", b"<")) + 1
        )
        if window.find(b":", first) >= 0:
            match = _USERINFO.match(data, begin + first, at + 300)
            if match is not None and match.end(1) == at:
                value = match[1]
                is_host = (
                    match["more"] is not None
                    or match["host"].endswith((b"(", b"localhost"))
                    or _ADDRESS.fullmatch(match["host"]) is not None
                )
                tells = (
                    _STRONG.fullmatch(value) is not None
                    or value.count(b"-") >= 2
                    or _NUMBER.fullmatch(value) is not None
                )
                is_password = (is_host and tells) or (b"." in match["host"] and is_mixed_token(value))
                if is_password and _NO_PASSWORD.fullmatch(value) is None:
                    yield *match.span(1), "url_password"
        at = data.find(b"@", at + 1)


_LONGEST_USERINFO = 200  # bytes


def may_have_userinfo(data: bytes) -> bool:
    """Say whether `find_userinfo` may find something."""
    return _LEAST_USERINFO.search(data) is not None


def _end(expression: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = expression.match(data, at)
    return at if match is None else match.end()
