"""Contexts: the places in which secrets are given."""

from benchmarks.redaction_corpus.contexts.all import CONTEXTS, GROUPS
from benchmarks.redaction_corpus.contexts.base import Context

__all__ = ["CONTEXTS", "GROUPS", "Context"]
