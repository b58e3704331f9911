"""Processors: functions from an item to the one that may leave the process."""

from nat_observability.processors.content import Capture, ContentSwitch
from nat_observability.processors.pricing import Price, Pricer, PriceTable
from nat_observability.processors.processor import Processor
from nat_observability.processors.redaction.personal import PERSONAL_SETS
from nat_observability.processors.redaction.redactor import Chunks, Redactor
from nat_observability.processors.redaction.rules import Pattern, Rule
from nat_observability.processors.redaction.tables.secret_names import DEFAULT_KEYS
from nat_observability.processors.redaction.tokens import DEFAULT_PATTERNS
from nat_observability.processors.tagger import PrivacyLevel, Tagger
from nat_observability.processors.truncator import Limits, Truncator

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
