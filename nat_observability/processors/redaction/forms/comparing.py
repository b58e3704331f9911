"""Comparing: what tests and checks compare a secret with: assertEquals("x", password), expect(token).toBe("x")."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import is_telling, label_before, quoted
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.conditions import Condition, both, either, follows
from nat_observability.processors.redaction.names.keys import LIKELY, KeyMatcher
from nat_observability.processors.redaction.names.places import Place
from nat_observability.processors.redaction.text.runs import has_any
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import is_random, is_strong

_QUOTE = rb"[bBrRuUfF@$]{0,2}\\{0,64}[\"'`]"
_GAP = rb"(?:\s|\\{1,8}n){0,8}"
# The functions that compare: assertEquals, require.Equal, strcmp, compare_digest, timingSafeEqual.
_COMPARES = (b"ssert", b"qual", b"cmp(", b"ompare", b"xpect", b"erify", b"hould")
_CALL = rb"\b[A-Za-z_][\w.:!?]{0,60}(?:qual\w{0,24}!?|cmp|ompare\w{0,24}|ssert\w{0,24}!?|erify\w{0,24})[ (]"
# A name, perhaps of a field, and what stands between it and the text behind it.
_NAME = rb"[&*$@]?[A-Za-z_][\w.$>-]{0,80}(?:\(\))?"
_BEFORE_TEXT = rb"(?:\(\))?\s?," + _GAP
_BEHIND = re.compile(
    _CALL
    + _GAP
    + rb"(?:[\w.&]{1,40},\s?)?("
    + _NAME
    + rb")"
    + _BEFORE_TEXT
    + rb"[bBrRuUfF@$]{0,2}(\\{0,64}[\"'`])"
)
_AHEAD = re.compile(
    _CALL
    + _GAP
    + rb"(?:[\w.&]{1,40},\s?)?[bBrRuUfF@$]{0,2}(\\{0,64}[\"'`])([^\"'`\n\\]{5,200})\1\s?,"
    + _GAP
    + rb"("
    + _NAME
    + rb")(?=\s?[,)\r\n]|\\{1,8}n|\Z)"
)
# expect(token).toBe("x"), password.equals("x"), assertThat(password).isEqualTo("x"), passwordField.send_keys("x")
_METHOD = (
    rb"(?:\(\))?(?:[Ff]ield|[Ii]nput|[Bb]ox)?\)?(?:\.(?:to|not|be|should|is|deep|and|eventually)){0,4}\.(?:toBe|toEqual|toStrictEqual|toMatch|toContain"
    rb"|isEqualTo|equals?|Equals|EqualTo|eql|eq|Be|send_keys|sendKeys|fill|type|setValue|clear_and_type)\("
    + _GAP
)
_CHAINED = re.compile(rb"(" + _NAME + rb")" + _METHOD + rb"[bBrRuUfF@$]{0,2}(\\{0,64}[\"'`])")
# "x".equals(password)
_TURNED = re.compile(
    rb"(\\{0,64}[\"'`])([^\"'`\n\\]{5,200})\1\.(?:equals|equalsIgnoreCase|Equals|compareTo|eq|eql\?)\(\s?("
    + _NAME
    + rb")\s?\)"
)
_NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.&*$@>-"
_ENDS = (b"", b",", b")", b"\r", b"\n", b"\\", b"(", b" ")
_TURNS = re.compile(rb"\.(?:equals|equalsIgnoreCase|Equals|compareTo|eq|eql\?)\(\s?\Z")


def _is_behind_text(data: bytes, place: Place) -> bool:
    """Say whether a name is the argument behind a text: assertEquals("x", password), "x".equals(password)."""
    if data[place.end : place.end + 1] not in _ENDS:
        return False
    rest = data[max(0, place.begin - _LONGEST_BEFORE) : place.begin].rstrip(_NAME_CHARACTERS)
    if rest.endswith(b"("):
        return rest.rfind(b".", -24) > 0 and _TURNS.search(rest, max(0, len(rest) - 24)) is not None
    rest = rest.rstrip(b" \t\r\n")
    return rest.endswith(b",") and rest[-2:-1] in (b'"', b"'", b"`") and _is_in_comparison(data, place)


def _is_in_comparison(data: bytes, place: Place) -> bool:
    return has_any(data[max(0, place.begin - 360) : place.begin], _COMPARES)


_LONGEST_BEFORE = 140  # bytes
NEAR_COMPARED = either(
    either(
        both(follows(_BEFORE_TEXT + _QUOTE, b",("), Condition(_is_in_comparison)),
        follows(_METHOD + _QUOTE, b")("),
    ),
    Condition(_is_behind_text),
)
_DIGIT = re.compile(rb"[0-9]")


def is_text(data: bytes, at: int) -> bool:
    """Say whether a text in quotes begins at a place."""
    return data[at : at + 1] in (b'"', b"'", b"`", b"\\")


def find_asserted(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in (*matches(_BEHIND, data), *matches(_CHAINED, data)):
        label = _label(data, match.start(1), match.end(1), keys)
        if label is not None:
            for start, end, _ in quoted(data, match.end(), match[2], label, keys):
                if _is_compared(label, data[start:end]):
                    yield start, end, label
    for match in (*matches(_AHEAD, data), *matches(_TURNED, data)):
        label = _label(data, match.start(3), match.end(3), keys)
        if label is not None and _is_compared(label, match[2]):
            yield *match.span(2), label


def _label(data: bytes, start: int, end: int, keys: KeyMatcher) -> str | None:
    """Return the label of a name in code, whose last part counts: user.password, cfg->token(), passwordField."""
    name = data[start:end].removesuffix(b"()")
    for last in (b"Field", b"_field", b"Input", b"_input", b"Box"):
        name = name.removesuffix(last)
    last_part = max(name.rfind(b"."), name.rfind(b">")) + 1
    named = label_before(name, len(name), keys, 1) if last_part < len(name) else None
    return None if named is None or named[0] == LIKELY else named[0]


def _is_compared(label: str, value: bytes) -> bool:
    """Say whether a text is not just a word, as that of a token of a parser is."""
    if label.startswith("tok") or label.endswith("token"):
        return is_random(value) or is_strong(value)
    return is_telling(value) and _DIGIT.search(value) is not None
