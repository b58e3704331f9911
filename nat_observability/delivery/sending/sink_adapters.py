"""Sinks in the asynchronous form in which a delivery calls them: blocking ones on a thread, functions as objects."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, cast

from nat_observability.delivery.sending.periodic_work import RunFeed, Upkeep, upkeep_of
from nat_observability.delivery.threads.worker import BlockingWorker, NewWorker, Worker, call_on
from nat_observability.errors import ThreadRefusedError
from nat_observability.foreign_errors import reraise_signal
from nat_observability.sinks.protocol import Batch, BatchFunction, BlockingSink, Sink


class FunctionSink:
    """A sink made of a coroutine function that takes a batch."""

    def __init__(self, function: Callable[[Batch], Awaitable[int | None]]) -> None:
        self._function = function

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: Batch) -> int | None:
        return await self._function(batch)

    async def close(self) -> None:
        """Nothing to close."""


class WorkerSink:
    """
    A blocking sink, or a plain function that takes a batch, on a worker thread while it is open.

    A call that outlasts its timeout continues on that thread, and the next one waits for it: the sink never sees
    two calls at once, and is closed after its last one, however late that returns. An awaitable that a call returns is
    awaited on the loop.

    Attributes:
        write: While the sink is open, a call of its `write` on the worker.
        upkeep: What the sink does now and then while it is open; None if nothing.
    """

    write: Callable[[Batch], Coroutine[Any, Any, int | None]]

    def __init__(
        self, sink: BlockingSink | Callable[[Batch], int | None], new_worker: NewWorker = BlockingWorker
    ) -> None:
        self.blocking = sink
        # None for a function. Asked once, because it takes longer than a call.
        self._as_object = sink if isinstance(sink, BlockingSink) else None
        self._new_worker = new_worker
        self._worker: Worker | None = None
        self.write = _not_open
        self._latest: Worker | None = None
        self.upkeep = upkeep_of(sink)

    async def open(self) -> None:
        self.end()
        function = cast("Callable[[Batch], int | None]", self.blocking)
        write = function if self._as_object is None else self._as_object.write
        # The previous worker may still be in the middle of a call that was abandoned.
        self._worker = self._latest = worker = self._new_worker(
            f"nat-observability-{type(self.blocking).__name__}", self._latest
        )
        if self._as_object is not None:
            sink = _Opening(self._as_object)
            try:
                await call_on(worker, sink.open)
            except BaseException:
                # The call may go on, and succeed after it was abandoned.
                with suppress(ThreadRefusedError):
                    worker.submit(sink.close_if_open)
                self.end()
                raise
        if self._worker is worker:  # and not closed meanwhile
            self.write = partial(call_on, worker, write)
            if self.upkeep is not None:
                self.upkeep.begin(worker)

    async def close(self) -> None:
        worker = self._let_go()
        if worker is None:
            return
        closing = _Closing(self._as_object, self.upkeep)
        try:
            await call_on(worker, closing.close)
        except asyncio.CancelledError:
            # A call before it hangs: the sink is closed when that returns.
            with suppress(ThreadRefusedError):
                worker.submit(closing.close_late)
            raise
        finally:
            worker.end()

    def end(self) -> None:
        """Let the thread end after the submitted calls, without closing the sink. On the loop's thread."""
        worker = self._let_go()
        if worker is not None:
            worker.end()

    def _let_go(self) -> Worker | None:
        worker, self._worker = self._worker, None
        self.write = _not_open
        if self.upkeep is not None:
            self.upkeep.end()
        return worker


class _Opening:
    """One try at opening a blocking sink. On the worker's thread."""

    def __init__(self, sink: BlockingSink) -> None:
        self._sink = sink
        self._is_open = False

    def open(self) -> object:
        open_sink: Callable[[], object] = self._sink.open
        opening = open_sink()
        self._is_open = not inspect.isawaitable(opening)
        return opening

    def close_if_open(self) -> None:
        if self._is_open:
            self._sink.close()


class _Closing:
    """The end of a blocking sink, which comes once. On the worker's thread."""

    def __init__(self, sink: BlockingSink | None, upkeep: Upkeep | None) -> None:
        self._sink, self._upkeep = sink, upkeep
        self._has_begun = False

    def close(self) -> object:
        self._has_begun = True
        if self._upkeep is not None:
            self._upkeep.last_round()
        close_sink: Callable[[], object] | None = None if self._sink is None else self._sink.close
        return None if close_sink is None else close_sink()

    def close_late(self) -> None:
        closing = None if self._has_begun else self.close()
        if inspect.iscoroutine(closing):
            closing.close()  # there may be no event loop any more to await it on


async def _not_open(batch: Batch) -> int | None:
    raise RuntimeError("The sink is not open. The delivery opens it with its first lease.")


def as_sink(sink: Sink | BlockingSink | BatchFunction, new_worker: NewWorker = BlockingWorker) -> Sink:
    """
    Return `sink` in its asynchronous form.

    Args:
        sink: Any sink.
        new_worker: Gives a blocking one its worker.

    Raises:
        TypeError: It is neither a sink nor a function.
    """
    if isinstance(sink, type) or not (isinstance(sink, Sink) or callable(sink)):
        raise TypeError(
            f"{sink!r} is not a sink. Pass an object with open(), write(batch) and close(), or a function of a batch."
        )
    for function in (sink, getattr(sink, "write", None), type(sink).__call__):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            # Calling it would do nothing, and look like success.
            raise TypeError(
                f"{sink!r} writes nothing: it is a generator, which is never iterated. Remove its yield."
            )
    if isinstance(sink, Sink):
        return (
            sink
            if inspect.iscoroutinefunction(sink.write)
            else WorkerSink(cast(BlockingSink, sink), new_worker)
        )
    if inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(type(sink).__call__):
        return FunctionSink(cast("Callable[[Batch], Awaitable[int | None]]", sink))
    return WorkerSink(cast("Callable[[Batch], int | None]", sink), new_worker)


def given_sink(sink: Sink) -> Sink | BlockingSink | None:
    """Return the sink that was given to `as_sink`; None if that was a function."""
    if isinstance(sink, WorkerSink):
        return sink.blocking if isinstance(sink.blocking, BlockingSink) else None
    return None if isinstance(sink, FunctionSink) else sink


def destination_of(sink: Sink) -> str | None:
    """Return the address that a sink shows as `where`; None if it shows none, as a function does."""
    own = sink.blocking if isinstance(sink, WorkerSink) else sink
    try:
        where = getattr(own, "where", None)
    except BaseException as error:  # noqa: BLE001  foreign code may raise anything
        reraise_signal(error)
        return None
    return where if type(where) is str else None


def feed_of(sink: Sink) -> RunFeed | None:
    """Return where the runs of a sink's delivery are noted, if it is told of runs; else None."""
    upkeep = sink.upkeep if isinstance(sink, WorkerSink) else None
    return None if upkeep is None else upkeep.feed
