"""Server: one opening-to-closing of a delivery, on its event loop: queue, spool, sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from nat_observability.delivery.books import NEVER, Books, Entry, resolve
from nat_observability.delivery.processing import STRETCH_ITEMS, Processing
from nat_observability.delivery.sender import Outcome, Sender, cancelled
from nat_observability.delivery.sink import Sink
from nat_observability.delivery.thread import (
    LoopSource,
    as_exception,
    background_context,
    is_forgotten,
    suppress_instrumentation,
)
from nat_observability.errors import RetryableWriteError, SinkError, StartTimeoutError, describe
from nat_observability.events import Item
from nat_observability.logs import RepeatedEvent, get_logger

if TYPE_CHECKING:
    from nat_observability.delivery.delivery import Delivery
    from nat_observability.delivery.spool_line import SpoolLine

_ADOPT_EVERY = 30.0  # seconds between two looks for what processes that died have left in the spool
_DISK_PAUSE = 1.0  # seconds after the disk has refused
_GIVE_WAY = 0.0005  # seconds between two stretches of processing
_STRETCHES = 16  # after which what is ready has its turn
_LET_GO = 1.0  # seconds for closing the sink of a delivery that was given up, for which nobody waits
_SAVE_ITEMS = 1024
_SAVE_BYTES = 1024 * 1024  # what is encoded and not yet on the disk is in memory twice
_log = get_logger()


class Server:
    """
    Opens the sink, and the spool where there is one; moves entries on until the delivery is unwanted; closes both.

    Where there are processors, each entry is processed once before it is saved or sent.

    With `spool="always"` each entry is saved before it is sent. With `spool="spill"` the oldest are saved when the
    queue is half full and the sink does not keep up, and everything that is in memory when the last call comes.
    What was saved is sent from memory while there is room for it there, and otherwise read again. While there is
    something to be sent from both memory and spool, they take turns.

    Args:
        after: A server that was cancelled, and may have to close the sink yet.
        reopen: Whether the sink is to be opened.

    Raises:
        ThreadRefusedError: There is no event loop to be had. Nothing is left of it then.
    """

    def __init__(
        self,
        delivery: Delivery,
        books: Books,
        sink: Sink,
        loop_source: LoopSource,
        line: SpoolLine | None,
        processing: Processing,
        *,
        after: Server | None = None,
        reopen: bool = True,
    ) -> None:
        self._delivery = delivery
        self._books = books
        self._sink = sink
        self._limits = delivery.limits
        self._save_bytes = min(_SAVE_BYTES, self._limits.queue_bytes // 16)
        self.loop_source: LoopSource | None = loop_source
        self._opens = reopen
        self._is_open = not reopen
        # A queue of hardly more bytes than a batch would be full, and drop, before a batch is.
        self._due_bytes = min(self._limits.batch_bytes, max(1, self._limits.queue_bytes * 3 // 4))
        self._after = after
        self._ended: Future[None] = Future()
        self._signal = asyncio.Event()
        self._last_tries = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self.last_batch_s: float | None = None
        self._line = line
        self._processing = processing
        self._gave_up = False
        self._unsent = 0  # batches in a row that came back
        self._memory_is_next = self._fetch_is_next = False
        self._stretches = 0  # of processing, since something else was done
        self._spool_failed = RepeatedEvent()
        self._due_at: float | None = None
        # Not before these: sending, reading the spool, spilling into it, looking for what others have left.
        self._send_at = self._fetch_at = self._spill_at = self._adopt_at = 0.0
        self._loop = loop_source.acquire()
        try:
            self.sender = Sender(delivery.name, sink, delivery.limits, self._loop, self._last_tries)
        except BaseException:
            loop_source.release()
            raise

    # From any thread:

    def start(self) -> None:
        """
        Begin, on the loop.

        Raises:
            RuntimeError: The loop is closed.
        """
        try:
            # Not in the context of whoever took the first lease: its run would record what its own export does.
            self._loop.call_soon_threadsafe(self._begin, context=background_context())
        except RuntimeError:
            # The delivery is told of one that broke just now, and goes on on another one.
            if not is_forgotten(self._loop):
                raise

    def wake(self) -> None:
        """Look at the queue again."""
        self._soon(self._signal.set)

    @property
    def is_cut_off(self) -> bool:
        """Whether the loop runs no more."""
        return self._loop.is_closed()

    def cancel(self) -> None:
        """End whatever goes on, without waiting."""
        self._soon(self._cancel)

    def give_up(self) -> None:
        """Let go of a loop on which this could not be started."""
        if self.loop_source is not None:
            self.loop_source.release()
        resolve([self._ended])

    def leave(self) -> None:
        """Have nothing more to do with the loop, which is somebody else's from now on."""
        self.loop_source = None
        self._soon(self._cancel)

    def successor(self, loop_source: LoopSource, *, reopen: bool) -> Server:
        """Return a server that goes on where this one is made to leave."""
        return Server(
            self._delivery,
            self._books,
            self._sink,
            loop_source,
            self._line,
            self._processing,
            reopen=reopen,
        )

    def _soon(self, callback: Callable[[], object]) -> None:
        # This has ended meanwhile, and with it its loop; or the loop broke, and another server is about to take over.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def runs(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` is one of this server's."""
        return task is self._task or task in self._sends

    # On the loop:

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._serve(), name=f"delivery {self._delivery.name}")
        # Not at the end of the task itself, which does not even begin where it is cancelled at once.
        self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        with self._books.lock:
            never_began = self._in_charge
            if never_began:
                # A sink has cancelled every task of the loop, this one before it began.
                self._delivery.failed(RuntimeError("A task of the delivery was cancelled before it began."))
        if never_began:
            self._delivery.log_drops(last=True)
        self._delivery.reported(self)
        if self.loop_source is not None:
            self.loop_source.release()
        resolve([self._ended])

    def _cancel(self) -> None:
        for task in (self._task, *self._sends):
            if task is not None:
                task.cancel()

    @property
    def _in_charge(self) -> bool:
        return self._delivery.is_served_by(self)

    async def _serve(self) -> None:
        delivery = self._delivery
        try:
            while True:
                suppress_instrumentation()
                await self._open()
                if not await self._move_entries():
                    return
                if self._line is not None:
                    await self._line.close()
                await self._close()
                with self._books.lock:
                    if not self._in_charge or delivery.has_closed():
                        return
                self._opens = True
                self._gave_up = False
                self._last_tries.clear()
        except BaseException as error:
            # Foreign code: opening a sink may raise anything, an exit too, and cancel this very task.
            with self._books.lock:
                if self._in_charge:
                    delivery.failed(as_exception(error))
                elif not isinstance(error, Exception):
                    raise
        finally:
            delivery.log_drops(last=True)
            # Who waits for the end, of the process for example, finds in the log all that there is to say.
            delivery.reported(self)
            await self._let_go()

    async def _close(self) -> None:
        """Close the sink, which has written everything: nothing is lost where that raises, or never ends."""
        self._is_open = False
        suppress_instrumentation()
        try:
            async with asyncio.timeout(self._limits.open_timeout):
                await self._sink.close()
        except BaseException as error:
            # Foreign code may raise anything, an exit too. What tells this very task to end is not the sink's.
            if cancelled(error) or isinstance(error, GeneratorExit):
                raise
            _log.warning("sink_close_failed", exporter=self._delivery.name, error=describe(error))

    async def _let_go(self) -> None:
        """Close a sink that is still open, because the delivery was given up: its connections would stay open."""
        if not self._is_open or self.loop_source is None:
            return  # or what goes on elsewhere uses it
        self._is_open = False
        try:
            async with asyncio.timeout(_LET_GO):
                await self._sink.close()
        except BaseException as error:  # noqa: BLE001  foreign code, and nobody waits for it any more
            _log.debug("sink_not_closed", exporter=self._delivery.name, error=describe(error))

    async def _open(self) -> None:
        delivery, limits = self._delivery, self._limits
        if self._after is not None:
            # A sink is not opened while it is closed; but one that is stuck may never be.
            await asyncio.wait([asyncio.wrap_future(self._after._ended)], timeout=2 * _LET_GO)
            self._after = None
        if self._line is not None:
            await self._line.open()
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        if self._opens:
            try:
                async with asyncio.timeout(limits.open_timeout):
                    await self._sink.open()
            except TimeoutError as error:
                raise StartTimeoutError(delivery.name, limits.open_timeout) from error
            self._is_open = True
        with self._books.lock:
            if self._in_charge:
                delivery.opened()

    async def _move_entries(self) -> bool:
        """
        Save and send until the delivery is unwanted and nothing waits.

        Returns:
            Whether the sink is to be closed: False where another server has taken the delivery over.
        """
        books, delivery = self._books, self._delivery
        while True:
            self._signal.clear()
            if delivery.last_call and not self._last_tries.is_set():
                self._last_tries.set()
                await self._save_what_is_sent()
            with books.lock:
                if not self._in_charge:
                    return False
                move = self._next_move(self._loop.time())
                if move is None:
                    delivery.closing()
                    return True
            await move()
            delivery.log_drops()

    def _next_move(self, now: float) -> Callable[[], Awaitable[None]] | None:
        """Take what is to move on, and return what is to be done with it; None where all is done. Under the lock."""
        books, delivery, limits, line = self._books, self._delivery, self._limits, self._line
        free = len(self._sends) < limits.batches_in_flight and not self._gave_up
        free = free and (now >= self._send_at or delivery.last_call)
        queued = self._is_due(now)
        books.tell_room()
        spooled = line is not None and line.waiting > 0
        if queued and self._is_to_be_processed(spooled=spooled and now >= self._fetch_at):
            return self._process
        queued = queued and books.queue.gives
        saves = queued and self._is_to_be_saved(now, free=free)
        in_memory = bool(books.ready) or (queued and not saves)
        fetches = free and spooled and now >= self._fetch_at and not (self._memory_is_next and in_memory)
        # Runs that never pause always leave something to save, which must not keep what was saved from being sent.
        waits = not delivery.last_call and (
            (free and (books.ready or books.fetched)) or (fetches and self._fetch_is_next)
        )
        if saves and not waits:
            self._due_at = None
            self._fetch_is_next = True
            if books.saves_all or delivery.last_call:
                return partial(self._save, self._take_to_save())
            books.spills = True
            books.wake_items = books.wake_bytes = NEVER
            return self._spill
        if free and books.fetched:
            self._memory_is_next = True
            return self._send_soon(books.take_fetched(limits.batch_items))
        if fetches:
            self._fetch_is_next = False
            return self._fetch
        if free and in_memory:
            self._memory_is_next = False
            if books.ready:
                return self._send_soon(books.take_ready(limits.batch_items, limits.batch_bytes))
            self._due_at = None
            return self._send_soon(books.queue.take(limits.batch_items, limits.batch_bytes))
        if delivery.unwanted and not self._sends and not len(books.queue):
            if self._gave_up or not (spooled or books.ready or books.fetched):
                return None
        elif line is not None and now >= self._adopt_at and not delivery.unwanted:
            return self._adopt
        return partial(self._sleep, now)

    def _is_due(self, now: float) -> bool:
        """Say whether what is queued is to move on now; set when to be woken."""
        books, limits, queue = self._books, self._limits, self._books.queue
        if not len(queue):
            books.hurry = False
            self._due_at = None
            books.wake_items, books.wake_bytes = 1, NEVER
            return False
        if self._due_at is None:
            self._due_at = now + limits.batch_age
        full = len(queue) >= limits.batch_items or queue.queued_bytes >= self._due_bytes
        if full or books.hurry or self._delivery.unwanted or now >= self._due_at:
            # Nothing more can be done until a batch comes back, unless the queue is to spill.
            spills = self._line is not None and not books.saves_all and now >= self._spill_at
            taken_bytes = queue.held_bytes - queue.queued_bytes
            books.wake_items = (limits.queue_items + 1) // 2 if spills else NEVER
            books.wake_bytes = (limits.queue_bytes + 1) // 2 - taken_bytes if spills else NEVER
            return True
        books.wake_items, books.wake_bytes = limits.batch_items, self._due_bytes
        return False

    def _is_to_be_saved(self, now: float, *, free: bool) -> bool:
        if self._line is None:
            return False
        if self._books.saves_all or self._delivery.last_call:
            return True
        return not free and now >= self._spill_at and self._books.is_filled(0.5)

    def _is_to_be_processed(self, *, spooled: bool) -> bool:
        """Say whether there is something raw, and not yet enough for the next batch, to be sent or to be saved."""
        books, queue, limits = self._books, self._books.queue, self._limits
        if not queue.has_raw():
            return False
        if self._stretches >= _STRETCHES and (queue.gives or books.ready or books.fetched or spooled):
            # A filter that is never done with what keeps coming must not hold up the little that it lets through, nor
            # what was saved.
            self._stretches = 0
            return False
        # A batch ahead, also while nothing can be sent: it is ready when the one before has come back.
        enough = queue.let_on_items >= limits.batch_items or queue.let_on_bytes >= limits.batch_bytes
        if self._line is None:
            return not enough
        return not enough and queue.let_on_items < _SAVE_ITEMS and queue.let_on_bytes < self._save_bytes

    async def _process(self) -> None:
        books = self._books
        self._stretches += 1
        with books.lock:
            entries = books.queue.raw(STRETCH_ITEMS)
        # Outside the lock: it is foreign code. Meanwhile the entries stay in the queue, so that nothing can lose them.
        results = self._processing.stretch([entry.item for entry in entries])
        with books.lock:
            if self._in_charge:
                books.processed(entries, results)
        # Off the processor for a moment: see otlp_body. A wait of zero would not give way to a thread that records.
        await asyncio.sleep(_GIVE_WAY if len(results) < len(entries) else 0)

    def _take_to_save(self) -> list[Entry]:
        return self._books.take_to_save(_SAVE_ITEMS, self._save_bytes)

    async def _sleep(self, now: float) -> None:
        """Wait for a signal, or for the next time at which something may be due."""
        times = (self._due_at, self._send_at, self._fetch_at, self._spill_at, self._adopt_at)
        coming = [time - now for time in times if time is not None and time > now]
        try:
            async with asyncio.timeout(min(coming, default=None)):
                await self._signal.wait()
        except TimeoutError:
            pass

    # Sending:

    def _send_soon(self, batch: list[Entry]) -> Callable[[], Awaitable[None]]:
        self._books.in_flight.update(dict.fromkeys(batch))

        async def start() -> None:
            suppress_instrumentation()  # for what is sent, in a copy of this context
            self._sends.add(self._loop.create_task(self._send(batch)))

        return start

    async def _send(self, batch: list[Entry]) -> None:
        delivery, books = self._delivery, self._books
        began = self._loop.time()
        try:
            outcomes = await self._outcomes([entry.item for entry in batch])
            self.last_batch_s = duration = self._loop.time() - began
            if delivery.on_batch is not None:
                # Before the items are settled: whoever waits for them then finds the batch measured.
                failed = Outcome.DELIVERED not in outcomes
                try:
                    delivery.on_batch(duration, self.sender.last_error if failed else None)
                except Exception as error:  # noqa: BLE001  foreign code: the application's meter
                    _log.warning("batch_not_measured", exporter=delivery.name, error=describe(error))
            with books.lock:
                if self._in_charge:
                    self._settle(batch, outcomes)
            delivery.log_drops()
        finally:
            task = asyncio.current_task(self._loop)
            if task is not None:
                self._sends.discard(task)
            self._signal.set()

    async def _outcomes(self, items: Sequence[Item]) -> list[Outcome]:
        try:
            return await self.sender.send(items)
        except BaseException as error:
            # Whoever cancels a send for good has taken charge away before. Here it is the sink that cancelled the
            # task that it runs in.
            with self._books.lock:
                if not self._in_charge:
                    raise
            return self.sender.refused(error, items)

    def _settle(self, batch: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        books, line, failures = self._books, self._line, self.sender.failures
        if line is None:
            books.settle_all(batch, outcomes, failures)
            return
        done: list[int] = []
        to_spool: list[int] = []
        to_queue: list[Entry] = []
        gone: list[Entry] = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            del books.in_flight[entry]
            if outcome is Outcome.UNSENT and entry.key is None:
                to_queue.append(entry)
                continue
            gone.append(entry)
            if outcome is Outcome.UNSENT and entry.key is not None:
                books.own(entry.key, entry.account)
                to_spool.append(entry.key)
            else:
                books.settle(entry, outcome, failures)
                if entry.key is not None:
                    done.append(entry.key)
        # They wait at the head of the queue for the next try, or for being saved.
        books.queue.put_back(to_queue)
        books.queue.release(gone)
        line.done(done)
        line.put_back(to_spool)
        if not (to_spool or to_queue):
            self._unsent = 0
        elif self._delivery.last_call:
            self._gave_up = True
        else:
            self._back_off()

    def _back_off(self) -> None:
        """Let nothing be sent for a while: the sender has given a batch up, which is the next one to be sent."""
        now, limits, error = self._loop.time(), self._limits, self.sender.last_error
        if now < self._send_at:
            return  # another batch has come back just before
        pause = min(limits.retry_max, limits.retry_initial * 2 ** min(self._unsent, 32))
        asked = error.retry_after if isinstance(error, RetryableWriteError) else None
        self._unsent += 1
        self._send_at = now + max(pause, asked or 0.0)

    # The spool:

    async def _save(self, entries: list[Entry]) -> None:
        line, books, last_call = self._line, self._books, self._delivery.last_call
        if line is None or not entries:
            return
        # What cannot be sent soon need not stay in memory: it is read again when its turn comes.
        room = books.queue.held_bytes * 2 < self._limits.queue_bytes
        try:
            problem = await line.save(entries, stay=last_call or room)
        except SinkError as error:
            problem = error
        if problem is not None:
            self._log_spool_failure(problem)

    async def _spill(self) -> None:
        books = self._books

        def next_entries() -> list[Entry]:
            with books.lock:
                books.tell_room()
                # Until there is room for a while, or something else to do.
                if self._signal.is_set() or not self._in_charge or not books.is_filled(0.25):
                    return []
                return self._take_to_save()

        try:
            problem = await self._line.spill(next_entries) if self._line is not None else None
        except SinkError as error:
            self._spill_at = self._loop.time() + _DISK_PAUSE
            books.spills = False
            problem = error
        if problem is not None:
            self._log_spool_failure(problem)

    async def _save_what_is_sent(self) -> None:
        """Save what is being sent and is in memory alone: the deadline may come before an answer does."""
        line, books = self._line, self._books
        if line is None:
            return
        with books.lock:
            entries = [entry for entry in (*books.in_flight, *books.ready) if entry.key is None]
        for start in range(0, len(entries), _SAVE_ITEMS):
            try:
                await line.save(entries[start : start + _SAVE_ITEMS], stay=True)
            except SinkError as error:
                self._log_spool_failure(error)
                return

    async def _fetch(self) -> None:
        limits = self._limits
        try:
            if self._line is not None:
                await self._line.fetch(limits.batch_items, limits.batch_bytes)
        except SinkError as error:
            self._log_spool_failure(error)
            self._fetch_at = self._loop.time() + _DISK_PAUSE
            self._gave_up = self._gave_up or self._delivery.last_call

    async def _adopt(self) -> None:
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        try:
            if self._line is not None:
                await self._line.adopt()
        except SinkError as error:
            self._log_spool_failure(error)

    def _log_spool_failure(self, error: Exception) -> None:
        suppressed = self._spool_failed.due()
        if suppressed is not None:
            _log.error(
                "spool_failed", exporter=self._delivery.name, error=describe(error), suppressed=suppressed
            )
