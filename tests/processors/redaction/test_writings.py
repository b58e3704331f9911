"""Many writings: one secret in hundreds of places where people and programs put them, and as many harmless texts."""

from __future__ import annotations

import json
from pathlib import Path

from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.scrubber import Scrubber

SCRUBBER = Scrubber(DEFAULT_KEYS, DEFAULT_PATTERNS, (), Marks(None))
WRITINGS: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("writings.json").read_text(encoding="utf-8")
)
SECRET = "k9Xm2Qw7Tz"


def test_a_secret_is_redacted_wherever_it_is_written() -> None:
    """In configurations, commands, code, markup, tables, logs and chats, in many languages."""
    assert [text for text in WRITINGS["secret"] if SECRET in SCRUBBER.text(text)] == []


def test_a_redacted_text_stays_as_it_is() -> None:
    """A second pass finds nothing in it."""
    once = [SCRUBBER.text(text) for text in WRITINGS["secret"]]
    assert [text for text in once if SCRUBBER.text(text) != text] == []


def test_what_is_about_secrets_is_not_redacted() -> None:
    """Policies, counts, documentation, schemas, labels, and commands without a secret."""
    assert [text for text in WRITINGS["harmless"] if SCRUBBER.text(text) != text] == []
