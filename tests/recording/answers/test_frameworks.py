"""What frameworks wrap around the answers of models, and the chunks of their streams."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nat_observability import TokenUsage
from nat_observability.recording.answers import AnswerJoiner, read_answer

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Rain."}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
}
USAGE = TokenUsage(20, 9, total_tokens=29)
AI = {
    "type": "ai",
    "content": "Rain.",
    "usage_metadata": {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29},
}


def of(module: str, **fields: Any) -> Any:
    """An object whose class is in this module."""
    return type("Answer", (SimpleNamespace,), {"__module__": module})(**fields)


def instructor() -> Any:
    """As Instructor makes it: a model of the application's, which keeps the answer."""
    return SimpleNamespace(city="Paris", _raw_response=CHAT)


@pytest.mark.parametrize(
    "answer",
    [
        of(
            "llama_index.core.base.llms.types",
            message=of("llama_index", role="assistant", content="Rain."),
            raw=CHAT,
        ),
        instructor(),
        {"raw": AI, "parsed": None, "parsing_error": None},
        {"lc": 1, "type": "constructor", "id": ["AIMessage"], "kwargs": AI},
        of("langchain_core.outputs", generations=[[of("langchain_core.outputs", text="Rain.", message=AI)]]),
        of(
            "pydantic_ai.messages",
            parts=[SimpleNamespace(part_kind="text", content="Rain.")],
            usage=SimpleNamespace(input_tokens=20, output_tokens=9),
        ),
        of(
            "openai.types.audio",
            text="Rain.",
            usage={"type": "tokens", "input_tokens": 20, "output_tokens": 9},
        ),
    ],
)
def test_the_answer_inside(answer: Any) -> None:
    """Its text and its usage."""
    found = read_answer(answer)
    assert found is not None
    assert found.messages[0]["parts"] == [{"type": "text", "content": "Rain."}]
    assert found.usage == USAGE


def test_a_response_of_llamaindex_alone() -> None:
    """Without the maker's answer, its blocks."""
    blocks = [
        of("llama_index", block_type="thinking", content="Hm."),
        of("llama_index", block_type="text", text="Rain."),
    ]
    found = read_answer(of("llama_index.core", message=of("llama_index", role="assistant", blocks=blocks)))
    assert found is not None
    assert found.messages[0]["parts"] == [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "Rain."},
    ]


def test_calls_of_tools_of_pydantic_ai() -> None:
    """And its names for id, model and provider."""
    parts = [
        SimpleNamespace(part_kind="thinking", content="Hm."),
        SimpleNamespace(
            part_kind="tool-call", tool_call_id="call_1", tool_name="weather", args='{"city": "Paris"}'
        ),
    ]
    found = read_answer(
        SimpleNamespace(
            parts=parts,
            model_name="gpt-5",
            provider_name="azure",
            provider_response_id="r1",
            finish_reason="tool_call",
        )
    )
    assert found is not None
    assert (found.model, found.provider, found.response_id) == ("gpt-5", "azure.ai.openai", "r1")
    assert found.tool_calls == (
        {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}},
    )


CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Rain."}}]}
MESSAGE_CHUNK = SimpleNamespace(type="AIMessageChunk", content="Rain.")


@pytest.mark.parametrize(
    "chunk",
    [
        of("llama_index.core", message=None, delta="Rain.", raw=CHUNK),
        {"data": CHUNK},
        (MESSAGE_CHUNK, {"langgraph_node": "agent"}),
        {"event": "on_chat_model_stream", "data": {"chunk": MESSAGE_CHUNK}},
        SimpleNamespace(message=MESSAGE_CHUNK, text="Rain."),
        {
            "type": "raw_response_event",
            "data": {"type": "response.output_text.delta", "output_index": 0, "delta": "Rain."},
        },
    ],
)
def test_the_chunk_inside(chunk: Any) -> None:
    """The text that it adds."""
    joiner = AnswerJoiner()
    assert [joiner.add(chunk), joiner.add(chunk)] == ["Rain."] * 2
    found = joiner.answer()
    assert found is not None
    assert found.messages[0]["parts"] == [{"type": "text", "content": "Rain.Rain."}]
