"""Ids of run, trace and span in the application's log lines: add_run_ids() for structlog, RunIdFilter for logging."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from nat_observability.context import current_scope

__all__ = ["RunIdFilter", "add_run_ids"]


def add_run_ids(logger: Any, name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """
    Add `run_id`, `trace_id` and `span_id` of the current run to a line: a processor for structlog.

    What the line has under these names already stays. Outside every run nothing is added, and between a run's steps no
    `span_id`.
    """
    for key, value in _ids().items():
        event_dict.setdefault(key, value)
    return event_dict


class RunIdFilter(logging.Filter):
    """
    Gives every record `run_id`, `trace_id` and `span_id`, for a format: `%(run_id)s`.

    Add it to a handler: one on a logger does not see what that logger's children log. It lets every record through.
    Outside every run the attributes are empty text.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the record does not have yet; return True."""
        ids = _ids()
        for key in _KEYS:
            if not hasattr(record, key):
                setattr(record, key, ids.get(key, ""))
        return True


_KEYS = ("run_id", "trace_id", "span_id")


def _ids() -> dict[str, str]:
    scope = current_scope()
    state = scope._state if scope is not None else None
    if scope is None or state is None:
        return {}
    ids = {"run_id": state.run.run_id, "trace_id": state.run.trace_id}
    if scope is not state and scope.step_id is not None:
        ids["span_id"] = scope.step_id
    return ids
