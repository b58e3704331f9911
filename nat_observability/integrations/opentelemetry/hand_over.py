"""HandOver: takes finished spans of the SDK from the threads that end them, and gives them to the deliveries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.loss_reasons import DropReason, is_intended
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.foreign_errors import describe
from nat_observability.integrations.opentelemetry.readable_spans import ReadableSpans
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_MOST_WAITING = 50_000
"""Spans that wait for the thread at most; it keeps up with any number of threads that end them."""

_MOST_SAVING = 1000
"""Leases of spans in the spool that a flush waits for, one by one; of more it asks the deliveries."""

_SAVED_WITHIN = 1.0
"""Seconds for which the end of a root span waits at most until the spool has it."""

_PAUSE = 0.01
"""Seconds between two looks at what waits, while spans come: waking the thread for each costs more than the rest."""

_log = get_logger()
_unread, _late = RepeatedEvent(), RepeatedEvent()


class HandOver:
    """
    The way from the SDK into the deliveries of some exporters, which it holds open.

    `take` costs its caller no more than a queue does: a thread of its own makes our spans of them, within a hundredth
    of a second. If an exporter has `spool=always`, it does so at once, and the end of a root span waits until the disk
    has it and those before it, unless an event loop runs on that thread, which is never blocked.

    Args:
        exporters: By name; those without a delivery are left out.
    """

    def __init__(self, exporters: Mapping[str, BaseExporter]) -> None:
        self.deliveries: dict[str, Delivery] = {
            name: each.delivery for name, each in exporters.items() if isinstance(each, StepExporter)
        }
        self._saves = any(each.limits.spool == "always" for each in self.deliveries.values())
        self._leases: list[Lease] = []
        self._of_the_parent: list[Lease] = []
        self._begin()
        self._held()
        _hand_overs.add(self)

    def _begin(self) -> None:
        self._waiting: deque[tuple[ReadableSpan, Future[None] | None]] = deque()
        self._dropped = 0
        self._counting = threading.Lock()
        self._convert = ReadableSpans()
        self._work = threading.Event()
        self._waits_for_work = True
        # Held while spans are made and handed over: by the thread, or by a flush that does its work.
        self._turn = threading.Lock()
        self._saving: deque[Lease] = deque()
        self._out_of_sight = False  # whether there was no room in it for one that is not settled
        self._gone = self._lost = 0  # spans that were lost by leases of before, and until the last flush
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, span: ReadableSpan) -> None:
        """Take one; what comes after `close` is logged and dropped. Any thread may call it; it never raises."""
        if self._closed:
            if (suppressed := _late.due()) is not None:
                _log.warning("sdk_span_came_late", span=span.name, suppressed=suppressed)
            return
        if len(self._waiting) >= _MOST_WAITING:
            with self._counting:
                self._dropped += 1  # the thread, or a flush, puts it into the ledgers
            self._work.set()
            return
        waiter: Future[None] | None = None
        if self._saves and (span.parent is None or span.parent.is_remote) and not _in_event_loop():
            waiter = Future()
        self._waiting.append((span, waiter))
        if self._thread is None:
            self._start()
        # What waits was added before this is read, and the thread reads what waits after it has set this.
        if self._waits_for_work and not self._work.is_set():
            self._work.set()
        if waiter is not None:
            with suppress(TimeoutError):
                waiter.result(_SAVED_WITHIN)

    def flush(self, timeout: float) -> bool:
        """
        Wait until everything taken so far is delivered; return whether it was within so many seconds.

        It was not if an exporter has lost a span since the last flush that came to its end.
        """
        until = time.monotonic() + timeout
        self._hand_over()
        with self._turn:
            leases = [*self._leases, *self._saving]
        for lease in leases:
            try:
                lease.settled().result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                return False
        with self._turn:
            self._let_go_of_settled()
            if self._out_of_sight:
                self._out_of_sight = any(each.health().ledger.pending for each in self.deliveries.values())
            lost = self._gone + sum(_lost(lease) for lease in (*self._leases, *self._saving))
            before, self._lost = self._lost, lost
        return lost <= before and not self._out_of_sight

    def close(self, timeout: float) -> None:
        """Hand over what waits, and let the deliveries drain and close, for at most so many seconds."""
        if self._closed:
            return
        self._closed = True
        self._work.set()
        self._hand_over()
        until = time.monotonic() + timeout
        # One that a runtime or a run holds too stays open for it.
        closing = {each: each.closed() for each in self.deliveries.values()}
        leases = [*self._leases, *self._of_the_parent]
        self._leases, self._of_the_parent = [], []
        for lease in leases:
            lease.release()
        for delivery, future in closing.items():
            if delivery.held:
                continue
            delivery.close(until)
            try:
                future.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                delivery.abandon(timeout)
            except Exception as error:  # noqa: BLE001  what it failed with is in its ledger
                _log.debug("delivery_closed_with_error", error=describe(error))
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        with self._turn:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="nat-observability-sdk-spans", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the system refuses a thread: a flush hands over what waits, and the next span tries again
                self._thread = thread

    def _run(self) -> None:
        while not self._closed:
            self._waits_for_work = True
            if not self._waiting and not self._dropped:
                self._work.wait()
            self._work.clear()
            self._waits_for_work = self._saves
            self._hand_over()
            if not self._saves:
                self._work.wait(_PAUSE)

    def _hand_over(self) -> None:
        with self._turn:
            while self._waiting or self._dropped:
                self._held()
                batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._accept(batch)
                with self._counting:
                    dropped, self._dropped = self._dropped, 0
                if dropped:
                    for lease in self._leases:
                        lease.discard("queue_full", dropped)

    def _held(self) -> None:
        """Hold the deliveries open: from the beginning, and in a forked child from its first span on."""
        if not self._leases:
            self._leases = [each.lease(keep=True) for each in self.deliveries.values()]
            parents, self._of_the_parent = self._of_the_parent, []
            for lease in parents:
                lease.release()

    def _accept(self, batch: Sequence[tuple[ReadableSpan, Future[None] | None]]) -> None:
        # Of its own, so that a root span waits for those before it, and not for those that go on coming.
        leases = [each.lease() for each in self.deliveries.values()] if self._saves else self._leases
        waiters = [waiter for _, waiter in batch if waiter is not None]
        for span, _ in batch:
            try:
                made = self._convert.span(span)
            except Exception as error:  # noqa: BLE001  foreign code: a span of another class
                if (suppressed := _unread.due()) is not None:
                    _log.warning("sdk_span_not_read", error=describe(error), suppressed=suppressed)
                for lease in leases:
                    lease.discard("not_read", 1)
                continue
            for lease in leases:
                lease.accept(made)
        if self._saves:
            _tell_when_saved(leases, waiters)
            for lease in leases:
                lease.release()
            # They hold nothing open: a flush waits for them.
            self._saving += leases
            if len(self._saving) > _MOST_SAVING:
                self._let_go_of_settled()
            while len(self._saving) > _MOST_SAVING:
                self._gone += _lost(self._saving.popleft())
                self._out_of_sight = True

    def _let_go_of_settled(self) -> None:
        saving, self._saving = self._saving, deque()
        for lease in saving:
            if lease.ledger.pending:
                self._saving.append(lease)
            else:
                self._gone += _lost(lease)

    def start_clean(self) -> None:
        """In a forked child: what waited is the parent's, and its leases count nothing here."""
        closed = self._closed
        self._leases, self._of_the_parent = [], [*self._leases, *self._of_the_parent]
        self._begin()
        self._closed = closed


def _tell_when_saved(leases: Sequence[Lease], waiters: Sequence[Future[None]]) -> None:
    saving = [lease.saved() for lease in leases] if waiters else []
    left = len(saving)
    lock = threading.Lock()

    def saved(_: Future[None]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        for waiter in waiters:
            waiter.set_result(None)

    for future in saving:
        future.add_done_callback(saved)


def _lost(lease: Lease) -> int:
    ledger = lease.ledger
    dropped = cast("dict[DropReason, int]", ledger.dropped)
    return ledger.failed + sum(items for reason, items in dropped.items() if not is_intended(reason))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_hand_overs: WeakRegistry[HandOver] = WeakRegistry()


def _start_clean_in_child() -> None:
    for each in _hand_overs.all():
        each.start_clean()


at_fork(after_in_child=_start_clean_in_child)
