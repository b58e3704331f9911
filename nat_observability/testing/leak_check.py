"""LeakCheck: what a piece of code has left behind: threads, tasks, subscriptions, leases."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Collection

from nat_observability.delivery.delivery import Delivery, deliveries
from nat_observability.stream import EventStream
from nat_observability.system.clock import monotonic, wait
from nat_observability.system.weak_registry import WeakRegistry

_INTERVAL = 0.002  # seconds from one look to the next
_SOON = 0.5  # seconds in which most threads end by themselves, or let go of what they held
# The first two belong to their event loop, which keeps them for the next call. The third compiles, once in a process,
# what the redaction of everybody's texts uses, and ends.
_NOBODYS = ("asyncio_", "AnyIO worker thread", "nat-observability-redaction")

# What waits for the code that asks, in a task of its own: anyio's pytest plugin makes one for each test and fixture.
_RUNNERS = ("TestRunner._call_in_runner_task",)


class LeakCheck:
    """
    Remembers what exists when it is made, and later reports what has been added.

    The first one in a process looks at every object once, which takes a few milliseconds, more in a large process.
    """

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._subscribed, self._held = _subscribed(), _held()

    def threads(self, *, within: float = 10.0) -> list[threading.Thread]:
        """
        Return the threads that are still there.

        Args:
            within: Most seconds to wait for them to end: a delivery ends its thread in the background, when it has
                written what it was given.
        """
        start, collected = monotonic(), False
        while left := self._new_threads():
            waited = monotonic() - start
            if not collected and waited >= min(within, _SOON):
                gc.collect()  # what keeps a thread may be garbage in a cycle, such as a channel of grpcio
                collected = True
            elif waited >= within:
                break
            else:
                time.sleep(_INTERVAL)
        return left

    def subscriptions(self) -> list[EventStream]:
        """Return the streams of runs that still have a subscription."""
        return self._left()[0]

    def leases(self) -> list[Delivery]:
        """Return the deliveries that are held open: a run that has not ended, a runtime that is not shut down."""
        return self._left()[1]

    def found(self, *, within: float = 10.0, ignoring: Collection[str] = ()) -> list[str]:
        """
        Return a line for each leak; an empty list means that nothing has leaked.

        Args:
            within: As for `threads`. A thread that has just handed over its result may still hold what it worked with,
                so half a second of that is given to leases and subscriptions too.
            ignoring: Which of "threads", "subscriptions" and "leases" not to look for.
        """
        lines: list[str] = []
        subscribed, held = self._left(within=min(within, _SOON))
        # Leases first: a lease keeps its delivery's thread alive, so waiting for that thread would be in vain.
        if "leases" not in ignoring:
            lines += [
                f"a lease on the delivery {delivery.name!r}: a run has not ended, or a runtime was not shut down"
                for delivery in held
            ]
        if "subscriptions" not in ignoring:
            lines += [
                f"{stream.listeners} subscriptions to one run's stream: its manager was not stopped"
                for stream in subscribed
            ]
        if "threads" not in ignoring:
            lines += [
                f"the thread {thread.name!r}" for thread in self.threads(within=0.0 if lines else within)
            ]
        return lines

    def _new_threads(self) -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads and not thread.name.startswith(_NOBODYS)
        ]

    def _left(self, *, within: float = 0.0) -> tuple[list[EventStream], list[Delivery]]:
        start = monotonic()
        while any(self._since()):  # not kept here, or it would not be garbage
            gc.collect()  # it may still be in a cycle
            if monotonic() - start >= within:
                break
            time.sleep(_INTERVAL)
        return self._since()

    def _since(self) -> tuple[list[EventStream], list[Delivery]]:
        return (
            [each for each in _subscribed() if not any(each is known for known in self._subscribed)],
            [each for each in _held() if not any(each is known for known in self._held)],
        )


def _subscribed() -> list[EventStream]:
    if EventStream.subscribed is None:
        EventStream.subscribed = WeakRegistry()
        for each in gc.get_objects():
            if type(each) is EventStream:  # by type: other objects may run code when they are asked
                EventStream.subscribed.add(each)
    return [each for each in EventStream.subscribed.all() if each.listeners]


def _held() -> list[Delivery]:
    return [each for each in deliveries() if each.held]


async def tasks_left(before: Collection[asyncio.Task[object]], *, within: float = 10.0) -> list[str]:
    """
    Return a line for each task of the running loop that was not there before, and does not end by itself.

    Args:
        before: What `asyncio.all_tasks()` was.
        within: Most seconds to wait for them to end.
    """
    left = asyncio.all_tasks() - set(before) - {asyncio.current_task()}
    left = {task for task in left if getattr(task.get_coro(), "__qualname__", "") not in _RUNNERS}
    if left:
        _, left = await wait(left, within)
    return [f"the task {task.get_name()!r}, {task.get_coro()}" for task in left]
