"""Headers of requests and messages: what a run hands on to the services it calls, and what it got from its caller."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from nat_observability.context import ContextState
from nat_observability.propagation.headers import inject_headers, read_headers

__all__ = ["read_headers", "write_headers"]


def write_headers(headers: MutableMapping[str, Any], state: ContextState | None = None) -> None:
    """
    Put the trace of a run, and its conversation's and user's ids, into the headers of what it sends.

    The receiver continues the trace: its parent is the step that sends. What else is in a `baggage` stays; a
    `traceparent` of before is replaced. Outside every run nothing happens.

    Args:
        headers: Names are written in lower case; another spelling of the same name is removed.
        state: The run that sends; the current one by default.
    """
    state = state or ContextState.current()
    if state is not None:
        inject_headers(headers, state)
