"""G12: what a back end refuses for the moment stays in the spool, is tried again, and holds up nothing newer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.limits import SpoolMode
from nat_observability.errors import PermanentWriteError, RefusedForNowError
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests.delivery.backends import Backend, exporter_of, in_spool, quick_limits, record
from tests.sinks.builders import make_span


class Choosy(Backend):
    """A back end that refuses the batches for which `refuses` says so."""

    def __init__(self, refuses: Callable[[set[str]], bool], error: Exception) -> None:
        super().__init__()
        self.refuses, self.error = refuses, error

    async def write(self, batch: Batch) -> None:
        self.tries += 1
        if self.refuses({item.name for item in batch}):
            raise self.error
        self.taken.extend(batch)


UNAUTHORIZED = RefusedForNowError("The back end answered 401.")


@pytest.mark.parametrize("spool", ["always", "spill"])
async def test_a_key_that_is_replaced_loses_nothing(tmp_path: Path, spool: SpoolMode) -> None:
    """Everything is refused for a while, in many rounds; then everything is delivered, once."""
    backend = Choosy(lambda names: True, UNAUTHORIZED)
    exporters = exporter_of(backend, quick_limits(tmp_path, spool))
    delivery = exporters["main"].delivery
    with capture_logs() as lines:
        async with ObservabilityRuntime(exporters):
            await record(ExporterManager.from_exporters(exporters), range(35))
            await until(lambda: backend.tries > 20)
            assert delivery.health().ledger.failed == 0
            backend.refuses = lambda names: False
            await until(lambda: len(backend.taken) == 35)
            await until(lambda: delivery.health().ledger.pending == 0)
    assert sorted(backend.names, key=int) == [str(number) for number in range(35)]
    ledger = delivery.health().ledger
    assert (ledger.delivered, ledger.failed, ledger.dropped) == (35, 0, {})
    (line,) = [line for line in lines if line["event"] == "delivery_deferred"]
    assert (line["exporter"], line["log_level"], "401" in line["error"]) == ("main", "warning", True)


@pytest.mark.parametrize("spool", ["always", "spill"])
async def test_newer_items_do_not_wait(tmp_path: Path, spool: SpoolMode) -> None:
    """A batch that is refused again and again is overtaken."""
    backend = Choosy(lambda names: "bad" in names, UNAUTHORIZED)
    exporters = exporter_of(backend, quick_limits(tmp_path, spool, batch_items=1))
    async with ObservabilityRuntime(exporters):
        manager = ExporterManager.from_exporters(exporters)
        for name in ("bad", "one", "two", "three"):
            await record(manager, [name])
        await until(lambda: {"one", "two", "three"} <= set(backend.names))
        assert "bad" not in backend.names
    assert [item.name for item in await asyncio.to_thread(in_spool, tmp_path)] == ["bad"]


@pytest.mark.parametrize("spool", ["always", "spill"])
async def test_the_next_process_tries_again(tmp_path: Path, spool: SpoolMode) -> None:
    """What is refused to the end is in the spool then, and pending; whoever opens it next delivers it."""
    refusing = exporter_of(Choosy(lambda names: True, UNAUTHORIZED), quick_limits(tmp_path, spool))
    async with ObservabilityRuntime(refusing):
        await record(ExporterManager.from_exporters(refusing), range(20))
    ledger = refusing["main"].delivery.health().ledger
    assert (ledger.pending, ledger.failed, ledger.dropped, ledger.adds_up) == (20, 0, {}, True)
    backend = Backend()
    async with ObservabilityRuntime(exporter_of(backend, quick_limits(tmp_path, spool))):
        await until(lambda: len(backend.taken) == 20)
    assert await asyncio.to_thread(in_spool, tmp_path) == []


@pytest.mark.parametrize(
    ("spool", "error"), [("off", UNAUTHORIZED), ("always", PermanentWriteError("The back end answered 400."))]
)
async def test_what_cannot_wait_has_failed_and_is_logged(
    tmp_path: Path, spool: SpoolMode, error: Exception
) -> None:
    """Without a spool it would fill the memory; and what is refused for its content is refused for ever."""
    backend = Choosy(lambda names: True, error)
    exporters = exporter_of(backend, quick_limits(tmp_path, spool))
    with capture_logs() as lines:
        async with ObservabilityRuntime(exporters):
            await record(ExporterManager.from_exporters(exporters), range(10))
            await until(lambda: exporters["main"].delivery.health().ledger.failed == 10)
    assert backend.tries == 1
    assert [(line["items"], line["reasons"]) for line in lines if line["event"] == "delivery_failed"] == [
        (10, {"refused": 10})
    ]


async def test_what_the_spool_has_no_room_for_has_failed(tmp_path: Path) -> None:
    """It can neither wait nor stay in memory."""
    backend = Choosy(lambda names: True, UNAUTHORIZED)
    limits = quick_limits(tmp_path, "spill", spool_bytes=1, batch_items=5)
    exporters = exporter_of(backend, limits)
    async with ObservabilityRuntime(exporters):
        await record(ExporterManager.from_exporters(exporters), range(5))
        await until(lambda: exporters["main"].delivery.health().ledger.pending == 0)
    ledger = exporters["main"].delivery.health().ledger
    assert ledger.failed + sum(ledger.dropped.values()) == 5
    assert ledger.adds_up


@pytest.mark.parametrize("spool", ["always", "spill"])
async def test_a_shutdown_tries_what_was_refused_once(tmp_path: Path, spool: SpoolMode) -> None:
    """A backlog that takes longer than the wait between two rounds does not use up the time of the shutdown."""
    tries: Counter[str] = Counter()
    ending = False

    def refuses(names: set[str]) -> bool:
        if ending:
            tries.update(names)
        return True

    exporters = exporter_of(
        Choosy(refuses, UNAUTHORIZED),
        quick_limits(tmp_path, spool, batch_items=1),
    )
    runtime = ObservabilityRuntime(exporters)
    await runtime.init()
    await record(ExporterManager.from_exporters(exporters), range(40))
    ending = True
    report = await runtime.shutdown()
    assert report.abandoned == ()
    assert max(tries.values()) <= 3  # a try under way when it begins, what waited then, and its last one
    assert exporters["main"].delivery.health().ledger.pending == 40


async def test_what_was_refused_before_a_delivery_reopened_is_sent_once(tmp_path: Path) -> None:
    """A lease taken while the sink closes opens it again: what is being sent then is not tried a second time."""
    gate, closing, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(Choosy):
        async def write(self, batch: Batch) -> None:
            writes.update(item.name for item in batch)
            if self.taken_late and batch[0].name == "old":
                await asyncio.to_thread(gate.wait, 10.0)
            await super().write(batch)

        async def close(self) -> None:
            closing.set()
            await asyncio.to_thread(closed.wait, 10.0)

        taken_late = False

    writes: Counter[str] = Counter()
    backend = Slow(lambda names: True, UNAUTHORIZED)
    limits = quick_limits(
        tmp_path, "always", batch_items=1, batches_in_flight=3, retry_initial=0.1, retry_max=0.1
    )
    delivery = Delivery("main", backend, limits=limits)
    lease = delivery.lease()
    lease.accept(make_span(name="old"))
    lease.release()
    await until(closing.is_set)
    later = delivery.lease()
    backend.taken_late, backend.refuses = True, lambda names: "old" not in names
    writes.clear()
    closed.set()
    later.accept(make_span(name="new"))
    await until(lambda: writes["new"] >= 3)
    assert writes["old"] == 1
    gate.set()
    later.release()
    await asyncio.wrap_future(delivery.close())
    assert backend.names == ["old"]
