"""The spool in a delivery: what is on the disk and when, what comes back, in which order, and the counts."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery import locking
from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Entry, Lease, Route
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits, SpoolMode
from nat_observability.delivery.spool_client import SpoolClient
from nat_observability.delivery.state import DeliveryHealth, DeliveryState
from nat_observability.errors import ExporterStartError, RefusedForNowError, RetryableWriteError, SinkError
from nat_observability.events import Item, Span
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.spool.record import encode_item
from nat_observability.spool.spool import Spool
from nat_observability.testing import until
from tests.delivery import leases
from tests.delivery.backends import Backend, exporter_of, in_spool, quick_limits, record
from tests.delivery.by_hand import ByHand
from tests.delivery.sinks import ScriptedSink
from tests.delivery.virtual import RunningLoop, now, virtual_time
from tests.processes import run_program
from tests.sinks.builders import make_span, make_step

SPOOLING = ["spill", "always"]


def runtime_of(exporters: dict[str, SpanExporter], shutdown_timeout: float = 10.0) -> ObservabilityRuntime:
    return ObservabilityRuntime(exporters, shutdown_timeout=shutdown_timeout)


def health_of(runtime: ObservabilityRuntime) -> DeliveryHealth:
    health = runtime.health().exporters["main"]
    assert health is not None
    return health


def numbers(stop: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, stop)]


def files_in(directory: Path, pattern: str = "*") -> list[Path]:
    return sorted(directory.glob(pattern))


def sizes_in(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in files_in(directory)}


def leave(directory: Path, records: list[bytes]) -> None:
    """Leave records in a spool as a former process would have done."""
    with Spool(directory, exporter="main", max_bytes=1 << 20) as spool:
        spool.append(records, taken=False)


async def left_in(directory: Path, count: int) -> list[Item]:
    """Wait until a spool that was abandoned is closed, and return its records, once there are this many."""
    left: list[Item] = []

    async def look() -> bool:
        left[:] = await asyncio.to_thread(in_spool, directory)
        return bool(left)

    deadline = asyncio.get_running_loop().time() + 10.0
    while not await look():
        assert asyncio.get_running_loop().time() < deadline
    assert len(left) == count
    return left


async def left_by_a_runtime(directory: Path, names: Iterable[str], **others: Any) -> None:
    """Record steps of these names in a runtime whose back end is down, and which is closed before it is up."""
    exporters = exporter_of(Backend(down=True), quick_limits(directory, "always", **others))
    async with runtime_of(exporters):
        await record(ExporterManager.from_exporters(exporters), names)


# Always: on the disk when the run has ended

_KILLED_AFTER_ITS_RUNS = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from nat_observability import ExporterManager, ObservabilityRuntime
    from tests.delivery.backends import Backend, exporter_of, quick_limits, record

    async def main():
        exporters = exporter_of(Backend(hangs=True), quick_limits(Path(sys.argv[1]), "always"))
        async with ObservabilityRuntime(exporters):
            manager = ExporterManager.from_exporters(exporters)
            await asyncio.gather(*(record(manager, [f"{run}-{n}" for n in range(7)]) for run in range(20)))
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


def test_g6_when_a_run_has_ended_its_steps_are_on_the_disk(tmp_path: Path) -> None:
    """With `always`, a SIGKILL right after the `async with` blocks of twenty runs loses none of their spans."""
    run_program(_KILLED_AFTER_ITS_RUNS, tmp_path, status=-9)
    spans = [item for item in in_spool(tmp_path) if isinstance(item, Span)]
    assert sorted(span.name for span in spans) == sorted(f"{run}-{n}" for run in range(20) for n in range(7))
    assert len({span.span_id for span in spans}) == 140
    assert len({span.run.run_id for span in spans}) == 20


# Reads the log of a database that another process has open; in that one, it would release its lock.
_COUNT_COMMITS = """
    import struct, sys
    log = open(sys.argv[1], "rb").read()
    page_size, salt = struct.unpack_from(">8xI", log)[0], log[16:24]
    frames = (log[at : at + 24] for at in range(32, len(log) - 23, 24 + page_size))
    # A frame ends a transaction if it holds the database's size (https://sqlite.org/fileformat2.html).
    print(sum(1 for frame in frames if frame[8:16] == salt and any(frame[4:8])))
"""


async def test_one_commit_serves_many_runs(tmp_path: Path) -> None:
    """Two hundred runs that end at once share some commits; the log of the database shows how many."""
    source = RunningLoop()
    limits = quick_limits(tmp_path, "always")
    delivery = Delivery("main", Backend(hangs=True), limits=limits, loop_source=source)
    runs = [delivery.lease() for _ in range(200)]
    for run in runs:  # nothing is awaited, so that the delivery has its first turn when all have recorded
        for name in numbers(3):
            run.accept(make_span(name=name))
    await asyncio.gather(*[asyncio.wrap_future(run.saved()) for run in runs])
    [log] = files_in(tmp_path, "*-wal")
    counted = await asyncio.to_thread(run_program, _COUNT_COMMITS, log)
    delivery.abandon()
    await until(lambda: not source.users)
    assert 1 <= int(counted.stdout) <= 10
    await left_in(tmp_path, 600)


async def test_a_run_whose_items_are_dropped_ends_all_the_same(tmp_path: Path) -> None:
    """A run waits for the disk only for what will be there: not for what found no room in the queue."""
    exporters = exporter_of(
        Backend(hangs=True), quick_limits(tmp_path, "always", queue_items=5, batch_items=5, queue_bytes=9000)
    )
    runtime = runtime_of(exporters, shutdown_timeout=0.2)
    async with runtime:
        manager = await record(
            ExporterManager.from_exporters(exporters), ["large", *numbers(50)], input="." * 5000
        )
        ledger = manager.report.ledger
        assert ledger.accepted == 51
        assert ledger.dropped["queue_full"] + ledger.pending == 51
    await left_in(tmp_path, ledger.pending)


@pytest.mark.parametrize("spool", ["spill", "always"])
async def test_g5_what_the_back_end_refuses_is_counted_once(tmp_path: Path, spool: SpoolMode) -> None:
    """For its run and for the exporter, and it does not stay in the spool."""

    async def refusing(batch: Batch) -> None:
        raise ValueError("no such field")

    exporters = {"main": SpanExporter(refusing, name="main", limits=quick_limits(tmp_path, spool))}
    runtime = runtime_of(exporters)
    async with runtime:
        manager = await record(ExporterManager.from_exporters(exporters), numbers(3))
        await until(lambda: not health_of(runtime).ledger.pending)
        assert manager.report.ledger == health_of(runtime).ledger == LedgerSnapshot(accepted=3, failed=3)
        assert health_of(runtime).spooled == 0


# Spill: only what does not fit


async def test_g7_spill_keeps_what_overflows_and_sends_it_in_order(tmp_path: Path) -> None:
    """While the back end is down the queue overflows to the disk; then all is delivered, that part in its order."""
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, "spill", queue_items=100))
    runtime = runtime_of(exporters)
    async with runtime:
        manager = ExporterManager.from_exporters(exporters)
        for start in range(0, 1000, 20):
            await record(manager, numbers(start + 20, start))

        def has_spilled() -> bool:
            """All are in the queue, at the back end or on the disk, and none on its way there."""
            health = health_of(runtime)
            counted = health.spooled + health.queue_depth + health.in_flight
            return health.in_flight > 0 and health.queue_depth < 50 and counted == 1000

        await until(has_spilled)
        health = health_of(runtime)
        assert health.spooled > 900
        sink.down = False
        await until(lambda: health_of(runtime).ledger.delivered == 1000)
    assert sorted(sink.names, key=int) == numbers(1000)
    in_memory = 1000 - health.queue_depth
    spilled = [name for name in sink.names if health.in_flight <= int(name) < in_memory]
    assert spilled == sorted(spilled, key=int)
    assert files_in(tmp_path) == []


async def test_spill_touches_the_disk_only_if_it_has_to(tmp_path: Path) -> None:
    """As long as the back end keeps up, nothing is written to the spool."""
    sink = Backend()
    exporters = exporter_of(sink, quick_limits(tmp_path, "spill"))
    runtime = runtime_of(exporters)
    async with runtime:
        empty = sizes_in(tmp_path)
        for _ in range(20):
            await record(ExporterManager.from_exporters(exporters), numbers(10))
        await until(lambda: health_of(runtime).ledger.delivered == 200)
        assert sizes_in(tmp_path) == empty


async def test_g7_spill_counts_what_is_being_written_as_memory(tmp_path: Path) -> None:
    """A large batch that hangs fills the queue's bytes as well: what comes then is spilled and not dropped."""
    sink = Backend(hangs=True)
    limits = quick_limits(
        tmp_path, "spill", queue_bytes=100_000, batch_items=60, batch_bytes=60_000, batch_age=60.0
    )
    exporters = exporter_of(sink, limits)
    runtime = runtime_of(exporters, shutdown_timeout=0.5)
    async with runtime:
        manager = ExporterManager.from_exporters(exporters)
        await record(manager, numbers(60), input="." * 300)
        await until(lambda: health_of(runtime).in_flight >= 55)
        for _ in range(40):
            await record(manager, numbers(5), input="." * 300)
        assert health_of(runtime).ledger.dropped == {}
        assert health_of(runtime).queue_bytes <= 100_000
    assert health_of(runtime).ledger.pending == 260


@pytest.mark.timeout(90)  # a second or two, which a machine that does much else draws out
async def test_g7_runs_that_end_wait_for_the_disk_rather_than_lose_steps(tmp_path: Path) -> None:
    """If runs record faster than the disk can write, they end a little later, and nothing is dropped."""
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, "spill", queue_items=200))
    runtime = runtime_of(exporters)
    async with runtime:
        manager = ExporterManager.from_exporters(exporters)
        for _ in range(100):
            await record(manager, numbers(50))
        assert health_of(runtime).ledger.dropped == {}
        sink.down = False
        await until(lambda: health_of(runtime).ledger.delivered == 5_000, timeout=60.0)
    assert len(set(sink.ids)) == len(sink.ids) == 5_000


# What a process leaves behind


@pytest.mark.parametrize("spool", SPOOLING)
async def test_g6_what_shutdown_could_not_send_is_sent_by_the_next_runtime(
    tmp_path: Path, spool: SpoolMode
) -> None:
    """What waits when the runtime closes stays in the spool, and goes out under the same ids, the oldest first."""
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, spool, batch_items=100, queue_items=100))
    runtime = runtime_of(exporters)
    async with runtime:
        for start in range(0, 300, 30):
            await record(ExporterManager.from_exporters(exporters), numbers(start + 30, start))
    assert health_of(runtime).state is DeliveryState.CLOSED
    assert health_of(runtime).ledger == LedgerSnapshot(accepted=300, pending=300)
    assert health_of(runtime).spooled == 300
    left = await left_in(tmp_path, 300)

    sink = Backend()
    exporters = exporter_of(sink, quick_limits(tmp_path, spool))
    runtime = runtime_of(exporters)
    async with runtime:
        await until(lambda: len(sink.taken) == 300)
    assert sink.taken == left
    assert sorted(sink.names, key=int) == numbers(300)
    if spool == "always":
        assert sink.names == numbers(300)
    assert health_of(runtime).ledger == LedgerSnapshot(accepted=300, delivered=300)
    assert files_in(tmp_path) == []


async def test_g6_abandoned_at_the_deadline_the_spool_keeps_what_it_has(tmp_path: Path) -> None:
    """A sink that hangs when the runtime closes is abandoned in time, and nothing is lost with it."""
    exporters = exporter_of(Backend(hangs=True), quick_limits(tmp_path, "spill"))
    runtime = runtime_of(exporters, shutdown_timeout=0.5)
    await runtime.init()
    await record(ExporterManager.from_exporters(exporters), numbers(100))
    with capture_logs() as lines:
        report = await runtime.shutdown()
    assert report.abandoned == ("main",)
    assert [line["lost"] for line in lines if line["event"] == "exporter_abandoned"] == [0]
    assert health_of(runtime).ledger == LedgerSnapshot(accepted=100, pending=100)
    await left_in(tmp_path, 100)

    sink = Backend()
    async with runtime_of(exporter_of(sink, quick_limits(tmp_path, "spill"))):
        await until(lambda: len(sink.taken) == 100)
    assert sorted(sink.names, key=int) == numbers(100)


@pytest.mark.parametrize("spool", SPOOLING)
async def test_without_a_runtime_a_failing_back_end_keeps_the_delivery_open(
    tmp_path: Path, spool: SpoolMode
) -> None:
    """What comes back from a back end that is down is sent when it is up, though the last run has long ended."""
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, spool, retry_for=0))
    manager = await record(ExporterManager.from_exporters(exporters), numbers(50))
    await until(lambda: sink.tries > 10)
    assert manager.report.ledger.pending == 50
    sink.down = False
    await until(lambda: not exporters["main"].delivery.at_work)
    assert sorted(sink.names, key=int) == numbers(50)
    assert manager.report.ledger == LedgerSnapshot(accepted=50, delivered=50)


@pytest.mark.parametrize("spool", SPOOLING)
def test_g6_a_process_that_shuts_nothing_down_leaves_what_it_could_not_send(
    tmp_path: Path, spool: SpoolMode
) -> None:
    """At interpreter exit, after its loops have ended, what the back end does not take is on the disk."""
    code = """
        import asyncio, sys
        from pathlib import Path
        from nat_observability import ExporterManager
        from tests.delivery.backends import Backend, exporter_of, quick_limits, record

        exporters = exporter_of(Backend(down=True), quick_limits(Path(sys.argv[1]), sys.argv[2]))
        for job in range(5):
            asyncio.run(record(ExporterManager.from_exporters(exporters), [f"{job}-{n}" for n in range(20)]))
    """
    run_program(code, tmp_path, spool)
    assert sorted(item.name for item in in_spool(tmp_path)) == sorted(
        f"{job}-{n}" for job in range(5) for n in range(20)
    )


async def test_an_exporter_that_is_opened_again_knows_whose_its_records_are(tmp_path: Path) -> None:
    """What stayed in the spool between two runtimes is settled for the run that recorded it, and counted once."""
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, "always"))
    await left_by_a_runtime(tmp_path, ["stranger"])
    runtime = runtime_of(exporters)
    async with runtime:
        first = await record(ExporterManager.from_exporters(exporters), numbers(30))
        second = await record(ExporterManager.from_exporters(exporters), numbers(5))
    assert health_of(runtime).ledger == LedgerSnapshot(accepted=36, pending=36)
    # Meanwhile another process leaves something too: a file that is older by name has come in between.
    await asyncio.to_thread(leave, tmp_path / "elsewhere", [encode_item(make_span(name="other"))])
    [file] = (tmp_path / "elsewhere").glob("*.sqlite3")
    file.rename(tmp_path / "spool-00000000T000000000000-1-00000000.sqlite3")
    async with runtime:
        sink.down = False
        await until(lambda: health_of(runtime).ledger.delivered == 37)
        assert (await first.flush()).complete
        assert first.report.ledger == LedgerSnapshot(accepted=30, delivered=30)
        assert second.report.ledger == LedgerSnapshot(accepted=5, delivered=5)
    assert health_of(runtime).ledger == LedgerSnapshot(accepted=37, delivered=37)
    assert Counter(sink.names).most_common(5) == [(name, 2) for name in numbers(5)]
    assert not list((tmp_path / "elsewhere").glob("*.sqlite3"))


# The books


class _ClosesLater(ScriptedSink):
    """Closes when it is let go."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.let_go = asyncio.Event()

    async def close(self) -> None:
        await super().close()
        await self.let_go.wait()


@pytest.mark.parametrize("spool", SPOOLING)
async def test_g5_what_a_last_call_did_not_send_is_sent_once_if_the_delivery_opens_again(
    tmp_path: Path, spool: SpoolMode
) -> None:
    """What was in memory and on the disk is read from the disk then, and no longer sent from memory too."""
    sink = _ClosesLater(OSError("down"))
    limits = quick_limits(tmp_path, spool, batch_items=2, batch_age=60.0, batches_in_flight=1)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    first = await leases.opened(delivery)
    leases.accept(first, 6)
    closed = asyncio.wrap_future(delivery.close())
    await until(lambda: "close" in sink.calls)
    second = delivery.lease()
    leases.accept(second, 1)
    second.release()
    sink.let_go.set()
    await closed
    await asyncio.wrap_future(delivery.closed())
    assert delivery.health().ledger == LedgerSnapshot(accepted=7, delivered=7)
    assert (first.ledger.delivered, second.ledger.delivered) == (6, 1)
    assert len(sink.taken) == 7


async def test_g5_the_ledgers_add_up_at_every_moment(tmp_path: Path) -> None:
    """While the back end comes and goes, the spool is too small and records expire, no count is ever wrong."""
    sink = Backend()
    limits = quick_limits(
        tmp_path,
        "always",
        retry_for=0,
        breaker_failures=1000,
        queue_bytes=100_000,
        spool_bytes=8_000,
        spool_age=0.5,
    )
    await left_by_a_runtime(tmp_path, numbers(20))
    exporters = exporter_of(sink, limits)
    runtime = runtime_of(exporters)
    managers: list[ExporterManager] = []
    odd: list[LedgerSnapshot] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            ledgers = [health_of(runtime).ledger, *(manager.report.ledger for manager in managers[-5:])]
            odd.extend(each for each in ledgers if not each.adds_up or each.pending < 0)

    async with runtime:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(60):
                sink.down = number % 15 != 0
                managers.append(await record(ExporterManager.from_exporters(exporters), numbers(20)))
            sink.down = True
            # The last of them waits in the spool until it is too old.
            await until(lambda: not health_of(runtime).ledger.pending)
        finally:
            done.set()
            watcher.join()
        ledger = health_of(runtime).ledger
    assert odd == []
    assert ledger.accepted == 1220
    assert ledger.delivered == len(sink.taken) == len(set(sink.ids)) > 0
    assert ledger.delivered + sum(ledger.dropped.values()) == 1220
    assert ledger.dropped["spool_full"] > 0
    assert ledger.dropped["spool_expired"] > 0
    assert set(ledger.dropped) >= {"spool_full", "spool_expired"}
    of_runs = [manager.report.ledger for manager in managers]
    assert [each.pending for each in of_runs] == [0] * 60
    lost_runs = sum(sum(each.dropped.values()) for each in of_runs)
    assert 0 <= sum(ledger.dropped.values()) - lost_runs <= 20  # of the twenty that were there before


async def test_what_former_processes_left_is_accepted_by_the_next(tmp_path: Path) -> None:
    """What is recovered counts as accepted, and what has expired meanwhile, or does not fit, as dropped."""
    await left_by_a_runtime(tmp_path, numbers(40))
    sink = Backend(down=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, "always", spool_bytes=3000))
    runtime = runtime_of(exporters)
    async with runtime:
        ledger = health_of(runtime).ledger
        assert (ledger.accepted, ledger.pending) == (40, 40 - ledger.dropped["spool_full"])
        assert 0 < ledger.pending < 40
        sink.down = False
        await until(lambda: not health_of(runtime).ledger.pending)
    assert sink.names == numbers(40, ledger.dropped["spool_full"])


async def test_g5_a_flush_waits_for_what_went_through_the_spool(tmp_path: Path) -> None:
    """A receipt tells what became of that run's items, read from the disk, sent again or still waiting there."""
    sink = Backend(down=True)
    limits = quick_limits(tmp_path, "always", retry_for=0, breaker_failures=1000)
    exporters = exporter_of(sink, limits)
    runtime = runtime_of(exporters)
    async with runtime:
        shared = ExporterManager.from_exporters(exporters)
        managers = await asyncio.gather(*(record(shared, numbers(30)) for _ in range(10)))
        # What has come back once is in memory no more.
        await until(lambda: health_of(runtime).spooled >= 290)
        receipt = await managers[3].flush(timeout=0.05)
        assert not receipt.complete
        assert receipt.exporters["main"] == LedgerSnapshot(accepted=30, pending=30)
        sink.down = False
        receipts = await asyncio.gather(*(manager.flush(timeout=10.0) for manager in managers))
    assert all(receipt.complete for receipt in receipts)
    assert [receipt.exporters["main"] for receipt in receipts] == [LedgerSnapshot(30, 30)] * 10
    assert len(sink.taken) == len(set(sink.ids)) == 300


async def test_a_flush_of_a_forgotten_run_ends_too(tmp_path: Path) -> None:
    """A flush still accounts for its run's items, though the run itself was forgotten meanwhile."""
    sink = Backend(down=True)
    delivery = Delivery("main", sink, limits=quick_limits(tmp_path, "always", retry_for=0))
    lease = delivery.lease()
    lease.accept(make_span())
    settled = lease.settled()
    lease.release()
    del lease
    gc.collect()
    await until(lambda: sink.tries > 3)
    sink.down = False
    await asyncio.wait_for(asyncio.wrap_future(settled), 10.0)
    await until(lambda: not delivery.at_work)


async def test_what_cannot_be_read_is_set_aside_and_counted(tmp_path: Path) -> None:
    """A record that is damaged, or of a newer version, stops no other; it stays in a file of its own."""
    good = make_span(name="good")
    damaged = bytearray(encode_item(good))
    damaged[-1] ^= 1
    await asyncio.to_thread(leave, tmp_path, [b"", bytes(damaged), encode_item(good), b"\xffnewer"])
    sink = Backend()
    runtime = runtime_of(exporter_of(sink, quick_limits(tmp_path, "always")))
    async with runtime:
        await until(lambda: not health_of(runtime).ledger.pending)
        assert health_of(runtime).ledger == LedgerSnapshot(4, 1, 0, 0, {"spool_rejected": 3})
    assert sink.taken == [good]
    [left] = files_in(tmp_path)
    assert "rejected" in left.name


async def test_an_item_that_cannot_be_a_record_is_sent_from_memory(tmp_path: Path) -> None:
    """A custom item that cannot be stored harms no other, and is delivered like them."""
    sink = Backend()
    delivery = Delivery("main", sink, limits=quick_limits(tmp_path, "always"))
    lease = delivery.lease()
    odd: Any = {"kind": object()}
    with capture_logs() as lines:
        for span in (make_span(name="1"), make_span(name="2", **odd), make_span(name="3")):
            lease.accept(span)
        await asyncio.wait_for(asyncio.wrap_future(lease.saved()), 10.0)
        lease.release()
        await until(lambda: not delivery.at_work)
    assert sorted(sink.names) == ["1", "2", "3"]
    assert [line["exporter"] for line in lines if line["event"] == "spool_failed"] == ["main"]


async def test_a_spool_without_room_for_what_is_being_sent_says_so(tmp_path: Path) -> None:
    """What the spool has no room for is sent from memory, and a line says what to change."""
    sink = Backend(hangs=True)
    exporters = exporter_of(sink, quick_limits(tmp_path, "always", spool_bytes=2000))
    runtime = runtime_of(exporters, shutdown_timeout=0.5)
    async with runtime:
        with capture_logs() as lines:
            manager = await record(ExporterManager.from_exporters(exporters), numbers(50))
            await until(lambda: any(line["event"] == "spool_failed" for line in lines))
        assert manager.report.ledger == LedgerSnapshot(accepted=50, pending=50)
    [line] = [line for line in lines if line["event"] == "spool_failed"]
    assert "no room" in line["error"]
    assert "spool_bytes" in line["error"]
    ledger = health_of(runtime).ledger
    assert ledger.pending + ledger.dropped["shutdown_timeout"] == 50
    await left_in(tmp_path, ledger.pending)


# The disk

_UNDER_A_LIMIT_ON_FILE_SIZES = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from structlog.testing import capture_logs
    from nat_observability import ExporterManager, ObservabilityRuntime
    from nat_observability.testing import until
    from tests.delivery.backends import Backend, exporter_of, quick_limits, record

    async def main():
        sink = Backend(down=True)
        limits = quick_limits(Path(sys.argv[1]), sys.argv[2], queue_items=400, queue_bytes=4_000_000)
        exporters = exporter_of(sink, limits)
        runtime = ObservabilityRuntime(exporters)
        async with runtime:
            manager = ExporterManager.from_exporters(exporters)
            await record(manager, range(0, 300))
            # The half that the queue is to keep free has to be on the disk before the disk refuses.
            def halved():
                health = runtime.health().exporters["main"]
                return health.queue_depth <= 200 and health.queue_depth + health.in_flight + health.spooled == 300
            if sys.argv[2] == "spill":
                await until(halved)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            with capture_logs() as lines:
                own = [await record(manager, range(300 + 20 * n, 320 + 20 * n), input="." * 500) for n in range(10)]
                if sys.argv[2] == "spill":
                    # The queue has to be bounded still.
                    await record(manager, ["too many"] * 1000)
                    dropped = runtime.health().ledger.dropped
                    assert list(dropped) == ["queue_full"], dropped
                    # And what comes back from the disk finds its place.
                    assert runtime.health().exporters["main"].queue_depth <= 800
                    assert runtime.health().exporters["main"].queue_bytes <= 4_000_000
                await until(lambda: any(line["event"] == "spool_failed" for line in lines))
            sink.down = False
            await until(lambda: not runtime.health().ledger.pending)
            assert all(one.report.ledger.delivered == 20 for one in own), [one.report.ledger for one in own]
        names = set(sink.names) - {"too many"}
        assert names == {str(number) for number in range(500)}, len(names)
        ledger = runtime.health().ledger
        assert ledger.delivered == len(sink.taken), (ledger, len(sink.taken))
        assert len({line["exporter"] for line in lines if line["event"] == "spool_failed"}) == 1
        [line, *others] = [line for line in lines if line["event"] == "spool_failed"]
        assert not others and "ulimit" in line["error"], (line, others)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main())
    print("passed")
"""


@pytest.mark.parametrize("spool", SPOOLING)
def test_a_disk_that_refuses_costs_nothing_but_the_safety(tmp_path: Path, spool: SpoolMode) -> None:
    """What cannot be saved is sent from memory, and runs end: it is logged once, as `spool_failed`, with what to do."""
    assert "passed\n" in run_program(_UNDER_A_LIMIT_ON_FILE_SIZES, tmp_path, spool).stdout


async def test_a_spool_that_cannot_be_used_is_an_error_at_start(tmp_path: Path) -> None:
    """A spool path that is a file is an error when the runtime opens; the others open, and runs go on without it."""
    (tmp_path / "file").write_bytes(b"")
    good, bad = Backend(), Backend()
    limits = quick_limits(tmp_path / "file" / "spool", "always")
    exporters: dict[str, BaseExporter] = {
        "bad": SpanExporter(bad, name="bad", limits=limits),
        "good": SpanExporter(good, name="good"),
    }
    with capture_logs() as lines:
        runtime = ObservabilityRuntime(exporters, shutdown_timeout=0.6)
        async with runtime:
            manager = await record(ExporterManager.from_exporters(exporters), ["a"])
            health = runtime.health().exporters["bad"]
    [line] = [
        line for line in lines if line["event"] == "exporter_start_failed" and "workflow_run_id" not in line
    ]
    assert "file is in the way" in line["error"]
    assert str(tmp_path) in line["error"]
    assert health is not None
    assert health.state is DeliveryState.REOPENING
    assert health.last_error == line["error"]
    assert manager.report.exporters["bad"].ledger == LedgerSnapshot(1, dropped={"not_open": 1})
    assert good.names == ["a"]

    required = ObservabilityRuntime(exporters, required=["bad"])
    with pytest.raises(ExporterStartError, match="a file is in the way"):
        await required.init()


def test_a_spool_without_a_place_is_an_error_at_once() -> None:
    """A spool without a path, or without room, is an error when it is made."""
    with pytest.raises(ValueError, match="Set spool_path"):
        SpanExporter(Backend(), name="main", limits=DeliveryLimits(spool="always"))
    with pytest.raises(ValueError, match="spool_bytes"):
        SpanExporter(Backend(), limits=DeliveryLimits(spool="spill", spool_path=Path("a"), spool_bytes=0))


# A back end that fails


@virtual_time
async def test_g12_a_long_retry_after_is_honoured_by_what_comes_back_from_the_spool(tmp_path: Path) -> None:
    """A back end that asks for a longer wait than `retry_for` is not asked before then."""
    tries: list[float] = []

    async def write(batch: Batch) -> None:
        tries.append(now())
        if len(tries) < 3:
            raise RetryableWriteError("later", retry_after=500.0)

    limits = DeliveryLimits(spool="always", spool_path=tmp_path, retry_for=10.0)
    delivery = Delivery("main", write, limits=limits, loop_source=RunningLoop())
    lease = delivery.lease()
    lease.accept(make_span())
    await asyncio.wrap_future(lease.settled())
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    assert len(tries) == 3
    assert all(later - earlier >= 500 for earlier, later in itertools.pairwise(tries))


@virtual_time
async def test_g12_what_comes_back_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """If a batch gets one try, it still waits longer each time, and the spool is not read in between."""
    tries: list[float] = []
    enough = asyncio.Event()

    async def write(batch: Batch) -> None:
        tries.append(now())
        if len(tries) == 12:
            enough.set()
        raise ConnectionError("down")

    limits = DeliveryLimits(spool="always", spool_path=tmp_path, retry_for=0.0, breaker_failures=10**6)
    delivery = Delivery("main", write, limits=limits, loop_source=RunningLoop())
    lease = delivery.lease()
    lease.accept(make_span())
    await enough.wait()
    lease.release()
    await asyncio.wrap_future(delivery.close())
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries[:12])]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30], abs=0.01)


@pytest.mark.parametrize("queue_mb", [64, 8], ids=["from memory", "from the spool"])
async def test_saving_and_sending_go_on_side_by_side(tmp_path: Path, queue_mb: int) -> None:
    """With `always`, runs that never pause keep the disk busy, and what is on the disk is sent all the same."""
    queued: list[int] = []

    async def write(batch: Batch) -> None:
        queued.append(delivery.health().queue_depth)

    limits = quick_limits(
        tmp_path, "always", queue_items=10_000, queue_bytes=queue_mb * 1024 * 1024, batch_items=500
    )
    delivery = Delivery("main", write, limits=limits, loop_source=RunningLoop())
    lease = delivery.lease()
    # In the queue before the delivery begins: there is something to save for a long time, however fast the disk is.
    for _ in range(10_000):
        lease.accept(make_span())
    await asyncio.wrap_future(lease.settled())
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    assert lease.ledger == LedgerSnapshot(accepted=10_000, delivered=10_000)
    assert queued[0] > 7_000
    assert sum(depth > 0 for depth in queued) >= 4


async def test_memory_and_spool_take_turns(tmp_path: Path) -> None:
    """Records of former processes are not held up by new items, nor the other way round."""
    await left_by_a_runtime(tmp_path, [f"old-{n}" for n in range(200)])
    sink = Backend()
    runtime = runtime_of(exporter_of(sink, quick_limits(tmp_path, "always")))
    exporters = exporter_of(sink, quick_limits(tmp_path, "always"))
    runtime = runtime_of(exporters)
    async with runtime:
        manager = ExporterManager.from_exporters(exporters)
        fresh = 0
        while sum(name.startswith("old") for name in sink.names) < 200:
            await record(manager, numbers(30))
            fresh += 30
            assert fresh < 20_000
        await until(lambda: not health_of(runtime).ledger.pending)
    old = [name for name in sink.names if name.startswith("old")]
    assert old == [f"old-{n}" for n in range(200)]
    assert len(sink.taken) == fresh + 200


async def test_a_batch_is_bounded_in_bytes_wherever_it_comes_from(tmp_path: Path) -> None:
    """From memory or from the disk, a batch holds no more bytes than it may."""
    sink = Backend(down=True)
    limits = quick_limits(
        tmp_path, "always", batch_items=1000, batch_bytes=30_000, queue_bytes=400_000, retry_for=0
    )
    exporters = exporter_of(sink, limits)
    runtime = runtime_of(exporters)
    async with runtime:
        manager = ExporterManager.from_exporters(exporters)
        for start in range(0, 60, 6):
            await record(manager, numbers(start + 6, start), input="." * 8000)
        sink.down = False
        await until(lambda: health_of(runtime).ledger.delivered == 60)
    assert 2 <= sink.largest <= 3


@pytest.mark.may_block
async def test_g8_a_sink_that_blocks_its_loop_does_not_hold_up_another_spool(tmp_path: Path) -> None:
    """While one delivery's loop is blocked, what another one accepts is saved, and later sent once."""
    blocked, let_go = threading.Event(), threading.Event()

    async def blocks(batch: Batch) -> None:
        blocked.set()
        let_go.wait(15.0)  # on purpose

    bad = Delivery("bad", blocks, limits=DeliveryLimits(batch_age=0.001))
    sink = Backend(down=True)
    good = Delivery("main", sink, limits=quick_limits(tmp_path, "always", retry_for=0, queue_bytes=60_000))
    held = [bad.lease(), good.lease()]
    runs = [good.lease() for _ in range(5)]
    sent = 0
    try:
        held[0].accept(make_span())
        await until(blocked.is_set)
        for _ in range(20):
            for lease in runs:
                lease.accept(make_span(name=str(sent)))
                sent += 1
            for lease in runs:
                await asyncio.wait_for(asyncio.wrap_future(lease.saved()), 10.0)
        sink.down = False
        for lease in runs:
            await asyncio.wait_for(asyncio.wrap_future(lease.settled()), 10.0)
        ledgers = [lease.ledger for lease in runs]
    finally:
        let_go.set()
        closing = [bad.close(), good.close()]
        for lease in [*held, *runs]:
            lease.release()
        for closed in closing:
            await asyncio.wrap_future(closed)
    assert ledgers == [LedgerSnapshot(sent // 5, sent // 5)] * 5
    assert good.health().ledger == LedgerSnapshot(sent, sent)
    assert set(sink.names) == set(numbers(sent))
    assert await asyncio.to_thread(in_spool, tmp_path) == []


@pytest.mark.may_block  # the sink does
@pytest.mark.parametrize("processors", [(), [lambda item: item]], ids=["as they are", "processed"])
@pytest.mark.parametrize("spool", SPOOLING)
async def test_g8_a_sink_that_blocks_its_own_loop_does_not_hold_up_the_ends_of_runs(
    tmp_path: Path, spool: SpoolMode, processors: Any
) -> None:
    """What they have recorded is saved meanwhile, and delivered when the sink goes on; nothing is dropped."""
    blocked, let_go = threading.Event(), threading.Event()
    taken: list[Item] = []

    async def blocks(batch: Batch) -> None:
        blocked.set()
        let_go.wait(15.0)  # on purpose
        taken.extend(batch)

    limits = quick_limits(tmp_path, spool, queue_items=40, batch_items=1)
    delivery = Delivery("main", blocks, limits=limits, processors=processors)
    held = delivery.lease()
    try:
        held.accept(make_span())
        await until(blocked.is_set)
        for _ in range(8):
            lease = delivery.lease()
            leases.accept(lease, 15)
            await until(lambda: not delivery.intake or not delivery.accounting.upstream)
            ending = lease.saved() if spool == "always" else lease.room()
            if ending is not None:
                await asyncio.wait_for(asyncio.wrap_future(ending), 10.0)
            lease.release()
        assert not let_go.is_set()
    finally:
        let_go.set()
        held.release()
        await asyncio.wait_for(asyncio.wrap_future(delivery.closed()), 10.0)
    assert delivery.health().ledger == LedgerSnapshot(121, 121)
    assert len(taken) == 121


async def _client(directory: Path, accounting: Accounting) -> tuple[SpoolClient, ByHand]:
    """A spool that is open, and the worker that makes its calls."""
    worker = ByHand()
    client = SpoolClient("main", quick_limits(directory, "always"), accounting, lambda *_: worker)
    opening = asyncio.create_task(client.open())
    await until(lambda: bool(worker.calls))
    await worker.make_one()
    await opening
    return client, worker


def _queue(accounting: Accounting, count: int) -> None:
    lease = Lease(Route([accounting], None))
    with locking.lock:
        accounting.accept_all([Entry(make_step(), 1, lease) for _ in range(count)], count)


async def test_g8_saving_much_lets_the_other_calls_of_the_spool_have_their_turns(tmp_path: Path) -> None:
    """What is queued is saved in rounds: a read or an erasure that was asked for meanwhile comes before the next."""
    accounting = Accounting("main", quick_limits(tmp_path, "always", queue_items=10_000))
    accounting.wake = lambda: None
    client, worker = await _client(tmp_path, accounting)
    try:
        _queue(accounting, 3000)
        with locking.lock:
            accounting.hasten()
        turns: list[int] = []
        worker.submit(lambda: turns.append(len(accounting.queue)))
        await worker.make_one()
        assert 0 < len(accounting.queue) < 3000
        await worker.make_one()
        assert turns == [len(accounting.queue)]
        while worker.calls:
            await worker.make_one()
        assert len(accounting.queue) == 0
        assert not client.is_saving
        assert sum(entry.key is not None for entry in accounting.ready) == 3000
    finally:
        client.end()
        while worker.calls:
            await worker.make_one()


async def test_g20_a_save_whose_thread_dies_is_logged_and_made_again(tmp_path: Path) -> None:
    accounting = Accounting("main", quick_limits(tmp_path, "always"))
    accounting.wake = lambda: None
    client, worker = await _client(tmp_path, accounting)
    try:
        _queue(accounting, 3)
        with locking.lock:
            accounting.hasten()
        lost, _ = worker.calls.popleft()
        with capture_logs() as logs:
            lost.set_exception(SinkError("The thread 'spool'", "ended", "The next call has a new one."))
        assert [line["event"] for line in logs] == ["spool_failed"]
        with locking.lock:
            accounting.hasten()
        while worker.calls:
            await worker.make_one()
        assert [entry.key is not None for entry in accounting.ready] == [True] * 3
    finally:
        client.end()
        while worker.calls:
            await worker.make_one()


async def test_g5_a_save_that_waited_stores_nothing_twice(tmp_path: Path) -> None:
    """What another call has stored meanwhile is left as it is."""
    accounting = Accounting("main", quick_limits(tmp_path, "always"))
    accounting.wake = lambda: None
    client, worker = await _client(tmp_path, accounting)
    try:
        _queue(accounting, 3)
        with locking.lock:
            entries = list(accounting.queue.waiting)
            accounting.hasten()
        waiting = asyncio.create_task(client.save(entries, stay=True))
        await until(lambda: len(worker.calls) == 2)
        while worker.calls:
            await worker.make_one()
        await waiting
        assert [entry.key is not None for entry in accounting.ready] == [True] * 3
    finally:
        client.end()
        while worker.calls:
            await worker.make_one()
    assert len(await left_in(tmp_path, 3)) == 3


class _RefusesLater(ScriptedSink):
    """Refuses for the moment, a few turns of the loop after it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def write(self, batch: Batch) -> int | None:
        self.calls.append("write")
        await self.let_go.wait()
        for _ in range(4):
            await asyncio.sleep(0)
        raise RefusedForNowError("401")


async def test_g5_what_is_refused_while_it_is_being_saved_is_in_the_spool_once(tmp_path: Path) -> None:
    """At a last call what is being sent is saved; the answer that comes meanwhile does not save or count it again."""
    sink = _RefusesLater()
    limits = quick_limits(tmp_path, "spill", batch_items=5)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    lease = await leases.opened(delivery)
    items = leases.accept(lease, 5)
    await until(lambda: "write" in sink.calls)
    closed = asyncio.wrap_future(delivery.close())
    sink.let_go.set()
    await closed
    assert delivery.health().ledger == LedgerSnapshot(accepted=5, pending=5)
    assert await left_in(tmp_path, 5) == items


# Several processes


_DELIVERS = """
    import asyncio, sys
    from pathlib import Path
    from nat_observability import ExporterManager, ObservabilityRuntime
    from nat_observability.testing import until
    from tests.delivery.backends import Backend, exporter_of, quick_limits, record

    async def main():
        sink = Backend()
        exporters = exporter_of(sink, quick_limits(Path(sys.argv[1]), "always"))
        print("ready", flush=True)
        sys.stdin.readline()
        runtime = ObservabilityRuntime(exporters)
        async with runtime:
            await record(ExporterManager.from_exporters(exporters), range(int(sys.argv[2])))
            await until(lambda: not runtime.health().ledger.pending)
            print(*sink.ids, flush=True)
            sys.stdin.readline()

    asyncio.run(main())
"""


def start_delivering(directory: Path, own: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_DELIVERS), str(directory), str(own)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_two_processes_on_one_spool_deliver_each_record_once(tmp_path: Path) -> None:
    """What three dead processes have left is delivered by two living ones, by one of them each, beside their own."""
    for number in range(3):
        leave(
            tmp_path / f"{number}", [encode_item(make_span(span_id=f"{number}{n:015x}")) for n in range(50)]
        )
        [file] = (tmp_path / f"{number}").glob("*.sqlite3")
        file.rename(tmp_path / file.name)
    processes = [start_delivering(tmp_path, 40) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        delivered = [process.stdout.readline().split() for process in processes if process.stdout]
    finally:
        for process in processes:
            process.communicate("end\n", timeout=15.0)
    everything = [each for ids in delivered for each in ids]
    assert len(everything) == len(set(everything)) == 150 + 80
    assert {f"{number}{n:015x}" for number in range(3) for n in range(50)} < set(everything)


@virtual_time
async def test_a_dead_process_s_spool_is_taken_over_by_a_living_one(tmp_path: Path) -> None:
    """Every half minute a delivery looks for what processes that died since it opened have left, and sends it."""
    sink = Backend()
    limits = DeliveryLimits(spool="always", spool_path=tmp_path)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    lease = delivery.lease()
    assert lease.opening is not None
    await asyncio.wrap_future(lease.opening)
    run_program(_KILLED_AFTER_ITS_RUNS, tmp_path, status=-9)
    while len(sink.taken) < 140:  # noqa: ASYNC110  however often: a thread reads the disk, for which no time jumps
        await asyncio.sleep(1.0)
    assert delivery.health().ledger.accepted == 140
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    assert delivery.health().ledger == LedgerSnapshot(accepted=140, delivered=140)


@pytest.mark.timeout(60)  # a second, and more on a busy machine
def test_g15_a_forked_child_has_a_spool_of_its_own(tmp_path: Path) -> None:
    """A child that was forked while the spool was open records and delivers its own; the parent's are sent once."""
    code = """
        import asyncio, os, sys
        from pathlib import Path
        from nat_observability import ExporterManager, ObservabilityRuntime
        from nat_observability.testing import until
        from tests.delivery.backends import Backend, exporter_of, quick_limits, record

        sink = Backend(down=True)
        exporters = exporter_of(sink, quick_limits(Path(sys.argv[1]), sys.argv[2]))
        manager = ExporterManager.from_exporters(exporters)
        runtime = ObservabilityRuntime(exporters)

        async def child():
            sink.down = False
            own = await record(manager, ["child"] * 20)
            assert (await own.flush(10.0)).complete
            assert own.report.ledger.delivered == 20
            assert runtime.health().ledger.accepted == 20, runtime.health()
            assert set(sink.names) == {"child"}, sink.names
            files = {path.name.split("-")[2] for path in Path(sys.argv[1]).glob("*.sqlite3")}
            assert files == {str(os.getppid()), str(os.getpid())}, files
            await runtime.shutdown()

        async def finish():
            sink.down = False
            await until(lambda: not runtime.health().ledger.pending)
            await runtime.shutdown()
            assert runtime.health().ledger.delivered == 80
            assert sorted(sink.names) == ["later"] * 30 + ["parent"] * 50, sink.names
            assert len(set(sink.ids)) == 80

        asyncio.run(runtime.init())
        asyncio.run(record(manager, ["parent"] * 50))
        for _ in range(3):
            pid = os.fork()
            if not pid:
                asyncio.run(child())
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            asyncio.run(record(manager, ["later"] * 10))
        asyncio.run(finish())
        print("passed")
    """
    for spool in SPOOLING:
        assert run_program(code, tmp_path / spool, spool).stdout == "passed\n"
        assert list((tmp_path / spool).iterdir()) == []


@pytest.mark.timeout(60)  # a second, and more on a busy machine
def test_g15_a_run_that_is_forked_in_its_middle_records_in_the_parent_alone(tmp_path: Path) -> None:
    """What a child records in a run of its parent's is refused there at once, whichever locks were held at the fork."""
    code = """
        import asyncio, os, sys, threading
        from pathlib import Path
        from nat_observability import ContextState, ExporterManager, step
        from tests.delivery.backends import Backend, exporter_of, quick_limits

        sink = Backend()
        exporters = exporter_of(sink, quick_limits(Path(sys.argv[1]), "always"))
        manager = ExporterManager.from_exporters(exporters)
        ended = threading.Event()

        def look():
            while not ended.is_set():
                exporters["main"].delivery.health()  # which takes the lock that recording takes

        async def main():
            async with manager.start(ContextState()):
                for number in range(60):
                    with step("tool", "parent"):
                        pass
                    pid = os.fork()
                    if not pid:
                        with step("tool", "child"):
                            pass
                        os._exit(0)
                    assert os.waitpid(pid, 0)[1] == 0
            ended.set()
            assert (await manager.flush(10.0)).complete

        looker = threading.Thread(target=look)
        looker.start()
        asyncio.run(main())
        looker.join()
        assert sink.names == ["parent"] * 60, len(sink.names)
        print("passed")
    """
    assert run_program(code, tmp_path).stdout == "passed\n"


# One directory, several exporters


def opened(delivery: Delivery) -> Lease:
    """Return a lease when the delivery is open."""
    lease = delivery.lease()
    if lease.opening is not None:
        try:
            lease.opening.result(10.0)
        except SinkError:
            lease.release()
            raise
    return lease


@pytest.mark.parametrize("other", ["spool", "link", "x/../spool"])
@pytest.mark.parametrize("first_is_open", [True, False])
def test_the_spool_of_another_exporter_is_not_opened(tmp_path: Path, other: str, first_is_open: bool) -> None:
    """One exporter's records would go to the other's back end, so the spool does not open, and says why."""
    directory = tmp_path / "spool"
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(directory)
    down, works = Backend(down=True), Backend()
    one = Delivery("main", down, limits=quick_limits(directory, "always", retry_for=0.0))
    two = Delivery("two", works, limits=quick_limits(tmp_path / other, "always"))
    lease = opened(one)
    lease.accept(make_span(name="of one"))
    lease.saved().result(10.0)
    if not first_is_open:
        one.close().result(10.0)
    said = r"is the spool of exporter 'main'.* let 'two' send.*Give each exporter a spool_path of its own"
    with pytest.raises(SinkError, match=said):
        opened(two)
    one.close().result(10.0)
    lease.release()
    assert works.taken == []
    assert one.health().ledger.pending == 1
    assert [item.name for item in in_spool(directory)] == ["of one"]


def test_what_was_left_for_one_back_end_does_not_go_to_another(tmp_path: Path) -> None:
    """The exporters of two services have one name and one path: the second is refused, and names both addresses."""

    class At(Backend):
        def __init__(self, where: str, *, down: bool = False) -> None:
            super().__init__(down=down)
            self.where = where

    one = Delivery("main", At("https://a", down=True), limits=quick_limits(tmp_path, "always", retry_for=0.0))
    lease = opened(one)
    lease.accept(make_span(name="of one"))
    lease.saved().result(10.0)
    one.close().result(10.0)
    other = At("https://b")
    with pytest.raises(SinkError, match=r"has left for https://a, and would send it to https://b\."):
        opened(Delivery("main", other, limits=quick_limits(tmp_path, "always")))
    lease.release()
    assert other.taken == []
    assert [item.name for item in in_spool(tmp_path)] == ["of one"]


@pytest.mark.parametrize("spool", SPOOLING)
def test_g20_a_spool_that_is_deleted_loses_nothing_in_silence(tmp_path: Path, spool: SpoolMode) -> None:
    """It is written again at the end, or each of its items is counted for its run, and named in a line."""
    for in_the_way in (False, True):
        directory = tmp_path / str(in_the_way)
        delivery = Delivery("main", Backend(down=True), limits=quick_limits(directory, spool, retry_for=0.0))
        lease = opened(delivery)
        for number in range(30):
            lease.accept(make_span(name=str(number)))
        lease.saved().result(10.0)
        shutil.rmtree(directory)
        if in_the_way:
            directory.write_text("")
        with capture_logs() as lines:
            delivery.close().result(10.0)
        said = {line["event"]: line for line in lines}
        ledger = lease.ledger
        if in_the_way:
            assert ledger.adds_up
            assert (ledger.accepted, ledger.pending) == (30, 0)
            assert sum(ledger.dropped.values()) + ledger.failed == 30
            assert sum(said[e]["items"] for e in ("delivery_dropped", "delivery_failed") if e in said) == 30
        else:
            assert ledger.pending == 30
            assert len(in_spool(directory)) == 30


@pytest.mark.parametrize("spool", SPOOLING)
def test_g2_what_the_spool_has_no_room_for_is_tried_until_the_end(tmp_path: Path, spool: SpoolMode) -> None:
    """What it has gets one try and stays there; that gives up nothing that is in memory alone."""

    class ComesBack(Backend):
        async def write(self, batch: Batch) -> None:
            self.down = self.tries < 12
            await super().write(batch)

    sink = ComesBack()
    room = 3 * len(encode_item(make_span(name="0")))
    limits = quick_limits(tmp_path, spool, batch_items=2, spool_bytes=room, retry_for=0.0)
    delivery = Delivery("main", sink, limits=limits)
    lease = opened(delivery)
    for number in range(10):
        lease.accept(make_span(name=str(number)))
    delivery.close(time.monotonic() + 60.0).result(10.0)
    ledger = lease.ledger
    assert ledger.adds_up
    assert ledger.dropped.keys() <= {"spool_full"}  # the oldest, for those after them
    assert ledger.failed == 0
    assert 0 < ledger.pending <= 3
    assert ledger.delivered == len(sink.taken) > 0


def test_an_exporter_shares_its_spool_with_itself(tmp_path: Path) -> None:
    """A second one of the same name, made by a reload for example, opens it beside the first."""
    sink = Backend()
    deliveries = [Delivery("main", sink, limits=quick_limits(tmp_path, "always")) for _ in range(2)]
    leases = [opened(delivery) for delivery in deliveries]
    for number, lease in enumerate(leases):
        lease.accept(make_span(name=str(number)))
        lease.settled().result(10.0)
        lease.release()
    for delivery in deliveries:
        delivery.closed().result(10.0)
    assert sink.names == ["0", "1"]


def test_a_spool_is_free_when_its_exporter_is_gone(tmp_path: Path) -> None:
    """Renaming an exporter needs no new process."""

    def refused(name: str, sink: Backend) -> bool:
        delivery = Delivery(name, sink, limits=quick_limits(tmp_path, "always"))
        try:
            lease = opened(delivery)
        except SinkError:
            return True
        lease.accept(make_span(name=name))
        lease.settled().result(10.0)
        lease.release()
        delivery.closed().result(10.0)
        return False

    sink = Backend()
    assert not refused("before", sink)
    while refused("after", sink):
        gc.collect()
    assert sink.names == ["before", "after"]
