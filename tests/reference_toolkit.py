"""ReferenceExporter: an exporter as one writes it for the reference toolkit, in its manner and with its pitfalls."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from nat_observability import ContextState, IntermediateStep


class ReferenceExporter:
    """
    Subscribes when it starts, makes a task for each step, unsubscribes when it stops, and isolates by a shallow copy.

    It knows nothing of this project's `BaseExporter`. A test makes it misbehave by overriding one of the hooks.
    """

    def __init__(self) -> None:
        self.exported: list[IntermediateStep] = []  # shared by all copies: the destination
        self.stopped = 0
        self._state: ContextState | None = None
        self._isolated = False
        self._reset()

    def _reset(self) -> None:
        self._running = False
        self._ready = asyncio.Event()
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def is_isolated_instance(self) -> bool:
        return self._isolated

    async def pre_start(self) -> None:
        """What a test overrides to go wrong before it is ready."""

    async def export(self, step: IntermediateStep) -> None:
        self.exported.append(step)

    async def cleanup(self) -> None:
        """What a test overrides to go wrong while it stops."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        try:
            await self.pre_start()
            if self._running:
                yield
                return
            state = self._state or ContextState.current()
            if state is None:
                yield
                return
            self._subscribed_to = state
            state.stream.subscribe(self, self._on_next)
            self._running = True
            self._ready.set()
            yield
        finally:
            await self.stop()

    def _on_next(self, step: IntermediateStep) -> None:
        task = asyncio.get_running_loop().create_task(self.export(step))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def stop(self) -> None:
        if not self._running:
            return
        self._running = False
        self.stopped += 1
        await self.cleanup()
        self._subscribed_to.stream.unsubscribe(self)

    async def wait_ready(self) -> None:
        await self._ready.wait()

    def create_isolated_instance(self, context_state: ContextState) -> Self:
        isolated = copy.copy(self)
        isolated._state = context_state
        isolated._isolated = True
        isolated._reset()
        return isolated


class SharedExporter:
    """The same without `create_isolated_instance`: every run uses the object itself."""

    def __init__(self) -> None:
        self._inner = ReferenceExporter()

    @property
    def exported(self) -> list[IntermediateStep]:
        return self._inner.exported

    def start(self) -> Any:
        return self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def wait_ready(self) -> None:
        await self._inner.wait_ready()
