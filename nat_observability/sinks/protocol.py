"""Sink and BlockingSink: what a delivery writes to, one per kind of back end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from nat_observability.events import Item

Batch = Sequence[Item]
"""One to `batch_items` items of one or many runs, in the order of acceptance."""


@runtime_checkable
class Sink(Protocol):
    """
    The last part of an exporter, in asynchronous form: it runs on the event loop of its delivery's thread.

    A delivery calls `open` once before the first `write` and `close` once after the last, and never two of the three at
    the same time. After a `close` it may call `open` again. The delivery counts and logs what any of them raises.

    A `write` that raises has failed for its whole batch. `RetryableWriteError`, `SinkError`, `OSError` and
    `TimeoutError` are tried again, `BatchTooLargeError` in halves, and `RefusedForNowError` later, if there is a spool;
    anything else is final. A `write` may return the
    number of items that the back end took note of and rejected (OTLP's partial success); they count as failed.
    """

    async def open(self) -> None: ...

    async def write(self, batch: Batch) -> int | None: ...

    async def close(self) -> None: ...


@runtime_checkable
class BlockingSink(Protocol):
    """
    The same in synchronous form: the delivery calls it on its own worker thread, which it may block.

    All three methods are called on that one thread, one at a time.
    """

    def open(self) -> None: ...

    def write(self, batch: Batch) -> int | None: ...

    def close(self) -> None: ...


BatchFunction = Callable[[Batch], int | None] | Callable[[Batch], Awaitable[int | None]]
"""A plain function or coroutine function that takes a batch: the shortest possible sink."""
