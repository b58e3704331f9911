"""Intake: where items wait for a processor pipeline, and the loop that runs them through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nat_observability.delivery import locking
from nat_observability.delivery.lease import NEVER, Arrival, Destination, Entry, Route, all_left_inlet
from nat_observability.delivery.limits import DeliveryLimits, QueuePolicy
from nat_observability.delivery.loss_reasons import DropReason, ProcessorDropReason
from nat_observability.delivery.pipeline.processor_pipeline import STRETCH_ITEMS, ProcessorPipeline
from nat_observability.delivery.queue import BoundedQueue
from nat_observability.delivery.threads.delivery_thread import (
    DeliveryThread,
    LoopSource,
    is_forgotten,
    weak_call,
)
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.delivery.threads.worker import background_context
from nat_observability.events import Item
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger

if TYPE_CHECKING:
    from nat_observability.processors.processor import Processor

_log = get_logger()

_DELAY = 0.1  # seconds at most that the first of several items waits for the others
_GIVE_WAY = 0.0005  # seconds between two stretches: a wait of zero would not yield to a thread that records
_ENTRIES = 512  # queued per hold of the lock: a thread that records a step waits for it
_inherited: list[asyncio.Task[None]] = []


class Intake:
    """
    Runs items through a processor pipeline, and queues each result in the deliveries that it is meant for.

    Its bounds are those of the most generous of its deliveries. It runs while any of them is at work.

    Args:
        name: The exporter's, or those of several that share it, for logs.
        processors: Applied to each item once, in this order.
        loop_source: Where its event loop comes from; by default a thread of its own. A group lends one.

    Attributes:
        passing_since: While results are queued in deliveries, when the first of their items has come; else None.

    Raises:
        TypeError: A processor cannot be called.
    """

    def __init__(
        self,
        name: str,
        processors: Iterable[Processor],
        loop_source: LoopSource | DeliveryThreadGroup | None = None,
    ) -> None:
        self.pipeline = ProcessorPipeline(name, processors)
        if isinstance(loop_source, DeliveryThreadGroup):
            loop_source = loop_source.thread()
            loop_source.notify(self._loop_broke)
        self._loop_source = loop_source or DeliveryThread(
            "nat-observability-processors", on_broken=weak_call(self._loop_broke)
        )
        self._delay = _DELAY
        self._policy: QueuePolicy = "drop_oldest"
        self.passing_since: float | None = None
        self._max_items = self._max_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self.renew()

    def renew(self) -> None:
        """Begin with nothing, as a forked child does."""
        if self._task is not None:
            # The parent's, which never ends here: asyncio would report that it is destroyed.
            _inherited.append(self._task)
        self.pipeline.renew()
        self._queue: BoundedQueue[Arrival] = BoundedQueue(self._max_items, self._max_bytes, self._policy)
        self._taken: Sequence[Arrival] = ()  # those being processed
        self._users = 0
        self._hurry = self._lingers = False
        self._wake: Callable[[], object] | None = None
        self._wake_items = self._wake_bytes = NEVER
        self._due_at: float | None = None
        self._first_at: float | None = None  # when the first of what waits has come
        self._taken_since: float | None = None
        self.passing_since = None
        self._run_of: object | None = None  # which start of the loop is the one in charge
        self._task = None

    def widen(self, limits: DeliveryLimits) -> None:
        """Make room for what a delivery of these limits can queue."""
        with locking.lock:
            self._max_items = max(self._max_items, limits.queue_items)
            self._max_bytes = max(self._max_bytes, limits.queue_bytes)
            self._delay = min(self._delay, limits.batch_age / 10)
            if limits.queue_policy == "drop_newest":
                self._policy = "drop_newest"
            self._queue.rebound(self._max_items, self._max_bytes, self._policy)

    # From any thread:

    def acquire(self) -> None:
        """
        Run for one delivery more.

        Raises:
            RuntimeError: No thread could be started.
        """
        with locking.lock:
            self._users += 1
            if self._wake is not None:
                return
            try:
                self._start()
            except BaseException:
                self._users -= 1
                raise

    def _start(self) -> None:
        loop = self._loop_source.acquire()
        signal, run_of = asyncio.Event(), object()
        try:
            # Not in the context of the first run, which would record the work done here.
            loop.call_soon_threadsafe(self._begin, loop, signal, run_of, context=background_context())
        except BaseException:
            if not is_forgotten(loop):
                self._loop_source.release()
            raise

        def wake() -> None:
            if self._first_at is None:
                # Beside a thread that computes, it takes the loop a while to notice it.
                self._first_at = loop.time()
            loop.call_soon_threadsafe(signal.set)

        self._wake, self._run_of = wake, run_of

    def release(self) -> None:
        """Run for one delivery less; with the last one the loop ends."""
        with locking.lock:
            self._users -= 1
            self._wake_up()

    def put(self, arrival: Arrival) -> bool:
        """Queue an arrival; return whether it, or another one for it, was refused. Under the lock."""
        if self._wake is None:
            self._refuse(arrival)
            return True
        queue = self._queue
        dropped = queue.put(arrival)
        if queue.items >= self._wake_items or queue.queued_bytes >= self._wake_bytes:
            self._wake_up()
        if dropped is None:
            return False
        for each, reason in dropped:
            self._refuse(each, reason)
        return True

    def hasten(self) -> None:
        """Have what waits processed at once. Under the lock."""
        if self._queue.items:
            self._hurry = True
            self._wake_up()

    def forget(self, destination: Destination, reason: DropReason) -> int:
        """Drop what waits for one delivery; return how many items that were. Under the lock."""
        dropped = 0
        for arrival in (*self._taken, *self._queue.waiting):
            if destination in arrival.lease.route.destinations and destination not in arrival.gone:
                arrival.gone = (*arrival.gone, destination)
                destination.gone += 1
                arrival.lease.count_gone(destination, 1)
                destination.refuse(arrival.lease, reason)
                dropped += 1
        return dropped

    def _loop_broke(self, error: Exception, had_begun: bool) -> None:
        """Move to another event loop, because this one no longer runs; stop if it never ran."""
        with locking.lock:
            if self._wake is None:
                return
            # None of it was handed on yet: the stretch would otherwise be over.
            self._queue.put_back(self._taken)
            self._taken = ()
            if had_begun:
                problem = self._go_on()
            else:
                self._stop()
                problem = error
        self._log_stop(problem)

    def _go_on(self) -> Exception | None:
        """Start the loop again, if a delivery is at work; return any error that prevents it. Under the lock."""
        self._wake = self._run_of = None
        problem: Exception | None = None
        if self._users:
            try:
                self._start()
            except Exception as error:  # noqa: BLE001  the system may refuse a thread, a file handle or memory
                problem = error
        if self._run_of is None:
            self._stop()
        return problem

    def _log_stop(self, problem: Exception | None) -> None:
        if problem is not None:
            _log.error("processors_stopped", exporter=self.pipeline.name, error=describe(problem))

    # On the loop:

    def _begin(self, loop: asyncio.AbstractEventLoop, signal: asyncio.Event, run_of: object) -> None:
        self._task = loop.create_task(
            self._run(loop, signal, run_of), name=f"processors of {self.pipeline.name}"
        )
        # Not at the end of the task itself, which never begins if it is cancelled at once.
        self._task.add_done_callback(lambda _: self._end(run_of))

    def _end(self, run_of: object) -> None:
        problem: Exception | None = None
        with locking.lock:
            if self._run_of is run_of:
                # It was cancelled, by foreign code that cancels every task. Nothing is being processed then, but if it
                # failed, the same items would have it fail again.
                self._refuse_all(self._taken)
                self._taken = ()
                problem = self._go_on()
        self._loop_source.release()
        self._log_stop(problem)

    def _stop(self) -> None:
        self._wake = self._run_of = None
        self._refuse_all((*self._taken, *self._queue.take_all()))
        self._taken = ()

    def _refuse_all(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._refuse(arrival)
        self._queue.release(arrivals)

    async def _run(self, loop: asyncio.AbstractEventLoop, signal: asyncio.Event, run_of: object) -> None:
        while True:
            signal.clear()
            with locking.lock:
                if self._run_of is not run_of:
                    return
                if not self._users:
                    self._stop()
                    return
                arrivals = self._next(loop.time())
            if not arrivals:
                await self._sleep(signal)
                continue
            # Outside the lock: it is foreign code.
            results = self.pipeline.stretch(
                [arrival.item for arrival in arrivals], [arrival.size for arrival in arrivals]
            )
            self._distribute(arrivals, results)
            # A stretch that had to end early holds the interpreter lock for long: off the processor for a moment.
            await asyncio.sleep(_GIVE_WAY if len(results) < len(arrivals) else 0)

    def _next(self, now: float) -> Sequence[Arrival]:
        """Take what is due, and set when to be woken. Under the lock."""
        queue = self._queue
        enough, enough_bytes = min(STRETCH_ITEMS, (self._max_items + 1) // 2), (self._max_bytes + 1) // 2
        if not queue.items:
            self._hurry = False
            if self._lingers:
                # Where one item came the next is near. It is looked for in a while, and does not wake this thread:
                # waking takes longer than all the rest of recording it.
                self._lingers = False
                self._due_at, self._first_at = now + self._delay, now
                self._wake_items, self._wake_bytes = enough, enough_bytes
            else:
                self._due_at, self._first_at = None, None
                self._wake_items, self._wake_bytes = 1, NEVER
            return ()
        first_at = now if self._first_at is None else self._first_at
        if self._due_at is None:
            self._due_at = first_at + self._delay
        if (
            self._hurry
            or now >= self._due_at
            or queue.items >= enough
            or queue.queued_bytes * 2 >= self._max_bytes
        ):
            self._wake_items = self._wake_bytes = NEVER
            self._taken = queue.take(STRETCH_ITEMS, self._max_bytes)
            self._taken_since, self._first_at = first_at, now
            self._lingers = True
            return self._taken
        self._wake_items, self._wake_bytes = enough, enough_bytes
        return ()

    async def _sleep(self, signal: asyncio.Event) -> None:
        try:
            async with asyncio.timeout_at(self._due_at):
                await signal.wait()
        except TimeoutError:
            pass

    def _distribute(
        self, arrivals: Sequence[Arrival], results: Sequence[tuple[Item, int] | ProcessorDropReason]
    ) -> None:
        done, left = arrivals[: len(results)], arrivals[len(results) :]
        with locking.lock:
            if left:
                self._queue.put_back(left)
            self._taken = done
        unlogged: dict[Destination, None] = {}
        routes = {arrival.lease.route for arrival in done}
        step = max(1, _ENTRIES // max([len(route.destinations) for route in routes]))
        for start in range(0, len(done), step):
            part = done[start : start + step]
            with locking.lock:
                self.passing_since = self._taken_since
                try:
                    for route, passed in _together(part, results[start : start + step]):
                        if route is None:
                            for arrival, result in passed:
                                unlogged.update(self._pass_on(arrival, result))
                        else:
                            unlogged.update(_pass_all_on(route, passed))
                finally:
                    self.passing_since = None
                self._taken = done[start + step :]
                self._queue.release(part)
        for destination in unlogged:
            destination.log_losses()

    def _pass_on(
        self, arrival: Arrival, result: tuple[Item, int] | ProcessorDropReason
    ) -> dict[Destination, None]:
        """Queue one result in the deliveries that still want it; return those with a loss to log. Under the lock."""
        if isinstance(result, str):
            self._refuse(arrival, result)
            return dict.fromkeys(arrival.lease.route.destinations)
        item, size = result
        remaining = _remaining(arrival)
        lossy = [each for each in remaining if each.accept(Entry(item, size, arrival.lease))]
        arrival.lease.left_inlet()
        return dict.fromkeys(lossy)

    def _refuse(self, arrival: Arrival, reason: DropReason | None = None) -> None:
        for destination in _remaining(arrival):
            destination.refuse(arrival.lease, destination.refusal if reason is None else reason)
        arrival.lease.left_inlet()

    def _wake_up(self) -> None:
        self._wake_items = self._wake_bytes = NEVER
        if self._wake is not None:
            with suppress(RuntimeError):  # its loop broke just now
                self._wake()


def intake_of(
    name: str,
    processors: Iterable[Processor] | Intake,
    loop_source: LoopSource | DeliveryThreadGroup | None,
) -> Intake | None:
    """Return the intake for these processors: the one that is given, a new one, or None if there are none."""
    if isinstance(processors, Intake):
        return processors
    own = tuple(processors)
    return Intake(name, own, loop_source) if own else None


def _together(
    arrivals: Sequence[Arrival], results: Sequence[tuple[Item, int] | ProcessorDropReason]
) -> Iterator[tuple[Route | None, list[tuple[Arrival, Any]]]]:
    """Group neighbours with the same route; those that are dropped, or not wanted everywhere, have none."""
    route: Route | None = None
    group: list[tuple[Arrival, Any]] = []
    for arrival, result in zip(arrivals, results, strict=True):
        own = None if arrival.gone or type(result) is str else arrival.lease.route
        if own is not route:
            if group:
                yield route, group
            route, group = own, []
        group.append((arrival, result))
    if group:
        yield route, group


def _pass_all_on(route: Route, passed: list[tuple[Arrival, tuple[Item, int]]]) -> dict[Destination, None]:
    """Queue results in all deliveries of a route; return those with a loss to log. Under the lock."""
    arrivals = [arrival for arrival, _ in passed]
    items = [(item, size, arrival.lease) for arrival, (item, size) in passed]
    size = sum([each[1] for each in items])
    lossy = [
        destination
        for destination in route.destinations
        if destination.accept_all([Entry(*each) for each in items], size)
    ]
    all_left_inlet(route, arrivals)
    return dict.fromkeys(lossy)


def _remaining(arrival: Arrival) -> Iterable[Destination]:
    """Return the deliveries that have not given an arrival up; count those that have."""
    if not arrival.gone:
        return arrival.lease.route.destinations
    for destination in arrival.gone:
        destination.gone -= 1
        arrival.lease.count_gone(destination, -1)
    return [each for each in arrival.lease.route.destinations if each not in arrival.gone]
