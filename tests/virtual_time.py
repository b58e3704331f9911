"""VirtualTimeLoop: an event loop whose clock jumps to the next timer, so that a test of an hour takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class _Selector(selectors.DefaultSelector):
    """Never sleeps: when the loop would wait for a timer, the clock jumps to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timer the loop waits for another thread, and that takes real time; a test's own limit ends it.
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            # A little further: a sum of floats may fall short of the timer, which would then come without end.
            self.now += timeout + 1e-9
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own. What waits for another thread waits for real."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads as long as it takes: the 300 s that a runner gives them would be over at once."""
        await super().shutdown_default_executor()

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once, as while a callback is busy."""
        self._clock.now += seconds


def run_virtual(main: Coroutine[Any, Any, ResultT], *, leftovers: bool = False) -> ResultT:
    """
    Run `main` in virtual time and return its result.

    Args:
        leftovers: Whether tasks may be left when it ends; otherwise they fail the test.
    """

    async def checked() -> ResultT:
        result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert leftovers or not left, f"left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(checked())


def elapsed_since(began: float) -> float:
    """Return the seconds of the running loop's clock since `began`."""
    return asyncio.get_running_loop().time() - began


def now() -> float:
    """Return the running loop's clock, in seconds."""
    return asyncio.get_running_loop().time()
