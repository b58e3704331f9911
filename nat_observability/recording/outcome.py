"""step_error(): what ended a step, as data."""

from __future__ import annotations

from nat_observability.events import ErrorDetails
from nat_observability.recording.capture import error_name, error_text, error_trace


def step_error(error: BaseException) -> ErrorDetails:
    """Return an exception as data, with its causes, notes and members. Never raises."""
    return ErrorDetails(error_name(error), error_text(error), error_trace(error))
