"""Argument lists: passwords of commands whose words are strings of a list, as programs start them and log it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from nat_observability.processors.redaction.forms.commands import COMMANDS, LISTED_COMMAND, find_commands
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import KeyMatcher
from nat_observability.processors.redaction.text.windows import matches

# ["mysql", "-pk9Xm2Qw7"], spawn('curl', ['-u', 'bob:k9Xm2Qw7']), and the same inside JSON
_LIST = re.compile(
    rb"(\\{0,64}[\"'])(?:[^\s\"'\\]{0,100}/)?"
    + COMMANDS
    + rb"(?:\.exe)?\1((?:\s{0,8},\s{0,8}\[?\1(?:(?!\1)[^\n]){0,4000}\1){1,256})"
)
_PROGRAM = re.compile(rb"(?:[^\s\"'\\]{0,100}[/\\])?" + COMMANDS + rb"(?:\.exe)?")
_WORD = re.compile(rb"(\\{0,64}[\"'])((?:(?!\1)[^\n]){0,4000})\1")
# A word of the list is one word of the command, whatever is in it.
_APART = b" \t\r\n\"'`|<>;\\"
_AS_ONE_WORD = bytes.maketrans(_APART, b"_" * len(_APART))
_OPTIONS = b"-u -p -P -a -w -k -N -U -E -c --user --proxy-user --auth --cert -pass -A -X".split()
# Their options may be joined, as in -sSu, or their words are known by their place.
_PROGRAMS = (
    b"curl wget lftp smbclient http https xh vault rabbitmqctl sqlplus htpasswd wpa_passphrase nmcli snmpget snmpwalk "
    b"cargo wandb railway".split()
)
ARGUMENT_LITERALS = (
    *(quote + option for quote in (b'"', b"'") for option in _OPTIONS),
    *(program + behind for program in _PROGRAMS for behind in (b'"', b"'", b"\\")),
)
"""One of them is in every list in which something is found."""


def is_command(word: bytes) -> bool:
    """Say whether a word is the name or the path of a program that is given passwords."""
    return _PROGRAM.fullmatch(word) is not None


def find_in_words(words: Sequence[bytes], keys: KeyMatcher) -> Iterator[tuple[int, int, int, str]]:
    """Find what a command shows when its words are one line: the word's number, begin and end in it, and a label."""
    line, begins = bytearray(), []
    for word in words:
        begins.append(len(line))
        line += word.translate(_AS_ONE_WORD) + b" "
    for start, end, label in find_commands(bytes(line), keys, LISTED_COMMAND):
        number = bisect_right(begins, start) - 1
        yield number, start - begins[number], min(end - begins[number], len(words[number])), label


def find_in_argument_lists(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find what is secret in lists that are part of a text."""
    for listed in matches(_LIST, data):
        places = [listed.span(2), *(word.span(2) for word in _WORD.finditer(data, *listed.span(3)))]
        for number, start, end, label in find_in_words([data[slice(*place)] for place in places], keys):
            yield places[number][0] + start, places[number][0] + end, label
