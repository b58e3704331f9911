"""Capture: values as they are at the moment of recording, as text or JSON, within bounds."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.recording.capture.exceptions import step_error
    from nat_observability.recording.capture.limits import (
        LEAST_BYTES,
        LEAST_NODES,
        MAX_BYTES,
        MAX_NODES,
        set_limits,
    )
    from nat_observability.recording.capture.models import holds_generator
    from nat_observability.recording.capture.values import (
        capture,
        capture_json,
        capture_label,
        capture_text,
        captured_text,
        joined_json,
        merged_json,
    )

__all__ = [
    "LEAST_BYTES",
    "LEAST_NODES",
    "MAX_BYTES",
    "MAX_NODES",
    "capture",
    "capture_json",
    "capture_label",
    "capture_text",
    "captured_text",
    "holds_generator",
    "joined_json",
    "merged_json",
    "set_limits",
    "step_error",
]

_HOMES = {
    "nat_observability.recording.capture.exceptions": ("step_error",),
    "nat_observability.recording.capture.limits": (
        "LEAST_BYTES",
        "LEAST_NODES",
        "MAX_BYTES",
        "MAX_NODES",
        "set_limits",
    ),
    "nat_observability.recording.capture.models": ("holds_generator",),
    "nat_observability.recording.capture.values": (
        "capture",
        "capture_json",
        "capture_label",
        "capture_text",
        "captured_text",
        "joined_json",
        "merged_json",
    ),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
