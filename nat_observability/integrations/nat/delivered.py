"""deliver(): the toolkit's own exporters with a delivery around them, so that what they export is not lost."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import time
import weakref
from collections.abc import Coroutine, Sequence
from typing import Any

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.threads.worker import suppress_instrumentation
from nat_observability.events import Boundary, IntermediateStep, Run, StepKind
from nat_observability.foreign_errors import describe
from nat_observability.logs import RepeatedEvent, get_logger

# Of the toolkit's ProcessingExporter, from which each of its exporters derives.
_NEEDED = ("_create_export_task", "_cleanup", "_export_with_processing", "create_isolated_instance")
_LIMITS = DeliveryLimits(queue_items=100_000, batch_items=256, batch_age=0.0, batches_in_flight=1)
_NO_RUN = Run("", "0" * 32)

_log = get_logger()


class Export:
    """One export of the toolkit's, which is awaited once, or closed without having run."""

    __slots__ = ("_context", "_coroutine", "is_last")

    def __init__(self, coroutine: Coroutine[Any, Any, object], *, is_last: bool = False) -> None:
        self._coroutine: Coroutine[Any, Any, object] | None = coroutine
        # What the toolkit would have copied when it made a task of it.
        self._context = contextvars.copy_context()
        self.is_last = is_last

    def begin(self) -> asyncio.Task[object]:
        """Make a task of it, in the running event loop."""
        coroutine, self._coroutine = self._coroutine, None
        assert coroutine is not None
        self._context.run(suppress_instrumentation)
        return asyncio.get_running_loop().create_task(coroutine, context=self._context)

    def __del__(self) -> None:
        # It was dropped: one that is never awaited would be warned about.
        if self._coroutine is not None:
            self._coroutine.close()


class ExportItem(IntermediateStep, frozen=True, gc=False):
    """An export as an item of a delivery."""

    export: Export | None = None


class ExportSink:
    """Awaits exports on the delivery's event loop; those of one batch at once, as the toolkit does with its tasks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failing = RepeatedEvent()

    async def open(self) -> None:
        """Nothing has to be opened."""

    async def write(self, batch: Sequence[ExportItem]) -> int:
        """Await the batch, and return how many of its exports failed; each was tried once."""
        failed = 0
        waiting: list[asyncio.Task[object]] = []
        for item in batch:
            export = item.export
            if export is None:
                continue
            if export.is_last:
                # What ends a run flushes what the exports before it have left in its batches.
                failed += await self._finish(waiting)
                waiting = [export.begin()]
                failed += await self._finish(waiting)
                waiting = []
            else:
                waiting.append(export.begin())
        return failed + await self._finish(waiting)

    async def close(self) -> None:
        """Nothing has to be closed: the toolkit's exporters have no such method."""

    async def _finish(self, tasks: Sequence[asyncio.Task[object]]) -> int:
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [each for each in outcomes if isinstance(each, BaseException)]
        if errors and (suppressed := self._failing.due()) is not None:
            _log.warning(
                "toolkit_export_failed",
                exporter=self._name,
                failed=len(errors),
                error=describe(errors[0]),
                suppressed=suppressed,
            )
        return len(errors)


class _Delivered:
    """The delivery of one exporter of the toolkit's, and what its runs' instances do instead of making tasks."""

    def __init__(self, name: str, exporter: Any) -> None:
        self.delivery = Delivery(name, ExportSink(name), limits=_LIMITS)
        self._isolate = type(exporter).create_isolated_instance
        self._lease: Lease | None = None
        self._name = name

    def isolated(self, exporter: Any, context_state: Any) -> Any:
        """Return a run's instance, whose exports go to the delivery."""
        instance = self._isolate(exporter, context_state)
        if self._lease is None:
            # For the process, or as long as there is the exporter: its clients and locks belong to one event loop.
            self._lease = self.delivery.lease(keep=True)
            weakref.finalize(exporter, self.release)
        cleanup = type(instance)._cleanup

        async def last() -> None:
            await _flush(instance)
            # The processors are common to all runs: shutting them down would stop the others' batches.
            instance._processors = []
            await cleanup(instance)

        async def end() -> None:
            self._accept(last(), is_last=True)

        instance._create_export_task = self._accept
        instance._cleanup = end
        return instance

    def release(self) -> None:
        """Let the delivery drain and close; the next run opens it again."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def _accept(self, coroutine: Coroutine[Any, Any, object], *, is_last: bool = False) -> None:
        lease = self._lease
        assert lease is not None
        boundary = Boundary.END if is_last else Boundary.CHUNK
        lease.accept(
            ExportItem(
                _NO_RUN,
                StepKind.CUSTOM,
                boundary,
                self._name,
                "",
                None,
                0,
                export=Export(coroutine, is_last=is_last),
            )
        )


async def _flush(instance: Any) -> None:
    """Send what the batches of an instance hold, through the processors behind them."""
    for processor in list(getattr(instance, "_processors", ())):
        flush = getattr(processor, "force_flush", None)
        if flush is not None and (items := await flush()):
            await instance._continue_pipeline_after(processor, items)


_delivered: weakref.WeakKeyDictionary[Any, _Delivered] = weakref.WeakKeyDictionary()


def deliver(name: str, exporter: Any) -> None:
    """
    Put a delivery around an exporter of the toolkit's; any other, and one that has it already, is left alone.

    Under the toolkit its exports are tasks of the application's event loop, which end with it. With a delivery they are
    awaited on a background thread's, whatever thread recorded the step; they are counted, and drained when the process
    ends. The end of a run sends what its batches still hold, without ending those of other runs.

    Args:
        name: For logs.
        exporter: From then on each of its isolated instances exports that way.
    """
    if exporter in _delivered or not all(hasattr(exporter, each) for each in _NEEDED):
        return
    delivered = _delivered[exporter] = _Delivered(name, exporter)
    # Of the instance: the toolkit's class stays as it is. A weak reference, or the exporter would keep itself alive.
    reference = weakref.ref(exporter)

    def create_isolated_instance(context_state: Any) -> Any:
        shared = reference()
        assert shared is not None  # its attribute is called
        return delivered.isolated(shared, context_state)

    exporter.create_isolated_instance = create_isolated_instance


def ledger_of(exporter: object) -> LedgerSnapshot | None:
    """Return what became of everything that an exporter of the toolkit's was to export; None if it has no delivery."""
    delivered = _delivered.get(exporter)
    return None if delivered is None else delivered.delivery.health().ledger


def close_deliveries(timeout: float = 20.0) -> bool:
    """
    Drain the deliveries around the toolkit's exporters; a later run opens them again.

    When the process ends this happens by itself.

    Args:
        timeout: Seconds for all of them together.

    Returns:
        Whether each was done in time; what is left after that is dropped, and counted.
    """
    until = time.monotonic() + timeout
    closing = [(each.delivery, each.delivery.closed()) for each in list(_delivered.values())]
    _release_all()
    in_time = True
    for delivery, closed in closing:
        try:
            closed.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            in_time = False
            delivery.abandon(timeout)
    return in_time


def _release_all() -> None:
    """Before the deliveries are drained: no runtime holds these, and none was forgotten."""
    for delivered in list(_delivered.values()):
        delivered.release()


atexit.register(_release_all)
