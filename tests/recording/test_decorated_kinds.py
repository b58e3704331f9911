"""step() above callables of every kind: each works, or is refused when it is decorated."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, overload

import pytest

from nat_observability import Status, step
from nat_observability.testing import CapturingExporter


def recorded(run: CapturingExporter) -> tuple[Any, Any]:
    """Return the input and output of the one step, and forget it."""
    node = run.tree.one("tool", "call")
    assert node.status is Status.OK
    run.clear()
    return node.input, node.output


call = step("tool", "call")


def double(x: int) -> int:
    return 2 * x


async def double_later(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


async def items(count: int) -> AsyncIterator[int]:
    for item in range(count):
        yield item


class Doubling:
    """A callable object with state."""

    factor = 2

    def __call__(self, x: int) -> int:
        return self.factor * x


class DoublingLater:
    async def __call__(self, x: int) -> int:
        return await double_later(x)


class Items:
    async def __call__(self, count: int) -> AsyncIterator[int]:
        for item in range(count):
            yield item


@pytest.mark.parametrize(
    "function",
    [
        double,
        lambda x: 2 * x,
        functools.partial(double),
        Doubling(),
        Doubling().__call__,
        functools.cache(double),
        functools.lru_cache(maxsize=2)(double),
        functools.singledispatch(double),
        functools.wraps(double)(lambda x: 2 * x),
        abc.abstractmethod(lambda x: 2 * x),
        (2).__mul__,
    ],
)
def test_callables_that_return(run: CapturingExporter, function: Any) -> None:
    """Functions, and what stands for one."""
    assert call(function)(4) == 8
    assert recorded(run)[1] == 8


@pytest.mark.parametrize(
    "function", [double_later, functools.partial(double_later), DoublingLater(), DoublingLater().__call__]
)
async def test_callables_that_are_awaited(run: CapturingExporter, function: Any) -> None:
    """They are coroutine functions still, for frameworks that ask before they call."""
    decorated = call(function)
    assert inspect.iscoroutinefunction(decorated)
    assert await decorated(4) == 8
    assert recorded(run) == ({"x": 4}, 8)


@pytest.mark.parametrize("function", [items, functools.partial(items), Items(), Items().__call__])
async def test_callables_that_are_iterated(run: CapturingExporter, function: Any) -> None:
    """They are async generator functions still."""
    decorated = call(function)
    assert inspect.isasyncgenfunction(decorated)
    assert [item async for item in decorated(2)] == [0, 1]
    assert recorded(run) == ({"count": 2}, [0, 1])


def test_caches_keep_their_methods(run: CapturingExporter) -> None:
    """Above and below: each call is a step, or each call that is not in the cache."""
    above, below = functools.cache(call(double)), call(functools.cache(double))
    assert [above(1), above(1), below(1), below(1)] == [2] * 4
    assert len(run.tree) == 3
    assert above.cache_info().hits == below.cache_info().hits == 1
    below.cache_clear()
    assert below.cache_info().currsize == 0
    assert below.cache_parameters() == {"maxsize": None, "typed": False}


def test_singledispatch_keeps_its_registry(run: CapturingExporter) -> None:
    """Implementations can be registered on it."""

    @call
    @functools.singledispatch
    def kind(value: object) -> str:
        return "any"

    @kind.register
    def _(value: int) -> str:
        return "number"

    assert (kind(1), kind("a")) == ("number", "any")
    assert len(run.tree) == 2


def test_methods_of_every_kind_of_class(run: CapturingExporter) -> None:
    """Abstract ones, those of a dataclass, of a protocol, with overloads; and a step around a step."""

    class Base(abc.ABC):
        @abc.abstractmethod
        @call
        def above(self, x: int) -> int: ...

        @call
        @abc.abstractmethod
        def below(self, x: int) -> int: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]

    class Doubles(Protocol):
        @call
        def double(self, x: int) -> int:
            return 2 * x

    @dataclasses.dataclass(frozen=True, slots=True)
    class Derived(Doubles):
        factor: int

        @call
        def multiplied(self, x: int) -> int:
            return self.factor * x

        @overload
        def either(self, x: int) -> int: ...
        @overload
        def either(self, x: str) -> str: ...
        @call
        def either(self, x: Any) -> Any:
            return x

        @step("task", "outer")
        @call
        def twice(self, x: int) -> int:
            return x

        @property
        @call
        def computed(self) -> int:
            return self.factor

    derived = Derived(3)
    assert (derived.double(1), recorded(run)) == (2, ({"x": 1}, 2))
    assert (derived.multiplied(1), recorded(run)) == (3, ({"x": 1}, 3))
    assert (derived.either("a"), recorded(run)) == ("a", ({"x": "a"}, "a"))
    assert (derived.computed, recorded(run)) == (3, ({}, 3))
    assert derived.twice(1) == 1
    inner = run.tree.one("tool", "call")
    assert inner.parent is not None
    assert inner.parent.name == "outer"


class _AsyncProperty:
    """A descriptor that gives something to await."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        return self.function(instance)


@pytest.mark.parametrize(
    ("refused", "named"),
    [
        (functools.partialmethod(double, 1), "partialmethod"),
        (functools.singledispatchmethod(double), "singledispatchmethod"),
        (_AsyncProperty(double_later), "_AsyncProperty"),
        (functools.cached_property(double), "cached_property"),
        (contextlib.nullcontext(), "nullcontext"),
    ],
)
def test_descriptors_are_refused(refused: Any, named: str) -> None:
    """What is not called by its user cannot be recorded, and the error says where step() belongs."""
    with pytest.raises(TypeError, match=named) as error:
        call(refused)
    assert "directly above the function" in str(error.value)


@pytest.mark.parametrize("builtin", [len, sorted, print, "".join, dict.get, min])
def test_builtins_work(run: CapturingExporter, builtin: Any) -> None:
    """With and without a signature."""
    arguments: dict[Any, tuple[Any, ...]] = {dict.get: ({"a": 1}, "a")}
    call(builtin)(*arguments.get(builtin, (["a"],)))
    recorded(run)
