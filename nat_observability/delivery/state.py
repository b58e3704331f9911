"""State: a delivery's phase, its leases, and those who wait for it to open or to close; and its health."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from enum import StrEnum

import msgspec

from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.errors import RuntimeStateError
from nat_observability.system.clock import monotonic

changes = 0
"""How often a runtime has taken or given back a delivery, or one has begun or ended its work, in this process."""


def note_change() -> None:
    """Invalidate what was cached about deliveries, or about the exporters on them."""
    global changes
    changes += 1


END_EARLY = 0.5
"""Seconds before the end of a last call after which no try begins, so that its failure is still logged."""

_FAIL_AGAIN_FOR = 5.0  # seconds in which a lease gets the last error of opening instead of another try


class DeliveryState(StrEnum):
    """The phase of a delivery; it may go round more than once."""

    NEW = "new"
    OPENING = "opening"
    REOPENING = "reopening"
    """Its sink could not be opened while a runtime holds it: it is tried again in the background."""
    OPEN = "open"
    DRAINING = "draining"
    """What waits is written, until the time for that is over, and then it closes, even if leases are held."""
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"

    @property
    def at_work(self) -> bool:
        """Whether a delivery loop runs."""
        return self not in _AT_REST

    @property
    def opening(self) -> bool:
        """Whether the sink is not open yet."""
        return self in _NOT_YET_OPEN


_AT_REST = (DeliveryState.NEW, DeliveryState.CLOSED, DeliveryState.FAILED)
_NOT_YET_OPEN = (DeliveryState.OPENING, DeliveryState.REOPENING)
_OPEN = (DeliveryState.OPEN, DeliveryState.DRAINING)


class DeliveryHealth(msgspec.Struct, frozen=True):
    """
    The state of a delivery at one moment.

    `queue_depth` includes what waits for its processors. `queue_bytes` includes what is being written, `in_flight` is
    the number of those items. `spooled` is the number of items that are on the disk and not in memory.
    `last_batch_s` is how many seconds the last batch took, all its tries included, and `last_batch_failed` whether the
    back end took nothing of it. `last_success_s` is how many seconds ago it last took something, or else it was opened.
    """

    state: DeliveryState
    ledger: LedgerSnapshot
    queue_depth: int
    queue_capacity: int
    queue_bytes: int
    in_flight: int
    last_batch_s: float | None
    spooled: int
    breaker: BreakerState
    last_error: str | None
    last_batch_failed: bool = False
    last_success_s: float | None = None


class Hold:
    """One lease's hold: it is given back once, and not after the delivery's term has ended."""

    __slots__ = ("keep", "opening", "term", "waits")

    def __init__(self, term: object, *, keep: bool, waits: bool) -> None:
        self.term: object | None = term
        self.keep, self.waits = keep, waits
        self.opening: Future[None] | None = None


class State:
    """
    The state of one delivery. Everything here is called under the lock.

    A term is the time in which leases count: a last call ends it, and so does a fork, which only the leases that a
    runtime keeps survive.

    Attributes:
        phase: The phase of the delivery.
        leases: How many hold it.
        kept: How many of those are a runtime's, which survive in a forked child.
        open_error: Why its sink could not be opened the last time; None if it could.
        end_error: Why it was given up; None if it was closed in order.
        last_call: Whether a last call has come that is not answered yet.
        last_call_until: When its caller stops waiting, in seconds of `time.monotonic()`; None if that is unknown.
        unwanted: Whether the delivery is to close as soon as nothing waits: nothing holds it, or a last call has come.
    """

    def __init__(self, name: str, *, kept: int = 0, kept_term: object | None = None) -> None:
        self._name = name
        self.phase = DeliveryState.NEW
        self.leases = self.kept = kept
        self._term = object()
        self._kept_term = object() if kept_term is None else kept_term
        self.open_error: BaseException | None = None
        self.end_error: BaseException | None = None
        self._open_failed_at = -_FAIL_AGAIN_FOR
        self._given_up_on = False  # whether a waiter has stopped waiting for it to open
        self.last_call = False
        self.last_call_until: float | None = None
        self._ends_at: float | None = None
        self._note_demand()
        self._taken = False  # whether a lease was taken since this began to close, or since the last call
        self._owed = False  # whether one was taken since this began to close, and then a last call came
        self._opening: list[Future[None]] = []
        self._closing: list[Future[None]] = []
        # Those who wait for the end of a delivery that is at rest, but still has losses to log.
        self._unreported: list[Future[None]] | None = None

    def in_child(self) -> State:
        """Return the state of the same delivery in a forked child."""
        note_change()
        return State(self._name, kept=self.kept, kept_term=self._kept_term)

    # Leases:

    def hold(self, *, keep: bool) -> Hold:
        """Count one more lease. Its `opening` is what it may wait for; None if there is nothing to wait for."""
        # A runtime has waited for the sink before its first run began. Another wait would only delay the run: the sink
        # is tried again in the background anyway.
        self._given_up_on = self._given_up_on or any(waiter.cancelled() for waiter in self._opening)
        waits = keep or not (self.kept or self._given_up_on)
        hold = Hold(self._kept_term if keep else self._term, keep=keep, waits=waits)
        self.leases += 1
        self.kept += keep
        self._taken = True
        self._note_demand()
        if keep:
            note_change()
        if self.phase in _OPEN or (self.phase.opening and not waits):
            return hold
        hold.opening = Future()
        if (not self.phase.at_work and self._fails_again) or self.phase is DeliveryState.REOPENING:
            hold.opening.set_exception(self.open_error)
        else:
            self._opening.append(hold.opening)
        return hold

    @property
    def _fails_again(self) -> bool:
        return self.open_error is not None and monotonic() < self._open_failed_at + _FAIL_AGAIN_FOR

    def starts(self, hold: Hold) -> bool:
        """Whether to start a delivery loop for this lease."""
        return not self.phase.at_work and hold.opening is not None and not hold.opening.done()

    def give_back(self, hold: Hold) -> bool:
        """Take a lease back; return whether it was the last one."""
        term, hold.term = hold.term, None
        if term is None or term is not (self._kept_term if hold.keep else self._term):
            return False
        self.leases -= 1
        self.kept -= hold.keep
        self._note_demand()
        if hold.keep:
            note_change()
        if hold.opening is not None and not hold.opening.done():
            self._given_up_on = True
        return not self.leases

    def note_last_call(self, until: float | None) -> None:
        """End the term: no lease counts any more but those that are taken from now on."""
        self._term, self._kept_term = object(), object()
        note_change()
        self.leases = self.kept = 0
        self._owed = self.phase is DeliveryState.CLOSING and (self._taken or self._owed)
        self.last_call, self._taken = True, False
        self.last_call_until, self._ends_at = until, None
        self._note_demand()
        if self.phase is DeliveryState.OPEN:
            self.phase = DeliveryState.DRAINING

    def ends_at(self, now: float) -> float | None:
        """Return when the last tries end, by the clock that shows `now`; None if each has to be the only one."""
        if not self.last_call:
            return None
        if self._ends_at is None and self.last_call_until is not None:
            # By the first look: the clock of a test's loop is not the one of `last_call_until`.
            self._ends_at = now + max(0.0, self.last_call_until - monotonic()) - END_EARLY
        return self._ends_at

    def _note_demand(self) -> None:
        self.unwanted = self.last_call or not self.leases  # kept, because each batch asks for it

    # Those who wait:

    def closed(self) -> Future[None]:
        """Return a future that is done when the delivery has closed and said what it lost, at once if it has."""
        waiters = self._closing if self.phase.at_work else self._unreported
        if waiters is None:
            return resolved()
        future: Future[None] = Future()
        waiters.append(future)
        return future

    # Reports of the delivery loop:

    def begin(self, hold: Hold) -> None:
        """A loop was started for this lease."""
        if not hold.waits and hold.opening is not None:
            self._opening.remove(hold.opening)
            hold.opening = None
        self.last_call = self._given_up_on = False
        self._note_demand()
        self.phase = DeliveryState.OPENING
        note_change()

    def begin_again(self) -> None:
        """Another loop was started in the place of one that broke."""
        self.phase = DeliveryState.OPENING

    def refused(self, error: BaseException) -> None:
        """No loop could be started: a thread, a file handle or memory was refused. `finish` follows."""
        self.open_error = error
        self._open_failed_at = -_FAIL_AGAIN_FOR  # asking again costs next to nothing

    def opened(self) -> None:
        """The sink is open."""
        self.phase = DeliveryState.DRAINING if self.last_call else DeliveryState.OPEN
        self.open_error, self._given_up_on = None, False
        opening, self._opening = self._opening, []
        resolve(opening)

    def not_opened(self, error: BaseException) -> bool:
        """
        The sink could not be opened; return whether to try again, if there is time: a runtime holds it, or it ends.

        If not, those who wait for it to open are told by `finish`: they find what they have recorded counted as lost.
        """
        self.open_error, self._open_failed_at = error, monotonic()
        if self.last_call:
            return True
        if self.unwanted or not self.kept:
            return False
        self._tell_not_opened(error)
        self.phase = DeliveryState.REOPENING
        return True

    def closing(self) -> None:
        """Everything was written, and the sink is about to be closed."""
        self.phase, self._taken = DeliveryState.CLOSING, False

    def reopens(self, *, waiting: bool) -> bool:
        """
        The sink was closed; return whether to open it again, for leases that were taken meanwhile.

        Args:
            waiting: Whether any item waits. If no lease was taken meanwhile, it came too late.
        """
        owed, self._owed = waiting and self._owed, False
        if not (self.leases or (waiting and self._taken) or owed):
            return False
        if self.last_call and not owed:  # what is owed is part of what the last call waits for
            # A server answers requests while its process shuts down: their runs find an open delivery once more. The
            # last call was answered all the same.
            self.last_call = False
            self._note_demand()
            closing, self._closing = self._closing, []
            resolve(closing)
        self.phase = DeliveryState.OPENING
        return True

    def finish(self, phase: DeliveryState, error: BaseException | None) -> None:
        """The delivery is at rest. Those who wait for its end wait for `reported`."""
        self.phase, self.end_error = phase, error
        note_change()
        self._given_up_on = self.last_call = False
        self._note_demand()
        if error is None:
            error = RuntimeStateError(f"The delivery of {self._name!r} was closed while it opened.")
        self._tell_not_opened(error)
        self._unreported = [*(self._unreported or ()), *self._closing]
        self._closing = []

    def reported(self) -> None:
        """Everything about a delivery at rest was logged: those who wait for its end are woken."""
        waiters, self._unreported = self._unreported, None
        resolve(waiters or ())

    def _tell_not_opened(self, error: BaseException) -> None:
        opening, self._opening = self._opening, []
        resolve(opening, error)


def resolve(waiters: Iterable[Future[None]], error: BaseException | None = None) -> None:
    """Wake those who still wait: it is over."""
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


def all_of(futures: Sequence[Future[None]]) -> Future[None]:
    """Return a future that is done when all of these are."""
    left = [future for future in futures if not future.done()]
    if len(left) <= 1:
        return left[0] if left else resolved()
    whole: Future[None] = Future()
    done = itertools.count(1)  # an atomic increment: safe from several threads

    def one_is_done(_: Future[None]) -> None:
        if next(done) == len(left):
            resolve([whole])

    for future in left:
        future.add_done_callback(one_is_done)
    return whole
