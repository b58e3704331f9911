"""Retry: what a failing back end costs, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability.delivery.accounting import Accounting
from nat_observability.delivery.entry_mover import EntryMover
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.sending.retry import Outcome, Saved
from nat_observability.delivery.sending.sink_adapters import as_sink
from nat_observability.delivery.state import END_EARLY, State
from nat_observability.errors import BatchTooLargeError, PermanentWriteError, RetryableWriteError, SinkError
from nat_observability.sinks.protocol import Batch, Sink
from tests.delivery.sinks import ScriptedSink, takes_at_most, times
from tests.delivery.virtual import now, settle, virtual_time
from tests.sinks.builders import make_step

DELIVERED, FAILED, UNSENT = Outcome.DELIVERED, Outcome.FAILED, Outcome.UNSENT
BATCH = [make_step() for _ in range(8)]
PATIENT = DeliveryLimits(retry_for=1e6, breaker_failures=10**6)


class Sender:
    """Sends batches as a delivery does: the mover makes the first try, and `Retry` has what it did not settle."""

    def __init__(self, sink: Sink, limits: DeliveryLimits) -> None:
        state, accounting, loop = State("main"), Accounting("main", limits), asyncio.get_running_loop()
        self.mover = EntryMover("main", state, accounting, sink, limits, loop, None, None)

    async def send(self, batch: Batch, saved: Saved = lambda: False) -> list[Outcome]:
        return await self.mover.send(batch, saved)

    def end_within(self, seconds: float | None) -> None:
        now = asyncio.get_running_loop().time()
        self.mover.retry.end_by(None if seconds is None else now + seconds - END_EARLY)

    @property
    def last_error(self) -> BaseException | None:
        return self.mover.retry.last_error


def sender(sink: Sink, limits: DeliveryLimits = PATIENT) -> Sender:
    return Sender(sink, limits)


def state_of(one: Sender) -> BreakerState:
    return one.mover.retry.breaker.state


def unavailable(retry_after: float | None = None) -> RetryableWriteError:
    return RetryableWriteError("503", retry_after=retry_after)


@virtual_time
async def test_g12_what_was_taken_is_delivered_at_the_first_try() -> None:
    """A healthy back end is asked once, at once."""
    sink = ScriptedSink()
    assert await sender(sink).send(BATCH) == [DELIVERED] * 8
    assert sink.sizes == [8]
    assert now() == 0.0


@pytest.mark.parametrize(
    "error",
    [
        unavailable(),
        SinkError("/var/x", "cannot be written", "Free space."),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_g12_what_may_succeed_later_is_tried_again(error: Exception) -> None:
    """The same batch comes again until the back end takes it."""
    sink = ScriptedSink(*times(3, error))
    one = sender(sink)
    assert await one.send(BATCH) == [DELIVERED] * 8
    assert [batch for _, batch in sink.tries] == [BATCH] * 4
    assert one.last_error is error


@pytest.mark.parametrize(
    "error",
    [PermanentWriteError("400"), ValueError("bug"), KeyError()],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_g12_a_permanent_error_is_not_retried(error: Exception) -> None:
    """A permanent error fails the batch; the next one is tried as ever."""
    sink = ScriptedSink(error)
    one = sender(sink)
    assert await one.send(BATCH) == [FAILED] * 8
    assert sink.sizes == [8]
    assert one.last_error is error
    assert await one.send(BATCH) == [DELIVERED] * 8


@settings(max_examples=25)
@given(initial=st.floats(0.01, 10), longest=st.floats(0.01, 100), tries=st.integers(1, 60))
def test_g12_waits_are_within_the_bounds_of_full_jitter(initial: float, longest: float, tries: int) -> None:
    """The n-th wait is at least 0 and at most `retry_initial * 2 ** (n - 1)`, and never above `retry_max`."""

    @virtual_time
    async def check() -> None:
        sink = ScriptedSink(*times(tries, unavailable()))
        limits = DeliveryLimits(
            retry_for=1e9, retry_initial=initial, retry_max=longest, breaker_failures=10**6
        )
        await sender(sink, limits).send(BATCH)
        waits = [after - before for before, after in zip(sink.times, sink.times[1:], strict=False)]
        assert len(waits) == tries
        for number, wait in enumerate(waits):
            assert -1e-6 <= wait <= min(longest, initial * 2.0**number) + 1e-6

    check()


@virtual_time
async def test_g12_waits_fill_the_whole_of_their_range() -> None:
    """Full jitter: waits are anywhere between nothing and the bound, so that callers do not come back in step."""
    limits = DeliveryLimits(retry_for=1e9, retry_initial=1.0, retry_max=1.0, breaker_failures=10**6)
    sink = ScriptedSink(*times(400, unavailable()))
    await sender(sink, limits).send(BATCH)
    waits = [after - before for before, after in zip(sink.times, sink.times[1:], strict=False)]
    quarters = Counter(min(3, int(wait * 4)) for wait in waits)
    assert min(quarters[quarter] for quarter in range(4)) > 40  # of 100 expected; by chance once in 10**12


@virtual_time
async def test_the_applications_random_numbers_are_left_alone() -> None:
    """Retrying draws nothing from the generator that an application may have seeded, nor follows its seed."""
    waits = []
    for _ in range(2):
        random.seed(7)
        before = random.getstate()
        sink = ScriptedSink(*times(5, unavailable()))
        began = now()
        await sender(sink).send(BATCH)
        waits.append([when - began for when in sink.times])
        assert random.getstate() == before
    assert waits[0] != waits[1]


@virtual_time
async def test_g12_a_wait_that_the_back_end_names_is_honoured() -> None:
    """`Retry-After` is the least wait, whatever the backoff would be."""
    sink = ScriptedSink(unavailable(7.0), unavailable(45.0), unavailable(0.0))
    assert await sender(sink).send(BATCH) == [DELIVERED] * 8
    first, second, third = (after - before for before, after in zip(sink.times, sink.times[1:], strict=False))
    assert 7.0 <= first < 7.1
    assert 45.0 <= second < 45.1
    assert 0.0 <= third <= 4.1


@virtual_time
async def test_g12_gives_up_after_the_limit_in_time() -> None:
    """A batch is tried for `retry_for` seconds, and not for longer."""
    sink = ScriptedSink(*times(10**4, unavailable()))
    limits = DeliveryLimits(retry_for=100.0, retry_initial=1.0, retry_max=4.0, breaker_failures=10**6)
    assert await sender(sink, limits).send(BATCH) == [UNSENT] * 8
    assert len(sink.tries) > 10
    assert 90.0 < now() <= 100.0


@virtual_time
async def test_g12_a_wait_beyond_the_limit_in_time_is_not_waited_for() -> None:
    """If the next try would come too late, the batch is given up at once."""
    sink = ScriptedSink(unavailable(101.0))
    assert await sender(sink, DeliveryLimits(retry_for=100.0)).send(BATCH) == [UNSENT] * 8
    assert len(sink.tries) == 1
    assert now() == 0.0


@virtual_time
async def test_g12_no_time_to_retry_means_one_try() -> None:
    """`retry_for=0` tries once."""
    sink = ScriptedSink(unavailable())
    assert await sender(sink, DeliveryLimits(retry_for=0.0)).send(BATCH) == [UNSENT] * 8
    assert len(sink.tries) == 1


@virtual_time
async def test_g12_a_write_that_takes_too_long_is_tried_again() -> None:
    """Each try has `write_timeout` seconds."""
    sink = ScriptedSink(seconds=31.0)
    one = sender(sink)
    sending = asyncio.create_task(one.send(BATCH))
    await settle()
    sink.seconds = 29.0
    assert await sending == [DELIVERED] * 8
    assert len(sink.tries) == 2
    assert sink.times[1] >= 30.0
    assert isinstance(one.last_error, TimeoutError)


@virtual_time
async def test_g12_a_batch_that_is_too_large_is_split_in_halves() -> None:
    """Its parts arrive in order, and each once."""
    sink = ScriptedSink(*times(99, takes_at_most(3)))
    assert await sender(sink).send(BATCH) == [DELIVERED] * 8
    assert sink.sizes == [8, 4, 2, 2, 4, 2, 2]
    assert sink.taken == BATCH


@virtual_time
async def test_g12_one_item_that_is_too_large_has_failed_alone() -> None:
    """Those around it are delivered."""
    huge = BATCH[5]
    sink = ScriptedSink(*times(99, lambda batch: BatchTooLargeError("413") if huge in batch else None))
    expected = [FAILED if item is huge else DELIVERED for item in BATCH]
    assert await sender(sink).send(BATCH) == expected
    assert sink.taken == [item for item in BATCH if item is not huge]


@virtual_time
async def test_g12_the_limit_in_time_is_that_of_the_whole_batch() -> None:
    """A batch that was split is given up when a whole one would have been: no half begins anew."""
    sink = ScriptedSink(
        *times(10**5, lambda batch: BatchTooLargeError("413") if len(batch) > 1 else unavailable())
    )
    limits = DeliveryLimits(retry_for=100.0, retry_initial=1.0, retry_max=4.0, breaker_failures=10**6)
    assert await sender(sink, limits).send(BATCH) == [UNSENT] * 8
    assert now() <= 101.0


@given(
    st.integers(1, 30),
    st.one_of(st.integers(-5, 40), st.booleans(), st.text(), st.floats(), st.lists(st.none())),
)
def test_g5_whatever_a_write_returns_each_item_has_one_outcome(items: int, returned: object) -> None:
    """A count of rejected items counts as failed, as far as it is one; anything else means that all were taken."""

    async def write(batch: Batch) -> Any:
        return returned

    @virtual_time
    async def check() -> None:
        outcomes = await sender(as_sink(write)).send([make_step() for _ in range(items)])
        rejected = min(max(0, returned), items) if type(returned) is int else 0
        assert Counter(outcomes) == Counter({DELIVERED: items - rejected, FAILED: rejected})

    check()


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("", [SystemExit(3)])],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_g5_a_sink_that_cancels_or_exits_has_failed(error: BaseException) -> None:
    """A sink's error goes no further, even one that would otherwise end the task or the thread."""
    sink = ScriptedSink(error)
    one = sender(sink)
    assert await one.send(BATCH) == [FAILED] * 8
    assert await one.send(BATCH) == [DELIVERED] * 8
    assert one.last_error is error


@virtual_time
async def test_a_cancellation_of_the_sending_itself_goes_through() -> None:
    """Abandoning a delivery cancels its sends: that is not an error of the sink."""
    sink = ScriptedSink(seconds=10.0)
    sending = asyncio.create_task(sender(sink).send(BATCH))
    await asyncio.sleep(1.0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


@virtual_time
async def test_g12_the_breaker_keeps_a_dead_back_end_from_being_asked() -> None:
    """After `breaker_failures` in a row nothing is tried for `breaker_open_for` seconds; then one probe at a time."""
    limits = DeliveryLimits(
        retry_for=1e6, retry_initial=0.1, retry_max=0.1, breaker_failures=5, breaker_open_for=60.0
    )
    sink = ScriptedSink(*times(8, unavailable()))
    one = sender(sink, limits)
    sending = [asyncio.create_task(one.send(BATCH)) for _ in range(4)]
    await asyncio.sleep(30.0)
    assert state_of(one) is BreakerState.OPEN
    tried = len(sink.tries)
    assert 5 <= tried <= 8  # those that were under way when it opened
    sink.answers[:] = [unavailable(), unavailable()]
    await asyncio.sleep(150.0)
    assert len(sink.tries) == tried + 2  # two probes, about 60 s apart, have failed
    assert state_of(one) is BreakerState.OPEN
    await asyncio.gather(*sending)
    assert sink.taken == BATCH * 4
    assert state_of(one) is BreakerState.CLOSED
    probes = sink.times[tried:]
    assert probes[1] - probes[0] >= 59.9
    assert probes[2] - probes[1] >= 59.9
    assert probes[5] - probes[2] <= 1.0  # the probe that was answered let the other three through


@virtual_time
async def test_g12_only_the_probe_is_under_way_while_the_breaker_is_half_open() -> None:
    """Batches that wait stay behind the probe, however long it takes."""
    limits = DeliveryLimits(retry_for=1e6, breaker_failures=1, breaker_open_for=10.0, retry_initial=0.01)
    sink = ScriptedSink(unavailable())
    one = sender(sink, limits)
    sending = [asyncio.create_task(one.send(BATCH)) for _ in range(3)]
    await settle()
    before = len(sink.tries)
    sink.seconds = 25.0
    await asyncio.sleep(30.0)
    assert state_of(one) is BreakerState.HALF_OPEN
    assert len(sink.tries) == before + 1
    await asyncio.gather(*sending)


@pytest.mark.parametrize(
    "error", [PermanentWriteError("400"), BatchTooLargeError("413")], ids=lambda e: type(e).__name__
)
@virtual_time
async def test_g12_a_back_end_that_refuses_is_alive(error: Exception) -> None:
    """An answer, even a refusal, closes the breaker."""
    limits = DeliveryLimits(retry_for=1e6, breaker_failures=1, breaker_open_for=10.0)
    sink = ScriptedSink(unavailable(), error)
    one = sender(sink, limits)
    assert await one.send(BATCH[:1]) == [FAILED]
    assert state_of(one) is BreakerState.CLOSED


@virtual_time
async def test_g12_an_open_breaker_that_outlasts_the_limit_in_time_gives_up_at_once() -> None:
    """It does not wait if waiting cannot help."""
    limits = DeliveryLimits(retry_for=5.0, breaker_failures=1, breaker_open_for=60.0)
    one = sender(ScriptedSink(unavailable()), limits)
    assert await one.send(BATCH) == [UNSENT] * 8
    assert now() <= 5.0
    assert await one.send(BATCH) == [UNSENT] * 8
    assert now() <= 5.0


@virtual_time
async def test_g12_a_shutdown_interrupts_a_backoff_and_gives_the_last_try() -> None:
    """A batch that waits is tried once more, at once; if that fails too, and no time was named, it is over."""
    limits = DeliveryLimits(retry_for=1e6, retry_initial=1000.0, retry_max=1000.0, breaker_failures=10**6)
    well, ill = ScriptedSink(unavailable(500.0)), ScriptedSink(*times(9, unavailable(500.0)))
    both = [sender(sink, limits) for sink in (well, ill)]
    sending = [asyncio.create_task(one.send(BATCH)) for one in both]
    await asyncio.sleep(10.0)
    for one in both:
        one.end_within(None)
    assert await asyncio.gather(*sending) == [[DELIVERED] * 8, [UNSENT] * 8]
    assert now() == pytest.approx(10.0, abs=0.01)
    assert [len(sink.tries) for sink in (well, ill)] == [2, 2]


@virtual_time
async def test_g2_a_shutdown_uses_its_time() -> None:
    """A back end that comes back before the end gets the batch; one that does not is tried until just before it."""
    back = ScriptedSink(*times(6, unavailable()))
    ones = [
        sender(sink, DeliveryLimits(retry_for=1e6, retry_max=2.0, breaker_failures=1))
        for sink in (back, ScriptedSink(*times(999, unavailable())))
    ]
    sending = [asyncio.create_task(one.send(BATCH)) for one in ones]
    await settle()
    for one in ones:
        one.end_within(20.0)
    assert await sending[0] == [DELIVERED] * 8
    assert now() < 12.0
    assert await sending[1] == [UNSENT] * 8
    assert 17.0 < now() < 20.0


@virtual_time
async def test_g2_a_try_that_was_under_way_when_the_end_began_is_not_the_last() -> None:
    """Its retry_for is over, and the shutdown's time is not: it is tried again."""
    one = sender(ScriptedSink(unavailable(), seconds=1.5), DeliveryLimits(retry_for=1.0))
    sending = asyncio.create_task(one.send(BATCH))
    await settle()
    one.end_within(20.0)
    assert await sending == [DELIVERED] * 8


@virtual_time
async def test_g2_a_shutdown_whose_backoff_is_too_long_still_uses_its_time() -> None:
    """The last try is just before the end, however long the next wait would have been."""
    back = ScriptedSink(unavailable(), unavailable())
    ones = [
        sender(sink, DeliveryLimits(retry_for=1e6, retry_initial=1e6, retry_max=1e6, breaker_failures=1))
        for sink in (back, ScriptedSink(*times(9, unavailable())))
    ]
    sending = [asyncio.create_task(one.send(BATCH)) for one in ones]
    await settle()
    for one in ones:
        one.end_within(20.0)
    assert await sending[0] == [DELIVERED] * 8
    assert await sending[1] == [UNSENT] * 8
    assert now() == pytest.approx(19.5, abs=0.01)


@virtual_time
async def test_g2_a_wait_that_a_back_end_asks_for_beyond_the_end_is_not_waited_for() -> None:
    """It would not take the batch before."""
    one = sender(ScriptedSink(*times(99, unavailable(60.0))))
    sending = asyncio.create_task(one.send(BATCH))
    await settle()
    one.end_within(20.0)
    assert await sending == [UNSENT] * 8
    assert now() == pytest.approx(0.0, abs=0.01)


@virtual_time
async def test_g2_what_a_spool_has_gets_one_short_try() -> None:
    """It is not lost, and the next process sends it: the shutdown need not wait for a back end that hangs."""
    hanging = ScriptedSink(*times(9, unavailable()), seconds=25.0)
    under_way, waiting = sender(hanging), sender(ScriptedSink(*times(9, unavailable())))
    sending = [asyncio.create_task(one.send(BATCH, lambda: True)) for one in (under_way, waiting)]
    await asyncio.sleep(1.0)
    for one in (under_way, waiting):
        one.end_within(20.0)
        one.mover.cut_saved()
    assert await sending[1] == [UNSENT] * 8
    assert now() == pytest.approx(1.0, abs=0.01)
    assert await sending[0] == [UNSENT] * 8
    assert len(hanging.tries) == 1
    assert now() == pytest.approx(3.0, abs=0.01)


@virtual_time
async def test_g2_what_a_spool_has_gets_two_seconds_in_all() -> None:
    """A try that was under way when the end began uses them up with the one after it; a later batch has its own."""
    sink = ScriptedSink(unavailable(), seconds=1.5)
    one = sender(sink)
    sending = asyncio.create_task(one.send(BATCH, lambda: True))
    await asyncio.sleep(0.1)
    one.end_within(20.0)
    one.mover.cut_saved()
    assert await sending == [UNSENT] * 8
    assert sink.times == pytest.approx([0.0, 1.5])
    assert now() == pytest.approx(2.1, abs=0.01)
    await asyncio.sleep(5.0)
    assert await one.send(BATCH, lambda: True) == [DELIVERED] * 8


@virtual_time
async def test_g12_a_shutdown_gives_the_last_try_past_an_open_breaker() -> None:
    """The breaker spares a back end that is down; at the end each batch is tried all the same."""
    limits = DeliveryLimits(retry_for=1e6, breaker_failures=1, breaker_open_for=1000.0)
    sink = ScriptedSink(unavailable())
    one = sender(sink, limits)
    sending = [asyncio.create_task(one.send(BATCH)) for _ in range(3)]
    await asyncio.sleep(10.0)
    assert state_of(one) is BreakerState.OPEN
    one.end_within(None)
    assert await asyncio.gather(*sending) == [[DELIVERED] * 8] * 3
    assert now() == pytest.approx(10.0, abs=0.01)


@virtual_time
async def test_g12_a_try_under_way_when_the_shutdown_comes_is_not_the_last() -> None:
    """The last try is one that begins after the shutdown has."""
    sink = ScriptedSink(unavailable(), seconds=5.0)
    one = sender(sink)
    sending = asyncio.create_task(one.send(BATCH))
    await asyncio.sleep(1.0)
    one.end_within(None)
    assert await sending == [DELIVERED] * 8
    assert sink.times == pytest.approx([0.0, 5.0])


@pytest.mark.parametrize("error", [OSError("down"), ValueError("no")], ids=["for the moment", "for good"])
@virtual_time
async def test_g7_the_last_error_keeps_nothing_of_what_was_being_written(error: Exception) -> None:
    """It is kept for as long as nothing else fails; the variables of a client may hold a batch, encoded."""
    bodies: list[weakref.ref[_Body]] = []

    class Client(ScriptedSink):
        async def write(self, batch: Batch) -> int | None:
            body = _Body()
            bodies.append(weakref.ref(body))
            try:
                raise KeyError
            except KeyError:
                raise error from ConnectionError()

    retry = sender(Client(), DeliveryLimits(retry_for=0.0))
    await retry.send(BATCH)
    gc.collect()
    assert retry.last_error is error
    assert [body() for body in bodies] == [None]


class _Body:
    """What is sent for a batch."""


@virtual_time
async def test_virtual_time_does_not_wait() -> None:
    """These tests cover hours in no time: the loop's clock jumps from timer to timer, in order."""
    passed: list[float] = []

    async def note(seconds: float) -> None:
        await asyncio.sleep(seconds)
        passed.append(now())

    await asyncio.gather(note(7200), note(1), note(3600))
    assert passed == pytest.approx([1, 3600, 7200])
