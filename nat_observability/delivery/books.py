"""Books: what a delivery has in hand, and what became of everything that it ever had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

import msgspec

from nat_observability.delivery.ledger import Ledger
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.queue import BoundedQueue
from nat_observability.delivery.sender import Outcome
from nat_observability.delivery.spool_line import Owners
from nat_observability.events import Item

NEVER = 1 << 62


class Account:
    """The part of the books that belongs to one run."""

    __slots__ = ("ledger", "saving", "settling", "unsaved")

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.unsaved = 0  # items that are to be on the disk before the run has ended, and are not
        self.settling: list[Future[None]] = []
        self.saving: list[Future[None]] = []


class Entry(msgspec.Struct, eq=False, gc=False):
    """One item on its way; `key` is that of its record in the spool, where it has one."""

    # No object for the garbage collector to look at: thousands of these wait in a queue.
    item: Item
    size: int
    account: Account
    key: int | None = None


class Books:
    """
    The queue, what was taken from it, and the ledgers.

    Every method, and every access to an attribute, is under `lock`, which is never held while foreign code runs.

    Attributes:
        ready: Entries that are in the spool and in memory, the oldest first.
        wake_items: The queue's length at which the delivery is to be woken; out of reach while it is awake anyway.
        wake_bytes: The same in bytes.
        wake: Wakes the delivery; None while it is not at work.
        hurry: Whether what waits is to be written without waiting for more.
        unlogged: The number of drops that no line was written about.
    """

    def __init__(self, limits: DeliveryLimits) -> None:
        # Reentrant: the garbage collector may close a generator, and with it a step, in the middle of an accept.
        self.lock = threading.RLock()
        self.queue: BoundedQueue[Entry] = BoundedQueue(
            limits.queue_items, limits.queue_bytes, limits.queue_policy
        )
        self.in_flight: set[Entry] = set()
        self.ready: list[Entry] = []
        self.owners: Owners[Account] = Owners()
        self.left_behind = Account()  # of the records of former processes
        self.left_in_spool = 0  # records that are pending, and were when the spool was closed
        self.ledger = Ledger()
        self.wake_items = self.wake_bytes = NEVER
        self.wake: Callable[[], None] | None = None
        self.hurry = False
        self.unlogged = 0
        self.saves_all = limits.spool == "always"

    def wake_up(self) -> None:
        """Wake the delivery, where it is at work."""
        self.wake_items = self.wake_bytes = NEVER
        if self.wake is not None:
            self.wake()

    def drop(self, account: Account, reason: str) -> None:
        """Count one pending item as dropped."""
        self.ledger.drop(reason)
        account.ledger.drop(reason)
        self.unlogged += 1
        self.tell(account)

    def drop_all(self, entries: Iterable[Entry], reason: str) -> int:
        """Drop entries that were taken, but for those that are in the spool, which they stay in; return how many."""
        dropped = 0
        for entry in entries:
            if entry.key is None:
                self.saved(entry)
                self.drop(entry.account, reason)
                dropped += 1
            else:
                self.owners.add(entry.key, entry.account)
        return dropped

    def in_hand(self) -> list[Entry]:
        """Take everything that is in memory, and forget it."""
        entries = [*self.in_flight, *self.ready, *self.queue.take(NEVER, NEVER)]
        self.queue.release(entries)
        self.in_flight.clear()
        self.ready.clear()
        return entries

    def let_go(self, entries: Sequence[Entry]) -> None:
        """Count entries as no longer in memory."""
        self.in_flight.difference_update(entries)
        self.queue.release(entries)

    def saved(self, entry: Entry) -> None:
        """Count an entry as on the disk, or as one that never will be."""
        account = entry.account
        if self.saves_all and account.unsaved:
            account.unsaved -= 1
            if not account.unsaved and account.saving:
                waiters, account.saving = account.saving, []
                resolve(waiters)

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Count what became of an entry."""
        ledger = entry.account.ledger
        self.ledger.pending -= 1
        ledger.pending -= 1
        if outcome is Outcome.DELIVERED:
            self.ledger.delivered += 1
            ledger.delivered += 1
        else:
            self.ledger.failed += 1
            ledger.failed += 1
        if entry.account.settling:
            self.tell(entry.account)

    def tell(self, account: Account) -> None:
        """Tell those who wait for the last of a run's items, if it was the last."""
        if account.settling and not account.ledger.pending:
            waiters, account.settling = account.settling, []
            resolve(waiters)

    def recover(self, records: int) -> None:
        """Count records that were found in the spool as accepted."""
        # What this very delivery left there when it was closed was never settled: it is pending still.
        found = max(0, records - self.left_in_spool)
        self.left_in_spool = 0
        for ledger in (self.ledger, self.left_behind.ledger):
            ledger.accepted += found
            ledger.pending += found

    def owner(self, key: int) -> Account:
        """Return whose a record of the spool is, and forget it; of unknown records, a former process's."""
        return self.owners.pop(key) or self.left_behind


def resolve(waiters: Iterable[Future[None]], error: BaseException | None = None) -> None:
    """Tell whoever still waits that it is over."""
    for waiter in waiters:
        if waiter.set_running_or_notify_cancel():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
