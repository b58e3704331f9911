"""What was found to be harmless is remembered, and hides nothing that comes after it."""

from __future__ import annotations

import json

import msgspec
import pytest

from nat_observability.processors import Redactor
from nat_observability.processors.redaction.memory import MOST, Beginnings, Memory
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


HISTORY = [{"role": "user", "content": f"{number} {PROSE * 4}"} for number in range(12)]
NUMBERS = [{"n": number, "said": PROSE} for number in range(40)]


def told(value: object, redactor: Redactor | None = None) -> str:
    """What leaves of a value."""
    given = (redactor or Redactor())(a_span(value)).input
    return given if isinstance(given, str) else bytes(given or b"").decode()


@pytest.mark.parametrize(
    "more",
    [
        ["--password", "hunter2x"],
        [{"columns": ["user", "password"], "rows": [["bob", "hunter2x"]]}],
        [{"name": "password", "value": "hunter2x"}],
        [{"content": "the password is hunter2x"}],
        [{"content": "%70assword%3Dhunter2x"}],
        ["password: hunter2x"],
    ],
    ids=str,
)
def test_g13_what_a_known_list_goes_on_with_is_searched(more: list[object]) -> None:
    """Whatever it is, in a list alone and in one inside an object."""
    redactor = Redactor()
    for known in (HISTORY, HISTORY[:10], HISTORY, {"messages": HISTORY}):
        assert told(known, redactor) == told(known)
    for value in ([*HISTORY, *more], {"messages": [*HISTORY, *more]}, {"messages": HISTORY, "more": more}):
        assert "hunter2x" not in told(value, redactor)
        assert told(value, redactor) == told(value)


def test_g13_columns_that_are_known_say_what_is_secret_in_the_rows_beside_them() -> None:
    """The pages of one answer of a database repeat the descriptions of its columns."""
    redactor = Redactor()
    names = ["id", "user", *(f"column_{number}" for number in range(40)), "password"]
    columns = [{"name": name, "type": "varchar", "nullable": True} for name in names]
    for page in range(4):
        row = [str(page), "bob", *(["x"] * 40), f"hunter{page}x"]
        for answer in (
            {"columns": columns, "data": [row]},
            {"schema": columns, "rows": [row], "messages": HISTORY},
        ):
            assert f"hunter{page}x" not in told(answer, redactor)
            assert told(answer, redactor) == told(answer)


def test_g13_a_known_list_that_is_no_utf_8_is_searched_as_text() -> None:
    redactor = Redactor()
    known = b'[{"a":"token: \xff\xfe","b":"' + PROSE.encode() * 40 + b'"},{"c":"password: hunter2x \xff"}]'
    for _ in range(4):
        scrubbed = redactor(msgspec.structs.replace(a_span(), input=msgspec.Raw(known))).input
        assert isinstance(scrubbed, str)
        assert "hunter2x" not in scrubbed


def test_g13_a_list_under_the_name_of_a_secret_is_withheld() -> None:
    """Although nothing was found in it before."""
    redactor = Redactor()
    assert told(HISTORY, redactor) == told({"messages": HISTORY}, redactor)[len('{"messages":') : -1]
    assert told({"password": HISTORY, "a": HISTORY}, redactor).startswith('{"password":"[redacted:password]"')


def test_g13_of_equal_keys_only_the_last_is_passed_on() -> None:
    """Also if the lists under them are known."""
    redactor = Redactor()
    known, other = (msgspec.json.encode(each) for each in (HISTORY, NUMBERS))
    for each in (HISTORY, NUMBERS) * 2:
        told(each, redactor)
    twice = msgspec.Raw(b'{"a":' + known + b',"api_key":"x1","a":' + other + b',"api_key":"hunter2x"}')
    scrubbed = bytes(redactor(msgspec.structs.replace(a_span(), input=twice)).input or b"")  # type: ignore[arg-type]
    assert b"hunter2x" not in scrubbed
    assert scrubbed.count(b'"api_key":') == 1


def test_g13_the_same_surroundings_may_be_of_a_tag_that_is_closed() -> None:
    """What stands far behind a name decides whether it is a tag: no verdict is remembered for it."""
    redactor = Redactor()
    text = f"let all: Vec<token> = read(); {PROSE * 80}"
    assert told(text, redactor) == text
    closed = f"<x>{text}</token>"
    assert told(closed, redactor) == told(closed)


def test_a_name_in_known_surroundings_has_no_value_still() -> None:
    """A secret beside it is found, before and behind, and nothing else is."""
    redactor = Redactor()
    code = f"def read(self):\n    token = self.next()\n    return token\n{PROSE * 20}"
    assert told(code, redactor) == code
    for text in (
        f"password=hunter2x\n{code}",
        f"{code}\npassword=hunter2x",
        code.replace("self.next()", "'hunter2x'"),
    ):
        assert "hunter2x" not in told(text, redactor)
        assert told(text, redactor) == told(text)


@pytest.mark.parametrize(
    "hidden", ["%70assword%3Dhunter2x", "\uff50assword: hunter2x", "pass\u00adword: hunter2x"]
)
def test_g13_what_hides_a_secret_is_found_anywhere_in_a_long_text(hidden: str) -> None:
    """Only the surroundings of escapes and odd characters are searched again."""
    lines = f"{PROSE}\n" * 200
    for at in (0, len(lines) // 2, len(lines)):
        scrubbed = told(f"{lines[:at]} {hidden} {lines[at:]}")
        assert "hunter2x" not in scrubbed
        assert PROSE in scrubbed


def test_beginnings_are_known_by_the_longest_and_bounded() -> None:
    """A text takes the place of the one with which it begins; of many, the last are kept."""
    known = Beginnings()
    assert known.is_new(b"a" * 300)
    assert not known.is_new(b"a" * 400)
    known.put(b"a" * 300)
    known.put(b"a" * 500)
    assert known.length(b"a" * 499) == 0
    assert known.length(b"a" * 501) == 500
    assert known.length(b"b" * 501) == 0
    for number in range(9):
        known.put(b"%d" % number * 500_000)
    assert known.length(b"a" * 501) == 0
    assert known.length(b"8" * 500_000 + b"x") == 500_000
    for number in range(20_000):
        known.is_new(b"new %d" % number)
    assert known.length(b"8" * 500_000 + b"x") == 0


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
