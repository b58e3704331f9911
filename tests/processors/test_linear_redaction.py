"""Bait made from each recogniser of the tables of redaction: its time grows with its length, and no faster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from nat_observability.processors import PERSONAL_SETS, Redactor
from nat_observability.processors.redaction.forms.table import UNNAMED
from nat_observability.processors.redaction.recognisers import RECOGNISERS, Recogniser
from nat_observability.processors.redaction.tokens import AROUND, TOKENS
from tests.processors.builders import a_span

# What follows the repeated part, so that what seemed to match does not.
_NEAR_MISSES = ("", "!", "\n", '"', "}]")
_FILLERS = ("a", "1", " ", '"', "\\", "[", "{", "-", "=")

# Names of secrets of every kind: certain ones, likely ones, short ones, and some of other scripts.
_NAMES = (
    "password", "pass", "pwd", "secret", "token", "key", "api_key", "credential", "cookie", "otp", "pin", "jwt",
    "session", "signature", "seed", "bearer", "code", "authorization", "senha", "пароль", "密码", "비밀번호",
)  # fmt: skip

# What decides at the beginning of a value that it is not secret, or what is secret instead.
_VALUES = (
    "{}:", "{}: ", "{}=f() ", "{}: f(){}: ", '{}:{{"type": "string" ', "{}: Foo = ", "{}: str, ", "{}: this is the {} ",
    "{}=self.x+", "{}: {}: x ", ";{}=a.b ", "|{}: |x", "{}: 'x' 'y' ", "{}: [x, ",
)  # fmt: skip
_ALWAYS = ("value {}: pwd", 'value {}:{{"type": "string"  token')

Bait = tuple[str, str, str]
"""What stands first, what is repeated, what stands last."""


def example_of(pattern: re.Pattern[bytes], name: bytes = b"password") -> bytes:
    """Return a short text that a pattern is about, with a name in its groups if they can hold it."""
    return b"".join(_examples(_parser.parse(pattern.pattern, pattern.flags), name))


def _examples(parsed: Any, name: bytes) -> Iterator[bytes]:
    c = _constants
    for operation, argument in parsed:
        if operation is c.LITERAL:
            yield bytes([argument])
        elif operation in (c.ANY, c.NOT_LITERAL):
            yield b"a"
        elif operation is c.IN:
            yield _member(argument)
        elif operation is c.BRANCH:
            yield from _examples(argument[1][0], name)
        elif operation is c.SUBPATTERN:
            group, _, _, inside = argument
            yield name if group is not None else b"".join(_examples(inside, name))
        elif operation is c.ATOMIC_GROUP:
            yield from _examples(argument, name)
        elif operation in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
            least, most, inside = argument
            yield b"".join(_examples(inside, name)) * (least or min(1, most))


def _member(members: Sequence[tuple[Any, Any]]) -> bytes:
    c = _constants
    if members[0][0] is c.NEGATE:
        return b"a"
    for operation, argument in members:
        if operation is c.LITERAL:
            return bytes([argument])
        if operation is c.RANGE:
            return bytes([argument[0]])
    return b"a" if members[0][1] is not c.CATEGORY_SPACE else b" "


def of_form(form: Recogniser) -> list[str]:
    """Return texts that a recogniser of named values is about."""
    texts: list[bytes] = []
    if form.sign:
        opening = b"" if form.opening is None else example_of(form.opening)
        texts.append(opening + b"password" + example_of(re.compile(form.sign)))
    if form.pattern is not None:
        texts.append(example_of(form.pattern))
    if form.value_end:
        texts = [*texts, *(text + b"x" + form.value_end for text in texts)]
    return [text.decode() for text in texts]


def pumped(text: str) -> Iterator[Bait]:
    """Make bait of a text: with each of its characters, itself, and what may follow it repeated."""
    for at, character in enumerate(text):
        yield text[:at], character, text[at:]
    for filler in _FILLERS:
        yield text, filler, ""
    yield "", text, ""
    yield "", text[:-1], text[-1:]
    yield "", text + " ", ""
    yield text, text[-1:] + "a", ""


def of_letters(begin: str, example: str, letter: str) -> Iterator[Bait]:
    """Make bait of a token: its letters, its characters and all of it repeated, and one that is too short."""
    yield begin, letter, ""
    yield "", begin, ""
    yield "", begin + " ", ""
    yield "", begin + "-", letter
    yield example[:-1], "!", ""
    yield "", example[:-1] + " ", ""
    yield "", example, ""


def baits() -> dict[str, list[Bait]]:
    """Return the bait of each recogniser, by its name."""
    found: dict[str, list[Bait]] = {}
    for form in RECOGNISERS:
        found[f"form {form.name}"] = [bait for text in of_form(form) for bait in pumped(text)]
    for number, unnamed in enumerate(UNNAMED):
        literals = [literal.decode() for literal in unnamed.literals]
        found[f"form {number} {literals[0]!a}"] = [bait for text in literals for bait in pumped(text)]
    for text in _NAMES:
        found[f"name {text!a}"] = [
            *pumped(f"{text}: "),
            *pumped(f"my {text} is "),
            *pumped(f"<td>{text}</td><td>"),
            *pumped(f"| {text} | "),
        ]
    for value in _VALUES:
        for text in ("password", "cookie", "pwd", "token"):
            found[f"value {value} {text}"] = [("", value.format(text, text), "")]
    for number, token in enumerate(TOKENS):
        begins = token.begins.split()
        found[f"token {number} {token.name}"] = [
            bait
            for begin in begins
            for bait in of_letters(begin, begin + token.example[len(begins[0]) :], "a")
        ]
    for number, around in enumerate(AROUND):
        found[f"inner {number} {around.name}"] = list(of_letters(around.letters, around.example, "a"))
    return found


BAITS = baits()


def some(every: int) -> list[Any]:
    """Return the recognisers, of which only one in so many is not slow."""
    return [
        pytest.param(name, marks=() if number % every == 0 or name in _ALWAYS else pytest.mark.slow)
        for number, name in enumerate(BAITS)
    ]


def taken(bait: Bait, size: int, behind: str) -> float:
    """Return the CPU seconds for bait of so many characters, for a redactor to which it is new."""
    first, repeated, last = bait
    redactor = Redactor(personal=PERSONAL_SETS)
    span = a_span(first + repeated * (size // len(repeated)) + last + behind)
    began = time.process_time()
    redactor(span)
    return time.process_time() - began


def assert_linear(
    bait_of_it: Sequence[Bait], short: int, long: int, near_misses: Sequence[str], enough: float
) -> None:
    """Check that ten times the length takes about ten times as long; quadratic time would be a hundred times."""
    most = 4 * long / short
    for bait in bait_of_it:
        if not bait[1]:
            continue
        for behind in near_misses:
            if taken(bait, long, behind) > enough:
                # The best of several, because the machine may be busy.
                ratio = _best(lambda: taken(bait, long, behind)) / _best(lambda: taken(bait, short, behind))  # noqa: B023
                assert ratio < most, (bait, behind, ratio)


def _best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(3))


def test_there_is_bait_for_every_recogniser() -> None:
    """And it is what they look for: the examples of tokens are redacted, and so is a value after each form."""
    assert len(BAITS) > 200
    assert all(BAITS.values())
    redactor = Redactor()
    for token in TOKENS:
        assert token.example not in str(redactor(a_span(f"x {token.example} x")).input), token
    secret = "k7Xm2Q9wR4tZ8bN3"
    missed = {
        form.name
        for form in RECOGNISERS
        if all(secret in str(redactor(a_span(f"{text}{secret}")).input) for text in of_form(form))
    }
    assert len(missed) <= len(RECOGNISERS) // 3, missed


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", some(90))
def test_bait_takes_time_in_proportion_to_its_length(name: str) -> None:
    """Some recognisers, and short bait; the others, and what is longer, are slow."""
    assert_linear(BAITS[name][::7], 3_000, 30_000, _NEAR_MISSES[:1], 0.03)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("short", "long"), [(10_000, 100_000), (100_000, 1_000_000)], ids=["100k", "1M"])
@pytest.mark.parametrize("name", BAITS)
def test_long_bait_takes_time_in_proportion_to_its_length(name: str, short: int, long: int) -> None:
    """With every near miss."""
    assert_linear(BAITS[name], short, long, _NEAR_MISSES, long / 1e6)
