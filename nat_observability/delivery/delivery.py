"""Delivery: the shared part of an exporter, from its queue to its sink, as its users see it."""

from __future__ import annotations

import asyncio
import atexit
import copy
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from nat_observability.alive import Alive
from nat_observability.delivery import spool_forks
from nat_observability.delivery.books import Account, Books, resolve, resolved
from nat_observability.delivery.breaker import BreakerState
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.losses import log_all
from nat_observability.delivery.processing import Processing
from nat_observability.delivery.server import Server
from nat_observability.delivery.sink import BatchFunction, BlockingSink, Sink, WorkerSink, as_sink
from nat_observability.delivery.thread import DeliveryThread, LoopSource, loaded
from nat_observability.errors import RuntimeStateError, StopTimeoutError, ThreadRefusedError, describe
from nat_observability.forks import at_fork
from nat_observability.logs import get_logger

if TYPE_CHECKING:
    from nat_observability.delivery.spool_line import SpoolLine
    from nat_observability.processors.processor import Processor

_AFTER_ALL_OTHERS = -1000  # of a child's finalizers: those of the application may record too
_REOPEN_AFTER = 5.0  # seconds between two attempts to open a sink that could not be opened
_log = get_logger()


class DeliveryState(StrEnum):
    """Where a delivery is in its life; it may go round more than once."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


class DeliveryHealth(msgspec.Struct, frozen=True):
    """
    What can be asked of a delivery at any moment.

    `queue_bytes` includes what is being written, `in_flight` is the number of items of which that is so. `spooled` is
    the number of items that are on the disk and not in memory. `last_batch_s` is how many seconds the last batch took,
    all its tries included.
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
    blocking: bool
    """Whether the sink was found to block the delivery thread, since when it has a thread of its own."""


class Delivery:
    """
    Queue, batching and writing for one exporter, shared by all runs.

    Args:
        name: The exporter's name, for logs and reports.
        sink: A `Sink`, a `BlockingSink`, or a function or coroutine function that takes a batch.
        limits: Bounds of queue, batches, tries, times and spool.
        loop_source: Where the event loop comes from; the delivery thread by default.
        processors: Applied to each item once, in this order, after the queue and before spool and sink. One that
            raises drops the item, counted as `processor_failed:<name>`; one that returns None likewise as
            `filtered:<name>`.

    Attributes:
        on_batch: Called on the delivery's loop with the seconds that a batch took and what it failed with.

    Raises:
        TypeError: `sink` is none of these, or a processor cannot be called.
        ValueError: There is to be a spool, and `spool_path` is not set or another limit of it is wrong.
    """

    def __init__(
        self,
        name: str,
        sink: Sink | BlockingSink | BatchFunction,
        *,
        limits: DeliveryLimits | None = None,
        loop_source: LoopSource | None = None,
        processors: Iterable[Processor] = (),
    ) -> None:
        self.name = name
        self._processing = Processing(name, processors)
        self.limits = limits or DeliveryLimits()
        self.on_batch: Callable[[float, BaseException | None], None] | None = None
        self._sink = as_sink(sink)
        self._loop_source = loop_source or DELIVERY_THREAD
        self._epoch = 0
        self._kept = 0
        self._blocking = False
        self._begin_empty()
        _deliveries.add(self)

    def _begin_empty(self) -> None:
        self._books = Books(self.limits, exporter=self.name, processes=bool(self._processing))
        self._lock = self._books.lock
        self._line: SpoolLine | None = None
        if self.limits.spool != "off":
            self._line = _spool_line(self.name, self.limits, self._books)
        self._state = DeliveryState.NEW
        self._open_error: BaseException | None = None
        # Of the last server, for when there is none.
        self._last_error: BaseException | None = None
        self._last_batch_s: float | None = None
        self._open_failed_at = -_REOPEN_AFTER
        self._leases = self._kept
        self._server: Server | None = None
        self._abandoned: Server | None = None
        self._opening: list[Future[None]] = []
        self._closing: list[Future[None]] = []
        self._last_call = False
        self._latecomers = False  # whether a lease was taken after the last call
        # Those who wait for the end of a server that has something to say yet.
        self._ends: dict[Server, list[Future[None]]] = {}

    def lease(self, *, keep: bool = False) -> Lease:
        """
        Hold the delivery open, opening it where nobody else does. From any thread; returns at once.

        It does not raise: if there is no thread to be had, `lease.opening` has failed, what the lease accepts is
        dropped as `not_open`, and the next lease tries again.

        Args:
            keep: Whether the lease holds in a forked child too, as the runtime's does; a run's does not.
        """
        with self._lock:
            lease = Lease(self, self._books, None if keep else self._epoch)
            self._leases += 1
            self._kept += keep
            self._latecomers = self._latecomers or (self._last_call and self._server is not None)
            if self._state is DeliveryState.OPEN:
                return lease
            lease.opening = Future()
            if (
                self._server is None
                and self._open_error is not None
                and time.monotonic() < self._open_failed_at + _REOPEN_AFTER
            ):
                lease.opening.set_exception(self._open_error)
                return lease
            self._opening.append(lease.opening)
            if self._server is not None:
                return lease
            try:
                _drain_at_the_end_of_a_child()
                server = Server(
                    self,
                    self._books,
                    self._sink,
                    self._loop_source,
                    self._line,
                    self._processing,
                    after=self._abandoned,
                )
            except Exception as error:  # noqa: BLE001  whatever the system refuses: a thread, a file handle, memory
                self._refused(error)
                return lease
            self._last_call, self._latecomers, self._state = False, False, DeliveryState.OPENING
            self._abandoned = None
            self._serve_with(server)
        self._start(server)
        return lease

    def _start(self, server: Server) -> None:
        try:
            server.start()
        except Exception as error:  # noqa: BLE001  its loop is closed, or has no memory left
            with self._lock:
                if self._server is server:
                    self._refused(error)
            server.give_up()
            self._report(server)

    def _refused(self, error: Exception) -> int:
        lost = self.failed(error)
        self._open_failed_at = -_REOPEN_AFTER  # to ask for a loop again costs next to nothing
        return lost

    @property
    def processors(self) -> tuple[Processor, ...]:
        """What each item goes through, in this order."""
        return self._processing.processors

    def process_with(self, processors: Iterable[Processor]) -> None:
        """
        Let each item go through these instead.

        Raises:
            RuntimeStateError: The delivery has been opened before.
            TypeError: One of them cannot be called.
        """
        processing = Processing(self.name, processors)
        with self._lock:
            if self._state is not DeliveryState.NEW:
                raise RuntimeStateError(
                    f"The delivery of {self.name!r} is {self._state}. Give it its processors before its first lease."
                )
            self._processing = processing
            self._begin_empty()

    def closed(self) -> Future[None]:
        """
        Return a future that is done when the delivery has closed, or at once where it is not open.

        By then the log has everything that the delivery has lost.
        """
        with self._lock:
            waiters = self._closing if self._server is not None else next(reversed(self._ends.values()), None)
            if waiters is None:
                return resolved()
            future: Future[None] = Future()
            waiters.append(future)
            return future

    def close(self) -> Future[None]:
        """
        Write what is queued, each batch with one last try, and close, whoever holds a lease; see `closed`.

        With a spool everything is put on the disk first, and what the last try does not bring away stays there.
        """
        with self._lock:
            self._last_call = True
            self._books.wake_up()
        return self.closed()

    def abandon(self, timeout: float | None = None) -> int:
        """
        Give up at once what is not yet written; return how many items that were, dropped as `shutdown_timeout`.

        For when the deadline has passed: it waits for nothing, not even for the delivery thread, which may be what
        is stuck. What is in the spool stays there, and pending.

        Args:
            timeout: Seconds that it had; `drain_timeout` by default.
        """
        with self._lock:
            server = self._server
            if server is None:
                return 0
            lost = self._finish(
                DeliveryState.FAILED,
                StopTimeoutError(self.name, self.limits.drain_timeout if timeout is None else timeout),
                "shutdown_timeout",
            )
            self._abandoned = server
        server.cancel()
        self._report(server)
        return lost

    @property
    def held(self) -> bool:
        """Whether the delivery is at work and somebody holds a lease."""
        return self.at_work and self._leases > 0

    @property
    def at_work(self) -> bool:
        """Whether the delivery is opening, open or closing."""
        return self._server is not None

    def health(self) -> DeliveryHealth:
        """Return state, counts and last error as they are now. From any thread."""
        with self._lock:
            books, server = self._books, self._server
            # Not by whether they are true: an error is foreign code, and may raise on being asked.
            error = self._last_error if server is None else server.sender.last_error
            error = self._open_error if error is None else error
            return DeliveryHealth(
                self._state,
                books.ledger.snapshot(),
                len(books.queue),
                self.limits.queue_items,
                books.queue.held_bytes,
                len(books.in_flight),
                server.last_batch_s if server is not None else self._last_batch_s,
                max(0, books.ledger.pending - books.in_memory),
                server.sender.breaker_state if server is not None else BreakerState.CLOSED,
                describe(error) if error is not None else None,
                self._blocking,
            )

    def discard(self, reason: str, items: int) -> LedgerSnapshot:
        """Count items of a run that takes no lease as accepted and dropped, and return the run's ledger."""
        account = Account()
        with self._lock:
            self._books.discard(account, reason, items)
        return account.ledger.snapshot()

    def log_drops(self, books: Books | None = None, *, last: bool = False) -> None:
        """
        Log what has failed or was dropped, where a line is due; not under the lock.

        Args:
            books: The parent's, in a forked child: what is recorded there in the parent's run is in no others.
            last: Whether it is due however little time has passed since the last line.
        """
        if books is not None and books is not self._books:
            # This may be all that such a child does with the delivery, and what half a minute keeps back is said at
            # its end. An interpreter that ends already may refuse the thread for that.
            with suppress(RuntimeError, MemoryError):
                _drain_at_the_end_of_a_child()
        (books or self._books).losses.log(last=last)

    def give_back(self, epoch: int | None) -> int:
        """Take a lease back, once, and not one that a parent process gave; return the epoch of one given back."""
        with self._lock:
            if epoch is None or epoch == self._epoch:
                self._leases -= 1
                self._kept -= epoch is None
                if not self._leases:
                    self._books.wake_up()
        return -1

    # For the server, on its loop:

    def is_served_by(self, server: Server) -> bool:
        """Whether `server` is still the one in charge. Under the lock."""
        return self._server is server

    @property
    def last_call(self) -> bool:
        """Whether what waits is to be tried once more and the delivery then closed."""
        return self._last_call

    @property
    def unwanted(self) -> bool:
        """Whether the delivery is to close as soon as nothing waits."""
        return self._last_call or not self._leases

    def opened(self) -> None:
        """Note that the sink is open. Under the lock."""
        self._state = DeliveryState.OPEN
        self._open_error = None
        opening, self._opening = self._opening, []
        resolve(opening)

    def closing(self) -> None:
        """Note that the sink is about to be closed. Under the lock."""
        self._state = DeliveryState.CLOSING

    def has_closed(self) -> bool:
        """Note that the sink was closed; return whether it is to stay so. Under the lock."""
        if self._latecomers and (self._leases or len(self._books.queue)):
            # A server answers requests while its process shuts down: their runs find an open delivery once more. Who
            # asked for the last call has what was asked for.
            self._last_call = False
            closing, self._closing = self._closing, []
            resolve(closing)
        elif self.unwanted:
            # In the queue is now only what those recorded whose lease had ended.
            self._finish(DeliveryState.CLOSED, None, "closed")
            return True
        self._latecomers = False
        self._state = DeliveryState.OPENING
        return False

    def failed(self, error: BaseException) -> int:
        """
        Note that the sink or the spool could not be opened, or that no thread could be had. Under the lock.

        Returns:
            The number of items that were dropped because of it.
        """
        self._open_error = error
        # A thread that was refused may be there the next moment.
        self._open_failed_at = -_REOPEN_AFTER if isinstance(error, ThreadRefusedError) else time.monotonic()
        if self._server is None:
            self._last_error = error
        return self._finish(DeliveryState.FAILED, error, "not_open")

    def _finish(self, state: DeliveryState, error: BaseException | None, reason: str) -> int:
        books, server = self._books, self._server
        self._state = state
        if server is not None:
            last = server.sender.last_error
            self._last_error, self._last_batch_s = error if last is None else last, server.last_batch_s
        self._server = None
        books.wake = None
        books.refusal = "not_open" if reason == "not_open" else "closed"
        books.tell_room()
        lost = books.drop_all(books.in_hand(), reason)
        if self._line is not None:
            # Before anybody takes a lease again, which opens it again.
            self._line.end()
        opening, self._opening = self._opening, []
        if error is None:
            error = RuntimeStateError(f"The delivery of {self.name!r} was closed while it opened.")
        resolve(opening, error)
        if server is not None:
            self._ends[server], self._closing = self._closing, []
        return lost

    def reported(self, server: Server) -> None:
        """Tell those who wait for the end of a server, which has said what there was to say."""
        with self._lock:
            waiters = self._ends.pop(server, [])
        resolve(waiters)

    def _report(self, server: Server) -> None:
        self.log_drops(last=True)
        self.reported(server)

    def _serve_with(self, server: Server) -> Server:
        self._server = server
        self._books.wake = server.wake
        return server

    def move(self) -> None:
        """Go on in another loop, because somebody else blocks the one that this delivery is on."""
        with self._lock:
            stuck = self._server
            if stuck is None:
                return
            server, _ = self._move(stuck)
        if server is None:
            self._report(stuck)
        else:
            self._start(server)

    def _move(self, stuck: Server) -> tuple[Server | None, int]:
        """Return the server that goes on, which is to be started; None where none can, and what that costs."""
        books = self._books
        # What was being written is written again: whether it arrived can no longer be known.
        books.send_again()
        # One on a worker thread stays open meanwhile, if it was.
        reopen = self._state is not DeliveryState.OPEN or not isinstance(self._sink, WorkerSink)
        if self._state is DeliveryState.OPEN and reopen:
            self._state = DeliveryState.OPENING
        stuck.leave()
        try:
            return self._serve_with(stuck.successor(self._loop_source, reopen=reopen)), 0
        except Exception as error:  # noqa: BLE001  as in `lease`
            return None, self._refused(error)

    def loop_broke(self, error: Exception, *, had_begun: bool) -> None:
        """Go on in another loop, because this one runs no more; fail if it never ran, as another one would not."""
        server: Server | None = None
        with self._lock:
            broken = self._server
            if broken is None or not broken.is_cut_off:
                return
            if had_begun:
                server, lost = self._move(broken)
            else:
                lost = self.failed(error)
            problem = error if self._open_error is None else self._open_error
        if server is not None:
            self._start(server)
        else:
            _log.warning("exporter_abandoned", exporter=self.name, error=describe(problem), lost=lost)
            self._report(broken)

    def keep_to_itself(self, loop_source: LoopSource) -> None:
        """Stay alone on a loop that the sink blocks."""
        with self._lock:
            self._blocking = True
            self._loop_source = loop_source
            if self._server is not None:
                self._server.loop_source = loop_source

    def _start_clean(self) -> None:
        """Forget what belongs to the parent, in a forked child."""
        # The parent writes what it accepted. Its open files and connections are inherited as they are: closing
        # them here could end what the parent still does with them, so they are kept and never touched.
        _inherited.append(
            (
                copy.copy(self._sink.blocking if isinstance(self._sink, WorkerSink) else self._sink),
                self._server,
            )
        )
        self._epoch += 1
        self._books.retire()
        self._begin_empty()

    def runs(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` is at work for this delivery."""
        return self._server is not None and self._server.runs(task)

    def runs_on(self, loop_source: LoopSource) -> bool:
        """Whether this is where the delivery's loop comes from."""
        return self._loop_source is loop_source


def _spool_line(name: str, limits: DeliveryLimits, books: Books) -> SpoolLine:
    with spool_forks.loading:
        # SQLite and all that a spool needs are a quarter of what there is to import, and most exporters have none.
        from nat_observability.delivery.spool_line import SpoolLine
    return SpoolLine(name, limits, books)


def delivery_thread(*, blocked_after: float) -> DeliveryThread:
    """Return a delivery thread of one's own, whose deliveries are separated from one that blocks it so long."""
    return DeliveryThread(_separate, on_broken=_go_on_elsewhere, blocked_after=blocked_after)


_deliveries: Alive[Delivery] = Alive()
_inherited: list[object] = []


def deliveries() -> list[Delivery]:
    """Return every delivery of the process."""
    return _deliveries.all()


def _start_clean_in_child() -> None:
    for delivery in deliveries():
        delivery._start_clean()


def _drain_at_exit() -> None:
    """Write what is left where nobody shut the runtime down; each delivery within its drain_timeout."""
    began = time.monotonic()
    at_work = [delivery for delivery in deliveries() if not delivery.closed().done()]
    held = sorted(delivery.name for delivery in at_work if delivery.held)
    if held:
        _log.warning("runtime_not_shut_down", exporters=held)
    for delivery, closed in [(delivery, delivery.close()) for delivery in at_work]:
        try:
            closed.result(max(0.0, began + delivery.limits.drain_timeout - time.monotonic()))
        except TimeoutError:
            _log.warning("exporter_abandoned", exporter=delivery.name, lost=delivery.abandon())
    log_all()


_finalizer: Any = None
_drainer: threading.Thread | None = None


def _drain_at_the_end_of_a_child() -> None:
    """
    Have a child of `multiprocessing` write what is left when it ends, because it runs no exit handlers.

    Where the application has not imported `multiprocessing`, this is not such a child.
    """
    global _finalizer
    process, util = loaded("multiprocessing.process"), loaded("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None:
        return
    if not threading.main_thread().is_alive():
        _drain_after_the_threads()  # the finalizers have been called already
    elif _finalizer is None or not _finalizer.still_active():
        # The child of a child forgets what its parent had registered.
        _finalizer = util.Finalize(None, _drain_after_the_threads, exitpriority=_AFTER_ALL_OTHERS)


def _drain_after_the_threads() -> None:
    """Drain when the threads have ended for which a child waits, but calls nothing afterwards."""
    global _drainer
    if _drainer is not None and _drainer.is_alive():
        return
    main = threading.main_thread()
    busy = [thread for thread in threading.enumerate() if not (thread.daemon or thread is main)]
    if not busy:
        _drain_at_exit()
        return

    def drain() -> None:
        for thread in busy:
            thread.join()
        _drain_at_exit()

    # For this one, which is no daemon, the child waits too.
    _drainer = threading.Thread(target=drain, name="nat-observability-exit", daemon=False)
    _drainer.start()


def _separate(thread: DeliveryThread, task: asyncio.Task[Any]) -> None:
    """Leave a delivery thread to the delivery whose sink blocks it, and go on with the others on a new one."""
    shared = [delivery for delivery in deliveries() if delivery.runs_on(thread)]
    culprit = next((delivery for delivery in shared if delivery.runs(task)), None)
    if culprit is None:
        return
    culprit.keep_to_itself(thread.split_off())
    _log.error("delivery_thread_blocked", exporter=culprit.name)
    for delivery in shared:
        if delivery is not culprit:
            delivery.move()


def _go_on_elsewhere(thread: DeliveryThread, error: Exception, had_begun: bool) -> None:
    for delivery in deliveries():
        if delivery.runs_on(thread):
            delivery.loop_broke(error, had_begun=had_begun)


DELIVERY_THREAD = DeliveryThread(_separate, on_broken=_go_on_elsewhere)
"""The one background thread of the process, for every delivery that was given no other."""

at_fork(after_in_child=_start_clean_in_child)
atexit.register(_drain_at_exit)
