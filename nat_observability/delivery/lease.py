"""Lease: one run's access to the deliveries of a route, and the outcome of its items in each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, MutableSet, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

import msgspec

from nat_observability.delivery import locking
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.loss_reasons import DropReason, NamedDropReason
from nat_observability.delivery.queue import weigh
from nat_observability.delivery.state import Hold, all_of, resolve, resolved
from nat_observability.events import Item

NEVER = 1 << 62
"""A count that is out of reach."""


class Destination(Protocol):
    """A delivery's queue and counts, as a lease sees them."""

    routes: MutableSet[Route]
    """Every way that leads here."""

    refusal: NamedDropReason
    """The reason for which items are dropped while it is not at work."""

    gone: int
    """Items that it has given up while they waited at an inlet, and that are still there."""

    @property
    def saves_all(self) -> bool:
        """Whether each item must be on the disk before its run has ended."""
        ...

    def accept(self, entry: Entry) -> bool:
        """Queue an entry; return whether it, or another one for it, was dropped."""
        ...

    def accept_all(self, entries: Sequence[Entry], size: int) -> bool:
        """Do as `accept` with each of some entries, of `size` bytes together; return the same."""
        ...

    def refuse(self, lease: Lease, reason: DropReason, items: int = 1) -> None:
        """Count items that never reach a queue, and that their lease has already accepted, as accepted and dropped."""
        ...

    def discard(self, lease: Lease, reason: NamedDropReason, items: int) -> None:
        """Count items that are for this delivery alone as accepted and dropped."""
        ...

    def hasten(self) -> None:
        """Have what waits written without waiting for more."""
        ...

    def room(self) -> Future[None] | None:
        """Return a future that is done when the queue has room; None if it has, or if nothing will make room."""
        ...

    def log_losses(self) -> None:
        """Log what was lost, if a line is due; not under the lock."""
        ...


class Inlet(Protocol):
    """Where items wait for their processors, as a lease and a delivery see it."""

    passing_since: float | None
    """While results are queued in deliveries, when the first of their items has come; else None."""

    def put(self, arrival: Arrival) -> bool:
        """Queue an arrival; return whether it, or another one for it, was refused for all of its destinations."""
        ...

    def hasten(self) -> None:
        """Have what waits processed at once."""
        ...

    def forget(self, destination: Destination, reason: DropReason) -> int:
        """Drop what waits for one delivery; return how many items that were."""
        ...


class Route:
    """
    The path of some runs' items: through the processors at an inlet, if there are any, to some deliveries.

    Attributes:
        destinations: The deliveries that each item goes to.
        inlet: Where it waits for its processors; None if there are no processors.
        waiting: Items that wait at the inlet, or are being processed. Each destination counts them as pending.
    """

    __slots__ = ("__weakref__", "destinations", "inlet", "positions", "saves", "waiting")

    def __init__(self, destinations: Iterable[Destination], inlet: Inlet | None) -> None:
        self.destinations = tuple(destinations)
        self.inlet = inlet
        self.waiting = 0
        self.positions = {id(destination): n for n, destination in enumerate(self.destinations)}
        self.saves = tuple(each.saves_all for each in self.destinations)


class Entry(msgspec.Struct, eq=False, gc=False):
    """
    One item on its way through one delivery.

    `key` is that of its record in the spool, if it has one; `unsaved` says whether its run waits for that. One that is
    `settled` has reached the back end or was refused by it, one that is `dropped` was given up.
    """

    # Not tracked by the garbage collector: thousands of these wait in a queue.
    item: Item
    size: int
    lease: Lease
    key: int | None = None
    unsaved: bool = False
    settled: bool = False
    dropped: bool = False


class Arrival(msgspec.Struct, eq=False, gc=False):
    """One item at an inlet. `gone` are those of its destinations that have given it up."""

    item: Item
    size: int
    lease: Lease
    gone: tuple[Destination, ...] = ()


class _Counts:
    """The rare counts of one run in one delivery: everything but accepted and delivered items."""

    __slots__ = ("accepted", "dropped", "failed", "gone", "saving", "settling", "unsaved")

    def __init__(self) -> None:
        self.accepted = 0  # beyond what the lease has accepted
        self.failed = 0
        self.gone = 0  # items at the inlet that the delivery has given up, and that are there still
        self.unsaved = 0  # items that are to be on the disk before the run has ended, and are not
        self.dropped: dict[str, int] = {}
        self.settling: list[Future[None]] = []
        self.saving: list[Future[None]] = []


class Lease:
    """
    A run's or the runtime's access to deliveries. Any thread may call its methods.

    It holds each of the deliveries open, unless a runtime does so for the whole process.

    Attributes:
        route: Where its items go.
        opening: Done when the sink is open, failed with what opening it raised, or with the ThreadRefusedError if there
            is no thread for it; None if there is nothing to wait for.
        run_id: Of the run that it is for; None for a runtime, and for what former processes have left.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_accepted_bytes",
        "_delivered",
        "_give_back",
        "_rare",
        "_waiting",
        "opening",
        "route",
        "run_id",
    )

    def __init__(
        self,
        route: Route,
        hold: Hold | None = None,
        give_back: Callable[[Hold], None] | None = None,
        run_id: str | None = None,
    ) -> None:
        self.route = route
        self.run_id = run_id
        self.opening = None if hold is None else hold.opening
        self._give_back = None if hold is None or give_back is None else (give_back, hold)
        self._accepted = self._accepted_bytes = 0
        self._waiting = 0  # at the inlet, or being processed
        # Of each destination, by its position in the route. Nearly every run needs no more than this.
        self._delivered: list[int] | None = None
        self._rare: dict[int, _Counts] | None = None

    def accept(self, item: Item) -> None:
        """Queue `item`; the ledger counts its outcome. Never blocks, never raises."""
        lock, size = locking.lock, weigh(item)
        route = self.route
        # As `with` does, in a third of the time: an interruption may come while this waits for the lock, or right
        # after.
        try:
            lock.acquire()
            self._accepted += 1
            if route.inlet is not None:
                self._waiting += 1
                route.waiting += 1
                dropped = route.inlet.put(Arrival(item, size, self))
            else:
                dropped = False
                for destination in route.destinations:
                    dropped |= destination.accept(Entry(item, size, self))
        except BaseException:
            with suppress(RuntimeError):  # it was not acquired
                lock.release()
            raise
        lock.release()
        if dropped:
            for destination in route.destinations:
                destination.log_losses()

    def accept_within(self, item: Item, limit: int) -> None:
        """Queue `item`, unless with those before it exceeds so many bytes: then it is dropped as `run_too_large`."""
        size = weigh(item)
        with locking.lock:
            fits = self._accepted_bytes + size <= limit
            if fits:
                self._accepted_bytes += size
        if fits:
            self.accept(item)
        else:
            self.discard("run_too_large", 1)

    def discard(self, reason: NamedDropReason, items: int) -> None:
        """Count items that are not to be queued as accepted and dropped, in every delivery of the route."""
        with locking.lock:
            for destination in self.route.destinations:
                destination.discard(self, reason, items)
        for destination in self.route.destinations:
            destination.log_losses()

    @property
    def ledger(self) -> LedgerSnapshot:
        """The outcome of its items, in the one delivery of its route."""
        return self.ledger_of(self.route.destinations[0])

    def ledger_of(self, destination: Destination) -> LedgerSnapshot:
        """Return the outcome of its items in one of the deliveries."""
        position = self._position(destination)
        with locking.lock:
            rare = self._rare.get(position) if self._rare is not None else None
            delivered = 0 if self._delivered is None else self._delivered[position]
            if rare is None:
                return LedgerSnapshot(self._accepted, delivered, 0, self._accepted - delivered)
            return LedgerSnapshot(
                self._accepted + rare.accepted,
                delivered,
                rare.failed,
                self._pending(position),
                dict(rare.dropped),
            )

    def settled(self) -> Future[None]:
        """Return a future that is done when nothing of this lease is pending. What waits is written at once."""
        return all_of([self.settled_in(destination) for destination in self.route.destinations])

    def settled_in(self, destination: Destination) -> Future[None]:
        """Return a future that is done when nothing of this lease is pending in one of the deliveries."""
        position = self._position(destination)
        with locking.lock:
            if not self._pending(position):
                return resolved()
            future = self._hastened(destination)
            self._rare_of(position).settling.append(future)
            return future

    def saved_in(self, destination: Destination) -> Future[None]:
        """Return a future that is done when everything of this lease is on the disk, if `spool` is `always`."""
        position = self._position(destination)
        with locking.lock:
            if not self._unsaved(position):
                return resolved()
            future = self._hastened(destination)
            self._rare_of(position).saving.append(future)
            return future

    def saved(self) -> Future[None]:
        """Return a future that is done when every delivery that saves everything has it on the disk."""
        return all_of([self.saved_in(destination) for destination in self.route.destinations])

    def room(self) -> Future[None] | None:
        """
        Return a future that is done when the spool has made room, in deliveries that spill and have a half-full queue.

        A run that waits for it at its end keeps new runs from outpacing the disk, so that nothing is dropped while the
        back end is down. None if there is room, or no spool to make it.
        """
        with locking.lock:
            waiting = [room for each in self.route.destinations if (room := each.room()) is not None]
        return all_of(waiting) if waiting else None

    def release(self) -> None:
        """Give the lease back. With the last one the delivery writes what is queued and closes, in the background."""
        given, self._give_back = self._give_back, None
        if given is not None:
            give_back, hold = given
            give_back(hold)

    # Under the lock, for the inlet and the deliveries:

    def left_inlet(self) -> None:
        """One item was processed, or given up at the inlet."""
        self._waiting -= 1
        self.route.waiting -= 1
        if not self._waiting:
            self._tell_all()

    def count_unsaved(self, destination: Destination, items: int) -> None:
        """Count items that must be on the disk before the run has ended; fewer if `items` is negative."""
        position = self._position(destination)
        rare = self._rare_of(position)
        rare.unsaved += items
        self._tell(position, rare)

    def count_gone(self, destination: Destination, items: int) -> None:
        """Count items that one of the deliveries has given up while they are at the inlet."""
        self._rare_of(self._position(destination)).gone += items

    def count_delivered(self, destination: Destination, items: int) -> None:
        """Count items that have reached the back end."""
        position = self._position(destination)
        if self._delivered is None:
            self._delivered = [0] * len(self.route.destinations)
        self._delivered[position] += items
        if self._rare is not None and (rare := self._rare.get(position)) is not None:
            self._tell(position, rare)

    def count_failed(self, destination: Destination, items: int) -> None:
        """Count items that the back end has refused for good."""
        position = self._position(destination)
        rare = self._rare_of(position)
        rare.failed += items
        self._tell(position, rare)

    def count_dropped(self, destination: Destination, reason: str, items: int) -> None:
        """Count items that were given up."""
        position = self._position(destination)
        rare = self._rare_of(position)
        rare.dropped[reason] = rare.dropped.get(reason, 0) + items
        self._tell(position, rare)

    def count_accepted(self, destination: Destination, items: int) -> None:
        """Count items that came to one of the deliveries alone."""
        self._rare_of(self._position(destination)).accepted += items

    def _position(self, destination: Destination) -> int:
        return self.route.positions[id(destination)]

    def _rare_of(self, position: int) -> _Counts:
        if self._rare is None:
            self._rare = {}
        if (rare := self._rare.get(position)) is None:
            rare = self._rare[position] = _Counts()
        return rare

    def _pending(self, position: int) -> int:
        pending = self._accepted - (0 if self._delivered is None else self._delivered[position])
        rare = self._rare.get(position) if self._rare is not None else None
        if rare is not None:
            pending += rare.accepted - rare.failed - sum(rare.dropped.values())
        return pending

    def _unsaved(self, position: int) -> int:
        if not self.route.saves[position]:
            return 0
        rare = self._rare.get(position) if self._rare is not None else None
        return self._waiting + (rare.unsaved - rare.gone if rare is not None else 0)

    def _tell_all(self) -> None:
        for position, rare in list(self._rare.items()) if self._rare is not None else ():
            self._tell(position, rare)

    def _tell(self, position: int, rare: _Counts) -> None:
        """Wake those who wait for the last of a run's items, if this was the last."""
        if rare.settling and not self._pending(position):
            waiters, rare.settling = rare.settling, []
            resolve(waiters)
        if rare.saving and not self._unsaved(position):
            waiters, rare.saving = rare.saving, []
            resolve(waiters)

    def _hastened(self, destination: Destination) -> Future[None]:
        """Have what waits written at once; return a future that is done afterwards."""
        future: Future[None] = Future()
        # The spool knows a run only while its lease is referenced: a caller that waits keeps it.
        future.add_done_callback(lambda _: self)
        if self.route.inlet is not None:
            self.route.inlet.hasten()
        destination.hasten()
        return future


def all_left_inlet(route: Route, arrivals: Sequence[Arrival]) -> None:
    """Count arrivals of one route as processed, as `Lease.left_inlet` does for each. Under the lock."""
    route.waiting -= len(arrivals)
    for arrival in arrivals:
        lease = arrival.lease
        lease._waiting -= 1
        if lease._rare is not None and not lease._waiting:
            lease._tell_all()


def count_all_delivered(destination: Destination, leases: Iterable[Lease]) -> None:
    """Count one item for each of `leases` as delivered, as `Lease.count_delivered` does. Under the lock."""
    route, position, places = None, 0, 0
    # Either a few runs with many items each, or many runs with a few: counted at once for each run.
    for lease, items in Counter(leases).items():
        if lease.route is not route:
            route = lease.route
            position, places = route.positions[id(destination)], len(route.destinations)
        if lease._delivered is None:
            lease._delivered = [0] * places
        lease._delivered[position] += items
        if lease._rare is not None and (rare := lease._rare.get(position)) is not None:
            lease._tell(position, rare)
