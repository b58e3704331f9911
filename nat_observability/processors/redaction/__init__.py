"""Redaction: takes secrets and personal data out of items before they leave the process."""

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
