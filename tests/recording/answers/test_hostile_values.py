"""Objects that raise whatever is done with them: each method of a step survives them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nat_observability import step
from nat_observability.testing import recorded_run


def refuse(*_: object) -> Any:
    """Raise, in place of any method."""
    raise ValueError("refused")


class Refusing:
    """An object without anything that works."""

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __eq__ = __ne__ = refuse
    __hash__ = __float__ = __int__ = __index__ = __contains__ = __getitem__ = refuse


class Lazy:
    """As a lazy object whose source is gone: it does not even say which class it has."""

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class Text(str):
    """A text with methods of its own."""

    __slots__ = ()
    __len__ = __str__ = __repr__ = __iter__ = __eq__ = __ne__ = __contains__ = refuse
    __hash__ = str.__hash__


class Whole(int):
    """An integer with methods of its own."""

    __repr__ = __str__ = __bool__ = __int__ = __index__ = __eq__ = __ne__ = refuse
    __hash__ = int.__hash__


class Fraction(float):
    """A float with methods of its own."""

    __repr__ = __str__ = __bool__ = __float__ = __eq__ = __ne__ = refuse
    __hash__ = float.__hash__


class Items(list[int]):
    """A list with methods of its own."""

    __len__ = __iter__ = __getitem__ = __bool__ = __eq__ = __ne__ = refuse


class Fields(collections.UserDict[str, int]):
    """A mapping with methods of its own."""

    __len__ = __iter__ = __getitem__ = __bool__ = __eq__ = __ne__ = get = items = refuse


class Frame:
    """As an array or a data frame: a comparison gives another, which is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __bool__ = refuse
    __hash__ = object.__hash__


HOSTILE: list[Callable[[], Any]] = [
    Refusing,
    Lazy,
    lambda: Text("abc"),
    lambda: Text(""),
    lambda: Whole(5),
    lambda: Fraction(1.5),
    lambda: Items([1]),
    lambda: Fields(),
    Frame,
]


def answers(value: Any) -> Iterator[Any]:
    """Yield answers of several makers in which the value is in many places."""
    call = {"id": value, "function": {"name": value, "arguments": value}}
    message = {"role": value, "content": [value, {"type": value}], "tool_calls": [call, value]}
    yield {
        "choices": [{"message": message, "finish_reason": value}],
        "usage": value,
        "model": value,
        "id": value,
    }
    yield {"object": "response", "output": [{"type": value}, {"type": "message", "content": value}, value]}
    block = {"type": "tool_use", "input": value, "id": value}
    yield {
        "type": "message",
        "content": [{"type": "text", "text": value}, block],
        "usage": {"input_tokens": value},
    }
    parts = [{"text": value}, {"functionCall": value}]
    yield {"candidates": [{"content": {"parts": parts}, "finishReason": value}], "usageMetadata": value}
    yield {"output": {"message": {"content": [{"text": value}]}}, "stopReason": value, "usage": value}
    yield from ({"message": value, "done": value}, {"data": [{"embedding": value}]}, [value], value)


def calling(method: str, *args: Any, **options: Any) -> Callable[[Any], object]:
    """Return what calls a method of a step."""
    return lambda call: getattr(call, method)(*args, **options)


def methods(value: Any) -> Iterator[Callable[[Any], object]]:
    """Yield calls of every method with the value in every place."""
    for answer in answers(value):
        yield calling("response", answer)
        yield calling("chunk", answer)
    yield calling("tool_call", value)
    yield calling("tool_call", {"id": value, "name": value, "arguments": value})
    yield calling("tool_call", "call_1", value)
    for documents in (value, [value], [(value, value)], [("a", value)], [(value, 0.5)]):
        yield calling("documents", documents)
    yield calling("documents", [{"id": "1", "content": value, "score": value, "metadata": value}])
    yield calling("documents", [{"id": value, "content": "a", "score": value, "metadata": value}])
    yield calling("request", temperature=value, tools=[value], stop=[value], system=value, n=value)
    yield calling("score", value, value, label=value, explanation=value)
    yield calling("set_attribute", "a", value)
    yield calling("set_attribute", value, [value])
    yield calling("event", value, attributes=value, time=value)
    yield calling("link", value, attributes=value)
    for name, given in (
        ("usage", value),
        ("usage", {"input_tokens": value}),
        ("output", [value]),
        ("metadata", value),
    ):
        yield calling("__setattr__", name, given)


@pytest.mark.parametrize("make", HOSTILE)
def test_no_method_raises_for_what_it_is_given(make: Callable[[], Any]) -> None:
    """A step takes it wherever it is passed, and is recorded."""
    value, expected = make(), 0
    with recorded_run() as exporter:
        for method in methods(value):
            expected += 1
            with step("llm", "model") as call:
                method(call)
        for name in ("attributes", "links", "metadata", "tags", "input", "provider"):
            given: dict[str, Any] = {name: value}
            expected += 1
            with step("llm", "model", **given):
                pass
    exporter.tree.expect("llm", "model", times=expected)


def test_a_document_keeps_metadata_that_is_compared_in_its_own_way() -> None:
    """And a score of a class of its own is recorded, be it as it is."""
    with recorded_run() as exporter, step("retriever", "r") as call:
        call.documents([{"id": "1", "content": "tea", "score": Fraction(1.5), "metadata": Frame()}])
    (document,) = exporter.tree.one("retriever").attributes["gen_ai.retrieval.documents"]
    assert (document["id"], document["content"], document["score"]) == ("1", "tea", 1.5)
    assert document["metadata"]["__type__"] == "Frame"


def test_a_key_that_does_not_say_its_class_leaves_the_others_alone() -> None:
    """The dict is recorded by its other keys, as redaction needs it."""
    with recorded_run() as exporter, step("tool", "t", input={Lazy(): 1, "password": "x"}):
        pass
    assert exporter.tree.one("tool").input["password"] == "x"
