"""Clocks that go on if a library freezes time for an application's tests, and waiting on an event loop by them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, Protocol, TypeVar

FutureT = TypeVar("FutureT", bound="asyncio.Future[Any]")

# In a `partial`, because freezegun replaces the functions of `time` wherever they are an attribute of a module.
monotonic: Final[Callable[[], float]] = partial(time.monotonic)
"""`time.monotonic()`, whatever replaces that: for deadlines, which are there to end a wait."""
perf_counter: Final[Callable[[], float]] = partial(time.perf_counter)
"""`time.perf_counter()`, whatever replaces that: for durations."""

_REAL: Final = (time.monotonic,)
_own_time: Final = asyncio.BaseEventLoop.time


class Timer(Protocol):
    """What was arranged to happen later."""

    def cancel(self) -> object: ...


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the clock of deadlines on a loop: its own if it has one, such as a test's virtual time."""
    return monotonic if _follows_the_process(loop) else loop.time


def call_after(
    loop: asyncio.AbstractEventLoop,
    seconds: float,
    callback: Callable[..., object],
    *args: Any,
    context: Context | None = None,
) -> Timer:
    """Do as `loop.call_later`, even if the loop's time stands still and the system refuses a thread to watch it."""
    if not _is_frozen(loop):
        return loop.call_later(seconds, callback, *args, context=context)

    call = partial(callback, *args)
    try:
        return _WatchedTimer(loop, seconds, call, context)
    except (RuntimeError, MemoryError):
        return _PolledTimer(loop, monotonic() + seconds, call, context)


async def wait(futures: Iterable[FutureT], timeout: float | None) -> tuple[set[FutureT], set[FutureT]]:
    """Do as `asyncio.wait`, even if the loop's time stands still."""
    loop = asyncio.get_running_loop()
    waiting = set(futures)
    if timeout is None or not _is_frozen(loop):
        return await asyncio.wait(waiting, timeout=timeout)
    over: Any = loop.create_future()
    timer = call_after(loop, timeout, _finish, over)
    try:
        left = {each for each in waiting if not each.done()}
        while left and not over.done():
            await asyncio.wait({*left, over}, return_when=asyncio.FIRST_COMPLETED)
            left = {each for each in left if not each.done()}
        return waiting - left, left
    finally:
        timer.cancel()


async def all_done(futures: Iterable[asyncio.Future[None]], deadline: float) -> None:
    """Wait until all are done, or until the deadline, by the running loop's clock."""
    if futures := list(futures):
        await wait(futures, max(0.0, deadline - clock_of(asyncio.get_running_loop())()))


def let_go(futures: Iterable[asyncio.Future[None]]) -> None:
    """Stop waiting for them: one that is done later must not look for a loop that has ended."""
    for future in futures:
        future.cancel()


def monotonic_deadline(deadline: float) -> float:
    """Return a deadline by the running loop's clock, which need not be the monotonic one, as one of that."""
    return monotonic() + deadline - clock_of(asyncio.get_running_loop())()


async def sleep(seconds: float) -> None:
    """Do as `asyncio.sleep`, even if the loop's time stands still."""
    loop = asyncio.get_running_loop()
    if seconds <= 0 or not _is_frozen(loop):
        await asyncio.sleep(seconds)
        return
    over = loop.create_future()
    timer = call_after(loop, seconds, _finish, over)
    try:
        await over
    finally:
        timer.cancel()


class _WatchedTimer:
    """
    A timer whose time a thread waits for.

    Raises:
        RuntimeError, MemoryError: The system refuses the thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        callback: Callable[[], object],
        context: Context | None,
    ) -> None:
        self._loop, self._callback, self._context = loop, callback, context
        self._is_cancelled = False
        self._thread = threading.Timer(seconds, self._hand_over)
        self._thread.daemon = True
        self._thread.start()

    def cancel(self) -> None:
        self._is_cancelled = True  # the thread may have handed it over to the loop
        self._thread.cancel()

    def _hand_over(self) -> None:
        with suppress(RuntimeError):  # closed meanwhile
            self._loop.call_soon_threadsafe(self._call, context=self._context)

    def _call(self) -> None:
        if not self._is_cancelled:
            self._callback()


class _PolledTimer:
    """A timer that needs no thread: it keeps its loop busy, and looks at the clock in each turn of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: float,
        callback: Callable[[], object],
        context: Context | None,
    ) -> None:
        self._loop, self._due, self._callback, self._context = loop, due, callback, context
        self._next = loop.call_soon(self._look, context=context)

    def cancel(self) -> None:
        self._next.cancel()

    def _look(self) -> None:
        if monotonic() < self._due:
            self._next = self._loop.call_soon(self._look, context=self._context)
        else:
            self._callback()


def _finish(future: asyncio.Future[None]) -> None:
    """End a wait for a future, unless it has ended."""
    if not future.done():
        future.set_result(None)


def _follows_the_process(loop: asyncio.AbstractEventLoop) -> bool:
    return getattr(loop.time, "__func__", None) is _own_time


def _is_frozen(loop: asyncio.AbstractEventLoop) -> bool:
    return time.monotonic is not _REAL[0] and _follows_the_process(loop)
