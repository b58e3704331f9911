"""Deferral: records that the back end refuses for the moment, and when they are tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sending.retry import longest_backoff
from nat_observability.logs import RepeatedEvent, get_logger

_log = get_logger()


class Deferral:
    """
    Keeps records of the spool aside, so that what the back end refuses never holds up newer items.

    All of them are tried again together, after `retry_initial` seconds, twice that, and so on up to `retry_max`, until
    the back end takes some. They stay in the spool meanwhile, also when the process ends.

    Args:
        name: The exporter's, for logs.
        limits: Of the waits.
        clock: Seconds, of the loop.

    Attributes:
        due_at: When they are tried again; None if there are none.
    """

    def __init__(self, name: str, limits: DeliveryLimits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._keys: list[int] = []
        self._unlogged = self._rounds = 0
        self._deferred = RepeatedEvent()
        self.due_at: float | None = None

    def add(self, keys: Iterable[int]) -> None:
        """Keep these aside."""
        before = len(self._keys)
        self._keys += keys
        self._unlogged += len(self._keys) - before
        if self.due_at is None and self._keys:
            self._rounds += 1
            self.due_at = self._clock() + self._wait()

    def _wait(self) -> float:
        return longest_backoff(self._rounds, self._limits.retry_initial, self._limits.retry_max)

    def is_due(self, now: float) -> bool:
        """Whether they are to be tried again."""
        return self.due_at is not None and now >= self.due_at

    def take(self) -> list[int]:
        """Give all of them up, to be tried again."""
        keys, self._keys, self.due_at = self._keys, [], None
        return keys

    def taken_by_back_end(self) -> None:
        """Begin with the shortest wait again: the back end has taken something."""
        self._rounds = 0

    def log(self, error: str | None) -> None:
        """Log that there are some, if a line is due; not under the lock."""
        if self._unlogged and (suppressed := self._deferred.due()) is not None:
            items, self._unlogged = self._unlogged, 0
            _log.warning(
                "delivery_deferred",
                exporter=self._name,
                items=items,
                error=error,
                wait_s=self._wait(),
                suppressed=suppressed,
            )
