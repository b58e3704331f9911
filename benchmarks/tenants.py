"""What a run costs, and how many threads there are, with an exporter for each of 1 to 1000 tenants."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable
from statistics import median

from benchmarks.report import Row, at_most, beside, report
from benchmarks.timing import rounds
from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, Run, StepExporter, step
from nat_observability.exporter import ExporterTemplate
from nat_observability.sinks.protocol import Batch

ROUNDS = rounds(5)
RUNS = 2000  # of each measurement
TENANTS = (1, 10, 100, 1000)
THREADS = 16
BAR = 1.2


async def take(batch: Batch) -> None:
    """Take a batch."""


def by_mapping(count: int) -> dict[str, StepExporter]:
    """Return an exporter for each tenant, from one template, which selects by the tag `tenant`."""
    template = ExporterTemplate(lambda name: take)
    return {f"t{n}": template.exporter(f"t{n}") for n in range(count)}


def by_function(count: int) -> dict[str, StepExporter]:
    """Return the same, each of which asks a function."""
    template = ExporterTemplate(lambda name: take)

    def of(name: str) -> Callable[[Run], bool]:
        return lambda run: ("tenant", name) in run.tags

    return {f"t{n}": template.exporter(f"t{n}", of(f"t{n}")) for n in range(count)}


async def _run(manager: ExporterManager, *, steps: int) -> None:
    async with manager.get().start(ContextState(tags={"tenant": "t0"})):
        for _ in range(steps):
            with step("tool", "work"):
                pass


async def cost(exporters: dict[str, StepExporter], steps: int) -> tuple[float, int]:
    """Return the µs of CPU time of all threads for a run, and the threads that the exporters have."""
    before = threading.active_count()
    async with ObservabilityRuntime(exporters):
        manager = ExporterManager.from_exporters(exporters)
        await _run(manager, steps=steps)
        gc.collect()
        began = time.process_time()
        for _ in range(RUNS):
            await _run(manager, steps=steps)
        took = (time.process_time() - began) / RUNS * 1e6
        threads = threading.active_count() - before
    return took, threads


async def measure_all() -> list[Row]:
    """Measure every number of tenants in turns."""
    rows: list[Row] = []
    for what, make, bar, tenants in (
        ("by mapping", by_mapping, BAR, TENANTS),
        ("by function", by_function, None, TENANTS[:-1]),
    ):
        for steps in (0, 1):
            costs: dict[int, list[float]] = {count: [] for count in tenants}
            threads: dict[int, int] = {}
            for _ in range(ROUNDS):
                for count in tenants:
                    took, threads[count] = await cost(make(count), steps)
                    costs[count].append(took)
            one = median(costs[1])
            for count in tenants:
                who = "1 tenant" if count == 1 else f"{count:,} tenants"
                name = f"{steps} steps, {who} {what}, CPU of a run ({threads[count]} threads)"
                ours = median(costs[count])
                row = (
                    beside(name, "µs", ours, "1 tenant", one)
                    if steps or bar is None
                    else at_most(name, "µs", ours, "1 tenant", one, bar)
                )
                rows.append(row)
                if what == "by mapping" and steps:
                    rows.append(
                        at_most(f"threads, {count:,} tenants", "", threads[count], "most", THREADS, 1.0)
                    )
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure_all())


if __name__ == "__main__":
    sys.exit(report("Tenants, an exporter for each", measure))
