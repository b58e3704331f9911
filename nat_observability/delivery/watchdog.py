"""Watchdog: notices from outside when the delivery thread is blocked, and by whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class Watchdog:
    """
    A daemon thread that pings an event loop and reports the task that keeps it from answering.

    Args:
        loop: Runs on another thread.
        blocked: Called once, on the watchdog's thread, with the task that has run without a pause for
            `limit` seconds, after which the watchdog ends.
        limit: Seconds without an answer.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, blocked: Callable[[asyncio.Task[object]], None], limit: float
    ) -> None:
        self._loop = loop
        self._blocked = blocked
        self._limit = limit
        self._answered = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="nat-observability-watchdog", daemon=True).start()

    def end(self) -> None:
        """Let the thread end. From any thread."""
        self._ended.set()
        self._answered.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._limit / 4):
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # closed
                return
            if self._answered.wait(self._limit) or self._ended.is_set():
                continue
            task = asyncio.current_task(self._loop)
            if task is not None and not self._answered.is_set():
                self._blocked(task)
                return
