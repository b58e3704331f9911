"""G3, G5, G20 for a delivery's own tasks: a fault at every await, from opening to closing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.limits import SpoolMode
from nat_observability.delivery.threads.delivery_thread import DeliveryThread
from nat_observability.errors import RefusedForNowError
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import wait_until
from tests.delivery.backends import in_spool, quick_limits
from tests.faults.injection import Inject, Injected, at_once, soon
from tests.sinks.builders import make_span

_TOO_LONG = 10.0  # seconds, far more than a life takes
_ITEMS = 6
SLOW = [pytest.mark.slow]


class InjectedError(Exception):
    """Raised at an await of a delivery."""


FAULTS: dict[str, Inject] = {
    "cancelled at once": at_once,
    "cancelled soon": soon,
    "raised": lambda task: InjectedError("at an await"),
    "exited": lambda task: SystemExit(1),
}


class Wavering:
    """A sink that takes a moment for everything, and fails in every way before it takes a batch."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self._answers: list[Exception] = [OSError("down"), RefusedForNowError("401")]

    async def open(self) -> None:
        await asyncio.sleep(0.0001)

    async def write(self, batch: Batch) -> None:
        await asyncio.sleep(0.0001)
        if self._answers:
            raise self._answers.pop(0)
        self.taken += batch

    async def close(self) -> None:
        await asyncio.sleep(0.0001)


class FaultySource:
    """
    Lends a delivery thread's loop, whose tasks meet one fault: at the n-th await of those that run a delivery's code.

    Attributes:
        met: The coroutine that met it; None before that.
    """

    def __init__(self, nth: int, inject: Inject) -> None:
        self._thread = DeliveryThread("faulty")
        self._nth, self._inject, self._numbers = nth, inject, count(1)
        self._programs: list[Injected] = []

    @property
    def met(self) -> Injected | None:
        return next((program for program in self._programs if program.injected), None)

    def acquire(self) -> asyncio.AbstractEventLoop:
        loop = self._thread.acquire()
        loop.set_task_factory(self._task)
        return loop

    def release(self) -> None:
        self._thread.release()

    def _task(self, loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        if "/nat_observability/delivery/" not in coroutine.cr_code.co_filename:
            return asyncio.Task(coroutine, loop=loop, **options)
        program = Injected(coroutine, range(self._nth, self._nth + 1), self._inject, self._numbers)
        self._programs.append(program)
        task = asyncio.Task(program.run(), loop=loop, **options)
        # If it is cancelled before it begins, nothing has awaited it.
        task.add_done_callback(lambda _: coroutine.close())
        return task


class Sweep:
    """Runs lives of a delivery that meet one fault each, at the first await of its tasks, at the second, and so on."""

    def __init__(self, directory: Path, spool: SpoolMode) -> None:
        self._directory, self._spool = directory, spool
        self._lives = count()
        self.places: set[str] = set()

    def run(self, inject: Inject) -> int:
        """Meet this fault at every await; return how many there were."""
        for nth in count(1):
            if not self._one(inject, nth):
                return nth - 1
        raise AssertionError("unreachable")

    def _one(self, inject: Inject, nth: int) -> bool:
        folder = self._directory / f"{next(self._lives)}"
        folder.mkdir(parents=True)
        sink, source = Wavering(), FaultySource(nth, inject)
        limits = quick_limits(
            folder, self._spool, batch_items=2, retry_initial=0.0001, retry_max=0.001, retry_for=1.0
        )
        delivery = Delivery("main", sink, limits=limits, loop_source=source)
        with capture_logs() as lines:
            for name in ("first", "second"):
                _live(delivery, name)
        met = source.met
        where = f"at await {nth} ({met.place if met is not None else 'none'})"
        ledger = delivery.health().ledger
        # One that has failed is left alone for a while: what the spool has by then waits there, the rest is dropped.
        kept = ledger.pending + ledger.dropped.get("not_open", 0)
        assert "second" in [item.name for item in sink.taken] or kept >= _ITEMS, (
            f"{where}: {delivery.health()}"
        )
        assert ledger.adds_up, f"{where}: {ledger}"
        if self._spool != "off":
            # It is closed in the background, after what was being saved.
            wait_until(lambda: not any("-spool-" in thread.name for thread in threading.enumerate()))
            ledger = delivery.health().ledger
            assert ledger.adds_up, f"{where}: {ledger}"
        left = 0 if self._spool == "off" else len(in_spool(folder))
        assert ledger.pending == left, f"{where}: {ledger}, and {left} in the spool"
        said: Counter[str] = Counter()
        for line in lines:
            if line["event"] in ("delivery_failed", "delivery_dropped"):
                said.update(line["reasons"])
        assert said.total() == ledger.failed + sum(ledger.dropped.values()), f"{where}: {ledger}, {said}"
        if met is not None:
            self.places.add(met.place)
        return met is not None


def _live(delivery: Delivery, name: str) -> None:
    """Open a delivery, record, wait until everything is settled or given up, and close it."""
    lease = delivery.lease()
    if lease.opening is not None:
        wait([lease.opening], _TOO_LONG)
    for _ in range(_ITEMS):
        lease.accept(make_span(name=name))
    settled, closed = lease.settled(), delivery.closed()
    wait([settled, closed], _TOO_LONG, FIRST_COMPLETED)
    lease.release()
    delivery.close()
    assert wait([closed], _TOO_LONG).done, f"it does not close: {delivery.health()}"


# The usual tier has each fault without a spool, and two of them with one.
SWEPT = [
    pytest.param(
        spool,
        fault,
        marks=[] if spool == "off" or (spool == "always" and fault in ("cancelled soon", "raised")) else SLOW,
    )
    for spool in ("off", "always", "spill")
    for fault in FAULTS
]


@pytest.mark.parametrize(("spool", "fault"), SWEPT)
@pytest.mark.timeout(120)
def test_g5_g20_a_fault_at_every_await_of_a_delivery(tmp_path: Path, spool: SpoolMode, fault: str) -> None:
    """It is given up or goes on, what it lost is in the ledger and in the log, it closes, and it opens again."""
    assert Sweep(tmp_path, spool).run(FAULTS[fault]) >= 5


_LOOP = "DeliveryLoop._run > "
# Where the tasks of a delivery wait in any case. A place that no sweep comes to any more is a change to look at.
PLACES = {
    f"{_LOOP}DeliveryLoop._open > Opening.run > Opening._try > Opening._open > SpoolClient.open > SpoolClient._call",
    f"{_LOOP}DeliveryLoop._open > Opening.run > Opening._try > Opening._open > Opening._open_sink",
    f"{_LOOP}DeliveryLoop._open > Opening.run > Opening._try > Opening._open",
    "Opening._watch",
    "EntryMover.run > EntryMover._sleep",
    "EntryMover.run > EntryMover._fetch > EntryMover._try > SpoolClient.fetch > SpoolClient._call",
    "EntryMover._send > EntryMover._outcomes > EntryMover.send > EntryMover._write",
    "EntryMover._send > EntryMover._outcomes > EntryMover.send > Retry.send_again > Retry._send > EntryMover._write",
    "EntryMover._send > EntryMover._outcomes > EntryMover.send > Retry.send_again > Retry._failed > Retry._pause",
    f"{_LOOP}SpoolClient.close > SpoolClient._call",
    f"{_LOOP}DeliveryLoop._close",
}


@pytest.mark.timeout(120)
def test_the_sweep_reaches_every_place_of_a_delivery(tmp_path: Path) -> None:
    """None drops out of it unnoticed."""
    places: set[str] = set()
    # If another thread is quick, there is nothing to wait for: that happens, but not every time.
    for attempt in range(10):
        sweep = Sweep(tmp_path / f"{attempt}", "always")
        sweep.run(FAULTS["cancelled soon"])
        places |= sweep.places
        if places >= PLACES:
            break
    assert places >= PLACES, PLACES - places
