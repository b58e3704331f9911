"""What may leave the process: pure functions from an item to the one that goes on."""

from nat_observability.processors.content import Capture, ContentSwitch
from nat_observability.processors.keys import DEFAULT_KEYS
from nat_observability.processors.pattern import Pattern
from nat_observability.processors.personal import PERSONAL_SETS
from nat_observability.processors.processor import Processor
from nat_observability.processors.redactor import Chunks, Redactor
from nat_observability.processors.rule import Rule
from nat_observability.processors.tagger import PrivacyLevel, Tagger
from nat_observability.processors.tokens import DEFAULT_PATTERNS
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
    "PrivacyLevel",
    "Processor",
    "Redactor",
    "Rule",
    "Tagger",
    "Truncator",
]
