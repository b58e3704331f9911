"""LoopSink: writes through a coroutine function that has to run on the application's own event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from typing import Any

from nat_observability.errors import RefusedForNowError, RetryableWriteError
from nat_observability.foreign_errors import describe
from nat_observability.sinks.protocol import Batch
from nat_observability.system.waiting_threads import is_waiting

_LOOK_EVERY = 0.25  # seconds


class LoopSink:
    """
    Awaits `write` on the application's event loop, for a client or a pool that belongs to that loop.

    The rest of the delivery stays on its own thread: queue, batching, retry, spool, ledger. A write that the loop does
    not finish within `timeout`, because something blocks it, is cancelled there and tried again. While the loop is
    closed or is not running, or waits for this very delivery in a synchronous shutdown, a write fails at once, and is
    tried again as long as there is time. So nothing ever waits for a loop that waits for it. What a shutdown cannot
    write is counted, or stays in the spool if there is one: end the application's loop after the exporters.

    Args:
        write: A coroutine function that takes a batch; it returns None, or how many of its items the back end has
            rejected. It runs outside every run, in an empty context.
        loop: The loop. By default the one that is running when the sink is made, or that `bind` gets.
        timeout: Seconds for one write.
        retry_on: Errors of the client that may pass: they are tried again, like those that every sink may raise
            (see `Sink`). Anything else is final.

    Raises:
        TypeError: `write` cannot be called, or is a generator; `loop` is not an event loop; `retry_on` is not made of
            classes of exceptions.
        ValueError: `timeout` is not a positive number.
    """

    def __init__(
        self,
        write: Callable[[Any], Awaitable[int | None]],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        timeout: float = 10.0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        given: object = write
        if not callable(given) or inspect.isgeneratorfunction(write) or inspect.isasyncgenfunction(write):
            raise TypeError(f"write is a coroutine function that takes a batch, not {write!r}.")
        seconds: object = timeout
        if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise ValueError(f"timeout is a positive number of seconds, not {timeout!r}. The default is 10.")
        errors: tuple[object, ...] = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not all(isinstance(each, type) and issubclass(each, BaseException) for each in errors):
            raise TypeError(
                f"retry_on is a class of exceptions or a tuple of them, not {retry_on!r}, for example ConnectionError."
            )
        self._write = write
        self._timeout = timeout
        self._retry_on = retry_on
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None  # the loop's, if it is known
        if (found := loop if loop is not None else _running()) is not None:
            self.bind(found)

    def bind(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """
        Write on this loop from now on; by default on the one that is running.

        Raises:
            RuntimeError: No loop is given, and none is running.
            TypeError: What is given is not an event loop.
        """
        running = _running()
        found = loop if loop is not None else running
        if found is None:
            raise RuntimeError("bind() needs an event loop. Pass one, or call it in a coroutine.")
        given: object = found
        if not isinstance(given, asyncio.AbstractEventLoop):
            raise TypeError(
                f"loop is an event loop, not {given!r}. Pass what asyncio.get_running_loop() returns, or nothing."
            )
        self._loop, self._thread = found, threading.get_ident() if found is running else None

    async def open(self) -> None:
        """Nothing to open: the application has done that."""

    async def write(self, batch: Batch) -> int | None:
        """
        Write a batch on the application's loop, and wait for it.

        Raises:
            RefusedForNowError: The loop waits for the exporters itself.
            RetryableWriteError: The loop is closed, or stopped, or did not finish in time; or an error of `retry_on`.
        """
        call = _Call(self._write, batch, self._usable_loop(), self._note_thread)
        waiting = asyncio.wrap_future(call.outcome)
        try:
            async with asyncio.timeout(self._timeout):
                while not waiting.done():
                    await asyncio.wait([waiting], timeout=_LOOK_EVERY)
                    if not waiting.done():
                        self._usable_loop()  # a loop that is closed does not even run what it was given
            return waiting.result()
        except self._retry_on as error:
            raise RetryableWriteError(describe(error)) from error
        except TimeoutError:
            if waiting.done():
                raise  # the write's own
            raise RetryableWriteError(
                f"The application's event loop did not finish a write in {self._timeout:g} s. Find what blocks it, or "
                "raise the timeout of the LoopSink."
            ) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if waiting.cancelled() and not (task is not None and task.cancelling()):
                raise RetryableWriteError(
                    "The write was cancelled on the application's event loop."
                ) from None
            raise
        finally:
            call.cancel()
            waiting.cancel()

    async def close(self) -> None:
        """Nothing to close: the application does that."""

    def _note_thread(self) -> None:
        self._thread = threading.get_ident()

    def _usable_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            problem = "is not known: make the sink in a coroutine, pass loop=, or call bind()"
        elif loop.is_closed():
            problem = "is closed: drain the exporters before it ends"
        elif not loop.is_running():
            problem = "is not running: drain the exporters before it stops"
        elif is_waiting(self._thread):
            # Trying again would keep the loop waiting, which runs nothing meanwhile.
            raise RefusedForNowError(
                "The event loop of a LoopSink waits for the exporters in synchronous code: await them instead."
            )
        else:
            return loop
        raise RetryableWriteError(f"The event loop of a LoopSink {problem}.")


class _Call:
    """One write on the application's loop, which either side may give up."""

    def __init__(
        self,
        write: Callable[[Any], Awaitable[int | None]],
        batch: Batch,
        loop: asyncio.AbstractEventLoop,
        note_thread: Callable[[], None],
    ) -> None:
        self.outcome: Future[int | None] = Future()
        self._write = write
        self._batch = batch
        self._loop = loop
        self._note_thread = note_thread
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._call(self._start)

    def cancel(self) -> None:
        """Give it up, unless it is done, without waiting. From another thread."""
        if not self.outcome.done():
            self._given_up = True
            self._call(self._cancel)
            self.outcome.cancel()

    def _call(self, function: Callable[[], object]) -> None:
        try:
            # In an empty context: what the delivery's or a run's context has does not belong there.
            self._loop.call_soon_threadsafe(function, context=Context())
        except RuntimeError:  # the loop was closed a moment ago
            self.outcome.cancel()

    # On the loop:

    def _start(self) -> None:
        self._note_thread()
        if not self._given_up:
            self._task = self._loop.create_task(self._run(), name="write of a LoopSink")

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            rejected: Any = self._write(self._batch)
            rejected = await rejected if inspect.isawaitable(rejected) else rejected
        except Exception as error:  # noqa: BLE001  foreign code: the delivery decides what it means
            if self.outcome.set_running_or_notify_cancel():
                self.outcome.set_exception(error)
        except BaseException:
            self.outcome.cancel()
            raise
        else:
            if self.outcome.set_running_or_notify_cancel():
                self.outcome.set_result(rejected)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
