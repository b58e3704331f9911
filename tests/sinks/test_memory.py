"""MemorySink: what it holds, for how long, and for whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nat_observability.sinks import MemorySink
from nat_observability.sinks.protocol import Sink
from tests.sinks.builders import make_span, make_step


def test_is_a_sink() -> None:
    """A delivery takes it as a sink in asynchronous form, without a worker thread."""
    assert isinstance(MemorySink(), Sink)


async def test_items_are_held_in_the_order_of_delivery() -> None:
    """`items` is everything delivered, oldest first; `spans` and `steps` are its parts."""
    sink = MemorySink()
    span, step, other = make_span(), make_step(), make_span()
    await sink.write([span, step])
    await sink.write([other])
    assert sink.items == [span, step, other]
    assert sink.spans == [span, other]
    assert sink.steps == [step]


async def test_only_the_newest_items_are_held() -> None:
    """Beyond `limit`, the oldest items are forgotten."""
    sink = MemorySink(limit=3)
    spans = [make_span() for _ in range(5)]
    await sink.write(spans[:2])
    await sink.write(spans[2:])
    assert sink.items == spans[2:]


async def test_lists_are_the_callers_own() -> None:
    """What a caller does to a list that it was given changes nothing that is held."""
    sink = MemorySink()
    await sink.write([make_span(), make_step()])
    sink.items.clear()
    sink.spans.clear()
    sink.steps.clear()
    assert (len(sink.items), len(sink.spans), len(sink.steps)) == (2, 1, 1)


async def test_items_survive_close_and_open() -> None:
    """Only `clear` empties the sink, so a test may look at it when the delivery has closed it."""
    sink = MemorySink()
    await sink.open()
    await sink.write([make_span()])
    await sink.close()
    await sink.open()
    await sink.write([make_span()])
    assert len(sink.items) == 2
    sink.clear()
    assert sink.items == []


async def test_reading_while_a_delivery_writes() -> None:
    """A reader in another thread never meets a change in the middle of its copy."""
    sink = MemorySink(limit=500)
    batch = [make_span() for _ in range(100)]
    await sink.write(batch * 5)
    done = threading.Event()

    def read() -> set[int]:
        sizes = set()
        while not done.is_set():
            sizes.add(len(sink.items))
        return sizes

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        for _ in range(2_000):
            await sink.write(batch)
        done.set()
        assert reader.result() == {500}


def test_limit_has_to_be_positive() -> None:
    """A sink that would hold nothing is a mistake, and says so."""
    with pytest.raises(ValueError, match="limit is a positive number of items, not 0"):
        MemorySink(limit=0)
