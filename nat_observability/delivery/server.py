"""Server: one opening-to-closing of a delivery, on its event loop: queue, spool, sink."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nat_observability.delivery.books import NEVER, Books, Entry
from nat_observability.delivery.sender import Outcome, Sender
from nat_observability.delivery.sink import Sink
from nat_observability.delivery.spool_line import SpoolLine
from nat_observability.delivery.thread import LoopSource
from nat_observability.errors import SinkError, StartTimeoutError, describe
from nat_observability.logs import RepeatedEvent, get_logger

if TYPE_CHECKING:
    from nat_observability.delivery.delivery import Delivery

_ADOPT_EVERY = 30.0  # seconds between two looks for what processes that died have left in the spool
_SAVE_ITEMS = 2048
_log = get_logger()


class Server:
    """
    Opens the sink, and the spool where there is one; moves entries on until the delivery is unwanted; closes both.

    With `spool="always"` each entry is saved before it is sent. With `spool="spill"` the oldest are saved when the
    queue is half full and the sink does not keep up, and everything that is in memory when the last call comes.
    What was saved is sent from memory while there is room for it there, and otherwise read again.
    """

    def __init__(
        self,
        delivery: Delivery,
        books: Books,
        sink: Sink,
        loop_source: LoopSource,
        *,
        line: SpoolLine | None = None,
        reopen: bool = True,
    ) -> None:
        self._delivery = delivery
        self._books = books
        self._sink = sink
        self._limits = delivery.limits
        self.loop_source: LoopSource | None = loop_source
        self._loop = loop_source.acquire()
        self._opens = reopen
        self._signal = asyncio.Event()
        self._last_tries = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self.sender = Sender(delivery.name, sink, delivery.limits, self._loop, self._last_tries)
        self.last_batch_s: float | None = None
        self._line = line
        self._told: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._gave_up = False
        self._spool_turn = False
        self._save_failed = RepeatedEvent()
        self._due_at: float | None = None
        self._adopt_at = 0.0

    # From any thread:

    def start(self) -> None:
        """Begin, on the loop."""
        self._loop.call_soon_threadsafe(self._begin)

    def wake(self) -> None:
        """Look at the queue again."""
        self._loop.call_soon_threadsafe(self._signal.set)

    def cancel(self) -> None:
        """End whatever goes on, without waiting."""
        if self._line is not None:
            self._line.end()
        self._loop.call_soon_threadsafe(self._cancel)

    def leave(self) -> None:
        """Have nothing more to do with the loop, which is somebody else's from now on."""
        self.loop_source = None
        self._loop.call_soon_threadsafe(self._cancel)

    def successor(self, loop_source: LoopSource, *, reopen: bool) -> Server:
        """Return a server that goes on where this one is made to leave."""
        return Server(self._delivery, self._books, self._sink, loop_source, line=self._line, reopen=reopen)

    def runs(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` is one of this server's."""
        return task is self._task or task in self._sends

    # On the loop:

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._serve(), name=f"delivery {self._delivery.name}")

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
                await self._open()
                if not await self._move_entries():
                    return
                if self._line is not None:
                    await self._line.close()
                    self._line = None
                await self._sink.close()
                with self._books.lock:
                    if not self._in_charge or delivery.has_closed():
                        return
                self._opens = True
        except Exception as error:  # noqa: BLE001  foreign code: opening and closing a sink may raise anything
            if self._line is not None:
                self._line.end()
            with self._books.lock:
                if self._in_charge:
                    delivery.failed(error)
        finally:
            if self.loop_source is not None:
                self.loop_source.release()
            delivery.log_drops()

    async def _open(self) -> None:
        delivery, limits = self._delivery, self._limits
        recovered = 0
        if limits.spool != "off" and self._line is None:
            line = SpoolLine(delivery.name, limits, self._on_drop)
            recovered = await line.open()
            self._line = line
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        if self._opens:
            try:
                async with asyncio.timeout(limits.open_timeout):
                    await self._sink.open()
            except TimeoutError as error:
                raise StartTimeoutError(delivery.name, limits.open_timeout) from error
        with self._books.lock:
            if self._in_charge:
                self._books.recover(recovered)
                delivery.opened()

    async def _move_entries(self) -> bool:
        """
        Save and send until the delivery is unwanted and nothing waits.

        Returns:
            Whether the sink is to be closed: False where another server has taken the delivery over.
        """
        books, delivery, limits = self._books, self._delivery, self._limits
        while True:
            self._signal.clear()
            if delivery.last_call and not self._last_tries.is_set():
                self._last_tries.set()
                await self._save_in_flight()
            save: list[Entry] = []
            batch: list[Entry] = []
            from_spool = False
            with books.lock:
                if not self._in_charge:
                    return False
                free = len(self._sends) < limits.batches_in_flight and not self._gave_up
                waiting = self._line.waiting if self._line is not None else 0
                due, wait = self._due()
                if self._line is not None and due and self._is_to_be_saved(free=free):
                    save = books.queue.take(_SAVE_ITEMS, NEVER)
                    books.in_flight.update(save)
                elif free and books.ready:
                    batch, books.ready = books.ready[: limits.batch_items], books.ready[limits.batch_items :]
                elif free and waiting and not (self._spool_turn and due and not books.saves_all):
                    from_spool = True
                elif free and due and len(books.queue):
                    batch = books.queue.take(limits.batch_items, limits.batch_bytes)
                elif (
                    delivery.unwanted
                    and not self._sends
                    and (not waiting or self._gave_up)
                    and not len(books.queue)
                ):
                    delivery.closing()
                    return True
                books.in_flight.update(batch)
                self._spool_turn = from_spool
                if batch or save:
                    self._due_at = None
            if save:
                await self._save(save)
            elif from_spool:
                await self._send_from_spool()
            elif batch:
                self._send_soon(batch)
            else:
                await self._sleep(wait)

    def _due(self) -> tuple[bool, float | None]:
        """Say whether what is queued is to move on now, and else in how many seconds; set when to be woken."""
        books, limits, queue = self._books, self._limits, self._books.queue
        if not len(queue):
            books.hurry = False
            self._due_at = None
            books.wake_items, books.wake_bytes = 1, NEVER
            return False, None
        now = self._loop.time()
        if self._due_at is None:
            self._due_at = now + limits.batch_age
        full = len(queue) >= limits.batch_items or queue.queued_bytes >= limits.batch_bytes
        if full or books.hurry or self._delivery.unwanted or now >= self._due_at:
            # Nothing more can be done until a batch comes back, unless the queue is to spill.
            spills = self._line is not None and not books.saves_all
            books.wake_items = max(limits.batch_items, limits.queue_items // 2) if spills else NEVER
            books.wake_bytes = limits.queue_bytes // 2 if spills else NEVER
            return True, None
        books.wake_items, books.wake_bytes = limits.batch_items, limits.batch_bytes
        return False, self._due_at - now

    def _is_to_be_saved(self, *, free: bool) -> bool:
        books, limits = self._books, self._limits
        if books.saves_all or self._delivery.last_call:
            return True
        half = len(books.queue) * 2 >= limits.queue_items or books.queue.held_bytes * 2 >= limits.queue_bytes
        return half and not free

    async def _sleep(self, seconds: float | None) -> None:
        if self._line is not None:
            until_adoption = self._adopt_at - self._loop.time()
            if until_adoption <= 0:
                await self._adopt(self._line)
                return
            seconds = until_adoption if seconds is None else min(seconds, until_adoption)
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            pass

    # Sending:

    def _send_soon(self, batch: list[Entry]) -> None:
        self._sends.add(self._loop.create_task(self._send(batch)))

    async def _send(self, batch: list[Entry]) -> None:
        delivery, books = self._delivery, self._books
        began = self._loop.time()
        try:
            outcomes = await self.sender.send([entry.item for entry in batch])
            duration = self._loop.time() - began
            with books.lock:
                if not self._in_charge:
                    return
                self._settle(batch, outcomes)
            self.last_batch_s = duration
            if delivery.on_batch is not None:
                failed = Outcome.DELIVERED not in outcomes
                delivery.on_batch(duration, self.sender.last_error if failed else None)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._sends.discard(task)
            self._signal.set()

    def _settle(self, batch: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        books, line = self._books, self._line
        done: list[int] = []
        returned: list[int] = []
        unsaved: list[Entry] = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome is Outcome.UNSENT and line is not None:
                if entry.key is None:
                    unsaved.append(entry)
                else:
                    returned.append(entry.key)
                    books.owners.add(entry.key, entry.account)
                continue
            books.settle(entry, outcome)
            if entry.key is not None:
                done.append(entry.key)
        if line is not None:
            if done:
                line.done(done)
            if returned:
                line.put_back(returned)
            if (returned or unsaved) and self._delivery.last_call:
                self._gave_up = True
        books.in_flight.difference_update(batch)
        if unsaved:
            # They wait at the head of the queue for the next try, or for being saved.
            books.queue.put_back(unsaved)
            books.queue.release([entry for entry in batch if entry not in unsaved])
        else:
            books.queue.release(batch)

    async def _send_from_spool(self) -> None:
        line, books, limits = self._line, self._books, self._limits
        assert line is not None  # something waits in it
        try:
            taken, unreadable = await line.take(limits.batch_items, limits.batch_bytes)
        except SinkError as error:
            self._log_spool_failure(error)
            await self._sleep(1.0)
            return
        with books.lock:
            for key in unreadable:
                self._told["spool_rejected"] += 1
                books.drop(books.owner(key), "spool_rejected")
            # They are in memory for one batch, outside the queue: of no size there.
            batch = [Entry(item, 0, books.owner(key), key) for key, item in taken]
            books.in_flight.update(batch)
        self._reconcile()
        if batch:
            self._send_soon(batch)

    # Saving:

    async def _save(self, entries: list[Entry]) -> None:
        line, books = self._line, self._books
        assert line is not None  # there is a spool to save to
        # What cannot be sent soon need not stay in memory: it is read again when its turn comes.
        stays = self._delivery.last_call or books.queue.held_bytes * 2 < self._limits.queue_bytes
        stays = stays and (books.saves_all or self._delivery.last_call)
        try:
            keys = await line.save([entry.item for entry in entries], taken=stays)
        except SinkError as error:
            # Unsaved is not undelivered: they are sent from memory.
            self._log_spool_failure(error)
            keys = [None] * len(entries)
        with books.lock:
            if not self._in_charge:
                return
            gone: list[Entry] = []
            for entry, key in zip(entries, keys, strict=True):
                entry.key = key
                books.saved(entry)
                if key is None or stays:
                    books.ready.append(entry)
                    books.in_flight.discard(entry)
                else:
                    books.owners.add(key, entry.account)
                    gone.append(entry)
            books.let_go(gone)
        self._reconcile()

    async def _save_in_flight(self) -> None:
        """Save what is being sent and is in memory alone: the deadline may come before an answer does."""
        line, books = self._line, self._books
        if line is None:
            return
        with books.lock:
            entries = [entry for entry in books.in_flight if entry.key is None]
        if not entries:
            return
        try:
            keys = await line.save([entry.item for entry in entries], taken=True)
        except SinkError as error:
            self._log_spool_failure(error)
            return
        with books.lock:
            settled = [
                key for entry, key in zip(entries, keys, strict=True) if key and entry not in books.in_flight
            ]
            for entry, key in zip(entries, keys, strict=True):
                entry.key = key
        line.done(settled)

    async def _adopt(self, line: SpoolLine) -> None:
        self._adopt_at = self._loop.time() + _ADOPT_EVERY
        try:
            found = await line.adopt()
        except SinkError as error:
            self._log_spool_failure(error)
            return
        with self._books.lock:
            self._books.recover(found)
        self._reconcile()

    def _on_drop(self, keys: Sequence[int], reason: str) -> None:
        """Take note of what the spool dropped of this process's. On the spool's thread."""
        books = self._books
        with books.lock:
            self._told[reason] += len(keys)
            for key in keys:
                books.drop(books.owner(key), reason)

    def _reconcile(self) -> None:
        """Take note of what the spool dropped of what former processes had left, of which it tells nobody."""
        line, books = self._line, self._books
        if line is None:
            return
        with books.lock:
            for reason, count in line.dropped.items():
                untold = count - self._told[reason] - self._untold[reason]
                self._untold[reason] += untold
                for _ in range(untold):
                    books.drop(books.left_behind, reason)
        self._delivery.log_drops()

    def _log_spool_failure(self, error: SinkError) -> None:
        suppressed = self._save_failed.due()
        if suppressed is not None:
            _log.error(
                "spool_failed", exporter=self._delivery.name, error=describe(error), suppressed=suppressed
            )
