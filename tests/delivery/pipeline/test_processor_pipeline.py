"""Processors in a delivery: each item once, before spool and sink, and nothing that was not processed leaves."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits, SpoolMode
from nat_observability.delivery.pipeline.intake import ProcessorPipeline
from nat_observability.delivery.queue import weigh
from nat_observability.errors import RetryableWriteError
from nat_observability.events import Item
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.processors import Processor
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests.delivery.backends import Backend, in_spool, quick_limits, record
from tests.delivery.sinks import ScriptedSink
from tests.delivery.virtual import RunningLoop, settle, virtual_time
from tests.processes import run_program
from tests.sinks.builders import make_span, make_step

SECRET = "the-secret-itself"


def renamed(name: str) -> Processor:
    """A processor that appends to the name of an item."""
    return lambda item: msgspec.structs.replace(item, name=item.name + name)


def clean(item: Item) -> Item:
    """A processor that removes the input."""
    return msgspec.structs.replace(item, input=None)


def fails(item: Item) -> Item:
    raise ValueError(f"cannot read {item.input!r}")


class Mute:
    """A processor with a name of its own that runs a given function."""

    name = "mute"

    def __init__(self, answer: Callable[[Item], Any]) -> None:
        self._answer = answer

    def __call__(self, item: Item) -> Any:
        return self._answer(item)


async def delivered(
    sink: Any, processors: Iterable[Processor], items: Iterable[Item], **limits: Any
) -> tuple[LedgerSnapshot, Delivery]:
    """Deliver items on the running loop, and return the ledger when all is settled."""
    source = RunningLoop()
    bounds = DeliveryLimits(**{"batch_age": 0.0} | limits)
    delivery = Delivery("main", sink, limits=bounds, loop_source=source, processors=processors)
    lease = delivery.lease()
    for item in items:
        lease.accept(item)
    await asyncio.wrap_future(lease.settled())
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    return lease.ledger, delivery


@virtual_time
async def test_processors_run_in_order() -> None:
    """Each gets the result of the one before, and the sink that of the last, in the order of the items."""
    sink = ScriptedSink()
    ledger, _ = await delivered(
        sink, [renamed("-a"), renamed("-b")], [make_step(name=str(n)) for n in range(1000)]
    )
    assert [item.name for item in sink.taken] == [f"{n}-a-b" for n in range(1000)]
    assert ledger == LedgerSnapshot(accepted=1000, delivered=1000)


@virtual_time
async def test_an_item_is_processed_once_however_often_it_is_tried() -> None:
    """A batch that the back end refuses for a while is sent as it was made the first time."""
    sink = ScriptedSink(RetryableWriteError("503"), RetryableWriteError("503"))
    await delivered(sink, [renamed("-once")], [make_step(name="a")])
    assert [[item.name for item in batch] for _, batch in sink.tries] == [["a-once"]] * 3


class Hurried:
    """A processor that looks ahead, and remembers what it has seen and got."""

    name = "hurried"

    def __init__(self) -> None:
        self.seen, self.got = 0, 0

    def look_ahead(self, items: Sequence[Item]) -> int:
        self.seen += len(items)
        return len(items)

    def __call__(self, item: Item) -> Item:
        self.got += 1
        return item


class PanicError(BaseException):
    """A BaseException that is not an Exception, as a library written in Rust may raise."""


@pytest.mark.parametrize(
    "answer",
    [
        fails,
        lambda item: str(item.name),
        lambda item: make_span(),
        lambda item: [item],
        lambda item: (_ for _ in ()).throw(asyncio.CancelledError()),
        lambda item: (_ for _ in ()).throw(SystemExit(3)),
        lambda item: (_ for _ in ()).throw(PanicError()),
    ],
    ids=["raises", "a name", "another kind of item", "a list", "cancels", "exits", "panics"],
)
@virtual_time
async def test_g13_a_processor_that_fails_lets_nothing_out(answer: Callable[[Item], Any]) -> None:
    """Each item is dropped and counted under the processor's name, and those after it are not called."""
    sink = ScriptedSink()
    later: list[Item] = []

    def after(item: Item) -> Item:
        later.append(item)
        return item

    with capture_logs() as lines:
        items = [make_step(input=SECRET) for _ in range(300)]
        ledger, delivery = await delivered(sink, [Mute(answer), after], items)
    assert (sink.tries, later) == ([], [])
    assert ledger == LedgerSnapshot(accepted=300, dropped={"processor_failed:mute": 300})
    assert delivery.health().ledger == ledger
    [line] = [line for line in lines if line["event"] == "processor_failed"]
    assert (line["exporter"], line["processor"], line["log_level"]) == ("main", "mute", "error")
    assert SECRET not in str(lines)


@virtual_time
async def test_what_a_processor_leaves_out_is_counted_and_no_fault() -> None:
    """One that returns None filters: the item is counted under its name, and nothing is logged."""
    sink = ScriptedSink()
    keep_even = Mute(lambda item: item if int(item.name) % 2 == 0 else None)
    with capture_logs() as lines:
        ledger, _ = await delivered(sink, [keep_even], [make_step(name=str(n)) for n in range(10)])
    assert [item.name for item in sink.taken] == ["0", "2", "4", "6", "8"]
    assert ledger == LedgerSnapshot(accepted=10, delivered=5, dropped={"filtered:mute": 5})
    assert [line["event"] for line in lines if line["log_level"] != "info"] == []


@pytest.mark.parametrize("made", ["", "x" * 5000], ids=["shrinks", "grows"])
@virtual_time
async def test_g7_bytes_in_memory_are_those_after_processing(made: str) -> None:
    """What a processor adds or takes away counts as long as the item is in memory, and nothing is left behind."""
    release = asyncio.Event()

    async def write(batch: Batch) -> None:
        await release.wait()

    delivery = Delivery(
        "main",
        write,
        limits=DeliveryLimits(batch_age=0.0, batch_items=2),
        loop_source=RunningLoop(),
        processors=[lambda item: msgspec.structs.replace(item, input=made)],
    )
    lease = delivery.lease()
    items = [make_step(input="y" * 1000) for _ in range(5)]
    for item in items:
        lease.accept(item)
    await asyncio.sleep(1.0)
    # Two are being written, the others are processed and wait.
    after = weigh(msgspec.structs.replace(items[0], input=made))
    assert delivery.health().queue_bytes == 5 * after
    release.set()
    await asyncio.wrap_future(lease.settled())
    assert delivery.health().queue_bytes == 0
    lease.release()
    await asyncio.wrap_future(delivery.closed())


async def test_large_batches_are_processed_in_stretches() -> None:
    """Between stretches other tasks on the loop get their turn: a long batch does not monopolize the thread."""
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noting(item: Item) -> Item:
        seen.append(turns)
        return item

    task = asyncio.create_task(others())
    await delivered(ScriptedSink(), [noting], [make_step() for _ in range(2000)], batch_items=2000)
    task.cancel()
    assert max(Counter(seen).values()) <= 256


@virtual_time
async def test_what_is_kept_goes_on_while_all_else_is_filtered() -> None:
    """A filter that cannot keep up does not hold up the few items that it lets through."""
    sink = ScriptedSink()
    delivery: Delivery
    calls = 0

    def filters(item: Item) -> Item | None:
        nonlocal calls
        calls += 1
        if not sink.taken and calls < 200_000:
            lease.accept(make_step())
        return item if item.name == "kept" else None

    delivery = Delivery(
        "main",
        sink,
        limits=DeliveryLimits(batch_age=0.0),
        loop_source=RunningLoop(),
        processors=[filters],
    )
    lease = delivery.lease()
    lease.accept(make_step(name="kept"))
    lease.accept(make_step())
    await asyncio.wrap_future(lease.settled())
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    assert [item.name for item in sink.taken] == ["kept"]
    assert calls < 200_000


@pytest.mark.may_block  # its processor does, on a thread of its own
def test_g13_processors_run_on_a_thread_of_their_own_and_outside_the_lock() -> None:
    """While one runs, health can be read and steps are accepted; it never runs on the thread that records."""
    entered, go_on = threading.Event(), threading.Event()
    threads: set[str] = set()
    sink: list[Item] = []

    def waits(item: Item) -> Item:
        threads.add(threading.current_thread().name)
        entered.set()
        assert go_on.wait(10.0)
        return item

    delivery = Delivery("main", lambda batch: sink.extend(batch), processors=[waits])
    lease = delivery.lease()
    lease.accept(make_step())
    lease.settled()
    assert entered.wait(10.0)
    lease.accept(make_step())
    assert delivery.health().ledger == LedgerSnapshot(accepted=2, pending=2)
    go_on.set()
    lease.settled().result(10.0)
    lease.release()
    delivery.closed().result(10.0)
    assert (len(sink), threads) == (2, {"nat-observability-processors"})


@pytest.mark.may_block  # its processor does, on a thread of its own
def test_a_processor_that_blocks_stalls_its_own_exporter_alone() -> None:
    """The items of another exporter go on being processed and sent."""
    go_on = threading.Event()

    def blocks(item: Item) -> Item:
        assert go_on.wait(15.0)
        return item

    sinks: dict[str, list[Item]] = {"stuck": [], "other": []}
    deliveries = {
        name: Delivery(name, sink.extend, processors=[blocks if name == "stuck" else clean])
        for name, sink in sinks.items()
    }
    leases = {name: delivery.lease() for name, delivery in deliveries.items()}
    for name in ("stuck", "other"):
        leases[name].accept(make_step(input=SECRET))
        settled = leases[name].settled()
    settled.result(10.0)
    assert [item.input for item in sinks["other"]] == [None]
    go_on.set()
    for name, lease in leases.items():
        lease.settled().result(10.0)
        lease.release()
        deliveries[name].closed().result(10.0)
    assert {name: len(sink) for name, sink in sinks.items()} == {"stuck": 1, "other": 1}


def disk(directory: Path) -> bytes:
    """Every byte of a directory."""
    return b"".join(path.read_bytes() for path in directory.glob("**/*") if path.is_file())


@pytest.mark.parametrize("spool", ["spill", "always"])
async def test_g13_nothing_unprocessed_reaches_the_disk(tmp_path: Path, spool: SpoolMode) -> None:
    """Items that wait in the spool while the back end is down are processed before, once, and come out that way."""
    sink = Backend(down=True)
    calls: Counter[str] = Counter()

    def counting(item: Item) -> Item:
        calls[item.name] += 1
        return msgspec.structs.replace(item, input=None, name=f"{item.name}-clean")

    limits = quick_limits(tmp_path, spool, retry_for=0.0, queue_items=100)
    exporters = {"main": SpanExporter(sink, name="main", limits=limits, processors=[counting])}
    async with ObservabilityRuntime(exporters):
        manager = await record(ExporterManager.from_exporters(exporters), range(60), input=SECRET)
        if spool == "always":
            assert manager.report.ledger == LedgerSnapshot(accepted=60, pending=60)
    assert SECRET.encode() not in await asyncio.to_thread(disk, tmp_path)
    assert len(await asyncio.to_thread(in_spool, tmp_path)) == 60
    sink.down = False
    async with ObservabilityRuntime(exporters):
        await until(lambda: len(sink.taken) >= 60)
    assert sorted(sink.names) == sorted(f"{n}-clean" for n in range(60))
    assert calls == Counter(map(str, range(60)))


_EXITS = """
    import asyncio, sys
    from pathlib import Path
    from nat_observability import ExporterManager, SpanExporter
    from tests.delivery.backends import Backend, quick_limits, record
    from tests.delivery.pipeline.test_processor_pipeline import SECRET, clean

    limits = quick_limits(Path(sys.argv[1]), sys.argv[2], batch_items=512, batch_age=60.0)
    exporters = {"main": SpanExporter(Backend(down=True), name="main", limits=limits, processors=[clean])}
    asyncio.run(record(ExporterManager.from_exporters(exporters), range(700), input=SECRET))
"""


@pytest.mark.parametrize("spool", ["spill", "always"])
def test_g13_the_exit_of_the_interpreter_leaves_nothing_unprocessed(tmp_path: Path, spool: SpoolMode) -> None:
    """At exit, and at the last call, what waited is processed before it is saved, and all of it is saved."""
    run_program(_EXITS, tmp_path, spool)
    assert SECRET.encode() not in disk(tmp_path)
    assert sorted(item.name for item in in_spool(tmp_path)) == sorted(map(str, range(700)))


@virtual_time
async def test_g2_what_is_abandoned_unprocessed_does_not_leave() -> None:
    """At the deadline what was not processed is dropped and counted, not sent as it is."""
    sink = ScriptedSink(seconds=3600.0)
    delivery = Delivery(
        "main",
        sink,
        limits=DeliveryLimits(batch_age=0.0, batch_items=1),
        loop_source=RunningLoop(),
        processors=[clean],
    )
    lease = delivery.lease()
    for _ in range(5):
        lease.accept(make_step(input=SECRET))
    await asyncio.sleep(1.0)
    assert delivery.abandon() == 5
    assert lease.ledger == LedgerSnapshot(accepted=5, dropped={"shutdown_timeout": 5})
    await settle()
    assert [item.input for _, batch in sink.tries for item in batch] == [None]


@pytest.mark.parametrize("exporter", [SpanExporter, StepExporter])
async def test_g4_a_run_goes_on_whatever_its_processors_do(exporter: type[StepExporter]) -> None:
    """If each item is dropped, the run ends as ever, its report says why, and the receipt is complete."""
    sink = Backend()
    exporters = {"main": exporter(sink, name="main", processors=[fails], flush="delivered")}
    manager = await record(ExporterManager.from_exporters(exporters), range(20), input=SECRET)
    assert sink.taken == []
    items = 20 if exporter is SpanExporter else 40
    assert manager.report.ledger == LedgerSnapshot(accepted=items, dropped={"processor_failed:fails": items})


@pytest.mark.parametrize("wrong", [None, "redact", Mute, 7])
def test_anything_but_a_processor_is_refused(wrong: Any) -> None:
    """A processor that cannot be called is an error when the exporter is made, and not at its first item."""
    with pytest.raises(TypeError, match="A processor is a function of an item"):
        SpanExporter(Backend(), processors=[wrong])


def test_a_delivery_keeps_its_own_processors() -> None:
    """Processors next to a delivery that has its own would be ignored silently, so they are refused."""
    with pytest.raises(ValueError, match="Delivery 'shared' has its own processors"):
        SpanExporter(Delivery("shared", Backend()), processors=[clean])


class LeavesLight(Mute):
    """A processor that says up to which weight it leaves items as they are, and runs a given function."""

    leaves_up_to = 100


class HandsOn:
    """A processor that notes each item, and otherwise is what another one is."""

    def __init__(self, inner: LeavesLight) -> None:
        self.noted: list[str] = []
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, item: Item) -> Item:
        self.noted.append(item.name)
        return item


@virtual_time
async def test_a_processor_that_leaves_light_items_is_called_for_the_others_alone() -> None:
    """What it is not called for goes on as it is; an item that another processor has changed is shown to it."""
    seen: list[str] = []

    def note(item: Item) -> Item:
        seen.append(item.name)
        return item

    items = [make_span(name="light"), make_span(name="heavy", input="x" * 101), make_span(name="changed")]

    def change(item: Item) -> Item:
        return msgspec.structs.replace(item, input=None) if item.name == "changed" else item

    hands_on, sink = HandsOn(LeavesLight(note)), ScriptedSink()
    ledger, _ = await delivered(sink, (change, LeavesLight(note), hands_on), items)
    assert seen == ["heavy", "changed"]
    assert hands_on.noted == ["light", "heavy", "changed"], (
        "one that only hands the promise on has to be called"
    )
    assert ledger.delivered == 3
    assert [item.name for item in sink.taken] == ["light", "heavy", "changed"]


def test_a_processor_that_answers_no_question_is_taken() -> None:
    """Whatever it raises when it is asked for what its class does not have."""

    class Silent:
        """Raises what no question for an attribute is meant to raise."""

        name = "silent"

        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

        def __call__(self, item: Item) -> Item:
            return item

    silent = Silent()
    assert ProcessorPipeline("main", [clean, silent]).processors == (clean, silent)
