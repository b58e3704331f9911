"""G1, G6, G8: sinks that block in every way, beside exporters that work: those start, deliver and end as if alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from nat_observability import BaseExporter, ContextState, DeliveryLimits, ExporterManager, SpanExporter, step
from nat_observability.events import Item
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.testing import until

_RUNS = 20


class Works:
    """Takes everything."""

    def __init__(self, let_go: threading.Event) -> None:
        self.let_go = let_go
        self.names: list[str] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: list[Item]) -> None:
        self.names += [item.name for item in batch]

    async def close(self) -> None:
        """Nothing to close."""


class BlocksItsLoop(Works):
    async def write(self, batch: list[Item]) -> None:
        self.let_go.wait(15)


class BlocksAtOpen(Works):
    async def open(self) -> None:
        self.let_go.wait(15)


class BlocksItsThread:
    def __init__(self, let_go: threading.Event) -> None:
        self.let_go = let_go

    def open(self) -> None:
        """Nothing to open."""

    def write(self, batch: list[Item]) -> None:
        self.let_go.wait(15)

    def close(self) -> None:
        """Nothing to close."""


class BlocksItsThreadAtOpen(BlocksItsThread):
    def open(self) -> None:
        self.let_go.wait(15)


class NeverReturns(Works):
    async def write(self, batch: list[Item]) -> None:
        await asyncio.Event().wait()


class SwallowsCancellation(Works):
    async def write(self, batch: list[Item]) -> None:
        while not self.let_go.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)


class SwallowsCancellationAtOpen(Works):
    async def open(self) -> None:
        while not self.let_go.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)


class BlocksAtClose(Works):
    async def close(self) -> None:
        self.let_go.wait(15)


STUCK: dict[str, Callable[[threading.Event], object]] = {
    kind.__name__: kind
    for kind in (
        BlocksItsLoop,
        BlocksAtOpen,
        BlocksItsThread,
        BlocksItsThreadAtOpen,
        NeverReturns,
        SwallowsCancellation,
        SwallowsCancellationAtOpen,
        BlocksAtClose,
    )
}


@pytest.mark.may_block  # the sinks do
async def test_g8_five_exporters_beside_sinks_that_block_in_every_way() -> None:
    """Runs begin, everything reaches the five while the others are stuck, and a shutdown loses nothing of theirs."""
    let_go = threading.Event()

    def processor(item: Item) -> Item:
        let_go.wait(15)
        return item

    limits = DeliveryLimits(batch_age=0.001)
    working = {f"works-{number}": Works(let_go) for number in range(5)}
    exporters: dict[str, BaseExporter] = {
        name: SpanExporter(kind(let_go), name=name, limits=limits)  # type: ignore[arg-type]
        for name, kind in STUCK.items()
    }
    exporters["Processor"] = SpanExporter(
        Works(let_go), name="Processor", limits=limits, processors=[processor]
    )
    exporters |= {name: SpanExporter(sink, name=name, limits=limits) for name, sink in working.items()}
    manager = ExporterManager.from_exporters(exporters, shutdown_timeout=5)
    expected = [str(number) for number in range(_RUNS)]
    before = set(threading.enumerate())
    try:
        async with ObservabilityRuntime(exporters, start_timeout=0.1, shutdown_timeout=0.3) as runtime:
            for number in range(_RUNS):
                async with manager.get().start(ContextState()):
                    with step("tool", str(number)):
                        pass
                if number == _RUNS // 2:
                    await until(lambda: all(len(sink.names) > _RUNS // 2 for sink in working.values()))
            assert not let_go.is_set()
        for name, health in runtime.health().exporters.items():
            assert health is not None
            assert health.ledger.adds_up
            assert health.ledger.accepted == _RUNS, name
            if name in working:
                assert health.ledger.delivered == _RUNS, (name, health)
        assert all(sink.names == expected for sink in working.values())
    finally:
        let_go.set()
    await until(lambda: set(threading.enumerate()) <= before, timeout=15)
