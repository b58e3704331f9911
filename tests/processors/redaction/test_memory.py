"""What was found to be harmless is remembered, and hides nothing that comes after it."""

from __future__ import annotations

import json

import msgspec
import pytest

from nat_observability.processors import Redactor
from nat_observability.processors.redaction.memory import MOST, Memory
from tests.processors.builders import a_span

PROSE = "the agent answered a question about the weather in Paris and looked up some documents. "
SECRETS = (
    "sk-proj-" + "Zx81kQ" * 8, "password=hunter2x", "<password>hunter2x</password>", "https://me:hunter2x@db/x",
    "\\u0070assword=hunter2x",
)  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_g13_a_secret_behind_a_remembered_beginning_is_found(secret: str) -> None:
    """Wherever it stands in what is new, also over the border of what was remembered."""
    redactor = Redactor()
    beginning = PROSE * 300
    assert redactor(a_span(beginning)).input == beginning
    for at in range(8192 - 60, 8192 + 60, 7):
        text = beginning[:at] + " " + secret + " " + beginning[at : at + 6000]
        assert "hunter2x" not in str(redactor(a_span(text)).input)
        assert "Zx81kQ" not in str(redactor(a_span(text)).input)


def test_g13_a_name_and_its_value_may_be_in_different_pieces() -> None:
    """The fields of one object, and a tag that is closed far away."""
    redactor = Redactor()
    for name in ("password", "my_phrase_otp"):
        for first in ("value", "name"):
            pair = {"value": "hunter2x", "name": name}
            fields = {first: pair.pop(first), "said": PROSE * 200, **pair}
            assert b"hunter2x" not in msgspec.json.encode(redactor(a_span([fields])))
    closed = f"{PROSE * 90}<password>{'hunter2x' * 2000}</password>"
    assert "hunter2x" not in str(redactor(a_span(closed)).input)


def test_a_growing_history_is_redacted_as_a_new_one() -> None:
    """A message at a time, harmless or not."""
    redactor = Redactor()
    history: list[dict[str, str]] = []
    for number in range(60):
        secret = SECRETS[number % len(SECRETS)] if number % 7 == 6 else "nothing"
        history.append({"role": "user", "content": f"{number} {PROSE * 4} {secret}"})
        got = redactor(a_span(history))
        assert msgspec.json.encode(got) == msgspec.json.encode(Redactor()(a_span(history)))
        assert "hunter2x" not in json.dumps(
            msgspec.to_builtins(got.input, enc_hook=lambda raw: str(bytes(raw)))
        )


@pytest.mark.parametrize("name", ["şifre", "пароль", "密码", "비밀번호"])
def test_g13_a_name_that_is_written_with_escapes_alone_is_known(name: str) -> None:
    """As JSON is by default in Python, in a text."""
    for value in ({name: "hunter2x"}, ["run", f"--{name}", "hunter2x"]):
        assert "hunter2x" not in str(Redactor()(a_span(f"said: {json.dumps(value)}")).input)


def test_it_keeps_the_last_and_is_bounded() -> None:
    """Older ones than the last few thousand are forgotten, except those that were asked for since."""
    memory: Memory[int, int] = Memory()
    for key in range(3 * MOST):
        memory.put(key, key)
        assert memory.get(0) == 0
    assert memory.get(1) is None
    assert all(memory.get(key) == key for key in range(2 * MOST + 1, 3 * MOST))
