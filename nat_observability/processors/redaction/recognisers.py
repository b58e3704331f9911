"""The table of recognisers: each form in which the name of a field stands before its value, and what finds it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nat_observability.processors.redaction.expressions import secret_spans
from nat_observability.processors.redaction.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.triggers import Trigger
from nat_observability.processors.redaction.values import SPACE, password_span, value_span
from nat_observability.processors.redaction.verdicts import is_harmless
from nat_observability.processors.redaction.windows import matches, search

# A name begins where a word begins and takes the whole word at once, so that no word is tried twice.
_WORD = rb"[A-Za-z0-9_\x80-\xff][A-Za-z0-9_.\-\x80-\xff]*+"
_WORD_BEGIN = rb"(?:(?<![A-Za-z0-9_.\-\x80-\xff\\])|(?<=\\)(?![nrtbf])|(?<=\\[nrtbf]))[.-]*+"
_WORDS = rb"[A-Za-z0-9_. +\-\x80-\xff]{1,80}+"
_SIGN = rb"(?:=>|:=|={1,3}+|:)"
# Quotes may be escaped, as in JSON inside a text.
_QUOTE = rb"""\\{0,256}+["']"""

# The characters of a name, and of several words.
NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(
    range(0x80, 0x100)
)
_BLANK = b" +"
_WORDS_CHARACTERS = NAME_CHARACTERS + _BLANK
_MOST_WORDS = 4  # of a name without quotes: x amz security token: x
LONGEST_WORDS = 64  # bytes before the last word of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recogniser:
    """
    One form in which the name of a field stands before its value.

    The prefilter is derived from the triggers, the ends of names and the companion; the others find the value.

    Attributes:
        name: What the form is called.
        triggers: One of them is in every text in which the recogniser finds something.
        name_ends: One of them follows every name, after quotes and blanks at most. Empty if `names` finds the names.
        names: Finds the names if nothing certain follows them: one of its groups is the name.
        sign: What stands between a word, the name, and its value. All recognisers that have one share one search.
        opening: What must stand before the name, for those with a `sign`; it ends where the name begins.
        pattern: For the others: matches from the name, its last group, to where the value begins.
        companion: The name of another field that must stand beside the name, in lower case.
        value_end: The literal at which the value ends, if its form does not tell.
        is_apart: Whether the companion may be anywhere, not only next to the name. Such a form is found in JSON only.
        begins: The literal with which the pattern begins, if it is rare.
    """

    name: str
    triggers: tuple[Trigger, ...]
    name_ends: tuple[bytes, ...] = ()
    names: re.Pattern[bytes] | None = None
    sign: bytes = b""
    opening: re.Pattern[bytes] | None = None
    pattern: re.Pattern[bytes] | None = None
    companion: bytes = b""
    value_end: bytes = b""
    is_apart: bool = False
    begins: bytes = b""


_SIGNS = (Trigger(b":"), Trigger(b"="))
_SIGN_CHARACTERS = (b":", b"=")
_VALUE = Trigger(b"alue")

RECOGNISERS: tuple[Recogniser, ...] = (
    # {"password": "x"}, 'password' => 'x', user[password]=x
    Recogniser(
        name="quoted name",
        triggers=_SIGNS,
        name_ends=_SIGN_CHARACTERS,
        sign=rb"""(?:\\{0,256}+["'\]]){1,3}+""" + SPACE + _SIGN,
    ),
    # [("password", "x")], [b"password", b"x"]
    Recogniser(
        name="pair",
        triggers=tuple(Trigger(bracket, rb"""[\s+\\]|[bBrRuUfF]{0,2}["'\\]""") for bracket in (b"[", b"(")),
        name_ends=(b",",),
        sign=rb"""(?:\\{0,256}+["'\]]){1,3}+""" + SPACE + b",",
        opening=re.compile(
            rb"[(\[]" + SPACE + rb"[bBrRuUfF]{0,2}" + _QUOTE + rb"[#A-Za-z0-9_. +\-\x80-\xff\[=@/*]{0,80}\Z"
        ),
    ),
    # **password**: x, `password`: x, *"password"*: x
    Recogniser(
        name="Markdown",
        triggers=_SIGNS,
        name_ends=_SIGN_CHARACTERS,
        sign=rb"(?:" + _QUOTE + rb")?+[*`]{1,8}+[ \t+]{0,8}+" + _SIGN,
    ),
    # password=x, password: x, X-API-Key: x, ?password=x&, Password=x;, --password=x
    Recogniser(
        name="assignment",
        triggers=_SIGNS,
        name_ends=_SIGN_CHARACTERS,
        sign=rb"(?:\s{0,8}+|\+(?=[=:]\+))(?:=>|:=|={1,3}+|:(?!//))",
    ),
    # {"name": "password", "value": "x"}, <a name="password" value="x"/>; in YAML on two lines
    Recogniser(
        name="name and value",
        triggers=(_VALUE,),
        companion=b"value",
        name_ends=(b"value", b"Value"),
        pattern=re.compile(
            rb"""(?:["'](""" + _WORDS + rb")" + _QUOTE
            + rb"|(?<![A-Za-z0-9])(?:[Nn]ame|[Kk]ey|header):[ \t+]{1,8}+(" + _WORDS + rb")(?=\s|\\|,))"
            + SPACE + b",?" + SPACE
            + rb"(?:" + _QUOTE + rb")?[Vv]alue(?:" + _QUOTE + rb")?" + SPACE + b"[:=]"
        ),
    ),
    # {"value": "x", "name": "password"}
    Recogniser(name="value and name", triggers=(_VALUE,), companion=b"value", name_ends=(b'"',), is_apart=True),
    # - - password
    #   - x
    Recogniser(
        name="YAML pair",
        triggers=(Trigger(b"-", rb"[ +]-[ +]"),),
        name_ends=(b"\n", b"\r", b"\t", b"\f", b"\v", b"\\n", b"\\r"),
        pattern=re.compile(
            rb"-[ +]-[ +](?:" + _QUOTE + rb")?(" + _WORDS + rb")(?:" + _QUOTE + rb")?(?:\s|\\++[nr])" + SPACE + b"-[ +]"
        ),
    ),
    # --password x, ["--password", "x"]; in YAML on two lines
    Recogniser(
        name="flag",
        triggers=(Trigger(b"-", b"-"),),
        begins=b"--",
        names=re.compile(rb"""["']--([^"']{1,256}+)["']|--([A-Za-z\x80-\xff][\w.\-\x80-\xff]*+)"""),
        pattern=re.compile(
            rb"(?:(?<![\w.-])|(?<=\\[nrtbf]))--([A-Za-z\x80-\xff][\w.\-\x80-\xff]*+)"
            + rb"(?:[ \t+]{1,8}+(?!-)|" + _QUOTE + SPACE + b"," + SPACE
            + rb"""(?!\\*+["']-)|(?:""" + _QUOTE + rb")?(?:\r?\n|\\++n)" + SPACE + rb"""-[ +](?!\\*+["']?-))"""
        ),
    ),
    # <password>x</password>, or the end cut off
    Recogniser(
        name="tag",
        triggers=(Trigger(b"<", b"/"), Trigger(b"[", b"cut:")),
        name_ends=(b">",),
        names=re.compile(rb"<([\w.:-]++)\s"),
        pattern=re.compile(rb"<([\w.:-]++)(?:\s[^<>]{0,512})?>(?!</)"),
        value_end=b"</",
    ),
)  # fmt: skip
"""Every form, in the order in which they are tried at one place."""

_BEHIND_VALUE = re.compile(rb"""(?:\\{0,256}+["'])?""" + SPACE + b"[:=]")
_NAMED_BEFORE = re.compile(rb"[Nn]ame:|[Kk]ey:|header:")
_BETWEEN_FIELDS = b" \t\r\n\f\v+\\nrt,\"'"
_LONGEST_BEFORE_VALUE = 1024  # bytes

_SIGNED = [recogniser for recogniser in RECOGNISERS if recogniser.sign]
_SEARCHED = [recogniser for recogniser in RECOGNISERS if recogniser.pattern is not None]
_ASSIGNED = re.compile(
    _WORD_BEGIN + b"(" + _WORD + b")(?:" + b"|".join(b"(" + each.sign + b")" for each in _SIGNED) + b")"
)


def find_assigned(data: bytes, keys: KeyMatcher, start: int = 0, stop: int | None = None) -> Iterator[Found]:
    """Find the values of secret names that a sign follows, for names that end between `start` and `stop`."""
    stop = len(data) if stop is None else stop
    reached = start
    while reached < stop and (match := search(_ASSIGNED, data, reached, stop)) is not None:
        reached = match.end()
        named = _label(data, match, keys)
        if named is None:
            continue
        label, name_begin = named
        opening = _SIGNED[(match.lastindex or 0) - 2].opening
        if opening is not None and opening.search(data, max(0, match.start() - 512), match.start()) is None:
            continue
        if label == UNSURE:
            spans: Iterable[tuple[int, int]] = (password_span(data, match, name_begin),)
        else:
            spans = secret_spans(data, name_begin, match.end(), label, keys)
        for begin, end in spans:
            if end > begin:
                yield begin, end, label
                reached = end


def find_searched(data: bytes, keys: KeyMatcher, *, prefilter: bool = True) -> Iterator[Found]:
    """
    Find the values of secret names by the recognisers that have a pattern of their own.

    Args:
        prefilter: Whether to skip recognisers whose triggers are missing. The result is the same.
    """
    for recogniser in _SEARCHED:
        if recogniser.pattern is None:
            continue
        # A tag is one only if some tag is closed, or may have been before a cut.
        is_skipped = prefilter or recogniser.value_end
        if is_skipped and not any(trigger.is_anywhere_in(data) for trigger in recogniser.triggers):
            continue
        reached = 0
        for match in _matches_of(recogniser, recogniser.pattern, data):
            # Not inside a value that was found: no byte is looked at twice.
            if match.start() < reached:
                continue
            name = _text(match[match.lastindex or 0].replace(b"+", b""))
            label = keys.label(name)
            if label is None:
                continue
            if recogniser.value_end:
                begin, end = match.end(), data.find(recogniser.value_end, match.end())
                end = end if end >= 0 else len(data)
                spans: Iterable[tuple[int, int]] = (
                    () if is_harmless(keys, label, data[begin:end]) else ((begin, end),)
                )
            elif label == UNSURE:
                begin, end = value_span(data, match.start(), match.end(), label)
                spans = () if is_harmless(keys, label, data[begin:end]) else ((begin, end),)
            else:
                spans = secret_spans(data, match.start(), match.end(), label, keys)
            for begin, end in spans:
                if end > begin:
                    reached = end
                    yield begin, end, label


def _matches_of(recogniser: Recogniser, pattern: re.Pattern[bytes], data: bytes) -> Iterator[re.Match[bytes]]:
    """Return all matches of a pattern in order."""
    begins = recogniser.begins
    if not begins:
        if not recogniser.companion or _has_value(data):
            yield from matches(pattern, data)
        return
    # The literal is found in a fraction of the time of an expression that begins with a look behind it.
    at = data.find(begins)
    while at >= 0:
        match = pattern.match(data, at)
        if match is not None:
            yield match
            at = max(at + 1, match.end())
        else:
            at += 1
        at = data.find(begins, at)


def _has_value(data: bytes) -> bool:
    """Say whether a value may follow the name of a field, in quotes or in a line `name: x`."""
    at = data.find(b"alue")
    while at >= 0:
        if _BEHIND_VALUE.match(data, at + 4) is not None:
            before = data[max(0, at - _LONGEST_BEFORE_VALUE) : at - 1]
            between = before[len(before.rstrip(_BETWEEN_FIELDS)) :]
            if (
                len(between) >= _LONGEST_BEFORE_VALUE // 2
                or b'"' in between
                or b"'" in between
                or _NAMED_BEFORE.search(before) is not None
            ):
                return True
        at = data.find(b"alue", at + 4)
    return False


def _label(data: bytes, match: re.Match[bytes], keys: KeyMatcher) -> tuple[str, int] | None:
    """Return the label of a name, and where the name begins; None if it is not secret."""
    name = _text(match[1])
    label = keys.label(name)
    start = match.start(1)
    if label is not None and label not in (UNSURE, LIKELY):
        if start and data[start - 1] in _BLANK:
            # The next token: x, the API key name: x.
            further = next(_last_words(data[max(0, start - LONGEST_WORDS) : start]), b"")
            if further and keys.is_kept(_text(further) + name):
                return None
        return label, match.start()
    if start:
        before = data[start - 1]
        if before in _BLANK:
            # Several words, in quotes or not: {'shared access key': 'x'}, API key: x. A bracket or a comma begins anew.
            words = data[max(0, start - LONGEST_WORDS) : start]
            quote = max(words.rfind(b'"'), words.rfind(b"'"))
            quoted = words[quote + 1 :] if quote >= 0 else b""
            for further in (
                *([quoted] if quoted and not quoted.strip(_WORDS_CHARACTERS) else []),
                *_last_words(words),
            ):
                longer = keys.label(_text(further.translate(None, _BLANK)) + name)
                if longer is not None and longer not in (UNSURE, LIKELY):
                    return longer, start - len(further.lstrip(_BLANK))
        elif label is None and data[max(0, start - 2) : start - 1] == b"\\":
            # Not an escape, but a name after a backslash: DOMAIN\token=x.
            label = keys.label(chr(before) + name)
    return None if label is None else (label, match.start())


def _last_words(text: bytes) -> Iterator[bytes]:
    """Return the last word of `text`, the last two, and so on, each to the end of `text`."""
    at = len(text)
    for _ in range(_MOST_WORDS - 1):
        word_end = len(text[:at].rstrip(_BLANK))
        at = len(text[:word_end].rstrip(NAME_CHARACTERS))
        if at == word_end:
            return
        yield text[at:]


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
