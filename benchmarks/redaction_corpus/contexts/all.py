"""All contexts, and their groups in the order of the table."""

from __future__ import annotations

from benchmarks.redaction_corpus.contexts import code, data, tools, writing
from benchmarks.redaction_corpus.contexts.base import Context

CONTEXTS: tuple[Context, ...] = (*data.CONTEXTS, *code.CONTEXTS, *tools.CONTEXTS, *writing.CONTEXTS)
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(context.group for context in CONTEXTS))
NOTHING = GROUPS[0]
"""The group in which nothing but the value tells."""
