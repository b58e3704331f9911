"""A back end that is away for a while: with a spool nothing is lost, and without one exactly the counted items."""

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
from nat_observability.sinks.otlp.http import OtlpHttpSink
from tests.delivery.pending import nothing_pending
from tests.otlp_receiver import OtlpReceiver
from tests.processes import run_program

QUEUE_BYTES = 8 * 1024 * 1024
PAYLOAD = "x" * 10_000
PAUSE = 0.005  # seconds between two runs of ten steps, while the outage lasts: 20 MB/s at most
QUICKLY = {"retry_initial": 0.05, "retry_max": 0.2, "breaker_open_for": 0.2, "batch_age": 0.05}


async def outage(limits: DeliveryLimits, items: int, seconds: float) -> tuple[set[str], set[str], int, int]:
    """
    Record while the receiver is away, for at least these items and seconds, and again when it is back.

    Returns:
        The names that were recorded, those that arrived, the number that the ledger counts as dropped, and what the
        outage cost at its worst moment, in bytes: of all Python objects of the process, what is being encoded, sent
        or put on the disk included. (What SQLite holds is not, a few megabytes at most: see the tests further down.)
    """
    with OtlpReceiver() as receiver:
        exporters = {"otlp": SpanExporter(OtlpHttpSink(receiver.url, timeout=2), name="otlp", limits=limits)}
        manager = ExporterManager.from_exporters(exporters)

        async def run(names: list[str]) -> None:
            async with manager.get().start(ContextState()):
                for name in names:
                    with step("tool", name) as current:
                        current.output = PAYLOAD + name

        async with ObservabilityRuntime(exporters, shutdown_timeout=60) as runtime:
            await run(["before"])
            await manager.flush()
            await asyncio.to_thread(receiver.stop)
            tracemalloc.start()
            base, began, number = tracemalloc.get_traced_memory()[0], time.monotonic(), 0
            while number < items or time.monotonic() < began + seconds:
                await run([f"during {number + each}" for each in range(10)])
                number += 10
                await asyncio.sleep(PAUSE if seconds else 0)
            most = tracemalloc.get_traced_memory()[1] - base
            tracemalloc.stop()
            await asyncio.to_thread(receiver.start)
            await run(["after"])
            # Until the breaker lets a probe through: a shutdown would give each batch its last try at once.
            await nothing_pending(runtime)
            ledger = runtime.health().ledger
        arrived = {span.name.removeprefix("execute_tool ") for span in receiver.spans}
        assert len({span.span_id for span in receiver.spans}) == len(arrived)
    recorded = {"before", "after", *(f"during {each}" for each in range(number))}
    assert ledger.adds_up
    assert not ledger.failed
    return recorded, arrived, sum(ledger.dropped.values()), most


def limits_with(**others: object) -> DeliveryLimits:
    """Return limits with a small queue and short waits."""
    return DeliveryLimits(queue_bytes=QUEUE_BYTES, batch_items=20, **{**QUICKLY, **others})  # type: ignore[arg-type]


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
    """What is recorded while the back end is away, twice what the queue holds, arrives when it is back."""
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


# In a process of its own, whose resident memory is that of the delivery alone: of SQLite too, and of what it leaves
# to the allocator. Its back end keeps nothing; runs end, and their reports are never read.
_LONG_OUTAGE = """
    import asyncio, re, sys
    from pathlib import Path
    from nat_observability import DeliveryLimits, ExporterManager, ObservabilityRuntime, SpanExporter
    from tests.delivery.backends import Backend, quick_limits, record
    from tests.delivery.pending import nothing_pending

    QUEUE_BYTES = 8 * 1024 * 1024

    class Counting(Backend):
        delivered = 0

        async def write(self, batch):
            await super().write(batch)
            self.delivered += len(self.taken)
            self.taken.clear()

    def memory(key):
        return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    async def main():
        sink = Counting(down=True)
        limits = quick_limits(Path(sys.argv[1]), sys.argv[2], queue_bytes=QUEUE_BYTES, batch_items=200)
        exporters = {"main": SpanExporter(sink, name="main", limits=limits)}
        manager = ExporterManager.from_exporters(exporters)
        runtime = ObservabilityRuntime(exporters)

        async def record_many(items):
            for _ in range(items // 2000):
                await asyncio.gather(*(record(manager, range(100), input="." * 100) for _ in range(20)))

        async with runtime:
            # What any use costs is there before it is measured.
            sink.down = False
            await record_many(4000)
            await nothing_pending(runtime)
            sink.down, sink.delivered = True, 0
            base = memory("VmRSS")
            await record_many(int(sys.argv[3]))
            spooled = runtime.health().exporters["main"].spooled
            down = memory("VmHWM") - base
            assert runtime.health().ledger.dropped == {}, runtime.health()
            sink.down = False
            await nothing_pending(runtime)
            assert sink.delivered == int(sys.argv[3]), sink.delivered
            up = memory("VmHWM") - base
        print(spooled, down / QUEUE_BYTES, up / QUEUE_BYTES)

    asyncio.run(main())
"""


@pytest.mark.timeout(300)  # a few seconds of work, and more on a busy machine
@pytest.mark.parametrize(
    ("spool", "items"),
    [
        ("always", 40_000),
        pytest.param("always", 200_000, marks=pytest.mark.slow),
        pytest.param("spill", 200_000, marks=pytest.mark.slow),
    ],
)
def test_g7_memory_is_bounded_however_much_is_in_the_spool(tmp_path: Path, spool: str, items: int) -> None:
    """Two hundred thousand spans of two thousand runs wait in the spool, and go out, in the queue's memory."""
    done = run_program(_LONG_OUTAGE, tmp_path, spool, items, timeout=280.0)
    spooled, down, up = map(float, done.stdout.splitlines()[-1].split())
    assert spooled > items - 10_000
    assert down <= 1.2
    assert up <= 1.2
    print(f"{spool}: {spooled:.0f} spans in the spool, memory {down:.2f} of the queue's bytes, then {up:.2f}")
