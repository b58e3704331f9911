"""token_usage() and step_error(): what a step has used, and what ended it, as data."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from nat_observability.events import ErrorDetails, TokenUsage
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture import capture_text, captured_text

_MAX_TRACEBACK = 64  # frames
_MAX_TOKENS = 2**63 - 1
_TOTAL = TokenUsage.__struct_fields__.index("total_tokens")


def token_usage(usage: object) -> TokenUsage | None:
    """
    Return `usage` as `TokenUsage`: from one, or from a mapping or an object with some of its fields.

    A missing total is the sum of prompt and completion; what is not a count becomes 0. None if nothing matches.
    """
    counts: list[int] = []
    try:
        read = usage.get if isinstance(usage, Mapping) else functools.partial(getattr, usage)
        for field in TokenUsage.__struct_fields__:
            count = read(field, None)
            counts.append(count if type(count) is int and 0 <= count <= _MAX_TOKENS else 0)
    except BaseException as error:  # noqa: BLE001  foreign code: a usage object of a model client's
        reraise_signal(error)
        return None
    if not any(counts):
        return None
    if not counts[_TOTAL]:
        counts[_TOTAL] = min(counts[0] + counts[1], _MAX_TOKENS)
    return TokenUsage(*counts)


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
