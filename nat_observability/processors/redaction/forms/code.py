"""Code: the values of declarations, calls and look-ups."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import QUOTE, label_before, label_of, quoted
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.expressions import secret_spans
from nat_observability.processors.redaction.values.spans import end_of_quotes

DECLARED = (
    rb"(?:(?:\[[\w ]{0,16}\])|\s{1,4}(?:\*|\[\])?(?:string|String|byte|char|str|text|VARCHAR(?:\(\w{1,"
    rb"8}\))?|NVARCHAR(?:\(\w{1,8}\))?)|\s?\{\s?get;[^{}]{0,40}\}|\?\s?:\s?[\w |<>]{1,60}?|\s{0,2}(?:\|"
    rb"\||\?\?|&&|\+|\.)|:\s?[A-Z]\w{1,30}<\w{1,30}>)"
    rb"\s{0,4}:?=\s{0,4}(?=\\{0,64}[\"'`@$])"
)
_DECLARED = re.compile(DECLARED)
BEHIND_CALLED = rb"\((?:\s|\\{1,8}n){0,8}[bBrRuUfF]{0,2}(?=\\{0,64}[\"'`])"
_CALLED = re.compile(rb"(?<!\w)([A-Za-z_][\w.]{0,80})" + BEHIND_CALLED)
_SETTER = re.compile(
    rb"(?:^|[._])(?:set|with|add|use|update|change|reset|put|from|Set|With|Add|Use|Update|Change|Reset)(?=[A-Z_])"
)
_WRAPPER = frozenset((b"SecretStr", b"SecretBytes", b"Secret", b"secret", b"Password", b"SecureString"))
_CREDENTIALS = re.compile(
    rb"(?:\b|[._])(?:HTTP)?(?:Basic|Digest|Proxy|Plain)?(?:Auth|Credentials?|UserPassAuth|UsernamePass"
    rb"wordCredentials|NTLMAuth|PlainTextAuthProvider|login|authenticate|auth|basic_auth|set_basic_aut"
    rb"h|setBasicAuth|SetBasicAuth|PlainAuth|Login)\((?:\s|\\{1,8}n){0,8}(\\{0,64}[\"'`])([^\"'`\n]{1,"
    rb"100}?)\1\s?,(?:\s|\\{1,8}n){0,8}(\\{0,64}[\"'`])"
)
BEHIND_LOOKED_UP = (
    rb"\\{0,64}[\"'`]?\s?[)\]]{0,2}\s{0,4}(?:\bor\b|\?\?=?|\|\|=?|\?:|,|\.unwrap_or\(|\.orElse\(|\{)\s{0,4}"
    rb"(?:default\s?=\s?)?\(?(\\{0,64}[\"'`])"
)
LOOKED_UP = (
    rb"(?:getenv|environ\.get|environ|env|ENV|process\.env|import\.meta\.env|Deno\.env\.get|Sys\.geten"
    rb"v|os\.Getenv|get|fetch|config|GetEnvironmentVariable|getProperty)\s?[(\[.]\s?\\{0,64}[\"'`]?([A"
    rb"-Za-z_]\w{0,100})"
)
_OF_LOOKUP = re.compile(LOOKED_UP + BEHIND_LOOKED_UP)


def find_declared(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_DECLARED, data):
        named = label_before(data, match.start(), keys, 1)
        if named is not None:
            for start, end in secret_spans(data, named[1], match.end(), named[0], keys):
                yield start, end, named[0]


def is_setter(name: bytes) -> bool:
    """Say whether a function of that name takes what its name says, and not what leads to it."""
    return name.rpartition(b".")[2] in _WRAPPER or _SETTER.search(name) is not None


def find_calls(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CALLED, data):
        if not is_setter(match[1]):
            continue
        function = match[1].rpartition(b".")[2]
        label = "secret" if function in _WRAPPER else label_of(function, keys)
        if label is None or label == UNSURE:
            continue
        quote = re.compile(QUOTE).match(data, match.end())
        if quote is not None:
            end = end_of_quotes(data, quote.end(), quote[0][-1:], len(quote[0]) - 1)
            # f("name", "value") is a pair.
            if data[end + len(quote[0]) : end + len(quote[0]) + 8].lstrip()[:1] != b",":
                yield from quoted(data, quote.end(), quote[0], label, keys)
    for match in matches(_OF_LOOKUP, data):
        label = label_of(match[1], keys)
        if label is not None and label != UNSURE:
            yield from quoted(data, match.end(), match[2], label, keys)


def find_credentials(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CREDENTIALS, data):
        yield from quoted(data, match.end(), match[3], "password", keys)
