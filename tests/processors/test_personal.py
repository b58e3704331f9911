"""Personal data: found where it was asked for, by check digits where there are any."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability.processors import PERSONAL_SETS, Redactor
from tests.processors.builders import a_span

REDACTOR = Redactor(personal=PERSONAL_SETS)


def redacted(value: object) -> object:
    output = REDACTOR(a_span(value)).input
    return json.loads(bytes(output)) if isinstance(output, msgspec.Raw) else output


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("email", "me@example.com"),
        ("email", "first.last+tag@sub.example.co.uk"),
        ("email", "müller@bücher.example"),
        ("phone", "+49 30 1234567"),
        ("phone", "+1-555-123-4567"),
        ("phone", "(555) 123-4567"),
        ("phone", "555.123.4567"),
        ("phone", "0049 (0)30 1234567"),
        ("phone", "030 1234567"),
        ("phone", "06 12 34 56 78"),
        ("card", "4111111111111111"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "3400 000000 00009"),
        ("card", "6011000990139424"),
        ("iban", "DE89370400440532013000"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "NO9386011117947"),
        ("ip", "192.168.1.20"),
        ("ip", "2001:db8::8a2e:370:7334"),
        ("ip", "fe80::1ff:fe23:4567:890a"),
    ],
)
def test_personal_data_is_replaced(name: str, text: str) -> None:
    """Where it stands alone, and in a text."""
    for around in ("{}", "it is {}, he said", "x={};", "a\n{}\nb", "({})", '"{}"'):
        expected = around.format(f"[redacted:{name}]")
        assert redacted(around.format(text)) == expected
        assert redacted({"a": [around.format(text)]}) == {"a": [expected]}


@pytest.mark.parametrize(
    "text",
    [
        "me at example.com, @me, a@b",
        "on 2024-11-05 at 10:22:31, or 05/11/2024",
        "1700000000000000000 ns, 1700000000 s, 3.14159265358979",
        "4111111111111112 and 1234567890123456",
        "order 5551234567",
        "DE88370400440532013000 and DE8937040044053201300",
        "version 1.2.3, 1.2.3.4.5, 999.1.1.1, 127.0.0.1 and ::1",
        "a[1::2], std::vector, 12:30:45",
        "3f2b1c9e-7a4d-4e1f-9b2a-0c8d7e6f5a4b",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    """Dates, times, versions, numbers with other check digits."""
    assert redacted(text) == text


def test_a_card_that_is_a_number_is_replaced() -> None:
    """In JSON a card's number may be one."""
    assert redacted({"a": 4111111111111111, "b": 4111111111111112}) == {
        "a": "[redacted:card]",
        "b": 4111111111111112,
    }


def test_nothing_personal_is_replaced_by_default() -> None:
    """It has to be asked for, set by set."""
    span = a_span("me@example.com, +49 30 1234567, 4111111111111111, DE89370400440532013000, 10.1.2.3")
    assert Redactor()(span) is span
    some = Redactor(personal=["ip"])(span).input
    assert isinstance(some, str)
    assert some.endswith("DE89370400440532013000, [redacted:ip]")


def with_check_digit(digits: str) -> str:
    total = sum(
        int(digit) if place % 2 else int(digit) * 2 - 9 * (digit > "4")
        for place, digit in enumerate(reversed(digits))
    )
    return digits + str(-total % 10)


@given(st.sampled_from("3456"), st.text("0123456789", min_size=12, max_size=17), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_card_is_told_by_its_check_digit(first: str, rest: str, wrong: int) -> None:
    """Each number with the right one, and no number with another one."""
    card = with_check_digit(first + rest)
    assert redacted(f"pay with {card} now") == "pay with [redacted:card] now"
    other = card[:-1] + str((int(card[-1]) + wrong) % 10)
    assert redacted(f"pay with {other} now") == f"pay with {other} now"


@given(st.text("0123456789", min_size=18, max_size=18), st.integers(1, 96))
@settings(max_examples=100, deadline=None)
def test_an_iban_is_told_by_its_check_digits(account: str, wrong: int) -> None:
    """Each number with the right ones, and no number with others."""
    check = 98 - int(account + "131400") % 97
    assert redacted(f"to DE{check:02d}{account} now") == "to [redacted:iban] now"
    other = (check - 2 + wrong) % 97 + 2
    assert "[redacted:iban]" not in str(redacted(f"to DE{other:02d}{account} now"))
