"""G20: everything that a delivery gives up, in any way, is in the log by the end, with count and reason."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, SpanExporter, step
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.loss_reasons import FailureReason, NamedDropReason
from nat_observability.delivery.pipeline.tail_sampling import TailSamplingBuffer
from nat_observability.delivery.queue import weigh
from nat_observability.errors import BatchTooLargeError, PermanentWriteError, RetryableWriteError
from nat_observability.events import ErrorDetails, Item
from nat_observability.processors import Processor
from nat_observability.sinks.protocol import Batch
from nat_observability.spool.record import encode_item
from nat_observability.spool.spool import Spool
from nat_observability.testing import until
from tests.delivery.backends import Backend, quick_limits
from tests.delivery.sinks import Answer, ScriptedSink, times
from tests.delivery.virtual import RunningLoop, settle, virtual_time
from tests.processes import run_program
from tests.sinks.builders import make_span, make_step

# Drops that were meant to be.
_INTENDED = ("filtered:", "sampled_out")


def lost(ledger: LedgerSnapshot) -> int:
    """How many items were given up."""
    return ledger.failed + sum(
        items for reason, items in ledger.dropped.items() if not reason.startswith(_INTENDED)
    )


def said(lines: Iterable[Mapping[str, Any]], exporter: str = "main") -> Counter[str]:
    """How many items the log says an exporter has lost, by reason."""
    reasons: Counter[str] = Counter()
    for line in lines:
        if line["event"] in ("delivery_failed", "delivery_dropped") and line["exporter"] == exporter:
            assert line["items"] == sum(line["reasons"].values())
            assert line["log_level"] == ("error" if line["event"] == "delivery_failed" else "warning")
            reasons.update(line["reasons"])
    return reasons


def accept(lease: Lease, count: int) -> None:
    for _ in range(count):
        lease.accept(make_step())


async def ended(delivery: Delivery, lease: Lease) -> None:
    lease.release()
    await asyncio.wrap_future(delivery.closed())


async def opened(delivery: Delivery) -> Lease:
    lease = delivery.lease()
    if lease.opening is not None:
        await asyncio.wait([asyncio.wrap_future(lease.opening)])
    return lease


def main(sink: Any, *, processors: Any = (), **limits: Any) -> Delivery:
    return Delivery(
        "main", sink, limits=DeliveryLimits(**limits), loop_source=RunningLoop(), processors=processors
    )


async def to_the_end(delivery: Delivery, *counts: int) -> Delivery:
    """Lots of items in one lease, one lot after the other, with all their tries."""
    lease = await opened(delivery)
    for count in counts:
        accept(lease, count)
        await asyncio.wrap_future(lease.settled())
    await ended(delivery, lease)
    return delivery


def answering(*answers: Answer, **limits: Any) -> Callable[[], Awaitable[Delivery]]:
    """Two lots, of which the second fails too soon after the first for a line of its own."""
    return lambda: to_the_end(main(ScriptedSink(*answers), **limits), 5, 7)


async def retry_for() -> Delivery:
    down = times(10**4, ConnectionError("down"))
    return await to_the_end(main(ScriptedSink(*down), retry_for=2.0, breaker_failures=10**6), 5, 7)


async def breaker_open() -> Delivery:
    down = times(10**4, ConnectionError("down"))
    limits = {"retry_for": 20.0, "breaker_failures": 1, "breaker_open_for": 100.0}
    return await to_the_end(main(ScriptedSink(*down), **limits), 5, 7)


async def last_try() -> Delivery:
    delivery = main(ScriptedSink(*times(10**4, ConnectionError("down"))), batch_items=5)
    lease = await opened(delivery)
    accept(lease, 12)
    await asyncio.wrap_future(delivery.close())
    lease.release()
    return delivery


async def too_large_and_down() -> Delivery:
    """A batch is halved: one half is refused and the other given up."""
    answers: list[Answer] = [
        BatchTooLargeError("2"),
        PermanentWriteError("400"),
        *times(10**4, ConnectionError("down")),
    ]
    return await to_the_end(main(ScriptedSink(*answers), retry_for=2.0, breaker_failures=10**6), 4)


async def abandoned() -> Delivery:
    delivery = main(ScriptedSink(seconds=1e6), batch_items=5)
    lease = await opened(delivery)
    accept(lease, 12)
    await asyncio.sleep(1.0)
    assert delivery.abandon() == 12
    delivery.log_losses()
    lease.release()
    return delivery


async def not_open() -> Delivery:
    class Broken(ScriptedSink):
        async def open(self) -> None:
            raise OSError("no such file")

    delivery = main(Broken())
    lease = delivery.lease()
    accept(lease, 12)
    assert lease.opening is not None
    with suppress(OSError):
        await asyncio.wrap_future(lease.opening)
    lease.release()
    return delivery


async def closed() -> Delivery:
    delivery = await to_the_end(main(ScriptedSink()), 1)
    lease = await opened(delivery)
    await asyncio.wrap_future(delivery.close())
    accept(lease, 12)  # a run that outlives the runtime
    delivery.log_losses()  # as the runtime and the interpreter do
    lease.release()
    return delivery


async def queue_full() -> Delivery:
    return await to_the_end(main(ScriptedSink(), queue_items=10), 22)


async def drop_oldest() -> Delivery:
    return await to_the_end(main(ScriptedSink(), queue_items=10, queue_policy="drop_oldest"), 22)


async def too_large() -> Delivery:
    delivery = main(ScriptedSink(), queue_bytes=10 * weigh(make_step()))
    lease = await opened(delivery)
    for _ in range(12):
        lease.accept(make_step(input="x" * 100_000))
    await ended(delivery, lease)
    return delivery


async def run_too_large() -> Delivery:
    delivery = main(ScriptedSink(), run_bytes=weigh(make_step()) * 3)
    lease = await opened(delivery)
    for _ in range(15):
        lease.accept_within(make_step(), weigh(make_step()) * 3)
    await ended(delivery, lease)
    return delivery


async def processor_failed() -> Delivery:
    def fails(item: Item) -> Item:
        raise LookupError

    return await to_the_end(main(ScriptedSink(), processors=[fails]), 5, 7)


async def filtered() -> Delivery:
    def none(item: Item) -> None:
        return None

    return await to_the_end(main(ScriptedSink(), processors=[none]), 5, 7)


async def sampling_buffer(*, fails: bool) -> Delivery:
    delivery = main(ScriptedSink())
    lease = await opened(delivery)
    weight = weigh(make_step())
    holding = TailSamplingBuffer(delivery.accounting, lease.accept, lease, 3 * weight, 1000 * weight)
    for _ in range(15):
        holding.accept(make_step())
    if fails:
        holding.accept(make_span(error=ErrorDetails("ValueError", "x")))
    holding.decide(keep=fails)
    await ended(delivery, lease)
    return delivery


WAYS: dict[str, tuple[Callable[[], Awaitable[Delivery]], dict[str, int]]] = {
    "refused": (answering(PermanentWriteError("400"), ValueError("bug")), {"refused": 12}),
    "cancelled by the sink": (answering(asyncio.CancelledError(), SystemExit(1)), {"refused": 12}),
    "rejected": (answering(2, 3), {"rejected": 5}),
    "retry_for is over": (retry_for, {"retry_for": 12}),
    "one try only": (answering(*times(2, OSError("down")), retry_for=0.0), {"retry_for": 12}),
    "a wait beyond retry_for": (
        answering(*times(2, RetryableWriteError("429", retry_after=99999.0))),
        {"retry_after": 12},
    ),
    "the breaker is open": (breaker_open, {"breaker_open": 12}),
    "the last try at shutdown": (last_try, {"last_try": 12}),
    "half refused, half given up": (too_large_and_down, {"refused": 2, "retry_for": 2}),
    "abandoned at the deadline": (abandoned, {"shutdown_timeout": 12}),
    "the sink does not open": (not_open, {"not_open": 12}),
    "after the delivery has closed": (closed, {"closed": 12}),
    "a full queue": (queue_full, {"queue_full": 12}),
    "a full queue that drops the oldest": (drop_oldest, {"queue_full": 12}),
    "too large": (too_large, {"too_large": 12}),
    "a run that is too large": (run_too_large, {"run_too_large": 12}),
    "a processor that fails": (processor_failed, {"processor_failed:fails": 12}),
    "a filter": (filtered, {}),
    "a long run that is sampled out": (lambda: sampling_buffer(fails=False), {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_g20_what_is_given_up_is_in_the_log(way: str) -> None:
    """By the end of the delivery the warnings and errors add up to the ledger's losses, by reason."""
    act, expected = WAYS[way]

    @virtual_time
    async def check() -> None:
        with capture_logs() as lines:
            delivery = await act()
        ledger = delivery.health().ledger
        assert ledger.adds_up
        assert ledger.pending == 0
        assert said(lines) == expected
        if "sampling_buffer_full" not in ledger.dropped:
            assert lost(ledger) == sum(expected.values())

    check()


@virtual_time
async def test_g20_a_run_that_was_kept_says_what_it_could_not_hold() -> None:
    """Items dropped from the buffer are a loss in a run that is delivered; in one that is sampled out they are not."""
    with capture_logs() as lines:
        delivery = await sampling_buffer(fails=True)
    dropped = delivery.health().ledger.dropped["sampling_buffer_full"]
    assert dropped >= 12
    assert said(lines) == {"sampling_buffer_full": dropped}


@virtual_time
async def test_g20_what_keeps_failing_is_one_line_and_a_last_one() -> None:
    """A back end that refuses everything for a moment does not flood the log, and nothing is left out either."""
    sink = ScriptedSink(*times(100, PermanentWriteError("answered 400")))
    with capture_logs() as lines:
        delivery = await to_the_end(main(sink, batch_items=1, batch_age=0.0), *[1] * 100)
    failed = [line for line in lines if line["event"] == "delivery_failed"]
    assert [line["items"] for line in failed] == [1, 99]
    assert failed[-1]["error"] == "PermanentWriteError: answered 400"
    assert delivery.health().ledger.failed == 100


@virtual_time
async def test_g20_a_line_that_cannot_be_written_now_is_written_later() -> None:
    """A log processor that records steps of its own loses them while it writes: that is logged afterwards."""
    delivery = main(ScriptedSink(), queue_items=3)
    lease = await opened(delivery)
    lines: list[Any] = []

    def records(logger: object, name: str, line: Any) -> Any:
        lines.append({**line, "log_level": name})
        if len(lines) == 1:
            accept(lease, 4)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[records])
    try:
        accept(lease, 4)
        await ended(delivery, lease)
    finally:
        structlog.configure(**before)
    assert said(lines) == delivery.health().ledger.dropped == {"queue_full": 5}


@virtual_time
async def test_g20_what_the_end_of_the_processors_refuses_is_in_the_log_at_once() -> None:
    """A run records when the exporter has closed and its processors are about to end: nothing else would log that."""
    passes: Processor = lambda item: item  # noqa: E731
    delivery = main(ScriptedSink(), processors=[passes])
    lease = await opened(delivery)
    with capture_logs() as lines:
        delivery.close().add_done_callback(lambda _: accept(lease, 2))
        await settle()
    assert said(lines) == delivery.health().ledger.dropped == {"closed": 2}
    assert len(lines) == 1


# The spool


async def spooled(
    tmp_path: Path, backend: Any, count: int, **limits: Any
) -> tuple[Delivery, list[Mapping[str, Any]]]:
    delivery = Delivery("main", backend, limits=quick_limits(tmp_path, "always", **limits))
    with capture_logs() as lines:
        lease = delivery.lease()
        for number in range(count):
            lease.accept(make_span(name=str(number)))
        await asyncio.wrap_future(lease.saved())
        await asyncio.wrap_future(delivery.close())
        lease.release()
    return delivery, list(lines)


async def test_g20_what_the_spool_drops_is_in_the_log(tmp_path: Path) -> None:
    """Drops for lack of room, and for age."""
    delivery, lines = await spooled(tmp_path, Backend(down=True), 300, spool_bytes=3000, retry_for=0.0)
    ledger = delivery.health().ledger
    assert lost(ledger) > 50
    assert said(lines).total() == lost(ledger)
    again, lines = await spooled(tmp_path, Backend(down=True), 1, spool_age=1e-6)
    assert lost(again.health().ledger) > 0
    assert said(lines) == again.health().ledger.dropped
    assert "spool_expired" in said(lines)


async def test_g20_what_a_back_end_refuses_is_in_the_log_with_a_spool_too(tmp_path: Path) -> None:
    """The refusal is final at once, and the items are not kept."""

    async def refuses(batch: Batch) -> None:
        raise PermanentWriteError("answered 400")

    delivery, lines = await spooled(tmp_path, refuses, 30)
    assert delivery.health().ledger == LedgerSnapshot(accepted=30, failed=30)
    assert said(lines) == {"refused": 30}


async def test_a_spool_that_keeps_everything_loses_nothing_and_says_nothing(tmp_path: Path) -> None:
    """What is kept for the next start is pending."""
    delivery, lines = await spooled(tmp_path, Backend(down=True), 30, retry_for=0.0)
    assert delivery.health().ledger.pending == 30
    assert said(lines) == {}


def blank_out_half(directory: Path) -> None:
    [path] = directory.glob("*.sqlite3")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 4)
        file.write(bytes(size // 2))


async def spool_damaged(tmp_path: Path) -> tuple[Delivery, list[Mapping[str, Any]]]:
    """The file is overwritten while its records wait."""
    backend = Backend(down=True)
    delivery = Delivery("main", backend, limits=quick_limits(tmp_path, "always", retry_for=0.0))
    with capture_logs() as lines:
        lease = delivery.lease()
        for _ in range(40):
            lease.accept(make_span(output=os.urandom(100_000).hex()))
        await asyncio.wrap_future(lease.saved())
        await until(lambda: delivery.health().spooled == 40)
        await asyncio.to_thread(blank_out_half, tmp_path)
        backend.down = False
        await asyncio.wait_for(asyncio.wrap_future(lease.settled()), 10.0)
        lease.release()
        await asyncio.wrap_future(delivery.closed())
    return delivery, list(lines)


def leave(directory: Path, records: Sequence[bytes]) -> None:
    with Spool(directory, exporter="main", max_bytes=1 << 30) as spool:
        spool.append(records, taken=False)


async def spool_full(tmp_path: Path) -> tuple[Delivery, list[Mapping[str, Any]]]:
    """What former processes have left is more than the spool may hold now."""
    await asyncio.to_thread(leave, tmp_path, [encode_item(make_span()) for _ in range(100)])
    return await spooled(tmp_path, Backend(down=True), 1, spool_bytes=3000)


async def spool_rejected(tmp_path: Path) -> tuple[Delivery, list[Mapping[str, Any]]]:
    """Another version of the package has left what this one cannot read."""
    await asyncio.to_thread(leave, tmp_path, [b"", b"\xffnewer"])
    return await spooled(tmp_path, Backend(), 1)


SPOOL_WAYS: dict[str, Callable[[Path], Awaitable[tuple[Delivery, list[Mapping[str, Any]]]]]] = {
    "spool_full": spool_full,
    "spool_damaged": spool_damaged,
    "spool_rejected": spool_rejected,
}


@pytest.mark.parametrize("reason", SPOOL_WAYS)
async def test_g20_what_is_given_up_in_the_spool_is_in_the_log(reason: str, tmp_path: Path) -> None:
    """The lines add up to the ledger's losses here too."""
    delivery, lines = await SPOOL_WAYS[reason](tmp_path)
    ledger = delivery.health().ledger
    assert ledger.adds_up
    assert said(lines) == ledger.dropped
    assert reason in ledger.dropped


def test_g20_every_reason_has_a_way_here_that_finds_it_in_the_log() -> None:
    """A type checker sees to it that nothing is given up for a reason that is not listed; each of those is tried."""
    tried = {reason for _, reasons in WAYS.values() for reason in reasons if ":" not in reason}
    tried |= {*SPOOL_WAYS, "spool_expired", "sampling_buffer_full", "sampled_out"}
    tried.add("not_read")  # in tests/integrations/test_opentelemetry_exporter.py: spans of the SDK alone
    assert tried == {*get_args(FailureReason), *get_args(NamedDropReason)}


@virtual_time
async def test_g20_a_line_names_the_runs_that_have_lost_something() -> None:
    """The first few of them, with their own counts beside those of the exporter."""
    sink = ScriptedSink(*times(100, PermanentWriteError("answered 400")))
    exporter = SpanExporter(main(sink, queue_items=10, batch_age=0.1))
    manager = ExporterManager.from_exporters({"main": exporter})
    runs: list[str] = []
    with capture_logs() as lines:
        for _ in range(5):
            state = ContextState()
            runs.append(state.run.run_id)
            async with manager.get().start(state):
                for _ in range(12):
                    with step("tool", "x"):
                        pass
        await asyncio.wrap_future(exporter.delivery.closed())
    for event in ("delivery_failed", "delivery_dropped"):
        named = [line["runs"] for line in lines if line["event"] == event]
        assert named[0][0] == runs[0]
        assert all(0 < len(each) <= 3 and set(each) <= set(runs) for each in named)


# Processes

PRELUDE = """
import asyncio, gc, os, sys, threading
from nat_observability import *
from nat_observability.errors import RetryableWriteError

def exporter_of(sink, name="main", **limits):
    limits = {"retry_for": 0.0, "drain_timeout": 0.5, **limits}
    return SpanExporter(sink, name=name, limits=DeliveryLimits(**limits))

def down(batch):
    raise RetryableWriteError("answered 503")

async def record(manager, count):
    async with manager.start(ContextState()):
        for _ in range(count):
            with step("tool", "t"):
                pass

def manager_of(exporter):
    return ExporterManager.from_exporters({exporter.name: exporter})
"""

AT_EXIT = {
    "no runtime is shut down": """
runtime = ObservabilityRuntime({"main": (exporter := exporter_of(down))})
asyncio.run(runtime.init())
for _ in range(3):
    asyncio.run(record(manager_of(exporter), 4))
""",
    "a manager alone": """
exporter = exporter_of(down)
for _ in range(3):
    asyncio.run(record(manager_of(exporter), 4))
""",
    "an exporter without a reference": """
async def main():
    exporter = exporter_of(down)
    for _ in range(3):
        await record(manager_of(exporter), 4)
        while exporter.delivery.at_work:
            await asyncio.sleep(0.001)
asyncio.run(main())
gc.collect()
""",
    "the runtime has shut down": """
async def main():
    async with ObservabilityRuntime({"main": (exporter := exporter_of(down))}, shutdown_timeout=0.8):
        for _ in range(3):
            await record(manager_of(exporter), 4)
asyncio.run(main())
""",
    "a run outlives the runtime": """
async def main():
    runtime = ObservabilityRuntime({"main": (exporter := exporter_of(print))}, shutdown_timeout=0.2)
    await runtime.init()
    async with manager_of(exporter).start(ContextState()):
        await runtime.shutdown()
        for _ in range(12):
            with step("tool", "t"):
                pass
asyncio.run(main())
""",
    "the sink hangs until the deadline": """
import time
async def main():
    hangs = threading.Event()
    exporter = exporter_of(lambda batch: hangs.wait(30), batch_items=3, batch_age=0.0)
    runtime = ObservabilityRuntime({"main": exporter}, shutdown_timeout=0.3)
    async with runtime:
        await record(manager_of(exporter), 12)
asyncio.run(main())
""",
    "the sink hangs and the interpreter exits": """
async def hangs(batch):
    await asyncio.sleep(3600)
asyncio.run(record(manager_of(exporter_of(hangs, drain_timeout=0.3)), 12))
""",
    "a forked child records in its parent's run": """
async def main():
    exporter = exporter_of(lambda batch: None)
    async with manager_of(exporter).start(ContextState()):
        pid = os.fork()
        if not pid:
            for _ in range(12):
                with step("tool", "t"):
                    pass
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
asyncio.run(main())
""",
    "a forked child has a dead back end": """
exporter = exporter_of(down)
runtime = ObservabilityRuntime({"main": exporter})
asyncio.run(runtime.init())
pid = os.fork()
if not pid:
    for _ in range(3):
        asyncio.run(record(manager_of(exporter), 4))
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
asyncio.run(runtime.shutdown())
""",
}


@pytest.mark.timeout(60)  # a second or two, and more on a busy machine
@pytest.mark.parametrize("ending", AT_EXIT)
def test_g20_by_the_end_of_the_process_every_item_that_is_lost_is_in_the_log(ending: str) -> None:
    """However it ends: of twelve lost items the lines on stderr count twelve, each with exporter and reason."""
    stderr = run_program(PRELUDE + AT_EXIT[ending]).stderr
    lines = re.findall(
        r"^delivery_(?:failed|dropped) exporter=main items=(\d+) reasons=(.*)$", stderr, re.MULTILINE
    )
    assert sum(int(items) for items, _ in lines) == 12, stderr
    assert all(re.match(r"['\"]?\{'\w+': \d+", reasons) for _, reasons in lines), stderr
    assert all(re.search(r"runs=.*'[0-9a-f-]{8,}'", reasons) for _, reasons in lines), stderr
    # The last word of the process is the total.
    *_, last = stderr.splitlines()
    assert re.fullmatch(r"delivery_lost_in_all exporter=main items=12 reasons=['\"]?\{.*\}['\"]?", last), (
        stderr
    )
    assert stderr.count("delivery_lost_in_all") == 1


def test_g20_a_step_that_outlives_its_run_is_in_the_log() -> None:
    """One line, however many there are; none for a run that no exporter takes part in, or for a step in time."""
    stderr = run_program(
        PRELUDE
        + """
async def main():
    for exporters in ({}, {"main": exporter_of(print)}):
        async with ExporterManager.from_exporters(exporters).start(ContextState()) as manager:
            with step("tool", "in time"):
                pass
            late = step("tool", "ends late")
            late.__enter__()
        late.__exit__(None, None, None)
        for _ in range(3):
            with step("tool", "begins late"):
                pass
asyncio.run(main())
"""
    ).stderr
    assert stderr.count("step_after_run") == 1, stderr


@pytest.mark.may_block
def test_g20_no_delivery_is_said_to_be_closed_while_a_line_about_it_is_written() -> None:
    """A thread of its own writes it; whoever closes the delivery meanwhile finds nothing left to log, and waits."""

    class Refused:
        async def open(self) -> None:
            while not recorded.is_set():  # noqa: ASYNC110  another thread sets it
                await asyncio.sleep(0.001)
            raise ImportError("no driver")

        async def write(self, batch: Batch) -> None: ...

        async def close(self) -> None: ...

    recorded, begun, goes_on, lines = threading.Event(), threading.Event(), threading.Event(), []

    def write_slowly(_: Any, method: str, line: Any) -> Any:
        if line["event"] == "delivery_dropped":
            begun.set()
            assert goes_on.wait(10.0)
            lines.append(line)
        raise structlog.DropEvent

    delivery = Delivery("main", Refused())
    structlog.configure(processors=[write_slowly])
    try:
        lease = delivery.lease()
        accept(lease, 3)
        recorded.set()  # all three are lost at once
        assert begun.wait(10.0)
        lease.release()
        closed = delivery.close()
        assert not closed.done()
        assert not delivery.closed().done()
        goes_on.set()
        closed.result(10.0)
        delivery.closed().result(10.0)
        assert [line["items"] for line in lines] == [3]
    finally:
        recorded.set()
        goes_on.set()
        structlog.reset_defaults()


@pytest.mark.timeout(60)  # a second or two, and more on a busy machine
def test_g20_many_threads_that_lose_items_at_once_are_counted_exactly() -> None:
    """Every item is in exactly one line."""
    delivery = Delivery("main", lambda batch: None, limits=DeliveryLimits(queue_items=10, batch_age=60.0))

    def work() -> None:
        lease = delivery.lease()
        accept(lease, 500)
        lease.release()
        delivery.log_losses()

    with capture_logs() as lines:
        keeper = delivery.lease()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        keeper.release()
        delivery.closed().result(10.0)
    assert said(lines).total() == lost(delivery.health().ledger)
