"""NaiveManager: what the reference implementation does, so that each promise's test can be seen to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from nat_observability import ContextState


class NaiveManager:
    """
    One lock, a registry that copies share until they themselves write, and a time-out per exporter.

    Readiness is awaited without a time-out and without looking whether the exporter still lives. The run is made
    current here, which the reference does elsewhere.
    """

    def __init__(self, shutdown_timeout: float = 120, **_: Any) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = False
        self._registry: dict[str, Any] = {}
        self._shared = False
        self._lock = asyncio.Lock()
        self._shutdown = asyncio.Event()
        self._timeout = shutdown_timeout
        self._isolated: dict[str, Any] = {}

    def get(self) -> Self:
        copy = type(self)(self._timeout)
        copy._registry = self._registry
        copy._shared = True
        return copy

    def _own(self) -> None:
        if self._shared:
            self._registry = self._registry.copy()
            self._shared = False

    def add_exporter(self, name: str, exporter: Any, **_: Any) -> None:
        self._own()
        self._registry[name] = exporter

    def remove_exporter(self, name: str) -> None:
        self._own()
        del self._registry[name]

    async def get_all_exporters(self) -> dict[str, Any]:
        return self._registry

    def create_isolated_exporters(self, state: ContextState | None = None) -> dict[str, Any]:
        state = state or ContextState()
        return {name: exporter.create_isolated_instance(state) for name, exporter in self._registry.items()}

    @asynccontextmanager
    async def start(self, state: ContextState | None = None) -> AsyncIterator[Self]:
        with (state or ContextState()).attach():
            async with self._lock:
                if self._running:
                    raise RuntimeError("Exporter manager is already running")
                self._shutdown.clear()
                self._running = True
                exporters: Mapping[str, Any] = self._registry
                if state is not None:
                    exporters = self._isolated = self.create_isolated_exporters(state)
                for name, exporter in exporters.items():
                    self._tasks[name] = asyncio.create_task(self._run_exporter(exporter))
                await asyncio.gather(*(exporter.wait_ready() for exporter in exporters.values()))
            try:
                yield self
            finally:
                await self._clean_up()
                await self.stop()

    async def _run_exporter(self, exporter: Any) -> None:
        async with exporter.start():
            await self._shutdown.wait()

    async def _clean_up(self) -> None:
        isolated, self._isolated = self._isolated, {}
        with suppress(TimeoutError):
            await asyncio.wait_for(
                asyncio.gather(*(each.stop() for each in isolated.values())), self._timeout
            )

    async def stop(self) -> None:
        async with self._lock:
            if not self._running:
                return
            self._running = False
            self._shutdown.set()
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            try:
                task.cancel()
                await asyncio.wait_for(task, self._timeout)
            except (TimeoutError, asyncio.CancelledError):
                pass
