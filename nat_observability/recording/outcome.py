"""token_usage() and step_error(): what a step has used, and what ended it, as data."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from nat_observability.events import ErrorDetails, TokenUsage
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture import error_name, error_text, error_trace

_MAX_TOKENS = 2**63 - 1


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
    if not counts[-1]:
        counts[-1] = min(counts[0] + counts[1], _MAX_TOKENS)
    return TokenUsage(*counts)


def step_error(error: BaseException) -> ErrorDetails:
    """Return an exception as data, with its causes, notes and members. Never raises."""
    return ErrorDetails(error_name(error), error_text(error), error_trace(error))
