"""Streams of several kinds, and steps around functions that return them."""

from __future__ import annotations

import asyncio
import collections.abc
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter, StepNode


def leaf(name: str) -> None:
    with step("tool", name):
        pass


def ask(run: CapturingExporter) -> StepNode:
    return run.tree.one("llm", "ask")


def is_open(run: CapturingExporter) -> bool:
    return ask(run).status is Status.INCOMPLETE


def returning(made: Callable[[], Any]) -> Any:
    """Call a decorated function that returns what `made` makes."""
    return step("llm", "ask")(lambda: made())()


def same(value: Any) -> Any:
    """Return it; in a partial, a function that returns this value."""
    return value


def pieces(*, fails: bool = False) -> Generator[str, str | None, str]:
    leaf("first")
    sent = yield "a"
    leaf("second")
    yield sent or "b"
    if fails:
        raise ConnectionError("broke")
    return "all"


async def async_pieces(*, fails: bool = False) -> collections.abc.AsyncGenerator[str, str | None]:
    await asyncio.sleep(0)
    leaf("first")
    sent = yield "a"
    await asyncio.sleep(0)
    leaf("second")
    yield sent or "b"
    if fails:
        raise ConnectionError("broke")


async def answer(*, fails: bool = False) -> str:
    await asyncio.sleep(0)
    leaf("first")
    if fails:
        raise ConnectionError("broke")
    return "all"


class Pieces:
    """A model client's stream: iterated in a generator of its own, entered as itself, closed."""

    def __init__(self, items: Iterator[str] | None = None) -> None:
        self._items = items or pieces()
        self.closed = False
        self.text = self._text()

    def __iter__(self) -> Iterator[str]:
        yield from self._items

    def __next__(self) -> str:
        return next(self._items)

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def _text(self) -> Iterator[str]:
        for piece in self:
            yield piece.upper()

    def final(self) -> str:
        return "".join(self)


class AsyncPieces:
    def __init__(self, items: AsyncIterator[str] | None = None) -> None:
        self._items = items or async_pieces()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[str]:
        async for item in self._items:
            yield item

    async def __anext__(self) -> str:
        return await anext(self._items)

    async def __aenter__(self) -> AsyncPieces:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Request:
    """A request that is sent when it is entered, and gives a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> Any:
        leaf("sending")
        return self._stream

    def __exit__(self, *exc_info: object) -> None:
        leaf("closing")


class AsyncRequest:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aenter__(self) -> Any:
        leaf("sending")
        return self._stream

    async def __aexit__(self, *exc_info: object) -> None:
        leaf("closing")
