"""Accounting: the items that a delivery holds, and the outcome of every item it ever held."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, MutableSet, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import compress
from typing import TYPE_CHECKING

import msgspec

from nat_observability.delivery.lease import NEVER, Entry, Inlet, Lease, Route, count_all_delivered
from nat_observability.delivery.ledger import Ledger, LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loss_reasons import DropReason, NamedDropReason
from nat_observability.delivery.losses import Losses
from nat_observability.delivery.queue import BoundedQueue
from nat_observability.delivery.sending.retry import Failure, Outcome
from nat_observability.delivery.state import resolve
from nat_observability.events import Item
from nat_observability.spool.record_owners import Owners

if TYPE_CHECKING:
    from nat_observability.spool.spool import SpoolDropReason

SAVE_ITEMS = 1024
"""The most entries that are saved at once."""

_SAVE_BYTES = 1024 * 1024  # what is encoded and not yet on the disk is in memory twice


class Accounting:
    """
    The queue, what was taken from it, and the ledger, of one delivery.

    Every access is under the deliveries' lock, which is never held while foreign code runs.

    Args:
        name: The exporter's, for logs.
        limits: Of the queue and the spool.
        inlet: Where items wait for their processors before they are queued; None if there are no processors.

    Attributes:
        route: The way to this delivery alone.
        routes: Every way that leads here.
        gone: Items that were given up while they waited at the inlet, and are there still.
        saving: Entries that are being saved to the spool, and must not be sent before that.
        ready: Entries to be sent before those in the queue, the oldest first.
        fetched: Entries that were read from the spool, for the next batch.
        in_flight: Entries that are being sent.
        age: How often everything was given up; calls still under way from an earlier age no longer count.
        wake_items, wake_bytes: The size of the queue at which to wake the delivery; out of reach while it is awake.
        wake: Wakes the delivery; None while it is not at work.
        refusal: The reason for which items are dropped while it is not at work.
        hurry: Whether what waits is to be written without waiting for more.
        held_back: Bytes of items that runs hold back until sampling decides whether to keep them.
        losses: Items that were given up and not logged yet.
        awaiting_room: Those who wait for room in the queue; see `room`.
        saves_all: Whether everything is saved to the spool before it is sent.
        awaits_disk: Whether a run's end waits until its items are on the disk.
        spills: Whether the spool makes room when the queue is half full.
        save: Has the spool's thread save what waits, even if the sink blocks the event loop; None without a spool.
    """

    def __init__(self, name: str, limits: DeliveryLimits, inlet: Inlet | None = None) -> None:
        self._name = name
        self._orphaned: Callable[[], None] | None = None
        self.queue: BoundedQueue[Entry] = BoundedQueue(
            limits.queue_items, limits.queue_bytes, limits.queue_policy
        )
        self.saving: set[Entry] = set()
        self.ready: deque[Entry] = deque()
        self.fetched: list[Entry] = []
        self.in_flight: dict[Entry, None] = {}
        self.age = 0
        self.owners: Owners[Lease] = Owners()
        self.ledger = Ledger()
        self.wake_items = self.wake_bytes = NEVER
        self.wake: Callable[[], None] | None = None
        self.refusal: NamedDropReason = "closed"
        self.hurry = False
        self.held_back = 0
        self.losses = Losses(name, self.ledger, self)
        self.saves_all = self.awaits_disk = limits.spool == "always"
        self.spills = limits.spool == "spill"
        self.save: Callable[[], None] | None = None
        self._limits = limits
        self.awaiting_room: list[Future[None]] = []
        self.gone = 0
        self.inlet = inlet
        self.route = Route([self], inlet)
        self.routes: MutableSet[Route] = weakref.WeakSet([self.route])
        # Of the records of former processes, and of runs that no longer exist.
        self.left_behind = Lease(self.route)

    def take_from(self, inlet: Inlet | None) -> None:
        """Get items from this inlet, before the first comes."""
        self.inlet = self.route.inlet = inlet

    @property
    def upstream(self) -> int:
        """The number of items that wait at the inlet for their processors."""
        if self.inlet is None:
            return 0
        return sum(route.waiting for route in self.routes) - self.gone

    def snapshot(self) -> LedgerSnapshot:
        """Return the counts as they are now, with what waits at the inlet as pending."""
        ledger, upstream = self.ledger.snapshot(), self.upstream
        if not upstream:
            return ledger
        return msgspec.structs.replace(
            ledger, accepted=ledger.accepted + upstream, pending=ledger.pending + upstream
        )

    def retire(self, orphaned: Callable[[], None]) -> None:
        """
        In a forked child: refuse what is still recorded here, in a run of the parent's.

        Args:
            orphaned: Called when such a loss must be logged: the child may never use the delivery otherwise.
        """
        # The parent logs its own losses.
        self.losses = Losses(self._name, self.ledger, self)
        self.wake, self.save, self._orphaned = None, None, orphaned

    def log_losses(self, *, last: bool = False) -> None:
        """
        Log what has failed or was dropped, if a line is due; not under the lock.

        Args:
            last: Whether it is due however little time has passed since the last line.
        """
        if self._orphaned is not None:
            # An interpreter that is already exiting may refuse to start the thread for that.
            with suppress(RuntimeError, MemoryError):
                self._orphaned()
        if self.losses.unlogged:
            self.losses.log(last=last)

    # What comes in:

    def accept(self, entry: Entry) -> bool:
        """Queue an entry, or drop it or others for it; return whether anything was dropped."""
        ledger, queue = self.ledger, self.queue
        ledger.accepted += 1
        ledger.pending += 1
        dropped: list[tuple[Entry, NamedDropReason]] | None
        if self.wake is None:
            dropped = [(entry, self.refusal)]
        else:
            if self.awaits_disk:
                entry.unsaved = True
                entry.lease.count_unsaved(self, 1)
            dropped = queue.put(entry)
            if queue.items >= self.wake_items or queue.queued_bytes >= self.wake_bytes:
                self.wake_up()
            if self.hurry and self.save is not None:
                self.save()  # a run's end waits for it, and it has come from its processors only now
        if dropped is None:
            return False
        for each, reason in dropped:
            self.drop_entry(each, reason)
        return True

    def accept_all(self, entries: Sequence[Entry], size: int) -> bool:
        """Queue entries of `size` bytes together, or drop them or others for them; return whether any was dropped."""
        queue = self.queue
        if self.wake is None or self.saves_all or not queue.put_all(entries, size):
            dropped = [self.accept(entry) for entry in entries]
            return any(dropped)
        self.ledger.accepted += len(entries)
        self.ledger.pending += len(entries)
        if queue.items >= self.wake_items or queue.queued_bytes >= self.wake_bytes:
            self.wake_up()
        return False

    def refuse(self, lease: Lease, reason: DropReason, items: int = 1) -> None:
        """Count items that never reach a queue, and that their lease has already accepted, as accepted and dropped."""
        self.ledger.accepted += items
        self.ledger.pending += items
        self.losses.drop(lease, reason, items)
        if self.hurry and self.wake is not None:
            self.wake()  # it may be what the delivery waits for

    def discard(self, lease: Lease, reason: NamedDropReason, items: int) -> None:
        """Count items that are for this delivery alone as accepted and dropped."""
        lease.count_accepted(self, items)
        self.refuse(lease, reason, items)

    def hasten(self) -> None:
        """Have what waits written without waiting for more."""
        self.hurry = True
        if self.wake_items == 1 and not self.queue.items:
            return  # nothing waits here. What comes from its processors finds the hurry, and wakes the delivery.
        self.wake_up()
        if self.save is not None:
            self.save()

    def hasten_upstream(self) -> None:
        """Have what waits for its processors processed at once, and then written."""
        self.hurry = True
        if self.inlet is not None:
            self.inlet.hasten()

    def forget_upstream(self, reason: NamedDropReason) -> int:
        """Drop what waits for its processors; return how many items that were."""
        return 0 if self.inlet is None else self.inlet.forget(self, reason)

    def wake_up(self) -> None:
        """Wake the delivery, if it is at work."""
        self.wake_items = self.wake_bytes = NEVER
        if self.wake is not None:
            self.wake()

    # What is in memory:

    def is_filled(self, part: float) -> bool:
        """Whether the queue, with what was taken from it and is in memory still, has reached a part of its bounds."""
        queue, limits = self.queue, self._limits
        return queue.items >= limits.queue_items * part or queue.held_bytes >= limits.queue_bytes * part

    def room(self) -> Future[None] | None:
        """Return a future that is done when the queue has room; None if it has, or if nothing will make room."""
        if not self.spills or self.wake is None or not self.is_filled(0.5):
            return None
        future: Future[None] = Future()
        self.awaiting_room.append(future)
        self.hasten()
        if not self.queue.items:
            self.tell_room()  # what fills it is being written
        return future

    def tell_room(self) -> None:
        """Wake those who wait for room, if there is some or nothing will make any."""
        if self.awaiting_room and not (
            self.spills and self.wake is not None and self.queue.items and self.is_filled(0.5)
        ):
            waiters, self.awaiting_room = self.awaiting_room, []
            resolve(waiters)

    @property
    def in_memory(self) -> int:
        """The number of entries."""
        taken = self.saving, self.ready, self.fetched, self.in_flight
        return self.queue.items + sum(map(len, taken))

    @property
    def only_in_memory(self) -> bool:
        """Whether any entry is in memory and not in the spool."""
        taken = (*self.saving, *self.ready, *self.in_flight)
        return self.queue.items > 0 or any(entry.key is None for entry in taken)

    def take_ready(self, max_items: int, max_bytes: int) -> list[Entry]:
        """Take the oldest ready entries, up to these bounds, but always one."""
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

    def take_to_save(self) -> list[Entry]:
        """Take the oldest from the queue to save them; those already in the spool become ready."""
        entries = self.queue.take(SAVE_ITEMS, min(_SAVE_BYTES, self._limits.queue_bytes // 16))
        # A batch that came back while it was being saved.
        self.ready.extend(entry for entry in entries if entry.key is not None)
        unsaved = [entry for entry in entries if entry.key is None]
        self.saving.update(unsaved)
        # Group them by run: their owners then take little memory.
        runs: dict[Lease, list[Entry]] = {}
        for entry in unsaved:
            runs.setdefault(entry.lease, []).append(entry)
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

    def leave_to_spool(self) -> None:
        """Let go of what waits to be sent and is in the spool too."""
        kept = deque(entry for entry in self.ready if entry.key is None)
        left = [entry for entry in self.ready if entry.key is not None]
        self.queue.release(left)
        for entry in (*left, *self.fetched):
            if entry.key is not None:
                self.own(entry.key, entry.lease)
        self.ready, self.fetched = kept, []

    # What becomes of it:

    def settle(self, entry: Entry, outcome: Outcome, failures: Mapping[Outcome, Failure]) -> None:
        """Count the outcome of an entry; `failures` holds the reason for each outcome."""
        entry.settled = True
        if outcome is Outcome.DELIVERED:
            self.ledger.pending -= 1
            self.ledger.delivered += 1
            entry.lease.count_delivered(self, 1)
        else:
            self.losses.fail(entry.lease, *failures[outcome], 1)
        if entry.unsaved:
            self.saved(entry)

    def settle_all(
        self, batch: Sequence[Entry], outcomes: Sequence[Outcome], failures: Mapping[Outcome, Failure]
    ) -> None:
        """Count the outcomes of a batch that was sent without a spool, and let go of it."""
        if len(batch) == len(self.in_flight):
            self.in_flight.clear()
        else:
            for entry in batch:
                del self.in_flight[entry]
        self.queue.release(batch)
        leases = [entry.lease for entry in batch]
        if outcomes.count(Outcome.DELIVERED) < len(batch):
            unsent = Counter(zip(leases, outcomes, strict=True))
            leases = list(compress(leases, [outcome is Outcome.DELIVERED for outcome in outcomes]))
            for (lease, outcome), items in unsent.items():
                if outcome is not Outcome.DELIVERED:
                    self.losses.fail(lease, *failures[outcome], items)
        self.ledger.pending -= len(leases)
        self.ledger.delivered += len(leases)
        count_all_delivered(self, leases)

    def drop_entry(self, entry: Entry, reason: NamedDropReason) -> None:
        """Count an entry that is not in the spool as dropped."""
        entry.dropped = True
        self.saved(entry)
        self.losses.drop(entry.lease, reason, 1)

    def drop_all(self, entries: Iterable[Entry], reason: NamedDropReason) -> int:
        """Drop entries that were taken, except those in the spool, which stay there; return how many."""
        dropped = 0
        for entry in entries:
            if entry.key is None:
                self.drop_entry(entry, reason)
                dropped += 1
            else:
                self.own(entry.key, entry.lease)
        return dropped

    def saved(self, entry: Entry) -> None:
        """Count an entry as on the disk, or as one that never will be."""
        if entry.unsaved:
            entry.unsaved = False
            entry.lease.count_unsaved(self, -1)

    # What the spool says:

    def can_save(self, *, can: bool) -> None:
        """Note whether anything can be saved. While nothing can be, no run waits for that at its end."""
        self.awaits_disk = self.saves_all and can
        self.spills = can and self._limits.spool == "spill"
        if not can:
            for entry in self.queue.waiting:
                self.saved(entry)
            self.tell_room()

    def recovered(self, records: int) -> None:
        """Count records that were found in the spool as accepted."""
        self.ledger.accepted += records
        self.ledger.pending += records
        self.left_behind.count_accepted(self, records)

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
                # It was given up just before it was stored: the next reader of the spool delivers it all the same.
                self.recovered(1)
            elif taken and (stay or key is None):
                entry.key = key
                self.ready.append(entry)
            elif taken and key is not None:
                entry.key = key
                self.own(key, entry.lease)
                self.queue.release([entry])
            elif key is not None:
                entry.key = key  # it is being sent at the same time, or has come back from there
        return done

    def not_stored(self, entries: Sequence[Entry]) -> None:
        """Let entries that could not be stored wait again to be stored or sent."""
        back = [entry for entry in entries if entry in self.saving]
        self.saving.difference_update(back)
        self.queue.put_back(back)

    def fetch(self, records: Iterable[tuple[int, Item]], age: int) -> None:
        """Take in what was read from the spool in this age of the accounting."""
        if age == self.age:
            # They are in memory for one batch, outside the queue, and do not count towards its size.
            self.fetched += [Entry(item, 0, self.owner(key), key) for key, item in records]

    def drop_records(self, keys: Iterable[int], reason: SpoolDropReason) -> None:
        """Count records of the spool as dropped."""
        for key in keys:
            self.losses.drop(self.owner(key), reason, 1)

    def drop_left_behind(self, reason: SpoolDropReason, items: int) -> None:
        """Count records of former processes, which the spool names no keys of, as dropped."""
        self.losses.drop(self.left_behind, reason, items)

    def own(self, key: int, lease: Lease) -> None:
        """Note which lease a record belongs to that is in the spool and not in memory."""
        if lease is not self.left_behind:
            self.owners.add(key, lease)

    def owner(self, key: int) -> Lease:
        """Return the owner of a record in the spool, and forget it; by default that of former processes."""
        return self.owners.pop(key) or self.left_behind
