"""Says whether a token is random rather than made of words."""

from __future__ import annotations

import re

from nat_observability.processors.redaction.text.randomness import LEAST_CHANGES

_DIGIT = re.compile(rb"[0-9]")
# Some random tokens have no digit: one in thirty of 20 letters and digits. Their case tells them from words.
_LETTERS_ALONE = re.compile(rb"[A-Za-z]{10,}+")
# words, WORDS, AutoModelForCausalLM, nameOfIt: two or more small letters follow capitals, but for a few words.
_CASED = re.compile(
    rb"[a-z]*+(?:(?:As|At|By|If|In|Is|My|Of|On|Or|To)(?=[A-Z])|[A-Z]++(?:[a-z]{2,}+|s))*+[A-Z]*+"
)
_CHANGE = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")


def is_mixed_token(token: bytes) -> bool:
    """Say whether digits and letters change in a token again and again, as in no words."""
    return len(_CHANGE.findall(token)) >= LEAST_CHANGES


def is_random_token(token: bytes) -> bool:
    """Say whether `token` is not made of words and separators, as sk-learn-pipeline-example is."""
    if _DIGIT.search(token) is not None:
        return True
    return any(_CASED.fullmatch(letters) is None for letters in _LETTERS_ALONE.findall(token))
