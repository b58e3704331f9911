"""DeliveryLoop: opening, reopening and closing, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability import ExporterState, step
from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.state import DeliveryState
from nat_observability.errors import ExporterStartError
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.processors import Processor
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.sinks.protocol import Batch
from nat_observability.system.clock import monotonic
from nat_observability.testing import until
from tests.delivery.backends import in_spool
from tests.delivery.leases import accept, delivering, opened
from tests.delivery.sinks import Opening, ScriptedSink
from tests.delivery.virtual import RunningLoop, now, settle, virtual_time
from tests.sinks.builders import make_step

DOWN = OSError("down")


class Reopened(Opening):
    """Remembers when each try at opening began."""

    def __init__(self, *opens: BaseException | float) -> None:
        super().__init__()
        self.opens = list(opens)
        self.opened_at: list[float] = []

    async def open(self) -> None:
        self.opened_at.append(now())
        await super().open()


async def not_opened(delivery: Delivery) -> None:
    """Hold a delivery as a runtime does, and wait until its sink could not be opened."""
    lease = delivery.lease(keep=True)
    assert lease.opening is not None
    with suppress(OSError):
        await asyncio.wrap_future(lease.opening)
    assert delivery.health().state is DeliveryState.REOPENING


# Closing


@virtual_time
async def test_g6_a_lease_that_comes_and_goes_while_the_sink_is_closed_loses_nothing() -> None:
    """It was open when the run began, so the run's items are delivered, although nothing holds it any more."""
    sink = Opening()
    sink.closes = [1.0]
    async with delivering(sink, batch_age=0.0) as delivery:
        (await opened(delivery)).release()
        await settle()
        assert delivery.health().state is DeliveryState.CLOSING
        second = delivery.lease()
        items = accept(second, 2)
        second.release()
    assert sink.taken == items
    assert second.ledger == LedgerSnapshot(accepted=2, delivered=2)


@virtual_time
async def test_an_item_of_a_lease_that_ended_before_the_sink_was_closed_comes_too_late() -> None:
    """It does not open the sink again, and is counted as dropped."""
    sink = Opening()
    sink.closes = [1.0]
    async with delivering(sink, batch_age=0.0) as delivery:
        first = await opened(delivery)
        first.release()
        await settle()
        accept(first, 1)
    assert first.ledger == LedgerSnapshot(accepted=1, dropped={"closed": 1})
    assert sink.calls == ["open", "close"]


@virtual_time
async def test_g6_what_waits_for_its_processors_when_the_sink_is_closed_is_delivered() -> None:
    """A run that began after the last call, and has ended before its items were processed, loses none of them."""
    sink = Opening()
    sink.closes = [0.05]
    passes: Processor = lambda item: item  # noqa: E731
    async with delivering(sink, options={"processors": [passes]}, batch_age=60.0) as delivery:
        await opened(delivery, keep=True)
        closing = asyncio.wrap_future(delivery.close())
        await settle()
        assert delivery.health().state is DeliveryState.CLOSING
        late = delivery.lease()
        items = accept(late, 1)
        late.release()
        await closing
    assert sink.taken == items


@pytest.mark.parametrize("keep", [True, False])
@virtual_time
async def test_g12_a_lease_that_outlasts_a_last_call_has_retries_again(keep: bool) -> None:
    """The last call is answered when what waited is written; from then on a batch gets more than one last try."""
    sink = ScriptedSink(seconds=1.0)
    async with delivering(sink, batch_age=0.0, retry_initial=0.1) as delivery:
        before = await opened(delivery, keep=True)
        accept(before, 1)
        await settle()
        closing = delivery.close()
        assert delivery.health().state is DeliveryState.DRAINING
        after = delivery.lease(keep=keep)
        await asyncio.wrap_future(closing)
        assert now() == pytest.approx(1.0, abs=0.1)
        await asyncio.sleep(1.0)
        assert delivery.health().state is DeliveryState.OPEN
        sink.answers = [ConnectionError("down"), ConnectionError("down")]
        items = accept(after, 2)
        await asyncio.wrap_future(after.settled())
        assert after.ledger == LedgerSnapshot(accepted=2, delivered=2)
        assert sink.taken[1:] == items
        after.release()


class _CancelsAtClose(ScriptedSink):
    """Cancels the task that closes it, as code does that cancels all tasks."""

    async def close(self) -> None:
        await super().close()
        for task in asyncio.all_tasks():
            if task.get_name().startswith("delivery"):
                task.cancel()
        await asyncio.sleep(1.0)


@virtual_time
async def test_g6_a_delivery_that_failed_while_it_closed_opens_again_at_once() -> None:
    """Its sink could be opened: the next run does not get an error of opening it."""
    sink = _CancelsAtClose()
    async with delivering(sink, batch_age=0.0) as delivery:
        for _ in range(2):
            lease = await opened(delivery)
            accept(lease, 1)
            lease.release()
            await asyncio.wrap_future(delivery.closed())
    assert delivery.health().ledger == LedgerSnapshot(accepted=2, delivered=2)


# Opening again


@virtual_time
async def test_g1_a_sink_is_opened_again_within_a_second_and_then_less_and_less_often() -> None:
    """The wait doubles, at random below that, up to half a minute; what is recorded meanwhile is then delivered."""
    sink = Reopened(*[DOWN] * 20)
    async with delivering(sink, batch_age=0.0) as delivery:
        await not_opened(delivery)
        run = delivery.lease()
        assert run.opening is None  # it does not wait for a sink that may never open
        items = accept(run, 3)
        with capture_logs() as lines:
            await asyncio.wrap_future(run.settled())
        run.release()
        assert sink.taken == items
        assert run.ledger == LedgerSnapshot(accepted=3, delivered=3)
        delivery.close()
    assert [line["tries"] for line in lines if line["event"] == "exporter_reopened"] == [20]
    waits = [after - before for before, after in zip(sink.opened_at, sink.opened_at[1:], strict=False)]
    assert len(waits) == 20
    assert all(wait <= min(30.0, 2.0**number) + 0.01 for number, wait in enumerate(waits))
    assert max(waits[6:]) > 8.0


@virtual_time
async def test_g20_what_waits_for_a_sink_that_never_opens_is_counted_and_logged() -> None:
    """At the last call it is tried once more; then its items are dropped as `not_open`."""
    sink = Reopened(*[DOWN] * 1000)
    async with delivering(sink) as delivery:
        await not_opened(delivery)
        run = delivery.lease()
        accept(run, 3)
        await asyncio.sleep(100.0)
        tries = len(sink.opened_at)
        with capture_logs() as lines:
            await asyncio.wrap_future(delivery.close())
        assert len(sink.opened_at) == tries + 1
        assert now() == pytest.approx(100.0, abs=0.1)
    assert run.ledger == LedgerSnapshot(accepted=3, dropped={"not_open": 3})
    assert [line["reasons"] for line in lines if line["event"] == "delivery_dropped"] == [{"not_open": 3}]


@virtual_time
async def test_g2_a_sink_that_could_be_opened_again_at_the_last_call_gets_what_waits() -> None:
    """The sink is tried at once, however long the wait until the next try would have been."""
    sink = Reopened(*[DOWN] * 8)
    async with delivering(sink) as delivery:
        await not_opened(delivery)
        run = delivery.lease()
        items = accept(run, 3)
        while sink.opens:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        began, tries = now(), len(sink.opened_at)
        await asyncio.wrap_future(delivery.close())
        assert now() == pytest.approx(began, abs=0.1)
        assert len(sink.opened_at) == tries + 1
    assert sink.taken == items


@virtual_time
async def test_closing_what_is_not_open_and_has_nothing_does_not_try_again() -> None:
    """Nothing waits for the sink, so nothing waits for its opening either."""
    sink = Reopened(*[DOWN] * 1000)
    async with delivering(sink) as delivery:
        await not_opened(delivery)
        assert delivery.close().done()
        assert delivery.health().state is DeliveryState.CLOSED
    assert len(sink.opened_at) == 1


@virtual_time
async def test_a_required_exporter_that_is_not_open_yet_fails_the_start_of_a_run() -> None:
    """This holds for exporters that take part as a group too, whether or not others are open."""
    sink = Reopened(*[DOWN] * 1000)
    source = RunningLoop()
    exporters = {
        "late": SpanExporter(Delivery("late", sink, loop_source=source)),
        "works": SpanExporter(Delivery("works", ScriptedSink(), loop_source=source)),
    }
    async with ObservabilityRuntime(exporters):
        manager = ExporterManager()
        manager.add_exporter("late", exporters["late"], required=True)
        manager.add_exporter("works", exporters["works"])
        with pytest.raises(ExporterStartError) as caught:
            async with manager.start(ContextState()):
                pytest.fail("the run began")
        assert caught.value.failures == {"late": DOWN}
        sink.opens.clear()
        await asyncio.sleep(30.0)
        async with manager.start(ContextState()):
            pass
    await settle()
    assert source.users == 0


async def test_g6_a_run_waits_for_the_disk_and_not_for_a_sink_that_is_not_open(tmp_path: Path) -> None:
    """With `spool="always"` its items are on the disk when it has ended, however long the sink hangs."""
    let_go = threading.Event()

    class Hangs:
        def open(self) -> None:
            let_go.wait(60.0)

        def write(self, batch: Batch) -> None:
            """Write nothing."""

        def close(self) -> None:
            """Close nothing."""

    limits = DeliveryLimits(spool="always", spool_path=tmp_path, open_timeout=0.05)
    delivery = Delivery("main", Hangs(), limits=limits)
    exporters = {"main": SpanExporter(delivery)}
    try:
        async with ObservabilityRuntime(exporters, start_timeout=0.5, shutdown_timeout=10.0):
            async with ExporterManager.from_exporters(exporters).start(ContextState()):
                for number in range(20):
                    with step("tool", str(number)):
                        pass
            assert delivery.health().state is DeliveryState.REOPENING
    finally:
        let_go.set()
    assert delivery.health().ledger == LedgerSnapshot(accepted=20, pending=20)
    assert len(await asyncio.to_thread(in_spool, tmp_path)) == 20


# Opening at a last call


def last_call(delivery: Delivery, seconds: float = 20.0) -> asyncio.Future[None]:
    """Close a delivery as a shutdown does that has so many seconds."""
    return asyncio.wrap_future(delivery.close(monotonic() + seconds))


@virtual_time
async def test_g2_a_shutdown_opens_a_sink_as_long_as_it_has_time() -> None:
    """One that can be opened before the end gets what waits; one that cannot is tried until just before it."""
    for tries, outcome in (
        (4, LedgerSnapshot(accepted=3, delivered=3)),
        (1000, LedgerSnapshot(accepted=3, dropped={"not_open": 3})),
    ):
        sink = Reopened(*[DOWN] * 1000)
        async with delivering(sink, batch_age=0.0) as delivery:
            await not_opened(delivery)
            run = delivery.lease()
            accept(run, 3)
            await asyncio.sleep(600.0)
            sink.opens, began = [DOWN] * tries, now()
            sink.opened_at.clear()
            with capture_logs() as lines:
                closed = last_call(delivery)
                # A second caller waits for the same, and changes nothing.
                await asyncio.gather(closed, asyncio.wrap_future(delivery.closed()))
        assert run.ledger == outcome
        assert now() - began < 19.6
        assert sink.opened_at[0] - began < 0.01
        waits = [after - before for before, after in zip(sink.opened_at, sink.opened_at[1:], strict=False)]
        assert len(waits) >= 3
        assert all(wait <= 2.0**number + 0.01 for number, wait in enumerate(waits))
        lost = [line["reasons"] for line in lines if line["event"] == "delivery_dropped"]
        assert lost == [outcome.dropped] * (not outcome.delivered)
        if lost:
            assert sink.opened_at[-1] - began == pytest.approx(19.5, abs=0.01)


@pytest.mark.parametrize(("seconds", "opens"), [(19.5, True), (19.74, True), (19.76, False), (1e6, False)])
@virtual_time
async def test_g2_an_opening_that_takes_its_time_ends_with_the_shutdown(seconds: float, opens: bool) -> None:
    """If it ends just before the end, what waits is written; else it is counted as lost, before the end."""
    sink = Opening()
    sink.opens = [seconds]
    async with delivering(sink, open_timeout=1e6) as delivery:
        run = delivery.lease(keep=True)
        accept(run, 3)
        await settle()
        with capture_logs() as lines:
            await last_call(delivery)
        assert now() == pytest.approx(min(seconds, 19.75), abs=0.01)
    reasons = {} if opens else {"not_open": 3}
    assert run.ledger == LedgerSnapshot(accepted=3, delivered=3 - sum(reasons.values()), dropped=reasons)
    assert [line["event"] for line in lines] == ["delivery_dropped"] * (not opens)


@virtual_time
async def test_g2_a_shutdown_does_not_wait_for_what_time_does_not_mend() -> None:
    """A missing package or a wrong setting is the same in twenty seconds: one try, as for what fails at its start."""
    sink = Reopened(*[ImportError("no such module")] * 1000)
    async with delivering(sink) as delivery:
        lease = delivery.lease(keep=True)
        assert lease.opening is not None
        with suppress(ImportError):
            await asyncio.wrap_future(lease.opening)
        accept(lease, 3)
        tries, began = len(sink.opened_at), now()
        await last_call(delivery)
        assert (len(sink.opened_at), now() - began < 0.01) == (tries + 1, True)
    assert lease.ledger == LedgerSnapshot(accepted=3, dropped={"not_open": 3})


@virtual_time
async def test_g2_sinks_that_are_not_open_delay_no_other_at_a_shutdown() -> None:
    """Two that cannot be opened, one of them for ever, and one that hangs, beside one that is open."""
    source = RunningLoop()
    never, soon, hangs, works = Reopened(*[DOWN] * 1000), Reopened(*[DOWN] * 3), Opening(), ScriptedSink()
    hangs.opens = [1e6]
    sinks = {"never": never, "soon": soon, "hangs": hangs, "works": works}
    limits = DeliveryLimits(batch_age=60.0, open_timeout=1e6)
    exporters = {
        name: SpanExporter(Delivery(name, sink, limits=limits, loop_source=source))
        for name, sink in sinks.items()
    }
    runtime = ObservabilityRuntime(exporters, start_timeout=0.1, shutdown_timeout=20.0)
    await runtime.init()
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        with step("tool", "t"):
            pass
    soon.opens, began = [DOWN] * 3, now()
    stopping = asyncio.create_task(runtime.shutdown())
    await asyncio.wrap_future(exporters["works"].delivery.closed())
    assert now() - began < 0.01
    report = await stopping
    assert report.abandoned == ()
    assert report.duration_s < 20.0
    ledgers = {name: health.ledger for name, health in report.exporters.items() if health is not None}
    lost, delivered = LedgerSnapshot(1, dropped={"not_open": 1}), LedgerSnapshot(1, 1)
    assert ledgers == {"never": lost, "soon": delivered, "hangs": lost, "works": delivered}
    await settle()
    assert source.users == 0


@virtual_time
async def test_g3_a_sink_is_opened_though_the_shutdown_is_cancelled() -> None:
    """The caller goes on at once; in the background the sink has the time that the shutdown had."""
    source, sink = RunningLoop(), Reopened(DOWN)
    exporters = {"main": SpanExporter(Delivery("main", sink, loop_source=source))}
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=20.0)
    await runtime.init()
    sink.opens = [DOWN] * 1000
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        with step("tool", "t"):
            pass
    stopping = asyncio.create_task(runtime.shutdown())
    await asyncio.sleep(10.0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert (await runtime.shutdown()).exporters["main"] is not None
    sink.opens.clear()
    await asyncio.wrap_future(exporters["main"].delivery.closed())
    assert exporters["main"].delivery.health().ledger == LedgerSnapshot(1, 1)
    await settle()
    assert source.users == 0


@pytest.mark.parametrize(("opening", "delivered"), [(DOWN, 0), (1.9, 3), (2.1, 0)])
@virtual_time
async def test_g2_what_a_spool_has_is_worth_two_seconds_of_opening(
    opening: BaseException | float, delivered: int, tmp_path: Path
) -> None:
    """One try at the last call, however much time it has: what does not get through waits in the spool."""
    sink = Reopened(*[DOWN] * 1000)
    limits = DeliveryLimits(spool="always", spool_path=tmp_path, open_timeout=1e6)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    await not_opened(delivery)
    run = delivery.lease()
    accept(run, 3)
    await asyncio.wrap_future(run.saved())
    sink.opens, began = [opening] + [DOWN] * 1000, now()
    sink.opened_at.clear()
    await last_call(delivery)
    assert len(sink.opened_at) == 1
    assert now() - began < 2.01
    assert run.ledger == LedgerSnapshot(accepted=3, delivered=delivered, pending=3 - delivered)
    assert delivery.health().ledger == run.ledger
    await until(lambda: not any("-spool-" in thread.name for thread in threading.enumerate()))
    assert len(await asyncio.to_thread(in_spool, tmp_path)) == 3 - delivered


# A loop that was given up


@pytest.mark.parametrize("ends", ["close", "abandon"])
@virtual_time
async def test_a_hanging_open_ends_with_its_delivery(ends: str) -> None:
    """Nothing waits for it any more, and it leaves nothing behind."""
    source = RunningLoop()
    sink = Opening()
    sink.opens = [1e6]
    delivery = Delivery("main", sink, limits=DeliveryLimits(open_timeout=1e6), loop_source=source)
    delivery.lease(keep=True)
    await asyncio.sleep(1.0)
    getattr(delivery, ends)()
    await settle()
    assert source.users == 0
    assert delivery.closed().done()


async def test_a_sink_that_hangs_over_its_close_is_closed_when_it_returns() -> None:
    """Nothing waits for that any more, and its handles are not kept; nor is its thread."""
    calls: list[str] = []
    let_go = threading.Event()

    class Hangs:
        def open(self) -> None:
            calls.append("open")

        def write(self, batch: Batch) -> None:
            calls.append("write")
            let_go.wait(20.0)

        def close(self) -> None:
            calls.append("close")

    limits = DeliveryLimits(batch_age=0.0, retry_for=0.0, write_timeout=0.02, open_timeout=0.02)
    delivery = Delivery("main", Hangs(), limits=limits, loop_source=RunningLoop())
    run = delivery.lease()
    accept(run, 2)
    run.release()
    await asyncio.wrap_future(delivery.closed())
    assert calls == ["open", "write"]
    assert run.ledger == LedgerSnapshot(accepted=2, failed=2)
    let_go.set()
    await until(lambda: not any("-Hangs" in thread.name for thread in threading.enumerate()))
    assert calls == ["open", "write", "close"]


@virtual_time
async def test_a_sink_is_not_closed_under_the_loop_that_has_opened_it_again() -> None:
    """The loop that was given up finishes opening late: by then the sink belongs to the new loop."""

    class Stubborn(ScriptedSink):
        """The first opening takes five seconds, despite any cancellation."""

        async def open(self) -> None:
            await super().open()
            until, first = now() + 5.0, self.calls == ["open"]
            while first and now() < until:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(until - now())

    sink = Stubborn()
    async with delivering(sink, batch_age=0.0) as delivery:
        delivery.lease()
        await settle()
        delivery.close()
        again = await opened(delivery)
        await asyncio.sleep(10.0)
        items = accept(again, 1)
        await asyncio.wrap_future(again.settled())
        assert sink.calls == ["open", "open", "write"]
        again.release()
    assert sink.taken == items


@virtual_time
async def test_a_delivery_that_is_given_up_before_its_loop_begins_opens_nothing(tmp_path: Path) -> None:
    """It opens neither sink nor spool."""
    sink = ScriptedSink()
    source: Any = RunningLoop()
    limits = DeliveryLimits(spool="always", spool_path=tmp_path)
    delivery = Delivery("main", sink, limits=limits, loop_source=source)
    lease = delivery.lease()
    lease.accept(make_step())
    delivery.abandon()
    await until(lambda: not source.users)
    assert sink.calls == []


# Side by side


@pytest.mark.may_block
async def test_g8_a_sink_that_blocks_its_loop_delays_no_other() -> None:
    """Of five exporters, four deliver while the fifth blocks its own thread, which ends when they are done."""
    blocks, others_are_done = threading.Event(), threading.Event()

    async def blocking(batch: Batch) -> None:
        blocks.set()
        assert others_are_done.wait(5.0), "the others waited for it"

    taken: dict[str, list[str]] = {f"number {number}": [] for number in range(4)}

    def taking(name: str) -> SpanExporter:
        async def take(batch: Batch) -> None:
            taken[name].extend(item.name for item in batch)

        return SpanExporter(take, name=name, limits=DeliveryLimits(batch_age=0.0))

    guilty = SpanExporter(blocking, name="guilty", limits=DeliveryLimits(batch_age=0.0))
    exporters = {"guilty": guilty, **{name: taking(name) for name in taken}}
    async with ObservabilityRuntime(exporters) as runtime:
        async with ExporterManager.from_exporters({"guilty": guilty}).start(ContextState()):
            with step("tool", "first"):
                pass
        await until(blocks.is_set)
        for number in range(3):
            async with ExporterManager.from_exporters(exporters).start(ContextState()):
                with step("tool", str(number)):
                    pass
        try:
            await until(lambda: all(len(names) == 3 for names in taken.values()), timeout=4.0)
        finally:
            others_are_done.set()
        await until(lambda: runtime.health().ledger.pending == 0)
        assert runtime.health().exporters["guilty"] is not None
    assert taken == {name: ["0", "1", "2"] for name in taken}
    assert guilty.delivery.health().ledger == LedgerSnapshot(accepted=4, delivered=4)


@pytest.mark.may_block
async def test_g4_runs_do_not_wait_for_a_sink_that_ended_its_delivery_and_hangs() -> None:
    """It cancelled every task of its loop; opened again, it blocks. A runtime holds it, and waited for it before."""
    let_go, opens = threading.Event(), 0

    class Sink:
        async def open(self) -> None:
            nonlocal opens
            opens += 1
            if opens > 1:
                let_go.wait(60)

        async def write(self, batch: Batch) -> None:
            for task in asyncio.all_tasks():
                task.cancel()

        async def close(self) -> None:
            pass

    exporters = {"main": SpanExporter(Sink(), name="main", limits=DeliveryLimits(batch_age=0.01))}
    async with ObservabilityRuntime(exporters, shutdown_timeout=1.0):
        manager = ExporterManager.from_exporters(exporters, shutdown_timeout=1.0)
        while opens < 2:
            async with manager.get().start(ContextState()) as run:
                with step("tool", "t"):
                    pass
                started = run.report.exporters["main"]
            assert (started.state, started.error) == (ExporterState.RUNNING, None)
            await asyncio.sleep(0.01)
        let_go.set()


# What the last call owes


@pytest.mark.parametrize("mode", ["always", "spill"])
@pytest.mark.parametrize("error", [ImportError("no client"), DOWN], ids=["final", "down"])
@pytest.mark.parametrize("keep", [False, True], ids=["run", "runtime"])
@virtual_time
async def test_g2_what_a_sink_that_cannot_be_opened_was_meant_to_get_is_in_the_spool(
    keep: bool, error: BaseException, mode: Any, tmp_path: Path
) -> None:
    """However many items, whoever holds the delivery, and though nothing was waited for before it was given up."""
    sink = Reopened(*[error] * 1000)
    limits = DeliveryLimits(spool=mode, spool_path=tmp_path)
    delivery = Delivery("main", sink, limits=limits, loop_source=RunningLoop())
    lease = delivery.lease(keep=keep)
    accept(lease, 3000)
    if keep:
        await last_call(delivery)
    else:
        lease.release()
        await asyncio.wrap_future(delivery.closed())
    assert lease.ledger == LedgerSnapshot(accepted=3000, pending=3000)
    await until(lambda: not any("-spool-" in thread.name for thread in threading.enumerate()))
    assert len(await asyncio.to_thread(in_spool, tmp_path)) == 3000


@pytest.mark.may_block
async def test_g2_a_spool_gets_what_is_still_processed_when_the_sink_is_given_up(tmp_path: Path) -> None:
    """The processors have the time that the shutdown has."""
    go_on = threading.Event()

    def slow(item: Any) -> Any:
        go_on.wait(20)
        return item

    limits = DeliveryLimits(spool="always", spool_path=tmp_path)
    delivery = Delivery("main", Reopened(*[ImportError("no client")] * 9), limits=limits, processors=[slow])
    lease = delivery.lease(keep=True)
    accept(lease, 3)
    closed = last_call(delivery)
    await asyncio.sleep(0.05)
    assert not closed.done()
    go_on.set()
    await closed
    assert lease.ledger == LedgerSnapshot(accepted=3, pending=3)


@virtual_time
async def test_g2_a_last_call_while_the_sink_is_closed_waits_for_what_was_accepted_meanwhile() -> None:
    """The sink is opened once more; who waits for the last call finds all of it delivered."""
    sink = Opening()
    sink.closes = [0.5, 0.5]
    async with delivering(sink) as delivery:
        first = await opened(delivery)
        accept(first, 1)
        first.release()
        await settle()
        assert delivery.health().state is DeliveryState.CLOSING
        second = delivery.lease()
        accept(second, 5)
        second.release()
        began = now()
        await last_call(delivery)
        assert now() - began < 2.0
        assert delivery.health().ledger == LedgerSnapshot(accepted=6, delivered=6)


@virtual_time
async def test_a_sink_is_not_opened_while_any_loop_before_closes_it() -> None:
    """Nor if the one between was given up while it waited."""
    source, calls = RunningLoop(), list[str]()

    class Sink:
        async def open(self) -> None:
            calls.append("open")

        async def write(self, batch: Batch) -> None:
            if calls == ["open"]:
                await asyncio.sleep(1e6)
            calls.append("write")

        async def close(self) -> None:
            calls.append("close")
            await asyncio.sleep(0.5)
            calls.append("closed")

    delivery = Delivery("main", Sink(), limits=DeliveryLimits(batch_age=0.0), loop_source=source)
    accept(await opened(delivery, keep=True), 1)
    await asyncio.sleep(0.1)
    delivery.abandon()
    delivery.lease(keep=True)
    delivery.close()
    third = await opened(delivery, keep=True)
    accept(third, 3)
    await asyncio.wrap_future(third.settled())
    assert third.ledger == LedgerSnapshot(accepted=3, delivered=3)
    assert calls == ["open", "close", "closed", "open", "write"]
    await last_call(delivery)
    await settle()
    assert source.users == 0


@pytest.mark.may_block
async def test_g8_a_last_call_saves_what_is_queued_behind_a_sink_that_blocks_its_loop(tmp_path: Path) -> None:
    """The spool's thread has time, whatever the mode."""
    blocked, let_go = threading.Event(), threading.Event()
    written: list[int] = []

    class Sink:
        async def open(self) -> None:
            pass

        async def write(self, batch: Batch) -> None:
            written.append(len(batch))
            blocked.set()
            let_go.wait(20)

        async def close(self) -> None:
            pass

    limits = DeliveryLimits(spool="spill", spool_path=tmp_path, batch_items=10, batch_age=0.0)
    delivery = Delivery("main", Sink(), limits=limits)
    lease = await opened(delivery, keep=True)
    accept(lease, 10)
    await asyncio.to_thread(blocked.wait, 20)
    accept(lease, 90)
    last_call(delivery)
    accounting = delivery.accounting
    await until(lambda: not (accounting.queue.items or accounting.saving))
    delivery.abandon()
    let_go.set()
    (lost,) = written
    assert lease.ledger == LedgerSnapshot(
        accepted=100, pending=100 - lost, dropped={"shutdown_timeout": lost}
    )


@virtual_time
async def test_g2_an_end_without_a_last_call_has_a_last_try_after_a_shutdown_too() -> None:
    """The time that the shutdown had is over, and none of its business."""
    sink = Reopened()
    async with delivering(sink, batch_age=0.0) as delivery:
        await opened(delivery, keep=True)
        await last_call(delivery, 0.6)
        await asyncio.sleep(5.0)
        sink.opens = [DOWN]
        lease = delivery.lease(keep=True)
        await settle()
        accept(lease, 3)
        lease.release()
        await asyncio.wrap_future(delivery.closed())
        assert lease.ledger == LedgerSnapshot(accepted=3, delivered=3)
