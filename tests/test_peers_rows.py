"""Rows of "What breaks in the reference implementation" that name G6 or G8 and are tested nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing

from nat_observability import ContextState, step
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.events import IntermediateStep
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.otlp.http import OtlpHttpSink
from nat_observability.testing import until
from tests.delivery.virtual import now, virtual_time
from tests.otlp_receiver import Hang, OtlpReceiver


class CleaningUp(BaseExporter):
    """A custom exporter that takes that many seconds to end a run."""

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


def to_otlp(url: str) -> SpanExporter:
    """An exporter that sends each span as soon as it has it."""
    return SpanExporter(OtlpHttpSink(url), name="otlp", limits=DeliveryLimits(batch_items=1))


async def three_runs(exporter: SpanExporter) -> list[LedgerSnapshot | None]:
    """Record three runs, one after the other, and return what the report of each says when it has ended."""
    ledgers: list[LedgerSnapshot | None] = []
    for _ in range(3):
        manager = ExporterManager.from_exporters({"otlp": exporter})
        async with manager.start(ContextState()):
            for _ in range(5):
                with step("tool", "search"):
                    await asyncio.sleep(0)
        ledgers.append(manager.report.ledger)
    return ledgers


async def test_g8_a_back_end_that_hangs_holds_up_no_run_and_no_loop() -> None:
    """It has the first span and does not answer: runs begin and end on this loop meanwhile."""
    with OtlpReceiver() as receiver:
        receiver.behave(Hang(), Hang())
        exporter = to_otlp(receiver.url)
        async with ObservabilityRuntime({"otlp": exporter}, shutdown_timeout=0.2) as runtime:
            first = await three_runs(exporter)
            await until(lambda: receiver.requests)
            assert await three_runs(exporter) == first == [LedgerSnapshot(accepted=5, pending=5)] * 3
        ledger = runtime.health().ledger
        assert (ledger.accepted, ledger.delivered, ledger.pending, ledger.adds_up) == (30, 0, 0, True)


async def test_g8_refused_connections_cost_a_run_nothing() -> None:
    """No server listens: the runs do not wait for the tries that go on, and their spans are not given up."""
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))  # so that no other process gets the port
        exporter = to_otlp(f"http://127.0.0.1:{unheard.getsockname()[1]}")
        async with ObservabilityRuntime({"otlp": exporter}, shutdown_timeout=5.0) as runtime:
            first = await three_runs(exporter)
            await until(lambda: exporter.delivery.health().last_error)
            assert await three_runs(exporter) == first == [LedgerSnapshot(accepted=5, pending=5)] * 3
        ledger = runtime.health().ledger
        assert (ledger.accepted, ledger.failed, ledger.pending, ledger.adds_up) == (30, 30, 0, True)
