"""report_slow(): the classes whose own code makes a capture slow, each of which is logged once."""

from __future__ import annotations

from nat_observability.logs import get_logger
from nat_observability.recording.capture.text import class_name

_MAX_CLASSES = 256
_reported: set[str] = set()


def report_slow(value: object) -> None:
    """Log that the code of this value's class, its `__repr__` for example, ended a capture."""
    kind = type(value)
    name = class_name(kind)
    if name not in _reported and len(_reported) < _MAX_CLASSES:
        _reported.add(name)
        get_logger().warning("capture_slow", type=name)
