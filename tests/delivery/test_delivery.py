"""Delivery and Lease: batches, leases, states and counts, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.queue import weigh
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.state import DeliveryState
from nat_observability.errors import (
    PermanentWriteError,
    RetryableWriteError,
    SinkError,
    StartTimeoutError,
)
from nat_observability.events import Item
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests.delivery.leases import accept, delivering, opened
from tests.delivery.sinks import Opening, ScriptedSink, times
from tests.delivery.virtual import RunningLoop, now, pass_time, settle, virtual_time
from tests.processes import run_program
from tests.sinks.builders import make_step

WEIGHT = weigh(make_step())


def state(delivery: Delivery) -> DeliveryState:
    return delivery.health().state


# Batches


@virtual_time
async def test_a_full_batch_is_written_at_once() -> None:
    """A batch of `batch_items` does not wait; the rest waits for its age."""
    sink = ScriptedSink()
    async with delivering(sink, batch_items=10, batch_age=60.0) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 25)
        await settle()
        assert sink.sizes == [10, 10]
        await asyncio.sleep(59.0)
        assert sink.sizes == [10, 10]
        await asyncio.sleep(2.0)
        assert sink.sizes == [10, 10, 5]
        assert sink.taken == items
        lease.release()


@virtual_time
async def test_g6_an_exact_number_of_full_batches_is_delivered() -> None:
    """1000 items in batches of 100 leave no partial batch to wait for."""
    sink = ScriptedSink()
    async with delivering(sink, batch_items=100, batch_age=3600.0) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 1000)
        await settle()
        assert sink.sizes == [100] * 10
        assert sink.taken == items
        assert lease.ledger == LedgerSnapshot(accepted=1000, delivered=1000)
        lease.release()


@virtual_time
async def test_a_batch_is_full_by_bytes_too() -> None:
    """Large items make batches of few; one that is larger than a batch goes alone."""
    sink = ScriptedSink()
    large = [make_step(input="x" * 1000) for _ in range(4)]
    huge = make_step(input="x" * 10_000)
    async with delivering(sink, batch_bytes=2 * weigh(large[0]), batch_age=60.0) as delivery:
        lease = await opened(delivery)
        for item in (*large, huge):
            lease.accept(item)
        await settle()
        assert sink.sizes == [2, 2, 1]
        lease.release()


@virtual_time
async def test_g7_a_queue_of_fewer_bytes_than_a_batch_is_emptied_before_it_is_full() -> None:
    """Items that come one after the other are not dropped for want of room, however long a batch may wait."""
    sink = ScriptedSink()
    async with delivering(sink, queue_bytes=10 * WEIGHT, batch_age=3600.0) as delivery:
        lease = await opened(delivery)
        items = []
        for _ in range(50):
            items += accept(lease, 1)
            await settle()
        assert lease.ledger.dropped == {}
        assert len(sink.taken) >= 40
        lease.release()
    assert sink.taken == items


@virtual_time
async def test_the_age_of_a_batch_is_that_of_its_first_item() -> None:
    """A steady stream of items does not delay a batch."""
    sink = ScriptedSink()
    async with delivering(sink, batch_age=10.0) as delivery:
        lease = await opened(delivery)
        for _ in range(15):
            accept(lease, 1)
            await asyncio.sleep(1.0)
        assert sink.sizes == [10]
        assert sink.times == [pytest.approx(10.0, abs=0.01)]
        lease.release()


@virtual_time
async def test_the_age_of_a_batch_begins_when_its_first_item_is_queued() -> None:
    """Not when the loop comes to notice it, which takes a while beside a thread that computes."""
    for options in ({}, {"processors": [lambda item: item]}):
        sink = ScriptedSink()
        async with delivering(sink, options=options, batch_age=10.0) as delivery:
            began, lease = now(), await opened(delivery)
            for _ in range(2):
                await settle()
                accept(lease, 1)
                pass_time(4.0)
                await asyncio.sleep(7.0)
            written = [at - began for at in sink.times]
            assert written == [pytest.approx(10.0, abs=0.01), pytest.approx(21.0, abs=0.01)]
            lease.release()


@virtual_time
async def test_items_wait_for_their_processors_from_when_they_are_queued() -> None:
    """Likewise: no later than a tenth of a second after the first, however late the loop notices it."""
    processed: list[float] = []

    def notes(item: Item) -> Item:
        processed.append(now())
        return item

    async with delivering(ScriptedSink(), options={"processors": [notes]}, batch_age=10.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 1)
        pass_time(0.08)
        await asyncio.sleep(1.0)
        assert processed == [pytest.approx(0.1, abs=0.01)]
        lease.release()


@virtual_time
async def test_no_age_sends_at_once() -> None:
    """`batch_age=0` waits for nothing."""
    sink = ScriptedSink()
    async with delivering(sink, batch_age=0.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 1)
        await settle()
        assert sink.sizes == [1]
        lease.release()


@virtual_time
async def test_one_batch_at_a_time_keeps_the_order() -> None:
    """With one batch in flight the next is written when the one before it is settled, retries included."""
    sink = ScriptedSink(RetryableWriteError("503"), RetryableWriteError("503"), seconds=0.5)
    async with delivering(sink, batch_items=5, batch_age=0.0, batches_in_flight=1) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 20)
        await asyncio.wrap_future(lease.settled())
        assert sink.taken == items
        lease.release()


@virtual_time
async def test_several_batches_in_flight_up_to_the_limit() -> None:
    """A slow back end is written to `batches_in_flight` at a time, and never more."""
    sink = ScriptedSink(seconds=1.0)
    async with delivering(sink, batch_items=5, batch_age=0.0, batches_in_flight=3) as delivery:
        lease = await opened(delivery)
        accept(lease, 30)
        await asyncio.sleep(0.5)
        assert len(sink.writing) == 15
        assert delivery.health().queue_depth == 15
        await asyncio.wrap_future(lease.settled())
        assert now() == pytest.approx(2.0, abs=0.1)
        lease.release()


@virtual_time
async def test_settled_writes_what_waits_and_waits_for_no_other_lease() -> None:
    """A run's items are written without waiting for their age, and it is done when its own have settled."""
    sink = ScriptedSink(seconds=1.0)
    async with delivering(sink, batch_items=10, batch_age=3600.0) as delivery:
        mine, other = await opened(delivery), await opened(delivery)
        accept(mine, 5)
        done = mine.settled()
        await settle()
        accept(other, 25)
        await asyncio.wrap_future(done)
        assert now() < 2.0
        assert mine.ledger == LedgerSnapshot(accepted=5, delivered=5)
        assert other.ledger.pending > 0
        assert mine.settled().done()
        mine.release()
        other.release()


# Counts


@virtual_time
async def test_g5_each_outcome_is_counted_for_its_own_run() -> None:
    """Delivered, rejected, refused and given up: in the ledger of the lease that accepted, and in the total."""
    script = (None, 2, PermanentWriteError("400"), *times(99, RetryableWriteError("503")))
    sink = ScriptedSink(*script)
    async with delivering(
        sink, batch_items=5, batch_age=0.0, retry_for=10.0, breaker_failures=10**6
    ) as delivery:
        first, second = await opened(delivery), await opened(delivery)
        accept(first, 5)  # delivered
        accept(second, 5)  # two of them rejected
        accept(first, 5)  # refused
        accept(second, 5)  # given up after 10 s
        assert first.ledger.pending == 10
        await asyncio.wrap_future(first.settled())
        await asyncio.wrap_future(second.settled())
        assert first.ledger == LedgerSnapshot(accepted=10, delivered=5, failed=5)
        assert second.ledger == LedgerSnapshot(accepted=10, delivered=3, failed=7)
        assert delivery.health().ledger == total([first.ledger, second.ledger])
        first.release()
        second.release()


@virtual_time
async def test_g5_a_sink_that_raises_anything_at_all_loses_no_count() -> None:
    """If a sink raises, cancels, exits or returns nonsense, each item still has one outcome."""
    script: list[Any] = [
        asyncio.CancelledError(),
        SystemExit(1),
        RuntimeError("bug"),
        lambda batch: 10**6,
        lambda batch: -3,
    ]
    sink = ScriptedSink(*script)
    async with delivering(sink, batch_items=5, batch_age=0.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 30)
        await asyncio.wrap_future(lease.settled())
        assert lease.ledger == LedgerSnapshot(accepted=30, delivered=10, failed=20)
        lease.release()


@virtual_time
async def test_g5_a_sink_may_cancel_its_task_or_empty_its_batch() -> None:
    """An item that it cancels has failed, and changes to its list of items have no effect."""

    async def cancels(batch: list[Item]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def raises(batch: list[Item]) -> None:
        raise GeneratorExit

    async def empties(batch: list[Item]) -> None:
        batch.clear()

    writes = [cancels, raises, empties]

    async def write(batch: list[Item]) -> None:
        await writes.pop(0)(batch)

    async with delivering(write, batch_items=5, batch_age=0.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 15)
        await asyncio.wrap_future(lease.settled())
        assert lease.ledger == LedgerSnapshot(accepted=15, delivered=5, failed=10)
        lease.release()


@virtual_time
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
async def test_a_sink_that_exits_when_it_is_opened_is_an_error(error: BaseException) -> None:
    """A caller that waits for it to open gets the error, and no thread ends."""
    sink = Opening()
    sink.opens = [error]
    async with delivering(sink) as delivery:
        lease = delivery.lease()
        assert lease.opening is not None
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await asyncio.wrap_future(lease.opening)
        assert state(delivery) is DeliveryState.FAILED
        lease.release()


@virtual_time
async def test_g7_a_full_queue_drops_and_counts_for_the_run_that_lost() -> None:
    """`drop_oldest` drops the oldest run's items, and counts them in that run's ledger."""
    sink = ScriptedSink(seconds=10.0)
    async with delivering(
        sink, queue_items=10, queue_policy="drop_oldest", batch_items=5, batch_age=0.0
    ) as delivery:
        first, second = await opened(delivery), await opened(delivery)
        accept(first, 5)
        await settle()  # these are being written
        accept(first, 4)
        kept = accept(second, 10)
        assert first.ledger == LedgerSnapshot(accepted=9, pending=5, dropped={"queue_full": 4})
        assert second.ledger == LedgerSnapshot(accepted=10, pending=10)
        await asyncio.wrap_future(second.settled())
        assert sink.taken[5:] == kept
        first.release()
        second.release()


@virtual_time
async def test_g7_drop_newest_refuses_what_comes() -> None:
    """Items accepted earlier are delivered; the newcomers are counted."""
    sink = ScriptedSink(seconds=10.0)
    async with delivering(
        sink, queue_items=10, queue_policy="drop_newest", batch_items=5, batch_age=0.0
    ) as delivery:
        lease = await opened(delivery)
        accept(lease, 5)
        await settle()
        kept = accept(lease, 10)
        accept(lease, 3)
        assert lease.ledger == LedgerSnapshot(accepted=18, pending=15, dropped={"queue_full": 3})
        await asyncio.wrap_future(lease.settled())
        assert sink.taken[5:] == kept
        lease.release()


@virtual_time
async def test_g7_bytes_in_flight_count_against_the_limit() -> None:
    """What is being written is still in memory: with what waits it stays within `queue_bytes`."""
    sink = ScriptedSink(seconds=10.0)
    async with delivering(sink, queue_bytes=10 * WEIGHT, batch_items=5, batch_age=0.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 5)
        await settle()
        accept(lease, 20)
        assert delivery.health().queue_depth == 5
        assert delivery.health().queue_bytes == 10 * WEIGHT
        assert lease.ledger.dropped == {"queue_full": 15}
        lease.release()


@virtual_time
async def test_g7_an_item_above_the_whole_limit_is_counted_as_too_large() -> None:
    """It alone is dropped, as `too_large`."""
    sink = ScriptedSink()
    async with delivering(sink, queue_bytes=10 * WEIGHT) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 2)
        lease.accept(make_step(input="x" * 100_000))
        assert lease.ledger == LedgerSnapshot(accepted=3, pending=2, dropped={"too_large": 1})
        lease.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.taken == items


@virtual_time
async def test_g5_what_is_dropped_is_logged_once_and_counted() -> None:
    """One line for many drops, with the exporter's name and the counts by reason."""
    async with delivering(ScriptedSink(), queue_items=10) as delivery:
        lease = await opened(delivery)
        with capture_logs() as lines:
            accept(lease, 500)
        assert [(line["event"], line["exporter"]) for line in lines] == [("delivery_dropped", "main")]
        assert lines[0]["dropped"].keys() == {"queue_full"}
        lease.release()


# Leases


@virtual_time
async def test_the_first_lease_opens_and_the_last_one_closes() -> None:
    """However many runs share it, the sink is opened once and closed once, after the last item."""
    sink = ScriptedSink()
    async with delivering(sink, batch_age=3600.0) as delivery:
        leases = [delivery.lease() for _ in range(5)]
        for lease in leases:
            assert lease.opening is not None
            await asyncio.wrap_future(lease.opening)
        late = delivery.lease()
        assert late.opening is None
        accept(leases[0], 3)
        for lease in leases:
            lease.release()
        await asyncio.sleep(60.0)
        assert sink.calls == ["open"]
        late.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.calls == ["open", "write", "close"]


@virtual_time
async def test_a_released_delivery_writes_what_is_queued_and_closes_by_itself() -> None:
    """Nothing waits: the last run's items are written in the background, without waiting for their age."""
    sink = ScriptedSink()
    async with delivering(sink, batch_age=3600.0) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 3)
        lease.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.taken == items
        assert now() < 0.1
        assert sink.calls == ["open", "write", "close"]


@virtual_time
async def test_releasing_twice_gives_back_once() -> None:
    """A second release does not end another lease."""
    async with delivering(ScriptedSink()) as delivery:
        first, second = await opened(delivery), await opened(delivery)
        first.release()
        first.release()
        await settle()
        assert state(delivery) is DeliveryState.OPEN
        second.release()


@virtual_time
async def test_a_closed_delivery_opens_again() -> None:
    """The next lease opens it again, and its counts continue."""
    sink = ScriptedSink()
    async with delivering(sink) as delivery:
        for _ in range(3):
            lease = await opened(delivery)
            accept(lease, 2)
            lease.release()
            await asyncio.wrap_future(delivery.closed())
        assert sink.calls == ["open", "write", "close"] * 3
        assert delivery.health().ledger == LedgerSnapshot(accepted=6, delivered=6)


@virtual_time
async def test_a_lease_that_comes_while_closing_gets_a_sink_that_is_opened_again() -> None:
    """It waits for the close, and nothing that it accepts meanwhile is lost."""
    sink = Opening()
    sink.closes = [5.0]
    async with delivering(sink, batch_age=0.0) as delivery:
        first = await opened(delivery)
        first.release()
        await asyncio.sleep(1.0)
        assert state(delivery) is DeliveryState.CLOSING
        second = delivery.lease()
        early = accept(second, 2)
        assert second.opening is not None
        await asyncio.wrap_future(second.opening)
        assert now() == pytest.approx(5.0, abs=0.1)
        late = accept(second, 2)
        second.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.taken == [*early, *late]
        assert sink.calls[:3] == ["open", "close", "open"]


@virtual_time
async def test_what_comes_before_the_sink_is_open_is_written_when_it_is() -> None:
    """A slow opening loses nothing."""
    sink = Opening()
    sink.opens = [5.0]
    async with delivering(sink) as delivery:
        lease = delivery.lease()
        items = accept(lease, 3)
        lease.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.taken == items


@virtual_time
async def test_each_who_waits_learns_that_opening_failed() -> None:
    """Every lease gets the sink's own error, and what was accepted meanwhile is counted as not_open."""
    sink = Opening()
    error = SinkError("/var/x", "cannot be opened", "Choose another path.")
    sink.opens = [error]
    async with delivering(sink) as delivery:
        leases = [delivery.lease() for _ in range(3)]
        accept(leases[0], 2)
        for lease in leases:
            assert lease.opening is not None
            with pytest.raises(SinkError) as caught:
                await asyncio.wrap_future(lease.opening)
            assert caught.value is error
        assert leases[0].ledger == LedgerSnapshot(accepted=2, dropped={"not_open": 2})
        assert state(delivery) is DeliveryState.FAILED
        assert delivery.health().last_error == f"SinkError: {error}"
        for lease in leases:
            lease.release()


@virtual_time
async def test_g1_a_sink_that_does_not_open_in_time_has_failed() -> None:
    """Opening has `open_timeout` seconds, and the error says what to do."""
    sink = Opening()
    sink.opens = [1000.0]
    async with delivering(sink, open_timeout=10.0) as delivery:
        lease = delivery.lease()
        assert lease.opening is not None
        with pytest.raises(StartTimeoutError, match="'main' was not ready within 10 s"):
            await asyncio.wrap_future(lease.opening)
        assert now() == pytest.approx(10.0, abs=0.1)
        lease.release()


@virtual_time
async def test_g3_cancelling_one_wait_for_the_opening_harms_no_other() -> None:
    """A run that is cancelled while the sink opens leaves it opening for the others."""
    sink = Opening()
    sink.opens = [5.0]
    async with delivering(sink) as delivery:
        gone, stays = delivery.lease(), delivery.lease()
        assert gone.opening is not None
        assert stays.opening is not None
        waiting = asyncio.ensure_future(asyncio.wrap_future(gone.opening))
        await asyncio.sleep(1.0)
        waiting.cancel()
        gone.release()
        await asyncio.wrap_future(stays.opening)
        accept(stays, 1)
        stays.release()
        await asyncio.wrap_future(delivery.closed())
        assert stays.ledger.delivered == 1


# Closing


@virtual_time
async def test_close_writes_what_is_queued_despite_open_leases() -> None:
    """The runtime's shutdown: what was accepted is written at once, what comes afterwards is dropped as closed."""
    sink = ScriptedSink()
    async with delivering(sink, batch_age=3600.0) as delivery:
        lease = await opened(delivery)
        items = accept(lease, 3)
        await asyncio.wrap_future(delivery.close())
        assert sink.taken == items
        assert state(delivery) is DeliveryState.CLOSED
        accept(lease, 2)
        assert lease.ledger == LedgerSnapshot(accepted=5, delivered=3, dropped={"closed": 2})
        lease.release()


@virtual_time
async def test_g12_close_interrupts_a_backoff_and_gives_each_batch_its_last_try() -> None:
    """The shutdown does not wait for a back end that is down, and one that is back gets everything."""
    for answers, outcome in (
        ([RetryableWriteError("503", retry_after=200.0)], LedgerSnapshot(accepted=25, delivered=25)),
        (times(99, RetryableWriteError("503", retry_after=200.0)), LedgerSnapshot(accepted=25, failed=25)),
    ):
        sink = ScriptedSink(*answers)
        async with delivering(sink, batch_items=10, batch_age=3600.0) as delivery:
            lease = await opened(delivery)
            accept(lease, 25)
            await asyncio.sleep(10.0)
            began = now()
            assert sink.sizes == [10]
            await asyncio.wrap_future(delivery.close())
            assert sink.sizes == [10, 10, 10, 5]
            assert now() == pytest.approx(began, abs=0.1)
            assert lease.ledger == outcome
            lease.release()


@pytest.mark.parametrize("ends_early", [False, True])
@virtual_time
async def test_g6_a_lease_that_comes_after_the_last_call_loses_nothing(ends_early: bool) -> None:
    """A run that begins while the process shuts down is delivered, and the shutdown does not wait for it."""
    sink = Opening()
    sink.closes = [1.0]
    async with delivering(sink, batch_age=60.0) as delivery:
        kept = await opened(delivery, keep=True)
        kept.release()
        closing = asyncio.wrap_future(delivery.close())
        await settle()
        assert delivery.health().state is DeliveryState.CLOSING
        late = delivery.lease()
        late.accept(make_step(name="late"))
        if ends_early:
            late.release()
        await closing
        assert now() == pytest.approx(1.0, abs=0.01)
        if not ends_early:
            await asyncio.wrap_future(late.settled())
            late.accept(make_step(name="later"))
            late.release()
    expected = ["late"] if ends_early else ["late", "later"]
    assert [item.name for item in sink.taken] == expected
    assert late.ledger == LedgerSnapshot(accepted=len(expected), delivered=len(expected))
    assert sink.calls.count("open") == sink.calls.count("close") == 2


@virtual_time
async def test_closing_what_is_not_open_is_done_at_once() -> None:
    """Before the first lease and after the last there is nothing to wait for."""
    sink = ScriptedSink()
    delivery = Delivery("main", sink, loop_source=RunningLoop())
    assert delivery.close().done()
    assert delivery.closed().done()
    assert sink.calls == []


# Abandoning


@virtual_time
async def test_g2_abandoning_counts_and_waits_for_nothing() -> None:
    """Queued items and those being written are dropped as shutdown_timeout, at once, which releases waiting callers."""
    sink = ScriptedSink(seconds=1000.0)
    async with delivering(sink, batch_items=5, batch_age=0.0) as delivery:
        first, second = await opened(delivery), await opened(delivery)
        accept(first, 5)
        accept(second, 7)
        await settle()
        closed, done = delivery.close(), first.settled()
        assert delivery.abandon() == 12
        assert closed.done()
        assert done.done()
        assert first.ledger == LedgerSnapshot(accepted=5, dropped={"shutdown_timeout": 5})
        assert second.ledger == LedgerSnapshot(accepted=7, dropped={"shutdown_timeout": 7})
        assert state(delivery) is DeliveryState.FAILED
        await settle()
        assert sink.writing == []  # the write was cancelled
        assert sink.calls == ["open", "write", "close"]
        assert delivery.abandon() == 0
        first.release()
        second.release()


@virtual_time
@pytest.mark.parametrize(
    "close",
    [OSError("reset by peer"), SystemExit(3), asyncio.CancelledError(), 1000.0],
    ids=["raises", "exits", "cancels", "hangs"],
)
async def test_g1_g6_a_sink_that_does_not_close_is_opened_again(close: BaseException | float) -> None:
    """Everything was written by then: a line says so, and leases taken meanwhile or afterwards lose nothing."""
    sink = Opening()
    sink.closes = [close]
    with capture_logs() as lines:
        async with delivering(sink, batch_age=3600.0, open_timeout=5.0) as delivery:
            first = await opened(delivery)
            accept(first, 2)
            first.release()
            await settle()
            assert state(delivery) in (DeliveryState.CLOSING, DeliveryState.CLOSED)
            began = now()
            second = await opened(delivery)
            assert now() - began <= 5.0
            accept(second, 3)
            second.release()
    assert sink.calls == ["open", "write", "close"] * 2
    assert (first.ledger, second.ledger) == (
        LedgerSnapshot(accepted=2, delivered=2),
        LedgerSnapshot(accepted=3, delivered=3),
    )
    [line] = [line for line in lines if line["log_level"] != "info"]
    assert (line["event"], line["exporter"], line["log_level"]) == ("sink_close_failed", "main", "warning")


@virtual_time
async def test_g16_the_last_error_outlives_the_delivery() -> None:
    """At the end the health still says why items have failed; a later successful opening does not clear it."""
    sink = ScriptedSink(PermanentWriteError("401 Unauthorized"))
    async with delivering(sink) as delivery:
        lease = await opened(delivery)
        accept(lease, 3)
        await asyncio.wrap_future(lease.settled())
        assert delivery.health().last_error == "PermanentWriteError: 401 Unauthorized"
        lease.release()
        await asyncio.wrap_future(delivery.closed())
        health = delivery.health()
        assert (health.state, health.ledger.failed) == (DeliveryState.CLOSED, 3)
        assert health.last_error == "PermanentWriteError: 401 Unauthorized"
        assert health.last_batch_s is not None


@virtual_time
async def test_waiting_for_an_abandoned_opening_fails_with_its_own_timeout() -> None:
    """The error names its own timeout, not that of another caller."""
    sink = Opening()
    sink.opens = [1000.0]
    async with delivering(sink) as delivery:
        lease = delivery.lease()
        assert lease.opening is not None
        await asyncio.sleep(1.0)
        delivery.abandon(2.5)
        assert "2.5 s" in str(lease.opening.exception())
        assert "2.5 s" in (delivery.health().last_error or "")
        lease.release()
        await settle()


@virtual_time
async def test_a_thread_that_cannot_be_had_fails_the_opening_of_its_lease_alone() -> None:
    """What the lease accepts is counted; the next lease opens the delivery, which closes with the last."""

    class NoLoopYet(RunningLoop):
        refuses = True

        def acquire(self) -> asyncio.AbstractEventLoop:
            if self.refuses:
                raise RuntimeError("can't start new thread")
            return super().acquire()

    source = NoLoopYet()
    sink = ScriptedSink()
    delivery = Delivery("main", sink, loop_source=source)
    refused = [delivery.lease(keep=keep) for keep in (False, True)]
    for lease in refused:
        assert lease.opening is not None
        assert "can't start new thread" in str(lease.opening.exception())
        accept(lease, 2)
        assert lease.ledger == LedgerSnapshot(2, 0, 0, 0, {"not_open": 2})
    assert (state(delivery), delivery.held) == (DeliveryState.FAILED, False)
    assert "can't start new thread" in (delivery.health().last_error or "")
    source.refuses = False
    lease = await opened(delivery)
    items = accept(refused[0], 3)  # a run that began without it has it from now on
    lease.release()
    refused[1].release()
    await asyncio.sleep(60.0)
    assert (state(delivery), sink.taken) == (DeliveryState.OPEN, items)
    refused[0].release()
    await asyncio.wrap_future(delivery.closed())
    await settle()
    assert (state(delivery), source.users) == (DeliveryState.CLOSED, 0)


@virtual_time
async def test_an_abandoned_delivery_can_be_leased_again() -> None:
    """The next lease opens the sink anew, and what it accepts is delivered."""
    sink = ScriptedSink(seconds=1000.0)
    async with delivering(sink, batch_age=0.0) as delivery:
        first = await opened(delivery)
        accept(first, 5)
        await settle()
        delivery.abandon()
        first.release()
        sink.seconds = 0.0
        second = await opened(delivery)
        items = accept(second, 3)
        second.release()
        await asyncio.wrap_future(delivery.closed())
        assert sink.taken == items
        assert delivery.health().ledger == LedgerSnapshot(8, 3, 0, 0, {"shutdown_timeout": 5})


@virtual_time
@pytest.mark.parametrize("seconds", [0.5, 1000.0], ids=["slowly", "never"])
async def test_an_abandoned_sink_is_closed_before_it_is_opened_again(seconds: float) -> None:
    """Its connections do not stay open; one whose closing hangs keeps the next lease waiting for a moment only."""

    class ClosesLate(ScriptedSink):
        async def close(self) -> None:
            await asyncio.sleep(seconds)
            await super().close()

    sink = ClosesLate(seconds=1000.0)
    async with delivering(sink, batch_age=0.0) as delivery:
        first = await opened(delivery)
        accept(first, 5)
        await settle()
        delivery.abandon()
        first.release()
        began = now()
        second = await opened(delivery)
        assert now() - began < 3.0
        assert sink.calls == ["open", "write", *(["close"] if seconds < 1.0 else []), "open"]
        sink.seconds = seconds = 0.0
        accept(second, 3)
        second.release()
        await asyncio.wrap_future(delivery.closed())
        assert second.ledger.delivered == 3


@virtual_time
async def test_a_delivery_that_is_abandoned_before_it_begins_gives_its_loop_back() -> None:
    """The lease and the deadline come at the same time: the delivery thread ends all the same."""
    async with delivering(ScriptedSink()) as delivery:
        lease = delivery.lease()
        delivery.abandon()
        lease.release()
        await settle()


@virtual_time
async def test_abandoning_while_the_sink_opens_leaves_it_as_it_is() -> None:
    """A sink that opens in spite of its cancellation does not open the delivery."""

    class Stubborn(ScriptedSink):
        async def open(self) -> None:
            await super().open()
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                return

    sink = Stubborn()
    async with delivering(sink) as delivery:
        lease = delivery.lease()
        await asyncio.sleep(1.0)
        delivery.abandon()
        await settle()
        assert state(delivery) is DeliveryState.FAILED
        lease.release()
        again = await opened(delivery)
        accept(again, 1)
        again.release()
        await asyncio.wrap_future(delivery.closed())
        assert again.ledger.delivered == 1


@virtual_time
async def test_g5_a_write_that_ends_after_it_was_abandoned_changes_no_count() -> None:
    """A sink that takes a batch despite its cancellation delivers what was counted as dropped; it is counted once."""

    class Stubborn(ScriptedSink):
        async def write(self, batch: Batch) -> None:
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                self.taken.extend(batch)

    sink = Stubborn()
    async with delivering(sink, batch_age=0.0) as delivery:
        lease = await opened(delivery)
        accept(lease, 4)
        await asyncio.sleep(1.0)
        delivery.abandon()
        await settle()
        assert len(sink.taken) == 4
        assert lease.ledger == LedgerSnapshot(accepted=4, dropped={"shutdown_timeout": 4})
        lease.release()


# Health


@virtual_time
async def test_g16_health_says_where_the_delivery_is_at_every_moment() -> None:
    """State, counts, depth and bytes of the queue, breaker and last error, from before the first lease to the end."""
    sink = Opening()
    sink.opens, sink.closes = [1.0], [1.0]
    down = RetryableWriteError("503", retry_after=5.0)
    source = RunningLoop()
    limits = DeliveryLimits(batch_items=5, batch_age=1.0, breaker_failures=2, breaker_open_for=20.0)
    delivery = Delivery("main", sink, limits=limits, loop_source=source)
    seen: dict[DeliveryState, Any] = {}

    def look() -> None:
        health = delivery.health()
        assert health.ledger.adds_up
        seen[health.state] = health

    look()
    lease = delivery.lease()
    accept(lease, 3)
    look()
    await asyncio.sleep(1.5)
    look()
    assert seen[DeliveryState.NEW].ledger == LedgerSnapshot()
    opening, open_ = seen[DeliveryState.OPENING], seen[DeliveryState.OPEN]
    assert (opening.queue_depth, opening.queue_bytes, opening.ledger.pending) == (3, 3 * WEIGHT, 3)
    assert (open_.queue_depth, open_.breaker, open_.last_error) == (3, BreakerState.CLOSED, None)

    sink.answers[:] = [down, down]
    await asyncio.sleep(7.0)
    look()
    open_ = seen[DeliveryState.OPEN]
    assert (open_.queue_depth, open_.queue_bytes, open_.ledger.pending) == (0, 3 * WEIGHT, 3)
    assert (open_.breaker, open_.last_error) == (BreakerState.OPEN, "RetryableWriteError: 503")
    await asyncio.sleep(20.0)
    look()
    assert seen[DeliveryState.OPEN].breaker is BreakerState.CLOSED
    assert seen[DeliveryState.OPEN].ledger == LedgerSnapshot(accepted=3, delivered=3)

    lease.release()
    await asyncio.sleep(0.5)
    look()
    await asyncio.wrap_future(delivery.closed())
    look()
    assert list(seen) == ["new", "opening", "open", "closing", "closed"]


async def test_g8_an_error_whose_text_takes_its_time_holds_up_no_recording() -> None:
    """Nor does one that records a step: the health asks for it without the lock."""
    asked, answered = threading.Event(), threading.Event()

    class SlowError(Exception):
        asks = False

        def __str__(self) -> str:
            if SlowError.asks:
                asked.set()
                answered.wait(10.0)
            return "slow"

    sink = ScriptedSink(SlowError())
    delivery = Delivery("main", sink, limits=DeliveryLimits(batch_age=0.0), loop_source=RunningLoop())
    lease = await opened(delivery)
    accept(lease, 1)
    await asyncio.wrap_future(lease.settled())
    SlowError.asks = True
    health = asyncio.create_task(asyncio.to_thread(delivery.health))
    await until(asked.is_set)
    recording = asyncio.create_task(asyncio.to_thread(accept, lease, 1))
    done, _ = await asyncio.wait([recording], timeout=5.0)
    answered.set()
    assert done
    assert (await health).last_error == "SlowError: slow"
    lease.release()
    await asyncio.wrap_future(delivery.closed())


def test_g5_an_interruption_while_an_item_waits_for_the_lock_leaves_it_free() -> None:
    """Ctrl-C in the middle of recording propagates unchanged, and the next recording is not locked out."""
    run_program("""
        import signal, threading
        from nat_observability import ContextState, Delivery, Span, Status, StepKind
        from nat_observability.delivery import locking

        delivery = Delivery("interrupted", print)
        lease = delivery.lease()
        span = Span(ContextState().run, StepKind.TOOL, "search", "1" * 16, None, 1, 2, Status.OK)
        held, interrupted = threading.Event(), threading.Event()

        def hold():
            with locking.lock:
                held.set()
                waits = threading.main_thread().ident
                threading.Timer(0.2, signal.pthread_kill, (waits, signal.SIGINT)).start()
                interrupted.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        try:
            lease.accept(span)
        except KeyboardInterrupt:
            interrupted.set()
        assert interrupted.is_set()
        holder.join()
        lease.accept(span)
        other = threading.Thread(target=lease.accept, args=(span,), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
        ledger = delivery.health().ledger
        assert (ledger.accepted, ledger.adds_up) == (2, True)
        """)


@virtual_time
async def test_a_sink_that_cancels_every_task_leaves_no_delivery_half_open() -> None:
    """A delivery on that loop whose task had not even begun fails to open, and gives the loop back."""

    class Cancels:
        async def open(self) -> None:
            neighbour.append(other.lease())
            for task in asyncio.all_tasks() - {asyncio.current_task(), test}:
                task.cancel()
            await asyncio.sleep(0)  # here its own loop begins the tasks of the new leases
            for task in asyncio.all_tasks() - {asyncio.current_task(), test}:
                task.cancel()

        async def write(self, batch: Batch) -> None:
            """Write nothing."""

        async def close(self) -> None:
            """Close nothing."""

    test = asyncio.current_task()
    neighbour: list[Lease] = []
    source = RunningLoop()
    other = Delivery("other", ScriptedSink(), loop_source=source)
    cancels = Delivery("cancels", Cancels(), loop_source=source)
    first = await opened(cancels)
    await settle()
    assert state(other) is DeliveryState.FAILED
    assert neighbour[0].opening is not None
    assert neighbour[0].opening.exception() is not None
    accept(neighbour[0], 3)
    assert neighbour[0].ledger == LedgerSnapshot(3, 0, 0, 0, {"not_open": 3})
    for lease in (first, *neighbour):
        lease.release()
    await asyncio.wrap_future(other.closed())
    await asyncio.wrap_future(cancels.closed())
    await settle()
    assert source.users == 0


@virtual_time
async def test_a_delivery_whose_loop_is_closed_drops_and_raises_nothing() -> None:
    """The lease says that it did not open and counts what it loses; with a new loop the next one opens."""

    class ClosedLoop(RunningLoop):
        closed = True

        def acquire(self) -> asyncio.AbstractEventLoop:
            loop = super().acquire()
            if not self.closed:
                return loop
            gone = asyncio.SelectorEventLoop()
            gone.close()
            return gone

    source, sink = ClosedLoop(), ScriptedSink()
    delivery = Delivery("main", sink, loop_source=source)
    lease = delivery.lease()
    assert lease.opening is not None
    assert "closed" in str(lease.opening.exception())
    accept(lease, 2)
    assert lease.ledger == LedgerSnapshot(2, 0, 0, 0, {"not_open": 2})
    assert source.users == 0
    delivery.close()
    assert delivery.abandon() == 0
    source.closed = False
    again = await opened(delivery)
    items = accept(again, 2)
    again.release()
    lease.release()
    await asyncio.wrap_future(delivery.closed())
    await settle()
    assert (sink.taken, source.users) == (items, 0)
