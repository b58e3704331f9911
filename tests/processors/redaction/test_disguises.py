"""Disguises: names in the letters of other scripts and behind escapes, and values of which only a part shows."""

from __future__ import annotations

import json
import unicodedata
from typing import Literal

import msgspec
import pytest

from nat_observability.processors import Redactor
from tests.processors.builders import a_span

REDACTOR = Redactor()
PERSONAL = Redactor(personal=["phone"])
SECRET = "k9Xm2Qw7Tz"


def left_of(value: object, redactor: Redactor = REDACTOR) -> str:
    """What a redactor leaves of a value."""
    left = redactor(a_span(value)).input
    return left if isinstance(left, str) else bytes(left or b"").decode()


@pytest.mark.parametrize(
    "text",
    [
        "p\u0430ssword: k9Xm2Qw7Tz",  # a Cyrillic letter
        "\u0440assword=k9Xm2Qw7Tz",
        "\u0440\u0430\u0455\u0455word=k9Xm2Qw7Tz",
        "p\u200b\u0430ssword: k9Xm2Qw7Tz",
        "\u03c4oken=k9Xm2Qw7Tz",  # a Greek one
        "t\u03bfken=k9Xm2Qw7Tz",
        "pa\u0301ssword: k9Xm2Qw7Tz",  # with an accent above it
        "\u041f\u0440\u0438\u0432\u0435\u0442, p\u0430ssword: k9Xm2Qw7Tz",
    ],
)
def test_letters_of_other_scripts_hide_no_name(text: str) -> None:
    """They look like those of the name, in texts and in names of fields."""
    assert SECRET not in left_of(text)
    name, _, _ = text.partition(":" if ":" in text else "=")
    assert SECRET not in left_of({name: SECRET})


@pytest.mark.parametrize(
    "name",
    [
        "contrase\u00f1a",
        "\u015fifreniz",
        "m\u1eadt kh\u1ea9u",
        "cl\u00e9 d'acc\u00e8s",
        "\u03ba\u03c9\u03b4\u03b9\u03ba\u03cc\u03c2",
        "\u30d1\u30b9\u30ef\u30fc\u30c9",
        "\ube44\ubc00\ubc88\ud638",
        "\u043f\u0430\u0440\u043e\u043b\u0430",
        "l\u00f6senord",
        "mot de passe",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_apart_hide_no_name(name: str, form: Literal["NFC", "NFD"]) -> None:
    """As some file systems and keyboards write them: in texts, after other words, and in names of fields."""
    written = unicodedata.normalize(form, name)
    for text in (
        f"{written}: {SECRET}",
        f"{written}={SECRET}",
        json.dumps({written: SECRET}, ensure_ascii=False),
    ):
        assert SECRET not in left_of(text)
        assert SECRET not in left_of("words of a text " * 30 + "\n" + text)
    assert SECRET not in left_of([{"a": 1, written: SECRET}])


@pytest.mark.parametrize(
    "text",
    [
        'x = "\\160assword: k9Xm2Qw7Tz"',
        's = "\\160\\141\\163\\163word=k9Xm2Qw7Tz"',
        '"\\N{LATIN SMALL LETTER P}assword: k9Xm2Qw7Tz"',
        "\\x{70}assword=k9Xm2Qw7Tz",
        "\\u{70}assword=k9Xm2Qw7Tz",
        "\\uu0070assword=k9Xm2Qw7Tz",
    ],
)
def test_escapes_of_code_hide_no_name(text: str) -> None:
    """In octal, by the name of the character, in brackets, and as Java writes them."""
    assert SECRET not in left_of(text)
    assert SECRET not in left_of(json.dumps({"text": text}))


@pytest.mark.parametrize(
    "text",
    [
        "\u041f\u0440\u0438\u0432\u0435\u0442, Python",
        "\u03b1 = 0.05 and \u03b2-version",
        "C:\\100\\200\\300",
        "re.sub(r'\\101\\102', x)",
        "\\N{NO SUCH CHARACTER} token",
    ],
)
def test_other_scripts_and_escapes_stay(text: str) -> None:
    """If they hide nothing."""
    assert left_of(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "password=$(echo -n hunter)k9Xm2Qw7Tz",
        "password=`echo hunter`k9Xm2Qw7Tz",
        "password: (k9Xm2Qw7Tz)",
        "token: <k9Xm2Qw7Tz>",
        "password: Ab=k9Xm2Qw7Tz",
        "password: Y6,N=k9Xm2Qw7Tz",
        'password = "fn%k9Xm2Qw7Tz"',
        "~ password = 'hunter2x' -> 'k9Xm2Qw7Tz'",
        "creds: bob k9Xm2Qw7Tz",
    ],
)
def test_nothing_of_a_value_stays_beside_the_mark(text: str) -> None:
    """Also not on the second pass, which changes nothing."""
    left = left_of(text)
    assert SECRET not in left
    assert left_of(left) == left


@pytest.mark.parametrize("length", [100, 1500, 3000])
def test_long_commands_in_lists_are_read_to_their_end(length: int) -> None:
    """As JSON, as a part of a text, and as the repr of a list."""
    words = [
        "curl",
        "-H",
        "x: " + "a" * length,
        "--data",
        "b" * 900,
        "-u",
        f"bob:{SECRET}",
        "https://example.com",
    ]
    for value in ({"argv": words}, f"run {json.dumps(words)}", f"run {words}"):
        assert SECRET not in left_of(value)


@pytest.mark.parametrize(
    "value",
    [
        {"phone": "4155550132"},
        {"phone": 4155550132},
        {"phoneNumber": "4155550132"},
        {"contact": {"tel": "4155550132"}},
        {"home_phone": "4155550132"},
        "<phone>4155550132</phone>",
        "mobile-number: 4155550132",
    ],
)
def test_a_name_tells_that_digits_are_a_phone_number(value: object) -> None:
    """In JSON and in text, also if nothing is between the digits."""
    assert "4155550132" not in left_of(value, PERSONAL)


def test_other_names_tell_nothing_about_digits() -> None:
    """They may be any number."""
    value = {"microphone": "4155550132", "phone_id": "4155550132", "calls": 4155550132}
    assert msgspec.json.decode(left_of(value, PERSONAL)) == value


@pytest.mark.parametrize(
    "text",
    [
        "user,pass\nbob,k9Xm2Qw7Tz\n",
        "| user | pass |\n|---|---|\n| bob | k9Xm2Qw7Tz |\n",
        "class A:\n    pass: str = 'k9Xm2Qw7Tz'\n",
        "ENV PASS k9Xm2Qw7Tz\n",
        "<label>Pass</label><span>k9Xm2Qw7Tz</span>",
        '{"headers": [["pass", "k9Xm2Qw7Tz"]]}',
    ],
)
def test_pass_names_what_can_only_be_a_password(text: str) -> None:
    """Wherever a name may stand."""
    assert SECRET not in left_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "suite,pass,fail\nunit,12,0\n",
        "| test | pass |\n|---|---|\n| a | 12/15 |\n",
        "pass: str = 'ok'",
        "ENV PASS 3\n",
        '{"results": ["pass", "fail"]}',
        "API key created 2024-05-01T10:00:00Z",
        "The signature sha256withRSA2048 is checked",
        "error for user12345",
        "mysql -prod",
        "mongo -p 27017",
        "https://user:pass@example.com",
        "cookie: chocolate chip",
        "requests.get(url, auth=(user, password))",
        "kind: Secret\nmetadata:\n  name: db\ntype: Opaque",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    """Counts and verdicts of tests, times, algorithms, ports, and examples."""
    assert left_of(text) == text
