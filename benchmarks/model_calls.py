"""Calls of models: one with a whole answer, and an agent whose history grows, also with the OpenTelemetry SDK."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from nat_observability import step

CALLS = 200  # of one model, in a round
TURNS = 50  # of one agent

Record = Callable[[], None]

_REQUEST: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You answer questions about the weather. " * 10},
        {"role": "user", "content": "Will it rain in Zürich tomorrow, and do I need a coat?"},
    ],
    "temperature": 0.2,
    "max_tokens": 1024,
}
_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-5-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "I look at the forecast of tomorrow first. " * 5,
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "call_abc123",
                        "type": "function",
                        "function": {"name": "forecast", "arguments": '{"city":"Zürich","day":"tomorrow"}'},
                    }
                ],
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 119,
        "completion_tokens": 48,
        "total_tokens": 167,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 16, "audio_tokens": 0},
    },
    "service_tier": "default",
}


def real_answer() -> Any:
    """Return an answer as OpenAI's client gives it, or the same as a dict if that is not installed."""
    if find_spec("openai") is None:
        return _ANSWER
    return importlib.import_module("openai.types.chat").ChatCompletion.model_validate(_ANSWER)


def ours(answer: Any) -> tuple[Record, Record]:
    """Return what records calls of a model, and what records an agent's turns, in the current run."""

    def calls() -> None:
        for _ in range(CALLS):
            with step("llm", "gpt-5", provider="openai", input=_REQUEST["messages"]) as call:
                call.request(temperature=_REQUEST["temperature"], max_tokens=_REQUEST["max_tokens"])
                call.response(answer)

    turns = _turns()

    def agent() -> None:
        for history, said in turns:
            with step("llm", "gpt-5", provider="openai", input=history) as call:
                call.output = said

    return calls, agent


def sdk(tracer: Any, answer: Any) -> tuple[Record, Record]:
    """Return the same with the SDK, whose user reads the answer and writes the messages as JSON."""

    def calls() -> None:
        for _ in range(CALLS):
            with tracer.start_as_current_span("chat gpt-5") as span:
                span.set_attribute("gen_ai.provider.name", "openai")
                span.set_attribute("gen_ai.request.model", "gpt-5")
                span.set_attribute("gen_ai.request.temperature", _REQUEST["temperature"])
                span.set_attribute("gen_ai.request.max_tokens", _REQUEST["max_tokens"])
                span.set_attribute("gen_ai.input.messages", json.dumps(_REQUEST["messages"]))
                found = answer if isinstance(answer, dict) else answer.model_dump()
                choices, usage = found["choices"], found["usage"]
                span.set_attribute("gen_ai.response.id", found["id"])
                span.set_attribute("gen_ai.response.model", found["model"])
                span.set_attribute(
                    "gen_ai.response.finish_reasons", [each["finish_reason"] for each in choices]
                )
                span.set_attribute(
                    "gen_ai.output.messages", json.dumps([each["message"] for each in choices])
                )
                span.set_attribute("gen_ai.usage.input_tokens", usage["prompt_tokens"])
                span.set_attribute("gen_ai.usage.output_tokens", usage["completion_tokens"])
                span.set_attribute(
                    "gen_ai.usage.cache_read.input_tokens", usage["prompt_tokens_details"]["cached_tokens"]
                )

    turns = _turns()

    def agent() -> None:
        for history, said in turns:
            with tracer.start_as_current_span("chat gpt-5") as span:
                span.set_attribute("gen_ai.provider.name", "openai")
                span.set_attribute("gen_ai.request.model", "gpt-5")
                span.set_attribute("gen_ai.input.messages", json.dumps(history))
                span.set_attribute("gen_ai.output.messages", said)

    return calls, agent


def _turns() -> Sequence[tuple[list[dict[str, str]], str]]:
    """Return the history and the answer of each turn of an agent; each message has 1 KB."""
    messages = [
        {"role": "user" if index % 2 == 0 else "assistant", "content": "x" * 1000}
        for index in range(2 * TURNS)
    ]
    return [(messages[: 2 * turn + 1], messages[2 * turn + 1]["content"]) for turn in range(TURNS)]
