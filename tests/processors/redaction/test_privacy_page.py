"""The privacy page: its example runs, and does what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from nat_observability.processors import DEFAULT_KEYS, Redactor
from tests.processors.builders import RUN, a_span

PAGE = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text()


def test_the_example_does_what_it_says() -> None:
    """Keys, patterns, personal data, hashes and a rule."""
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    redactor = names["redactor"]
    assert isinstance(redactor, Redactor)
    value = {
        "patient_name": "a",
        "SSN": 1,
        "password_hint": "dog",
        "b": "TICKET-1 me@example.com (555) 123-4567",
    }
    everybody = json.loads(bytes(redactor(a_span(value)).input))  # type: ignore[arg-type]
    assert everybody["password_hint"] == "dog"
    assert re.fullmatch(r"\[redacted:patient:[0-9a-f]{16}\]", everybody["patient_name"])
    assert re.fullmatch(r"\[redacted:ssn:[0-9a-f]{16}\]", everybody["SSN"])
    assert re.fullmatch(r"\[redacted:ticket:\w+\] \[redacted:email:\w+\] \(555\) 123-4567", everybody["b"])
    clinic = msgspec.structs.replace(RUN, tags=(("tenant", "clinic"),))
    of_clinic = json.loads(bytes(redactor(a_span(value, run=clinic)).input))  # type: ignore[arg-type]
    assert re.fullmatch(r"TICKET-1 \[redacted:email:\w+\] \[redacted:phone:\w+\]", of_clinic["b"])


def test_what_the_page_says_is_not_found_is_not() -> None:
    """The page is right about the limits."""
    for text in (
        "mail me@example.com",
        "qf8Zk2Lw9Xv4Nc7Tb1Rm",
        "Bearer abc123",
        "my password is swordfish",
    ):
        span = a_span(text)
        assert Redactor()(span) is span


def test_the_page_mentions_the_default_keys() -> None:
    """The page lists what is redacted by name."""
    for word in (
        "password",
        "passphrase",
        "secret",
        "token",
        "api key",
        "cookie",
        "authorization",
        "credential",
    ):
        assert word in PAGE.lower().replace("api keys", "api key")
        assert any(word.replace(" ", "_") in key for key in DEFAULT_KEYS)
