"""Losses: what a delivery has given up, until a line of the log says so."""

from __future__ import annotations

from collections import Counter

from nat_observability.delivery import guard
from nat_observability.delivery.ledger import Ledger
from nat_observability.forks import at_fork
from nat_observability.logs import RepeatedEvent, get_logger, is_writing

_log = get_logger()


class Losses:
    """
    Counts what was given up, by reason, and writes about it: at once, then every half minute, and at the end.

    What no line was written about is kept beyond the delivery's own end, for `log_all` to find. The items of all its
    lines together are those that failed or were dropped, but for drops that were meant to be.

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
        """Note items that have failed, and what with."""
        self._failed[reason] += items
        self._error = error
        _unlogged.add(self)

    def drop(self, reason: str, items: int) -> None:
        """Note items that were dropped."""
        self._dropped[reason] += items
        _unlogged.add(self)

    def log(self, *, last: bool = False) -> None:
        """
        Write what is to be said. From any thread, without the lock.

        Args:
            last: Whether it is to be said now, however little time has passed since the last line.
        """
        # A line that is written while this thread writes another is dropped, and what it says would be lost.
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
    """Write what no line was written about, of deliveries too that are there no more: the process ends."""
    for losses in list(_unlogged):
        losses.log(last=True)


_unlogged: set[Losses] = set()
# What was lost before a fork, the parent writes.
at_fork(after_in_child=_unlogged.clear)
