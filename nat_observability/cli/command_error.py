"""CommandError: what ends a command, with its exit code."""

from __future__ import annotations

from nat_observability.errors import ObservabilityError


class CommandError(ObservabilityError, RuntimeError):
    """
    Raised if a command cannot do what it was asked to do; the message names the thing and the cure.

    `exit_code` is 2 for bad input, 1 for work that went wrong.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        self.exit_code = exit_code
        super().__init__(message)
