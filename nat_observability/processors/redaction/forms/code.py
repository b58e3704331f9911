"""Code: the values of declarations, calls and look-ups."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import (
    QUOTE,
    is_telling,
    label_before,
    label_of,
    quoted,
)
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.expressions import secret_spans
from nat_observability.processors.redaction.values.words import end_of_quotes

DECLARED = (
    rb"(?:(?:\[[\w ]{0,16}\])|\s{1,4}(?:\*|\[\])?(?:string|String|byte|char|str|text|VARCHAR(?:\(\w{1,"
    rb"8}\))?|NVARCHAR(?:\(\w{1,8}\))?)|\s?\{\s?get;[^{}]{0,40}\}|\?\s?:\s?[\w |<>]{1,60}?|\s{0,2}(?:\|"
    rb"\||\?\?|&&|\+|\.)|:\s?[A-Z]\w{1,30}<\w{1,30}>)"
    rb"\s{0,4}:?=\s{0,4}(?=\\{0,64}[\"'`@$]|\{\s{0,4}0x)"
)
_DECLARED = re.compile(DECLARED)
BEHIND_CALLED = rb"[({](?:\s|\\{1,8}n){0,8}[bBrRuUfF]{0,2}(?=\\{0,64}[\"'`])"
_CALLED = re.compile(rb"(?<![\w\x80-\xff])([A-Za-z_\x80-\xff][\w.\x80-\xff]{0,80})" + BEHIND_CALLED)
_SETTER = re.compile(
    rb"(?:^|[._])(?:set|with|add|use|update|change|reset|put|from|check|verify|validate|hash|compare|test|Set|With|Add|Use"
    rb"|Update|Change|Reset|Check|Verify|Hash)(?=[A-Z_])"
)
# A method of a builder or a constructor with the name itself: .password("x"), std::string password("x").
_THIRD = re.compile(rb"\\{0,64}[\"'`],\s?\\{0,64}[\"'`][^\"'`\n]{1,100}\\{0,64}[\"'`],\s?(\\{0,64}[\"'`])")
_SECOND = re.compile(rb"\\{0,64}[\"'`],\s?(\\{0,64}[\"'`])([^\"'`\n\\]{6,200})\1\s?\)")
_LOOKS_UP = re.compile(
    rb"^_{0,2}(?:get|fetch|load|read|find|create|generate|make|new|parse|require|request|issue|revoke|refresh|decode|has|is|on"
    rb"|handle|render|show|hide|forgot|count|list|delete|remove|rotate|ask|prompt|input|env|lookup|resolve|build|format|mask"
    rb"|redact|encrypt|decrypt|next|expect|accept|skip|match|peek|consume|lex|scan|sign)(?=[A-Z_]|\Z)",
    re.IGNORECASE,
)
_WRAPPER = frozenset((b"SecretStr", b"SecretBytes", b"Secret", b"secret", b"Password", b"SecureString"))
BEHIND_LOOKED_UP = (
    rb"\\{0,64}[\"'`]?\s?[)\]]{0,2}\s{0,4}(?:\bor\b|\?\?=?|\|\|=?|\?:|,|\.unwrap_or(?:_else)?\((?:\|_?\|\s?)?|\.orElse\(|//|\{)\s{0,4}"
    rb"(?:default\s?=\s?)?\(?(\\{0,64}[\"'`])"
)
LOOKED_UP = (
    rb"(?:getenv|environ\.get|environ|env|ENV|process\.env|import\.meta\.env|Deno\.env\.get|Sys\.geten"
    rb"v|os\.Getenv|get|fetch|config|Getenv|env::var|GetEnvironmentVariable|getProperty)\s?[(\[.]\s?\\{0,64}[\"'`]?([A"
    rb"-Za-z_\x80-\xff][\w\x80-\xff]{0,100})"
)
_OF_LOOKUP = re.compile(LOOKED_UP + BEHIND_LOOKED_UP)


def find_declared(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_DECLARED, data):
        named = label_before(data, match.start(), keys, 1)
        if named is not None:
            for start, end in secret_spans(data, named[1], match.end(), named[0], keys):
                yield start, end, named[0]


def find_calls(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CALLED, data):
        function = match[1].rpartition(b".")[2]
        is_plain = function not in _WRAPPER and _SETTER.search(match[1]) is None
        if is_plain and (
            _LOOKS_UP.search(function) is not None
            or not (data[match.start(1) - 1 : match.start(1)] in (b".", b" ") or b"." in match[1])
        ):
            continue
        label = "secret" if function in _WRAPPER else label_of(function, keys)
        if label in (None, UNSURE, LIKELY):
            continue
        quote = re.compile(QUOTE).match(data, match.end())
        if quote is not None:
            end = end_of_quotes(data, quote.end(), quote[0][-1:], len(quote[0]) - 1)
            # f("name", "value") is a pair.
            is_pair = data[end + len(quote[0]) : end + len(quote[0]) + 8].lstrip()[:1] == b","
            if is_pair:
                for last in _THIRD.finditer(data, end, end + 400):
                    yield from quoted(data, last.end(), last[1], label, keys)
                    break
                second = _SECOND.match(data, end)
                if second is not None and not is_plain and is_telling(second[2]):
                    yield *second.span(2), label
            if (is_pair or is_plain) and not is_telling(data[quote.end() : end]):
                continue
            yield from quoted(data, quote.end(), quote[0], label, keys)
    for match in matches(_OF_LOOKUP, data):
        label = label_of(match[1], keys)
        if label is not None and label != UNSURE:
            yield from quoted(data, match.end(), match[2], label, keys)
