"""Delivery: the shared part of an exporter, from its queue to its sink, as its users see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import msgspec

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import Lease, Route
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loop import DeliveryLoop, finish, report
from nat_observability.delivery.loss_reasons import NamedDropReason
from nat_observability.delivery.losses import is_any_unlogged, log_all
from nat_observability.delivery.pipeline.intake import Intake, intake_of
from nat_observability.delivery.sending import sink_adapters
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.sending.periodic_work import RunFeed
from nat_observability.delivery.state import DeliveryHealth, DeliveryState, Hold, State
from nat_observability.delivery.threads import process_end
from nat_observability.delivery.threads.delivery_thread import DeliveryThread, LoopSource, weak_call
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.delivery.threads.worker import BlockingWorker, NewWorker, call_apart
from nat_observability.errors import RuntimeStateError, StartTimeoutError, StopTimeoutError
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger
from nat_observability.sinks.protocol import BatchFunction, BlockingSink, Sink
from nat_observability.spool import fork_safety
from nat_observability.system.clock import monotonic
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

if TYPE_CHECKING:
    from nat_observability.delivery.spool_client import SpoolClient
    from nat_observability.processors.processor import Processor

_log = get_logger()
_LAST_TRIES = 5.0  # seconds at most in which the exit of a process tries a back end that is down


class Delivery:
    """
    Queue, batching and writing for one exporter, shared by all runs. Each has a thread with an event loop of its own.

    Args:
        name: The exporter's name, for logs and reports.
        sink: A `Sink`, a `BlockingSink`, or a function or coroutine function that takes a batch.
        limits: Bounds of queue, batches, tries, times and spool.
        loop_source: Where the event loop comes from; by default a thread of its own. A group also lends the threads for
            a blocking sink and for the spool.
        processors: Applied to each item once, in this order, before queue, spool and sink. One that raises drops the
            item, counted as `processor_failed:<name>`; one that returns None likewise as `filtered:<name>`. An
            `Intake` that several deliveries share processes an item once for all of them.

    Attributes:
        measure, measured_as: Called on the delivery's loop with the seconds that a batch took, and these attributes.

    Raises:
        TypeError: `sink` is none of these, or a processor cannot be called.
        ValueError: A spool is asked for, but `spool_path` is not set or another of its limits is wrong.
    """

    def __init__(
        self,
        name: str,
        sink: Sink | BlockingSink | BatchFunction,
        *,
        limits: DeliveryLimits | None = None,
        loop_source: LoopSource | DeliveryThreadGroup | None = None,
        processors: Iterable[Processor] | Intake = (),
    ) -> None:
        self.name = name
        self.limits = limits or DeliveryLimits()
        self.measure: Callable[[float, Mapping[str, str]], object] | None = None
        self.measured_as: Mapping[str, str] = {}
        self._new_worker: NewWorker = BlockingWorker
        group = loop_source if isinstance(loop_source, DeliveryThreadGroup) else None
        if isinstance(loop_source, DeliveryThreadGroup):
            self._new_worker = loop_source.workers()
            loop_source = loop_source.thread()
            loop_source.notify(self._loop_broke)
        self._sink = sink_adapters.as_sink(sink, self._new_worker)
        self._loop_source = loop_source or DeliveryThread(
            f"nat-observability-delivery-{name}", on_broken=weak_call(self._loop_broke)
        )
        self._intake = intake_of(name, processors, group or loop_source)
        self._use(self._intake)
        self._state = State(name)
        self._begin_empty()
        _deliveries.add(self)

    def _begin_empty(self) -> None:
        self._accounting = Accounting(self.name, self.limits, self._intake)
        self._spool: SpoolClient | None = None
        if self.limits.spool != "off":
            with fork_safety.loading:
                # SQLite and the rest of the spool are a quarter of the package's import time, and most exporters have
                # no spool.
                from nat_observability.delivery.spool_client import SpoolClient
            where = sink_adapters.destination_of(self._sink)
            self._spool = SpoolClient(self.name, self.limits, self._accounting, self._new_worker, where)
        self._loop: DeliveryLoop | None = None  # the last one, if none is at work

    def _use(self, intake: Intake | None) -> None:
        self._intake = intake
        if intake is not None:
            intake.widen(self.limits)
        if self.feed is not None:
            self.feed.pipeline = None if intake is None else intake.pipeline

    @property
    def feed(self) -> RunFeed | None:
        """Where its runs are noted, if the sink is told of runs; else None."""
        return sink_adapters.feed_of(self._sink)

    @property
    def sink(self) -> Sink | BlockingSink | None:
        """The sink as it was given; None if it is a function."""
        return sink_adapters.given_sink(self._sink)

    @property
    def intake(self) -> Intake | None:
        """Where items wait for their processors; None if there are no processors."""
        return self._intake

    @property
    def processors(self) -> tuple[Processor, ...]:
        """The processors that each item goes through, in this order."""
        return () if self._intake is None else self._intake.pipeline.processors

    def process_with(self, processors: Iterable[Processor] | Intake) -> None:
        """
        Replace the processors.

        Raises:
            RuntimeStateError: The delivery has been opened before.
            TypeError: One of them cannot be called.
        """
        intake = intake_of(self.name, processors, None)
        with locking.lock:
            phase = self._state.phase
            if phase is not DeliveryState.NEW:
                raise RuntimeStateError(
                    f"The delivery of {self.name!r} is {phase}. Give it its processors before its first lease."
                )
            self._use(intake)
            self._accounting.take_from(intake)

    def lease(self, *, keep: bool = False, run_id: str | None = None) -> Lease:
        """
        Hold the delivery open, opening it if it is not yet. From any thread; returns at once.

        It does not raise: if no thread can be started, `lease.opening` has failed, what the lease accepts is
        dropped as `not_open`, and the next lease tries again.

        Args:
            keep: Whether the lease survives in a forked child, as the runtime's does; a run's does not.
            run_id: Of the run, to be named if it loses anything.
        """
        started: DeliveryLoop | None = None
        with locking.lock:
            state = self._state
            hold = state.hold(keep=keep)
            lease = Lease(self._accounting.route, hold, self._give_back, run_id)
            if state.starts(hold):
                try:
                    process_end.drain_at_end_of_child()
                    started = self._new_loop()
                except Exception as error:  # noqa: BLE001  the system may refuse a thread, a file handle or memory
                    self._refused(error)
                else:
                    state.begin(hold)
                    lease.opening = hold.opening
                    self._loop, self._accounting.wake = started, started.wake
        if started is not None:
            self._start(started)
        elif not state.phase.at_work:
            report(state, self._accounting)
        return lease

    def _start(self, loop: DeliveryLoop) -> None:
        try:
            loop.start()
        except Exception as error:  # noqa: BLE001  its event loop is closed, or memory has run out
            with locking.lock:
                if self._loop is loop and not loop.dismissed:
                    loop.dismiss()
                    self._refused(error)
            loop.give_up()
            report(self._state, self._accounting)

    def _refused(self, error: Exception) -> int:
        self._state.refused(error)
        return finish(self._state, self._accounting, self._spool, DeliveryState.FAILED, error, "not_open")

    def _loop_broke(self, error: Exception, had_begun: bool) -> None:
        """Move to another event loop, because this one no longer runs; fail if it never ran."""
        loop, lost = None, 0
        with locking.lock:
            broken = self._loop
            if broken is None or broken.dismissed or not self.at_work or not broken.is_cut_off:
                return
            broken.dismiss()
            # What was being written is written again: there is no way to know whether it arrived.
            self._accounting.send_again()
            try:
                if not had_begun:
                    raise error
                loop = self._new_loop()
            except Exception as problem:  # noqa: BLE001  as in `lease`
                error, lost = problem, self._refused(problem)
            else:
                self._state.begin_again()
                self._loop, self._accounting.wake = loop, loop.wake
        broken.give_up()
        if loop is not None:
            self._start(loop)
        else:
            _log.warning("exporter_abandoned", exporter=self.name, error=describe(error), lost=lost)
            report(self._state, self._accounting)

    @property
    def accounting(self) -> Accounting:
        """Its queue and its counts, for a route to use as a destination."""
        return self._accounting

    @property
    def is_kept_open(self) -> bool:
        """Whether a runtime holds it open, so that a run need not hold it too."""
        return self._state.kept > 0 and self._state.phase.at_work

    @property
    def not_open(self) -> BaseException | None:
        """Why the sink of a delivery at work is not open; None if it is."""
        with locking.lock:
            if not self._state.phase.opening:
                return None
            return self._state.open_error or StartTimeoutError(self.name, self.limits.open_timeout)

    def closed(self) -> Future[None]:
        """Return a future that is done when the delivery has closed, or at once if it is not open."""
        with locking.lock:
            return self._state.closed()

    def close(self, until: float | None = None) -> Future[None]:
        """
        Write what is queued, and close despite open leases; see `closed`.

        With a spool everything is saved first, gets one last try of at most 2 seconds, and stays there otherwise. What
        is only in memory is tried with backoff as long as there is time; so is the opening of a sink that is not open.

        Args:
            until: When that time is over, in seconds of `time.monotonic()`. Without it each batch has one last try.
        """
        with locking.lock:
            state, accounting, loop = self._state, self._accounting, self._loop
            state.note_last_call(until)
            if (
                loop is not None
                and state.phase.opening
                and not (accounting.ledger.pending or accounting.upstream)
            ):
                # A sink that may never open has nothing to write, so a shutdown need not wait for it.
                loop.dismiss()
                loop.cancel()
                finish(state, accounting, self._spool, DeliveryState.CLOSED, None, "closed")
            if self._spool is not None:
                self._spool.save_the_rest()
            accounting.wake_up()
            closed = state.closed()
        if not state.phase.at_work:
            report(state, accounting)
        return closed

    def abandon(self, timeout: float | None = None) -> int:
        """
        Drop at once what is not yet written, as `shutdown_timeout`; return how many items that were.

        For when the deadline has passed: it waits for nothing, not even for the delivery's thread, which may itself be
        stuck, nor for a line: `log_losses` writes that. What is in the spool stays there, and pending.

        Args:
            timeout: Seconds that it had; `drain_timeout` by default.
        """
        with locking.lock:
            loop, state = self._loop, self._state
            if loop is None or not state.phase.at_work:
                return 0
            loop.dismiss()
            error = StopTimeoutError(self.name, self.limits.drain_timeout if timeout is None else timeout)
            accounting, failed = self._accounting, DeliveryState.FAILED
            lost = finish(state, accounting, self._spool, failed, error, "shutdown_timeout")
            state.reported()
        loop.cancel()
        return lost

    @property
    def held(self) -> bool:
        """Whether the delivery is at work and a lease is held."""
        return self.at_work and self._state.leases > 0

    @property
    def at_work(self) -> bool:
        """Whether the delivery is opening, open or closing."""
        return self._state.phase.at_work

    def health(self) -> DeliveryHealth:
        """Return state, counts and last error as they are now. From any thread."""
        with locking.lock:
            accounting, loop, state = self._accounting, self._loop, self._state
            errors = (None if loop is None else loop.retry.last_error, state.open_error, state.end_error)
            health = DeliveryHealth(
                state.phase,
                accounting.snapshot(),
                len(accounting.queue) + accounting.upstream,
                self.limits.queue_items,
                accounting.queue.held_bytes,
                len(accounting.in_flight),
                None if loop is None else loop.last_batch_s,
                max(0, accounting.ledger.pending - accounting.in_memory),
                BreakerState.CLOSED if loop is None or not state.phase.at_work else loop.retry.breaker.state,
                None,
                loop is not None and loop.last_batch_failed,
                None if loop is None or not state.phase.at_work else loop.last_success_s,
            )
        # Not by truth, and not under the lock: an error is foreign code, and may raise or take its time.
        said = next((describe(error) for error in errors if error is not None), None)
        return msgspec.structs.replace(health, last_error=said)

    def log_losses(self) -> None:
        """Log every loss that was not logged yet."""
        self._accounting.log_losses(last=True)

    def discard(self, reason: NamedDropReason, items: int) -> LedgerSnapshot:
        """Count items of a run that takes no lease as accepted and dropped, and return the run's ledger."""
        lease = Lease(self._accounting.route)
        lease.discard(reason, items)
        return lease.ledger

    def _give_back(self, hold: Hold) -> None:
        with locking.lock:
            if self._state.give_back(hold):
                self._accounting.wake_up()

    def _new_loop(self) -> DeliveryLoop:
        last = self._loop
        return DeliveryLoop(
            self.name,
            self._state,
            self._accounting,
            self._sink,
            self.limits,
            self._loop_source,
            spool=self._spool,
            intake=self._intake,
            observer=self,
            after=last if last is not None and last.dismissed else None,
        )

    def _start_clean(self) -> None:
        """Forget what belongs to the parent, in a forked child."""
        # The parent writes what it accepted. What it has open is kept and never touched: closing it could break that.
        sink = self._sink.blocking if isinstance(self._sink, sink_adapters.WorkerSink) else self._sink
        _inherited.append((copy.copy(sink), self._loop))
        if self._loop is not None:
            self._loop.dismiss()
        self._accounting.retire(process_end.drain_at_end_of_child)
        self._state = self._state.in_child()
        self._begin_empty()


def route_to(deliveries: Sequence[Delivery]) -> Route:
    """
    Return the route to several deliveries that share their processors; the same one each time while they exist.

    Raises:
        ValueError: They do not share them.
    """
    first = deliveries[0]
    if len(deliveries) == 1:
        return first.accounting.route
    if any(each.intake is not first.intake for each in deliveries):
        raise ValueError("Deliveries of one route have the same processors.")
    with locking.lock:
        accountings = tuple(each.accounting for each in deliveries)
        for route in first.accounting.routes:
            if route.destinations == accountings:
                return route
        route = Route(accountings, first.intake)
        for accounting in accountings:
            accounting.routes.add(route)
        return route


_deliveries: WeakRegistry[Delivery] = WeakRegistry()
_inherited: list[object] = []


def deliveries() -> list[Delivery]:
    """Return every delivery of the process."""
    return _deliveries.all()


def _start_clean_in_child() -> None:
    locking.renew()
    all_of_them = deliveries()
    for intake in {id(each.intake): each.intake for each in all_of_them if each.intake is not None}.values():
        intake.renew()
    for delivery in all_of_them:
        delivery._start_clean()


def _drain_at_exit() -> None:
    """Write what is left if no runtime was shut down; each delivery within its drain_timeout, and tries as long."""
    began = monotonic()
    ends = {each: began + each.limits.drain_timeout for each in deliveries() if not each.closed().done()}
    if held := sorted(delivery.name for delivery in ends if delivery.held):
        # What is written to may be a pipe that nothing reads: what is left is not to wait for that.
        call_apart(lambda: _log.warning("runtime_not_shut_down", exporters=held), _LAST_TRIES)()
    lost: list[tuple[str, int]] = []
    for delivery, closed in [(each, each.close(min(end, began + _LAST_TRIES))) for each, end in ends.items()]:
        try:
            closed.result(max(0.0, ends[delivery] - monotonic()))
        except TimeoutError:
            lost.append((delivery.name, delivery.abandon()))
    if lost or is_any_unlogged():
        call_apart(lambda: log_all(lost), _LAST_TRIES)()


at_fork(after_in_child=_start_clean_in_child)
process_end.drain_at_end(_drain_at_exit)
