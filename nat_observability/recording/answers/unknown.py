"""note_unknown(): the types that were not understood, each of which is logged once."""

from __future__ import annotations

from typing import Any

from nat_observability.logs import get_logger
from nat_observability.recording.answers.fields import type_name

_MAX_TYPES = 256
_noted: set[tuple[str, str]] = set()


def note_unknown(what: str, value: Any) -> None:
    """
    Log that an answer, a usage or documents of this type are not understood, once for each type.

    Args:
        what: answer, usage, stream or documents.
    """
    seen = what, type_name(value)
    if seen not in _noted and len(_noted) < _MAX_TYPES:
        _noted.add(seen)
        get_logger().warning("answer_not_understood", what=what, type=seen[1])
