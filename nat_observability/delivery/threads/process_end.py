"""The end of the process, which writes what is left; in a child of `multiprocessing` too."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any

from nat_observability.delivery.threads.worker import loaded

_AFTER_ALL_OTHERS = -1000  # of a child's finalizers: those of the application may record too


def drain_at_end(drain: Callable[[], None]) -> None:
    """Have `drain` called when the process ends, and when a child does that has called `drain_at_end_of_child`."""
    global _drain
    _drain = drain
    atexit.register(drain)


def _drain() -> None:
    """Nothing to drain yet."""


_finalizer: Any = None
_drainer: threading.Thread | None = None


def drain_at_end_of_child() -> None:
    """
    Have a child of `multiprocessing` write what is left when it ends, because it runs no exit handlers.

    If the application has not imported `multiprocessing`, this is not such a child.
    """
    global _finalizer
    process, util = loaded("multiprocessing.process"), loaded("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None:
        return
    if not threading.main_thread().is_alive():
        _drain_after_the_threads()  # the finalizers have been called already
    elif _finalizer is None or not _finalizer.still_active():
        # The child of a child forgets what its parent had registered.
        _finalizer = util.Finalize(None, _drain_after_the_threads, exitpriority=_AFTER_ALL_OTHERS)


def _drain_after_the_threads() -> None:
    """Drain when the threads that a child waits for have ended; it runs no code of its own after that."""
    global _drainer
    if _drainer is not None and _drainer.is_alive():
        return
    main = threading.main_thread()
    busy = [thread for thread in threading.enumerate() if not (thread.daemon or thread is main)]
    if not busy:
        _drain()
        return

    def drain() -> None:
        for thread in busy:
            thread.join()
        _drain()

    # The child waits for this thread too: it is not a daemon.
    _drainer = threading.Thread(target=drain, name="nat-observability-exit", daemon=False)
    _drainer.start()
