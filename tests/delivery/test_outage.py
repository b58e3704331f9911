"""A back end that is away for a while: nothing is lost with a spool, and exactly what is counted without one."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from pathlib import Path

import pytest

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.sinks.otlp_http import OtlpHttpSink
from tests.delivery.pending import nothing_pending
from tests.otlp_receiver import OtlpReceiver

QUEUE_BYTES = 8 * 1024 * 1024
PAYLOAD = "x" * 20_000
QUICKLY = {"retry_initial": 0.05, "retry_max": 0.2, "breaker_open_for": 0.2, "batch_age": 0.05}


async def outage(limits: DeliveryLimits, items: int, seconds: float) -> tuple[set[str], set[str], int, int]:
    """
    Record while the receiver is away, for so many items and seconds at least, and again when it is back.

    Returns:
        The names that were recorded, those that arrived, the number that the ledger counts as dropped, and the most
        bytes of Python objects that the outage cost.
    """
    recorded: set[str] = set()
    with OtlpReceiver() as receiver:
        exporters = {"otlp": SpanExporter(OtlpHttpSink(receiver.url, timeout=2), name="otlp", limits=limits)}
        manager = ExporterManager.from_exporters(exporters)

        async def run(names: list[str]) -> None:
            async with manager.get().start(ContextState()):
                for name in names:
                    with step("tool", name) as current:
                        current.output = PAYLOAD + name
                    recorded.add(name)

        async with ObservabilityRuntime(exporters, shutdown_timeout=60) as runtime:
            await run(["before"])
            await manager.flush()
            await asyncio.to_thread(receiver.stop)
            tracemalloc.start()
            base, most, began, number = tracemalloc.get_traced_memory()[0], 0, time.monotonic(), 0
            while number < items or time.monotonic() < began + seconds:
                await run([f"during {number + each}" for each in range(10)])
                number += 10
                most = max(most, tracemalloc.get_traced_memory()[0] - base)
                await asyncio.sleep(0)
            tracemalloc.stop()
            await asyncio.to_thread(receiver.start)
            await run(["after"])
            # Until the breaker lets a probe through: a shutdown would give each batch its last try at once.
            await nothing_pending(runtime)
            ledger = runtime.health().ledger
        arrived = {span.name for span in receiver.spans}
    assert ledger.adds_up
    assert not ledger.failed
    return recorded, arrived, sum(ledger.dropped.values()), most


def limits_with(**others: object) -> DeliveryLimits:
    """Return limits with a small queue and short waits."""
    return DeliveryLimits(queue_bytes=QUEUE_BYTES, batch_items=50, **{**QUICKLY, **others})  # type: ignore[arg-type]


async def spilled(folder: Path, items: int, seconds: float) -> None:
    recorded, arrived, dropped, most = await outage(
        limits_with(spool="spill", spool_path=folder / "spool"), items, seconds
    )
    assert not recorded - arrived
    assert not dropped
    assert most <= 1.2 * QUEUE_BYTES
    print(f"{len(recorded)} spans, none lost, memory {most / QUEUE_BYTES:.2f} of the queue's bytes")


async def dropped_oldest(items: int, seconds: float) -> None:
    recorded, arrived, dropped, most = await outage(
        limits_with(queue_policy="drop_oldest", retry_for=3600.0), items, seconds
    )
    assert dropped > 0
    assert len(recorded - arrived) == dropped
    assert "after" in arrived
    assert most <= 1.2 * QUEUE_BYTES
    print(
        f"{len(recorded)} spans, {dropped} lost and counted, memory {most / QUEUE_BYTES:.2f} of the queue's bytes"
    )


@pytest.mark.timeout(60)
async def test_g7_with_spill_an_outage_loses_nothing(tmp_path: Path) -> None:
    """What is recorded while the back end is away, four times what the queue holds, arrives when it is back."""
    await spilled(tmp_path, items=1600, seconds=0)


@pytest.mark.timeout(60)
async def test_g7_with_drop_oldest_an_outage_loses_what_is_counted() -> None:
    """Without a spool exactly the counted number of items is missing, and the newest arrive."""
    await dropped_oldest(items=1600, seconds=0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_g7_with_spill_an_outage_of_30_seconds_loses_nothing(tmp_path: Path) -> None:
    """The same for half a minute under load."""
    await spilled(tmp_path, items=1600, seconds=30)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_g7_with_drop_oldest_an_outage_of_30_seconds_loses_what_is_counted() -> None:
    """The same for half a minute under load."""
    await dropped_oldest(items=1600, seconds=30)
