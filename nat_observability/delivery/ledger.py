"""Ledger: the outcomes of the items that an exporter accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nat_observability.delivery.loss_reasons import DropReason


class LedgerSnapshot(msgspec.Struct, frozen=True):
    """
    The counts at one moment, in items.

    `accepted == delivered + failed + sum(dropped.values()) + pending` holds in every snapshot. `dropped` is by
    reason: `queue_full`, `too_large`, `run_too_large`, `closed`, `not_open`, `not_read`,
    `shutdown_timeout`; of what was in the
    spool, `spool_full`, `spool_expired`, `spool_damaged`, `spool_rejected`; by processors, `filtered:<name>` and
    `processor_failed:<name>`; and by sampling, `sampled_out` and `sampling_buffer_full`. What is in the spool is
    pending, and records found there are accepted by the process that finds them.
    """

    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    pending: int = 0
    dropped: dict[str, int] = {}

    @property
    def adds_up(self) -> bool:
        """Whether every accepted item is accounted for."""
        return self.accepted == self.delivered + self.failed + self.pending + sum(self.dropped.values())

    def __add__(self, other: LedgerSnapshot) -> LedgerSnapshot:
        dropped = dict(self.dropped)
        for reason, count in other.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        return LedgerSnapshot(
            self.accepted + other.accepted,
            self.delivered + other.delivered,
            self.failed + other.failed,
            self.pending + other.pending,
            dropped,
        )


class Ledger:
    """
    The running counts. Not synchronized: to share one between threads, hold a lock around every call.

    `pending` is counted separately and not derived from the rest, so that a lost item shows.
    """

    __slots__ = ("accepted", "delivered", "dropped", "failed", "pending")

    def __init__(self) -> None:
        self.accepted = 0
        self.delivered = 0
        self.failed = 0
        self.pending = 0
        self.dropped: dict[str, int] | None = None

    def fail(self, items: int) -> None:
        """Count pending items as failed."""
        self.pending -= items
        self.failed += items

    def drop(self, reason: DropReason, items: int) -> None:
        """Count pending items as dropped."""
        self.pending -= items
        if self.dropped is None:
            self.dropped = {}
        self.dropped[reason] = self.dropped.get(reason, 0) + items

    def snapshot(self) -> LedgerSnapshot:
        """Return the counts as they are now."""
        return LedgerSnapshot(
            self.accepted, self.delivered, self.failed, self.pending, dict(self.dropped or ())
        )


def total(ledgers: Iterable[LedgerSnapshot] | Mapping[str, LedgerSnapshot]) -> LedgerSnapshot:
    """Return the sum of several snapshots."""
    each = ledgers.values() if isinstance(ledgers, Mapping) else ledgers
    return sum(each, LedgerSnapshot())
