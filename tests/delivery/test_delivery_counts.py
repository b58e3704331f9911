"""G5 under whatever may happen: random programs in virtual time, and many threads at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.lease import Lease
from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.delivery.limits import DeliveryLimits, QueuePolicy
from nat_observability.delivery.queue import weigh
from nat_observability.errors import BatchTooLargeError, PermanentWriteError, RetryableWriteError
from nat_observability.events import IntermediateStep, Item
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests.delivery.sinks import Answer, takes_at_most
from tests.sinks.builders import make_step
from tests.virtual_time import VirtualTimeLoop

PATIENCE = 15.0

# All of one weight, so that the bytes that a delivery holds tell how many items it holds.
SMALL = make_step()
WEIGHT = weigh(SMALL)

answers: st.SearchStrategy[Answer] = st.one_of(
    st.none(),
    st.integers(1, 6),
    st.builds(PermanentWriteError, st.just("400")),
    st.builds(RetryableWriteError, st.just("503")),
    st.builds(RetryableWriteError, st.just("429"), retry_after=st.sampled_from([0.0, 3.0, 90.0])),
    st.builds(takes_at_most, st.integers(0, 4)),
    st.sampled_from([OSError("reset"), ValueError("bug")]),
)


class LoopSource:
    """A loop that the machine below drives."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.users = 0

    def acquire(self) -> asyncio.AbstractEventLoop:
        self.users += 1
        return self.loop

    def release(self) -> None:
        self.users -= 1


class Moody:
    """A sink that takes time, and answers as it was last told."""

    def __init__(self) -> None:
        self.answer: Answer = None
        self.seconds = 0.0
        self.opens: BaseException | None = None
        self.is_open = False
        self.taken: list[Item] = []

    async def open(self) -> None:
        assert not self.is_open
        await asyncio.sleep(self.seconds)
        if self.opens is not None:
            raise self.opens
        self.is_open = True

    async def write(self, batch: Batch) -> int | None:
        assert self.is_open
        await asyncio.sleep(self.seconds)
        answer = self.answer(batch) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        self.taken.extend(batch)
        return answer

    async def close(self) -> None:
        self.is_open = False
        await asyncio.sleep(self.seconds)


class Program(RuleBasedStateMachine):
    """Runs come and go, the back end changes its answers, time passes; the counts add up at every moment."""

    leases: Bundle[Lease] = Bundle("leases")

    @initialize(
        policy=st.sampled_from(["drop_newest", "drop_oldest"]),
        queue_items=st.integers(1, 30),
        queue_weights=st.integers(1, 40),
        batch_items=st.integers(1, 10),
        in_flight=st.integers(1, 3),
    )
    def begin(
        self, policy: QueuePolicy, queue_items: int, queue_weights: int, batch_items: int, in_flight: int
    ) -> None:
        self.loop = VirtualTimeLoop()
        self.source = LoopSource(self.loop)
        self.sink = Moody()
        self.limits = DeliveryLimits(
            queue_items=queue_items,
            queue_bytes=queue_weights * WEIGHT,
            queue_policy=policy,
            batch_items=min(batch_items, queue_items),
            batch_age=1.0,
            batches_in_flight=in_flight,
            open_timeout=5.0,
            write_timeout=8.0,
            retry_for=60.0,
            breaker_failures=3,
        )
        self.delivery = Delivery("main", self.sink, limits=self.limits, loop_source=self.source)
        self.known: list[Lease] = []
        self.accepted = 0

    @rule(target=leases, count=st.integers(1, 3))
    def lease(self, count: int) -> Any:
        given = [self.delivery.lease() for _ in range(count)]
        self.known.extend(given)
        return multiple(*given)

    @rule(lease=leases, count=st.integers(1, 25))
    def accept(self, lease: Lease, count: int) -> None:
        for _ in range(count):
            lease.accept(SMALL)
        self.accepted += count

    @rule(lease=leases)
    def accept_one_that_is_too_large(self, lease: Lease) -> None:
        lease.accept(make_step(input="x" * (41 * WEIGHT)))
        self.accepted += 1

    @rule(answer=answers, seconds=st.sampled_from([0.0, 0.5, 7.0, 20.0]))
    def mood(self, answer: Answer, seconds: float) -> None:
        self.sink.answer, self.sink.seconds = answer, seconds

    @rule(error=st.sampled_from([None, OSError("down"), RuntimeError("bug")]))
    def mood_for_opening(self, error: BaseException | None) -> None:
        self.sink.opens = error

    @rule(seconds=st.sampled_from([0.0, 0.6, 5.0, 30.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(lease=leases)
    def somebody_waits_for_a_run(self, lease: Lease) -> None:
        lease.settled()

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        lease.release()

    @rule(lease=leases)
    def release_and_record_on(self, lease: Lease) -> None:
        lease.release()

    @rule()
    def close(self) -> None:
        self.delivery.close()

    @invariant()
    def everything_is_accounted_for(self) -> None:
        health = self.delivery.health()
        ledgers = [lease.ledger for lease in self.known]
        assert health.ledger.adds_up
        assert all(ledger.adds_up for ledger in ledgers)
        assert total(ledgers) == health.ledger
        assert health.ledger.accepted == self.accepted
        assert health.ledger.pending * WEIGHT == health.queue_bytes
        assert health.queue_bytes <= self.limits.queue_bytes
        assert health.queue_depth <= self.limits.queue_items
        assert (
            health.ledger.pending - health.queue_depth
            <= self.limits.batch_items * self.limits.batches_in_flight
        )
        assert health.ledger.delivered <= len(self.sink.taken)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.sink.answer, self.sink.seconds, self.sink.opens = None, 0.0, None
            for lease in self.known:
                lease.release()
            self.loop.run_until_complete(
                asyncio.wait_for(asyncio.wrap_future(self.delivery.closed(), loop=self.loop), 500.0)
            )
            self.loop.run_until_complete(asyncio.sleep(1e-6))
            self.everything_is_accounted_for()
            assert self.delivery.health().ledger.pending == 0
            assert self.source.users == 0
            assert not asyncio.all_tasks(self.loop)
            assert all(lease.settled().done() for lease in self.known)
        finally:
            self.loop.close()


# The wrapper that a decorator would put around the methods hides them from Hypothesis.
Program.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
# A second or two, which a machine that does much else draws out.
TestG5WhateverHappensEveryItemIsAccountedFor = pytest.mark.timeout(120)(Program.TestCase)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can, so that they meet in every line."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def threads(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """Do `work(0)`, `work(1)` and so on, each in a thread of its own, beside the block; what one raises is raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.join(PATIENCE)
        assert not any(worker.is_alive() for worker in workers)
    for error in errors:
        raise error


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
def test_g5_counts_add_up_at_every_moment_while_threads_accept(policy: QueuePolicy, blocking: bool) -> None:
    """Each snapshot, of each lease and of all, adds up while items are accepted, written, refused and dropped."""
    turn = 0
    overflowed = threading.Event()

    def answer(batch: Batch) -> int | None:
        nonlocal turn
        turn += 1
        if turn % 7 == 0:
            raise PermanentWriteError("400")
        if turn % 5 == 0 and len(batch) > 1:
            raise BatchTooLargeError("413")
        return turn % 3

    def blocking_write(batch: Batch) -> int | None:
        assert overflowed.wait(PATIENCE)
        return answer(batch)

    async def write(batch: Batch) -> int | None:
        await until(overflowed.is_set, timeout=PATIENCE)
        return answer(batch)

    limits = DeliveryLimits(
        queue_items=200,
        queue_policy=policy,
        batch_items=50,
        batch_age=0.001,
        batches_in_flight=1 if blocking else 3,
    )
    delivery = Delivery("main", blocking_write if blocking else write, limits=limits)
    leases = [delivery.lease() for _ in range(4)]
    accepted = [0] * 4
    enough = threading.Event()

    def accept(number: int) -> None:
        while accepted[number] < 1000 or not enough.is_set():
            leases[number].accept(SMALL)
            accepted[number] += 1

    looks = delivered = failed = dropped = 0
    with threads(4, accept):
        try:
            # Until every possible outcome has occurred; the back end waits for the queue to overflow.
            while looks < 200 or not (delivered and failed and dropped):
                looks += 1
                health = delivery.health()
                assert health.ledger.adds_up
                assert health.ledger.pending * WEIGHT == health.queue_bytes
                assert all(lease.ledger.adds_up for lease in leases)
                ledger = health.ledger
                delivered, failed, dropped = (
                    ledger.delivered,
                    ledger.failed,
                    ledger.dropped.get("queue_full", 0),
                )
                if dropped:
                    overflowed.set()
        finally:
            enough.set()
            overflowed.set()
    for lease in leases:
        lease.release()
    delivery.closed().result(PATIENCE)
    whole = delivery.health().ledger
    assert whole == total(lease.ledger for lease in leases)
    assert (whole.accepted, whole.pending, whole.adds_up) == (sum(accepted), 0, True)
    assert whole.delivered >= delivered
    assert whole.failed >= failed
    assert set(whole.dropped) == {"queue_full"}


@pytest.mark.usefixtures("hasty")
def test_g11_any_number_of_threads_and_runs_share_one_exporter() -> None:
    """Threads that lease, accept and release as they like lose nothing: what each accepted has arrived, once."""
    taken: list[Item] = []
    delivery = Delivery("main", taken.extend, limits=DeliveryLimits(batch_items=20, batch_age=0.001))
    accepted: list[list[IntermediateStep]] = [[] for _ in range(6)]
    released: list[Lease] = []

    def work(number: int) -> None:
        for _ in range(40):
            lease = delivery.lease()
            released.append(lease)
            for _ in range(10):
                item = make_step()
                accepted[number].append(item)
                lease.accept(item)
            lease.release()

    with threads(6, work):
        pass
    for _ in range(50):  # a lease taken while it closed makes it open and close once more
        delivery.closed().result(PATIENCE)
    ledger = delivery.health().ledger
    assert ledger == LedgerSnapshot(accepted=2400, delivered=2400)
    assert total(lease.ledger for lease in released) == ledger
    assert sorted(item.step_id for item in taken if isinstance(item, IntermediateStep)) == sorted(
        item.step_id for each in accepted for item in each
    )
