"""Processors: functions from an item to the one that may leave the process."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.processors.content import Capture, ContentSwitch
    from nat_observability.processors.item_limits import Limits, Truncator
    from nat_observability.processors.pricing import Price, Pricer, PriceTable
    from nat_observability.processors.processor import Processor
    from nat_observability.processors.redaction.personal import PERSONAL_SETS
    from nat_observability.processors.redaction.redactor import Chunks, Redactor
    from nat_observability.processors.redaction.rules import Pattern, Rule
    from nat_observability.processors.redaction.tables.secret_names import DEFAULT_KEYS
    from nat_observability.processors.redaction.tokens import DEFAULT_PATTERNS
    from nat_observability.processors.tagger import PrivacyLevel, Tagger

__all__ = [
    "DEFAULT_KEYS",
    "DEFAULT_PATTERNS",
    "PERSONAL_SETS",
    "Capture",
    "Chunks",
    "ContentSwitch",
    "Limits",
    "Pattern",
    "Price",
    "PriceTable",
    "Pricer",
    "PrivacyLevel",
    "Processor",
    "Redactor",
    "Rule",
    "Tagger",
    "Truncator",
]

_HOMES = {
    "nat_observability.processors.content": (
        "Capture",
        "ContentSwitch",
    ),
    "nat_observability.processors.pricing": (
        "Price",
        "Pricer",
        "PriceTable",
    ),
    "nat_observability.processors.processor": ("Processor",),
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
    "nat_observability.processors.tagger": (
        "PrivacyLevel",
        "Tagger",
    ),
    "nat_observability.processors.item_limits": (
        "Limits",
        "Truncator",
    ),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
