"""Retry: what becomes of a batch that the back end did not take at once, and when it is sent again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import NamedTuple

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loss_reasons import FailureReason
from nat_observability.delivery.sending.circuit_breaker import CircuitBreaker
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


LAST_TRY = 2.0
"""Seconds at most for the last try of what a spool has."""

Saved = Callable[[], bool]
"""Whether a spool has all of a batch by now, so that it is not lost if it cannot be sent."""

Write = Callable[[Sequence[Item], Saved, float], Awaitable[int]]
"""Writes a batch once, within so many seconds; returns how many items the back end has rejected."""

_log = get_logger()
# A generator of our own: retrying must not disturb one that the application has seeded, nor repeat itself with it, and
# forked workers must not wait in step.
_random = random.Random()
at_fork(after_in_child=_random.seed)
_RETRYABLE = (RetryableWriteError, SinkError, ThreadRefusedError, OSError, TimeoutError)


class Retry:
    """
    Decides about batches that a sink did not take at once. The one place where a failing back end is handled.

    A try that may succeed later is repeated after a random wait of up to `retry_initial` seconds, twice that, and
    so on up to `retry_max` (exponential backoff with full jitter); a back end that names a longer wait is obeyed.
    While the breaker is open no batch is tried but the probe. A batch that is too large is halved.

    Args:
        name: The exporter's name, for logs.
        write: Makes a try; see `Write`.
        limits: Time limits, waits and the breaker's bounds.
        loop: Its clock is the only one used.

    Attributes:
        breaker: While it counts failures, no batch may be tried but by `send`.
        cut_at: When tries under way of what a spool has end, because the process does; None before that.
        failures: By outcome, the reason for the latest items with it. Code that counts them as lost logs the reason.
    """

    def __init__(
        self, name: str, write: Write, limits: DeliveryLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._name = name
        self._write = write
        self._limits = limits
        self._time = loop.time
        self._hurry = asyncio.Event()
        self._until: float | None = None  # when the last tries end, if there may be several of them
        self.cut_at: float | None = None
        self.breaker = CircuitBreaker(limits.breaker_failures, limits.breaker_open_for, loop.time)
        self._retrying = RepeatedEvent()
        self.last_error: BaseException | None = None
        self.failures: dict[Outcome, Failure] = {}

    @property
    def is_ending(self) -> bool:
        """Whether tries are the last ones."""
        return self._hurry.is_set()

    def end_by(self, ends_at: float | None) -> None:
        """
        Try what waits at once, and begin no try after that time of the loop, because the process ends.

        Args:
            ends_at: None for one last try of each batch. What a spool has gets one in either case.
        """
        self._until = ends_at
        self._hurry.set()

    def begin(self) -> None:
        """Try as usual again."""
        self.cut_at = None
        self._hurry.clear()

    async def send(self, batch: Sequence[Item], saved: Saved) -> list[Outcome]:
        """Try a batch until there is an outcome of each item; return them in order. Raises only a cancellation."""
        return await self._send(batch, self._time() + self._limits.retry_for, saved)

    async def send_again(
        self, batch: Sequence[Item], saved: Saved, error: BaseException, began: float
    ) -> list[Outcome]:
        """Do as `send` with a batch whose first try, begun at that time of the loop, has raised an error."""
        give_up_at = began + self._limits.retry_for
        outcomes = await self._failed(error, 1, batch, give_up_at, saved, last_try=False)
        return await self._send(batch, give_up_at, saved, tries=1) if outcomes is None else outcomes

    def answered(self, batch: Sequence[Item], rejected: int) -> list[Outcome]:
        """Return the outcomes of a batch of which the back end has rejected so many items."""
        self._answered()
        failed = min(max(0, rejected), len(batch))
        if failed:
            problem = f"The back end rejected {failed} of {len(batch)} items."
            self.failures[Outcome.FAILED] = Failure("rejected", problem)
        # The back end says how many it rejected, not which: the last ones are counted as such.
        return [Outcome.DELIVERED] * (len(batch) - failed) + [Outcome.FAILED] * failed

    async def _send(
        self, batch: Sequence[Item], give_up_at: float, saved: Saved, tries: int = 0
    ) -> list[Outcome]:
        while True:
            last_try, limit = self._hurry.is_set(), self._limits.write_timeout
            if self.breaker.failures and not last_try and (pause := self.breaker.wait()):
                if self._time() + pause > give_up_at:
                    return self._unsent("breaker_open", batch)
                await self._pause(pause)
                continue
            if last_try and saved():
                # One that was under way, or waited, when the process began to end has used some of its time.
                left = LAST_TRY if not tries or self.cut_at is None else self.cut_at - self._time()
                if left <= 0:
                    return self._unsent("last_try", batch)
                limit = min(limit, left)
            tries += 1
            try:
                rejected = await self._write(batch, saved, limit)
            except BaseException as error:  # noqa: BLE001  a sink is foreign code, and may raise anything
                outcomes = await self._failed(error, tries, batch, give_up_at, saved, last_try=last_try)
                if outcomes is not None:
                    return outcomes
            else:
                return self.answered(batch, rejected)

    async def _failed(
        self,
        error: BaseException,
        tries: int,
        batch: Sequence[Item],
        give_up_at: float,
        saved: Saved,
        *,
        last_try: bool,
    ) -> list[Outcome] | None:
        """Return the outcomes after a try that has raised; or wait, and return None, if there is to be another one."""
        if isinstance(error, BatchTooLargeError):
            self._answered()
            if len(batch) == 1:
                return self.refused(error, batch)
            middle = len(batch) // 2
            halves = batch[:middle], batch[middle:]
            return [outcome for half in halves for outcome in await self._send(half, give_up_at, saved)]
        if not isinstance(error, _RETRYABLE):
            # A cancellation or SystemExit of the sink's own must not end the thread.
            if cancelled(error) or isinstance(error, GeneratorExit):
                raise error
            self._answered()
            return self.refused(error, batch)
        self._no_answer(error)
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
            return None
        if not self._hurry.is_set() and self._time() + pause > give_up_at:
            return self._unsent("retry_after" if asked else "retry_for", batch)
        self._log_retry(error, pause, len(batch))
        await self._pause(pause)
        return None

    def pause_after(self, unsent: int) -> float:
        """Return how many seconds to send nothing after so many batches in a row that came back unsent."""
        pause = longest_backoff(unsent, self._limits.retry_initial, self._limits.retry_max)
        return max(pause, _asked(self.last_error))

    def _backoff(self, tries: int, error: BaseException) -> float:
        return max(backoff(tries, self._limits.retry_initial, self._limits.retry_max), _asked(error))

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
        if self.breaker.failures and self.breaker.succeeded():
            _log.info("delivery_breaker_closed", exporter=self._name)

    def _no_answer(self, error: BaseException) -> None:
        self._note(error)
        if self.breaker.failed():
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


def _asked(error: BaseException | None) -> float:
    """Return the seconds that a back end has asked to wait."""
    return error.retry_after or 0.0 if isinstance(error, RetryableWriteError) else 0.0


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
