"""SpoolClient: a delivery's access to its spool, on a worker thread, with the results booked in the accounting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.lease import Entry
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.threads.worker import BlockingWorker, NewWorker, Worker, as_exception
from nat_observability.errors import SinkError, ThreadRefusedError
from nat_observability.events import Item, Run
from nat_observability.foreign_errors import describe
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.spool.mark import Claim
from nat_observability.spool.record import UnreadableRecordError, decode_item, encode_item
from nat_observability.spool.recovery import RecoveryReport
from nat_observability.spool.spool import Spool, SpoolDropReason

ResultT = TypeVar("ResultT")
_log = get_logger()

_DROP_AT_ONCE = 256  # drops booked per hold of the lock: a thread that records a step waits for it


class SpoolClient:
    """
    The spool as coroutines.

    Each call is booked on the worker thread, right after it: a call that was abandoned, because its loop is blocked or
    its delivery was given up, loses and doubles nothing. It outlives the delivery loops: one `open` and `close` after
    the other.

    Args:
        name: The exporter's.
        limits: With a `spool_path`.
        accounting: Where everything is booked.
        destination: Where the entries go; see `Spool`.

    Raises:
        ValueError: There is no `spool_path`, or a limit of the spool is not positive.
    """

    def __init__(
        self,
        name: str,
        limits: DeliveryLimits,
        accounting: Accounting,
        new_worker: NewWorker = BlockingWorker,
        destination: str | None = None,
    ) -> None:
        if limits.spool_path is None:
            raise ValueError(
                f"Exporter {name!r} is to spool and has no spool_path. Set spool_path, or spool to 'off'."
            )
        self._spool = Spool(
            limits.spool_path,
            exporter=name,
            max_bytes=limits.spool_bytes,
            max_age=limits.spool_age,
            on_drop=lambda keys, reason: self._drops.append((keys, reason)),
            destination=destination,
        )
        self._claim = Claim(self._spool.directory, name)
        self._max_bytes = limits.spool_bytes
        self._queue_bytes = limits.queue_bytes
        self._name = name
        self._accounting = accounting
        self._new_worker = new_worker
        self._worker: Worker | None = None
        self._latest: Worker | None = None
        self._drops: list[tuple[Sequence[int], SpoolDropReason]] = []
        self._booked: Counter[SpoolDropReason] = Counter()
        self._waiting = self._returning = 0
        self._is_ready = self._saves_waiting = self._saves_the_rest = False
        self._failed = RepeatedEvent()
        accounting.save = self.save_waiting

    @property
    def is_open(self) -> bool:
        """Whether entries can be saved."""
        return self._worker is not None

    @property
    def waiting(self) -> int:
        """The number of records that can be fetched. Under the lock."""
        return self._waiting + self._returning

    async def open(self) -> None:
        """
        Open the spool, and recover what other processes, or this spool before its last close, have left.

        Raises:
            SinkError: The directory cannot be used, or is that of another exporter.
            ThreadRefusedError: No thread can be started for it.
        """
        with locking.lock:
            if self._worker is None:
                # The previous worker may still have to close the spool.
                try:
                    self._latest = self._new_worker(f"nat-observability-spool-{self._name}", self._latest)
                except BaseException:
                    self._accounting.can_save(can=False)
                    raise
                self._worker = self._latest
                self._is_ready = self._saves_waiting = self._saves_the_rest = False
                self._accounting.can_save(can=True)
        await self._call(partial(self._recover, self._open, opens=True))

    def save_waiting(self) -> None:
        """
        Save what is queued, or spill it if a batch is being sent and the queue is half full. Returns at once.

        The delivery's loop does so too, unless its sink blocks it: a run's end must not wait for that. Under the lock.
        """
        worker, accounting = self._worker, self._accounting
        if worker is None or not self._is_ready or self._saves_waiting:
            return
        if self._saves_all or (accounting.spills and accounting.in_flight and accounting.is_filled(0.5)):
            self._submit_save(worker)

    def save_the_rest(self) -> None:
        """Save, in the same way, all that is queued from now on: a last call has come. Under the lock."""
        self._saves_the_rest = True
        self.save_waiting()

    @property
    def _saves_all(self) -> bool:
        return self._saves_the_rest or self._accounting.saves_all

    @property
    def is_saving(self) -> bool:
        """Whether it saves what is queued by itself. Under the lock."""
        return self._saves_waiting

    async def adopt(self) -> None:
        """Take over the files of processes that have died since."""
        await self._call(partial(self._recover, self._spool.adopt))

    async def save_queued(self, *, stay: bool) -> Exception | None:
        """
        Put the oldest of what is queued on the disk in one transaction. What the disk does not take is sent unsaved.

        It is taken from the queue on the worker thread, so that whatever saves it, it is saved in its order.

        Args:
            stay: Whether it stays in memory too, to be sent, even if memory is short.

        Returns:
            Why an item was not stored: it could not be encoded, or there is no room; None if all were stored.

        Raises:
            SinkError: The disk refused. Nothing was stored.
            ThreadRefusedError: The thread has died, and no other can be started. Nothing was stored.
        """
        try:
            return await self._call(partial(self._save_queued, self._worker, stay=stay))
        except ThreadRefusedError:
            accounting = self._accounting
            with locking.lock:
                entries = accounting.take_to_save()
                accounting.stored(entries, [None] * len(entries), stay=True)
            raise

    async def save(self, entries: Sequence[Entry], *, stay: bool) -> Exception | None:
        """
        Do as `save_queued` with entries that are in memory and not queued.

        Args:
            stay: Whether they stay in memory too, to be sent.
        """
        try:
            return await self._call(partial(self._save, entries, stay=stay))
        except Exception:
            accounting = self._accounting
            with locking.lock:
                # The call was never made: the thread has died.
                left = [entry for entry in entries if entry in accounting.saving]
                accounting.stored(left, [None] * len(left), stay=True)
            raise

    async def spill(self, next_entries: Callable[[], Sequence[Entry]]) -> Exception | None:
        """
        Move entries from the queue to the disk, where a power cut may undo it. What the disk does not take is queued
        again.

        Args:
            next_entries: Takes them from the queue, on the worker thread, until there are none.

        Returns:
            Why an item was not stored, which is then sent unsaved, as in `save`; None if all were stored.

        Raises:
            SinkError: The disk refused.
        """
        return await self._call(partial(self._spill, next_entries))

    async def fetch(self, max_items: int, max_bytes: int) -> None:
        """
        Read the oldest that wait, for the next batch.

        Raises:
            SinkError: The disk refused. Nothing was read.
        """
        await self._call(partial(self._fetch, max_items, max_bytes, self._accounting.age))

    def log_failure(self, error: Exception) -> None:
        """Log what the disk has refused, if a line is due."""
        suppressed = self._failed.due()
        if suppressed is not None:
            _log.error("spool_failed", exporter=self._name, error=describe(error), suppressed=suppressed)

    def done(self, keys: Sequence[int]) -> None:
        """Erase what was delivered, in the background."""
        self._later(partial(self._spool.done, keys))

    def put_back(self, keys: Sequence[int]) -> None:
        """Let what was fetched wait again, in the background."""

        def put_back() -> None:
            self._spool.put_back(keys)
            self._report()

        def returned(done: Future[None]) -> None:
            with locking.lock:
                self._returning -= len(keys)
                if isinstance(done.exception(), SinkError):
                    self.put_back(keys)  # its thread has died

        with locking.lock:
            if (done := self._later(put_back)) is not None:
                self._returning += len(keys)
                done.add_done_callback(returned)

    def stop_saving(self) -> None:
        """Save nothing more of what is queued by itself: it is about to close. Under the lock."""
        self._is_ready = False

    async def close(self) -> None:
        """Let go of the files after the calls before this one."""
        if self._worker is not None:
            with locking.lock:
                self.stop_saving()
                # If the delivery opens again, they are read from there.
                self._accounting.leave_to_spool()
            try:
                await self._call(self._spool.close)
            except Exception as error:  # noqa: BLE001  its thread has died: what is in the files stays there
                self.log_failure(error)
            self.end()

    def end(self) -> None:
        """Let go of the files in the background, and let the thread end. From any thread; returns at once."""
        with locking.lock:
            worker, self._worker = self._worker, None
            self._is_ready = False
        if worker is not None:
            with suppress(
                ThreadRefusedError
            ):  # its thread has died, no other can be started: the files stay open
                worker.submit(self._spool.close)
                worker.submit(self._report)
                # Nothing else does, if the delivery was given up.
                worker.submit(partial(self._accounting.losses.log, last=True))
            worker.end()

    # On the worker thread:

    def _open(self) -> RecoveryReport:
        self._claim.take()
        return self._spool.open()

    def _recover(self, look: Callable[[], RecoveryReport], *, opens: bool = False) -> None:
        report = look()
        with locking.lock:
            # Records that this process left at the last close were never settled: they are still pending.
            self._accounting.recovered(report.records - report.returned)
            self._is_ready = self._is_ready or opens

    def _save_waiting(self, worker: Worker) -> bool:
        """Save some of what is queued; return whether to go on with the rest."""
        accounting = self._accounting
        with locking.lock:
            if not self._has_waiting():
                return False
        spills, goes_on = not self._saves_all, True
        problem: Exception | None
        try:
            problem = self._save_queued(worker, spills=spills)
        except Exception as error:  # noqa: BLE001  the disk refuses, or memory has run out
            problem = error
            if spills:
                with locking.lock:
                    # Nothing makes room until the delivery's loop tries again.
                    accounting.spills = goes_on = False
                    accounting.tell_room()
        self._report()
        if problem is not None:
            self.log_failure(problem)
        return goes_on

    def _save_queued(
        self, worker: Worker | None, *, stay: bool = False, spills: bool = False
    ) -> Exception | None:
        accounting = self._accounting
        with locking.lock:
            if self._worker is not worker:
                return None  # it was given up, and what is queued since belongs to the next period
            entries = accounting.take_to_save()
            # What cannot be sent soon need not stay in memory: it is read again when its turn comes.
            stay = stay or (not spills and accounting.queue.held_bytes * 2 < self._queue_bytes)
        return self._save(entries, stay=stay, spills=spills)

    def _has_waiting(self) -> bool:
        accounting = self._accounting
        is_due = self._saves_all or accounting.is_filled(0.25)
        return self._is_ready and is_due and len(accounting.queue) > 0

    def _spill(self, next_entries: Callable[[], Sequence[Entry]]) -> Exception | None:
        problem: Exception | None = None
        # Without going back to the loop each time: the load that fills the queue keeps the loop's thread waiting too.
        while entries := next_entries():
            problem = self._save(entries, stay=False, spills=True) or problem
        return problem

    def _save(self, entries: Sequence[Entry], *, stay: bool, spills: bool = False) -> Exception | None:
        accounting = self._accounting
        with locking.lock:
            # Others were saved by another call while this one waited for the thread, or have been sent.
            entries = [entry for entry in entries if entry.key is None and not entry.settled]
        if not entries:
            return None
        records: dict[Entry, bytes] = {}
        problem: Exception | None = None
        for entry in entries:
            try:
                records[entry] = encode_item(entry.item)
            except BaseException as error:  # noqa: BLE001  an item made by foreign code may hold anything
                problem = as_exception(error)
        try:
            keys = self._spool.append(list(records.values()), taken=stay, durable=not spills)
        except BaseException:  # the disk refuses, or memory has run out
            with locking.lock:
                if spills:
                    accounting.not_stored(entries)
                else:
                    accounting.stored(entries, [None] * len(entries), stay=stay)
            raise
        if None in keys:
            problem = problem or self._no_room(keys.count(None))
        key_of = dict(zip(records, keys, strict=True))
        with locking.lock:
            done = accounting.stored(entries, [key_of.get(entry) for entry in entries], stay=stay)
        self._spool.done(done)
        return problem

    def _no_room(self, items: int) -> SinkError:
        problem = f"has no room beside what is being sent: {items} items are in memory alone"
        return SinkError(str(self._spool.directory), problem, f"Set spool_bytes above {self._max_bytes}.")

    def _fetch(self, max_items: int, max_bytes: int, age: int) -> None:
        accounting = self._accounting
        items: list[tuple[int, Item]] = []
        unreadable: list[int] = []
        runs: dict[bytes, Run] = {}
        for key, record in self._spool.take(max_items, max_bytes):
            try:
                items.append((key, decode_item(record, runs)))
            except UnreadableRecordError:
                unreadable.append(key)
        with locking.lock:
            accounting.fetch(items, age)
        if unreadable:
            self._spool.reject(unreadable)
            self._drops.append((unreadable, "spool_rejected"))

    def _report(self) -> None:
        """Book what the spool has dropped since the last report, and how much waits in it now."""
        accounting, spool = self._accounting, self._spool
        drops, self._drops = self._drops, []
        for keys, reason in drops:
            for start in range(0, len(keys), _DROP_AT_ONCE):
                with locking.lock:
                    accounting.drop_records(keys[start : start + _DROP_AT_ONCE], reason)
            self._booked[reason] += len(keys)
        with locking.lock:
            for reason, count in spool.dropped.items():
                # It reports no keys for records of former processes.
                unnamed = count - self._booked[reason]
                if unnamed > 0:
                    self._booked[reason] = count
                    accounting.drop_left_behind(reason, unnamed)
            self._waiting = spool.waiting

    # On the delivery's loop:

    async def _call(self, call: Callable[[], ResultT]) -> ResultT:
        def reported() -> ResultT:
            try:
                return call()
            finally:
                self._report()

        with locking.lock:  # so that it comes before what `end` submits
            if (worker := self._worker) is None:
                raise SinkError(
                    str(self._spool.directory), "is not open", "Take a lease of the delivery first."
                )
            waiting = worker.submit(reported)
        # Shielded: cancelled before it began, it would leave its entries neither in the queue nor in the spool.
        return await asyncio.shield(asyncio.wrap_future(waiting))

    def _submit_save(self, worker: Worker) -> None:
        # First: the garbage collector may end a run meanwhile, which comes here.
        self._saves_waiting = True
        try:
            worker.submit(partial(self._save_waiting, worker)).add_done_callback(self._end_save)
        except ThreadRefusedError:  # its thread has died, and no other can be started
            self._saves_waiting = False

    def _end_save(self, save: Future[bool]) -> None:
        """Go on after the calls that were submitted meanwhile, or say that nothing more is saved so."""
        error = save.exception()
        if isinstance(error, Exception):
            self.log_failure(error)
        goes_on = error is None and save.result()
        accounting = self._accounting
        with locking.lock:
            worker = self._worker
            self._saves_waiting = False
            accounting.tell_room()
            if goes_on and worker is not None and self._has_waiting():
                self._submit_save(worker)
            elif not accounting.queue.items:
                accounting.hurry = accounting.hurry and accounting.upstream > 0
            accounting.wake_up()  # there may be something to send now

    def _later(self, call: Callable[[], None]) -> Future[None] | None:
        with locking.lock:
            if (worker := self._worker) is None:
                return None
            try:
                return worker.submit(call)
            except ThreadRefusedError:
                return None  # its thread has died, and no other can be started: the record is delivered again
