"""Lease: one user's hold on a delivery, and the items that come through it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from nat_observability.delivery.books import NEVER, Account, Books, Entry, resolved
from nat_observability.delivery.holding import Holding
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.queue import weigh
from nat_observability.events import Item

if TYPE_CHECKING:
    from nat_observability.delivery.delivery import Delivery


class Lease:
    """
    One user's hold on a delivery, a run's or the runtime's: it opens with the first and closes with the last.

    Every method may be called from any thread.

    Attributes:
        opening: Done when the sink is open, failed with what opening it raised, or with the ThreadRefusedError if there
            is no thread for it; None where it is open already.
    """

    __slots__ = ("_account", "_books", "_delivery", "_epoch", "opening")

    def __init__(self, delivery: Delivery, books: Books, epoch: int | None) -> None:
        self._delivery = delivery
        self._books = books
        self._epoch = epoch
        self._account = Account()
        self.opening: Future[None] | None = None

    def accept(self, item: Item) -> None:
        """Queue `item`; what becomes of it is in the ledger. Never blocks, never raises."""
        books, account = self._books, self._account
        lock = books.lock
        entry = Entry(item, weigh(item), account)
        total, ledger, queue = books.ledger, account.ledger, books.queue
        dropped: list[tuple[Entry, str]] | None = None
        # What `with` does, for a third of its time: an interruption may come while this waits for the lock, or right
        # after.
        try:
            lock.acquire()
            ledger.accepted += 1
            ledger.pending += 1
            total.accepted += 1
            total.pending += 1
            if books.wake is None:
                dropped = [(entry, books.refusal)]
            else:
                if books.saves_all:
                    entry.unsaved = True
                    account.unsaved += 1
                dropped = queue.put(entry)
                if queue.items >= books.wake_items or queue.queued_bytes >= books.wake_bytes:
                    books.wake_up()
            if dropped is not None:
                for each, reason in dropped:
                    books.drop_entry(each, reason)
        except BaseException:
            with suppress(RuntimeError):  # it was not acquired
                lock.release()
            raise
        lock.release()
        if dropped is not None:
            self._delivery.log_drops(books)

    def accept_within(self, item: Item) -> None:
        """Queue `item`, unless with those before it exceeds `run_bytes`: then it is dropped as `run_too_large`."""
        account, size, limit = self._account, weigh(item), self._delivery.limits.run_bytes or NEVER
        with self._books.lock:
            fits = account.accepted_bytes + size <= limit
            if fits:
                account.accepted_bytes += size
        if fits:
            self.accept(item)
        else:
            self.discard("run_too_large", 1)

    def discard(self, reason: str, items: int) -> None:
        """Count items that are not to be queued as accepted and dropped."""
        with self._books.lock:
            self._books.discard(self._account, reason, items)
        self._books.losses.log()

    def holding(self, accept: Callable[[Item], None], run_bytes: int, all_bytes: int) -> Holding:
        """Return what holds the items of this lease's run back, until it lets go of them to `accept`."""
        return Holding(self._books, accept, self.discard, run_bytes, all_bytes)

    @property
    def ledger(self) -> LedgerSnapshot:
        """What became of the items of this lease."""
        with self._books.lock:
            return self._account.ledger.snapshot()

    def settled(self) -> Future[None]:
        """Return a future that is done when nothing of this lease is pending. What waits is written at once."""
        account = self._account
        with self._books.lock:
            if not account.ledger.pending:
                return resolved()
            future = self._hurried()
            account.settling += (future,)
            return future

    def saved(self) -> Future[None]:
        """Return a future that is done when everything of this lease is on the disk, where `spool` is `always`."""
        account = self._account
        with self._books.lock:
            if not account.unsaved:
                return resolved()
            future = self._hurried()
            account.saving += (future,)
            return future

    def room(self) -> Future[None] | None:
        """
        Return a future that is done when the spool has made room, where it is to and the queue is half full.

        A run that waits for it when it ends keeps more runs from beginning than the disk can follow, so that nothing
        is dropped while the back end is down. None where there is room, or no spool that makes it.
        """
        with self._books.lock:
            return self._books.room()

    def release(self) -> None:
        """Give the lease back. With the last one the delivery writes what is queued and closes, in the background."""
        self._epoch = self._delivery.give_back(self._epoch)

    def _hurried(self) -> Future[None]:
        """Have what waits written at once; return what is to be done then."""
        future: Future[None] = Future()
        # The spool knows of a run only as long as somebody has its account: whoever waits has.
        account = self._account
        future.add_done_callback(lambda _: account)
        self._books.hurry = True
        self._books.wake_up()
        return future
