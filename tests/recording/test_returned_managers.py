"""step() above a function that returns a context manager: the step stays open until its block ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter, recorded_run
from tests.recording.streams import (
    AsyncPieces,
    AsyncRequest,
    Pieces,
    Request,
    ask,
    is_open,
    leaf,
    pieces,
    returning,
)


def test_a_request_that_is_entered_later(run: CapturingExporter) -> None:
    """The step lasts until the block ends; a stream that the block gets is recorded."""
    for make in (pieces, Pieces):
        with returning(functools.partial(Request, make())) as stream:
            leaf("in the block")
            assert list(stream) == ["a", "b"]
        done = ask(run)
        assert (done.status, done.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in done.children] == ["sending", "first", "second"]
        run.clear()
    with returning(lambda: Request("text")) as text:
        assert text == "text"
        assert is_open(run)
    done = ask(run)
    assert (done.output, [child.name for child in done.children]) == ("text", ["sending", "closing"])


async def test_an_async_request_that_is_entered_later() -> None:
    """The same for `async with`."""
    async with recorded_run() as run:
        async with returning(lambda: AsyncRequest(AsyncPieces())) as stream:
            assert [piece async for piece in stream] == ["a", "b"]
        assert ask(run).chunks == ["a", "b"]
        run.clear()
        async with returning(lambda: AsyncRequest("text")):
            assert is_open(run)
        assert ask(run).output == "text"


def test_contextmanager_in_both_orders(run: CapturingExporter) -> None:
    """The step is open until the block ends, and an error of the block is seen by the generator."""

    def fail() -> None:
        raise KeyError("k")

    def opened(caught: bool = False) -> Iterator[str]:
        leaf("setup")
        try:
            yield "value"
        except KeyError:
            if not caught:
                raise
        finally:
            leaf("teardown")

    above = contextlib.contextmanager(step("tool", "above")(opened))
    below: Any = step("tool", "below")(contextlib.contextmanager(opened))
    for name, manager in (("above", above), ("below", below)):
        with manager() as value:
            assert value == "value"
            assert run.tree.one(name=name).status is Status.INCOMPLETE
            leaf(f"in {name}")
        with pytest.raises(KeyError), manager():
            fail()
        with manager(caught=True):
            fail()
        nodes = run.tree.all("tool", name)
        assert [node.status for node in nodes] == [Status.OK, Status.ERROR, Status.OK]
        assert [[child.name for child in node.children] for node in nodes] == [["setup", "teardown"]] * 3
        assert [node.output for node in nodes] == ["value"] * 3


async def test_asynccontextmanager_in_both_orders() -> None:
    """The same for asynchronous ones."""

    async def opened() -> AsyncIterator[str]:
        leaf("setup")
        yield "value"
        leaf("teardown")

    above = contextlib.asynccontextmanager(step("tool", "above")(opened))
    below: Any = step("tool", "below")(contextlib.asynccontextmanager(opened))
    async with recorded_run() as run:
        for name, manager in (("above", above), ("below", below)):
            async with manager() as value:
                assert value == "value"
                assert run.tree.one(name=name).status is Status.INCOMPLETE
            node = run.tree.one(name=name)
            assert (node.status, node.output) == (Status.OK, "value")
            assert [child.name for child in node.children] == ["setup", "teardown"]


def test_an_exit_stack_and_a_reused_manager(run: CapturingExporter) -> None:
    """A followed context manager works in an exit stack, and as the decorator that contextlib makes of it."""

    @contextlib.contextmanager
    def opened() -> Iterator[str]:
        yield "value"

    below: Any = step("llm", "ask")(opened)
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(below()) == "value"
        assert is_open(run)
    assert ask(run).status is Status.OK
    run.clear()
    decorating = below()
    called = decorating(lambda: "called")
    assert (called(), called()) == ("called", "called")
