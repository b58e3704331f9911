"""Near: the label of the name that stands before a place, and the value that begins there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.names.places import NAME_CHARACTERS
from nat_observability.processors.redaction.text.token_words import is_random_token
from nat_observability.processors.redaction.values.verdicts import is_harmless
from nat_observability.processors.redaction.values.words import end_of_pieces, end_of_quotes

LONGEST_NAME = 96  # bytes
LONGEST_VALUE = 1024  # bytes
_MOST_WORDS = 5  # of a name
# What may stand between a name and what follows it.
_AROUND_NAMES = b" 	:*`\"'\\"
_MOST_AROUND = 12
QUOTE = rb"\\{0,64}[\"'`]"
STRONG = re.compile(
    rb"(?=[^\s]{0,200}[0-9!@#$%^&*+_~])(?=[^\s]{0,200}[A-Za-z])[^\s\"'`<>]{6,512}|[0-9]{6,64}(?![0-9:.])"
)
_DASHED = re.compile(rb"(?:[A-Za-z]{3,20}-){2,12}[A-Za-z]{3,20}")
_LETTERS = re.compile(rb"[A-Za-z]{10,128}")
_BLANKS = re.compile(rb"[ \t]{0,32}")
_WORD = re.compile(rb"[^\s\"'`<>,;|)\]}\\]{1,512}")


def label_before(
    data: bytes, end: int, keys: KeyMatcher, most_words: int = _MOST_WORDS
) -> tuple[str, int] | None:
    """Return the label of the name that ends at `end`, but for a few quotes and signs, and where the name begins."""
    window = data[max(0, end - LONGEST_NAME) : end]
    window = window[window.rfind(b"\n") + 1 :]
    trimmed = window.rstrip(_AROUND_NAMES)
    if len(window) - len(trimmed) > _MOST_AROUND or not trimmed:
        return None
    found: tuple[str, int] | None = None
    at = len(trimmed)
    for count in range(most_words):
        begin = len(trimmed[:at].rstrip(NAME_CHARACTERS))
        if begin == at:
            break
        is_kept, label = keys.of(trimmed[begin:].decode(errors="replace"))
        if is_kept and count < 2 and not trimmed[begin:].lower().startswith((b"use ", b"uses ")):
            return None
        if label is not None and (found is None or found[0] in (LIKELY, UNSURE)):
            found = label, end - len(window) + begin
        if trimmed[begin - 1 : begin] != b" ":
            break
        at = begin - 1
    return None if found is None or found[0] == UNSURE else found


def is_telling(value: bytes) -> bool:
    """Say whether a value shows that it is secret: by its signs and digits, or as a passphrase with dashes."""
    return (
        STRONG.fullmatch(value) is not None
        or _DASHED.fullmatch(value) is not None
        or (_LETTERS.fullmatch(value) is not None and is_random_token(value))
    )


def label_of(name: bytes, keys: KeyMatcher) -> str | None:
    return keys.label(name.replace(b"+", b" ").decode(errors="replace").strip())


def quoted(data: bytes, start: int, quote: bytes, label: str, keys: KeyMatcher) -> Iterator[Found]:
    end = end_of_quotes(data, start, quote[-1:], len(quote) - 1)
    while data[end + len(quote) : end + 2 * len(quote)] == quote:
        end = end_of_quotes(data, end + 2 * len(quote), quote[-1:], len(quote) - 1)
    if (
        start < end < len(data)
        and end - start <= LONGEST_VALUE * 8
        and not is_harmless(keys, label, data[start:end])
    ):
        yield start, end, label


def argument(data: bytes, start: int, end: int, quote: bytes, keys: KeyMatcher) -> Iterator[Found]:
    if quote:
        end = max(end, end_of_quotes(data, start, quote[-1:], len(quote) - 1))
        if end - start > LONGEST_VALUE or b"\n" in data[start:end]:
            return
        end = max(end, end_of_pieces(data, start, end + len(quote)) if len(quote) == 1 else end)
        end -= end > start and data[end - 1 : end] == quote and data.count(quote, start, end) == 1
    if not is_harmless(keys, "password", data[start:end]):
        yield start, end, "password"
