"""Deferral: what a back end refuses for the moment, kept aside in the spool, so that it holds up nothing newer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import Entry
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sending.retry import Outcome, Retry, longest_backoff
from nat_observability.logs import RepeatedEvent, get_logger

if TYPE_CHECKING:
    from nat_observability.delivery.spool_client import SpoolClient

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
        accounting: Of the delivery.
        retry: Knows why they were refused.

    Attributes:
        due_at: When they are tried again; None if there are none.
        unsaved: Entries that have to wait in the spool, and are not there yet.
    """

    def __init__(
        self,
        name: str,
        limits: DeliveryLimits,
        clock: Callable[[], float],
        accounting: Accounting,
        retry: Retry,
    ) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._accounting = accounting
        self._retry = retry
        self.unsaved: list[Entry] = []
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

    def take(self) -> list[int]:
        """Give all of them up, to be tried again."""
        keys, self._keys, self.due_at = self._keys, [], None
        return keys

    def add_unsaved(self, entry: Entry) -> None:
        """Keep an entry aside that is not in the spool. Under the lock."""
        self._accounting.saving.add(entry)
        self.unsaved.append(entry)

    async def save(self, spool: SpoolClient, dismissed: Callable[[], bool]) -> Exception | None:
        """
        Save what is not in the spool yet; what the spool does not take has failed.

        Args:
            dismissed: Whether the delivery was given up meanwhile, and this no longer counts.

        Returns:
            What the spool returns.
        """
        accounting = self._accounting
        with locking.lock:
            # What was being saved while it was sent has come back, to be sent again: it is not saved twice.
            entries = [entry for entry in self.unsaved if entry in accounting.saving]
            self.unsaved = []
        try:
            return await spool.save(entries, stay=False)
        finally:
            with locking.lock:
                unsaved = set(entries).intersection(accounting.ready)
                if unsaved and not dismissed():
                    kept = [entry for entry in accounting.ready if entry not in unsaved]
                    accounting.ready.clear()
                    accounting.ready.extend(kept)
                    accounting.queue.release(unsaved)
                    for entry in unsaved:
                        accounting.settle(entry, Outcome.DEFERRED, self._retry.failures)

    def taken_by_back_end(self) -> None:
        """Begin with the shortest wait again: the back end has taken something."""
        self._rounds = 0

    def log(self) -> None:
        """Log that there are some, if a line is due; not under the lock."""
        if self._unlogged and (suppressed := self._deferred.due()) is not None:
            items, self._unlogged = self._unlogged, 0
            _log.warning(
                "delivery_deferred",
                exporter=self._name,
                items=items,
                error=self._retry.failures[Outcome.DEFERRED].error,
                wait_s=self._wait(),
                suppressed=suppressed,
            )
