"""How cost grows, by default: exporters, runs at once, payload, history, threads, tenants, the queue's length."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks import tenants
from benchmarks.default_contenders import OURS, Contender
from benchmarks.report import Row, beside, report
from benchmarks.timing import rounds
from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.sinks.protocol import Batch

ROUNDS = rounds(5)
MOST = 1.5
"""From which multiple of the cheapest cost of one on cost is said not to be linear any more."""
KEY = "growth"
"""Of all rows here: `Row.key`. A row's name is that of its scale, a colon, and the size."""

Cost = Callable[[int], float]
"""Returns the µs of CPU time for one, given how many there are."""


@dataclass(frozen=True)
class Scale:
    """
    What grows.

    Args:
        name: As the page has it.
        one: What is measured the cost of, with its article.
        sizes: From small to large.
        costs: Yields what measures it, in a context that lasts as long as the measuring.
    """

    name: str
    one: str
    sizes: tuple[int, ...]
    costs: Callable[[], AbstractContextManager[Cost]]


def _contenders(
    exporters: int, work: Callable[[int], tuple[str, int, float]]
) -> Callable[[], AbstractContextManager[Cost]]:
    """Return a context that measures a work in one process; `work` gives its name, its times and its divisor."""

    @contextmanager
    def costs() -> Iterator[Cost]:
        with Contender(OURS, exporters=exporters) as ours:

            def cost(size: int) -> float:
                name, times, divisor = work(size)
                return 1e6 * ours.measure(name, times) / divisor

            yield cost

    return costs


@contextmanager
def _exporters() -> Iterator[Cost]:
    """An exporter's part in a run with one step, each number of them in a process of its own."""
    with ExitStack() as stack:
        processes = {count: stack.enter_context(Contender(OURS, exporters=count)) for count in EXPORTERS}
        yield lambda count: 1e6 * processes[count].measure("root", max(100, 2000 // count)) / count


async def _tenants_run(count: int) -> float:
    return (await tenants.cost(tenants.by_mapping(count), 0))[0]


@contextmanager
def _tenants() -> Iterator[Cost]:
    """An empty run of one of that many tenants, whose exporters select by a mapping."""
    yield lambda count: asyncio.run(_tenants_run(count))


async def _queued(length: int) -> float:
    limits = DeliveryLimits(queue_items=length, queue_bytes=1 << 32, batch_items=512, batch_age=3600)
    exporter = SpanExporter(_take, limits=limits)
    manager = ExporterManager.from_exporters({"take": exporter})
    async with ObservabilityRuntime({"take": exporter}), manager.start(ContextState()):
        began = time.process_time()
        for _ in range(length):
            with step("tool", "work"):
                pass
        await manager.flush()
        took = time.process_time() - began
    return took / length * 1e6


async def _take(batch: Batch) -> None:
    """Take a batch."""


@contextmanager
def _queue() -> Iterator[Cost]:
    """A span that waits behind that many others, from the step to the sink."""
    yield lambda length: asyncio.run(_queued(length))


EXPORTERS = (1, 5, 20, 50)
SCALES: Sequence[Scale] = (
    Scale("exporters in a run", "an exporter", EXPORTERS, _exporters),
    Scale(
        "runs at once, 5 exporters",
        "a run",
        (1, 10, 100, 1000, 10_000),
        _contenders(5, lambda size: (f"root:{size}", max(1000, size), 1)),
    ),
    Scale(
        "bytes of an input",
        "a KB",
        (1000, 10_000, 100_000, 1_000_000),
        _contenders(1, lambda size: (f"size:{size}", max(5, min(500, 2_000_000 // size)), size / 1000)),
    ),
    # The history of a turn is half as long on average as it is at the end.
    Scale(
        "turns of a conversation of 1 KB each",
        "a KB of history",
        (5, 20, 50, 100, 200),
        _contenders(1, lambda size: (f"agent:{size}", max(1, 60 // size), size * (size + 1) / 2)),
    ),
    Scale(
        "threads that record",
        "a step",
        (1, 2, 8, 32),
        _contenders(1, lambda size: (f"threads:{size}", 16_000, 1)),
    ),
    Scale("tenants", "a run", (1, 10, 100, 1000), _tenants),
    Scale("spans in the queue", "a span", (100, 1000, 10_000, 100_000), _queue),
)


def bend(figures: dict[int, float]) -> int | None:
    """Return the size from which on one costs more than it did below; None if cost is linear in all sizes."""
    cheapest = next(iter(figures.values()))
    for size, figure in figures.items():
        if figure > MOST * cheapest:
            return size
        cheapest = min(cheapest, figure)
    return None


def grown(scale: Scale) -> list[Row]:
    """Measure every size in turns."""
    took: dict[int, list[float]] = {size: [] for size in scale.sizes}
    with scale.costs() as cost:
        for number in range(ROUNDS + 1):
            for size in scale.sizes:
                gc.collect()
                figure = cost(size)
                if number:  # the first warms up
                    took[size].append(figure)
    figures = {size: median(each) for size, each in took.items()}
    first = figures[scale.sizes[0]]
    found = bend(figures)
    print(
        f"{scale.name}: {'linear in all that was tried' if found is None else f'not linear any more at {found:,}'}"
    )
    return [
        beside(f"{scale.name}: {size:,}", f"µs {scale.one}", figure, f"{scale.sizes[0]:,}", first).under(KEY)
        for size, figure in figures.items()
    ]


def measure() -> list[Row]:
    """Measure everything."""
    return [row for scale in SCALES for row in grown(scale)]


if __name__ == "__main__":
    sys.exit(report(f"Growth: CPU of one, not linear if it is over {MOST:g}x the cheapest before", measure))
