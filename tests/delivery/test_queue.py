"""BoundedQueue and weigh: order, both limits, both policies, and the weight of an item."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.delivery.limits import QueuePolicy
from nat_observability.delivery.queue import BoundedQueue, weigh
from nat_observability.events import ErrorDetails, SpanLink
from tests.sinks.builders import make_span, make_step


class Sized:
    """An entry of so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"Sized({self.size})"


POLICIES: tuple[QueuePolicy, ...] = ("drop_newest", "drop_oldest")
policies = st.sampled_from(POLICIES)

Operation = (
    tuple[Literal["put"], int]
    | tuple[Literal["take"], tuple[int, int]]
    | tuple[Literal["release", "put_back"], int]
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 60)),
        st.tuples(st.just("take"), st.tuples(st.integers(1, 5), st.integers(1, 60))),
        st.tuples(st.sampled_from(("release", "put_back")), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(operations, policies, st.integers(1, 6), st.integers(1, 100))
def test_g7_neither_limit_is_ever_exceeded_and_nothing_gets_lost(
    program: Sequence[Operation], policy: QueuePolicy, max_items: int, max_bytes: int
) -> None:
    """For any input both limits hold, order is kept, and each entry is queued, taken, dropped or released."""
    queue: BoundedQueue[Sized] = BoundedQueue(max_items, max_bytes, policy)
    waiting: list[Sized] = []
    taken: list[list[Sized]] = []
    for operation in program:
        if operation[0] == "put":
            entry = Sized(operation[1])
            dropped = queue.put(entry) or []
            waiting.append(entry)
            for each, reason in dropped:
                assert reason == ("too_large" if entry.size > max_bytes else "queue_full")
                assert each is entry or policy == "drop_oldest"
                waiting.remove(each)
            if len(waiting) <= max_items:
                held = sum(each.size for each in [*waiting, *(each for batch in taken for each in batch)])
                assert held <= max_bytes
        elif operation[0] == "take":
            batch = queue.take(*operation[1])
            assert batch == waiting[: len(batch)]
            del waiting[: len(batch)]
            if batch:
                assert len(batch) <= operation[1][0]
                assert len(batch) == 1 or sum(each.size for each in batch) <= operation[1][1]
                taken.append(batch)
            else:
                assert not waiting
        elif operation[1] < len(taken):
            batch = taken.pop(operation[1])
            if operation[0] == "release":
                queue.release(batch)
            else:
                queue.put_back(batch)
                waiting = [*batch, *waiting]
        assert len(queue) == len(waiting)
        assert queue.queued_bytes == sum(each.size for each in waiting)
        in_flight = sum(each.size for batch in taken for each in batch)
        assert queue.held_bytes == queue.queued_bytes + in_flight
    assert queue.take(1000, 10**9) == waiting


def test_g7_drop_newest_refuses_what_comes() -> None:
    """A full queue keeps what it has, and gives the newcomer back."""
    queue: BoundedQueue[Sized] = BoundedQueue(2, 100, "drop_newest")
    first, second, third = Sized(1), Sized(1), Sized(1)
    assert queue.put(first) is None
    assert queue.put(second) is None
    assert queue.put(third) == [(third, "queue_full")]
    assert queue.take(10, 100) == [first, second]


def test_g7_drop_oldest_makes_room() -> None:
    """A full queue gives up as many of its oldest entries as the newcomer needs, and no more."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_oldest")
    entries = [Sized(30), Sized(30), Sized(30)]
    for entry in entries:
        assert queue.put(entry) is None
    large = Sized(60)
    assert queue.put(large) == [(entries[0], "queue_full"), (entries[1], "queue_full")]
    assert queue.take(10, 1000) == [entries[2], large]


def test_g7_drop_oldest_gives_up_nothing_for_room_that_is_there() -> None:
    """An entry that fills the queue to its last byte, or its last place, drops no other."""
    queue: BoundedQueue[Sized] = BoundedQueue(2, 100, "drop_oldest")
    first, second, third = Sized(50), Sized(30), Sized(70)
    queue.put(first)
    queue.put(second)
    assert queue.put(third) == [(first, "queue_full")]
    assert queue.take(10, 100) == [second, third]


def test_g7_drop_oldest_never_drops_what_is_being_written() -> None:
    """If entries in flight leave no room, the newcomer is refused and the queue is left alone."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_oldest")
    flying, waiting, newcomer = Sized(80), Sized(10), Sized(30)
    queue.put(flying)
    queue.take(1, 100)
    queue.put(waiting)
    assert queue.put(newcomer) == [(newcomer, "queue_full")]
    queue.release([flying])
    assert queue.put(newcomer) is None
    assert queue.take(10, 100) == [waiting, newcomer]


@pytest.mark.parametrize("policy", POLICIES)
def test_g7_an_entry_above_the_whole_limit_is_refused_alone(policy: QueuePolicy) -> None:
    """It can never fit: nothing else is dropped for it, and the reason says so."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, policy)
    small, huge = Sized(1), Sized(101)
    queue.put(small)
    assert queue.put(huge) == [(huge, "too_large")]
    assert queue.take(10, 100) == [small]


def test_g7_an_entry_of_exactly_the_limit_gets_all_the_room() -> None:
    """The limit itself is allowed, even if the queue has to be emptied for it."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_oldest")
    first, whole = Sized(1), Sized(100)
    queue.put(first)
    assert queue.put(whole) == [(first, "queue_full")]
    assert queue.take(10, 100) == [whole]


def test_what_was_put_back_waits_with_all_its_bytes() -> None:
    """Several entries that come back count with their total weight."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_newest")
    for size in (10, 20, 30):
        queue.put(Sized(size))
    queue.put_back(queue.take(2, 100))
    assert queue.queued_bytes == queue.held_bytes == 60


def test_an_entry_larger_than_a_batch_goes_alone() -> None:
    """`take` returns at least one entry, so that none blocks the queue for ever."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_newest")
    large, small = Sized(50), Sized(1)
    queue.put(large)
    queue.put(small)
    assert queue.take(10, 20) == [large]
    assert queue.take(10, 20) == [small]
    assert queue.take(10, 20) == []


def test_what_was_put_back_is_taken_next_in_its_order() -> None:
    """Entries that were taken and not written go back to the front as they were."""
    queue: BoundedQueue[Sized] = BoundedQueue(10, 100, "drop_newest")
    entries = [Sized(1), Sized(2), Sized(3), Sized(4)]
    for entry in entries:
        queue.put(entry)
    queue.put_back(queue.take(3, 100))
    assert queue.take(10, 100) == entries


long_texts = st.builds(str.__mul__, st.text(max_size=5), st.integers(1, 2000))
texts = st.none() | long_texts | st.binary(max_size=200).map(lambda data: msgspec.Raw(data * 50))


@given(given=texts, result=texts, name=long_texts, tags=st.lists(long_texts, max_size=5))
def test_g7_an_item_weighs_at_least_what_varies_in_it(
    given: str | msgspec.Raw | None, result: str | msgspec.Raw | None, name: str, tags: list[str]
) -> None:
    """Whatever an application can make long counts against the limit in bytes: payloads, name, tags, error."""
    error = ErrorDetails("ValueError", name, "".join(tags))
    for item in (
        make_span(input=given, output=result, name=name, tags=tuple(tags), error=error),
        make_step(input=given, output=result, name=name, tags=tuple(tags), error=error),
    ):
        payload = sum(
            len(value) if isinstance(value, msgspec.Raw) else _bytes(value) for value in (given, result)
        )
        assert weigh(item) >= payload + 2 * _bytes(name) + sum(map(_bytes, tags)) + _bytes("".join(tags))


def test_g7_chunks_metadata_and_what_other_instrumentations_record_count() -> None:
    """A chunk and metadata are payloads too; status messages and trace states are as long as others make them."""
    bare = weigh(make_step())
    assert weigh(make_step(chunk="x" * 1000)) >= bare + 1000
    assert weigh(make_step(metadata=msgspec.Raw(b"1" * 1000))) >= bare + 1000
    assert weigh(make_step(status_message="x" * 1000)) >= bare + 1000
    assert weigh(make_span(status_message="x" * 1000)) >= weigh(make_span()) + 1000
    link = SpanLink("1" * 32, "2" * 16, trace_state="x" * 1000)
    assert weigh(make_span(links=(link,))) >= weigh(make_span()) + 1000


def _bytes(text: str | None) -> int:
    """The memory of a text's characters, beyond that of an empty text."""
    return 0 if text is None else sys.getsizeof(text) - sys.getsizeof("")


@given(policies, st.lists(st.integers(1, 30), max_size=6), st.lists(st.integers(1, 30), max_size=6))
def test_all_are_added_or_none(policy: QueuePolicy, there: list[int], coming: list[int]) -> None:
    """Several entries are added as one by one if none has to be dropped for them; otherwise the queue is unchanged."""
    together, one_by_one = BoundedQueue[Sized](8, 100, policy), BoundedQueue[Sized](8, 100, policy)
    for size in there:
        together.put(Sized(size))
        one_by_one.put(Sized(size))
    before = [each.size for each in together.waiting]
    dropped = [one_by_one.put(Sized(size)) for size in coming]
    added = together.put_all([Sized(size) for size in coming], sum(coming))
    assert added is not any(dropped)
    expected = [each.size for each in one_by_one.waiting] if added else before
    assert [each.size for each in together.waiting] == expected
    assert together.items == len(expected)
    assert together.queued_bytes == together.held_bytes == sum(expected)
