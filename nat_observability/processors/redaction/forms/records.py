"""Records: values in forms, validation errors, browser actions, variables, JSON keys and Kubernetes secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import STRONG, label_before, label_of, quoted
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_harmless

_MULTIPART = re.compile(
    rb"form-data;\s?name=\\{0,64}\"([^\"\\]{1,100})\\{0,64}\"[^\r\n\\]{0,200}(?:(?:\r?\n|(?:\\{1,8}r)?"
    rb"\\{1,8}n)[^\r\n\\]{1,200}){0,6}(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n){2}([^\r\n\\]{1,4000})"
)
_INPUT_VALUE = re.compile(
    rb"(?:\A|\n|\\n|-> )[ \t]{0,8}([\w.\x80-\xff\[\]-]{1,120})(?::[ ]|(?:\r?\n|\\{1,8}n)[ \t]{1,8})[^\n\\]{0,300"
    rb"}?[\[,; ]"
    rb"input(?:_value)?"
    rb"=(?=(\\{0,64}['\"])?)"
)
_BEHIND_INPUT = re.compile(rb", input_type=|[)\]](?=\s|\\|\Z)")
AUTOMATED = (
    rb"\)\)?\.(?:first\.|nth\(\d\)\.|clear\(\)\.|last\.)?(?:fill|type|send_?[kK]eys|set_?[vV]alue|pres"
    rb"s_sequentially|pressSequentially|input|val|enter_text|addValue|clear_and_type)\((?:\s|\\{1,8}n)"
    rb"{0,8}(\\{0,64}[\"'`])|\)\.(?:value|innerText|textContent)\s?=\s?(\\{0,64}[\"'`])"
)
_AUTOMATED = re.compile(AUTOMATED)
_SELECTED = re.compile(rb"([A-Za-z_\x80-\xff][\w \x80-\xff-]{0,80})[^A-Za-z0-9_\x80-\xff]{0,8}\Z")
_TYPED = re.compile(
    rb"(?:[Tt]yped?|[Ee]nter(?:ed|ing)?|[Ff]illed|[Tt]yping|[Ff]ill(?:ing)?|[Ii]nput(?: text)?|[Pp]ut)\s{1,4}(?:"
    rb"(\\{0,64}[\"'`])([^\"'"
    rb"`\n]{1,300}?)\1|()((?=[^\s]{0,64}[0-9])[^\s\"'`]{5,200}))\s{1,4}(?:in|into|to|for|as)\s{1,4}(?:the\s{1,4})?(\\{0,64}[\"'`]?)"
    rb"([\w #.:-]{1,80})"
)
_VARIABLE = re.compile(
    rb"\b(?:variable|output|resource|data|secret|parameter)\s{1,4}\\{0,64}\"([\w\x80-\xff-]{1,100})\\{0,64}\"\s"
    rb"{0,4}\{[^{}]{0,600}?\b(?:default|value)\s{0,16}=\s{0,4}(\\{0,64}\")"
)
_JWK = re.compile(rb"(\\{0,64}[\"'])(?:d|p|q|dp|dq|qi|k)\1\s{0,4}:\s{0,4}(\\{0,64}[\"'])([\w-]{16,2000})")
_KIND = re.compile(
    rb"(?:\b|(?<=\\[nrt]))(?:stringData\b|kind\\{0,64}[\"']?:[ \t]{0,4}\\{0,64}[\"']?Secret\b)"
)
_DATA = re.compile(
    rb"(?:(?<![A-Za-z])|(?<=\\[nrt]))(?:stringData|data)\\{0,64}[\"']?:"
    rb"(?:[ \t]{0,4}\{(?:\s|\\{1,8}[nr]){0,16}|(?:\s|\\{1,8}[nr]){1,16})"
)
_ENTRY = re.compile(
    rb"([ \t]{0,32}\\{0,64}[\"']?)([\w.-]{1,100})\\{0,64}[\"']?:(?:[ \t]{1,4}|(?=\\{0,64}[\"']))(\\{0,64}[\"']?)"
    rb"([^\s\"'\\,{"
    rb"}|>][^\s\"'\\,{}]{0,8000})\\{0,64}[\"']?,?(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n|\Z|(?=\s|\}))"
)


def find_multipart(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_MULTIPART, data):
        label = label_of(match[1], keys)
        if label is not None and label != UNSURE and not is_harmless(keys, label, match[2]):
            yield *match.span(2), label


def find_input_values(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_INPUT_VALUE, data):
        label = label_of(match[1], keys)
        if label is None or label == UNSURE:
            continue
        if match[2] is not None:
            yield from quoted(data, match.end() + len(match[2]), match[2], label, keys)
        else:
            behind = _BEHIND_INPUT.search(data, match.end(), match.end() + 2000)
            end = 0 if behind is None else behind.start()
            if end > match.end() and not is_harmless(keys, label, data[match.end() : end]):
                yield match.end(), end, label


def find_automated(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_AUTOMATED, data):
        window = data[max(0, match.start() - 120) : match.start()]
        window = window[max(window.rfind(b"\n"), window.rfind(b";")) + 1 :]
        selected = _SELECTED.search(window)
        label = None if selected is None else label_of(selected[1], keys)
        if label is None and b"password" in window.lower():
            label = "password"
        if label is not None and label != UNSURE:
            yield from quoted(data, match.end(), match[1] or match[2], label, keys)
    for match in matches(_TYPED, data):
        group = 2 if match[2] is not None else 4
        words = data[match.start(6) : match.end(6)]
        named = label_before(data, match.end(6), keys) or label_before(
            data, match.start(6) + len(words.rpartition(b" ")[0]), keys
        )
        if (
            named is not None
            and not is_harmless(keys, named[0], match[group])
            and (group == 2 or STRONG.fullmatch(match[group]) is not None)
        ):
            yield *match.span(group), named[0]


def find_variables(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_VARIABLE, data):
        label = label_of(match[1], keys)
        if label is not None and label != UNSURE:
            yield from quoted(data, match.end(), match[2], label, keys)


def find_jwk(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_JWK, data):
        yield *match.span(3), "private_key"


def find_kubernetes(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    reached = 0
    for kind in matches(_KIND, data):
        for block in _DATA.finditer(
            data, max(reached, kind.start() - 4096), min(len(data), kind.end() + 4096)
        ):
            reached = at = block.end()
            while (entry := _ENTRY.match(data, at)) is not None:
                yield *entry.span(4), "secret"
                reached = at = entry.end()
