"""A run's start and stop beside bare tasks, and a manager from the container beside a bare factory."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import timeit
from collections.abc import Callable
from functools import partial
from statistics import median

from dependency_injector import providers

from benchmarks.report import Row, at_most, report
from benchmarks.timing import medians_of, rounds
from nat_observability import BaseExporter, ContextState, ExporterManager, IntermediateStep
from nat_observability.containers import ObservabilityContainer

ROUNDS = rounds(9)


class NoOpExporter(BaseExporter):
    """Exports nothing."""

    def export(self, event: IntermediateStep) -> None:
        """Do nothing."""


async def bare_tasks(count: int) -> None:
    """Wait in that many tasks for one event, set it, gather: the least that a run could cost."""
    event = asyncio.Event()
    tasks = [asyncio.create_task(event.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*tasks)


async def run(manager: ExporterManager) -> None:
    """Start and stop one run."""
    async with manager.get().start(ContextState()):
        pass


async def waiting_run(manager: ExporterManager) -> None:
    """Start and stop one run, which waits for one turn of the loop: a thousand of them are all open then."""
    async with manager.get().start(ContextState()):
        await asyncio.sleep(0)


def manager_with(count: int) -> ExporterManager:
    """Return a manager with that many exporters that do nothing."""
    manager = ExporterManager()
    for index in range(count):
        manager.add_exporter(f"exporter_{index}", NoOpExporter())
    return manager


async def lifecycles() -> list[Row]:
    """Measure start and stop, one run at a time and a thousand at once."""
    rows: list[Row] = []
    for count in (1, 5, 20):
        ours, floor = await medians_of(
            ROUNDS, 300, partial(run, manager_with(count)), partial(bare_tasks, count)
        )
        rows.append(
            at_most(f"start and stop, {count} exporters", "µs", ours * 1e6, "bare tasks", floor * 1e6, 1.5)
        )
    manager = manager_with(5)

    async def at_once() -> None:
        await asyncio.gather(*(waiting_run(manager) for _ in range(1000)))

    async def one_at_a_time() -> None:
        for _ in range(1000):
            await asyncio.create_task(waiting_run(manager))

    together, single = await medians_of(ROUNDS, 1, at_once, one_at_a_time)
    rows.append(
        at_most(
            "1000 runs at once, 5 exporters, each", "µs", together * 1e3, "one at a time", single * 1e3, 1.5
        ).under("isolated-at-once")
    )
    return rows


def resolving() -> list[Row]:
    """Measure a manager from the container beside a factory with two singletons."""
    os.environ["NAT_OBSERVABILITY_EXPORTERS__KEPT__TYPE"] = "memory"
    container = ObservabilityContainer()

    class Plain:
        def __init__(self, first: object, second: object) -> None:
            self.first, self.second = first, second

    bare = providers.Factory(
        Plain, providers.ThreadSafeSingleton(object), providers.ThreadSafeSingleton(object)
    )
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        contenders: tuple[Callable[[], object], ...] = (container.exporter_manager, bare)
        for index, provider in enumerate(contenders):
            taken[index].append(timeit.timeit(provider, number=20_000) / 20_000)
    ours, floor = map(median, taken)
    return [
        at_most("manager from the container", "µs", ours * 1e6, "factory, 2 singletons", floor * 1e6, 2.5),
    ]


def measure() -> list[Row]:
    """Measure everything."""
    gc.collect()
    return asyncio.run(lifecycles()) + resolving()


if __name__ == "__main__":
    sys.exit(report("Lifecycle of a run", measure))
