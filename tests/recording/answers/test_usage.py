"""token_usage(): what the makers of models count, in the words of one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from structlog.testing import capture_logs

from nat_observability import TokenUsage, step
from nat_observability.recording.answers import token_usage
from nat_observability.testing import recorded_run


class Usage(SimpleNamespace):
    """As a client's objects are: attributes."""


OPENAI_CHAT = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {
        "cached_tokens": 12,
        "audio_tokens": 3,
        "image_tokens": 1,
        "cache_write_tokens": 2,
    },
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 2},
}
ANTHROPIC = {
    "input_tokens": 21,
    "output_tokens": 15,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 30,
}
CASES: dict[str, tuple[dict[str, Any], TokenUsage]] = {
    "OpenAI chat": (OPENAI_CHAT, TokenUsage(20, 9, 12, 4, 29, 2, 3, 2, 1)),
    "OpenAI responses": (
        {
            "input_tokens": 36,
            "input_tokens_details": {"cached_tokens": 8},
            "output_tokens": 87,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 123,
        },
        TokenUsage(36, 87, 8, 64, 123),
    ),
    "OpenAI embeddings": ({"prompt_tokens": 7, "total_tokens": 7}, TokenUsage(7, total_tokens=7)),
    "Anthropic": (ANTHROPIC, TokenUsage(151, 15, 100, total_tokens=166, cache_write_tokens=30)),
    "Anthropic, all cached": (
        {
            "input_tokens": 0,
            "output_tokens": 1,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": None,
        },
        TokenUsage(100, 1, 100, total_tokens=101),
    ),
    "Anthropic, by lifetime": (
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        },
        TokenUsage(6, 1, total_tokens=7, cache_write_tokens=5),
    ),
    "Gemini": (
        {
            "prompt_token_count": 30,
            "candidates_token_count": 10,
            "thoughts_token_count": 25,
            "cached_content_token_count": 8,
            "tool_use_prompt_token_count": 5,
            "total_token_count": 70,
            "prompt_tokens_details": [
                {"modality": "AUDIO", "token_count": 3},
                {"modality": "IMAGE", "token_count": 5},
            ],
        },
        TokenUsage(35, 35, 8, 25, 70, audio_input_tokens=3, image_input_tokens=5),
    ),
    "Gemini, JSON": (
        {"promptTokenCount": 30, "candidatesTokenCount": 10, "thoughtsTokenCount": 25, "totalTokenCount": 65},
        TokenUsage(30, 35, reasoning_tokens=25, total_tokens=65),
    ),
    "LangChain": (
        {
            "input_tokens": 20,
            "output_tokens": 9,
            "total_tokens": 29,
            "input_token_details": {"cache_read": 12, "cache_creation": 2, "audio": 3},
            "output_token_details": {"reasoning": 4},
        },
        TokenUsage(20, 9, 12, 4, 29, 2, 3),
    ),
    "LiteLLM of Anthropic": (
        {"prompt_tokens": 151, "completion_tokens": 15, "total_tokens": 166, "cache_read_input_tokens": 100},
        TokenUsage(151, 15, 100, total_tokens=166),
    ),
    "DeepSeek": (
        {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "prompt_cache_hit_tokens": 12},
        TokenUsage(20, 9, 12, total_tokens=29),
    ),
    "xAI, reasoning apart": (
        {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 79,
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
        TokenUsage(20, 59, reasoning_tokens=50, total_tokens=79),
    ),
    "Cohere, what is paid for": (
        {
            "billed_units": {"input_tokens": 5.0, "output_tokens": 9.0},
            "tokens": {"input_tokens": 71.0, "output_tokens": 12.0},
        },
        TokenUsage(5, 9, total_tokens=14),
    ),
    "Cohere, tokens alone": (
        {"tokens": {"input_tokens": 71.0, "output_tokens": 12.0}},
        TokenUsage(71, 12, total_tokens=83),
    ),
    "Ollama": ({"prompt_eval_count": 26, "eval_count": 8}, TokenUsage(26, 8, total_tokens=34)),
    "Bedrock": (
        {
            "inputTokens": 20,
            "outputTokens": 9,
            "totalTokens": 29,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 20,
        },
        TokenUsage(140, 9, 100, total_tokens=149, cache_write_tokens=20),
    ),
    "Pydantic AI": (
        {"input_tokens": 20, "output_tokens": 9, "cache_read_tokens": 12, "input_audio_tokens": 3},
        TokenUsage(20, 9, 12, total_tokens=29, audio_input_tokens=3),
    ),
    "nothing used": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, TokenUsage()),
}


def attributes(value: Any) -> Any:
    if isinstance(value, dict):
        return Usage(**{name: attributes(each) for name, each in value.items()})
    return [attributes(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("given", "usage"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("made", [dict, attributes])
def test_each_makers_usage(made: Any, given: dict[str, Any], usage: TokenUsage) -> None:
    """As a dict and as an object; cached tokens are part of the prompt, and reasoning of the completion."""
    with capture_logs() as lines:
        assert token_usage(made(given)) == usage
    assert [line for line in lines if line["event"] == "answer_not_understood"] == []


class Hostile:
    def __getattr__(self, name: str) -> int:
        raise KeyError(name)


class HostileMapping(Mapping[str, int]):
    def __getitem__(self, name: str) -> int:
        raise OSError

    def __iter__(self) -> Any:
        raise OSError

    def __len__(self) -> int:
        raise OSError


class Exiting:
    @property
    def prompt_tokens(self) -> int:
        raise SystemExit

    completion_tokens = 4


NO_COUNTS: list[tuple[str, object, TokenUsage | None]] = [
    ("bool", {"prompt_tokens": True, "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("fraction", {"prompt_tokens": 1.5, "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("NaN", {"prompt_tokens": float("nan"), "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("infinity", {"prompt_tokens": float("inf"), "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("negative", {"prompt_tokens": -1, "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("huge", {"prompt_tokens": 2**63, "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("text", {"prompt_tokens": "3", "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    ("decimal", {"prompt_tokens": Decimal(3), "completion_tokens": 4}, TokenUsage(0, 4, total_tokens=4)),
    (
        "in details",
        OPENAI_CHAT | {"prompt_tokens_details": {"cached_tokens": -1}},
        TokenUsage(20, 9, 0, 4, 29, 0, 0, 2),
    ),
    ("field of ours", TokenUsage(-1, 4), TokenUsage(0, 4, total_tokens=4)),
    ("Mock", Mock(), None),
    ("MagicMock", MagicMock(), None),
    ("Hostile", Hostile(), None),
    ("HostileMapping", HostileMapping(), None),
    ("list", [3, 4], None),
    ("number", 7, None),
    ("empty", {}, None),
    ("seconds", {"type": "duration", "seconds": 3.5}, None),
]


@pytest.mark.parametrize(
    ("given", "usage"), [case[1:] for case in NO_COUNTS], ids=[case[0] for case in NO_COUNTS]
)
def test_what_is_not_a_count_is_none(given: object, usage: TokenUsage | None) -> None:
    """Never a wrong number, and nothing raises."""
    assert token_usage(given) == usage


def test_a_property_that_exits_costs_its_field() -> None:
    """Whatever a client's object raises, the rest of it is read."""
    assert token_usage(Exiting()) == TokenUsage(0, 4, total_tokens=4)


def test_large_counts_add_up_to_no_more_than_64_bits() -> None:
    """So that every back end can take them."""
    most = 2**63 - 1
    usage = token_usage({"input_tokens": most, "output_tokens": most, "cache_read_input_tokens": most})
    assert usage == TokenUsage(most, most, most, total_tokens=most)


async def test_a_usage_that_is_not_understood_is_logged_once() -> None:
    """With the name of its type, and never its content."""

    class UnheardOf(SimpleNamespace):
        pass

    class HalfHeardOf(SimpleNamespace):
        pass

    with capture_logs() as lines:
        async with recorded_run() as run:
            for _ in range(3):
                with step("llm", "model") as call:
                    call.usage = UnheardOf(spent="a secret")
                with step("llm", "model") as call:
                    call.usage = HalfHeardOf(prompt_tokens=-1, completion_tokens=4)
    name = f"{__name__}.test_a_usage_that_is_not_understood_is_logged_once.<locals>"
    said = [
        (line["event"], line["log_level"], line["what"], line["type"]) for line in lines if "what" in line
    ]
    assert said == [
        ("answer_not_understood", "warning", "usage", f"{name}.{kind}")
        for kind in ("UnheardOf", "HalfHeardOf")
    ]
    assert "secret" not in str(lines)
    assert [call.usage for call in run.tree] == [None, TokenUsage(0, 4, total_tokens=4)] * 3


async def test_a_total_alone_is_logged() -> None:
    """It is kept, and the line says that prompt and completion, which would be 0, are not known."""

    class Alone(SimpleNamespace):
        """A type of its own: each is logged once."""

    with capture_logs() as lines:
        assert token_usage(Alone(total_tokens=8)) == TokenUsage(total_tokens=8)
    assert [line["what"] for line in lines] == ["usage"]


async def test_the_total_of_a_ranking_is_its_prompt() -> None:
    """As that of embeddings: the answer has no tokens."""

    class Ranking(SimpleNamespace):
        """As Voyage's."""

    ranking = Ranking(
        data=[Usage(index=0, relevance_score=0.5)], model="rerank-2", usage=Ranking(total_tokens=26)
    )
    with capture_logs() as lines:
        async with recorded_run() as run:
            with step("reranker", "rerank-2") as current:
                current.response(ranking)
    assert run.tree.one().usage == TokenUsage(26, total_tokens=26)
    assert [line for line in lines if line["event"] == "answer_not_understood"] == []
