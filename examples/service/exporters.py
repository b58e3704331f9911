"""The service's own exporter types: `database` writes through its pool, on its loop; `journal` is one tenant's file."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel

from examples.service.gateways import Pool
from nat_observability import (
    BaseExporter,
    ContextState,
    IntermediateStep,
    LedgerSnapshot,
    Run,
    Span,
)
from nat_observability.containers import ExporterBuilder, delivering
from nat_observability.exporter import Subscription
from nat_observability.settings import CustomExporterSettings, ObservabilitySettings


def tenant_of(run: Run) -> str | None:
    """Return on whose behalf a run works: users are called `tenant/person`."""
    return run.user_id.partition("/")[0] if run.user_id else None


class DatabaseExporter(BaseExporter):
    """
    Writes every step through the service's own pool, which belongs to the service's event loop.

    So it has no delivery: what it needs for a run, a queue and a task on that loop, is a `RunWriter`.

    Args:
        pool: The service's; it must be open as long as runs are.
        most: Steps that wait at most, for each run. What comes then is dropped, and counted.
    """

    def __init__(self, pool: Pool, *, most: int = 1000) -> None:
        super().__init__()
        self.pool = pool
        self.most = most

    def subscription(self, state: ContextState) -> Subscription:
        return RunWriter(self, state)

    def export(self, event: IntermediateStep) -> None:
        """Take a step of a run that this exporter takes part in."""
        for state, subscription in list(self.subscriptions.items()):
            if state.run is event.run:
                subscription.handle(event)


class RunWriter(Subscription):
    """One run's steps on their way to the database: a queue, and a task that lives as long as the run."""

    __slots__ = (
        "_counts",
        "_dropped",
        "_ended",
        "_error",
        "_lock",
        "_loop",
        "_most",
        "_pool",
        "_task",
        "_waiting",
        "_wake",
    )

    def __init__(self, exporter: DatabaseExporter, state: ContextState) -> None:
        super().__init__(exporter, state)
        self._pool = exporter.pool
        self._most = exporter.most
        self._lock = threading.Lock()  # steps may come from any thread
        self._waiting: deque[IntermediateStep] = deque()
        self._counts = {"accepted": 0, "delivered": 0, "failed": 0}
        self._dropped: dict[str, int] = {}
        self._ended = False
        self._error: BaseException | None = None

    def begin(self) -> Awaitable[None] | None:
        # The manager begins a run on the loop of the code that starts it, which is the service's.
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task = self._loop.create_task(self._write(), name="steps to the database")
        return super().begin()

    def handle(self, step: IntermediateStep) -> None:
        with self._lock:
            self._counts["accepted"] += 1
            if self._ended or len(self._waiting) >= self._most:
                self._drop("closed" if self._ended else "queue_full", 1)
                return
            self._waiting.append(step)
            first = len(self._waiting) == 1
        if first:
            self._loop.call_soon_threadsafe(self._wake.set)

    def end(self) -> Awaitable[None] | None:
        super().end()
        with self._lock:
            self._ended = True
        self._wake.set()
        # The manager waits for it, and cancels it if the shutdown timeout ends first.
        return self._task

    def _drop(self, reason: str, steps: int) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + steps

    async def _write(self) -> None:
        try:
            await self._write_until_ended()
        except asyncio.CancelledError:
            with self._lock:
                self._drop("shutdown_timeout", len(self._waiting))
                self._waiting.clear()
            raise

    async def _write_until_ended(self) -> None:
        while not self._ended or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                # Removed when they are written: until then the ledger counts them as pending.
                batch = list(self._waiting)
                try:
                    await self._insert(batch)
                except Exception as error:  # noqa: BLE001  foreign code: the database's errors are the exporter's own
                    self._error = self._error or error
                    outcome = "failed"
                else:
                    outcome = "delivered"
                with self._lock:
                    self._counts[outcome] += len(batch)
                    for _ in batch:
                        self._waiting.popleft()

    async def _insert(self, steps: Sequence[IntermediateStep]) -> None:
        rows = [
            (step.run.run_id, step.run.user_id, step.boundary, step.kind, step.name, step.time_ns)
            for step in steps
        ]
        async with self._pool.connection() as connection:
            await connection.executemany("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?)", rows)

    @property
    def ledger(self) -> LedgerSnapshot:
        with self._lock:
            return LedgerSnapshot(**self._counts, pending=len(self._waiting), dropped=dict(self._dropped))

    @property
    def error(self) -> BaseException | None:
        return self._error


class JournalSettings(BaseModel):
    """The settings of an exporter of type `journal`, besides those of every exporter."""

    tenant: str
    path: Path


class JournalSink:
    """Writes a line of text for each finished step. It may block: the delivery calls it on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> None:
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, batch: Sequence[Any]) -> None:
        assert self._file is not None
        for span in batch:
            if isinstance(span, Span):
                self._file.write(f"{span.run.user_id} {span.kind.lower()} {span.name} {span.status}\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def build_journal(name: str, own: CustomExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
    """Make a journal, which takes part in its tenant's runs only."""
    journal = JournalSettings.model_validate(own.options())
    exporter = delivering(name, own, settings, JournalSink(journal.path))
    exporter.select = lambda run: tenant_of(run) == journal.tenant
    return exporter


def database_builder(pool: Pool) -> ExporterBuilder:
    """Return what makes an exporter of type `database`: a builder that knows the pool of this service."""

    def build(name: str, own: CustomExporterSettings, settings: ObservabilitySettings) -> BaseExporter:
        return DatabaseExporter(pool, most=own.queue_items)

    return build
