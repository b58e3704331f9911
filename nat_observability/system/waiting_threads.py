"""Which threads wait for this package at the moment: their event loops, if they have any, do not run meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nat_observability.system.fork_hooks import at_fork

_waiting: dict[int, int] = {}
_lock = threading.Lock()


@contextmanager
def waiting_here() -> Iterator[None]:
    """Note, for a block, that the calling thread waits."""
    thread = threading.get_ident()
    with _lock:
        _waiting[thread] = _waiting.get(thread, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _waiting[thread] -= 1
            if not _waiting[thread]:
                del _waiting[thread]


def is_waiting(thread: int | None) -> bool:
    """Whether this thread, by its identifier, waits."""
    return thread in _waiting


def _start_clean() -> None:
    # Another thread of the parent's may hold the lock, or wait: neither goes on in this process.
    global _lock
    _lock = threading.Lock()
    _waiting.clear()


at_fork(after_in_child=_start_clean)
