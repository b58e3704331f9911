"""What the value of a secret name may be besides a secret: a verdict, a type, a placeholder, a reference, or prose."""

from __future__ import annotations

import re
from functools import cache

from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.tables.secret_names import (
    DEFAULT_KEYS,
    KEYWORDS,
    SENTENCE_WORDS,
    TYPES,
    VERDICTS,
)
from nat_observability.processors.redaction.text.randomness import LEAST_CHANGES

_VERDICTS, _TYPES, _WORDS = frozenset(VERDICTS), frozenset(TYPES), frozenset(SENTENCE_WORDS)
# Longer ones would not fit an expression that has no limit.
_LONGEST = 512  # bytes

# How much has passed.
_COUNT = re.compile(rb"[0-9]{0,5}(?:[./,:][0-9]{1,6})?\s?(?:%|m?s)?|n/?a", re.IGNORECASE)
_SMALL = re.compile(rb"-?[0-9]{1,3}(?:\.[0-9]{0,18})?(?:e-?[0-9]{1,3})?")
_NUMBERS = (
    "pass",
    "pin",
    "otp",
    "cvv",
    "cvc",
    "csc",
    "code",
    "pw",
    "pwd",
    "passwd",
    "word",
    "phrase",
    "mfa",
    "2fa",
)
_DURATION = re.compile(
    rb"[0-9.,]{1,12}\s?(?:ms|s|m|h|d|sec|min|hours?|days?|seconds?|minutes?|weeks?|%|kb|mb)", re.IGNORECASE
)
_PLACEHOLDER = re.compile(
    rb"""
    [*.\-_?#~=+/|!:;,\s\\]{1,256}            # ***, ..., ---
    |x{3,64}|X{3,64}|x{2,64}(?:[-_]x{2,64}){1,16}
    |\$\{[A-Za-z_][\w.]{0,100}\}|\$\(?[A-Z_][A-Z0-9_]{0,100}\)?|\$env:\w{1,100}|%[A-Z_][A-Z0-9_]{0,100}%
    |\$?\{\{[^{}]{0,200}(?:\}\})?|\$\{\{?|\{[A-Za-z_][A-Za-z_.]{0,100}\}|%\([a-z_]{1,64}\)s|%[sdvq@]|\$[0-9]{1,2}|:[a-z_]{1,64}|[{}\[\]()<>]{1,4}
    |<[A-Za-z_][\w .-]{0,100}/?>|\[[A-Z_a-z][A-Za-z_ .-]{0,100}\]|@[a-z_]{2,64}
    |(?:<|\[)?(?:your|my-own|insert|enter|put|replace|paste|choose|fill)[-_ ].{0,100}
    |.{0,60}[-_ ](?:here|goes[-_ ]here|placeholder)(?:>|\])?
    |[\w-]{0,24}(?:\.{3}|x{4,64}|X{4,64}|\*{3,64}|\xe2\x80\xa6|(?:\xe2\x80\xa2){3,64})[\w]{0,6}
    |changeme[-_]or[-_]not[-_]set
    |vault:[\w/.:-]{1,100}|op://[\w/. -]{1,100}|arn:aws:[\w:/.*-]{1,200}|secretref:[\w-]{1,100}|projects/[\w/.-]{1,200}
    """,
    re.VERBOSE | re.DOTALL,
)
_SCHEME = re.compile(rb"(?:Bearer|Basic|Token|bearer|basic|token) (?=\S)")
_WORDLIKE = re.compile(rb"[A-Za-z][A-Za-z]*(?:[ _-][A-Za-z]+){0,1}|[A-Za-z_]{1,60}")
_SENTENCE = re.compile(rb"[A-Za-z'][A-Za-z']*+")
_IS_PATH = re.compile(rb"(?:[A-Za-z]:[\\/]|~?/|\./|\.\./)[^\s]{0,500}")
_URL = re.compile(rb"https?://[^\s@]{1,400}")
_FUNCTION = re.compile(rb"(?:async )?(?:def|function|fn|func)\b.{0,400}", re.DOTALL)

_TOKEN_CHARACTERS = re.compile(rb"[A-Za-z0-9_+/=~.:$-]{16,512}")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_PIECE = re.compile(rb"[A-Za-z0-9+/=]{10,}")
# Letters and digits in one word, as sentences do not have them.
_MIXED_WORD = re.compile(rb"(?<![A-Za-z0-9_])(?=[A-Za-z_]*[0-9])(?=[0-9_]*[A-Za-z])[A-Za-z0-9_]{8,64}")
_MIXED = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")


def is_random(value: bytes) -> bool:
    """Say whether a value looks like a token: long, of letters and digits that change again and again."""
    if _TOKEN_CHARACTERS.fullmatch(value) is None or _IS_PATH.fullmatch(value) is not None:
        return False
    if _UUID.fullmatch(value) is not None:
        return False
    return any(len(_MIXED.findall(piece)) >= LEAST_CHANGES for piece in _PIECE.findall(value))


def is_prose(text: bytes) -> bool:
    """Say whether a text is a sentence: several words, of which some are those of sentences, not of passphrases."""
    words = _SENTENCE.findall(text[:_LONGEST])
    if len(words) < 3 or b" " not in text or _MIXED_WORD.search(text, 0, _LONGEST) is not None:
        return False
    common = sum(word.lower() in _WORDS for word in words)
    return (
        common >= 1
        and common * 8 >= len(words)
        and sum(map(len, words)) * 3 > len(text[:_LONGEST].strip()) * 2
    )


_PASSPHRASE = re.compile(rb"[a-z]{3,14}(?:[ ][a-z]{3,14}){2,11}")


def is_passphrase(text: bytes) -> bool:
    """Say whether a text is words alone, of which none is one of those of sentences."""
    return _PASSPHRASE.fullmatch(text) is not None and not any(word in _WORDS for word in text.split(b" "))


@cache
def _labels() -> frozenset[str]:
    return KeyMatcher(DEFAULT_KEYS).labels


def is_harmless(keys: KeyMatcher, label: str, value: bytes, *, may_be_prose: bool = True) -> bool:
    """
    Say whether a value is not secret although its name has `label`.

    What the users' own keys name is secret whatever it is.
    """
    if label not in _labels():
        return False
    plain = value.strip(b" \t\r\n)]},;.!*\"'`")
    if label == LIKELY:
        return not is_random(value.strip(b" \t\r\n)]},;.!*\"'`"))
    if len(plain) > _LONGEST:
        return False
    if not plain:
        return not value.strip() or _PLACEHOLDER.fullmatch(value.strip()) is not None
    lower = plain.lower()
    if lower in _VERDICTS or lower in _TYPES:
        return True
    if label == UNSURE and _COUNT.fullmatch(plain) is not None:
        return True
    if _SMALL.fullmatch(plain) is not None:
        return not label.endswith(_NUMBERS)
    stripped = _SCHEME.sub(b"", value.strip())
    if _PLACEHOLDER.fullmatch(stripped) is not None or _DURATION.fullmatch(plain) is not None:
        return True
    if label.endswith("pwd") and _IS_PATH.fullmatch(plain) is not None:
        return True
    if (
        _WORDLIKE.fullmatch(plain) is not None
        and lower != b"pepper"
        and keys.label(plain.decode()) is not None
    ):
        return True
    if label.startswith(("mnemonic", "seed", "recovery", "wallet")):
        return False
    return (may_be_prose and is_prose(plain)) or _FUNCTION.fullmatch(plain) is not None


def is_word_of_prose(word: bytes) -> bool:
    """Say whether a word begins a sentence rather than being a password."""
    return word.lower() in _WORDS


def is_keyword(word: bytes) -> bool:
    """Say whether a word is one of programming languages."""
    return word in _KEYWORDS


_KEYWORDS = frozenset(KEYWORDS)


def is_passing(value: bytes) -> bool:
    """Say whether a value means, after the name `pass`, that something has passed, or how much."""
    plain = value.strip(b" \t\r\n)]},;.!*")
    return plain.lower() in _VERDICTS or _COUNT.fullmatch(plain) is not None
