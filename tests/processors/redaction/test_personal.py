"""Personal data: found if it was asked for, and if its check digits are valid."""

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
        ("phone", "030 12345"),
        ("phone", "+1 415 555 0132 ext. 12"),
        ("phone", "+1\xa0415\xa0555\xa00132"),
        ("phone", "+1\u2011415\u2011555\u20110132"),
        ("card", "3056 930902 5904"),
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
    """Alone, and in a text."""
    for around in ("{}", "it is {}, he said", "x={};", "a\n{}\nb", "({})", '"{}"', "call {} until May"):
        expected = around.format(f"[redacted:{name}]")
        assert redacted(around.format(text)) == expected
        assert redacted({"a": [around.format(text)]}) == {"a": [expected]}


@pytest.mark.parametrize(
    "iban",
    """
    NO9386011117947 BE68539007547034 DK5000400440116243 FI2112345600000785 NL91ABNA0417164300 SI56263300012039086
    MK07250120000058984 AT611904300234573201 EE382200221020145685 LT121000011101001000 LU280019400644750000
    KZ86125KZT5004100100 XK051212012345678906 CH9300762011623852957 HR1210010051863000160 LI21088100002324013AA
    LV80BANK0000435195001 BG80BNBG96611020345678 BH67BMAG00001299123456 CR05015202001026284066 GB29NWBK60161331926819
    GE29NB0000000101904917 IE29AIBK93115212345678 ME25505000012345678951 RS35260005601001611379
    VA59001123000012345678 AE070331234567890123456 GI75NWBK000000007099453 IL620108000000099999999
    IQ98NBIQ850123456789012 AD1200012030200359100100 CZ6508000000192000145399 ES9121000418450200051332
    MD24AG000225100013104168 PK36SCBL0000001123456702 RO49AAAA1B31007593840000 SA0380000000608010167519
    SE4550000000058398257466 SK3112000000198742637541 TN5910006035183598478831 VG96VPVG0000012345678901
    LY83002048000020100120361 PT50000201231234567890154 IS140159260076545510730339 TR330006100519786457841326
    FR1420041010050500013M02606 GR1601101250000000012300695 IT60X0542811101000000123456 MC5811222000010123456789030
    SM86U0322509800000000270100 MR1300020001010000123456753 AL47212110090000000235698741
    AZ21NABZ00000000137010001944 BY13NBRB3600900000002Z00AB00 CY17002001280000001200527600
    DO28BAGR00000001212453611324 GT82TRAJ01020000001210029690 HU42117730161111101800000000
    LB62099900000001001901229114 PL61109010140000071219812874 BR1800360305000010009795493C1
    QA58DOHB00001234567890ABCDEFG UA213223130000026007233566001 JO94CBJO0010000000000131000302
    KW81CBKU0000000000001234560101 MT84MALT011000012345MTLCAST001S SC18SSCB11010000000000001497USD
    LC55HEMM000100010012001200023015
    """.split(),  # noqa: SIM905  a literal would be four pages
)
def test_the_example_of_each_country_in_the_registry_of_ibans_is_replaced(iban: str) -> None:
    """Whatever the length of its numbers; a number that is one character short stays."""
    assert redacted(f"to {iban}, please") == "to [redacted:iban], please"
    assert "[redacted:iban]" not in str(redacted(f"to {iban[:-1]}, please"))


@pytest.mark.parametrize(
    "text",
    [
        "me at example.com, @me, a@b",
        "on 2024-11-05 at 10:22:31, or 05/11/2024",
        "1700000000000000000 ns, 1700000000 s, 3.14159265358979",
        "4111111111111112 and 1234567890123456",
        "order 5551234567",
        "DE88370400440532013000 and DE8937040044053201300",
        "logo@2x.png",
        "version 1.2.3, 1.2.3.4.5, 999.1.1.1, 127.0.0.1 and ::1",
        "a[1::2], std::vector, 12:30:45",
        "3f2b1c9e-7a4d-4e1f-9b2a-0c8d7e6f5a4b",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    """Dates, times, versions, numbers with other check digits."""
    assert redacted(text) == text


def test_a_card_that_is_a_number_is_replaced() -> None:
    """A card number may be a JSON number."""
    assert redacted({"a": 4111111111111111, "b": 4111111111111112}) == {
        "a": "[redacted:card]",
        "b": 4111111111111112,
    }


def test_nothing_personal_is_replaced_by_default() -> None:
    """Each set must be asked for."""
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
def test_a_card_is_recognised_by_its_check_digit(first: str, rest: str, wrong: int) -> None:
    """Every number with the valid digit, and none with another digit."""
    card = with_check_digit(first + rest)
    assert redacted(f"pay with {card} now") == "pay with [redacted:card] now"
    other = card[:-1] + str((int(card[-1]) + wrong) % 10)
    assert redacted(f"pay with {other} now") == f"pay with {other} now"


@given(st.text("0123456789", min_size=18, max_size=18), st.integers(1, 96))
@settings(max_examples=100, deadline=None)
def test_an_iban_is_recognised_by_its_check_digits(account: str, wrong: int) -> None:
    """Every number with the valid digits, and none with others."""
    check = 98 - int(account + "131400") % 97
    assert redacted(f"to DE{check:02d}{account} now") == "to [redacted:iban] now"
    other = (check - 2 + wrong) % 97 + 2
    assert "[redacted:iban]" not in str(redacted(f"to DE{other:02d}{account} now"))
