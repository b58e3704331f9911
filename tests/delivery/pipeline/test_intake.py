"""Intake: processing that several deliveries share."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from nat_observability.delivery.delivery import Delivery, route_to
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.pipeline.intake import Intake
from nat_observability.delivery.queue import weigh
from nat_observability.events import Item
from nat_observability.processors import Processor
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until, wait_until
from tests.delivery.leases import accept
from tests.delivery.sinks import ScriptedSink
from tests.delivery.virtual import RunningLoop, settle, virtual_time
from tests.processes import run_program
from tests.sinks.builders import make_step

WEIGHT = weigh(make_step())


class Seen:
    """A processor that remembers what it was given, and waits until `lets_go` is set."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.lets_go = threading.Event()
        self.lets_go.set()

    def __call__(self, item: Item) -> Item:
        self.items.append(item)
        self.lets_go.wait(20.0)
        return msgspec.structs.replace(item, name=f"{item.name}!")


class Side:
    """Deliveries that share an intake, each with a sink that takes everything."""

    def __init__(self, processors: Sequence[Processor], count: int = 3, **limits: Any) -> None:
        source: Any = RunningLoop() if limits.pop("here", False) else None
        self.source = source
        self.intake = Intake("shared", processors, source)
        self.sinks = [ScriptedSink() for _ in range(count)]
        bounds = DeliveryLimits(**{"batch_age": 0.0} | limits)
        self.deliveries = [
            Delivery(f"number {number}", sink, limits=bounds, loop_source=source, processors=self.intake)
            for number, sink in enumerate(self.sinks)
        ]
        self.route = route_to(self.deliveries)

    async def open(self) -> None:
        for delivery in self.deliveries:
            lease = delivery.lease(keep=True)
            assert lease.opening is not None
            await asyncio.wrap_future(lease.opening)

    async def close(self) -> None:
        await asyncio.gather(*[asyncio.wrap_future(each.close()) for each in self.deliveries])
        for delivery in self.deliveries:
            health = delivery.health()
            assert health.ledger.adds_up
            assert health.ledger.pending == health.queue_bytes == health.queue_depth == 0


@virtual_time
async def test_an_item_is_processed_once_for_all_and_reaches_each() -> None:
    """Each exporter and each run have their own counts of it."""
    seen = Seen()
    side = Side([seen], here=True)
    await side.open()
    runs = [Lease(side.route), Lease(side.route), side.deliveries[1].lease()]
    for run in runs:
        accept(run, 4)
    await asyncio.gather(*[asyncio.wrap_future(run.settled()) for run in runs])
    assert len(seen.items) == 12
    assert [len(sink.taken) for sink in side.sinks] == [8, 12, 8]
    assert {item.name[-1] for sink in side.sinks for item in sink.taken} == {"!"}
    for run in runs[:2]:
        for delivery in side.deliveries:
            assert run.ledger_of(delivery.accounting) == LedgerSnapshot(accepted=4, delivered=4)
    assert runs[2].ledger == LedgerSnapshot(accepted=4, delivered=4)
    runs[2].release()
    await side.close()
    await settle()
    assert side.source.users == 0


@virtual_time
async def test_items_that_follow_others_closely_wake_no_thread() -> None:
    """The thread that records them pays for waking another one; they are processed within a tenth of a second."""
    seen = Seen()
    side = Side([seen], count=1, here=True, batch_age=10.0)
    await side.open()
    await settle()
    loop, wakes = asyncio.get_running_loop(), Counter[str]()
    woken = loop.call_soon_threadsafe

    def count(*args: Any, **options: Any) -> asyncio.Handle:
        wakes["now"] += 1
        return woken(*args, **options)

    loop.call_soon_threadsafe = count  # type: ignore[assignment, method-assign]
    run = Lease(side.route)
    for number in range(20):
        accept(run, 1)
        await asyncio.sleep(0.04)
        assert len(seen.items) >= number - 3
    assert wakes["now"] <= 2  # the first item wakes the processors, and its result the delivery
    await asyncio.sleep(0.2)
    assert len(seen.items) == 20
    await asyncio.sleep(1.0)
    wakes.clear()
    accept(run, 1)  # long after the others
    assert wakes["now"] == 1
    await asyncio.wrap_future(run.settled())
    assert run.ledger_of(side.deliveries[0].accounting) == LedgerSnapshot(accepted=21, delivered=21)
    await side.close()
    del loop.call_soon_threadsafe


@pytest.mark.parametrize("field", ["input", "output", "metadata"])
@virtual_time
async def test_g13_a_result_that_cannot_be_measured_costs_itself_alone(field: str) -> None:
    """A processor may put anything into a field. The items before and after are delivered all the same."""

    def spoils(item: Item) -> Item:
        return msgspec.structs.replace(item, **{field: 5}) if item.name == "spoilt" else item

    side = Side([spoils], here=True)
    await side.open()
    run = Lease(side.route)
    for name in ("before", "spoilt", "after"):
        run.accept(make_step(name=name))
    await asyncio.wrap_future(run.settled())
    accept(run, 1)
    await asyncio.wrap_future(run.settled())
    for delivery, sink in zip(side.deliveries, side.sinks, strict=True):
        expected = LedgerSnapshot(accepted=4, delivered=3, dropped={"processor_failed:spoils": 1})
        assert run.ledger_of(delivery.accounting) == delivery.health().ledger == expected
        assert len(sink.taken) == 3
    await side.close()


@virtual_time
async def test_g4_processing_goes_on_if_every_task_of_its_loop_is_cancelled() -> None:
    """If a processor does so, for example, what waits is processed all the same."""

    def cancels(item: Item) -> Item:
        if item.name == "cancels":
            for task in asyncio.all_tasks():
                if task.get_name().startswith("processors"):
                    task.cancel()
        return item

    side = Side([cancels], here=True)
    await side.open()
    run = Lease(side.route)
    run.accept(make_step(name="cancels"))
    await asyncio.wrap_future(run.settled())
    accept(run, 2)
    await asyncio.wrap_future(run.settled())
    assert [len(sink.taken) for sink in side.sinks] == [3, 3, 3]
    await side.close()
    await settle()
    assert side.source.users == 0


class Slow:
    """A processor that takes so long that a stretch ends after each item; after the first it has `interrupt` called."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self.names: list[str] = []
        self._interrupt = interrupt

    def __call__(self, item: Item) -> Item:
        self.names.append(item.name)
        if len(self.names) == 1:
            asyncio.get_running_loop().call_soon(self._interrupt)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        return item


async def slowly(interrupt: Callable[[Side], object]) -> tuple[Side, Slow]:
    """Record five items at once, and interrupt after the first stretch, when the others are taken, not processed."""
    slow = Slow(lambda: interrupt(side))
    side = Side([slow], here=True)
    await side.open()
    run = Lease(side.route)
    for number in range(5):
        run.accept(make_step(name=str(number)))
    await asyncio.wrap_future(run.settled())
    return side, slow


@virtual_time
async def test_g5_what_a_stretch_did_not_come_to_outlives_a_cancellation_in_order() -> None:
    """It was taken from the queue, and nothing has happened to it."""

    def cancel(_: Side) -> None:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("processors"):
                task.cancel()

    side, slow = await slowly(cancel)
    assert slow.names == ["0", "1", "2", "3", "4"]
    assert [[item.name for item in sink.taken] for sink in side.sinks] == [slow.names] * 3
    await side.close()


@virtual_time
async def test_g5_what_a_stretch_did_not_come_to_is_counted_if_a_delivery_is_abandoned() -> None:
    """By that delivery alone: the others get it."""
    side, _ = await slowly(lambda side: side.deliveries[0].abandon())
    ledgers = [delivery.health().ledger for delivery in side.deliveries]
    assert ledgers[0] == LedgerSnapshot(accepted=5, dropped={"shutdown_timeout": 5})
    assert ledgers[1:] == [LedgerSnapshot(accepted=5, delivered=5)] * 2
    await side.close()


@virtual_time
async def test_g7_a_queue_that_fills_by_bytes_is_processed_before_it_is_full() -> None:
    """It does not wait for more items, as if it were full by number."""
    seen = Seen()
    item = make_step(input="x" * 10_000)
    side = Side([seen], here=True, queue_bytes=weigh(item) * 10, batch_age=60.0)
    await side.open()
    run = Lease(side.route)
    await settle()
    run.accept(item)
    await settle()
    assert seen.items == []  # it waits for others
    for _ in range(5):
        run.accept(item)
    await asyncio.sleep(0.05)  # half of what it would wait for others; on a busy machine in several stretches
    assert len(seen.items) == 6
    await side.close()


@pytest.mark.may_block  # its processor does, on a thread of its own
def test_g7_an_intake_holds_no_more_than_the_most_generous_of_its_deliveries() -> None:
    """Even while a processor hangs, and if a more generous delivery was added meanwhile."""

    async def whole() -> None:
        seen = Seen()
        side = Side([seen], 2, queue_bytes=WEIGHT * 4)
        await side.open()
        seen.lets_go.clear()
        run = Lease(side.route)
        accept(run, 1)
        await until(lambda: seen.items)
        accept(run, 20)
        counts = run.ledger_of(side.deliveries[0].accounting)
        assert counts == LedgerSnapshot(accepted=21, pending=4, dropped={"queue_full": 17})
        more = DeliveryLimits(queue_bytes=WEIGHT * 8)
        side.deliveries.append(Delivery("more", ScriptedSink(), limits=more, processors=side.intake))
        accept(run, 20)
        counts = run.ledger_of(side.deliveries[0].accounting)
        assert counts == LedgerSnapshot(accepted=41, pending=8, dropped={"queue_full": 33})
        seen.lets_go.set()
        await asyncio.wrap_future(run.settled())
        seen.lets_go.clear()
        accept(run, 1)
        await until(lambda: len(seen.items) == 9)
        accept(run, 20)
        assert run.ledger_of(side.deliveries[0].accounting).pending == 8
        seen.lets_go.set()
        await side.close()

    asyncio.run(whole())


@pytest.mark.may_block  # its processor does, on a thread of its own
@pytest.mark.parametrize(
    ("policies", "kept"),
    [
        (("drop_oldest", "drop_oldest"), ["first", "3", "4"]),
        (("drop_oldest", "drop_newest"), ["first", "0", "1"]),
    ],
)
def test_g7_an_intake_makes_room_if_each_of_its_deliveries_does(
    policies: Sequence[Any], kept: Sequence[str]
) -> None:
    """If one of them refuses the newest instead, so does the intake."""

    async def whole() -> None:
        seen = Seen()
        intake = Intake("shared", [seen])
        deliveries = [
            Delivery(
                f"number {number}",
                ScriptedSink(),
                limits=DeliveryLimits(queue_policy=policy, queue_items=2, batch_age=0.0),
                processors=intake,
            )
            for number, policy in enumerate(policies)
        ]
        for each in deliveries:
            opening = each.lease(keep=True).opening
            assert opening is not None
            await asyncio.wrap_future(opening)
        seen.lets_go.clear()
        run = Lease(route_to(deliveries))
        run.accept(make_step(name="first"))
        await until(lambda: seen.items)
        for number in range(5):
            run.accept(make_step(name=str(number)))
        seen.lets_go.set()
        await asyncio.wrap_future(run.settled())
        assert [item.name for item in seen.items] == kept
        for each in deliveries:
            assert run.ledger_of(each.accounting).adds_up
            await asyncio.wrap_future(each.close())

    asyncio.run(whole())


@pytest.mark.may_block  # its processor does, on a thread of its own
@pytest.mark.parametrize("spool", ["off", "always"])
def test_g2_a_delivery_that_is_abandoned_while_a_processor_hangs_waits_for_nothing(
    spool: Any, tmp_path: Any
) -> None:
    """Its items are given up at once; those of the others that share the processor are delivered later."""

    async def whole() -> None:
        seen = Seen()
        intake = Intake("shared", [seen])
        sinks = [ScriptedSink(), ScriptedSink()]
        deliveries = [
            Delivery(
                f"number {number}",
                sink,
                limits=DeliveryLimits(batch_age=0.0, spool=spool, spool_path=tmp_path / str(number)),
                processors=intake,
            )
            for number, sink in enumerate(sinks)
        ]
        for each in deliveries:
            opening = each.lease(keep=True).opening
            assert opening is not None
            await asyncio.wrap_future(opening)
        given_up, innocent = (each.accounting for each in deliveries)
        seen.lets_go.clear()
        run = Lease(route_to(deliveries))
        accept(run, 3)
        await until(lambda: seen.items)
        settled, saved = run.settled_in(given_up), run.saved_in(given_up)
        assert deliveries[0].abandon() == 3
        assert settled.done()
        assert saved.done()
        assert run.ledger_of(given_up) == LedgerSnapshot(accepted=3, dropped={"shutdown_timeout": 3})
        assert run.ledger_of(innocent) == LedgerSnapshot(accepted=3, pending=3)
        again = deliveries[0].lease()
        accept(again, 1)
        seen.lets_go.set()
        await asyncio.wrap_future(run.settled())
        await asyncio.wrap_future(again.settled())
        assert run.ledger_of(innocent) == LedgerSnapshot(accepted=3, delivered=3)
        assert again.ledger == LedgerSnapshot(accepted=1, delivered=1)
        again.release()
        await asyncio.gather(*[asyncio.wrap_future(each.close()) for each in deliveries])
        for each in deliveries:
            assert each.health().ledger.adds_up
            assert each.health().ledger.pending == 0

    asyncio.run(whole())


def test_g5_every_count_adds_up_at_every_moment_under_threads() -> None:
    """Four threads record on several routes of one intake; its deliveries are closed, abandoned and opened again."""
    chance = random.Random(4)

    def some(item: Item) -> Item | None:
        if chance.random() < 0.05:
            raise ValueError(item)
        return item if chance.random() < 0.9 else None

    intake = Intake("shared", [some])
    sinks = [Counting() for _ in range(4)]
    deliveries = [
        Delivery(
            f"number {number}",
            sink,
            limits=DeliveryLimits(batch_age=0.001, batch_items=8, queue_items=64),
            processors=intake,
        )
        for number, sink in enumerate(sinks)
    ]
    ways = [deliveries, deliveries[:2], deliveries[1:3], deliveries[3:]]
    for each in deliveries:
        each.lease(keep=True)
    accepted = Counter[str]()
    failures: list[BaseException] = []
    over = threading.Event()

    def check(run: Lease, way: Sequence[Delivery], count: int | None = None) -> None:
        for each in way:
            ledger = run.ledger_of(each.accounting)
            assert ledger.adds_up
            assert ledger.pending >= 0
            assert count is None or ledger.accepted == count

    def records(way: Sequence[Delivery], seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(40):
            run = way[0].lease() if len(way) == 1 else Lease(route_to(way))
            count = dice.randrange(1, 40)
            for number in range(count):
                run.accept(make_step())
                if number % 8 == 0:
                    check(run, way, number + 1)
            run.settled()
            run.release()
            check(run, way, count)
            for each in way:
                accepted[each.name] += count

    def disturbs() -> None:
        dice = random.Random(7)
        while not over.is_set():
            each = dice.choice(deliveries)
            if dice.random() < 0.3:
                each.abandon()
            elif dice.random() < 0.3:
                each.close()
            each.lease(keep=True)
            for any_one in deliveries:
                assert any_one.health().ledger.adds_up
            over.wait(0.002)

    def guarded(call: Callable[..., None], *args: Any) -> threading.Thread:
        def run() -> None:
            try:
                call(*args)
            except BaseException as error:  # noqa: BLE001  for the test to raise
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    recording = [guarded(records, way, seed) for seed, way in enumerate(ways)]
    disturbing = guarded(disturbs)
    for thread in recording:
        thread.join(15.0)
    over.set()
    disturbing.join(5.0)
    assert failures == []
    for each in deliveries:
        each.close().result(10.0)
    wait_until(lambda: not any(each.at_work for each in deliveries))
    for each, sink in zip(deliveries, sinks, strict=True):
        ledger = each.health().ledger
        assert ledger.adds_up
        assert ledger.pending == 0
        assert ledger.accepted == accepted[each.name]
        # Items that were given up while being written may have arrived all the same.
        assert ledger.delivered <= sink.taken <= ledger.delivered + ledger.dropped.get("shutdown_timeout", 0)


class Counting:
    """Counts what it takes."""

    def __init__(self) -> None:
        self.taken = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: Batch) -> None:
        await asyncio.sleep(0)
        self.taken += len(batch)

    async def close(self) -> None:
        """Nothing to close."""


def test_g15_a_child_that_is_forked_while_items_are_processed_starts_clean() -> None:
    """The parent delivers what it has accepted, to each; the child what it accepts itself."""
    run_program(
        """
        import os, threading
        from nat_observability.delivery.delivery import Delivery, route_to
        from nat_observability.delivery.lease import Lease
        from nat_observability.delivery.pipeline.intake import Intake
        from tests.sinks.builders import make_step

        began, goes_on = threading.Event(), threading.Event()

        def waits(item):
            began.set()
            goes_on.wait(10)
            return item

        taken = {"one": [], "other": []}
        intake = Intake("shared", [waits])
        deliveries = [Delivery(name, items.extend, processors=intake) for name, items in taken.items()]

        def use(count):
            kept = [each.lease(keep=True) for each in deliveries]
            run = Lease(route_to(deliveries))
            for _ in range(count):
                run.accept(make_step())
            return run

        run = use(5)
        assert began.wait(10)
        child = os.fork()
        goes_on.set()
        own = use(3) if child == 0 else run
        own.settled().result(10)
        for each in deliveries:
            each.close().result(10)
            ledger, expected = each.health().ledger, 3 if child == 0 else 5
            assert (ledger.accepted, ledger.delivered, ledger.pending) == (expected, expected, 0), ledger
            assert len(taken[each.name]) == expected
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
