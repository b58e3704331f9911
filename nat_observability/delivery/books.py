"""Books: what a delivery has in hand, and what became of everything that it ever had."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import compress

import msgspec

from nat_observability.delivery.ledger import Ledger
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.losses import Losses
from nat_observability.delivery.owners import Owners
from nat_observability.delivery.processing import is_intended
from nat_observability.delivery.queue import BoundedQueue, weigh
from nat_observability.delivery.sender import Failure, Outcome
from nat_observability.events import Item

NEVER = 1 << 62


class Account:
    """The part of the books that belongs to one run."""

    __slots__ = ("__weakref__", "accepted_bytes", "ledger", "saving", "settling", "unsaved")

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.accepted_bytes = 0  # counted only where a run has a limit
        self.unsaved = 0  # items that are to be on the disk before the run has ended, and are not
        # Tuples, because nearly no run is waited for, and an empty one takes no memory.
        self.settling: tuple[Future[None], ...] = ()
        self.saving: tuple[Future[None], ...] = ()


class Entry(msgspec.Struct, eq=False, gc=False):
    """
    One item on its way.

    `key` is that of its record in the spool, where it has one, `unsaved` whether its run waits for that. One that is
    `settled` has reached the back end or was refused by it, one that is `dropped` was given up.
    """

    # No object for the garbage collector to look at: thousands of these wait in a queue.
    item: Item
    size: int
    account: Account
    key: int | None = None
    unsaved: bool = False
    settled: bool = False
    dropped: bool = False


class Books:
    """
    The queue, what was taken from it, and the ledgers. In the queue, what is to be processed comes in as raw.

    Every method, and every access to an attribute, is under `lock`, which is never held while foreign code runs.

    Attributes:
        saving: Entries that are being put into the spool, and are not to be sent before they are there.
        ready: Entries to be sent before those in the queue, the oldest first.
        fetched: Entries that were read from the spool, for the next batch.
        in_flight: Entries that are being sent.
        age: How often all this was given up; what is still under way from before then no longer counts.
        wake_items: The queue's length at which the delivery is to be woken; out of reach while it is awake anyway.
        wake_bytes: The same in bytes.
        wake: Wakes the delivery; None while it is not at work.
        refusal: The reason for which items are dropped while it is not at work.
        hurry: Whether what waits is to be written without waiting for more.
        held_back: Bytes of items that runs hold back until it is known whether they are to be kept.
        losses: What was given up and no line was written about.
        saves_all: Whether everything is to be put into the spool before it is sent.
        spills: Whether the spool makes room when the queue is half full.
    """

    def __init__(self, limits: DeliveryLimits, *, exporter: str, processes: bool = False) -> None:
        # Reentrant: the garbage collector may close a generator, and with it a step, in the middle of an accept.
        self.lock = threading.RLock()
        self.queue: BoundedQueue[Entry] = BoundedQueue(
            limits.queue_items, limits.queue_bytes, limits.queue_policy, staged=processes
        )
        self.saving: set[Entry] = set()
        self.ready: deque[Entry] = deque()
        self.fetched: list[Entry] = []
        self.in_flight: dict[Entry, None] = {}
        self.age = 0
        self.owners: Owners[Account] = Owners()
        self.left_behind = (
            Account()
        )  # of the records of former processes, and of runs that nobody can ask for
        self.ledger = Ledger()
        self.wake_items = self.wake_bytes = NEVER
        self.wake: Callable[[], None] | None = None
        self.refusal = "closed"
        self.hurry = False
        self.held_back = 0
        self.losses = Losses(exporter, self.lock, self.ledger)
        self.saves_all = limits.spool == "always"
        self.spills = limits.spool == "spill"
        self._exporter = exporter
        self._limits = limits
        self._room: list[Future[None]] = []

    def retire(self) -> None:
        """In a forked child: free the lock, whoever holds it in the parent, and refuse what is still recorded here."""
        self.lock = threading.RLock()
        # What the parent has lost, it says itself.
        self.losses = Losses(self._exporter, self.lock, self.ledger)
        self.wake = None

    def wake_up(self) -> None:
        """Wake the delivery, where it is at work."""
        self.wake_items = self.wake_bytes = NEVER
        if self.wake is not None:
            self.wake()

    # What is in memory:

    def is_filled(self, part: float) -> bool:
        """Whether the queue, with what was taken from it and is in memory still, has reached a part of its bounds."""
        queue, limits = self.queue, self._limits
        return len(queue) >= limits.queue_items * part or queue.held_bytes >= limits.queue_bytes * part

    def room(self) -> Future[None] | None:
        """Return what is done when there is room in the queue; None where there is, or where nothing makes any."""
        if not self.spills or self.wake is None or not self.is_filled(0.5):
            return None
        future: Future[None] = Future()
        self._room.append(future)
        self.hurry = True
        self.wake_up()
        return future

    def tell_room(self) -> None:
        """Tell those who wait for room, where there is some or nothing makes any."""
        if self._room and not (
            self.spills and self.wake is not None and len(self.queue) and self.is_filled(0.5)
        ):
            waiters, self._room = self._room, []
            resolve(waiters)

    @property
    def in_memory(self) -> int:
        """The number of entries."""
        taken = len(self.saving) + len(self.ready) + len(self.fetched) + len(self.in_flight)
        return len(self.queue) + taken

    def take_ready(self, max_items: int, max_bytes: int) -> list[Entry]:
        """Take the oldest of those that are ready: so many and so many bytes at most, but always one."""
        batch = [self.ready.popleft()]
        size = batch[0].size
        while self.ready and len(batch) < max_items and size + self.ready[0].size <= max_bytes:
            size += self.ready[0].size
            batch.append(self.ready.popleft())
        return batch

    def take_fetched(self, max_items: int) -> list[Entry]:
        """Take the oldest of what was read from the spool."""
        batch, self.fetched = self.fetched[:max_items], self.fetched[max_items:]
        return batch

    def take_to_save(self, max_items: int, max_bytes: int) -> list[Entry]:
        """Take the oldest from the queue, to be put into the spool; what is in there already becomes ready."""
        entries = self.queue.take(max_items, max_bytes)
        # A batch that came back while it was being saved.
        self.ready.extend(entry for entry in entries if entry.key is not None)
        unsaved = [entry for entry in entries if entry.key is None]
        self.saving.update(unsaved)
        # Those of one run together: whose they are is then remembered in a few words.
        runs: dict[Account, list[Entry]] = {}
        for entry in unsaved:
            runs.setdefault(entry.account, []).append(entry)
        return [entry for run in runs.values() for entry in run]

    def send_again(self) -> None:
        """Let what was being sent be the next to be sent."""
        entries = list(self.in_flight)
        self.in_flight.clear()
        self.queue.put_back(entry for entry in entries if entry.key is None)
        self.ready.extendleft(entry for entry in reversed(entries) if entry.key is not None)

    def in_hand(self) -> list[Entry]:
        """Take everything that is in memory, and forget it."""
        entries = [
            *self.in_flight,
            *self.fetched,
            *self.ready,
            *self.saving,
            *self.queue.take_all(),
        ]
        self.queue.release(entries)
        for held in (self.in_flight, self.fetched, self.ready, self.saving):
            held.clear()
        self.age += 1
        return entries

    # What becomes of it:

    def processed(self, entries: Iterable[Entry], results: Iterable[Item | str]) -> None:
        """Let raw entries of the queue go on as what was made of them, or drop them for the reason that there is."""
        for entry, result in zip(entries, results, strict=False):
            if isinstance(result, str):
                if self.queue.let_on(entry, None):
                    self.drop_entry(entry, result)
            elif self.queue.let_on(entry, entry.size if result is entry.item else weigh(result)):
                entry.item = result

    def settle(self, entry: Entry, outcome: Outcome, failures: Mapping[Outcome, Failure]) -> None:
        """Count what became of an entry; `failures` has why, by outcome."""
        account, ledger = entry.account, entry.account.ledger
        entry.settled = True
        self.ledger.pending -= 1
        ledger.pending -= 1
        if outcome is Outcome.DELIVERED:
            self.ledger.delivered += 1
            ledger.delivered += 1
        else:
            self.ledger.failed += 1
            ledger.failed += 1
            self.losses.fail(*failures[outcome], 1)
        if entry.unsaved:
            self.saved(entry)
        if account.settling:
            self.tell(account)

    def settle_all(
        self, batch: Sequence[Entry], outcomes: Sequence[Outcome], failures: Mapping[Outcome, Failure]
    ) -> None:
        """Count what became of a batch that was sent, where there is no spool, and let go of it."""
        if len(batch) == len(self.in_flight):
            self.in_flight.clear()
        else:
            for entry in batch:
                del self.in_flight[entry]
        self.queue.release(batch)
        accounts = [entry.account for entry in batch]
        failed: list[Account] = []
        if outcomes.count(Outcome.DELIVERED) < len(batch):
            for outcome, failure in failures.items():
                if items := outcomes.count(outcome):
                    self.losses.fail(*failure, items)
            results = [outcome is Outcome.DELIVERED for outcome in outcomes]
            failed = [account for account, good in zip(accounts, results, strict=True) if not good]
            accounts = list(compress(accounts, results))
        # A few runs with many entries each: counted at once for each run.
        for account, items in Counter(accounts).items():
            for ledger in (self.ledger, account.ledger):
                ledger.pending -= items
                ledger.delivered += items
            self.tell(account)
        for account, items in Counter(failed).items():
            for ledger in (self.ledger, account.ledger):
                ledger.pending -= items
                ledger.failed += items
            self.tell(account)

    def drop(self, account: Account, reason: str, items: int = 1) -> None:
        """Count pending items as dropped."""
        self.ledger.drop(reason, items)
        account.ledger.drop(reason, items)
        if not is_intended(reason):
            self.losses.drop(reason, items)
        self.tell(account)

    def discard(self, account: Account, reason: str, items: int) -> None:
        """Count items that come to no queue as accepted and dropped."""
        for ledger in (self.ledger, account.ledger):
            ledger.accepted += items
            ledger.pending += items
        self.drop(account, reason, items)

    def drop_entry(self, entry: Entry, reason: str) -> None:
        """Count an entry that is not in the spool as dropped."""
        entry.dropped = True
        self.saved(entry)
        self.drop(entry.account, reason)

    def drop_all(self, entries: Iterable[Entry], reason: str) -> int:
        """Drop entries that were taken, but for those that are in the spool, which they stay in; return how many."""
        dropped = 0
        for entry in entries:
            if entry.key is None:
                self.drop_entry(entry, reason)
                dropped += 1
            else:
                self.own(entry.key, entry.account)
        return dropped

    def saved(self, entry: Entry) -> None:
        """Count an entry as on the disk, or as one that never will be."""
        if not entry.unsaved:
            return
        entry.unsaved = False
        account = entry.account
        account.unsaved -= 1
        if not account.unsaved and account.saving:
            waiters, account.saving = account.saving, ()
            resolve(waiters)

    def tell(self, account: Account) -> None:
        """Tell those who wait for the last of a run's items, if it was the last."""
        if account.settling and not account.ledger.pending:
            waiters, account.settling = account.settling, ()
            resolve(waiters)

    # What the spool says:

    def recovered(self, records: int) -> None:
        """Count records that were found in the spool as accepted."""
        for ledger in (self.ledger, self.left_behind.ledger):
            ledger.accepted += records
            ledger.pending += records

    def stored(self, entries: Sequence[Entry], keys: Sequence[int | None], *, stay: bool) -> list[int]:
        """
        Note under which keys entries were stored; None for one that was not.

        Args:
            stay: Whether they stay in memory too, to be sent.

        Returns:
            The keys of those that have reached the back end meanwhile, or that it has refused.
        """
        done: list[int] = []
        for entry, key in zip(entries, keys, strict=True):
            self.saved(entry)
            taken = entry in self.saving
            self.saving.discard(entry)
            if key is not None and entry.settled:
                done.append(key)
            elif key is not None and entry.dropped:
                # It was given up just before it was stored: whoever reads the spool next delivers it all the same.
                self.recovered(1)
            elif taken and (stay or key is None):
                entry.key = key
                self.ready.append(entry)
            elif taken and key is not None:
                self.own(key, entry.account)
                self.queue.release([entry])
            elif key is not None:
                entry.key = key  # it is being sent at the same time, or has come back from there
        return done

    def not_stored(self, entries: Sequence[Entry]) -> None:
        """Let entries that could not be stored wait again for being stored or sent."""
        back = [entry for entry in entries if entry in self.saving]
        self.saving.difference_update(back)
        self.queue.put_back(back)

    def fetch(self, records: Iterable[tuple[int, Item]], age: int) -> None:
        """Take in what was read from the spool in this age of the books."""
        if age == self.age:
            # They are in memory for one batch, outside the queue: of no size there.
            self.fetched += [Entry(item, 0, self.owner(key), key) for key, item in records]

    def drop_records(self, keys: Iterable[int], reason: str) -> None:
        """Count records of the spool as dropped."""
        for key in keys:
            self.drop(self.owner(key), reason)

    def own(self, key: int, account: Account) -> None:
        """Say whose a record of the spool is that is not in memory."""
        if account is not self.left_behind:
            self.owners.add(key, account)

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


def resolved() -> Future[None]:
    """Return a future that is done."""
    future: Future[None] = Future()
    future.set_result(None)
    return future
