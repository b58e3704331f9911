"""Redactor: takes out of an item what must not leave the process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from nat_observability.events import Item
from nat_observability.processors.pattern import Pattern
from nat_observability.processors.rule import Rule

DEFAULT_KEYS: tuple[str, ...] = ()
DEFAULT_PATTERNS: tuple[Pattern, ...] = ()
PERSONAL_SETS: tuple[str, ...] = ("email", "phone", "card", "iban", "ip")

Chunks = Literal["withhold", "scan"]
"""What becomes of the chunks of raw steps: each is replaced by a mark, or searched as if it stood alone."""


class Redactor:
    """
    Replaces what is secret in an item, in every text and every JSON value of it, by a mark.

    A key is matched without regard to case and to the separators `-`, `_`, `.` and space; `*` and `?` stand for any
    characters and for one. What is under it is replaced as a whole, in JSON, in JSON inside strings, in query
    strings, headers and assignments in text. What a pattern matches is replaced wherever it stands.

    Args:
        keys: Names of fields whose values are secret.
        patterns: What is secret wherever it stands.
        personal: Sets of personal data to take out too: email, phone, card, iban, ip.
        hash_key: Marks get a hash of what they replace, keyed with this, so that equal values can be told. Only who
            has the key can try out what a hash stands for. Never shown in a repr.
        rules: Changes to the above in some runs, in order.
        chunks: Of raw steps. A secret can be split over two chunks, which are separate items, so that nothing that
            looks at one of them finds it: they are withheld unless this is "scan". A span has its chunks joined.

    Raises:
        InvalidPatternError: A pattern is not as it should be, or two of them have the same name.
        UnknownPersonalSetError: There is no set of personal data of that name.
    """

    name = "redact"

    def __init__(
        self,
        *,
        keys: Iterable[str] = DEFAULT_KEYS,
        patterns: Iterable[Pattern] = DEFAULT_PATTERNS,
        personal: Iterable[str] = (),
        hash_key: bytes | None = None,
        rules: Iterable[Rule] = (),
        chunks: Chunks = "withhold",
    ) -> None: ...

    def __call__(self, item: Item) -> Item:
        """Return `item` without its secrets: the same object where it has none."""
        raise NotImplementedError
