"""OPENINFERENCE: a span in the words of OpenInference, with messages, tools and documents in its flat names."""

# https://arize-ai.github.io/openinference/spec/attributes/semantic-conventions.html and annotations.html; the package
# openinference-semantic-conventions 0.1.42.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from nat_observability.dialects.dialect import Attributes, Dialect
from nat_observability.dialects.message_parts import message_of
from nat_observability.dialects.messages import listed_messages
from nat_observability.events import Captured, Span, StepKind

Flat = Attributes

INDEXED_PREFIXES = (
    "annotations.",
    "embedding.embeddings.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.tools.",
    "reranker.output_documents.",
    "retrieval.documents.",
)
"""How the names of what comes several times begin: an index follows."""

# They repeat what another attribute holds, for viewers that know only these names: what is larger is only there.
_MOST = 100  # messages, documents, tools
_MAX_INT = 2**63
_ROOM = 64 * 1024  # characters of each of these lists

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_DOCUMENTS = {
    StepKind.RETRIEVER: "retrieval.documents",
    StepKind.RERANKER: "reranker.output_documents",
}
_SAME_WORDS = frozenset(
    {
        *("AGENT", "CHAIN", "EMBEDDING", "EVALUATOR", "GUARDRAIL"),
        *("LLM", "PROMPT", "RERANKER", "RETRIEVER", "TOOL"),
    }
)
_TEXT_PARTS = frozenset({"text", "refusal"})
# Its well-known values where the GenAI conventions have others: who hosts a model, and whose product it is.
_PROVIDERS = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistralai",
    "moonshot_ai": "moonshot",
    "x_ai": "xai",
}
_SYSTEMS = {
    "anthropic": "anthropic",
    "azure.ai.openai": "openai",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gcp.vertex_ai": "vertexai",
    "mistral_ai": "mistralai",
    "openai": "openai",
    "x_ai": "xai",
}


def openinference_attributes(kind: StepKind, own: dict[str, Any], given: Captured, output: Captured) -> Flat:
    """
    Return what a span of this kind says in the conventions' attributes, in OpenInference's names.

    Args:
        own: The attributes that were recorded.
        given: The input.
        output: The output.
    """
    found: Flat = {}
    if kind is StepKind.LLM:
        _model_call(found, own, given, output)
    elif kind is StepKind.TOOL:
        if (arguments := own.get("gen_ai.tool.call.arguments")) is not None:
            found["tool.parameters"] = _text(arguments)
        if isinstance(call_id := own.get("gen_ai.tool.call.id"), str):
            found["tool.id"] = call_id
    elif kind is StepKind.EMBEDDING:
        parameters = _parameters(own)
        if (dimensions := own.get("gen_ai.embeddings.dimension.count")) is not None:
            parameters["dimensions"] = dimensions
        if parameters:
            found["embedding.invocation_parameters"] = _text(parameters)
        texts = [given] if isinstance(given, str) else _small(given)
        for index, text in _fitting(texts if isinstance(texts, list) else []):
            if isinstance(text, str):
                found[f"embedding.embeddings.{index}.embedding.text"] = text
    elif kind is StepKind.RERANKER:
        if isinstance(given, str):
            found["reranker.query"] = given
        if isinstance(top := own.get("gen_ai.request.top_k"), int):
            found["reranker.top_k"] = top
    if isinstance(described := own.get("gen_ai.tool.description"), str):
        found["tool.description"] = described
    if isinstance(prompt := own.get("gen_ai.prompt.name"), str):
        found["prompt.id"] = prompt
    if isinstance(version := own.get("gen_ai.prompt.version"), str):
        found["llm.prompt_template.version"] = version
    documents = own.get("gen_ai.retrieval.documents")
    if isinstance(documents, list):
        prefix = _DOCUMENTS.get(kind, "retrieval.documents")
        for index, document in _fitting(documents):
            if isinstance(document, dict):
                _document(found, f"{prefix}.{index}.document", document)
    return found


def _model_call(found: Flat, own: dict[str, Any], given: Captured, output: Captured) -> None:
    if isinstance(provider := own.get("gen_ai.provider.name"), str):
        found["llm.provider"] = _PROVIDERS.get(provider, provider)
        if (system := _SYSTEMS.get(provider)) is not None:
            found["llm.system"] = system
    if isinstance(model := own.get("gen_ai.response.model"), str):
        # "It should equal llm.response.model_name when known."
        found["llm.model_name"] = found["llm.response.model_name"] = model
    reasons = own.get("gen_ai.response.finish_reasons")
    if isinstance(reasons, list) and reasons and isinstance(reasons[0], str):
        found["llm.finish_reason"] = reasons[0]
    if parameters := _parameters(own):
        found["llm.invocation_parameters"] = _text(parameters)
    tools = own.get("gen_ai.tool.definitions")
    for index, tool in _fitting(tools if isinstance(tools, list) else []):
        found[f"llm.tools.{index}.tool.json_schema"] = _text(_definition(tool))
        for name in ("name", "description"):
            if isinstance(tool, dict) and isinstance(told := tool.get(name), str):
                found[f"llm.tools.{index}.tool.{name}"] = told
    for name, payload, attribute in (
        ("llm.input_messages", given, "gen_ai.input.messages"),
        ("llm.output_messages", output, "gen_ai.output.messages"),
    ):
        messages = own.get(attribute) or _small(payload)
        if isinstance(messages, str):
            messages = _small(msgspec.Raw(messages.encode(errors="replace")))
        for index, message in _fitting(listed_messages(messages)):
            if (text := _only_text(message)) is not None:
                found[f"{name}.{index}.message.role"] = message["role"]
                found[f"{name}.{index}.message.content"] = text
            elif (read := message_of(message)) is not None:
                _message(found, f"{name}.{index}.message", read)


def _definition(tool: Any) -> Any:
    """Return a function's definition as OpenInference has it, with the function in an object of its own."""
    if not isinstance(tool, dict) or tool.get("type") != "function" or "name" not in tool:
        return tool
    return {"type": "function", "function": {name: each for name, each in tool.items() if name != "type"}}


def _only_text(message: Any) -> str | None:
    """Return the text of a message that has nothing else, which most are; None of any other."""
    if type(message) is not dict or type(message.get("role")) is not str or "name" in message:
        return None
    if (parts := message.get("parts")) is None:
        text = message.get("content") if len(message) == 2 else None
    elif type(parts) is list and len(parts) == 1 and type(parts[0]) is dict:
        text = parts[0].get("content") if parts[0].get("type") == "text" else None
    else:
        return None
    return text if type(text) is str else None


def _parameters(own: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("gen_ai.request."): value
        for name, value in own.items()
        if name.startswith("gen_ai.request.") and name != "gen_ai.request.model"
    }


def _message(found: Flat, prefix: str, message: dict[str, Any]) -> None:
    found[f"{prefix}.role"] = message["role"]
    if isinstance(name := message.get("name"), str):
        found[f"{prefix}.name"] = name
    texts: list[str] = []
    contents: list[Flat] = []
    calls = 0
    for part in message["parts"]:
        kind = part.get("type")
        if kind in _TEXT_PARTS and isinstance(text := part.get("content"), str):
            texts.append(text)
            contents.append({"message_content.type": "text", "message_content.text": text})
        elif kind == "tool_call":
            _tool_call(found, f"{prefix}.tool_calls.{calls}.tool_call", part)
            calls += 1
        elif kind == "tool_call_response":
            if isinstance(part.get("id"), str):
                found[f"{prefix}.tool_call_id"] = part["id"]
            texts.append(_text(part.get("response", part.get("result"))))
        elif (content := _content(part)) is not None:
            contents.append(content)
    if len(contents) > sum(content["message_content.type"] == "text" for content in contents):
        # By the specification of multimodal messages, in place of `content`.
        for index, content in enumerate(contents):
            found |= {f"{prefix}.contents.{index}.{name}": value for name, value in content.items()}
    elif texts:
        found[f"{prefix}.content"] = "\n".join(texts)


def _tool_call(found: Flat, prefix: str, call: dict[str, Any]) -> None:
    if isinstance(call.get("id"), str):
        found[f"{prefix}.id"] = call["id"]
    if isinstance(call.get("name"), str):
        found[f"{prefix}.function.name"] = call["name"]
    if call.get("arguments") is not None:
        found[f"{prefix}.function.arguments"] = _text(call["arguments"])


def _content(part: dict[str, Any]) -> Flat | None:
    """Return reasoning, or an image, a sound or a video that can be shown; None of any other part."""
    kind, content = part.get("type"), part.get("content")
    if kind == "reasoning" and isinstance(content, str):
        return {"message_content.type": "reasoning", "message_content.text": content}
    medium, mime = part.get("modality"), part.get("mime_type")
    if medium not in ("image", "audio", "video"):
        return None
    url = part.get("uri") if kind == "uri" else None
    # Of data that was left out only its size is there.
    if kind == "blob" and isinstance(content, str) and isinstance(mime, str) and content[:1] not in ("", "<"):
        url = f"data:{mime};base64,{content}"
    if not isinstance(url, str):
        return None
    found: Flat = {"message_content.type": medium, f"message_content.{medium}.{medium}.url": url}
    if medium == "audio" and isinstance(mime, str):
        found["message_content.audio.audio.mime_type"] = mime
    return found


def _document(found: Flat, prefix: str, document: dict[str, Any]) -> None:
    for name in ("id", "content", "score", "metadata"):
        value = document.get(name)
        if value is None:
            continue
        if name == "score":
            if type(value) is float or (type(value) is int and abs(value) < _MAX_INT):
                found[f"{prefix}.score"] = float(value)
        else:
            found[f"{prefix}.{name}"] = _text(value)


def _small(payload: Captured) -> Any:
    """Return what a payload says that is JSON and has room; None of any other."""
    if not isinstance(payload, msgspec.Raw):
        return None
    data = bytes(payload)
    if len(data) > _ROOM:
        return None
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _fitting(items: list[Any]) -> Iterator[tuple[int, Any]]:
    """Yield the first items with their index, as many as there is room for."""
    left = _ROOM
    for index, item in enumerate(items[:_MOST]):
        left -= len(item) if isinstance(item, str) else len(_encoded(item))
        if left < 0:
            return
        yield index, item


def _encoded(value: Any) -> bytes | str:
    try:
        return _encode(value)
    except (ValueError, OverflowError, RecursionError):
        return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return _encode(value).decode()
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, an integer of more than 64 bits
        return repr(value) if isinstance(value, int) else "<not encodable>"


def _annotations(span: Span) -> Flat:
    """Return the results of evaluations, which are recorded as events, as annotations of the span."""
    found: Flat = {}
    index = 0
    for event in span.events[:_MOST]:
        if event.name != "gen_ai.evaluation.result" or event.attributes is None:
            continue
        told = _small(event.attributes)
        if not isinstance(told, dict) or not isinstance(told.get("gen_ai.evaluation.name"), str):
            continue
        results: Flat = {
            name: told[attribute]
            for name, (attribute, types) in _EVALUATION.items()
            if type(told.get(attribute)) in types
        }
        # "Each object MUST have `name` and at least one of `score`, `label`, or `explanation`."
        if len(results) < 2:
            continue
        found |= {f"annotations.{index}.annotation.{name}": value for name, value in results.items()}
        index += 1
    return found


_EVALUATION: dict[str, tuple[str, tuple[type, ...]]] = {
    "name": ("gen_ai.evaluation.name", (str,)),
    "score": ("gen_ai.evaluation.score.value", (int, float)),
    "label": ("gen_ai.evaluation.score.label", (str,)),
    "explanation": ("gen_ai.evaluation.explanation", (str,)),
}


def _own(span: Span, own: dict[str, Any]) -> Attributes:
    return openinference_attributes(span.kind, own, span.input, span.output)


OPENINFERENCE = Dialect(
    name="openinference",
    prefixes=(
        *(
            "openinference.",
            "llm.",
            "input.",
            "output.",
            "exception.",
            "tool.",
            "embedding.model_name",
            "reranker.",
        ),
        *("session.id", "user.id", "metadata", "tag.tags", "agent.name", "prompt."),
        *INDEXED_PREFIXES,
    ),
    # CHAIN is "a starting point or a link between different LLM application steps", and AGENT "a reasoning block that
    # acts on tools using the guidance of an LLM". A workflow may be either and does not say which, so it gets the one
    # that is always true. So do the kinds that OpenInference has no word for.
    kinds={
        kind: {"openinference.span.kind": kind.value if kind.value in _SAME_WORDS else "CHAIN"}
        for kind in StepKind
    },
    named={
        StepKind.LLM: ("llm.model_name",),
        StepKind.TOOL: ("tool.name",),
        StepKind.EMBEDDING: ("embedding.model_name",),
        StepKind.RERANKER: ("reranker.model_name",),
        StepKind.AGENT: ("agent.name",),
    },
    run={"conversation_id": "session.id", "user_id": "user.id"},
    usage={
        "prompt_tokens": "llm.token_count.prompt",
        "completion_tokens": "llm.token_count.completion",
        "total_tokens": "llm.token_count.total",
        "cached_tokens": "llm.token_count.prompt_details.cache_read",
        "cache_write_tokens": "llm.token_count.prompt_details.cache_write",
        "audio_input_tokens": "llm.token_count.prompt_details.audio",
        "reasoning_tokens": "llm.token_count.completion_details.reasoning",
        "audio_output_tokens": "llm.token_count.completion_details.audio",
    },
    cost={"input": "llm.cost.prompt", "output": "llm.cost.completion", "total": "llm.cost.total"},
    error={"type": "exception.type", "message": "exception.message", "traceback": "exception.stacktrace"},
    payloads={"input": "input.value", "output": "output.value", "metadata": "metadata"},
    tags="tag.tags",
    of_outcome=_annotations,
    of_own=_own,
)
"""The table."""
