"""Sink and BlockingSink: what a delivery writes to, one per kind of back end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from nat_observability.events import IntermediateStep, Item, Span

Batch = Sequence[Item]
"""One to `batch_items` items of one or many runs, in the order of acceptance."""


@runtime_checkable
class Sink(Protocol):
    """
    The last part of an exporter, in asynchronous form: it runs on the event loop of its delivery's thread.

    `batch` is a `Batch`; with a `SpanExporter` a `Sequence[Span]`, with a `StepExporter` one of `IntermediateStep`.

    A delivery calls `open` once before the first `write` and `close` once after the last, and never two of the three at
    the same time. After a `close` it may call `open` again. The delivery counts and logs what any of them raises.

    A `write` that raises has failed for its whole batch. `RetryableWriteError`, `SinkError`, `OSError` and
    `TimeoutError` are tried again, `BatchTooLargeError` in halves, and `RefusedForNowError` later, if there is a spool;
    anything else is final. A `write` may return the
    number of items that the back end took note of and rejected (OTLP's partial success); they count as failed.
    """

    async def open(self) -> None: ...

    async def write(self, batch: Any) -> int | None: ...

    async def close(self) -> None: ...


@runtime_checkable
class BlockingSink(Protocol):
    """
    The same in synchronous form: the delivery calls it on its own worker thread, which it may block.

    All three methods are called on that one thread, one at a time.
    """

    def open(self) -> None: ...

    def write(self, batch: Any) -> int | None: ...

    def close(self) -> None: ...


class RunLedger(NamedTuple):
    """
    What became of the items of a run that has ended, in one exporter.

    `accepted == delivered + failed + pending + sum(dropped.values())`; `pending` is 0, unless the delivery closed
    before the rest was settled.
    """

    run_id: str
    exporter: str
    accepted: int
    delivered: int
    failed: int
    pending: int
    dropped: dict[str, int]


@runtime_checkable
class ReportSink(Protocol):
    """A blocking sink that is also given the ledgers of the runs that it took part in, about twice a second."""

    def write_report(self, reports: Sequence[RunLedger]) -> object: ...


@runtime_checkable
class RunningSink(Protocol):
    """
    A blocking sink that is also shown the steps that are open, about twice a second.

    The spans are INCOMPLETE and end now; they have passed the processors, and have been open for half a second. They
    are outside the ledger. An empty list follows when there are none any more.
    """

    def write_running(self, spans: Sequence[Span]) -> object: ...


@runtime_checkable
class TidySink(Protocol):
    """A blocking sink that has something to do now and then; `tidy` returns after how many seconds again."""

    def tidy(self) -> float: ...


BatchFunction = (
    Callable[[Batch], int | None]
    | Callable[[Batch], Awaitable[int | None]]
    | Callable[[Sequence[Span]], int | None]
    | Callable[[Sequence[Span]], Awaitable[int | None]]
    | Callable[[Sequence[IntermediateStep]], int | None]
    | Callable[[Sequence[IntermediateStep]], Awaitable[int | None]]
)
"""A plain function or coroutine function that takes a batch: the shortest possible sink."""
