"""The one lock over the queues and counts of every delivery of the process."""

from __future__ import annotations

import threading

# One for all of them, so that several are never taken in different orders: the garbage collector may close a
# generator, and with it a step, while any of them is held, and that step is accepted by every exporter of its run.
# Reentrant for the same reason. Read it from this module each time: a forked child has another one.
lock = threading.RLock()


def renew() -> None:
    """In a forked child: replace the lock, which a thread of the parent may have held."""
    global lock
    lock = threading.RLock()
