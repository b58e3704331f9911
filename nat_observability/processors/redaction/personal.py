"""Personal data with a form of its own: e-mail and IP addresses, phone numbers, cards and bank accounts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.text.windows import matches

Finder = Callable[[bytes], Iterator[Found]]

_LOCAL = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-&=" + bytes(range(0x80, 0x100))
_DOMAIN = re.compile(rb"(?:[A-Za-z0-9\x80-\xff-]{1,63}+\.){1,8}[A-Za-z\x80-\xff][A-Za-z0-9\x80-\xff-]{1,62}+")
# A picture for a display of high density: logo@2x.png.
_IMAGE = re.compile(rb"\d{1,2}x\.[a-z]{3,4}")
_LONGEST_LOCAL = 64  # bytes (RFC 5321, section 4.5.3.1.1)

# Digits in a row, or in the groups printed on cards: 4-4-4-4 and longer, 4-6-5.
_CARD = re.compile(
    rb"(?<![\d.])(?=(\d{13,19}(?!\d)|\d{4}([ -]|\xc2\xa0)\d{4}\2\d{4}\2\d{1,4}(?:\2\d{1,3})?(?!\d)"
    rb"|3\d{3}([ -]|\xc2\xa0)\d{6}\3\d{4,5}(?!\d)))"
)
_NO_DIGITS = bytes(code for code in range(256) if not 48 <= code <= 57)

# Country codes and the length of their numbers, from the registry at https://www.swift.com/standards/
# data-standards/iban-international-bank-account-number.
_IBAN_LENGTHS = {
    length: words.split()
    for length, words in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
_LENGTH_OF = {
    country.encode(): length for length, countries in _IBAN_LENGTHS.items() for country in countries
}
_IBAN = re.compile(rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))([A-Za-z]{2})\d{2}(?=[ -]?[A-Za-z0-9])")
_ALNUM = re.compile(rb"(?:[ -]|\xc2\xa0)?[A-Za-z0-9]")
_ALNUMS = re.compile(rb"(?:(?:[ -]|\xc2\xa0)?[A-Za-z0-9]){15,33}")
_BETWEEN = b" -\xc2\xa0"
_NUMBERS = {ord("A") + place: str(10 + place) for place in range(26)}

_PHONE = re.compile(rb"(?:(?<![\w.+-])|(?<=\\[nrtbf]))(?:\+|\(|\d)[\d ().\-/]{4,23}\d(?![\w])")
_EXTENSION = re.compile(rb",? {0,2}(?:ext(?:ension)?\.?|x|Durchwahl|poste) {0,2}\d{1,6}(?!\w)", re.IGNORECASE)
_NORTH_AMERICAN = re.compile(rb"(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_NATIONAL = re.compile(rb"(?:\(0\d{2,5}\)|0\d{2,5})(?:[ /-]\d{2,8}){1,4}|0\d(?:[ .-]\d{2}){4}")

# Digits in a row, behind a word that says what they are.
_BARE = re.compile(
    rb"(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))(?:tele)?(?:phone|telefono?|tel|t\xc3\xa9l(?:\xc3\xa9phone)?|mobile?|movil|celular"
    rb"|cell|handy|portable|whatsapp|sms|fax|call|ring|dial|viber|msisdn)"
    rb"(?:[_ -]?(?:number|nummer|numero|num|nr|no|phone|home|work|office|private|[0-9]))?\\{0,8}[\"'.:=)>]{0,4}\s{0,4}"
    rb"(?:(?:me|us|her|him|them|is|at|on|under)"
    rb" ){0,3}\\{0,8}[\"']?"
    rb"(\d{9,12})(?![\w]|[.-]\d)",
    re.IGNORECASE,
)
_IPV4 = re.compile(rb"(?:(?<![\w.])|(?<=\\[nrtbf]))(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    rb"(?:(?<![\w:.])|(?<=\\[nrtbf]))(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:])[0-9A-Fa-f:]{3,39}+(?:(?:\.\d{1,3}){3})?(?![\w:])"
)


def find_emails(data: bytes) -> Iterator[Found]:
    """Find `local@domain.tld`, including international addresses."""
    at = data.find(b"@")
    while at >= 0:
        window = data[max(0, at - _LONGEST_LOCAL) : at]
        local = len(window) - len(window.rstrip(_LOCAL))
        domain = _DOMAIN.match(data, at + 1)
        if local and domain is not None and _IMAGE.fullmatch(domain[0]) is None:
            # An equals sign is allowed in a local part, but usually stands before an address.
            start = at - local
            yield start + data[start:at].rfind(b"=") + 1, domain.end(), "email"
        at = data.find(b"@", at + 1)


def find_phones(data: bytes) -> Iterator[Found]:
    """
    Find phone numbers: with `+` or `00` and a country code, North American, and others with a leading 0.

    Digits without separators are taken for one only behind a word for it: they may be any number.
    """
    for match in matches(_BARE, data):
        yield *match.span(1), "phone"
    for match in matches(_PHONE, data):
        text = match[0].rstrip(b" ().-/")
        for number in dict.fromkeys((text, text.removeprefix(b"("), text.lstrip(b"( "))):
            if _is_phone(number):
                end = match.start() + len(text)
                extension = _EXTENSION.match(data, end)
                yield end - len(number), end if extension is None else extension.end(), "phone"
                break


def _is_phone(text: bytes) -> bool:
    digits = text.translate(None, _NO_DIGITS)
    if text.startswith(b"+"):
        return 8 <= len(digits) <= 15
    if text.startswith(b"00"):
        return 8 <= len(digits) - 2 <= 15
    if _NORTH_AMERICAN.fullmatch(text):
        return True
    return 8 <= len(digits) <= 13 and _NATIONAL.fullmatch(text) is not None


def find_cards(data: bytes) -> Iterator[Found]:
    """Find card numbers, in a row or in the groups printed on cards, with a valid check digit (Luhn)."""
    reached = 0
    for match in matches(_CARD, data):
        start, end = match.span(1)
        if start >= reached and is_card(match[1].translate(None, _NO_DIGITS)):
            reached = end
            yield start, end, "card"


def is_card(digits: bytes) -> bool:
    """Say whether `digits` are a card number: of a known length and network, with a valid check digit."""
    # Payment cards begin with 2 to 6 (ISO/IEC 7812); a time in nanoseconds begins with 1.
    if not 13 <= len(digits) <= 19 or not 0x32 <= digits[0] <= 0x36:
        return False
    total = 0
    for place, code in enumerate(reversed(digits)):
        digit = code - 48
        total += digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4)
    return total % 10 == 0


def find_ibans(data: bytes) -> Iterator[Found]:
    """Find account numbers of the length of their country, with valid check digits (ISO 13616)."""
    for match in matches(_IBAN, data):
        length = _LENGTH_OF.get(match[1].upper())
        if length is None:
            continue
        written = _ALNUMS.match(data, match.start())
        digits = b"" if written is None else written[0].translate(None, _BETWEEN)[:length]
        if len(digits) == length and _is_iban(digits):
            at = match.start()
            for _ in range(length):
                character = _ALNUM.match(data, at)
                at = at if character is None else character.end()
            if not data[at : at + 1].isalnum():
                yield match.start(), at, "iban"


def _is_iban(digits: bytes) -> bool:
    return int((digits[4:] + digits[:4]).decode().upper().translate(_NUMBERS)) % 97 == 1


def find_addresses(data: bytes) -> Iterator[Found]:
    """Find IP addresses of both versions, except those that every machine has."""
    for expression in (_IPV4, _IPV6):
        for match in matches(expression, data):
            if _is_address(match[0].decode()):
                yield *match.span(), "ip"


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified) and len(text) > 5


FINDERS: Mapping[str, Finder] = {
    "email": find_emails,
    "phone": find_phones,
    "card": find_cards,
    "iban": find_ibans,
    "ip": find_addresses,
}
"""The finder of each set of personal data."""

PERSONAL_SETS: tuple[str, ...] = tuple(FINDERS)
