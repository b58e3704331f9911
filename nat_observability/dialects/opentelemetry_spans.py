"""mapped(): what the attributes of an instrumentation's span say about a step; imports no OpenTelemetry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from nat_observability.events import Captured, StepKind, TokenUsage
from nat_observability.recording.answers import token_usage
from nat_observability.recording.capture import capture, capture_label, capture_text

# WORKFLOW is for spans that say so themselves, because a workflow's step stands for the whole run.
_KINDS: Mapping[str, Mapping[str, StepKind]] = {
    # OpenInference: https://arize-ai.github.io/openinference/spec/attributes/semantic-conventions.html
    "openinference.span.kind": {
        "agent": StepKind.AGENT,
        "chain": StepKind.CHAIN,
        "embedding": StepKind.EMBEDDING,
        "evaluator": StepKind.EVALUATOR,
        "guardrail": StepKind.GUARDRAIL,
        "llm": StepKind.LLM,
        "prompt": StepKind.PROMPT,
        "reranker": StepKind.RERANKER,
        "retriever": StepKind.RETRIEVER,
        "tool": StepKind.TOOL,
    },
    # OpenTelemetry GenAI, docs/gen-ai/gen-ai-spans.md of the semantic conventions
    "gen_ai.operation.name": {
        "chat": StepKind.LLM,
        "create_agent": StepKind.FUNCTION,
        "embeddings": StepKind.EMBEDDING,
        "execute_tool": StepKind.TOOL,
        "generate_content": StepKind.LLM,
        "invoke_agent": StepKind.AGENT,
        "invoke_workflow": StepKind.WORKFLOW,
        "plan": StepKind.TASK,
        "retrieval": StepKind.RETRIEVER,
        "search_memory": StepKind.RETRIEVER,
        "text_completion": StepKind.LLM,
    },
    # OpenLLMetry: opentelemetry.semconv_ai, TraceloopSpanKindValues and LLMRequestTypeValues
    "traceloop.span.kind": {
        "agent": StepKind.AGENT,
        "task": StepKind.TASK,
        "tool": StepKind.TOOL,
        "workflow": StepKind.WORKFLOW,
    },
    "llm.request.type": {
        "chat": StepKind.LLM,
        "completion": StepKind.LLM,
        "embedding": StepKind.EMBEDDING,
        "rerank": StepKind.RERANKER,
    },
    # Langfuse's SDK: its observation types; "span" and "event" are kinds of none of ours
    "langfuse.observation.type": {
        "agent": StepKind.AGENT,
        "chain": StepKind.CHAIN,
        "embedding": StepKind.EMBEDDING,
        "evaluator": StepKind.EVALUATOR,
        "generation": StepKind.LLM,
        "guardrail": StepKind.GUARDRAIL,
        "retriever": StepKind.RETRIEVER,
        "tool": StepKind.TOOL,
    },
    # LangSmith's SDK
    "langsmith.span.kind": {
        "chain": StepKind.CHAIN,
        "embedding": StepKind.EMBEDDING,
        "llm": StepKind.LLM,
        "prompt": StepKind.PROMPT,
        "retriever": StepKind.RETRIEVER,
        "tool": StepKind.TOOL,
    },
    # MLflow's SDK, which has each value as JSON: mlflow.entities.SpanType
    "mlflow.spanType": {
        "agent": StepKind.AGENT,
        "chain": StepKind.CHAIN,
        "chat_model": StepKind.LLM,
        "embedding": StepKind.EMBEDDING,
        "evaluator": StepKind.EVALUATOR,
        "guardrail": StepKind.GUARDRAIL,
        "llm": StepKind.LLM,
        "reranker": StepKind.RERANKER,
        "retriever": StepKind.RETRIEVER,
        "task": StepKind.TASK,
        "tool": StepKind.TOOL,
        "workflow": StepKind.WORKFLOW,
    },
    # Vercel's AI SDK: a call of a function has the calls of models in it
    "ai.operationId": {
        "ai.embed": StepKind.CHAIN,
        "ai.embed.doembed": StepKind.EMBEDDING,
        "ai.embedmany": StepKind.CHAIN,
        "ai.embedmany.doembed": StepKind.EMBEDDING,
        "ai.generateobject": StepKind.CHAIN,
        "ai.generateobject.dogenerate": StepKind.LLM,
        "ai.generatetext": StepKind.CHAIN,
        "ai.generatetext.dogenerate": StepKind.LLM,
        "ai.streamobject": StepKind.CHAIN,
        "ai.streamobject.dostream": StepKind.LLM,
        "ai.streamtext": StepKind.CHAIN,
        "ai.streamtext.dostream": StepKind.LLM,
        "ai.toolcall": StepKind.TOOL,
    },
}
# Of a span that none of these names, because the first GenAI conventions had no operation: attributes that only spans
# of such a kind had.
_IMPLIED = {"gen_ai.tool.name": StepKind.TOOL, "gen_ai.request.model": StepKind.LLM}
# The first one present counts; the others say the same in another form.
_INPUTS = (
    "input.value",
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.retrieval.query.text",
    "traceloop.entity.input",
    "gen_ai.prompt",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "ai.prompt.messages",
    "ai.prompt",
    "ai.toolCall.args",
    "ai.value",
    "ai.values",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.tool_call_args",
    "tool_arguments",  # Pydantic AI
    "request_data",  # Logfire
)
_OUTPUTS = (
    "output.value",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.documents",
    "traceloop.entity.output",
    "gen_ai.completion",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "ai.response.text",
    "ai.response.object",
    "ai.response.toolCalls",
    "ai.toolCall.result",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_response",
    "tool_response",
    "response_data",
)
# The same in flat attributes, `llm.input_messages.0.message.role`, and the part to leave out of their keys.
_FLAT_INPUTS: Mapping[StepKind, tuple[tuple[str, str], ...]] = {
    StepKind.LLM: (("llm.input_messages.", "message"), ("gen_ai.prompt.", "")),
    StepKind.EMBEDDING: (("embedding.embeddings.", "embedding"), ("gen_ai.prompt.", "")),
    StepKind.RERANKER: (("reranker.input_documents.", "document"),),
}
_FLAT_OUTPUTS: Mapping[StepKind, tuple[tuple[str, str], ...]] = {
    StepKind.LLM: (("llm.output_messages.", "message"), ("gen_ai.completion.", "")),
    StepKind.RERANKER: (("reranker.output_documents.", "document"),),
    StepKind.RETRIEVER: (("retrieval.documents.", "document"),),
}
_USAGE: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (
        "llm.token_count.prompt",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
    ),
    "completion_tokens": (
        "llm.token_count.completion",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "cached_tokens": (
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "ai.usage.cachedInputTokens",
    ),
    "reasoning_tokens": (
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "ai.usage.reasoningTokens",
    ),
    "cache_write_tokens": (
        "llm.token_count.prompt_details.cache_write",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
    ),
    "audio_input_tokens": ("llm.token_count.prompt_details.audio", "gen_ai.usage.audio.input_tokens"),
    "audio_output_tokens": ("llm.token_count.completion_details.audio", "gen_ai.usage.audio.output_tokens"),
    "image_input_tokens": ("gen_ai.usage.image.input_tokens",),
    "total_tokens": (
        "llm.token_count.total",
        "gen_ai.usage.total_tokens",
        "llm.usage.total_tokens",
        "ai.usage.totalTokens",
    ),
}
# JSON objects of counts, and the fields of usage, by a part of their names. No token is in two of Langfuse's.
_OF_LANGFUSE = "langfuse.observation.usage_details"
_USAGE_OBJECTS = (_OF_LANGFUSE, "mlflow.chat.tokenUsage")
_PARTS = {
    "creation": "cache_write_tokens",
    "write": "cache_write_tokens",
    "cache": "cached_tokens",
    "reasoning": "reasoning_tokens",
}
_CONVERSATIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "langsmith.trace.session_id",
    "traceloop.association.properties.session_id",
    "ai.telemetry.metadata.sessionId",
)
_USERS = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
)
_TAGS = ("tag.tags", "langfuse.trace.tags", "logfire.tags")
_TAGS_WITH_COMMAS = "langsmith.span.tags"
_METADATA = ("metadata", "langfuse.observation.metadata", "langfuse.trace.metadata")
_MAX_ID = 256  # characters, as of an id in a header
_WORDS = frozenset(
    {
        *(*_KINDS, *_IMPLIED, *_INPUTS, *_OUTPUTS),
        *(*_CONVERSATIONS, *_USERS, *_TAGS, _TAGS_WITH_COMMAS, *_METADATA),
    }
)
"""One of these has a span that says anything; numbered attributes and counts are only read beside a kind."""

_INDEX = re.compile(r"(\d{1,6})\.(.+)", re.ASCII)


class Mapped(NamedTuple):
    """
    What attributes say about a step, and the conversation and the user of its run.

    `metadata` is what the instrumentation itself calls so, if it is an object.
    """

    kind: StepKind
    input: Captured
    output: Captured
    usage: TokenUsage | None
    tags: tuple[str, ...]
    metadata: msgspec.Raw | None
    conversation_id: str | None = None
    user_id: str | None = None


_NOTHING = Mapped(StepKind.SPAN, None, None, None, (), None)


def mapped(attributes: Mapping[str, Any]) -> Mapped:
    """
    Return the step that a span with these attributes describes. Never raises.

    OpenInference, the OpenTelemetry GenAI conventions, OpenLLMetry (Traceloop), Langfuse, LangSmith, MLflow, Logfire
    and Vercel's AI SDK are known; a span of any other instrumentation is of kind SPAN. Token counts are a step's usage
    if it is a model call; an agent's span repeats those of its model calls.
    """
    if _WORDS.isdisjoint(attributes):
        return _NOTHING
    kind = _kind(attributes)
    usage = None
    if kind is StepKind.LLM or kind is StepKind.EMBEDDING:
        counts = {field: _first(attributes, keys) for field, keys in _USAGE.items()}
        if not any(count is not None for count in counts.values()):
            counts = _counts_in_json(attributes)
        if any(count is not None for count in counts.values()):  # a call that failed has none
            usage = token_usage(counts)
    return Mapped(
        kind,
        _payload(attributes, _INPUTS, _FLAT_INPUTS.get(kind, ())),
        _payload(attributes, _OUTPUTS, _FLAT_OUTPUTS.get(kind, ())),
        usage,
        _tags(attributes),
        _metadata(_first(attributes, _METADATA)),
        _id(_first(attributes, _CONVERSATIONS)),
        _id(_first(attributes, _USERS)),
    )


def _kind(attributes: Mapping[str, Any]) -> StepKind:
    for key, kinds in _KINDS.items():
        said = attributes.get(key)
        if isinstance(said, str) and (kind := kinds.get(said.strip('"').lower())) is not None:
            return kind
    if "gen_ai.operation.name" in attributes:
        return StepKind.SPAN
    return next((kind for key, kind in _IMPLIED.items() if key in attributes), StepKind.SPAN)


def _first(attributes: Mapping[str, Any], keys: Iterable[str]) -> Any:
    for key in keys:
        if key in attributes:
            return attributes[key]
    return None


def _payload(attributes: Mapping[str, Any], keys: Iterable[str], flat: Iterable[tuple[str, str]]) -> Captured:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            # "text/plain" may look like JSON, a number for instance; all other text is JSON by convention, if it is
            # well-formed.
            mime = attributes.get(key.replace(".value", ".mime_type")) if key.endswith(".value") else None
            if isinstance(value, str):
                if value[:1] == '"' and key.startswith("mlflow."):
                    return capture(decoded_json(value))
                return _json_or_text(value) if mime == "application/json" or mime is None else capture(value)
            return capture(value)
    for prefix, left_out in flat:
        messages = _messages(attributes, prefix, left_out)
        if messages:
            return capture(messages)
    return None


def _json_or_text(value: str) -> Captured:
    if value[:1] not in ("{", "["):
        return capture_text(value)
    try:
        encoded = value.encode()
        msgspec.json.decode(encoded)
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        return capture_text(value)
    return msgspec.Raw(encoded)


def _messages(attributes: Mapping[str, Any], prefix: str, left_out: str) -> list[dict[str, Any]]:
    by_index: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(prefix) and (match := _INDEX.fullmatch(key, len(prefix))) is not None:
            by_index.setdefault(int(match[1]), {})[match[2].removeprefix(f"{left_out}.")] = value
    return [by_index[index] for index in sorted(by_index)]


def _metadata(value: Any) -> msgspec.Raw | None:
    # JSON that had to become text to be an attribute.
    found = _json_or_text(value) if isinstance(value, str) else None
    return found if isinstance(found, msgspec.Raw) and bytes(found)[:1] == b"{" else None


def decoded_json(text: Any) -> Any:
    """Return what a text is as JSON; the text if it is not JSON, and any other value as it is."""
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else text
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        return text


def _counts_in_json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    details = decoded_json(_first(attributes, _USAGE_OBJECTS))
    found: dict[str, Any] = {}
    for name, count in details.items() if isinstance(details, dict) else ():
        if type(count) is not int:
            continue
        if name in ("total", "total_tokens"):
            found["total_tokens"] = count
            continue
        field = next((field for part, field in _PARTS.items() if part in name), None)
        if field is not None:
            found[field] = found.get(field, 0) + count
        if field is None or _OF_LANGFUSE in attributes:
            is_given = "input" in name or "prompt" in name
            side = "prompt_tokens" if is_given else "completion_tokens"
            found[side] = found.get(side, 0) + count
    return found


def _id(value: Any) -> str | None:
    return capture_label(value[:_MAX_ID]) if isinstance(value, str) and value else None


def _tags(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    value = _first(attributes, _TAGS)
    if value is None and isinstance(listed := attributes.get(_TAGS_WITH_COMMAS), str):
        value = [tag for each in listed.split(",") if (tag := each.strip())]
    if isinstance(value, str):
        return (capture_label(value),)
    if isinstance(value, Iterable):
        return tuple(capture_label(each) for each in value)
    return ()
