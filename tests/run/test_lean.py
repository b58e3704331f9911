"""The size of a run, in objects that the garbage collector tracks."""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context

import pytest

from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, SpanExporter, step
from nat_observability.sinks import MemorySink

RUNS = 200


async def tracked_per_run(exporters: int) -> float:
    """Return how many objects the collector tracks for each run that is open, beyond those of its task."""
    made = {f"exporter_{number}": SpanExporter(MemorySink()) for number in range(exporters)}
    async with ObservabilityRuntime(made):
        manager = ExporterManager.from_exporters(made)

        async def waits(opened: asyncio.Semaphore, end: asyncio.Event) -> None:
            opened.release()
            await end.wait()

        async def records(opened: asyncio.Semaphore, end: asyncio.Event) -> None:
            async with manager.get().start(ContextState()):
                with step("workflow", "root"):
                    await waits(opened, end)

        counts: list[int] = []
        for _ in range(2):  # the second time, one-time objects exist already
            counts.clear()
            for kind in (waits, records):
                opened, end = asyncio.Semaphore(0), asyncio.Event()
                gc.collect()
                before = len(gc.get_objects())
                tasks = [asyncio.create_task(kind(opened, end)) for _ in range(RUNS)]
                for _ in range(RUNS):
                    await opened.acquire()
                counts.append(len(gc.get_objects()) - before)
                end.set()
                await asyncio.gather(*tasks)
        bare, whole = counts
        return (whole - bare) / RUNS


@pytest.mark.parametrize("exporters", [1, 20])
def test_run_makes_few_objects_for_the_collector(exporters: int) -> None:
    """A run with a step is at most 33 objects to the collector, however many span exporters it has."""
    # In a context of its own: the variables that other tests and libraries have set make each copy larger.
    assert Context().run(asyncio.run, tracked_per_run(exporters)) <= 33
