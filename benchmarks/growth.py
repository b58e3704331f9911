"""How cost grows: with exporters, runs at once, the size of a span and the length of the queue."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from benchmarks.lifecycle import manager_with, waiting_run
from benchmarks.report import Row, beside, report
from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    Span,
    SpanExporter,
    step,
)
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.sinks.protocol import Batch

ROUNDS = 5
MOST = 1.5
"""From which multiple of the cheapest cost of one on cost is said not to be linear any more."""

Cost = Callable[[int], Awaitable[float]]
"""Returns the µs of CPU time for one, given how many there are."""


async def exporters(count: int) -> float:
    """One exporter's part in a run's start and stop."""
    manager = manager_with(count)
    runs = max(20, 2000 // count)
    await waiting_run(manager)
    began = time.process_time()
    for _ in range(runs):
        await waiting_run(manager)
    return (time.process_time() - began) / runs / count * 1e6


async def runs_at_once(count: int) -> float:
    """One run of many that are open at the same time, with 5 exporters."""
    manager = manager_with(5)
    times = max(1, 1000 // count)
    began = time.process_time()
    for _ in range(times):
        await asyncio.gather(*(waiting_run(manager) for _ in range(count)))
    return (time.process_time() - began) / times / count * 1e6


async def _encode(batch: Batch) -> None:
    encode([span for span in batch if isinstance(span, Span)], {"service.name": "growth"})


async def span_bytes(size: int) -> float:
    """One KB of a span, recorded, captured, handed over and encoded for OTLP."""
    exporter = SpanExporter(_encode, limits=DeliveryLimits(queue_bytes=1 << 30))
    manager = ExporterManager.from_exporters({"encode": exporter})
    text = "x" * size
    spans = max(20, min(2000, 20_000_000 // size))
    async with ObservabilityRuntime({"encode": exporter}), manager.start(ContextState()):
        began = time.process_time()
        for _ in range(spans):
            with step("tool", "work", input={"text": text}):
                pass
        await manager.flush()
        took = time.process_time() - began
    return took / spans / (size / 1000) * 1e6


async def queue_length(length: int) -> float:
    """One span that waits behind that many others, from the step to the sink."""
    exporter = SpanExporter(
        _take, limits=DeliveryLimits(queue_items=length, queue_bytes=1 << 32, batch_items=512, batch_age=3600)
    )
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


SCALES: Sequence[tuple[str, str, str, Cost, tuple[int, ...]]] = (
    ("exporters in a run", "µs an exporter", "exporter", exporters, (1, 5, 20, 100)),
    ("runs at once", "µs a run", "run", runs_at_once, (1, 10, 100, 1000, 10_000)),
    ("bytes of a span", "µs a KB", "KB", span_bytes, (1000, 10_000, 100_000, 1_000_000)),
    ("spans in the queue", "µs a span", "span", queue_length, (100, 1000, 10_000, 100_000)),
)


async def grown(name: str, unit: str, one: str, cost: Cost, sizes: tuple[int, ...]) -> list[Row]:
    """Measure every size in turns, and say from which size on one costs more than before."""
    took: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            gc.collect()
            took[size].append(await cost(size))
    figures = {size: median(each) for size, each in took.items()}
    rows: list[Row] = []
    cheapest = figures[sizes[0]]
    bend: int | None = None
    for size in sizes:
        rows.append(
            beside(f"{name}: {size:,}", unit, figures[size], f"the cheapest below, a {one}", cheapest)
        )
        if bend is None and figures[size] > MOST * cheapest:
            bend = size
        cheapest = min(cheapest, figures[size])
    until = "linear in all that was tried" if bend is None else f"not linear any more at {bend:,}"
    print(f"{name}: {until}")
    return rows


async def measure_all() -> list[Row]:
    """Measure everything."""
    rows: list[Row] = []
    for name, unit, one, cost, sizes in SCALES:
        rows += await grown(name, unit, one, cost, sizes)
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure_all())


if __name__ == "__main__":
    sys.exit(report(f"Growth: CPU of one, not linear if it is over {MOST:g}x the cheapest before", measure))
