"""Losses: what a delivery has given up and not logged yet."""

from __future__ import annotations

from collections import Counter

from nat_observability.delivery import guard
from nat_observability.delivery.ledger import Ledger
from nat_observability.logs import RepeatedEvent, get_logger, is_writing
from nat_observability.system.forks import at_fork

_log = get_logger()


class Losses:
    """
    Counts what was given up, by reason, and writes about it: at once, then every half minute, and at the end.

    What was not logged outlives the delivery, for `log_all` to find. All its lines together account for every item that
    failed or was dropped, except intended drops.

    Args:
        exporter: Its name.
        ledger: Of the delivery.

    `fail` and `drop` are called under the lock of `guard`. It is not held while a line is written, because the
    application's log processors are foreign code.
    """

    def __init__(self, exporter: str, ledger: Ledger) -> None:
        self._exporter = exporter
        self._ledger = ledger
        self._failed: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._error: str | None = None
        self._failed_event, self._dropped_event = RepeatedEvent(), RepeatedEvent()

    def fail(self, reason: str, error: str | None, items: int) -> None:
        """Note items that have failed, and the error."""
        self._failed[reason] += items
        self._error = error
        _unlogged.add(self)

    def drop(self, reason: str, items: int) -> None:
        """Note items that were dropped."""
        self._dropped[reason] += items
        _unlogged.add(self)

    def log(self, *, last: bool = False) -> None:
        """
        Log what is due. From any thread, without the lock.

        Args:
            last: Whether to log now, however little time has passed since the last line.
        """
        # A line written while this thread writes another is dropped, and its counts would be lost.
        if not (self._failed or self._dropped) or is_writing():
            return
        failed: dict[str, int] = {}
        dropped: dict[str, int] = {}
        with guard.lock:
            if self._failed and (self._failed_event.due() is not None or last):
                failed, self._failed = dict(self._failed), Counter()
            if self._dropped and (self._dropped_event.due() is not None or last):
                dropped, self._dropped = dict(self._dropped), Counter()
            if not (self._failed or self._dropped):
                _unlogged.discard(self)
            error, all_dropped = self._error, dict(self._ledger.dropped or ())
        if failed:
            _log.error(
                "delivery_failed",
                exporter=self._exporter,
                items=sum(failed.values()),
                reasons=failed,
                error=error,
            )
        if dropped:
            _log.warning(
                "delivery_dropped",
                exporter=self._exporter,
                items=sum(dropped.values()),
                reasons=dropped,
                dropped=all_dropped,
            )


def log_all() -> None:
    """Log what was not logged yet, of deliveries that no longer exist too: the process is ending."""
    for losses in list(_unlogged):
        losses.log(last=True)


_unlogged: set[Losses] = set()
# The parent logs what was lost before a fork.
at_fork(after_in_child=_unlogged.clear)
