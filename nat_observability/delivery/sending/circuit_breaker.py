"""CircuitBreaker: sends nothing for a while to a back end that keeps failing, and then one batch as a probe."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether batches go through: all, none, or one as a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Opens after so many failures in a row, lets one probe through after a while, closes when a probe succeeds.

    Not synchronized: it belongs to one event loop.

    Args:
        failures: Failures in a row that open it.
        open_for: Seconds from opening, or from a failed probe, to the next probe.
        clock: A monotonic clock, in seconds.

    Attributes:
        state: Whether batches go through.
        failures: In a row. While it is 0, everything goes through, and `wait` and `succeeded` have nothing to say.
    """

    def __init__(self, failures: int, open_for: float, clock: Callable[[], float]) -> None:
        self._threshold = failures
        self._open_for = open_for
        self._clock = clock
        self.failures = 0
        self._probe_at = 0.0
        self.state = BreakerState.CLOSED

    def wait(self) -> float:
        """
        Return how many seconds to wait before asking again, 0 if the caller may go through.

        The caller that is let through while the breaker is open is the probe: until it reports, others wait.
        """
        if self.state is BreakerState.CLOSED:
            return 0.0
        now = self._clock()
        if self.state is BreakerState.OPEN and now >= self._probe_at:
            self.state = BreakerState.HALF_OPEN
            self._probe_at = now + self._open_for
            return 0.0
        return max(0.05, self._probe_at - now)

    def succeeded(self) -> bool:
        """Report that the back end answered; return whether that closed the breaker."""
        closed = self.state is not BreakerState.CLOSED
        self.state = BreakerState.CLOSED
        self.failures = 0
        return closed

    def failed(self) -> bool:
        """Report that the back end did not take a batch; return whether that opened the breaker."""
        self.failures += 1
        if self.state is BreakerState.CLOSED and self.failures < self._threshold:
            return False
        opened = self.state is BreakerState.CLOSED
        self.state = BreakerState.OPEN
        self._probe_at = self._clock() + self._open_for
        return opened
