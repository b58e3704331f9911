"""For tests of code that records steps: CapturingExporter, recorded_run, StepTree and waiting for conditions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from types import TracebackType
from typing import Any

from nat_observability.context import ContextState
from nat_observability.errors import RuntimeStateError
from nat_observability.events import IntermediateStep
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.system.clock import monotonic, sleep
from nat_observability.testing.step_tree import StepNode, StepTree

__all__ = ["CapturingExporter", "StepNode", "StepTree", "captured", "recorded_run", "until", "wait_until"]

_INTERVAL = 0.002  # seconds from one look at a condition to the next


class CapturingExporter(BaseExporter):
    """
    Keeps every step of every run that it takes part in, in memory, its isolated instances' steps included.

    Steps may be recorded and read from any thread.
    """

    def __init__(self, context_state: ContextState | None = None) -> None:
        super().__init__(context_state)
        # Shared with the isolated instances.
        self._taken: list[IntermediateStep] = []
        self._trees: list[tuple[StepTree, int]] = []
        self._growing = threading.Lock()

    def export(self, event: IntermediateStep) -> None:
        self._taken.append(event)  # atomic, so it needs no lock

    @property
    def steps(self) -> list[IntermediateStep]:
        """What was recorded until now, oldest first, in a new list."""
        return self._taken.copy()

    def steps_of(self, run_id: str) -> list[IntermediateStep]:
        """What was recorded until now in one run, oldest first."""
        return [step for step in self.steps if step.run.run_id == run_id]

    @property
    def tree(self) -> StepTree:
        """
        What was recorded until now as a tree, to assert on: `exporter.tree.one("tool", "search", under="llm")`.

        It is the same object each time, with the same steps in it, until `clear`; a later access adds to it.
        """
        with self._growing:
            tree, known = self._trees[0] if self._trees else (StepTree(), 0)
            steps = self._taken[known:]
            tree.add(steps)
            self._trees[:] = [(tree, known + len(steps))]
            return tree

    def clear(self) -> None:
        """Forget what was recorded; the next tree is another one."""
        with self._growing:
            self._taken.clear()
            self._trees.clear()


class recorded_run:  # noqa: N801  a context manager, named like contextlib.suppress
    """
    Make a block one run, with nothing but a capturing exporter, which it gives.

    `async with` starts a manager, as the code of a service does; `with` needs neither a manager nor an event loop, and
    is for synchronous code: a `unittest.TestCase`, for example, by `self.enterContext(recorded_run())`.
    """

    def __init__(self, context_state: ContextState | None = None) -> None:
        self._state = context_state or ContextState()
        self._exporter = CapturingExporter()
        self._open = ExitStack()
        self._run = AsyncExitStack()

    def __enter__(self) -> CapturingExporter:
        subscription = self._exporter.subscription(self._state)
        subscription.begin()
        self._open.callback(subscription.end)
        self._open.enter_context(self._state.attach())
        return self._exporter

    def __exit__(self, *error: object) -> None:
        self._open.close()

    async def __aenter__(self) -> CapturingExporter:
        manager = ExporterManager.from_exporters({"capturing": self._exporter})
        await self._run.enter_async_context(manager.start(self._state))
        return self._exporter

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._run.__aexit__(exc_type, exc, traceback)


@contextmanager
def captured(container: Any, exporter: CapturingExporter | None = None) -> Iterator[CapturingExporter]:
    """
    Replace the exporters of a container by a capturing one for a block: for tests of an application or a worker.

    Args:
        container: An `ObservabilityContainer`, on its own or inside another, which is not open: the application starts
            and ends inside the block.
        exporter: The capturing exporter, by default a new one.

    Raises:
        RuntimeStateError: The container's runtime is open already.
    """
    exporter = exporter or CapturingExporter()
    if container.runtime_object.is_held:
        raise RuntimeStateError(
            "captured() replaces the exporters of a container that is open. Enter it before the application starts."
        )
    made = container.runtime_object, container.manager_options
    container.exporters.override({"capturing": exporter})
    try:
        for each in made:
            each.reset()
        yield exporter
    finally:
        container.exporters.reset_last_overriding()
        for each in made:
            each.reset()


def wait_until(condition: Callable[[], object], *, timeout: float = 10.0) -> None:
    """
    Return as soon as `condition()` is true. For code without an event loop; see `until`.

    Args:
        timeout: Most seconds to wait.

    Raises:
        TimeoutError: It has not become true by then.
    """
    deadline = monotonic() + timeout
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"Not so within {timeout:g} s: {condition}")
        time.sleep(_INTERVAL)


async def until(condition: Callable[[], object], *, timeout: float = 10.0) -> None:
    """
    Return as soon as `condition()` is true, while the event loop goes on.

    Args:
        timeout: Most seconds to wait.

    Raises:
        TimeoutError: It has not become true by then.
    """
    deadline = monotonic() + timeout
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"Not so within {timeout:g} s: {condition}")
        await sleep(_INTERVAL)
