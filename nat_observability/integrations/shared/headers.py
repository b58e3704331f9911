"""Headers of requests and messages: what a run passes to the services it calls, and what its caller passed to it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from nat_observability.context import ContextState
from nat_observability.propagation.headers import inject_headers, read_headers

__all__ = ["read_headers", "write_headers"]


def write_headers(headers: MutableMapping[str, Any], state: ContextState | None = None) -> None:
    """
    Put the trace of a run, its conversation's and user's ids and its propagated tags into the headers of what it sends.

    The receiver continues the trace: its parent is the step that sends. Other members of `baggage` stay; an existing
    `traceparent` or `tracestate` is replaced. What the run's own caller has sent along is passed on. Outside a run
    nothing happens.

    Args:
        headers: Names are written in lower case; other spellings of the same name are removed.
        state: The run that sends; the current one by default.
    """
    state = state or ContextState.current()
    if state is not None:
        inject_headers(headers, state)
