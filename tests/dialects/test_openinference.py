"""Messages, tools and documents in OpenInference's names, beside the conventions' attributes that hold them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nat_observability.dialects.span_attributes import span_attributes
from nat_observability.events import Run, Span, SpanEvent, Status, StepKind
from nat_observability.sinks.otlp.span_encoder import encode

RUN = Run("run-1", "1" * 32)
PROVIDER = {"gen_ai.provider.name": "openai"}
PREFIXES = ("llm.", "tool.", "retrieval.", "reranker.", "embedding.")


def span_of(kind: StepKind, attributes: object, given: object = None, output: object = None) -> Span:
    def raw(value: object) -> Any:
        return (
            value
            if value is None or isinstance(value, str | msgspec.Raw)
            else msgspec.Raw(msgspec.json.encode(value))
        )

    return Span(
        RUN, kind, "x", "1" * 16, None, 1, 2, Status.OK, raw(given), raw(output), attributes=raw(attributes)
    )


def names(kind: StepKind, attributes: object, given: object = None, output: object = None) -> dict[str, Any]:
    """Return OpenInference's attributes of such a span, without those that every span of its kind has."""
    found = span_attributes(span_of(kind, attributes, given, output))
    usual = {"llm.model_name", "tool.name", "reranker.model_name", "embedding.model_name"}
    return {name: value for name, value in found.items() if name.startswith(PREFIXES) and name not in usual}


CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q":1}'}}
PART = {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": 1}}
CALLED = {
    "tool_calls.0.tool_call.id": "c1",
    "tool_calls.0.tool_call.function.name": "search",
    "tool_calls.0.tool_call.function.arguments": '{"q":1}',
}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hello"}, {"role": "user", "content": "hello"}),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "assistant", **CALLED}),
        (
            {"role": "tool", "tool_call_id": "c1", "content": "found"},
            {"role": "tool", "tool_call_id": "c1", "content": "found"},
        ),
        (
            {
                "role": "user",
                "name": "ann",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url"}],
            },
            {"role": "user", "name": "ann", "content": "a"},
        ),
        (
            {"role": "assistant", "parts": [{"type": "text", "content": "a"}, PART], "finish_reason": "stop"},
            {"role": "assistant", "content": "a", **CALLED},
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                ],
            },
            {
                "role": "user",
                "contents.0.message_content.type": "text",
                "contents.0.message_content.text": "What is it?",
                "contents.1.message_content.type": "image",
                "contents.1.message_content.image.image.url": "https://a/b.png",
                "contents.2.message_content.type": "audio",
                "contents.2.message_content.audio.audio.url": "data:audio/wav;base64,aGk=",
                "contents.2.message_content.audio.audio.mime_type": "audio/wav",
            },
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "c1", "name": "search", "input": {"q": 1}},
                ],
            },
            {
                "role": "assistant",
                "contents.0.message_content.type": "reasoning",
                "contents.0.message_content.text": "Hm.",
                "contents.1.message_content.type": "text",
                "contents.1.message_content.text": "a",
                **CALLED,
            },
        ),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "found"}]},
            {"role": "user", "tool_call_id": "c1", "content": "found"},
        ),
        ({"role": "model", "parts": [{"text": "a"}]}, {"role": "model", "content": "a"}),
        (
            # Of what was left out there is only its size.
            {
                "role": "user",
                "parts": [
                    {
                        "type": "blob",
                        "modality": "image",
                        "mime_type": "image/png",
                        "content": "<7 bytes>",
                    },
                    {"type": "text", "content": "a"},
                ],
            },
            {"role": "user", "content": "a"},
        ),
        (
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"a": 1}}]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"a":1}'},
        ),
    ],
)
def test_messages(message: dict[str, Any], expected: dict[str, Any]) -> None:
    """As clients have them, and as the conventions do, in the input, the output and the attributes."""
    given = {f"llm.input_messages.1.message.{name}": value for name, value in expected.items()}
    output = {f"llm.output_messages.0.message.{name}": value for name, value in expected.items()}
    provider = {"llm.provider": "openai", "llm.system": "openai"}
    before = ["not a message", message]
    assert names(StepKind.LLM, PROVIDER, before, [message]) == {**provider, **given, **output}
    assert names(StepKind.LLM, PROVIDER, {"messages": before}) == {**provider, **given}
    assert names(StepKind.LLM, {**PROVIDER, "gen_ai.input.messages": before}) == {**provider, **given}


def test_parameters_and_tools() -> None:
    """Parameters are one JSON object without the model, and each tool is JSON of its own."""
    attributes = {
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.tool.definitions": [{"type": "function", "name": "search", "description": "Finds."}],
    }
    assert names(StepKind.LLM, attributes) == {
        "llm.invocation_parameters": '{"temperature":0.5}',
        "llm.tools.0.tool.json_schema": (
            '{"type":"function","function":{"name":"search","description":"Finds."}}'
        ),
        "llm.tools.0.tool.name": "search",
        "llm.tools.0.tool.description": "Finds.",
    }
    called = {"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": {"q": 1}}
    assert names(StepKind.TOOL, called) == {"tool.id": "c1", "tool.parameters": '{"q":1}'}


@pytest.mark.parametrize(
    ("provider", "hosted_by", "system"),
    [
        ("openai", "openai", "openai"),
        ("azure.ai.openai", "azure", "openai"),
        ("aws.bedrock", "aws", None),
        ("gcp.vertex_ai", "google", "vertexai"),
        ("gcp.gen_ai", "google", None),
        ("mistral_ai", "mistralai", "mistralai"),
        ("x_ai", "xai", "xai"),
        ("moonshot_ai", "moonshot", None),
        ("mine", "mine", None),
    ],
)
def test_a_provider_has_its_well_known_value(provider: str, hosted_by: str, system: str | None) -> None:
    """ "If one of them applies, then the respective value MUST be used", and they are not those of the conventions."""
    found = names(StepKind.LLM, {"gen_ai.provider.name": provider})
    assert (found["llm.provider"], found.get("llm.system")) == (hosted_by, system)


def test_the_model_is_the_one_that_answered() -> None:
    """And the one that was asked, if no answer says which it was."""
    attributes = {"gen_ai.response.model": "gpt-5-2025"}
    assert span_attributes(span_of(StepKind.LLM, attributes))["llm.model_name"] == "gpt-5-2025"
    assert span_attributes(span_of(StepKind.LLM, PROVIDER))["llm.model_name"] == "x"


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (StepKind.RETRIEVER, "retrieval.documents"),
        (StepKind.RERANKER, "reranker.output_documents"),
        (StepKind.TOOL, "retrieval.documents"),
    ],
)
def test_documents(kind: StepKind, prefix: str) -> None:
    """Those of a reranker have a name of their own."""
    documents = [{"id": 7, "content": "tea", "score": 1, "metadata": {"page": 3}}, {"content": "milk"}, "odd"]
    assert names(kind, {"gen_ai.retrieval.documents": documents}) == {
        f"{prefix}.0.document.id": "7",
        f"{prefix}.0.document.content": "tea",
        f"{prefix}.0.document.score": 1.0,
        f"{prefix}.0.document.metadata": '{"page":3}',
        f"{prefix}.1.document.content": "milk",
    }


def test_texts_of_embeddings() -> None:
    """One text, or several."""
    attributes = {"gen_ai.response.model": "m"}
    prefix = "embedding.embeddings"
    assert names(StepKind.EMBEDDING, attributes, "a") == {f"{prefix}.0.embedding.text": "a"}
    assert names(StepKind.EMBEDDING, attributes, ["a", 1, "b"]) == {
        f"{prefix}.0.embedding.text": "a",
        f"{prefix}.2.embedding.text": "b",
    }


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({"score.value": 1}, {"score": 1}),
        ({"score.label": "good", "explanation": "It is."}, {"label": "good", "explanation": "It is."}),
        ({"score.value": "a lot", "explanation": "It is."}, {"explanation": "It is."}),
        ({}, None),
        ({"score.value": "a lot"}, None),
        ({"score.value": True}, None),
    ],
)
def test_an_annotation_has_a_result(results: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """One at least, and the score is a number; one without any is left out, and is no gap among the others."""

    def event(name: str, results: dict[str, Any]) -> SpanEvent:
        told = {f"gen_ai.evaluation.{key}": value for key, value in {"name": name, **results}.items()}
        return SpanEvent("gen_ai.evaluation.result", 1, msgspec.Raw(msgspec.json.encode(told)))

    span = msgspec.structs.replace(
        span_of(StepKind.EVALUATOR, None), events=(event("a", results), event("b", {"score.value": 0.5}))
    )
    found = {name: value for name, value in span_attributes(span).items() if name.startswith("annotations.")}
    first = {} if expected is None else {"name": "a", **expected}
    both = [each for each in (first, {"name": "b", "score": 0.5}) if each]
    assert found == {
        f"annotations.{index}.annotation.{name}": value
        for index, each in enumerate(both)
        for name, value in each.items()
    }


def test_parameters_of_embeddings() -> None:
    """They have a name of their own."""
    attributes = {"gen_ai.embeddings.dimension.count": 3, "gen_ai.request.encoding_formats": ["float"]}
    assert names(StepKind.EMBEDDING, attributes) == {
        "embedding.invocation_parameters": '{"encoding_formats":["float"],"dimensions":3}'
    }


def test_a_step_without_the_conventions_attributes_has_none_of_it() -> None:
    """Its payload is not even read."""
    message = [{"role": "user", "content": "hello"}]
    assert names(StepKind.LLM, None, message, message) == {}
    assert names(StepKind.LLM, {"mine": 1}, message, message) == {}


def test_what_the_application_says_wins() -> None:
    """Under the same name."""
    assert names(StepKind.LLM, PROVIDER | {"llm.provider": "mine"}) == {
        "llm.provider": "mine",
        "llm.system": "openai",
    }


def test_what_is_large_is_not_repeated() -> None:
    """Of a list the first items that there is room for; a payload is all or nothing."""
    message = {"role": "user", "content": "x" * 1000}
    assert names(StepKind.LLM, PROVIDER, [message] * 100) == {
        "llm.provider": "openai",
        "llm.system": "openai",
    }
    documents = names(StepKind.RETRIEVER, {"gen_ai.retrieval.documents": [{"content": "x" * 1000}] * 1000})
    assert 60 < len(documents) < 66
    assert len(names(StepKind.RETRIEVER, {"gen_ai.retrieval.documents": [{"content": "x"}] * 1000})) == 100


@pytest.mark.parametrize("kind", [StepKind.LLM, StepKind.TOOL, StepKind.RETRIEVER, StepKind.EMBEDDING])
@pytest.mark.parametrize(
    "odd",
    [
        "null",
        "7",
        "{}",
        "[]",
        "torn",
        '[{"role":7,"content":{}}]',
        '[{"role":"a","content":[7],"tool_calls":[7]}]',
        '[{"role":"a","tool_calls":{"a":1}}]',
        '[{"role":"a","content":"\\ud800","tool_calls":[{"function":7,"name":7,"arguments":-1}]}]',
        f'[{{"score":{"9" * 400}}}]',
        "[" * 500 + "]" * 500,
    ],
)
def test_odd_values_are_encoded(kind: StepKind, odd: str) -> None:
    """Whatever a processor of the application has made of them; the span is sent in any case."""
    attributes = {
        name: msgspec.Raw(odd.encode() if odd != "torn" else b"1")
        for name in (
            "gen_ai.provider.name",
            "gen_ai.request.x",
            "gen_ai.tool.definitions",
            "gen_ai.input.messages",
            "gen_ai.retrieval.documents",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.id",
        )
    }
    raw = msgspec.Raw(odd.encode())
    assert encode([span_of(kind, attributes, raw, raw)], {})
