"""Sinks that follow a test's script, and remember what they were given and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from nat_observability.errors import BatchTooLargeError
from nat_observability.events import Item
from nat_observability.sinks.protocol import Batch
from tests.delivery.virtual import now

Answer = BaseException | int | None | Callable[[Batch], BaseException | int | None]
"""What a write does: raise, return, or call a function of the batch."""


class ScriptedSink:
    """
    Answers each write as scripted, and takes every batch when the script has ended.

    Attributes:
        answers: What the next writes do.
        seconds: How long a write takes, on the loop's clock.
        tries: When each write began, and of what.
        taken: What was delivered, in order.
        writing: What is being written now.
        calls: The names of all calls, in their order.
    """

    def __init__(self, *answers: Answer, seconds: float = 0.0) -> None:
        self.answers: list[Answer] = list(answers)
        self.seconds = seconds
        self.tries: list[tuple[float, list[Item]]] = []
        self.taken: list[Item] = []
        self.writing: list[Item] = []
        self.calls: list[str] = []

    @property
    def times(self) -> list[float]:
        """When each write began."""
        return [when for when, _ in self.tries]

    @property
    def sizes(self) -> list[int]:
        """The number of items in each write."""
        return [len(batch) for _, batch in self.tries]

    async def open(self) -> None:
        self.calls.append("open")

    async def write(self, batch: Batch) -> int | None:
        self.calls.append("write")
        self.tries.append((now(), list(batch)))
        self.writing.extend(batch)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            answer = self.answers.pop(0) if self.answers else None
            if callable(answer):
                answer = answer(batch)
            if isinstance(answer, BaseException):
                raise answer
        finally:
            for item in batch:
                self.writing.remove(item)
        self.taken.extend(batch if not answer else batch[:-answer])
        return answer

    async def close(self) -> None:
        self.calls.append("close")


def takes_at_most(limit: int) -> Callable[[Batch], BatchTooLargeError | None]:
    """An answer that refuses batches of more items than `limit`."""
    return lambda batch: BatchTooLargeError(f"more than {limit}") if len(batch) > limit else None


def times(count: int, answer: Answer) -> Iterable[Answer]:
    """The same answer, repeated."""
    return [answer] * count


class Opening(ScriptedSink):
    """A sink whose opening and closing take time, or fail, as scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.opens: list[BaseException | float] = []
        self.closes: list[BaseException | float] = []

    async def open(self) -> None:
        await super().open()
        await _act(self.opens)

    async def close(self) -> None:
        await super().close()
        await _act(self.closes)


async def _act(script: list[BaseException | float]) -> None:
    act = script.pop(0) if script else 0.0
    if isinstance(act, BaseException):
        raise act
    await asyncio.sleep(act)
