"""Streams of models, in a block, of a generator or of a client: one message with its usage."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from nat_observability import StepKind, TokenUsage, step
from nat_observability.recording.answers import AnswerJoiner, is_chunk
from nat_observability.testing import StepNode, recorded_run

USAGE = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "It rains."}], "finish_reason": "stop"}]


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-5-1",
        "choices": [choice],
    } | more


def stream() -> Iterator[dict[str, Any]]:
    yield chunk("It ")
    yield chunk("rains.")
    yield chunk(finish="stop")
    yield chunk(choices=[], usage=USAGE)


def check(node: StepNode) -> None:
    assert node.output == SAID
    assert node.usage == TokenUsage(20, 9, total_tokens=29)
    assert node.attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert node.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert node.chunks == ["It ", "rains.", "", ""]


async def test_chunks_in_a_block() -> None:
    """Each is recorded as the text that it adds; the output is the message."""
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            for each in stream():
                call.chunk(each)
    check(run.tree.one("llm"))


async def test_chunks_of_a_decorated_generator() -> None:
    """Without a word about models in the generator."""

    @step("llm", "gpt-5")
    def ask() -> Iterator[dict[str, Any]]:
        yield from stream()

    async with recorded_run() as run:
        assert list(ask()) == list(stream())
    check(run.tree.one("llm"))


async def test_chunks_of_a_stream_that_is_returned() -> None:
    """The same for an SDK's stream."""

    @step("llm", "gpt-5")
    def ask() -> Iterator[dict[str, Any]]:
        return stream()

    async with recorded_run() as run:
        assert list(ask()) == list(stream())
    check(run.tree.one("llm"))


@pytest.mark.parametrize("before", [1, 7])
async def test_a_stream_may_begin_with_what_is_no_chunk(before: int) -> None:
    """As those of agents' frameworks do, and a maker's own, whose first event says that it is alive."""

    @step("llm", "ask")
    def late() -> Iterator[dict[str, Any]]:
        yield from ({"type": "ping", "number": number} for number in range(before))
        yield from stream()

    async with recorded_run() as run:
        assert len(list(late())) == before + 4
    called = run.tree.one("llm")
    assert (called.output, called.usage) == (SAID, TokenUsage(20, 9, total_tokens=29))


async def test_a_step_that_is_no_call_of_a_model_has_the_message_alone() -> None:
    """The tokens are those of the call inside it, and would count twice."""
    async with recorded_run() as run:
        with step("workflow", "answer") as outer, step("llm", "gpt-5") as inner:
            for each in stream():
                inner.chunk(each)
                outer.chunk(each)
    check(run.tree.one("llm"))
    outer_node = run.tree.one("workflow")
    assert (outer_node.output, outer_node.usage, outer_node.attributes) == (SAID, None, {})


async def test_a_stream_that_fails_keeps_what_came() -> None:
    """The message ends with an error, in the conventions' word, and the step with the exception."""

    @step("llm", "gpt-5")
    def ask() -> Iterator[dict[str, Any]]:
        yield chunk("It ")
        raise ConnectionError("gone")

    async with recorded_run() as run:
        with pytest.raises(ConnectionError):
            list(ask())
    node = run.tree.one("llm")
    assert node.error is not None
    assert node.output == [
        {**SAID[0], "parts": [{"type": "text", "content": "It "}], "finish_reason": "error"}
    ]


async def test_an_output_that_is_set_is_kept() -> None:
    """And so is a usage."""
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            for each in stream():
                call.chunk(each)
            call.output, call.usage = "mine", TokenUsage(1, 1)
    node = run.tree.one("llm")
    assert (node.output, node.usage) == ("mine", TokenUsage(1, 1, total_tokens=2))


async def test_texts_and_other_chunks_are_recorded_as_before() -> None:
    """They are no model's."""
    async with recorded_run() as run:
        with step("llm", "a") as call:
            call.chunk("It ")
            call.chunk("rains.")
        with step("tool", "b") as call:
            call.chunk({"rows": 1})
            call.chunk({"type": "row", "rows": 2})
    assert run.tree.one("llm", "a").output == "It rains."
    assert run.tree.one("tool", "b").output == [{"rows": 1}, {"type": "row", "rows": 2}]


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        3,
        None,
        [],
        {},
        {"type": "row"},
        {"choices": 1},
        {"event": "x"},
        object(),
        (1, 2),
        StepKind.LLM,
    ],
)
def test_what_is_no_chunk(value: object) -> None:
    """Ordinary values are told apart, the same each time."""
    assert [is_chunk(value), is_chunk(value)] == [False, False]


def test_a_whole_answer_is_no_chunk() -> None:
    """A generator may yield several answers."""
    answer = {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"message": {"role": "assistant", "content": "Hi."}}],
    }
    assert not is_chunk(answer)
    assert not is_chunk({"type": "ai", "content": "Hi."})


def test_calls_with_the_same_index_are_told_apart_by_their_ids() -> None:
    """Some servers give every call of a stream the index 0; others repeat the id in each piece."""
    joiner = AnswerJoiner()
    for call_id, name, arguments in [
        ("a", "one", '{"x"'),
        ("a", None, ": 1}"),
        ("b", "two", "{}"),
        (None, None, ""),
    ]:
        call = {"index": 0, "id": call_id, "function": {"name": name, "arguments": arguments}}
        delta = {"tool_calls": [call]}
        assert joiner.add(chunk(choices=[{"index": 0, "delta": delta}])) == arguments
    answer = joiner.answer()
    assert answer is not None
    assert [(call["id"], call["name"], call["arguments"]) for call in answer.tool_calls] == [
        ("a", "one", {"x": 1}),
        ("b", "two", {}),
    ]


def test_arguments_that_broke_off_are_text() -> None:
    """What the model had said of them."""
    joiner = AnswerJoiner()
    call = {"index": 0, "id": "a", "function": {"name": "one", "arguments": '{"x": '}}
    joiner.add(chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}}]))
    answer = joiner.answer()
    assert answer is not None
    assert answer.tool_calls[0]["arguments"] == '{"x": '


@pytest.mark.parametrize("piece", ["word " * 200, "wört " * 200, "\U0001f327" * 400, "x" * 1000])
def test_a_long_stream_is_bounded(piece: str) -> None:
    """What is kept stays the same however much comes; the mark says how much came."""
    joiner = AnswerJoiner()
    for _ in range(1100):
        joiner.add(chunk(piece))
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(300):
            joiner.add(chunk(piece))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    answer = joiner.answer()
    assert answer is not None
    [part] = answer.messages[0]["parts"]
    assert len(part["content"].encode()) <= 1024 * 1024
    assert part["content"].endswith(f"[cut:{1400 * len(piece)}]")


async def test_a_long_stream_is_cut_once() -> None:
    """The mark is not cut again when the message is recorded."""
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            for _ in range(200):
                call.chunk(chunk("word " * 2000))
    [part] = run.tree.one("llm").output[0]["parts"]
    assert part["content"].endswith("[cut:2000000]")


def test_parts_and_choices_are_bounded() -> None:
    """Some are left out, and the last part says how many there were."""
    joiner = AnswerJoiner()
    for at in range(3000):
        call = {"index": at, "id": str(at), "function": {"name": "one", "arguments": "{}"}}
        joiner.add(chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}}]))
    for at in range(3000):
        joiner.add(chunk(choices=[{"index": at, "delta": {"content": "x"}}]))
    answer = joiner.answer()
    assert answer is not None
    assert len(answer.messages) <= 129
    assert answer.messages[0]["parts"][-1] == {"type": "cut", "content": "[cut:3001]"}


def test_a_joiner_without_a_chunk_says_nothing() -> None:
    """Neither does one that has understood none."""
    joiner = AnswerJoiner()
    assert joiner.answer() is None
    assert joiner.add({"rows": 1}) is None
    assert joiner.answer() is None


async def test_events_of_a_helper_say_once_what_its_chunks_say() -> None:
    """OpenAI's `chat.completions.stream()` gives the chunks, and after each of them what it means."""
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            for each in stream():
                call.chunk({"type": "chunk", "chunk": each, "snapshot": {"choices": []}})
                if text := each["choices"] and each["choices"][0]["delta"].get("content"):
                    call.chunk({"type": "content.delta", "delta": text, "snapshot": text})
            call.chunk({"type": "content.done", "content": "It rains."})
    node = run.tree.one("llm")
    assert (node.output, node.usage) == (SAID, TokenUsage(20, 9, total_tokens=29))
    assert node.chunks == ["It ", "", "rains.", "", "", "", ""]


class Unset:
    """In the place of a field that is not there, as Mistral's client has it."""


async def test_a_field_that_is_not_there_is_no_part_of_the_message() -> None:
    """Whatever stands in its place."""
    async with recorded_run() as run:
        with step("llm", "gpt-5") as call:
            for each in stream():
                for choice in each["choices"]:
                    choice["delta"] = {"content": Unset(), "function_call": Unset()} | choice["delta"]
                call.chunk(each)
    check(run.tree.one("llm"))
