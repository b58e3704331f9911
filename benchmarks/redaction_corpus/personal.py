"""Personal: texts with personal data of each set that users may ask for, and texts that only look like it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """
    A text.

    Attributes:
        set: The set of personal data.
        text: The text.
        secret: What is personal in it, empty if nothing is.
    """

    set: str
    text: str
    secret: str = ""


# The numbers of phones are of the ranges for fiction; those of cards, of the makers' pages for tests.
_PHONES = (
    "+1 415-555-0132",
    "+1 (415) 555-0132",
    "(415) 555-0132",
    "415-555-0132",
    "415.555.0132",
    "1-415-555-0132",
    "+14155550132",
    "+44 20 7946 0958",
    "+44 (0)20 7946 0958",
    "+442079460958",
    "020 7946 0958",
    "07700 900123",
    "+49 30 901820",
    "+49 (0)30 23125 000",
    "030/23125000",
    "+33 1 99 00 12 34",
    "01 99 00 12 34",
    "+34 912 34 56 78",
    "+39 06 1234 5678",
    "+31 20 123 4567",
    "+41 44 668 18 00",
    "+43 1 234567",
    "+46 8 123 456 78",
    "+61 2 5550 1234",
    "+81 3-1234-5678",
    "+91 98765 43210",
    "+86 138 0013 8000",
    "+55 11 91234-5678",
    "0049 30 901820",
    "+1 415 555 0132 ext. 12",
    "+1\u00a0415\u00a0555\u00a00132",
    "+1\u2011415\u2011555\u20110132",
)
_BARE_PHONES = ("4155550132", "2079460958", "0301234567", "9876543210")
_EMAILS = (
    "jane.doe@example.com",
    "jane+news@example.co.uk",
    "JANE@EXAMPLE.ORG",
    "j_d-1@mail.example.museum",
    "o'hara@example.com",
    "jane@xn--bcher-kva.example",
    "jane@bücher.example",
    "1234567@example.net",
)
_CARDS = (
    "4111111111111111",
    "4111 1111 1111 1111",
    "4012-8888-8888-1881",
    "5555555555554444",
    "5105 1051 0510 5100",
    "2223003122003222",
    "378282246310005",
    "3782 822463 10005",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
    "3056 930902 5904",
    "38520000023237",
    "6304000000000000",
    "4111\u00a01111\u00a01111\u00a01111",
)
_IBANS = (
    "DE89370400440532013000",
    "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
    "GB82 WEST 1234 5698 7654 32",
    "FR1420041010050500013M02606",
    "NL91ABNA0417164300",
    "CH9300762011623852957",
    "AT611904300234573201",
    "BE68539007547034",
    "ES9121000418450200051332",
    "IT60X0542811101000000123456",
    "SE4550000000058398257466",
    "NO9386011117947",
    "PL61109010140000071219812874",
)
_ADDRESSES = (
    "203.0.113.7",
    "198.51.100.23",
    "8.8.4.4",
    "2001:db8:85a3::8a2e:370:7334",
    "2001:0db8:0000:0000:0000:ff00:0042:8329",
    "::ffff:203.0.113.7",
    "fe80::1ff:fe23:4567:890a",
)

_AROUND = {
    "plain": "{}",
    "prose": "You can reach her under {} until May.",
    "end": "It is {}.",
    "comma": "Jane Doe, {}, Paris",
    "brackets": "Jane Doe ({})",
    "json": '{{"user": "jane", "contact": "{}"}}',
    "field": "contact={}; lang=en",
    "table": "| Jane | {} |",
    "csv": "jane,{},paris",
    "xml": "<contact>{}</contact>",
    "lines": "Jane Doe\n{}\nParis",
}
_CONTEXTS = {
    "phone": (
        "phone: {}",
        "call me at {} please",
        "Tel. {}",
        '{{"phone_number": "{}"}}',
        "my mobile is {}",
        "WhatsApp {}",
    ),
}

_HARMLESS: dict[str, tuple[str, ...]] = {
    "email": (
        "@bob wrote to @eve",
        "npm install @types/node@20.1.0",
        "user@localhost is not reachable",
        "price: 5 @ 3.50 each",
        "decorated with @property.setter",
        "10:30@room",
        "a@b",
        "image@2x.png",
        "pkg@1.2.3",
    ),
    "phone": (
        "2026-05-01 12:00:00",
        "2026-05-01T12:00:00.123Z",
        "order 77812-2026 shipped",
        "version 1.2.3.4567",
        "192.168.100.200",
        "1741569952",
        "1741569952123",
        "ISBN 978-3-16-148410-0",
        "3.14159265358979",
        "lines 100-200 of 3000",
        "0.0123 -0.0456 0.789",
        "3d6e0853-3ced-4e61-a513-468010b6fb75",
        "02:42:ac:11:00:02",
        "00:01:23.456",
        "12/05/2026 and 13/05/2026",
        "prices 1,234,567.89 and 2 345 678",
        "10.1038/s41586-020-2649-2",
        "SKU 555-0132",
        "room 415, floor 5",
        "x[100] = 200 + 300",
        "sum(10, 20, 30) = 60",
        "2024-2025 season",
        "chapter 3.1.4.1.5",
        "0x1f2e3d4c",
        "row 1 of 1000000",
        "id=507f191e810c19729de860ea",
        "1 2 3 4 5 6 7 8 9 10",
        "score 21-15, 18-21, 21-19",
        "-0.123 456 789",
        "port 8080-8090",
    ),
    "card": (
        "4111111111111112",
        "1741569952123456",
        "0000000000000000",
        "1234 5678 9012 3456",
        "9999999999999995",
        "order 4111-1111",
        "3d6e0853-3ced-4e61-a513-468010b6fb75",
        "1741569952123456789",
        "0.4111111111111111",
        "9780306406157",
    ),
    "iban": (
        "DE89370400440532013001",
        "GB00WEST12345698765432",
        "DE12 is a row",
        "XX82WEST12345698765432",
        "FR14 to FR20",
        "build DE89ABCDEF",
    ),
    "ip": (
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "version 1.2.3",
        "chapter 3.1.4.1.5",
        "12:30:45",
        "a::b in C++",
        "std::vector<int>",
        "999.1.2.3",
        "1.2.3.4.5.6",
        "02:42:ac:11:00:02",
    ),
}


def _samples(name: str, values: tuple[str, ...]) -> list[Sample]:
    return [Sample(name, around.format(value), value) for around in _AROUND.values() for value in values]


PERSONAL: tuple[Sample, ...] = (
    *_samples("email", _EMAILS),
    *_samples("phone", _PHONES),
    *(
        Sample("phone", around.format(value), value)
        for around in _CONTEXTS["phone"]
        for value in (*_PHONES, *_BARE_PHONES)
    ),
    *_samples("card", _CARDS),
    *_samples("iban", _IBANS),
    *_samples("ip", _ADDRESSES),
    *(
        Sample(name, around.format(text))
        for name, texts in _HARMLESS.items()
        for text in texts
        for around in (_AROUND["plain"], _AROUND["prose"], _AROUND["field"])
    ),
)
"""All samples."""
