"""Backend: a sink that a test can have down, hanging or working; and runs that are recorded for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nat_observability import ContextState, step
from nat_observability.delivery.limits import DeliveryLimits, SpoolMode
from nat_observability.events import Item, Span
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.sinks.protocol import Batch
from nat_observability.spool.record import decode_item
from nat_observability.spool.spool import Spool


class Backend:
    """
    A sink that any thread may control.

    Attributes:
        down: Whether every write is refused with a retryable error.
        hangs: Whether no write ever returns.
        taken: What was delivered, in order.
        tries: How many writes there were.
        largest: The most items in a write.
    """

    def __init__(self, *, down: bool = False, hangs: bool = False) -> None:
        self.down, self.hangs = down, hangs
        self.taken: list[Item] = []
        self.tries = self.largest = 0

    @property
    def names(self) -> list[str]:
        """The names of the delivered items."""
        return [item.name for item in self.taken]

    @property
    def ids(self) -> list[str]:
        """The span ids of the delivered items."""
        return [item.span_id for item in self.taken if isinstance(item, Span)]

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: Batch) -> None:
        self.tries += 1
        self.largest = max(self.largest, len(batch))
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise ConnectionError("The back end is down.")
        self.taken.extend(batch)

    async def close(self) -> None:
        """Nothing to close."""


def quick_limits(directory: Path, spool: SpoolMode, **others: Any) -> DeliveryLimits:
    """Return limits under which everything happens within milliseconds, with a spool in `directory`."""
    quick: dict[str, Any] = {
        "batch_items": 10,
        "batch_age": 0.002,
        "retry_initial": 0.002,
        "retry_max": 0.005,
        "breaker_open_for": 0.01,
        "spool": spool,
        "spool_path": directory,
    }
    return DeliveryLimits(**quick | others)


def exporter_of(sink: Backend, limits: DeliveryLimits) -> dict[str, SpanExporter]:
    """Return a registry of one exporter, by the name of main."""
    return {"main": SpanExporter(sink, name="main", limits=limits)}


async def record(manager: ExporterManager, names: Iterable[object], **fields: Any) -> ExporterManager:
    """Record one run with a step of each name, and return its manager when the run has ended."""
    own = manager.get()
    async with own.start(ContextState()):
        for name in names:
            with step("tool", str(name), **fields):
                pass
    return own


def in_spool(directory: Path, exporter: str = "main") -> list[Item]:
    """Take over what is in a spool that is not open, without erasing it, and return it, the oldest first."""
    with Spool(directory, exporter=exporter, max_bytes=1 << 40) as spool:
        return [decode_item(record) for _, record in spool.take(1 << 30, 1 << 40)]
