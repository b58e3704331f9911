"""DeliveryThreadGroup: a bounded set of threads, shared by deliveries that are alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future

from nat_observability.delivery import locking
from nat_observability.delivery.threads.delivery_thread import DeliveryThread
from nat_observability.delivery.threads.worker import BlockingWorker, NewWorker, ResultT, Worker
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

_FEWEST, _MOST = 2, 16


class DeliveryThreadGroup:
    """
    A bounded set of threads, shared by deliveries that are alike: those of a thousand tenants, for example.

    Half of them have event loops, on which batches are made and asynchronous sinks are called, and the others make the
    calls of blocking sinks and of spools. Each starts with its first user and ends with its last. A sink that blocks
    stalls those that share its thread, and nothing else.

    Args:
        size: Most threads, from 2 to 16.
        name: Their names begin with it.

    Raises:
        ValueError: `size` is out of its range.
    """

    def __init__(self, size: int = _MOST, name: str = "nat-observability-group") -> None:
        if type(size) is not int or not _FEWEST <= size <= _MOST:
            raise ValueError(f"A group has {_FEWEST} to {_MOST} threads, not {size!r}.")
        loops = size // 2
        self._threads = [DeliveryThread(f"{name}-{number}") for number in range(loops)]
        self._slots = [_WorkerSlot(f"{name}-worker-{number}") for number in range(size - loops)]
        self._next = itertools.count()
        self._next_slot = itertools.count()

    def thread(self) -> DeliveryThread:
        """Return the thread with an event loop for one more delivery: round robin."""
        return self._threads[next(self._next) % len(self._threads)]

    def workers(self) -> NewWorker:
        """Return what gives one more sink or spool its worker, on the same thread each time: round robin."""
        return self._slots[next(self._next_slot) % len(self._slots)].lease


class _WorkerSlot:
    """One thread for blocking calls, while it has users."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reset()
        _slots.add(self)

    def _reset(self) -> None:
        # In a forked child the thread does not exist, and the parent's leases count no longer.
        self._term = object()
        self._users = 0
        self._worker: BlockingWorker | None = None
        self._latest: BlockingWorker | None = None

    def lease(self, name: str, after: Worker | None) -> Worker:
        """
        Return a worker on this thread. `after` is not needed: calls on one thread come one after the other.

        Raises:
            ThreadRefusedError: No thread can be started.
        """
        with locking.lock:
            if self._worker is None:
                self._worker = self._latest = BlockingWorker(self._name, self._latest)
            self._users += 1
            return _WorkerLease(self, self._worker, self._term)

    def give_back(self, term: object) -> None:
        """Let the thread end with its last user."""
        with locking.lock:
            if term is not self._term:
                return
            self._users -= 1
            if self._users:
                return
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


class _WorkerLease:
    """One user's part in a thread for blocking calls."""

    def __init__(self, slot: _WorkerSlot, worker: BlockingWorker, term: object) -> None:
        self._slot, self._worker = slot, worker
        self._term: object | None = term

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        return self._worker.submit(call)

    def end(self) -> None:
        term, self._term = self._term, None
        if term is not None:
            self._slot.give_back(term)


_slots: WeakRegistry[_WorkerSlot] = WeakRegistry()


def _reset_in_child() -> None:
    for slot in _slots.all():
        slot._reset()


at_fork(after_in_child=_reset_in_child)
