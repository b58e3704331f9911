"""step_error(): what ended a step, as data."""

from __future__ import annotations

from nat_observability.events import ErrorDetails
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture import capture_text, captured_text

_MAX_TRACEBACK = 64  # frames


def step_error(error: BaseException) -> ErrorDetails:
    """Return an exception as data. The traceback names files, lines and functions; no source file is read."""
    lines: list[str] = []
    link = error.__traceback__
    while link is not None and len(lines) < _MAX_TRACEBACK:
        code = link.tb_frame.f_code
        lines.append(f"{code.co_filename}:{link.tb_lineno} {code.co_qualname}")
        link = link.tb_next
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return ErrorDetails(capture_text(name), _message(error), capture_text("\n".join(lines)) or None)


def _message(error: BaseException) -> str:
    try:
        return captured_text(str(error))
    except BaseException as problem:  # noqa: BLE001  foreign code: an exception class of the application's
        reraise_signal(problem)
        return "<str() of the exception raised>"
