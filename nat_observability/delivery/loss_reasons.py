"""Why an item has failed or was dropped, in one word each."""

from __future__ import annotations

from typing import Literal, NewType

FailureReason = Literal["breaker_open", "last_try", "refused", "rejected", "retry_after", "retry_for"]
"""Why items have failed: the back end will not have them, or could not be reached in time."""

NamedDropReason = Literal[
    "closed",
    "not_open",
    "not_read",
    "queue_full",
    "run_too_large",
    "sampled_out",
    "sampling_buffer_full",
    "shutdown_timeout",
    "spool_damaged",
    "spool_expired",
    "spool_full",
    "spool_rejected",
    "too_large",
]
"""Why items were dropped, if it was not by a processor."""

ProcessorDropReason = NewType("ProcessorDropReason", str)
"""Why a processor's item was dropped: `filtered:<name>` or `processor_failed:<name>`."""

DropReason = NamedDropReason | ProcessorDropReason
_INTENDED = ("filtered:", "sampled_out", "sampling_buffer_full")


def is_intended(reason: DropReason) -> bool:
    """Whether items dropped for this reason were meant to be: nothing is wrong, and nothing is logged."""
    return reason.startswith(_INTENDED)
