"""Injected: a coroutine that meets a fault at its n-th await, and reports which one that was."""

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from types import CodeType
from typing import Any

_PACKAGE = "/nat_observability/"

Inject = Callable[["asyncio.Task[Any]"], BaseException | None]
"""
Called with a task that is about to wait: may cancel it, or return an exception to raise at that await.
"""


def at_once(task: asyncio.Task[Any]) -> None:
    """The wait itself is cancelled."""
    task.cancel()


def soon(task: asyncio.Task[Any]) -> None:
    """What it waits for may come first, in the same turn of the loop."""
    task.get_loop().call_soon(task.cancel)


class Injected:
    """
    A coroutine that meets a fault at some of its awaits.

    Args:
        program: What is run.
        waits: At which awaits, counted from 1.
        inject: What happens there.
        numbers: Those of the awaits, for several coroutines that are counted together.

    Attributes:
        injected: How often it did.
        place: The functions of the package that waited when it did last, the outermost first; empty if the
            program itself waited.
    """

    def __init__(
        self,
        program: Coroutine[Any, Any, Any],
        waits: range,
        inject: Inject,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self._program, self._waits, self._inject = program, waits, inject
        self._numbers = itertools.count(1) if numbers is None else numbers
        self.injected = 0
        self.place = ""

    async def run(self) -> Any:
        """Run the program to its end, and return what it does."""
        return await self._drive()

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        error: BaseException | None = None
        while True:
            try:
                waited_for = self._program.send(None) if error is None else self._program.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            if next(self._numbers) in self._waits:
                self.injected += 1
                self.place = " > ".join(code.co_qualname for code in _waiting(self._program))
                error = self._inject(task)
                if error is not None:
                    continue
            try:
                yield waited_for
            except BaseException as raised:  # noqa: BLE001  it is the program's to handle
                error = raised


def _waiting(coroutine: Any) -> Generator[CodeType, None, None]:
    """Return the package's functions that wait, from the outermost to the innermost."""
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
        if isinstance(code, CodeType) and _PACKAGE in code.co_filename:
            yield code
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
