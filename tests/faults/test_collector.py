"""The garbage collector closes a step that was never ended, in the middle of anything that allocates."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nat_observability.delivery.queue import BoundedQueue
from tests.processes import run_program

LATEST = 60  # allocations after which what is tried here is over


class Sized:
    """An entry of so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size


class Late:
    """Garbage that only the collector finds, and that puts an entry into the queue when it does."""

    def __init__(self, queue: BoundedQueue[Sized]) -> None:
        self.queue = queue
        self.itself = self

    def __del__(self) -> None:
        self.queue.put(Sized(1000))


@contextmanager
def collecting_after(allocations: int) -> Iterator[None]:
    """Run the collector at that allocation of the block, or as soon after it as this Python does."""
    usual = gc.get_threshold()
    gc.collect()
    gc.set_threshold(allocations)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@pytest.fixture(autouse=True)
def nothing_else_to_collect() -> None:
    """Take what other tests have made out of the collector's sight: the tests here run it hundreds of times."""
    gc.collect()
    gc.freeze()


def take_some(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    taken += queue.take(2, 1000)


def take_all(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    taken += queue.take_all()


def take_what_fits(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    taken += queue.take(100, 1 << 20)


def put(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    queue.put(Sized(10))


def put_back(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    back, taken[:] = list(taken), []
    queue.put_back(back)


def release(queue: BoundedQueue[Sized], taken: list[Sized]) -> None:
    queue.release(taken)
    taken.clear()


@pytest.mark.parametrize("operation", [take_some, take_what_fits, take_all, put, put_back, release])
def test_g5_g7_an_entry_that_comes_in_the_middle_is_kept_and_counted(
    operation: Callable[[BoundedQueue[Sized], list[Sized]], None],
) -> None:
    """Whatever the queue is doing at that moment: it holds what its numbers say, and nothing is lost."""
    for allocations in range(1, LATEST):
        queue: BoundedQueue[Sized] = BoundedQueue(100, 1 << 20, "drop_newest")
        for size in (1, 2, 3, 4, 5):
            queue.put(Sized(size))
        taken = queue.take(2, 1000)
        with collecting_after(allocations):
            Late(queue)
            operation(queue, taken)
        gc.collect()
        assert queue.held_bytes - queue.queued_bytes == sum(entry.size for entry in taken)
        items, queued_bytes = len(queue), queue.queued_bytes
        left = queue.take_all()
        assert (items, queued_bytes) == (len(left), sum(entry.size for entry in left))
        assert [entry.size for entry in (*left, *taken)].count(1000) == 1
        assert (len(queue), queue.queued_bytes) == (0, 0)


def test_g4_g16_a_report_may_be_asked_while_the_collector_closes_a_step() -> None:
    """An exporter without a delivery counts the step, and code that asks for its counts goes on."""
    run_program(
        """
        import asyncio, gc
        from nat_observability import BaseExporter, ContextState, ExporterManager, step

        class Own(BaseExporter):
            def export(self, event):
                pass

        def abandoned():
            itself = yield
            with step("tool", "abandoned"):
                yield

        async def main():
            manager = ExporterManager.from_exporters({"own": Own()})
            async with manager.start(ContextState()):
                gc.collect()
                gc.freeze()  # what imports have made, which every collection would go through
                for allocations in range(1, 150):
                    gc.collect()
                    gc.set_threshold(allocations)
                    generator = abandoned()
                    next(generator)
                    generator.send(generator)
                    del generator
                    manager.report
                    gc.set_threshold(700)
                gc.collect()
                assert manager.report.ledger.accepted == 298

        asyncio.run(main())
        """,
        timeout=10.0,
    )
