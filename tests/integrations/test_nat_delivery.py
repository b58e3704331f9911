"""The toolkit's own exporters under our manager: what their runs export arrives, also when the run's loop ends."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nat.builder", reason="the NeMo Agent Toolkit is installed apart. Cure: make test-nat")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from nat.builder.context import Context
    from nat.builder.context import ContextState as ToolkitState
    from nat.data_models.intermediate_step import (
        IntermediateStep,
        IntermediateStepPayload,
        IntermediateStepType,
        StreamEventData,
    )
    from nat.data_models.invocation_node import InvocationNode
    from nat.data_models.span import Span as ToolkitSpan
    from nat.observability.exporter.file_exporter import FileExporter
    from nat.observability.exporter.raw_exporter import RawExporter
    from nat.observability.exporter.span_exporter import SpanExporter
    from nat.observability.processor.batching_processor import BatchingProcessor

from nat_observability import ExporterManager, LedgerSnapshot
from nat_observability.integrations.nat import close_deliveries, ledger_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages that the toolkit imports
    pytest.mark.timeout(60),
]


class Slow(RawExporter[IntermediateStep, IntermediateStep]):  # type: ignore[misc]
    """Takes 10 ms for each event."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []

    async def export_processed(self, item: Any) -> None:
        await asyncio.sleep(0.01)
        self.got.append(item.payload.UUID)


class Batched(RawExporter[IntermediateStep, IntermediateStep]):  # type: ignore[misc]
    """Exports in batches of 100, by a processor that all runs share."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.add_processor(BatchingProcessor[IntermediateStep](batch_size=100, flush_interval=60.0))

    async def export_processed(self, item: Any) -> None:
        await asyncio.sleep(0.01)
        self.batches.append(len(item))


class Spans(SpanExporter[ToolkitSpan, ToolkitSpan]):  # type: ignore[misc]
    """Exports spans, which the toolkit makes of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []

    async def export_processed(self, item: Any) -> None:
        await asyncio.sleep(0.01)
        self.got.append(item.name)


class Failing(Slow):
    """Fails with every other event."""

    async def export_processed(self, item: Any) -> None:
        if int(item.payload.UUID) % 2:
            raise ConnectionError("down")
        await super().export_processed(item)


def event(kind: IntermediateStepType, number: int) -> Any:
    return IntermediateStep(
        parent_id="root",
        function_ancestry=InvocationNode(function_name="f", function_id="f"),
        payload=IntermediateStepPayload(
            event_type=kind,
            UUID=str(number),
            name=f"step {number}",
            data=StreamEventData(input="x", output="y"),
        ),
    )


def one_run(manager: ExporterManager, count: int, *, first: int = 0, threads: bool = False) -> None:
    """A run in an event loop of its own that pushes so many events, and is over before any could be exported."""

    async def main() -> None:
        state = ToolkitState.get()
        Context.get()
        async with manager.get().start(state):
            stream = state.event_stream.get()

            def push() -> None:
                for number in range(first, first + count):
                    stream.on_next(event(IntermediateStepType.TOOL_START, number))
                    stream.on_next(event(IntermediateStepType.TOOL_END, number))

            if threads:
                await asyncio.to_thread(push)
            else:
                push()

    asyncio.run(main())


def settled(exporter: object) -> LedgerSnapshot:
    """What became of it, when nothing is pending any more."""
    deadline = time.monotonic() + 30
    while True:
        ledger = ledger_of(exporter)
        assert ledger is not None
        if not ledger.pending or time.monotonic() > deadline:
            return ledger
        time.sleep(0.005)


@pytest.mark.parametrize("threads", [False, True], ids=["in the loop", "in a thread"])
def test_nothing_of_a_run_that_ends_is_lost(threads: bool) -> None:
    """1000 events, 10 ms each: under the toolkit 0 arrive. In a thread too, where it has no loop at all."""
    exporter = Slow()
    one_run(ExporterManager.from_exporters({"slow": exporter}), 500, threads=threads)
    ledger = settled(exporter)
    assert len(exporter.got) == 1000
    assert ledger.accepted - 1 == 1000  # and the end of the run
    assert ledger.delivered == ledger.accepted


def test_the_toolkit_s_file_has_every_line(tmp_path: Path) -> None:
    """In order."""
    path = tmp_path / "steps.jsonl"
    exporter = FileExporter(output_path=str(path), project="p")
    one_run(ExporterManager.from_exporters({"file": exporter}), 500)
    settled(exporter)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["payload"]["UUID"] for line in lines] == [str(n) for n in range(500) for _ in range(2)]


def test_spans_arrive_too() -> None:
    """One for each step."""
    exporter = Spans()
    one_run(ExporterManager.from_exporters({"spans": exporter}), 300)
    settled(exporter)
    assert len(exporter.got) == 300


def test_a_run_s_end_sends_its_batches_and_leaves_those_of_others() -> None:
    """Under the toolkit the first run to end shuts the batches down, and a whole number of them is never awaited."""
    exporter = Batched()
    manager = ExporterManager.from_exporters({"batched": exporter})
    for run in range(3):
        one_run(manager, 75, first=run)
    settled(exporter)
    assert exporter.batches == [100, 50] * 3
    assert close_deliveries(10)


def test_what_fails_is_counted() -> None:
    """And logged once; the rest arrives."""
    exporter = Failing()
    one_run(ExporterManager.from_exporters({"failing": exporter}), 50)
    ledger = settled(exporter)
    assert (ledger.failed, ledger.delivered - 1) == (50, 50)
    assert len(exporter.got) == 50


def test_an_exporter_that_is_gone_leaves_nothing() -> None:
    """Its delivery drains and closes; the leak check of these tests finds no thread."""
    exporter = Slow()
    one_run(ExporterManager.from_exporters({"slow": exporter}), 1)
    settled(exporter)
    del exporter
    gc.collect()


def test_a_run_after_a_close_exports_again() -> None:
    """As a server that was reloaded does."""
    exporter = Slow()
    manager = ExporterManager.from_exporters({"slow": exporter})
    for run in range(2):
        one_run(manager, 1, first=run)
        assert close_deliveries(10)
    assert exporter.got == ["0", "0", "1", "1"]
