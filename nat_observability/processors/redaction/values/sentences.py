"""Sentences and passphrases: whether words without quotes are prose, and where those that are secret end."""

from __future__ import annotations

import re

from nat_observability.processors.redaction.values.verdicts import (
    is_mixed,
    is_passphrase,
    is_prose,
    is_word_of_prose,
)

_LINE = re.compile(rb"[^\r\n\\]{0,160}")
_WORD = re.compile(rb"[A-Za-z_]\w*+")
_GROUPS = re.compile(
    rb"(?:[ ](?=[^\s=:]{0,64}[0-9])(?=[^\s=:]{0,64}[A-Za-z&!@#$%^*-])(?![\w-]{1,40}[=:])[^\s\"'`<>=:,;|]{3,64}|["
    rb" ][A-Za-z0-9]{3,6}(?=[ \r\n]|\Z)){1,24}"
    rb"(?=[ \t]*+(?:\r|\n|\\++[nr]|\\*+[\"'`]|\Z))"
)
_REST_OF_PASSPHRASE = re.compile(rb"(?:[ ][a-z]{3,14}){2,11}(?=[ \t]*+(?:\r|\n|\\++[nr]|\\*+[\"'`]|\Z))")
_LEAST_GROUPS = 3
_STRONG_PART = re.compile(rb"[0-9](?=[^ ]*[A-Za-z!@#$%^&*])|[A-Za-z!@#$%^&*](?=[^ ]*[0-9])")


def end_of_passphrase(data: bytes, start: int, end: int) -> int:
    """Return where the words of a passphrase end, if a value without quotes is one to the end of its line."""
    line = _REST_OF_PASSPHRASE.match(data, end)
    if line is not None and is_passphrase(data[start : line.end()]):
        return line.end()
    groups = _GROUPS.match(data, end)
    if groups is None:
        return end
    parts = data[start : groups.end()].split(b" ")
    is_even = len(parts) >= _LEAST_GROUPS and len({len(part) for part in parts}) == 1
    is_strong = all(_STRONG_PART.search(part) is not None for part in parts[1:])
    return groups.end() if is_even or is_strong else end


_AMOUNT = re.compile(rb"[ ]([0-9][^\s]{0,64}?)[.,;:!?)]{0,4}(?:[ ]+([A-Za-z]+)|[ ]|\Z|$)")
_UNITS = frozenset(
    b"characters chars letters digits symbols numbers words bytes bits times attempts tries seconds minutes hours days "
    b"weeks months years or and to of".split()
)


def _is_amount(behind: bytes) -> bool:
    """Say whether what stands behind a word of prose and begins with a digit is a number in a sentence."""
    amount = _AMOUNT.match(behind)
    if amount is None or is_mixed(amount[1]):
        return False
    if amount[1].lower() == b"1password":
        return True
    if amount[1].isdigit() and len(amount[1]) <= _LONGEST_AMOUNT:
        return True
    return amount[2] is not None and (amount[2].lower() in _UNITS or is_word_of_prose(amount[2]))


_LONGEST_AMOUNT = 4  # digits
_COUNTED = re.compile(
    rb"[ ][0-9][^\s\"'`<>\\,;]{0,64}(?:(?:[ ][\w!@#$%^&*.+-]{1,64}){1,8}(?=[ \t]*+(?:\r|\n|\\++[nr]|\\*+[\"'`]|\Z)))?"
)


def end_of_counted(data: bytes, start: int, end: int) -> int:
    """Return where a value ends whose first word is one of prose, if a digit begins the next: my 2dogs."""
    if not is_word_of_prose(data[start:end]):
        return end
    counted = _COUNTED.match(data, end)
    return end if counted is None else counted.end()


def is_sentence(data: bytes, start: int) -> bool:
    """Say whether a value without quotes is a sentence about the secret."""
    line = _LINE.match(data, start)
    text = b"" if line is None else line[0]
    word = _WORD.match(text)
    if word is None:
        return False
    behind = text[word.end() :]
    if is_word_of_prose(word[0]) and behind[:1] == b" " and behind[1:2].isalnum():
        return behind[1:2].isalpha() or _is_amount(behind)
    return behind[:1] == b" " and is_prose(re.split(rb"[.,;!?]\s|[:=]", text)[0])
