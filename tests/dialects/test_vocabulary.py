"""Vocabulary: what each dialect says of each kind of step, judged by what the back ends' makers document."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from nat_observability.dialects.vocabulary import DIALECTS, vocabulary
from nat_observability.events import (
    Captured,
    ErrorDetails,
    Run,
    Span,
    SpanEvent,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.sinks.otlp.span_encoder import SpanEncoder
from tests.sinks.builders import make_span
from tests.sinks.otlp.test_span_encoder import python_attributes
from tests.sinks.otlp.wire import scope_spans_of

RUN = Run("run-1", "0" * 31 + "1", "conv-1", "user-1", "shop", None, (("plan", "pro"), ("tenant", "acme")))
USAGE = TokenUsage(100, 50, 30, 20, 150, 10, 5, 4, 3)


def raw(value: Any) -> msgspec.Raw:
    """Return a value as it is captured."""
    return msgspec.Raw(msgspec.json.encode(value))


def sent(span: Span, dialect: str) -> tuple[str, dict[str, Any]]:
    """Return the name and attributes of a span as they arrive."""
    (scope,) = scope_spans_of(SpanEncoder({}, vocabulary(dialect)).encode([span]))
    (decoded,) = scope.spans
    return decoded.name, python_attributes(decoded.attributes)


@pytest.mark.parametrize(
    ("kind", "name", "operation"),
    [
        (StepKind.LLM, "chat gpt-5", "chat"),
        (StepKind.EMBEDDING, "embeddings gpt-5", "embeddings"),
        (StepKind.RETRIEVER, "retrieval gpt-5", "retrieval"),
        (StepKind.TOOL, "execute_tool gpt-5", "execute_tool"),
        (StepKind.AGENT, "invoke_agent gpt-5", "invoke_agent"),
        (StepKind.WORKFLOW, "invoke_workflow shop", "invoke_workflow"),
        (StepKind.RERANKER, "gpt-5", "retrieval"),
        (StepKind.TASK, "gpt-5", "invoke_workflow"),
        (StepKind.FUNCTION, "gpt-5", "invoke_workflow"),
    ],
)
def test_names_and_operations_of_the_genai_conventions(kind: StepKind, name: str, operation: str) -> None:
    """The operation and what it is done with; a kind that the conventions do not have keeps its name."""
    span = make_span(run=RUN, kind=kind, name="gpt-5", attributes=raw({"own": 1}))
    found, attributes = sent(span, "genai")
    assert (found, attributes["gen_ai.operation.name"]) == (name, operation)
    assert (attributes.get("gen_ai.provider.name") == "openai") == (
        kind in (StepKind.LLM, StepKind.EMBEDDING)
    )
    assert attributes["gen_ai.conversation.id"] == "conv-1"
    assert not [each for each in attributes if each.startswith(("openinference.", "llm.", "langfuse."))]


def test_a_kind_without_an_operation_has_none_if_another_dialect_names_it() -> None:
    """An operation that is not quite right is only for a back end that reads nothing else."""
    assert "gen_ai.operation.name" not in sent(make_span(kind=StepKind.TASK), "genai,openinference")[1]


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-5", "openai"),
        ("o3-mini", "openai"),
        ("text-embedding-3-small", "openai"),
        ("openai/gpt-4o", "openai"),
        ("azure/gpt-4o", "azure.ai.openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "aws.bedrock"),
        ("gemini-2.5-pro", "gcp.gen_ai"),
        ("mistral-large-latest", "mistral_ai"),
        ("command-r-plus", "cohere"),
        ("deepseek-chat", "deepseek"),
        ("grok-4", "x_ai"),
        ("groq/llama-3", "groq"),
        ("tea-model", "_OTHER"),
        ("olive", "_OTHER"),
        ("", "_OTHER"),
    ],
)
def test_a_provider_is_told_by_the_model(model: str, provider: str) -> None:
    """The conventions require one; a model that shows none has the one for others."""
    assert sent(make_span(kind=StepKind.LLM, name=model), "genai")[1]["gen_ai.provider.name"] == provider


def test_a_recorded_provider_and_model_win() -> None:
    """They decide the span's name too."""
    own = raw(
        {
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.request.model": "m",
            "gen_ai.operation.name": "text_completion",
        }
    )
    name, attributes = sent(make_span(kind=StepKind.LLM, name="gpt-5", attributes=own), "genai")
    assert (name, attributes["gen_ai.provider.name"]) == ("text_completion m", "azure.ai.openai")


@pytest.mark.parametrize("dialect", ["openinference", "langfuse", "langfuse,genai", "openinference,genai"])
def test_the_first_dialect_says_how_a_span_is_called(dialect: str) -> None:
    """Only the GenAI conventions have a rule for it."""
    assert sent(make_span(kind=StepKind.LLM, name="gpt-5"), dialect)[0] == "gpt-5"


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
TALK = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url", "image_url": "x"}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"city":"Paris"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "rain"},
]


def text(role: str, content: str, **more: str) -> dict[str, Any]:
    """Return a message of the conventions."""
    return {"role": role, "parts": [{"type": "text", "content": content}], **more}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Tea?", [text("user", "Tea?")]),
        ("", [text("user", "")]),
        (raw(CHAT), [text("system", "Be brief."), text("user", "Tea?")]),
        (raw(CHAT[1:]), [text("user", "Tea?")]),
        (raw([{"role": "user", "content": 'a "quoted" ü\n'}]), [text("user", 'a "quoted" ü\n')]),
        (raw([{"role": "user", "content": "ü"}]), [text("user", "ü")]),
        (raw({"messages": CHAT}), [text("system", "Be brief."), text("user", "Tea?")]),
        (raw([text("user", "Tea?")]), [text("user", "Tea?")]),
        (raw({"city": "Paris"}), [text("user", '{"city":"Paris"}')]),
        (raw([1, 2]), [text("user", "[1,2]")]),
        (raw([{"role": "user", "text": "Tea?"}]), [text("user", '[{"role":"user","text":"Tea?"}]')]),
        (raw({"role": "admin", "city": "Paris"}), [text("user", '{"role":"admin","city":"Paris"}')]),
        (
            raw([{"role": "a", "b": ',"content":'}]),
            [text("user", '[{"role":"a","b":",\\"content\\":"}]')],
        ),
        (
            raw({"messages": CHAT[1:], "plan": "pro"}),
            [text("user", "Tea?") | {"beside_messages": {"plan": "pro"}}],
        ),
        (
            raw(TALK),
            [
                {
                    "role": "user",
                    "parts": [
                        {"type": "text", "content": "Weather?"},
                        {"type": "uri", "modality": "image", "uri": "x"},
                    ],
                },
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "1", "name": "w", "arguments": {"city": "Paris"}}],
                },
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "rain"}]},
            ],
        ),
    ],
)
def test_an_input_is_messages(given: Captured, expected: list[dict[str, Any]]) -> None:
    """In the form of the conventions, whichever form the application has."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", input=given)
    attributes = sent(span, "genai")[1]
    assert json.loads(attributes["gen_ai.input.messages"]) == expected
    assert "input.value" not in attributes


@pytest.mark.parametrize(
    "request_",
    [
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Tea?"}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "Tea?"}]}]},
        {"messages": [{"role": "user", "content": [{"text": "Tea?"}]}]},
    ],
)
def test_an_input_is_a_whole_request(request_: dict[str, Any]) -> None:
    """Of the Responses API, Google and Bedrock; what else there is stays."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", input=raw({"model": "m", **request_, "stop": ["x"]}))
    beside = {"beside_messages": {"model": "m", "stop": ["x"]}}
    found = json.loads(sent(span, "genai")[1]["gen_ai.input.messages"])
    assert found == [text("user", "Tea?") | beside]
    flat = {
        name: v for name, v in sent(span, "openinference")[1].items() if name.startswith("llm.input_mess")
    }
    name = "llm.input_messages.0.message"
    assert flat == {f"{name}.role": "user", f"{name}.content": "Tea?"}


GREEN = {"role": "assistant", "content": "Green."}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GREEN, {}),
        (
            {"choices": [{"index": 0, "finish_reason": "length", "message": GREEN}], "id": "c"},
            {"index": 0, "finish_reason": "length", "beside_messages": {"id": "c"}},
        ),
        (
            {"output": [{**GREEN, "type": "message", "id": "m"}], "id": "r"},
            {"id": "m", "beside_messages": {"id": "r"}},
        ),
        (
            {"candidates": [{"content": {"role": "assistant", "parts": [{"text": "Green."}]}, "index": 0}]},
            {"index": 0},
        ),
        (
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Green."}]}},
                "stopReason": "x",
            },
            {"beside_messages": {"stopReason": "x"}},
        ),
        ({"message": GREEN, "done": True}, {"beside_messages": {"done": True}}),
        (
            {**GREEN, "type": "message", "message": {"role": "x", "content": "y"}},
            {"message": {"role": "x", "content": "y"}},
        ),
    ],
)
def test_an_output_is_a_whole_response(response: dict[str, Any], expected: dict[str, Any]) -> None:
    """Of OpenAI's APIs, Google, Bedrock and Ollama, as their clients give it as a dict; and one message alone."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", output=raw(response))
    found = json.loads(sent(span, "genai")[1]["gen_ai.output.messages"])
    assert found == [text("assistant", "Green.", finish_reason="stop") | expected]
    flat = sent(span, "openinference")[1]
    name = "llm.output_messages.0.message"
    assert (flat[f"{name}.role"], flat[f"{name}.content"]) == ("assistant", "Green.")


@pytest.mark.parametrize(
    "output",
    [
        {"output": "Green."},
        {"output": [1, 2]},
        {"choices": ["a", "b"]},
        {"choices": []},
        {"candidates": [{"content": "Green."}]},
        {"output": {"message": "Green."}},
        {"output": [GREEN, 1]},
        {"message": "Green."},
    ],
)
def test_what_only_looks_like_a_response_is_one_text(output: object) -> None:
    """An application's own result has such names too."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", output=raw(output))
    found = json.loads(sent(span, "genai")[1]["gen_ai.output.messages"])
    assert found == [text("assistant", bytes(raw(output)).decode(), finish_reason="stop")]


CALLED = {"type": "tool_call", "id": "1", "name": "w", "arguments": {"city": "Paris"}}


def uri(modality: str, where: str, **more: str) -> dict[str, str]:
    """Return a part of the conventions that says where something is."""
    return {"type": "uri", "modality": modality, **more, "uri": where}


def blob(modality: str, mime: str, data: str) -> dict[str, str]:
    """Return a part of the conventions that holds something."""
    return {"type": "blob", "modality": modality, "mime_type": mime, "content": data}


def answered(response: object, **more: object) -> dict[str, Any]:
    """Return a part of the conventions with the result of a tool."""
    return {"type": "tool_call_response", "id": "1", "response": response, **more}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        # Anthropic
        ({"type": "tool_use", "id": "1", "name": "w", "input": {"city": "Paris"}}, CALLED),
        ({"type": "tool_result", "tool_use_id": "1", "content": "rain"}, answered("rain")),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": "no", "is_error": True},
            answered("no", is_error=True),
        ),
        (
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "reasoning", "content": "Hm.", "signature": "s"},
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            blob("image", "image/png", "aGk="),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://a/b"}}, uri("image", "https://a/b")),
        (
            {"type": "document", "source": {"type": "text", "data": "x"}},
            {"type": "text", "content": "x"},
        ),
        (
            {"type": "tool_use", "id": 7, "name": "w", "input": {}, "cache_control": {"type": "ephemeral"}},
            CALLED | {"id": "7", "arguments": {}, "cache_control": {"type": "ephemeral"}},
        ),
        (
            {
                "type": "document",
                "source": {"type": "url", "url": "https://a/b"},
                "title": "t",
                "context": "c",
                "citations": {"enabled": True},
            },
            uri("document", "https://a/b") | {"title": "t", "context": "c", "citations": {"enabled": True}},
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                "title": "t",
            },
            {"type": "text", "content": "x", "title": "t", "media_type": "text/plain"},
        ),
        # OpenAI, of chats and of the Responses API
        (
            {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "high"}},
            uri("image", "https://a/b", detail="high"),
        ),
        (
            {"type": "file", "file": {"filename": "f.pdf", "file_data": "data:application/pdf;base64,aGk="}},
            blob("document", "application/pdf", "aGk=") | {"filename": "f.pdf"},
        ),
        (
            {"type": "image_url", "image_url": "data:image/svg+xml,%3Csvg/%3E"},
            uri("image", "data:image/svg+xml,%3Csvg/%3E"),
        ),
        (
            {"type": "input_image", "mime_type": "image/png", "image_url": "data:image/gif;base64,aGk="},
            blob("image", "image/png", "aGk=") | {"beside": {"mime_type": "image/gif"}},
        ),
        (
            {
                "type": "function_call",
                "id": "fc",
                "call_id": "1",
                "name": "w",
                "arguments": '{"city":"Paris"}',
            },
            CALLED | {"beside": {"id": "fc"}},
        ),
        (
            {"type": "function_call_output", "call_id": "1", "output": "no", "status": "failed"},
            answered("no", is_error=True, status="failed"),
        ),
        (
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Short."}],
                "content": [{"type": "reasoning_text", "text": "Long."}],
            },
            {
                "type": "reasoning",
                "content": "Long.",
                "summary": [{"type": "summary_text", "text": "Short."}],
            },
        ),
        (
            {"type": "reasoning", "summary": [{"text": "Hm.", "lang": "en"}]},
            {"type": "reasoning", "content": "Hm.", "summary": [{"text": "Hm.", "lang": "en"}]},
        ),
        (
            {"type": "text", "text": "a", "content": "b"},
            {"type": "text", "content": "a", "beside": {"content": "b"}},
        ),
        ({"type": "image_url", "image_url": {"url": "https://a/b"}}, uri("image", "https://a/b")),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            blob("image", "image/png", "aGk="),
        ),
        ({"type": "input_image", "image_url": "https://a/b"}, uri("image", "https://a/b")),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            blob("audio", "audio/wav", "aGk="),
        ),
        (
            {"type": "file", "file": {"file_id": "f-1"}},
            {"type": "file", "modality": "document", "file_id": "f-1"},
        ),
        # Google
        ({"text": "Tea?"}, {"type": "text", "content": "Tea?"}),
        ({"text": "Hm.", "thought": True}, {"type": "reasoning", "content": "Hm.", "thought": True}),
        ({"functionCall": {"id": "1", "name": "w", "args": {"city": "Paris"}}}, CALLED),
        ({"function_response": {"id": "1", "name": "w", "response": {"a": 1}}}, answered({"a": 1}, name="w")),
        (
            {"inline_data": {"mime_type": "audio/wav", "data": "aGk="}},
            blob("audio", "audio/wav", "aGk="),
        ),
        (
            {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://a/b"}},
            uri("document", "gs://a/b", mime_type="application/pdf"),
        ),
        (
            {"functionCall": {"id": "1", "name": "w", "args": {"city": "Paris"}}, "thoughtSignature": "s"},
            CALLED | {"thoughtSignature": "s"},
        ),
        # Bedrock
        (
            {"toolResult": {"toolUseId": "1", "content": [{"text": "no"}], "status": "error"}},
            answered([{"text": "no"}], is_error=True, status="error"),
        ),
        (
            {"image": {"format": "png", "source": {"bytes": "aGk="}}},
            blob("image", "image/png", "aGk="),
        ),
        (
            {"document": {"format": "pdf", "name": "n", "source": {"s3Location": {"uri": "s3://a/b"}}}},
            uri("document", "s3://a/b", mime_type="application/pdf", name="n"),
        ),
        (
            {"document": {"format": "odd", "source": {"bytes": "aGk="}}},
            {"type": "blob", "modality": "document", "content": "aGk=", "format": "odd"},
        ),
        (
            {"video": {"format": "mov", "source": {"s3Location": {"uri": "s3://a/b", "bucketOwner": "o"}}}},
            uri("video", "s3://a/b", mime_type="video/quicktime", bucketOwner="o"),
        ),
        ({"toolUse": {"toolUseId": "1", "name": "w", "input": {"city": "Paris"}}}, CALLED),
        (
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
            {"type": "reasoning", "content": "Hm.", "signature": "s"},
        ),
        (
            {"type": "input_image", "image_url": ["x"], "file_id": "f"},
            {"type": "file", "modality": "image", "file_id": "f", "image_url": ["x"]},
        ),
        ({"image": "https://a/b", "x": 1}, uri("image", "https://a/b") | {"x": 1}),
        (
            {"text": "Tea?", "beside": 1, "type": "text", "content": "b"},
            {"type": "text", "content": "Tea?", "beside": [{"content": "b"}, 1]},
        ),
        # The conventions' own, and what nobody knows
        (uri("image", "https://a/b"), uri("image", "https://a/b")),
        (
            {"type": "file", "modality": "audio", "file_id": "f"},
            {"type": "file", "modality": "audio", "file_id": "f"},
        ),
        ({"type": "mine", "x": 1}, {"type": "mine", "x": 1}),
        ({"x": 1}, {"type": "unknown", "content": {"x": 1}}),
        (
            {"type": "text", "text": "Tea?", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "content": "Tea?", "cache_control": {"type": "ephemeral"}},
        ),
    ],
)
def test_parts_of_every_client_are_those_of_the_conventions(part: dict[str, Any], expected: object) -> None:
    """Under `content`, and what has no type under `parts` as Google has it; nothing of a part is lost."""
    for body in ("content",) if "type" in part else ("content", "parts"):
        given = raw([{"role": "user", body: [part]}])
        attributes = sent(make_span(kind=StepKind.LLM, name="gpt-5", input=given), "genai")[1]
        assert json.loads(attributes["gen_ai.input.messages"]) == [{"role": "user", "parts": [expected]}]


def test_items_of_the_responses_api_are_messages() -> None:
    """A call of a tool and its result have a type in place of a role."""
    given = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "1", "name": "w", "arguments": '{"city":"Paris"}'},
        {"type": "function_call_output", "call_id": "1", "output": "rain"},
    ]
    attributes = sent(make_span(kind=StepKind.LLM, name="gpt-5", input=raw(given)), "genai")[1]
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        text("user", "Weather?"),
        {"role": "assistant", "parts": [CALLED]},
        {"role": "tool", "parts": [answered("rain")]},
    ]


RAW = {"type": "tool_call", "id": "1", "name": "f", "arguments": "raw"}
SAID = {"type": "text", "content": "Tea?"}


@pytest.mark.parametrize(
    ("message", "parts", "more"),
    [
        (
            {"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "raw"}}]},
            [RAW],
            {},
        ),
        ({"tool_calls": {"id": 1, "function": {"name": "f", "arguments": "raw"}}}, [RAW], {}),
        (
            {"tool_calls": ["a", 7, {"x": 1}]},
            [
                {"type": "unknown", "content": "a"},
                {"type": "unknown", "content": 7},
                {"type": "unknown", "content": {"x": 1}},
            ],
            {},
        ),
        (
            {
                "tool_calls": [
                    {"id": "1", "index": 2, "function": {"name": "f", "arguments": "raw", "strict": True}}
                ]
            },
            [RAW | {"strict": True, "index": 2}],
            {},
        ),
        (
            {
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "parameters": {"x": 1}}}
                ]
            },
            [RAW | {"arguments": None, "parameters": {"x": 1}}],
            {},
        ),
        (
            {"tool_calls": [{"id": "1", "type": "function", "function": {"name": {"x": 1}, "input": "raw"}}]},
            [RAW | {"name": "", "beside": {"name": {"x": 1}}}],
            {},
        ),
        (
            {"tool_calls": [{"id": "1", "x": "y", "function": {"name": "f", "input": "raw"}}]},
            [RAW | {"x": "y"}],
            {},
        ),
        ({"function_call": "auto"}, [{"type": "unknown", "content": "auto"}], {}),
        (
            {
                "tool_call_id": 1,
                "content": "rain",
                "status": "error",
                "refusal": "No.",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "raw"}}],
            },
            [answered("rain", is_error=True), {"type": "refusal", "content": "No."}, RAW],
            {"status": "error"},
        ),
        (
            {"parts": [{"text": "Tea?"}], "content": "Now!", "tool_calls": [RAW]},
            [SAID, {"type": "text", "content": "Now!"}, RAW],
            {},
        ),
        ({"parts": [SAID], "content": "Tea?"}, [SAID], {}),
        ({"parts": "Tea?"}, [SAID], {}),
        ({"content": "Tea?", "reasoning_content": ["Hm."]}, [SAID], {"reasoning_content": ["Hm."]}),
        ({"content": "Tea?", "type": "mine"}, [SAID], {"type": "mine"}),
        ({"content": "Tea?", "refusal": {"x": 1}}, [SAID], {"refusal": {"x": 1}}),
        ({"content": "Tea?", "tool_call_id": {"x": 1}}, [SAID], {"tool_call_id": {"x": 1}}),
    ],
)
def test_nothing_of_a_message_is_lost(
    message: dict[str, Any], parts: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    """All forms that it has become parts, and what is no part stays beside them."""
    given = raw([{"role": "assistant", **message}])
    attributes = sent(make_span(kind=StepKind.LLM, name="gpt-5", input=given), "genai")[1]
    assert json.loads(attributes["gen_ai.input.messages"]) == [{"role": "assistant", "parts": parts, **more}]


USED = {"type": "tool_use", "id": "1", "name": "w", "input": {"city": "Paris"}}
SEARCHED = {"type": "web_search_call", "id": "ws", "status": "completed"}
SHOWN = {"type": "shell_call_output", "output": "x"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            [text("user", "Tea?"), {"role": "assistant", "content": [USED]}],
            [text("user", "Tea?"), {"role": "assistant", "parts": [CALLED]}],
        ),
        (
            [{"role": "user", "parts": [SAID, {"text": "google"}]}],
            [{"role": "user", "parts": [SAID, {"type": "text", "content": "google"}]}],
        ),
        ([{"role": "assistant", "parts": [USED]}], [{"role": "assistant", "parts": [CALLED]}]),
        (
            [text("user", "Tea?"), {"role": "user", "content": "Now!"}],
            [text("user", "Tea?"), text("user", "Now!")],
        ),
        (
            [CHAT[1], SEARCHED, SHOWN, {"role": "assistant", "content": "Yes."}],
            [
                text("user", "Tea?"),
                {"role": "assistant", "parts": [SEARCHED]},
                {"role": "tool", "parts": [SHOWN]},
                text("assistant", "Yes."),
            ],
        ),
        ([SEARCHED], [text("user", json.dumps([SEARCHED], separators=(",", ":")))]),
    ],
)
def test_messages_that_are_not_all_the_conventions_are_converted(
    given: list[Any], expected: list[dict[str, Any]]
) -> None:
    """Each of them, whatever the others are."""
    attributes = sent(make_span(kind=StepKind.LLM, name="gpt-5", input=raw(given)), "genai")[1]
    assert json.loads(attributes["gen_ai.input.messages"]) == expected


GROWING: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Tea?", "cache": 1}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "green"},
    SEARCHED,
    {"role": "assistant", "content": "Green.", "name": "tea"},
    {"role": "user", "parts": [{"text": "Really?"}]},
    {"role": "assistant", "content": "x" * 5000},
]
"""A history of several clients, which a run's calls repeat."""


@pytest.mark.parametrize(
    "beside", [{}, {"model": "gpt-5", "stop": ["a", 1.5]}, {"beside_messages": {"a": 1}}]
)
def test_a_history_that_grows_is_what_its_messages_are(beside: dict[str, Any]) -> None:
    """Each call repeats the messages of the one before, and they are converted to the same again."""

    def converted(count: int) -> Any:
        given: Any = {"messages": GROWING[:count], **beside} if beside else GROWING[:count]
        span = make_span(kind=StepKind.LLM, name="gpt-5", input=raw(given))
        return json.loads(sent(span, "genai")[1]["gen_ai.input.messages"])

    whole = converted(len(GROWING))
    assert [each["role"] for each in whole] == [
        *("system", "user", "assistant", "tool", "assistant", "assistant", "user", "assistant"),
    ]
    assert whole[1]["parts"] == [{"type": "text", "content": "Tea?", "cache": 1}]
    assert whole[0].get("beside_messages") == (beside or None)
    for _ in range(2):
        assert [converted(count) for count in range(1, len(GROWING) + 1)] == [
            whole[:count] for count in range(1, len(GROWING) + 1)
        ]


def test_a_history_with_what_is_no_message_is_one_text() -> None:
    """As a short one is, and in whichever place it stands."""
    for place in range(6):
        given = [*GROWING[:place], {"a": 1}, *GROWING[place:6]]
        span = make_span(kind=StepKind.LLM, name="gpt-5", input=raw(given))
        (message,) = json.loads(sent(span, "genai")[1]["gen_ai.input.messages"])
        assert message["parts"][0]["type"] == "text"
        assert json.loads(message["parts"][0]["content"]) == given


def test_an_output_of_the_conventions_has_the_reason_that_it_lacks() -> None:
    """The one that it has is kept."""
    output = [text("assistant", "Yes.", finish_reason="length"), text("assistant", "No.")]
    span = make_span(kind=StepKind.LLM, name="gpt-5", output=raw(output))
    assert json.loads(sent(span, "genai")[1]["gen_ai.output.messages"]) == [
        output[0],
        text("assistant", "No.", finish_reason="stop"),
    ]


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (CHAT, [text("system", "Be brief."), text("user", "Tea?")]),
        ("Tea?", [text("user", "Tea?")]),
        (["Tea?"], [text("user", "Tea?")]),
        ([text("user", "Tea?")], [text("user", "Tea?")]),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_messages_that_are_an_attribute_have_the_conventions_form_too(
    recorded: object, expected: object
) -> None:
    """As `call.request(messages=…)` sets them; with another dialect alone they stay as they are."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", attributes=raw({"gen_ai.input.messages": recorded}))
    for dialect, written in (("genai", expected), ("langfuse", recorded)):
        assert json.loads(json.dumps(sent(span, dialect)[1]["gen_ai.input.messages"])) == written


def test_ids_of_documents_are_texts() -> None:
    """As the conventions' schema has them; what is no document stays as it is."""
    documents = [{"id": 7, "score": 0.5}, {"id": "a"}, {"content": "tea"}, "odd"]
    span = make_span(kind=StepKind.RETRIEVER, attributes=raw({"gen_ai.retrieval.documents": documents}))
    found = sent(span, "genai")[1]["gen_ai.retrieval.documents"]
    assert [*found] == [{"id": "7", "score": 0.5}, *documents[1:]]


def test_a_retrieval_is_called_by_its_source() -> None:
    """As the conventions have it, if one was recorded."""
    span = make_span(kind=StepKind.RETRIEVER, name="docs")
    assert sent(span, "genai")[0] == "retrieval docs"
    of_source = make_span(
        kind=StepKind.RETRIEVER, name="docs", attributes=raw({"gen_ai.data_source.id": "H7STPQYOND"})
    )
    assert sent(of_source, "genai")[0] == "retrieval H7STPQYOND"


@pytest.mark.parametrize(("status", "reason"), [(Status.OK, "stop"), (Status.ERROR, "error")])
def test_an_output_is_messages_with_a_finish_reason(status: Status, reason: str) -> None:
    """The schema of the conventions requires one of each."""
    for output in ("Green.", raw([{"role": "assistant", "content": "Green."}])):
        span = make_span(kind=StepKind.LLM, name="gpt-5", output=output, status=status)
        found = json.loads(sent(span, "genai")[1]["gen_ai.output.messages"])
        assert found == [text("assistant", "Green.", finish_reason=reason)]


def test_arguments_results_and_queries() -> None:
    """A tool's, a retriever's; what the conventions have no word for is written in one that is widely known."""
    tool = make_span(kind=StepKind.TOOL, input=raw({"city": "Paris"}), output="rain")
    attributes = sent(tool, "genai")[1]
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "rain"
    assert (
        sent(make_span(kind=StepKind.RETRIEVER, input="tea"), "genai")[1]["gen_ai.retrieval.query.text"]
        == "tea"
    )
    task = sent(make_span(kind=StepKind.TASK, input="in", output=raw([1])), "genai")[1]
    assert (task["input.value"], task["output.value"], task["output.mime_type"]) == (
        "in",
        "[1]",
        "application/json",
    )


@pytest.mark.parametrize(
    "dialect", [*DIALECTS, "genai,openinference", "langfuse,genai", "openinference,langfuse"]
)
def test_an_input_is_written_once(dialect: str) -> None:
    """Whatever the dialects are."""
    span = make_span(kind=StepKind.LLM, name="gpt-5", input="a-unique-question", output="a-unique-answer")
    request = SpanEncoder({}, vocabulary(dialect)).encode([span])
    assert (request.count(b"a-unique-question"), request.count(b"a-unique-answer")) == (1, 1)


def test_langfuse_counts_no_token_twice() -> None:
    """Its counts add up: none is part of another."""
    span = make_span(run=RUN, kind=StepKind.LLM, name="gpt-5", usage=USAGE, cost=TokenCost(0.25, 0.5, 0.75))
    attributes = sent(span, "langfuse,genai")[1]
    details = json.loads(attributes["langfuse.observation.usage_details"])
    assert details.pop("total") == 150
    assert sum(details.values()) == 150
    assert details["input"] == 100 - 30 - 10 - 5 - 3
    assert details["output"] == 50 - 20 - 4
    assert json.loads(attributes["langfuse.observation.cost_details"]) == {
        "input": 0.25,
        "output": 0.5,
        "total": 0.75,
    }
    assert not [each for each in attributes if each.startswith("llm.")]


def test_langfuse_has_its_words_for_everything_else() -> None:
    """Types, model, parameters, prompt, first chunk, metadata, tags, session, user, scores."""
    own = raw(
        {
            "gen_ai.request.temperature": 0.2,
            "gen_ai.response.model": "gpt-5-2025",
            "gen_ai.prompt.name": "tea",
            "gen_ai.prompt.version": "3",
        }
    )
    score = raw({"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.9})
    span = make_span(
        run=RUN,
        kind=StepKind.LLM,
        name="gpt-5",
        input="in",
        output=raw([1]),
        metadata=raw({"a": 1}),
        tags=("x",),
        attributes=own,
        events=(SpanEvent("gen_ai.evaluation.result", 5, score), SpanEvent("gen_ai.evaluation.result", 6)),
        first_chunk_ns=1_700_000_000_123_456_789,
    )
    expected = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "gpt-5-2025",
        "langfuse.observation.model.parameters": '{"temperature":0.2}',
        "langfuse.observation.prompt.name": "tea",
        "langfuse.observation.prompt.version": 3,
        "langfuse.observation.completion_start_time": "2023-11-14T22:13:20.123456Z",
        "langfuse.observation.input": "in",
        "langfuse.observation.output": "[1]",
        "langfuse.observation.metadata": '{"a":1}',
        "langfuse.observation.metadata.score.relevance": 0.9,
        "langfuse.trace.name": "shop",
        "langfuse.trace.metadata.tenant": "acme",
        "langfuse.trace.tags": ("plan:pro", "tenant:acme", "x"),
        "session.id": "conv-1",
        "user.id": "user-1",
    }
    attributes = sent(span, "langfuse")[1]
    assert expected.items() <= attributes.items()
    assert "gen_ai.operation.name" not in attributes
    assert [sent(make_span(kind=kind), "langfuse")[1]["langfuse.observation.type"] for kind in StepKind] == [
        *("generation", "tool", "chain", "span", "span", "span", "span", "span"),
        *("agent", "retriever", "embedding", "span", "guardrail", "evaluator", "span", "chain"),
    ]


def test_langfuse_finds_environment_and_release_in_the_resource() -> None:
    """Those of the service, unless they are set themselves."""
    resource = {"service.version": "1.2", "deployment.environment.name": "prod"}
    assert {"langfuse.environment": "prod", "langfuse.release": "1.2"}.items() <= dict(
        vocabulary("langfuse").resource(resource)
    ).items()
    own = {**resource, "langfuse.release": "mine"}
    assert vocabulary("langfuse").resource(own)["langfuse.release"] == "mine"
    assert vocabulary("genai").resource(resource) == resource


def test_openinference_alone() -> None:
    """Its words only; messages of every model call; evaluations as annotations; cost."""
    own = raw(
        {
            "gen_ai.prompt.name": "tea",
            "gen_ai.response.model": "gpt-5-2025",
            "gen_ai.response.finish_reasons": ["stop"],
        }
    )
    score = raw(
        {
            "gen_ai.evaluation.name": "relevance",
            "gen_ai.evaluation.score.value": 0.9,
            "gen_ai.evaluation.score.label": "good",
        }
    )
    span = make_span(
        run=RUN,
        kind=StepKind.LLM,
        name="gpt-5",
        input=raw(CHAT),
        usage=USAGE,
        cost=TokenCost(0.25, 0.5, 0.75),
        attributes=own,
        events=(SpanEvent("other", 4), SpanEvent("gen_ai.evaluation.result", 5, score)),
    )
    name, attributes = sent(span, "openinference")
    assert name == "gpt-5"
    assert {
        "llm.input_messages.1.message.content": "Tea?",
        "llm.token_count.prompt_details.cache_write": 10,
        "llm.cost.total": 0.75,
        "llm.cost.prompt": 0.25,
        "annotations.0.annotation.name": "relevance",
        "annotations.0.annotation.score": 0.9,
        "annotations.0.annotation.label": "good",
        "prompt.id": "tea",
        "llm.response.model_name": "gpt-5-2025",
        "llm.finish_reason": "stop",
    }.items() <= attributes.items()
    assert not [each for each in attributes if each.startswith(("gen_ai.usage", "gen_ai.operation"))]
    bare = make_span(kind=StepKind.LLM, name="gpt-5", input=raw(CHAT))
    assert sent(bare, "openinference")[1]["llm.input_messages.0.message.role"] == "system"


def test_a_reranker_has_its_query() -> None:
    """And how many it is to keep."""
    span = make_span(
        kind=StepKind.RERANKER, name="rerank-3", input="tea", attributes=raw({"gen_ai.request.top_k": 3})
    )
    attributes = sent(span, "openinference")[1]
    assert (attributes["reranker.query"], attributes["reranker.top_k"]) == ("tea", 3)


def test_the_scope_names_the_schema_if_it_speaks_the_conventions() -> None:
    """Status and error too are as the conventions want them: unset if all went well."""
    failed = make_span(kind=StepKind.TOOL, status=Status.ERROR, error=ErrorDetails("TimeoutError", "late"))
    for dialect, url in (("genai", "https://opentelemetry.io/schemas/gen-ai/1.42.0"), ("openinference", "")):
        (scope,) = scope_spans_of(SpanEncoder({}, vocabulary(dialect)).encode([make_span(), failed]))
        assert scope.schema_url == url
        assert [(span.status.code, span.status.message) for span in scope.spans] == [(0, ""), (2, "late")]
        assert python_attributes(scope.spans[1].attributes)["error.type"] == "TimeoutError"


@pytest.mark.parametrize("names", ["", "genia", "genai,", "openinference;genai", ()])
def test_a_dialect_that_does_not_exist_is_refused(names: Any) -> None:
    """With those that do."""
    with pytest.raises(ValueError, match="genai, langfuse, openinference"):
        vocabulary(names)


def test_names_are_read_in_any_case_and_once() -> None:
    """With spaces around them."""
    assert vocabulary(" GenAI , openinference,genai").name == "genai,openinference"


@pytest.mark.parametrize("version", ["9" * 5000, "9" * 30, "³", "٣", "v3", ""])
def test_a_prompt_version_that_is_no_number_is_left_out(version: str) -> None:
    """Langfuse has numbers; whatever was recorded, the span is sent."""
    own = raw({"gen_ai.prompt.name": "greet", "gen_ai.prompt.version": version})
    attributes = sent(make_span(kind=StepKind.LLM, attributes=own), "langfuse")[1]
    assert attributes["langfuse.observation.prompt.name"] == "greet"
    assert "langfuse.observation.prompt.version" not in attributes
