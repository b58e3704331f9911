"""What was seen in a whole value says of its parts what a look at each of them would."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import msgspec
import pytest

from benchmarks.redaction_corpus.score import cases
from nat_observability.processors import DEFAULT_PATTERNS
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.scrubber import Scrubber
from nat_observability.recording.capture import capture
from tests.processors.redaction.test_engine import KEYS, compiled

pytestmark = pytest.mark.timeout(60)  # the engine is compiled, which a machine that does much else draws out

PROSE = "The agent looked up the weather in Paris \u2014 it\u2019s \u201cfine\u201d, said the user; see §4. "
SECRETS = [case.given for case in cases(0.0006)]


def scrubbers(personal: Sequence[str] = ()) -> list[Scrubber]:
    """One that looks at everything, one with the first look by words, and one with the engine."""
    return [
        Scrubber(KEYS, DEFAULT_PATTERNS, personal, Marks(None), prefilter=is_enabled)
        for is_enabled in (False, True)
    ]


def conversation(chosen: random.Random, *, wide: bool) -> object:
    """Messages, of which some hold a secret, and others are long, hold escapes or lists of their own."""
    messages: list[object] = []
    for _ in range(chosen.randrange(3, 8)):
        harmless = PROSE * chosen.choice((1, 2, 200 if wide else 4))
        kind = chosen.randrange(6)
        content: object = harmless
        if kind == 0:
            content = [harmless, chosen.choice(SECRETS), harmless]
        elif kind == 1:
            content = {"text": json.dumps({"a": [harmless, chosen.choice(SECRETS)]})}
        elif kind == 2:
            content = harmless + '\n"quoted"\t\\ \u200b' + harmless
        elif kind == 3:
            content = [[harmless], [], {}, None, 1.5, "contact jane.doe@example.com"]
        messages.append({"role": "user", "content": content, "n": len(harmless)})
    return chosen.choice((messages, {"messages": messages, "model": "x"}, {"a": {"b": messages}}))


@pytest.mark.parametrize("personal", [(), ("email",)], ids=["default", "personal"])
def test_g13_a_secret_in_a_part_of_a_conversation_is_found(personal: Sequence[str]) -> None:
    """Without any first look, with the one by words, and with the engine, the same is left of all."""
    everything, first = scrubbers(personal)
    chosen = random.Random(11)
    values = [capture(conversation(chosen, wide=number == 0)) for number in range(8)]
    expected = [everything.value(value) for value in values]
    assert sum(left is not value for left, value in zip(expected, values, strict=True)) > 4
    assert [first.value(value) for value in values] == expected
    compiled()
    _, looking = scrubbers(personal)
    assert [looking.value(value) for value in values] == expected


def test_g13_equal_parts_are_told_apart_by_what_is_beside_them() -> None:
    """A value under the name of a secret is one; the same value under another name is not."""
    harmless = "x" * 600 + " y"
    value = msgspec.Raw(
        msgspec.json.encode(
            [{"note": harmless}, {"password": harmless}, {"note": [harmless, {"password": "hunter2x"}]}]
        )
    )
    for scrubber in scrubbers():
        assert msgspec.json.decode(scrubber.value(value) or b"") == [
            {"note": harmless},
            {"password": "[redacted:password]"},
            {"note": [harmless, {"password": "[redacted:password]"}]},
        ]


def test_g13_a_group_of_lines_is_judged_line_by_line() -> None:
    """Whatever the others hold: a secret, an escape, nothing at all."""
    lines = [b"fine", b"", b'{"password":"hunter2x"}', b"a%20b", b"fine", b"Password:", b"hunter2x"]
    _, first = scrubbers()
    assert list(first.search.lines_that_pass(lines)) == [first.passes(line) for line in lines]
