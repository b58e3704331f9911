"""What servers of models send, read by the application itself: bodies of Bedrock, watsonx, Vertex and others."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from nat_observability import step
from nat_observability.recording.answers import AnswerJoiner, read_answer
from nat_observability.testing import recorded_run

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Rain."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
# Provider, finish reason, tokens of the prompt and of the completion, and the body.
BODIES: dict[str, tuple[str | None, str | None, tuple[int, int] | None, Any]] = {
    "Anthropic": ("anthropic", "end_turn", (5, 2), MESSAGE),
    "Anthropic, a completion": (
        "anthropic",
        "stop_sequence",
        None,
        {"type": "completion", "completion": "Rain.", "stop_reason": "stop_sequence", "stop": "\n\nHuman:"},
    ),
    "Titan": (
        "aws.bedrock",
        "FINISH",
        (5, 2),
        {
            "inputTextTokenCount": 5,
            "results": [{"tokenCount": 2, "outputText": "Rain.", "completionReason": "FINISH"}],
        },
    ),
    "Llama": (
        "aws.bedrock",
        "stop",
        (5, 2),
        {"generation": "Rain.", "prompt_token_count": 5, "generation_token_count": 2, "stop_reason": "stop"},
    ),
    "Nova": (
        "aws.bedrock",
        "end_turn",
        (5, 2),
        {
            "output": {"message": {"content": [{"text": "Rain."}], "role": "assistant"}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7, "cacheReadInputTokenCount": 0},
        },
    ),
    "Cohere Command": (
        None,
        "COMPLETE",
        None,
        {
            "generations": [{"finish_reason": "COMPLETE", "id": "g", "text": "Rain."}],
            "id": "i",
            "prompt": "?",
        },
    ),
    "Cohere Command R": (
        "cohere",
        "COMPLETE",
        None,
        {"response_id": "r", "text": "Rain.", "generation_id": "g", "finish_reason": "COMPLETE"},
    ),
    "Mistral": ("aws.bedrock", "stop", None, {"outputs": [{"text": "Rain.", "stop_reason": "stop"}]}),
    "Mistral, a chat": (
        None,
        "stop",
        None,
        {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Rain."}, "stop_reason": "stop"}
            ]
        },
    ),
    "Jurassic": (
        "aws.bedrock",
        "endoftext",
        None,
        {"id": 1, "completions": [{"data": {"text": "Rain."}, "finishReason": {"reason": "endoftext"}}]},
    ),
    "DeepSeek": (None, "stop", None, {"choices": [{"text": "Rain.", "stop_reason": "stop"}]}),
    "watsonx": (
        "ibm.watsonx.ai",
        "eos_token",
        (5, 2),
        {
            "model_id": "granite",
            "results": [
                {
                    "generated_text": "Rain.",
                    "generated_token_count": 2,
                    "input_token_count": 5,
                    "stop_reason": "eos_token",
                }
            ],
        },
    ),
    "watsonx, a chat": (
        "ibm.watsonx.ai",
        "stop",
        (5, 2),
        {
            "id": "c",
            "object": "chat.completion",
            "model_id": "granite",
            "model": "granite",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        },
    ),
    "Vertex": (
        None,
        None,
        (5, 2),
        {
            "predictions": [{"content": "Rain."}],
            "metadata": {
                "tokenMetadata": {
                    "inputTokenCount": {"totalTokens": 5},
                    "outputTokenCount": {"totalTokens": 2},
                }
            },
        },
    ),
    "Hugging Face": (
        None,
        "eos_token",
        (5, 2),
        {
            "generated_text": "Rain.",
            "details": {"finish_reason": "eos_token", "generated_tokens": 2, "prefill": [{}] * 5},
        },
    ),
    "Hugging Face, a list": (None, None, None, [{"generated_text": "Rain."}]),
}


@pytest.mark.parametrize("made", [lambda body: body, json.dumps, lambda body: json.dumps(body).encode()])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_says_what_it_holds(name: str, made: Any) -> None:
    """As the object that it is the JSON of, as bytes, and as text if it counts tokens: models write JSON too."""
    provider, reason, tokens, body = BODIES[name]
    answer = read_answer(made(body))
    assert answer is not None
    if made is json.dumps and tokens is None:
        assert answer.messages[0]["parts"] == [{"type": "text", "content": json.dumps(body)}]
        return
    assert answer.messages[0]["parts"] == [{"type": "text", "content": "Rain."}]
    assert (answer.provider, answer.finish_reasons) == (provider, (reason,) if reason else ())
    usage = answer.usage
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == tokens


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": 42}',
        '[{"city": "Rome"}]',
        '{"text": "x", "usage": {}}',
        '{"predictions": [{"content": "rain", "p": 0.3}], "usage": "each day"}',
        '{"completion": "done", "stop_reason": "user left", "todo": [1, 2]}',
        '{"inputTextTokenCount": 1, "long": "' + "x" * 70_000 + '"}',
        "{",
        "",
    ],
)
def test_a_text_that_a_model_was_asked_for_as_json_stays_one(text: str) -> None:
    """It is no answer of a server, though it is JSON."""
    answer = read_answer(text)
    assert answer is not None
    assert [part["content"] for message in answer.messages for part in message["parts"]] == (
        [text] if text else []
    )


@pytest.mark.parametrize("body", [b"{bad", b"abc", b"\xff\xfe", b"{" * 5000, bytearray(b'{"a": 1}')])
def test_bytes_that_are_no_answer_are_not_understood(body: Any) -> None:
    """The step records them as any other output."""
    assert read_answer(body) is None


async def test_a_body_that_the_application_has_to_read_is_left_alone() -> None:
    """Of what Bedrock's client returns around it the id and the usage are recorded, which are in its headers."""

    class Body:
        def read(self) -> bytes:
            raise AssertionError("read")

    answer = {
        "ResponseMetadata": {
            "RequestId": "r-1",
            "HTTPHeaders": {
                "x-amzn-bedrock-input-token-count": "5",
                "x-amzn-bedrock-output-token-count": "2",
                "x-amzn-bedrock-cache-read-input-token-count": "x",
            },
        },
        "contentType": "application/json",
        "body": Body(),
    }
    async with recorded_run() as run:
        with step("llm", "claude") as call:
            call.response(answer)
            call.response(json.dumps(MESSAGE).encode())
    [node] = run.tree
    assert node.attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert node.usage is not None
    assert (node.usage.prompt_tokens, node.usage.completion_tokens) == (5, 2)
    assert node.output[0]["parts"] == [{"type": "text", "content": "Rain."}]


STREAMS: dict[str, list[dict[str, Any]]] = {
    "Llama": [
        {"generation": "Ra", "prompt_token_count": 5, "generation_token_count": 1, "stop_reason": None},
        {"generation": "in.", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "stop"},
    ],
    "Titan": [
        {"outputText": "Ra", "index": 0, "totalOutputTextTokenCount": None, "completionReason": None},
        {
            "outputText": "in.",
            "inputTextTokenCount": 5,
            "totalOutputTextTokenCount": 2,
            "completionReason": "FINISH",
        },
    ],
    "Mistral": [
        {"outputs": [{"text": "Ra", "stop_reason": None}]},
        {
            "outputs": [{"text": "in.", "stop_reason": "stop"}],
            "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 2},
        },
    ],
    "Anthropic": [
        {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Rain."}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_body_is_joined(name: str) -> None:
    """Each event has a piece of it as bytes."""
    joiner = AnswerJoiner()
    for piece in STREAMS[name]:
        assert joiner.add({"chunk": {"bytes": json.dumps(piece).encode()}}) is not None
    answer = joiner.answer()
    assert answer is not None
    assert answer.messages[0]["parts"] == [{"type": "text", "content": "Rain."}]
    assert answer.messages[0]["finish_reason"] == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


# -- Embeddings and rankings -----------------------------------------------------------------------------------------

VECTOR = [0.1, 0.2, 0.3]
EMBEDDINGS: dict[str, Any] = {
    "OpenAI, Mistral, Jina": {
        "data": [{"embedding": VECTOR}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    },
    "in base64": {"data": [{"embedding": "AAAAAAAAAAAAAAAA"}], "usage": {"prompt_tokens": 4}},
    "Voyage, over HTTP": {"data": [{"embedding": VECTOR}], "usage": {"total_tokens": 4}},
    "Voyage": SimpleNamespace(embeddings=[VECTOR], total_tokens=4),
    "Nomic": {"embeddings": [VECTOR], "usage": {"prompt_tokens": 4, "total_tokens": 4}},
    "Pinecone": {"model": "e5", "data": [{"values": VECTOR}], "usage": {"total_tokens": 4}},
    "Titan": {"embedding": VECTOR, "inputTextTokenCount": 4},
    "watsonx": {"model_id": "m", "results": [{"embedding": VECTOR}], "input_token_count": 4},
    "Vertex": {"predictions": [{"embeddings": {"values": VECTOR, "statistics": {"token_count": 4}}}]},
    "Google": SimpleNamespace(
        embeddings=[SimpleNamespace(values=VECTOR, statistics=SimpleNamespace(token_count=4.0))]
    ),
    "Cohere": {
        "response_type": "embeddings_floats",
        "embeddings": [VECTOR],
        "meta": {"billed_units": {"input_tokens": 4}},
    },
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_have_their_size_and_their_tokens(name: str) -> None:
    """Wherever the maker has its count."""
    answer = read_answer(EMBEDDINGS[name])
    assert answer is not None
    assert answer.output == {"count": 1, "dimensions": 3}
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 0)


RANKED = {"id": "2", "score": 0.5, "content": "Rain."}
RANKINGS: dict[str, tuple[Any, int]] = {
    "Voyage": (
        SimpleNamespace(
            results=[SimpleNamespace(index=2, document="Rain.", relevance_score=0.5)], total_tokens=7
        ),
        7,
    ),
    "Voyage, over HTTP": (
        {
            "data": [{"relevance_score": 0.5, "index": 2, "document": "Rain."}],
            "usage": {"total_tokens": 7},
        },
        7,
    ),
    "Jina": (
        {
            "results": [{"index": 2, "document": {"text": "Rain."}, "relevance_score": 0.5}],
            "usage": {"total_tokens": 7},
        },
        7,
    ),
    "Cohere": (
        {
            "results": [{"index": 2, "relevance_score": 0.5, "document": {"text": "Rain."}}],
            "meta": {"billed_units": {"search_units": 1}},
        },
        0,
    ),
    "Pinecone": (
        {
            "data": [{"index": 2, "score": 0.5, "document": {"text": "Rain."}}],
            "usage": {"rerank_units": 1},
        },
        0,
    ),
    "Bedrock": (
        {"results": [{"index": 2, "relevanceScore": 0.5, "document": {"textDocument": {"text": "Rain."}}}]},
        0,
    ),
    "watsonx": (
        {"results": [{"index": 2, "score": 0.5, "input": {"text": "Rain."}}], "input_token_count": 7},
        7,
    ),
    "NVIDIA": ({"rankings": [{"index": 2, "logit": 0.5, "text": "Rain."}]}, 0),
    "Hugging Face": ([{"index": 2, "score": 0.5, "text": "Rain."}], 0),
}


@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_have_their_scores_and_their_tokens(name: str) -> None:
    """Of each document its place among those that were asked for, and its text if there is one."""
    ranking, tokens = RANKINGS[name]
    answer = read_answer(ranking)
    assert answer is not None
    assert answer.output == [RANKED]
    assert answer.attributes["gen_ai.retrieval.documents"] == [RANKED]
    assert (answer.usage.prompt_tokens if answer.usage else 0) == tokens
