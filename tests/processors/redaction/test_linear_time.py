"""Every text takes time in proportion to its length, and never blocks other threads."""

from __future__ import annotations

import string
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from nat_observability.processors import PERSONAL_SETS, Redactor
from nat_observability.processors.redaction.search import MOST_NAMES
from tests.processors.builders import a_span


def mostly_slow(cases: Sequence[str], every: int) -> list[Any]:
    """Return all cases as parameters, of which only one in so many is not slow."""
    return [
        pytest.param(case, id=ascii(case), marks=() if n % every == 0 else pytest.mark.slow)
        for n, case in enumerate(cases)
    ]


# Each is repeated, to make a pattern go over the same text again and again.
UNITS = [
    "a", ":", " ", "a=", "'a=,", '"password=', "password: ", '"', "\\", '\\"', "://a:", "://a:b@", "sk-", "eyJ-",
    "eyJaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "<password>", "<a ", "--password ",
    '"password","value":', "\\u0041", "%41", "%25", "a@", "4 ", "4111 1111 1111 111", "+1 ", "(0", "DE89 ", "1.",
    "1:", "a::", 'password=[', "password={'", '["a",', "bearer ", "Basic aaaaaaaaaaaaaaaa ", "[redacted:password]",
    "password: |\n a\n", "cookie: a\n", "password=a&", "password=a;", "JQQJ9", "JQQJ9-", "abc8Q~", "1:AA",
    "hooks.slack.com/services/", "[", "\\n", "token: ", '"value":', "SG.", "a-", "b'",
    "**", "**a**:", "**password:** ", "`", "``", "password: `", "`password`: ", "password:** ", "*password: **`a", "__",
    "a``:", "password='a''b", "''a", "pass: 'a''b", "<pass>", "--pass 'a'b ",
    "/pass:a", "pass: [", "pass: {'", "x pass:\n- ", "pass: |\n  ",
    "pass: a ", "\npass: a\\n", "pass=", "password: ``a` ", 'token="""', "\\n* **token:**\\n  ",
]  # fmt: skip


def seconds(text: str, personal: Sequence[str] = ()) -> float:
    """Return the CPU seconds for a text that is new to a redactor, alone and in JSON beside a secret."""
    redactor = Redactor(personal=personal)
    spans = [a_span(text), a_span([text, {"password": "x"}])]
    began = time.process_time()
    for span in spans:
        redactor(span)
    return time.process_time() - began


@pytest.mark.parametrize("unit", mostly_slow(UNITS, 9))
def test_time_is_in_proportion_to_the_length(unit: str) -> None:
    """A text that is eight times as long takes about eight times the time; quadratic time would be 64 times."""
    short, long = (unit * (size // len(unit) + 1) for size in (2 * 1024, 16 * 1024))

    def growth() -> float:
        """How many times as long it takes, in the best of several tries: the machine may be busy."""
        times = [min(seconds(text, PERSONAL_SETS) for _ in range(2)) for text in (short, long)]
        return times[1] / times[0]

    assert any(growth() < 30 for _ in range(3))


@pytest.mark.slow
@pytest.mark.timeout(300)  # several megabytes, on a machine that may do much else
@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_a_megabyte_takes_no_longer_than_in_proportion(unit: str) -> None:
    """Also for sizes that occur in practice."""
    short, long = (unit * (size // len(unit) + 1) for size in (64 * 1024, 1024 * 1024))
    # Tried again if the machine was busy with something else meanwhile.
    assert any(seconds(long) < 60 * min(seconds(short) for _ in range(3)) + 0.05 for _ in range(3))


# What stands before a value in each form, and the characters that are repeated there.
BEFORE_VALUES = [
    "", "password=", "password: ", '{"password":', '"password": "', "x-api-key: ", "password={", 'password={"',
    ";password=", "cookie: ", "pass: ", "pass=", "'pass: ", 'pass: "', "--password ", "<password>",
    '"name": "password", "value": ', "name: password\nvalue: ", "- - password\n  - ", '("password", ',
    "(u'password', ", "**Password:** ", "password:\n  ", '"password:\\n  ', "password: |\n  ", '"password: \\"',
    "https://a:", "Bearer ", "sk-", "eyJ", "SG.", "x1b[", "\x1b[", "-----BEGIN PRIVATE KEY-----",
]  # fmt: skip
CHARACTERS = [
    *string.punctuation, *" \t\n\ra9é", "\\n", '\\"', "()", "[]", "([{", "}])", "''", '""'
]  # fmt: skip
# Those that the patterns of names and values are about.
USUAL_BEFORE = [
    "", "password=", '{"password":', 'password={"', "cookie: ", "--password ", "**Password:** ", "password: |\n  ",
    "https://a:", "sk-", "eyJ", "-----BEGIN PRIVATE KEY-----",
]  # fmt: skip
USUAL_CHARACTERS = [*"\"'\\:=,;{[( \n*`-a9", "\\n", '\\"', "([{"]


@pytest.mark.slow
@pytest.mark.timeout(60)  # a hundred and more texts each
@pytest.mark.parametrize("personal", [(), PERSONAL_SETS], ids=["default", "personal"])
@pytest.mark.parametrize("before", BEFORE_VALUES, ids=ascii)
def test_a_value_of_one_character_takes_time_in_proportion(before: str, personal: tuple[str, ...]) -> None:
    """Whatever the character, alone and with a suffix that makes it invalid."""
    assert_in_proportion(before, CHARACTERS, personal)


@pytest.mark.parametrize("before", mostly_slow(USUAL_BEFORE, 6))
def test_a_value_of_one_usual_character_takes_time_in_proportion(before: str) -> None:
    """The same for some of the forms and characters, with everything personal redacted too."""
    assert_in_proportion(before, USUAL_CHARACTERS, PERSONAL_SETS)


def assert_in_proportion(before: str, characters: Iterable[str], personal: tuple[str, ...]) -> None:
    """Check a value of each of these characters, alone and with a suffix that makes it invalid."""

    def taken(character: str, behind: str, size: int) -> float:
        redactor = Redactor(personal=personal)  # one to which it is new
        span = a_span(before + character * (size // len(character)) + behind)
        began = time.process_time()
        redactor(span)
        return time.process_time() - began

    for character in characters:
        for behind in ("", " x", "x1b["):
            # Quadratic time is several times that on any machine.
            if taken(character, behind, 16 * 1024) > 0.02:
                short, long = (
                    min(taken(character, behind, size) for _ in range(3)) for size in (2 * 1024, 16 * 1024)
                )
                assert long < 30 * short, (character, behind)


@pytest.mark.parametrize("character", [")", "]", "}", "\\", '"'])
def test_a_long_value_is_searched_once_however_many_names_are_in_it(character: str) -> None:
    """If names are far apart, and the value of each goes on to the end."""

    def taken(size: int) -> float:
        text = ("password={" + "{" * 6000 + character) * (size // 6000)
        began = time.process_time()
        Redactor()(a_span(text))
        return time.process_time() - began

    short, long = (min(taken(size) for _ in range(2)) for size in (24 * 1024, 192 * 1024))
    assert long < 30 * short


@pytest.mark.parametrize(
    "text",
    ["word " * 2_000_000, "a" * 4_000_000, "token: a, " * 4_000, "%41" * 50_000, "x=1;" * 1_000_000],
    ids=["words", "one word", "assignments", "escapes", "no names"],
)
def test_other_threads_run_meanwhile(text: str) -> None:
    """A long text is searched in pieces, and other threads run between two of them."""
    # A recorded text is cut to 1 MiB; one of other origin may be longer.
    redactor, span = Redactor(), msgspec.structs.replace(a_span(), input=text + " password=x")
    turns = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal turns
        while not stop.wait(0.0001):
            turns += 1

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        sys.setswitchinterval(0.0005)
        before = turns
        output = redactor(span)
        # A search in one go would leave one turn before it and one after.
        assert turns - before > 2
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert isinstance(output.input, str)
    assert output.input.endswith(" password=[redacted:password]")


def test_long_values_are_redacted_to_their_end() -> None:
    """Also if a secret crosses the boundary of two pieces, at any place."""
    redactor = Redactor(personal=["email"])
    key = "sk-" + "a1B2c3D4" * 5
    secrets = (
        f"{key} ",
        f'"api_key": "{key}" ',
        f"postgres://me:{key}@db ",
        f"{key}@example.com ",
        f"--token {key} ",
    )
    for offset in range(0, 60, 14):
        filler = ("word " * 7000)[offset:]
        text = "".join(f"{filler}{secret}" for secret in secrets * 2)
        for value in (text, [{"a": text}]):
            assert key not in msgspec.json.encode(redactor(a_span(value))).decode()


def test_what_follows_too_many_names_is_withheld() -> None:
    """Nothing of it leaves, nothing before it changes for that, and a second pass changes nothing."""
    redactor = Redactor()
    text = "fine\n" + "cookie?\n" * MOST_NAMES + "password: hunter2x\n"
    once = redactor(a_span(text)).input
    assert once == "fine\n" + "cookie?\n" * MOST_NAMES + "[redacted:too_many_names]"
    assert redactor(a_span(once)).input == once
