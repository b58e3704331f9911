"""Whatever an answer is: a bounded number of looks at it, nothing raised, and nothing of it run but its attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability import step
from nat_observability.recording.answers import (
    AnswerJoiner,
    read_answer,
    request_attributes,
    retrieved,
    token_usage,
)
from nat_observability.testing import recorded_run

LOOKS = 0


class Counted:
    """Counts how often it is looked at; every attribute is a list of more of them, or a text."""

    def __init__(self, width: int) -> None:
        self.__dict__["_width"] = width

    def __getattr__(self, name: str) -> Any:
        global LOOKS
        LOOKS += 1
        if name in ("type", "role", "text", "name", "id", "object", "finish_reason", "part_kind"):
            return "text"
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ("message", "content", "delta", "usage", "function", "index"):
            return Counted(self._width)
        return [Counted(self._width)] * self._width


@pytest.mark.parametrize(
    "shape",
    [
        lambda each: {"choices": [{"message": {"content": [each] * 10_000}}] * 10_000},
        lambda each: {"candidates": [{"content": {"parts": [each] * 10_000}}] * 10_000},
        lambda each: {"generations": [[each] * 10_000] * 10_000},
        lambda each: {"type": "message", "role": "assistant", "content": [each] * 100_000},
        lambda each: {
            "object": "response",
            "output": [{"type": "message", "content": [each] * 10_000}] * 10_000,
        },
        lambda each: {"output": {"message": {"content": [each] * 100_000}}, "stopReason": "end_turn"},
        lambda each: {
            "results": [{"flagged": True, "categories": {str(n): True for n in range(1000)}}] * 10_000
        },
        lambda each: {"data": [each] * 100_000},
        lambda each: each,
    ],
)
def test_the_looks_at_an_answer_are_bounded(shape: Any) -> None:
    """However wide it is, at each of its levels."""
    global LOOKS
    LOOKS = 0
    read_answer(shape(Counted(10_000)))
    assert LOOKS < 50_000


def test_the_looks_at_documents_and_tools_are_bounded() -> None:
    """The first are kept."""
    global LOOKS
    LOOKS = 0
    documents, _ = retrieved([Counted(10_000)] * 100_000)
    attributes = request_attributes({"tools": [{"function_declarations": [Counted(1000)] * 1000}] * 1000})
    assert (len(documents), len(attributes["gen_ai.tool.definitions"])) == (1000, 1000)
    assert LOOKS < 50_000


NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "delta",
        "content",
        "text",
        "parts",
        "candidates",
        "output",
        "type",
        "role",
        "tool_calls",
        "function",
        "arguments",
        "index",
        "usage",
        "prompt_tokens",
        "input_tokens",
        "generations",
        "data",
        "results",
        "embedding",
        "embeddings",
        "event",
        "object",
        "id",
        "done",
        "response",
    ]
)
WORDS = st.sampled_from(
    ["message", "text", "tool_use", "function_call", "ai", "response", "AIMessageChunk", "{", "[1]"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | WORDS
)


class Hostile:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit

    def __len__(self) -> int:
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[Any]:
        raise OSError

    def __bool__(self) -> bool:
        raise ValueError

    def __eq__(self, other: object) -> bool:
        raise TypeError

    __hash__ = None  # type: ignore[assignment]


VALUES = st.recursive(
    LEAVES | st.builds(Hostile),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6) | st.tuples(inner, inner)
    ),
    max_leaves=25,
)


@settings(max_examples=60)
@given(VALUES)
def test_nothing_raises(value: object) -> None:
    """For any structure with the names that are looked for."""
    read_answer(value)
    token_usage(value)
    retrieved(value)
    request_attributes({"tools": value, "config": value, "stop": value, "system": value})
    joiner = AnswerJoiner()
    joiner.add(value)
    joiner.add(value)
    joiner.answer()


class HostileType(type):
    """A metaclass that raises."""

    def __hash__(cls) -> int:
        raise OSError

    def __instancecheck__(cls, instance: object) -> bool:
        raise OSError

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__mro__", "__pydantic_fields__"):
            raise OSError(name)
        return super().__getattribute__(name)


async def test_a_class_that_raises_is_survived() -> None:
    """Where types are remembered, too."""
    odd = HostileType("Odd", (), {})()
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            call.chunk(odd)
            call.response(odd)
            call.usage = odd
        with step("llm", "gpt-5") as call:
            call.documents([odd])
            call.request(tools=odd, stop=odd, temperature=odd)
            call.tool_call(odd)
            call.score("relevance", odd)
            call.output = odd
    assert len(run.tree) == 2
