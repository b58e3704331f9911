"""RunSlot: a manager's place for one run at a time, and the lock under which a run starts and stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Generic, TypeVar

from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.run.manager_options import ManagerOptions

RunT = TypeVar("RunT")


class RunSlot(Generic[RunT]):
    """
    A manager's place for one run at a time.

    Attributes:
        registry: The exporters by name, in a dict that is replaced and never changed.
        options: Timeouts, and which exporters are required.
        running: Whether a run has started and not begun to stop.
        run: The current run, or the last one.
    """

    __slots__ = ("_is_taken", "_lock", "_waiting", "options", "registry", "run", "running")

    def __init__(self, registry: dict[str, BaseExporter], options: ManagerOptions) -> None:
        self.registry = registry
        self.options = options
        self.running = False
        self.run: RunT | None = None
        self._lock: asyncio.Lock | None = None
        self._is_taken = False
        self._waiting = 0

    @property
    def lock(self) -> asyncio.Lock:
        """Held while a run starts or stops. Made when it is asked for, or waited for: nearly no manager needs it."""
        if self._lock is None:
            self._lock = asyncio.Lock()
            if self._is_taken:
                with suppress(StopIteration):
                    self._lock.acquire().send(None)  # it is free, so that this does not wait
        return self._lock

    def renew_lock(self) -> None:
        """Forget a free lock: one that was once waited for belongs to its event loop for good, a manager does not."""
        if self._lock is not None and not self._waiting and not self._lock.locked():
            self._lock = None

    def take_at_once(self) -> bool:
        """Take the lock without making one, if there is none; return whether it was free."""
        if self._is_taken or self._lock is not None:
            return False
        self._is_taken = True
        return True

    async def take(self) -> None:
        """Wait for the lock, and take it."""
        self._waiting += 1
        try:
            await self.lock.acquire()
        finally:
            self._waiting -= 1
        self._is_taken = True

    def give_back(self) -> None:
        """Let the next one have the lock."""
        self._is_taken = False
        if self._lock is not None:
            self._lock.release()
