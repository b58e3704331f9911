"""Rows of "What breaks in the reference implementation" that name G6 or G8 and have no place of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from nat_observability.events import IntermediateStep
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from tests.delivery.virtual import now, virtual_time


class CleaningUp(BaseExporter):
    """An exporter of the application's own, whose end of a run takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.cleaned_up = False

    def export(self, event: IntermediateStep) -> None:
        pass

    def start(self) -> AbstractAsyncContextManager[object]:
        return self._run()

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        async with super().start():
            yield
        await asyncio.sleep(self.seconds)
        self.cleaned_up = True


@virtual_time
async def test_g2_g6_a_fast_exporter_takes_no_time_from_those_that_clean_up() -> None:
    """Not isolated, one fast exporter first, two that need 0.2 s: each of them finishes, side by side."""
    exporters = {"fast": CleaningUp(0.0), "slow": CleaningUp(0.2), "slower": CleaningUp(0.2)}
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start():
        pass
    assert [exporter.cleaned_up for exporter in exporters.values()] == [True, True, True]
    assert 0.2 <= now() < 0.3
