"""The table of recognisers: each form in which the name of a field stands before its value, and what finds it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.conditions import Condition, Conditions
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.names.places import NAME_CHARACTERS, Place
from nat_observability.processors.redaction.text.windows import matches, search
from nat_observability.processors.redaction.values.expressions import secret_spans
from nat_observability.processors.redaction.values.spans import SPACE, password_span, value_span
from nat_observability.processors.redaction.values.verdicts import is_harmless, is_strong

# A name begins where a word begins and takes the whole word at once, so that no word is tried twice.
_WORD = rb"[A-Za-z0-9_\x80-\xff][A-Za-z0-9_.\-\x80-\xff]*+"
_WORD_BEGIN = rb"(?:(?<![A-Za-z0-9_.\-\x80-\xff\\])|(?<=\\)(?![nrtbf])|(?<=\\[nrtbf]))[.-]*+"
_WORDS = rb"[A-Za-z0-9_. +\-\x80-\xff]{1,80}+"
_SIGN = rb"(?:=>|:=|={1,3}+|:)"
# Quotes may be escaped, as in JSON inside a text.
_QUOTE = rb"""\\{0,256}+["']"""

# The characters of several words.
_BLANK = b" +"
_WORDS_CHARACTERS = NAME_CHARACTERS + _BLANK
_MOST_WORDS = 4  # of a name without quotes: x amz security token: x
LONGEST_WORDS = 64  # bytes before the last word of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recogniser:
    """
    One form in which the name of a field stands before its value.

    Attributes:
        name: What the form is called.
        sign: What stands between a word, the name, and its value. All recognisers that have one share one search.
        opening: What must stand before the name, for those with a `sign`; it ends where the name begins.
        pattern: For the others: matches from the name, its last group, to where the value begins.
        near: For those with a pattern: what stands around a name if it matches.
        value_end: The literal at which the value ends, if its form does not tell.
        closings: One of them is in every text with the form.
    """

    name: str
    sign: bytes = b""
    opening: re.Pattern[bytes] | None = None
    pattern: re.Pattern[bytes] | None = None
    near: Condition | None = None
    value_end: bytes = b""
    closings: tuple[bytes, ...] = ()


def _is_flag(data: bytes, place: Place) -> bool:
    return data.find(b"--", place.begin, place.end) >= 0


def _is_tag(data: bytes, place: Place) -> bool:
    at = data.rfind(b"<", max(0, place.begin - LONGEST_WORDS * 4), place.begin)
    return at >= 0 and _IN_TAG.fullmatch(data, at + 1, place.begin) is not None


_IN_TAG = re.compile(rb"[\w.:\x80-\xff-]*")
_BEFORE_YAML_PAIR = re.compile(rb"-[ +]-[ +](?:" + _QUOTE + rb")?" + rb"[A-Za-z0-9_. +\-\x80-\xff]{0,80}\Z")
# What may stand between the last letters of a name and its sign.
_TO_SIGN = re.compile(
    rb"""(?:[ +]{1,64}[\w.\-\x80-\xff]++){0,6}?"""
    rb"""(?:(?:\[[0-9]{1,4}\])?(?:\\++[nrt"'\]`]|["'\]`*\s+])*+(?:[?]?[:=]|[?+|]{1,2}=|<-)|(?:\\*+["'\]]){1,3}+"""
    + SPACE
    + b",)"
)
_TO_VALUE = re.compile(rb"""(?:[ +]{1,8}[\w.\-\x80-\xff]++){0,6}?(?:\\++[nrt"'`]|["',\s+])*+[Vv]alue""")
_LONGEST_TO_SIGN = 1024  # bytes

RECOGNISERS: tuple[Recogniser, ...] = (
    # {"password": "x"}, 'password' => 'x', user[password]=x
    Recogniser(
        name="quoted name",
        sign=rb"""(?:\\{0,256}+["'\]]){1,3}+""" + SPACE + _SIGN,
    ),
    # [("password", "x")], [b"password", b"x"]
    Recogniser(
        name="pair",
        sign=rb"""(?:\\{0,256}+["'\]]){1,3}+""" + SPACE + b",",
        opening=re.compile(
            rb"[(\[]" + SPACE + rb"[bBrRuUfF]{0,2}" + _QUOTE + rb"[#A-Za-z0-9_. +\-\x80-\xff\[=@/*]{0,80}\Z"
        ),
    ),
    # **password**: x, `password`: x, *"password"*: x
    Recogniser(
        name="Markdown",
        sign=rb"(?:" + _QUOTE + rb")?+[*`]{1,8}+[ \t+]{0,8}+" + _SIGN,
    ),
    # password=x, password: x, X-API-Key: x, ?password=x&, Password=x;, --password=x
    Recogniser(
        name="assignment",
        sign=rb"(?:\[[0-9]{1,4}\])?+(?:[ \t]{0,64}+\s{0,8}+|\+(?=[=:]\+))"
        rb"(?:=>|\?:|[?+|]{0,2}+:?={1,3}+|<-(?=\s)|:(?!//|:[A-Za-z_]{1,40}(?![A-Za-z_0-9])))",
    ),
    # {"name": "password", "value": "x"}, <a name="password" value="x"/>; in YAML on two lines
    Recogniser(
        name="name and value",
        near=Condition(
            lambda data, place: _TO_VALUE.match(data, place.end, place.end + _LONGEST_TO_SIGN) is not None,
            b" \t\r\n\x0b\x0c+\\\"'`,",
        ),
        pattern=re.compile(
            rb"""(?:["'](""" + _WORDS + rb")" + _QUOTE
            + rb"|(?<![A-Za-z0-9])(?:[Nn]ame|[Kk]ey|header):[ \t+]{1,8}+(" + _WORDS + rb")(?=\s|\\|,))"
            + SPACE + b",?" + SPACE
            + rb"(?:" + _QUOTE + rb")?[Vv]alue(?:" + _QUOTE + rb")?" + SPACE + b"[:=]"
        ),
    ),
    # - - password
    #   - x
    Recogniser(
        name="YAML pair",
        near=Condition(
            lambda data, place: (
                _BEFORE_YAML_PAIR.search(data, max(0, place.begin - 400), place.begin) is not None
            ),
            ends=b" +\"'",
        ),
        pattern=re.compile(
            rb"-[ +]-[ +](?:" + _QUOTE + rb")?(" + _WORDS + rb")(?:" + _QUOTE + rb")?(?:\s|\\++[nr])" + SPACE + b"-[ +]"
        ),
    ),
    # --password x, ["--password", "x"]; in YAML on two lines
    Recogniser(
        name="flag",
        near=Condition(_is_flag),
        pattern=re.compile(
            rb"(?:(?<![\w.-])|(?<=\\[nrtbf]))--([A-Za-z0-9\x80-\xff][\w.\-\x80-\xff]*+)"
            # Not the text of a help, in a column of its own.
            + rb"(?:(?![ \t]{2,}[A-Za-z]+[ ][a-z]+)[ \t+]{1,8}+(?!-)|" + _QUOTE + SPACE + b"," + SPACE
            # click.option("--password", "-p", default="x"), and not help="x".
            + rb"""(?:\\*+["']-\w\\*+["'],\s{0,4})?(?:(?:default|value)\s?=\s?)?(?!\\*+["']-|"""
            + rb"""[a-z_]{1,20}\s?=(?!=)|[A-Za-z_]{1,40}[,)])|(?:""" + _QUOTE + rb")?(?:\r?\n|\\++n)"
            + SPACE + rb"""-[ +](?!\\*+["']?-))"""
        ),
    ),
    # <password>x</password>, or the end cut off
    Recogniser(
        name="tag",
        near=Condition(_is_tag, ends=b"<:"),
        pattern=re.compile(rb"<([\w.:\x80-\xff-]++)(?:\s[^<>]{0,512})?>(?!</)"),
        value_end=b"</",
        # A tag is one only if some tag is closed, or may have been before a cut.
        closings=(b"</", b"[cut:"),
    ),
)  # fmt: skip
"""Every form, in the order in which they are tried at one place."""

_LONGEST_BEFORE_NAME = 320  # bytes, with quotes
_LOOK_AHEAD = 4  # bytes behind a sign on which it depends

# option("--password", help="x"): another argument, not the value.
_KEYWORD_ARGUMENT = re.compile(rb"\s{0,8}(?!default|value)[a-z_]{1,24}\s?=(?!=)")

_SIGNED = [recogniser for recogniser in RECOGNISERS if recogniser.sign]
_SEARCHED = [recogniser for recogniser in RECOGNISERS if recogniser.pattern is not None]
_CONDITIONS = Conditions(
    (number, recogniser.near) for number, recogniser in enumerate(_SEARCHED) if recogniser.near is not None
)
_ASSIGNED = re.compile(
    _WORD_BEGIN + b"(" + _WORD + b")(?:" + b"|".join(b"(" + each.sign + b")" for each in _SIGNED) + b")"
)


def find_assigned(data: bytes, keys: KeyMatcher, start: int = 0, stop: int | None = None) -> Iterator[Found]:
    """Find the values of secret names that a sign follows, for names that end between `start` and `stop`."""
    stop = len(data) if stop is None else stop
    reached = start
    while reached < stop and (match := search(_ASSIGNED, data, reached, stop)) is not None:
        reached = match.end()
        if reached == stop < len(data):
            # The sign may go on.
            match = _ASSIGNED.match(data, match.start())
            if match is None:
                continue
        named = _label(data, match, keys)
        if named is None:
            continue
        label, name_begin = named
        opening = _SIGNED[(match.lastindex or 0) - 2].opening
        if opening is not None and (
            opening.search(data, max(0, match.start() - 512), match.start()) is None
            or _KEYWORD_ARGUMENT.match(data, match.end()) is not None
        ):
            continue
        if label == UNSURE:
            spans: Iterable[tuple[int, int]] = _unsure_spans(data, match, name_begin, keys)
        else:
            spans = secret_spans(data, name_begin, match.end(), label, keys)
        for begin, end in spans:
            if end > begin:
                yield begin, end, label
                reached = end


def _unsure_spans(
    data: bytes, match: re.Match[bytes], begin: int, keys: KeyMatcher
) -> Iterable[tuple[int, int]]:
    """Return where the value of the name `pass` is: a password by its place, or one by how it looks."""
    start, end = password_span(data, match, begin)
    if end > start:
        return ((start, end),)
    first = max(0, begin - _LONGEST_TO_SIGN)
    window = data[first : match.end() + _LONGEST_TO_SIGN]
    return [
        (start + first, end + first)
        for start, end in secret_spans(window, begin - first, match.end() - first, UNSURE, keys)
        if is_strong(window[start:end])
    ]


def sign_behind(data: bytes, place: Place) -> int | None:
    """Return where the sign between a name at a place and its value may end, None if there is none."""
    match = _TO_SIGN.match(data, place.end, place.end + _LONGEST_TO_SIGN)
    return None if match is None else match.end()


def find_assigned_at(data: bytes, places: Iterable[Place], keys: KeyMatcher) -> Iterator[Found]:
    """Find what `find_assigned` does, for the names at these places."""
    reached = 0
    for place in places:
        # A name may be the value of another: pass=password a=x.
        sign_end = sign_behind(data, place)
        if sign_end is None or sign_end <= reached:
            continue
        for found in find_assigned(data, keys, max(reached, place.begin), sign_end + _LOOK_AHEAD):
            reached = found[1]
            yield found


def is_recogniser_near(data: bytes, place: Place) -> bool:
    """Say whether one of the recognisers may find something at a place."""
    return sign_behind(data, place) is not None or is_searched_near(data, place)


def is_searched_near(data: bytes, place: Place) -> bool:
    """Say whether one of the recognisers that have a pattern of their own may find something at a place."""
    return _CONDITIONS.is_one_holding(data, place)


def searched_near(data: bytes, places: Iterable[Place]) -> Mapping[int, Sequence[Place]]:
    """Return the places at which such a recogniser may find something, in order, by its number."""
    return _CONDITIONS.holding(data, places)


def find_searched_at(data: bytes, near: Mapping[int, Sequence[Place]], keys: KeyMatcher) -> Iterator[Found]:
    """Find what `find_searched` does, at the places that `searched_near` returned."""
    for number, places in near.items():
        recogniser = _SEARCHED[number]
        begun = -1
        stop = reached = 0
        for place in places:
            start = max(0, place.begin - _LONGEST_BEFORE_NAME)
            if begun >= 0 and start > stop:
                for found in _searched(recogniser, data, keys, max(begun, reached), stop):
                    reached = found[1]
                    yield found
                begun = -1
            if begun < 0:
                begun = start
            stop = place.end + _LONGEST_TO_SIGN
        if begun >= 0:
            yield from _searched(recogniser, data, keys, max(begun, reached), stop)


def find_searched(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values of secret names by the recognisers that have a pattern of their own."""
    for recogniser in _SEARCHED:
        yield from _searched(recogniser, data, keys, 0, len(data))


def _searched(
    recogniser: Recogniser, data: bytes, keys: KeyMatcher, start: int, stop: int
) -> Iterator[Found]:
    if recogniser.pattern is None:
        return
    if recogniser.closings and not any(data.find(closing) >= 0 for closing in recogniser.closings):
        return
    reached = 0
    for match in matches(recogniser.pattern, data, start, min(stop, len(data))):
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


_DATE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2})?")
_HOUR = re.compile(rb"[0-9]{1,2}")
_MINUTE = re.compile(rb":[0-9]{2}(?![0-9A-Za-z])")


def _label(data: bytes, match: re.Match[bytes], keys: KeyMatcher) -> tuple[str, int] | None:
    """Return the label of a name, and where the name begins; None if it is not secret."""
    name = _text(match[1])
    label = keys.label(name)
    start = match.start(1)
    if (
        label is not None
        and data[start - 1 : start] == b":"
        and data.find(b"arn:", max(0, start - 100), start) >= 0
    ):
        return None  # a part of the name of a resource
    if _DATE.fullmatch(match[1]) is not None or (
        _HOUR.fullmatch(match[1]) is not None and _MINUTE.match(data, match.end() - 1) is not None
    ):
        return None  # API key created 2026-05-01T10:00
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
                longer = keys.label(_text(further.replace(b"+", b" ")) + name)
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
