"""Prose: values that a sentence or a heading names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import STRONG, label_before, label_of
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_harmless, is_passphrase

IS = (
    rb"(?:[ ](?:is|was|to|as|=)(?: now| still| set to| currently)?:?|[ ]?(?:->|\xe2\x86\x92|=>)|[ ]for"
    rb" [\w ]{1,40}? is:?|[ ](?=\\{0,64}[\"'`]))[ ]{0,2}(?:\*\*)?"
    rb"(?:(\\{0,64}[\"'`]|\xe2\x80\x9c)([^\"'`\n]{3,300}?)(?:\1|\xe2\x80\x9d)|(?=(?:[^\s]{0,200}[0-9!@"
    rb"#$%^&*+~])|(?:[a-z]{3,20}-){2})(?!\[redacted:)([^\s\"'`<>]{5,512}))"
)
_IS = re.compile(IS)
_AS = re.compile(
    rb"(\\{0,64}[\"'`])([^\"'`\n ]{4,300})\1 (?:as|for|is) (?:the|your|my|our|its|a)(?: new)? ([\w ]{1,60})"
)
BELOW = (
    rb":(?:\*\*)?(?:\r?\n|\\{1,8}n){1,2}[ >]{0,4}(?:```\w{0,10}(?:\r?\n|\\{1,8}n))?(\\{0,64}[`\"']?)"
    rb"((?:(?=[^\s]{0,200}[0-9])(?=[^\s]{0,200}[A-Za-z])|(?=(?:[a-z]{3,20}-){2}))[^\s\"'`<>\\:={}()\[\],]{8,512}={0,2}"
    rb"|[0-9]{6,64}|[a-z]{3,14}(?: [a-z]{3,14}){2,11})\1(?=\r?\n|\\{1,8}[nr]|[\"'`]|\s{0,2}\Z|\\{1,8}\")"
)
_BELOW = re.compile(BELOW)
UNDER_HEADING = (
    rb"(?:\r?\n|\\{1,8}n){1,2}(\\{0,64}`?)((?![#>|*-])(?:[^\s`\"'"
    rb"\\]{6,300}|[a-z]{3,14}(?:[ ][a-z]{3,14}){2,11}))\1(?=\r?\n|\\{1,8}[nr]|\"|\Z|\\{1,8}\")"
)
_UNDER_HEADING = re.compile(UNDER_HEADING)
_HEADING = re.compile(rb"(?:^|(?<=\n)|(?<=\\n)|(?<=\"))#{1,6} ([\w -]{2,60})")


def _is_value(text: bytes) -> bool:
    return STRONG.fullmatch(text) is not None or text.count(b"-") >= 2 or is_passphrase(text)


def find_stated(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_IS, data):
        named = label_before(data, match.start(), keys)
        if named is None:
            continue
        label = named[0]
        quote, value = match[1], match[2]
        if quote is not None:
            if (
                match[0].startswith(b" ")
                and match[0].lstrip(b" ")[:1] in b"\\\"'`"
                and (
                    (STRONG.fullmatch(value) is None and value.count(b"-") < 2 and not is_passphrase(value))
                    or data[match.end() : match.end() + 2].lstrip()[:1] in (b":", b"=")
                )
            ):
                continue
            if not is_harmless(keys, label, value) and (b" " not in value or not value[:1].isupper()):
                yield *match.span(2), label
        elif match[3] is not None:
            text = match[3].rstrip(b".,;:!?*_`\\")
            if text.endswith((b")", b"]", b"}")) and not any(sign in text for sign in b"([{"):
                text = text.rstrip(b")]}.,;")
            if (not is_harmless(keys, label, text) and STRONG.fullmatch(text) is not None) or text.count(
                b"-"
            ) >= 2:
                yield match.start(3), match.start(3) + len(text), label


def find_described(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_AS, data):
        words = match[3].split()
        for count in range(min(4, len(words)), 0, -1):
            known = keys.label(b" ".join(words[:count]).decode())
            if known is not None and known not in (UNSURE, LIKELY):
                if not is_harmless(keys, known, match[2]):
                    yield *match.span(2), known
                break


def find_below(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_BELOW, data):
        named = label_before(data, match.start(), keys)
        if named is None or named[0] == LIKELY or is_harmless(keys, named[0], match[2]):
            continue
        if b" " not in match[2] or is_passphrase(match[2]):
            yield *match.span(2), named[0]


def find_under_headings(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for heading in matches(_HEADING, data):
        value = _UNDER_HEADING.match(data, heading.end())
        if value is None:
            continue
        known = label_of(heading[1], keys)
        if known is not None and known != UNSURE and _is_value(value[2]):
            yield *value.span(2), known
