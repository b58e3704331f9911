"""How thoroughly properties are tried: with the same few examples each time, or with many that are left to chance."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("TESTS_THOROUGH"))
"""Set by `make test-all`. `make test` has the same examples in each run: what it says is about the change."""


def examples(usually: int, *, thoroughly: int) -> int:
    """Return the number of examples for a property of which many take seconds."""
    return thoroughly if THOROUGH else usually
