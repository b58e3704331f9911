"""Tests in virtual time, as functions: minutes of a delivery's work take no time at all."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.virtual_time import VirtualTimeLoop, run_virtual

P = ParamSpec("P")

_began = 0.0  # of the test that runs; no context variable, because a delivery's work has a context of its own


class RunningLoop:
    """A loop source for deliveries: the loop that runs. It counts who has acquired it and not given it back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.users = 0

    def acquire(self) -> asyncio.AbstractEventLoop:
        self.users += 1
        return self.loop

    def release(self) -> None:
        self.users -= 1


def now() -> float:
    """Return the seconds since the test began, by the loop's clock."""
    return asyncio.get_running_loop().time() - _began


def pass_time(seconds: float) -> None:
    """Let time pass at once, as while a callback is busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.pass_time(seconds)


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    await asyncio.sleep(1e-6)


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time, as a function; a task that it leaves behind fails it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            global _began
            _began = asyncio.get_running_loop().time()
            await test(*args, **kwargs)
            await settle()

        run_virtual(whole())

    return run
