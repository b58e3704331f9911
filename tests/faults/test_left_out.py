"""An exporter that hangs costs the others, and later runs, nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

from structlog.testing import capture_logs

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    LedgerSnapshot,
    SpanExporter,
    step,
)
from nat_observability.delivery.delivery import Delivery
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.stream import EventStream
from tests.delivery.virtual import RunningLoop, settle, virtual_time
from tests.processes import run_program
from tests.virtual_time import now


@virtual_time
async def test_g1_a_run_does_not_wait_for_a_sink_that_hung_when_the_process_started() -> None:
    """The runtime has left it out: runs begin at once, whatever their own start timeout is."""

    class Hangs:
        async def open(self) -> None:
            await asyncio.Event().wait()

        async def write(self, batch: Batch) -> None:
            """Write nothing."""

        async def close(self) -> None:
            """Close nothing."""

    delivery = Delivery("hangs", Hangs(), loop_source=RunningLoop())
    try:
        await left_out(delivery, start_timeout=1.0)
    finally:
        delivery.abandon()
        await settle()


async def test_g1_a_run_does_not_wait_for_a_blocking_sink_that_hung_when_the_process_started() -> None:
    """Just the same, with a thread that hangs."""
    let_go = threading.Event()

    class Hangs:
        def open(self) -> None:
            let_go.wait(15.0)

        def write(self, batch: Batch) -> None:
            """Write nothing."""

        def close(self) -> None:
            """Close nothing."""

    delivery = Delivery("hangs", Hangs())
    try:
        await left_out(delivery, start_timeout=0.05)
    finally:
        let_go.set()
        await asyncio.wrap_future(delivery.closed())


@virtual_time
async def test_g20_what_a_late_exporter_misses_is_queued_or_counted() -> None:
    """Without a runtime: a run that it held up once goes on; it gets the run's items when it opens, or loses them."""
    opened = asyncio.Event()
    taken: list[str] = []

    class Late:
        async def open(self) -> None:
            await opened.wait()

        async def write(self, batch: Batch) -> None:
            taken.extend(item.name for item in batch)

        async def close(self) -> None:
            """Close nothing."""

    delivery = Delivery("late", Late(), limits=DeliveryLimits(open_timeout=60), loop_source=RunningLoop())
    manager = ExporterManager(start_timeout=1.0)
    manager.add_exporter("late", SpanExporter(delivery))
    with capture_logs() as lines:
        async with manager.start(ContextState()) as first:
            with step("tool", "first"):
                pass
            began = now()
            async with manager.get().start(ContextState()):  # a second run does not wait for it again
                with step("tool", "second"):
                    pass
            assert now() - began < 1.0
            assert first.report.ledger.pending == 1
            opened.set()
        await asyncio.wrap_future(delivery.closed())
        assert sorted(taken) == ["first", "second"]
        assert delivery.health().ledger == LedgerSnapshot(2, 2)

        opened.clear()
        async with manager.start(ContextState()):
            with step("tool", "lost"):
                pass
        await asyncio.wrap_future(delivery.closed())
    assert delivery.health().ledger == LedgerSnapshot(3, 2, dropped={"not_open": 1})
    events = [line["event"] for line in lines if line["log_level"] in ("warning", "error")]
    assert events == ["exporter_start_failed", "exporter_start_failed", "delivery_dropped"]


async def test_g7_runs_whose_exporter_does_not_open_are_not_kept_in_memory() -> None:
    """All of them get the one error that opening it has raised, which is kept: it must not keep them."""

    class Fails:
        async def open(self) -> None:
            raise OSError("not there")

        async def write(self, batch: Batch) -> None:
            """Write nothing."""

        async def close(self) -> None:
            """Close nothing."""

    delivery = Delivery("fails", Fails(), loop_source=RunningLoop())
    manager = ExporterManager.from_exporters({"fails": SpanExporter(delivery)})
    streams: list[weakref.ref[EventStream]] = []

    async def record() -> None:
        state = ContextState()
        streams.append(weakref.ref(state.stream))
        async with manager.get().start(state) as own:
            pass
        assert own.report.exporters["fails"].error == "OSError: not there"

    for _ in range(5):
        await record()
    gc.collect()
    assert [stream() for stream in streams] == [None] * 5


async def test_g6_what_is_recorded_while_an_exporter_opens_goes_to_the_disk(tmp_path: Path) -> None:
    """A sink that hangs when it is opened holds up no end of a run that waits for the spool."""
    opened = threading.Event()

    class Hangs:
        async def open(self) -> None:
            while not opened.is_set():  # noqa: ASYNC110  it is set by another thread
                await asyncio.sleep(0.001)

        async def write(self, batch: Batch) -> None:
            """Take everything."""

        async def close(self) -> None:
            """Close nothing."""

    limits = DeliveryLimits(spool="always", spool_path=tmp_path, open_timeout=1e6)
    exporters = {"hangs": SpanExporter(Hangs(), name="hangs", limits=limits)}
    async with ObservabilityRuntime(exporters, start_timeout=0.05):
        manager = ExporterManager.from_exporters(exporters, shutdown_timeout=15.0)
        async with manager.start(ContextState()):
            with step("tool", "t"):
                pass
        report = manager.report.exporters["hangs"]
        opened.set()
        assert report.state == "stopped"
        assert report.ledger == LedgerSnapshot(1, pending=1)
    assert exporters["hangs"].delivery.health().ledger == LedgerSnapshot(1, 1)


async def left_out(delivery: Delivery, *, start_timeout: float) -> None:
    """Open a runtime that leaves the exporter out; start a run that may wait ten seconds, and give it two."""
    exporters = {"hangs": SpanExporter(delivery)}
    async with ObservabilityRuntime(exporters, start_timeout=start_timeout):
        manager = ExporterManager(start_timeout=10.0)
        manager.add_exporter("hangs", exporters["hangs"])
        async with asyncio.timeout(2.0), manager.start(ContextState()):
            pass


def test_g8_a_shutdown_delivers_what_is_beside_a_sink_that_blocks_the_delivery_thread(tmp_path: Path) -> None:
    """Within the time that the shutdown has: the innocent exporter loses nothing."""
    path = tmp_path / "steps.jsonl"
    run_program(
        """
        import asyncio, pathlib, sys, threading, time
        from nat_observability import ContextState, ExporterManager, SpanExporter, step
        from nat_observability.runtime import ObservabilityRuntime
        from nat_observability.sinks import FileSink

        blocks, path = threading.Event(), pathlib.Path(sys.argv[1])

        async def stuck(batch):
            blocks.set()
            while not path.exists() or path.read_text().count("\\n") < 20:
                time.sleep(0.01)

        guilty = {"stuck": SpanExporter(stuck, name="stuck")}
        both = guilty | {"file": SpanExporter(FileSink(sys.argv[1]), name="file")}

        async def record(exporters, count):
            async with ExporterManager.from_exporters(exporters).start(ContextState()):
                for number in range(count):
                    with step("tool", str(number)):
                        pass

        async def main():
            async with ObservabilityRuntime(both, shutdown_timeout=10.0):
                await record(guilty, 1)
                assert await asyncio.to_thread(blocks.wait, 10)
                await record(both, 20)

        asyncio.run(main())
        """,
        path,
    )
    assert len(path.read_text().splitlines()) == 20


def test_g2_a_shutdown_returns_though_nothing_reads_what_its_lines_go_to() -> None:
    """The console's thread and then the log block on a full pipe: what waits is counted, and the caller goes on."""
    done = run_program(
        """
        import asyncio, os
        from nat_observability import ContextState, ExporterManager, SpanExporter, step
        from nat_observability.runtime import ObservabilityRuntime
        from nat_observability.sinks import ConsoleSink

        _unread, pipe = os.pipe()
        os.set_blocking(pipe, False)
        try:
            while True:
                os.write(pipe, bytes(4096))
        except BlockingIOError:
            os.set_blocking(pipe, True)
        os.dup2(pipe, 2)
        exporters = {"console": SpanExporter(ConsoleSink(), name="console")}

        async def main():
            runtime = ObservabilityRuntime(exporters, shutdown_timeout=0.2)
            await runtime.init()
            async with ExporterManager.from_exporters(exporters).start(ContextState()):
                with step("tool", "t"):
                    pass
            report = await runtime.shutdown()
            print(report.abandoned, report.exporters["console"].ledger.dropped, flush=True)

        asyncio.run(main())
        os._exit(0)  # the end of the interpreter waits for the locks of stderr
        """
    )
    assert done.stdout.strip() == "('console',) {'shutdown_timeout': 1}"
