"""step() above a function that returns a stream object: the step stays open until that has ended."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import functools
import gc
import pickle
from typing import Any

import pytest

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter, recorded_run
from tests.recording.streams import (
    AsyncPieces,
    Pieces,
    ask,
    async_pieces,
    is_open,
    pieces,
    returning,
)


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda stream: [next(stream), *stream],
        lambda stream: [*stream.text],
        lambda stream: stream.final(),
        lambda stream: [*iter(stream)],
    ],
    ids=["loop", "next and loop", "own generator", "own method", "iter"],
)
def test_a_stream_object_is_recorded_however_it_is_read(run: CapturingExporter, read: Any) -> None:
    """Also by its own methods, which read it from inside."""
    with returning(Pieces) as stream:
        assert type(stream).__name__ == "Pieces"
        assert isinstance(stream, Pieces)
        assert "".join(read(stream)).lower() == "ab"
        assert ask(run).chunks == ["a", "b"]
    assert stream.closed
    done = ask(run)
    assert (done.status, [child.name for child in done.children]) == (Status.OK, ["first", "second"])


async def test_an_async_stream_object_is_recorded() -> None:
    """The same for asynchronous ones, by `async for`, `anext` and `async with`."""
    async with recorded_run() as run:
        async with returning(AsyncPieces) as stream:
            assert [await anext(stream)] == ["a"]
            assert [piece async for piece in stream] == ["b"]
        assert stream.closed
        done = ask(run)
        assert (done.status, done.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in done.children] == ["first", "second"]
        run.clear()
        failing = returning(lambda: AsyncPieces(async_pieces(fails=True)))
        with pytest.raises(ConnectionError):
            async for _ in failing:
                pass
        assert ask(run).error is not None
        run.clear()
        half = returning(AsyncPieces)
        await anext(half)
        await asyncio.create_task(half.close())
        assert (ask(run).status, half.closed) == (Status.OK, True)


def test_a_stream_object_is_the_same_object(run: CapturingExporter) -> None:
    """With its attributes, its repr, and its own class again once it has been read."""

    class Counted(Pieces):
        def __repr__(self) -> str:
            return "<counted>"

        def __bool__(self) -> bool:
            return False

    made = Counted()
    given = returning(lambda: made)
    assert given is made
    assert (repr(given), bool(given), given.closed) == ("<counted>", False, False)
    setattr(given, "note", "set")  # noqa: B010
    assert made.note == "set"
    assert list(given) == ["a", "b"]
    given.close()
    assert type(given) is Counted


def test_an_error_in_a_stream_object_is_the_steps(run: CapturingExporter) -> None:
    """Whereas what its consumer raises is not."""
    with pytest.raises(ConnectionError), returning(lambda: Pieces(pieces(fails=True))) as stream:
        list(stream)
    error = ask(run).error
    assert error is not None
    assert error.message == "broke"
    run.clear()
    stream = returning(Pieces)
    assert next(stream) == "a"
    with pytest.raises(KeyError), stream:
        raise KeyError("consumer's")
    assert (ask(run).status, ask(run).error) == (Status.OK, None)


def test_a_break_leaves_a_stream_object_open(run: CapturingExporter) -> None:
    """It can be read on; its end ends the step."""
    stream = returning(Pieces)
    for _ in stream:
        break
    assert is_open(run)
    assert list(stream) == ["b"] or list(stream) == []
    assert not is_open(run)


def _slotted() -> Any:
    class Slotted:
        __slots__ = ("items",)

        def __init__(self) -> None:
            self.items = pieces()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)

    return Slotted()


def _abstract() -> Any:
    class Abstract(collections.abc.Generator[str, Any, Any]):
        def __init__(self) -> None:
            self.items = pieces()

        def send(self, value: Any) -> str:
            return self.items.send(value)

        def throw(self, *error: Any) -> str:
            return self.items.throw(*error)

    return Abstract()


def _registering() -> Any:
    known = []

    class Registering:
        def __init_subclass__(cls) -> None:
            known.append(cls)
            raise AssertionError("a class that the application did not make")

        def __init__(self) -> None:
            self.items = pieces()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)

    return Registering()


def _frozen() -> Any:
    class Frozen:
        def __init__(self) -> None:
            object.__setattr__(self, "items", pieces())

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            return next(self.items)  # type: ignore[attr-defined, no-any-return]

    return Frozen()


@pytest.mark.parametrize("make", [_slotted, _abstract, _registering, _frozen])
def test_iterators_of_unusual_classes(run: CapturingExporter, make: Any) -> None:
    """With slots, of an abstract class, with a registry of subclasses, with a `__setattr__` of its own."""
    given = returning(make)
    assert list(given) == ["a", "b"]
    done = ask(run)
    assert (done.status, done.chunks) == (Status.OK, ["a", "b"])


def test_a_stream_through_several_steps(run: CapturingExporter) -> None:
    """Each of them stays open, and what the stream records lies in the innermost."""
    for make in (pieces, Pieces):
        given = step("task", "outer")(functools.partial(returning, make))()
        assert list(given) == ["a", "b"]
        tree = run.tree
        outer, inner = tree.one("task", "outer"), tree.one("llm", "ask", under="task")
        assert (outer.status, outer.chunks) == (inner.status, inner.chunks) == (Status.OK, ["a", "b"])
        assert [child.name for child in inner.children] == ["first", "second"]
        run.clear()


def test_a_stream_can_be_copied_and_pickled(run: CapturingExporter) -> None:
    """As an object of its own class."""
    given = returning(lambda: Countdown(3))
    assert next(given) == 3
    assert list(copy.copy(given)) == list(pickle.loads(pickle.dumps(given))) == [2, 1]
    assert type(copy.copy(given)) is Countdown
    assert list(given) == [2, 1]
    assert ask(run).chunks == [3, 2, 1]


class Countdown:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if not self.count:
            raise StopIteration
        self.count -= 1
        return self.count + 1


async def test_a_consumed_stream_leaves_nothing_behind() -> None:
    """Neither the stream nor its run is kept alive, and the collector need not run."""
    gc.collect()
    gc.disable()
    try:
        freed: list[str] = []

        class Watched(Pieces):
            def __del__(self) -> None:
                freed.append("stream")

        async with recorded_run() as run:
            assert list(returning(lambda: Watched(iter("ab")))) == ["a", "b"]
            assert ask(run).chunks == ["a", "b"]
            returning(lambda: Watched(iter("ab")))
        own_cycles = 2  # Pieces.text, a generator of the object's own
        assert len(freed) <= own_cycles
    finally:
        gc.enable()
    gc.collect()
    assert freed == ["stream", "stream"]


class Refusing(Pieces):
    """Each way to open or end it fails."""

    def __enter__(self) -> Pieces:
        raise ConnectionError("refused")

    def __exit__(self, *exc_info: object) -> None:
        raise ConnectionError("refused")

    def close(self) -> None:
        raise ConnectionError("refused")


class AsyncRefusing(AsyncPieces):
    async def __aenter__(self) -> AsyncPieces:
        raise ConnectionError("refused")

    async def __aexit__(self, *exc_info: object) -> None:
        raise ConnectionError("refused")

    async def close(self) -> None:
        raise ConnectionError("refused")


def assert_refused(run: CapturingExporter) -> None:
    done = ask(run)
    assert (done.status, done.error and done.error.message) == (Status.ERROR, "refused")
    run.clear()


@pytest.mark.parametrize("call", ["__enter__", "__exit__", "close"])
def test_what_opening_or_ending_raises_is_the_steps(run: CapturingExporter, call: str) -> None:
    """It goes on to the caller; the object is its own again, and may be called once more."""
    stream = returning(Refusing)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            getattr(stream, call)(*(None,) * 3 if call == "__exit__" else ())
    assert type(stream) is Refusing
    assert_refused(run)


async def test_what_opening_or_ending_an_async_one_raises_is_the_steps() -> None:
    """The same for asynchronous ones."""
    async with recorded_run() as run:
        for call, arguments in (("__aenter__", ()), ("__aexit__", (None,) * 3), ("close", ())):
            stream = returning(AsyncRefusing)
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await getattr(stream, call)(*arguments)
            assert type(stream) is AsyncRefusing
            assert_refused(run)


async def test_a_method_of_a_followed_class_is_the_objects_own_elsewhere() -> None:
    """Bound before the stream has ended, and called after it: nothing is recorded any more."""
    async with recorded_run() as run:
        stream = returning(Pieces)
        close, enter, leave = stream.close, stream.__enter__, stream.__exit__
        assert list(stream) == ["a", "b"]
        assert enter() is stream
        assert leave(None, None, None) is None
        close()
        other = returning(AsyncPieces)
        end, begin, finish = other.close, other.__aenter__, other.__aexit__
        assert [piece async for piece in other] == ["a", "b"]
        assert await begin() is other
        assert await finish(None, None, None) is None
        await end()
        assert [node.status for node in run.tree.all("llm", "ask")] == [Status.OK, Status.OK]
