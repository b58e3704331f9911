"""Readiness: the wait for an exporter of foreign code to be ready, while its start runs."""

from __future__ import annotations

import asyncio

from nat_observability.run.abandoned_tasks import abandon
from nat_observability.run.exporter_record import ExporterRecord
from nat_observability.run.lifecycle import Lifecycle


class Readiness:
    """
    Waits for the `wait_ready` of an exporter of foreign code, from the first wait of its `start` on.

    It may be ready long before its `start` yields, and says so by `wait_ready` alone. What that raises fails the
    exporter. In the exporter's task: `wait` when `start` has yielded, and `close` in the end.
    """

    __slots__ = ("_begin", "_has_yielded", "_lifecycle", "_record", "_task")

    def __init__(self, lifecycle: Lifecycle, record: ExporterRecord) -> None:
        self._lifecycle, self._record = lifecycle, record
        record.readiness = self
        self._task: asyncio.Task[None] | None = None
        self._has_yielded = False
        # Later, because most exporters yield at once, and then need no second task.
        self._begin = asyncio.get_running_loop().call_soon(self._begin_task)

    def _begin_task(self) -> None:
        self._task = asyncio.Task(self._ready(), name=self._record.name)
        self._task.add_done_callback(self._done)

    async def _ready(self) -> None:
        await self._record.exporter.wait_ready()

    def _done(self, task: asyncio.Task[None]) -> None:
        record = self._record
        if task.cancelled():
            return
        if (error := task.exception()) is None:
            if record.error is None and record.ended_at is None:
                self._lifecycle.ready(record)
        elif not self._has_yielded and record.ended_at is None:
            record.fail(error)
            self._lifecycle.cancel(record)

    async def wait(self) -> None:
        """
        Wait until the exporter has been counted as started.

        Raises:
            StartTimeoutError: As `Lifecycle.ready`.
        """
        self._has_yielded = True
        self._begin.cancel()
        if self._task is None:
            await self._ready()
            self._lifecycle.ready(self._record)
            return
        await self._task
        if self._record.error is not None:
            raise self._record.error

    def cancel(self) -> None:
        """Wait no longer for an exporter that did not come to be ready."""
        self._begin.cancel()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Do the same, and wait for that."""
        self._record.readiness = None
        self.cancel()
        task = self._task
        if task is not None and not task.done() and self._lifecycle.is_in_its_loop:
            try:
                await asyncio.wait([task])
            finally:
                if not task.done():
                    abandon(task)
