"""Intake: where items wait for their processors, and the pipeline that takes each item through them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from nat_observability.delivery import locking
from nat_observability.delivery.lease import NEVER, Arrival, Destination, Entry, Route, all_left_inlet
from nat_observability.delivery.limits import DeliveryLimits, QueuePolicy
from nat_observability.delivery.loss_reasons import DropReason, ProcessorDropReason
from nat_observability.delivery.pipeline.intake_loop import IntakeLoop, Running
from nat_observability.delivery.queue import BARE_ITEM, BoundedQueue, weigh
from nat_observability.delivery.threads.delivery_thread import LoopSource
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.events import Item
from nat_observability.foreign_errors import place
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.processors.processor import LeavesLight, LooksAhead, Processor, name_of
from nat_observability.system.clock import perf_counter

Result = tuple[Item, int] | ProcessorDropReason
"""What becomes of an item: the item that goes on and its weight, or why there is none."""

_log = get_logger()

_STRETCH_ITEMS = 256  # processed at a stretch at most
_STRETCH_SECONDS = 0.001  # after which a stretch ends earlier, after the item that it is at
_DELAY = 0.1  # seconds at most that the first of several items waits for the others
_GIVE_WAY = 0.0005  # seconds between two stretches: a wait of zero would not yield to a thread that records
_ENTRIES = 512  # queued per hold of the lock: a thread that records a step waits for it


class ProcessorPipeline:
    """
    Applies processors in order, each to the result of the one before.

    It fails closed: a processor that raises, returns None or returns anything but an item drops the item. A
    line is logged about the first, which names the processor, the class of the error and where it was raised. The
    error's message is left out, because it may hold what was to be redacted.

    Args:
        name: The exporter's, or those of several that share it, for logs.
        processors: None of them is called by two threads at once.

    Raises:
        TypeError: One of them cannot be called.
    """

    def __init__(self, name: str, processors: Iterable[Processor]) -> None:
        self.name = name
        self.processors = tuple(processors)
        # Each with its name, and with the weight up to which it leaves items as they are.
        self._processors = [(name_of(each), each, _weight_left(each)) for each in self.processors]
        # Only the first: those before another could change what it has seen.
        first: object = self.processors[0] if self.processors else None
        self._ahead: LooksAhead | None = first if isinstance(first, LooksAhead) else None
        self._failed = RepeatedEvent()
        self._turn = threading.Lock()

    def renew(self) -> None:
        """Begin anew in a forked child, where the thread that held the lock may not exist."""
        self._turn = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._processors)

    def stretch(self, items: Sequence[Item], weights: Sequence[int]) -> list[Result]:
        """
        Return, for as many of the first items as the time allows, the result and its weight, or why there is none.

        Args:
            weights: Of the items, as `weigh` returns them.
        """
        with self._turn:
            results: list[Result] = []
            end = perf_counter() + _STRETCH_SECONDS
            seen = 0
            for number, item in enumerate(items):
                if number == seen and self._ahead is not None:
                    seen += self._show(self._ahead, items[number:] if number else items)
                weight = weights[number]
                result = self.apply(item, weight)
                if result is item:
                    results.append((item, weight))
                else:
                    results.append(result if isinstance(result, str) else self._measured(result))
                if perf_counter() >= end:
                    break
            return results

    def apply_apart(self, item: Item) -> Item | ProcessorDropReason:
        """Do as `apply` with an item that is not on its way through, from any thread."""
        with self._turn:
            return self.apply(item)

    def _show(self, processor: LooksAhead, items: Sequence[Item]) -> int:
        try:
            return max(1, processor.look_ahead(items))
        except BaseException:  # noqa: BLE001  it may be foreign, with a method that only has that name
            self._ahead = None
            return 1

    def apply(self, item: Item, weight: float = inf) -> Item | ProcessorDropReason:
        """
        Return the result for `item`, or the reason for which it is dropped.

        Args:
            weight: Of the item, as `weigh` returns it, if it is known.
        """
        for name, processor, weight_left in self._processors:
            if weight <= weight_left:
                continue
            try:
                result = processor(item)
            except BaseException as error:  # noqa: BLE001  foreign code may raise anything, and must not end the thread
                self._log_failure(name, type(error).__name__, place(error))
                return ProcessorDropReason(f"processor_failed:{name}")
            if result is None:
                return ProcessorDropReason(f"filtered:{name}")
            if type(result) is not type(item):
                self._log_failure(
                    name, f"returned a {type(result).__name__} for a {type(item).__name__}", None
                )
                return ProcessorDropReason(f"processor_failed:{name}")
            if result is not item:
                item, weight = result, inf
        return item

    def _measured(self, item: Item) -> Result:
        """Return the processors' result with its weight, or the reason for which it is dropped."""
        try:
            return item, weigh(item)
        except BaseException as error:  # noqa: BLE001  they may have put anything at all into a field
            # Whichever it was, the last one let it pass.
            name = self._processors[-1][0]
            self._log_failure(
                name, f"let a field pass that has no size ({type(error).__name__})", place(error)
            )
            return ProcessorDropReason(f"processor_failed:{name}")

    def _log_failure(self, name: str, problem: str, place: str | None) -> None:
        suppressed = self._failed.due()
        if suppressed is not None:
            _log.error(
                "processor_failed",
                exporter=self.name,
                processor=name,
                error=problem,
                place=place,
                suppressed=suppressed,
            )


def _weight_left(processor: object) -> int:
    # Its class is asked first: an object that hands on what it is asked, and does more, has to be called; and it may
    # raise anything when it is asked.
    if hasattr(type(processor), "leaves_up_to") and isinstance(processor, LeavesLight):
        return BARE_ITEM + processor.leaves_up_to
    return -1


class Intake:
    """
    Runs items through a processor pipeline, and queues each result in the deliveries that it is meant for.

    Its bounds are those of the most generous of its deliveries. It runs while any of them is at work.

    Args:
        name: The exporter's, or those of several that share it, for logs.
        processors: Applied to each item once, in this order.
        loop_source: Where its event loop comes from; by default a thread of its own. A group lends one.

    Attributes:
        loop: What it runs on, while a delivery has acquired that.
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
        self.loop = IntakeLoop(name, loop_source, self)
        self._delay = _DELAY
        self._policy: QueuePolicy = "drop_oldest"
        self._max_items = self._max_bytes = 0
        self._begin()

    def renew(self) -> None:
        """Begin with nothing, as a forked child does."""
        self.loop.renew()
        self.pipeline.renew()
        self._begin()

    def _begin(self) -> None:
        self._queue: BoundedQueue[Arrival] = BoundedQueue(self._max_items, self._max_bytes, self._policy)
        self._taken: Sequence[Arrival] = ()  # those being processed
        self._left: Sequence[Arrival] = ()  # those that a stretch did not come to
        self._hurry = self._lingers = False
        self._wake_items = self._wake_bytes = NEVER
        self._due_at: float | None = None
        self._first_at: float | None = None  # when the first of what waits has come
        self._taken_since: float | None = None
        self.passing_since: float | None = None

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

    def put(self, arrival: Arrival) -> bool:
        """Queue an arrival; return whether it, or another one for it, was refused. Under the lock."""
        if self.loop.running is None:
            self._refuse(arrival)
            return True
        queue = self._queue
        dropped = queue.put(arrival)
        if queue.items >= self._wake_items or queue.queued_bytes >= self._wake_bytes:
            self.wake_up()
        if dropped is None:
            return False
        for each, reason in dropped:
            self._refuse(each, reason)
        return True

    def hasten(self) -> None:
        """Have what waits processed at once. Under the lock."""
        if self._queue.items:
            self._hurry = True
            self.wake_up()

    def forget(self, destination: Destination, reason: DropReason) -> int:
        """Drop what waits for one delivery; return how many items that were. Under the lock."""
        dropped = 0
        for arrival in (*self._taken, *self._left, *self._queue.waiting):
            if destination in arrival.lease.route.destinations and destination not in arrival.gone:
                arrival.gone = (*arrival.gone, destination)
                destination.gone += 1
                arrival.lease.count_gone(destination, 1)
                destination.refuse(arrival.lease, reason)
                dropped += 1
        return dropped

    def take_back(self) -> None:
        """Let what is being processed wait again, because nothing of it was handed on. Under the lock."""
        self._queue.put_back((*self._taken, *self._left))
        self._taken = self._left = ()

    def refuse_taken(self) -> None:
        """Refuse what is being processed. Under the lock."""
        taken, self._taken = self._taken, ()
        self._refuse_all(taken)

    def refuse_everything(self) -> None:
        """Refuse what waits and what is being processed. Under the lock."""
        self.refuse_taken()
        left, self._left = self._left, ()
        self._refuse_all((*left, *self._queue.take_all()))

    def _refuse_all(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._refuse(arrival)
        self._queue.release(arrivals)

    # On the loop:

    async def run(self, running: Running) -> None:
        """Process what is due while this is how the loop runs, and there are users."""
        while True:
            running.signal.clear()
            with locking.lock:
                if self.loop.running is not running:
                    return
                if not self.loop.users:
                    self.loop.stop()
                    return
                arrivals = self._next(running.loop.time())
            if not arrivals:
                await self._sleep(running.signal)
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
        if self._left:  # not back into the queue, to be taken once more
            self._taken, self._left = self._left, ()
            return self._taken
        queue = self._queue
        enough, enough_bytes = min(_STRETCH_ITEMS, (self._max_items + 1) // 2), (self._max_bytes + 1) // 2
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
            self._taken = queue.take(_STRETCH_ITEMS, self._max_bytes)
            self._taken_since, self._first_at = first_at, now
            self._lingers = True
            return self._taken
        self._wake_items, self._wake_bytes = enough, enough_bytes
        return ()

    async def _sleep(self, signal: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._due_at):
                await signal.wait()

    def _distribute(self, arrivals: Sequence[Arrival], results: Sequence[Result]) -> None:
        done = arrivals[: len(results)]
        with locking.lock:
            self._taken, self._left = done, arrivals[len(results) :]
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

    def _pass_on(self, arrival: Arrival, result: Result) -> dict[Destination, None]:
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

    def wake_up(self) -> None:
        """Have the queue looked at again. Under the lock."""
        self._wake_items = self._wake_bytes = NEVER
        running = self.loop.running
        if running is not None:
            if self._first_at is None:
                # Beside a thread that computes, it takes the loop a while to notice it.
                self._first_at = running.loop.time()
            with suppress(RuntimeError):  # the loop broke just now
                running.loop.call_soon_threadsafe(running.signal.set)


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
    arrivals: Sequence[Arrival], results: Sequence[Result]
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
