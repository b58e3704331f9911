"""Redaction: takes secrets and personal data out of items before they leave the process."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.processors.redaction.personal import PERSONAL_SETS
    from nat_observability.processors.redaction.redactor import Chunks, Redactor
    from nat_observability.processors.redaction.rules import Pattern, Rule
    from nat_observability.processors.redaction.tables.secret_names import DEFAULT_KEYS
    from nat_observability.processors.redaction.tokens import DEFAULT_PATTERNS

__all__ = [
    "DEFAULT_KEYS",
    "DEFAULT_PATTERNS",
    "PERSONAL_SETS",
    "Chunks",
    "Pattern",
    "Redactor",
    "Rule",
]

_HOMES = {
    "nat_observability.processors.redaction.personal": ("PERSONAL_SETS",),
    "nat_observability.processors.redaction.redactor": (
        "Chunks",
        "Redactor",
    ),
    "nat_observability.processors.redaction.rules": (
        "Pattern",
        "Rule",
    ),
    "nat_observability.processors.redaction.tables.secret_names": ("DEFAULT_KEYS",),
    "nat_observability.processors.redaction.tokens": ("DEFAULT_PATTERNS",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
