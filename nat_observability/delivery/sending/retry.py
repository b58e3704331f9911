"""Retry and Deferral: when a batch is sent, sent again, or set aside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loss_reasons import FailureReason
from nat_observability.delivery.sending.circuit_breaker import BreakerState, CircuitBreaker
from nat_observability.errors import (
    BatchTooLargeError,
    RefusedForNowError,
    RetryableWriteError,
    SinkError,
    ThreadRefusedError,
)
from nat_observability.events import Item
from nat_observability.foreign_errors import describe, forget_frames
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.sinks.protocol import Sink
from nat_observability.system.fork_hooks import at_fork


class Outcome(Enum):
    """What became of an item: the back end has it, will never take it, might later, or refuses it for the moment."""

    DELIVERED = 1
    FAILED = 2
    UNSENT = 3
    DEFERRED = 4


class Failure(NamedTuple):
    """Why items failed or were not sent: a reason in one word, and the error in one line if there is one."""

    reason: FailureReason
    error: str | None


_log = get_logger()
# A generator of our own: retrying must not disturb one that the application has seeded, nor repeat itself with it, and
# forked workers must not wait in step.
_random = random.Random()
at_fork(after_in_child=_random.seed)
_LAST_TRY = 2.0  # seconds at most for the last try of what a spool has
_END_EARLY = 0.5  # seconds before the end in which no try begins, so that its failure is still logged
_RETRYABLE = (RetryableWriteError, SinkError, ThreadRefusedError, OSError, TimeoutError)


class Deferral:
    """
    Keeps records of the spool aside, so that what the back end refuses never holds up newer items.

    All of them are tried again together, after `retry_initial` seconds, twice that, and so on up to `retry_max`, until
    the back end takes some. They stay in the spool meanwhile, also when the process ends.

    Args:
        name: The exporter's, for logs.
        limits: Of the waits.
        clock: Seconds, of the loop.

    Attributes:
        due_at: When they are tried again; None if there are none.
    """

    def __init__(self, name: str, limits: DeliveryLimits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._keys: list[int] = []
        self._unlogged = self._rounds = 0
        self._deferred = RepeatedEvent()
        self.due_at: float | None = None

    def add(self, keys: Iterable[int]) -> None:
        """Keep these aside."""
        before = len(self._keys)
        self._keys += keys
        self._unlogged += len(self._keys) - before
        if self.due_at is None and self._keys:
            self._rounds += 1
            self.due_at = self._clock() + self._wait()

    def _wait(self) -> float:
        return longest_backoff(self._rounds, self._limits.retry_initial, self._limits.retry_max)

    def take(self) -> list[int]:
        """Give all of them up, to be tried again."""
        keys, self._keys, self.due_at = self._keys, [], None
        return keys

    def taken_by_back_end(self) -> None:
        """Begin with the shortest wait again: the back end has taken something."""
        self._rounds = 0

    def log(self, error: str | None) -> None:
        """Log that there are some, if a line is due; not under the lock."""
        if self._unlogged and (suppressed := self._deferred.due()) is not None:
            items, self._unlogged = self._unlogged, 0
            _log.warning(
                "delivery_deferred",
                exporter=self._name,
                items=items,
                error=error,
                wait_s=self._wait(),
                suppressed=suppressed,
            )


class Retry:
    """
    Writes batches to one sink. The one place where a failing back end is handled.

    A try that may succeed later is repeated after a random wait of up to `retry_initial` seconds, twice that, and
    so on up to `retry_max` (exponential backoff with full jitter); a back end that names a longer wait is obeyed.
    While the breaker is open no batch is tried but the probe. A batch that is too large is halved.

    Args:
        name: The exporter's name, for logs.
        sink: Open while `send` is called.
        limits: Time limits, waits and the breaker's bounds.
        loop: Its clock is the only one used.

    Attributes:
        failures: By outcome, the reason for the latest items with it. Code that counts them as lost logs the reason.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        limits: DeliveryLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._name = name
        self._sink = sink
        self._limits = limits
        self._time = loop.time
        self._hurry = asyncio.Event()
        self._until: float | None = None  # when the last tries end, if there may be several of them
        # The writes under way, and whether a spool has their items.
        self._writes: dict[asyncio.Timeout, Callable[[], bool]] = {}
        self._breaker = CircuitBreaker(limits.breaker_failures, limits.breaker_open_for, loop.time)
        self._retrying = RepeatedEvent()
        self.last_error: BaseException | None = None
        self.failures: dict[Outcome, Failure] = {}

    @property
    def breaker_state(self) -> BreakerState:
        """Whether batches go through."""
        return self._breaker.state

    @property
    def is_ending(self) -> bool:
        """Whether tries are the last ones."""
        return self._hurry.is_set()

    def end_within(self, seconds: float | None) -> None:
        """
        Try what waits at once, and give up by then, because the process ends.

        Args:
            seconds: From now on; None for one last try of each batch. What a spool has gets one in either case.
        """
        self._until = None if seconds is None else self._time() + seconds - _END_EARLY
        self._hurry.set()

    def cut_saved(self) -> None:
        """Wait no longer than for a last try for writes under way whose items a spool has."""
        for write, saved in self._writes.items():
            # One whose time is over may go on, if the sink swallows its cancellation.
            if saved() and not write.expired() and (end := write.when()) is not None:
                write.reschedule(min(end, self._time() + _LAST_TRY))

    def begin(self) -> None:
        """Try as usual again."""
        self._hurry.clear()

    async def send(self, batch: Sequence[Item], saved: Callable[[], bool] = lambda: False) -> list[Outcome]:
        """
        Write `batch` and return the outcome of each item, in order. Raises nothing but a cancellation.

        Args:
            saved: Whether a spool has all of it by now, so that it is not lost if it cannot be sent.
        """
        return await self._send(batch, self._time() + self._limits.retry_for, saved)

    async def _send(
        self, batch: Sequence[Item], give_up_at: float, saved: Callable[[], bool]
    ) -> list[Outcome]:
        tries = 0
        while True:
            last_try = self._hurry.is_set()
            if self._breaker.failures and not last_try and (pause := self._breaker.wait()):
                if self._time() + pause > give_up_at:
                    return self._unsent("breaker_open", batch)
                await self._pause(pause)
                continue
            tries += 1
            try:
                rejected = await self._write(batch, saved)
            except BatchTooLargeError as error:
                self._answered()
                if len(batch) == 1:
                    return self.refused(error, batch)
                middle = len(batch) // 2
                halves = batch[:middle], batch[middle:]
                return [outcome for half in halves for outcome in await self._send(half, give_up_at, saved)]
            except _RETRYABLE as error:
                self._failed(error)
                pause = self._backoff(tries, error)
                asked = isinstance(error, RetryableWriteError) and error.retry_after == pause
                if last_try:
                    left = 0.0 if saved() or self._until is None else self._until - self._time()
                    if left <= 0 or (asked and pause > left):
                        return self._unsent("last_try", batch)
                    # However long the backoff has become, the end is worth a try.
                    pause = min(pause, left)
                    self._log_retry(error, pause, len(batch))
                    await asyncio.sleep(pause)
                    continue
                if self._time() + pause > give_up_at:
                    return self._unsent("retry_after" if asked else "retry_for", batch)
                self._log_retry(error, pause, len(batch))
                await self._pause(pause)
            except BaseException as error:
                # A sink is foreign code and may raise anything. A cancellation or SystemExit of its own must not end
                # the thread.
                if cancelled(error) or isinstance(error, GeneratorExit):
                    raise
                self._answered()
                return self.refused(error, batch)
            else:
                self._answered()
                # A function that takes a batch may return anything at all.
                failed = min(max(0, rejected), len(batch)) if type(rejected) is int else 0
                taken = len(batch) - failed
                if failed:
                    problem = f"The back end rejected {failed} of {len(batch)} items."
                    self.failures[Outcome.FAILED] = Failure("rejected", problem)
                # The back end says how many it rejected, not which: the last ones are counted as such.
                return [Outcome.DELIVERED] * taken + [Outcome.FAILED] * failed

    async def _write(self, batch: Sequence[Item], saved: Callable[[], bool]) -> object:
        limit = self._limits.write_timeout
        async with asyncio.timeout(min(limit, _LAST_TRY) if saved() and self.is_ending else limit) as write:
            self._writes[write] = saved
            try:
                # A list of its own, which it may change.
                return await self._sink.write(list(batch))
            finally:
                del self._writes[write]

    def _backoff(self, tries: int, error: BaseException) -> float:
        asked = error.retry_after if isinstance(error, RetryableWriteError) else None
        return max(backoff(tries, self._limits.retry_initial, self._limits.retry_max), asked or 0.0)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def refused(self, error: BaseException, batch: Sequence[Item]) -> list[Outcome]:
        """Return that a batch was refused, for good or for the moment, and note why."""
        self._note(error)
        outcome = Outcome.DEFERRED if isinstance(error, RefusedForNowError) else Outcome.FAILED
        self.failures[outcome] = Failure("refused", describe(error))
        return [outcome] * len(batch)

    def _unsent(self, reason: FailureReason, batch: Sequence[Item]) -> list[Outcome]:
        error = self.last_error
        self.failures[Outcome.UNSENT] = Failure(reason, None if error is None else describe(error))
        return [Outcome.UNSENT] * len(batch)

    def _note(self, error: BaseException) -> None:
        forget_frames(error)  # this is kept for as long as nothing else fails
        self.last_error = error

    def _answered(self) -> None:
        if self._breaker.failures and self._breaker.succeeded():
            _log.info("delivery_breaker_closed", exporter=self._name)

    def _failed(self, error: BaseException) -> None:
        self._note(error)
        if self._breaker.failed():
            _log.warning("delivery_breaker_opened", exporter=self._name, error=describe(error))

    def _log_retry(self, error: BaseException, pause: float, items: int) -> None:
        suppressed = self._retrying.due()
        if suppressed is not None:
            _log.warning(
                "delivery_retrying",
                exporter=self._name,
                items=items,
                error=describe(error),
                wait_s=pause,
                suppressed=suppressed,
            )


def cancelled(error: BaseException) -> bool:
    """Whether `error` tells the running task itself to end, and not that something it waited for was cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def backoff(tries: int, first: float, most: float) -> float:
    """Return a random wait, in seconds, after so many failed tries: exponential backoff with full jitter."""
    return _random.uniform(0, longest_backoff(tries, first, most))


def longest_backoff(tries: int, first: float, most: float) -> float:
    """Return the longest wait after so many failed tries: `first`, twice that, and so on, up to `most`."""
    return min(most, first * 2.0 ** min(tries - 1, 32))
