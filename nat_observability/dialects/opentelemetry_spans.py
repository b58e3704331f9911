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
}
# The first one present counts; the others say the same in another form.
_INPUTS = (
    "input.value",
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "traceloop.entity.input",
    "gen_ai.prompt",
)
_OUTPUTS = (
    "output.value",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "traceloop.entity.output",
    "gen_ai.completion",
)
# The same in flat attributes, `llm.input_messages.0.message.role`, and the part to leave out of their keys.
_FLAT_INPUTS = (("llm.input_messages.", "message"), ("gen_ai.prompt.", ""))
_FLAT_OUTPUTS = (("llm.output_messages.", "message"), ("gen_ai.completion.", ""))
_USAGE: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (
        "llm.token_count.prompt",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
    ),
    "completion_tokens": (
        "llm.token_count.completion",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
    ),
    "cached_tokens": (
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
    ),
    "reasoning_tokens": (
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
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
    "total_tokens": ("llm.token_count.total", "gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
}
_INDEX = re.compile(r"(\d{1,6})\.(.+)", re.ASCII)


class Mapped(NamedTuple):
    """What attributes say about a step. `metadata` is what the instrumentation itself calls so, if it is an object."""

    kind: StepKind
    input: Captured
    output: Captured
    usage: TokenUsage | None
    tags: tuple[str, ...]
    metadata: msgspec.Raw | None


def mapped(attributes: Mapping[str, Any]) -> Mapped:
    """
    Return the step that a span with these attributes describes. Never raises.

    OpenInference, the OpenTelemetry GenAI conventions and OpenLLMetry (Traceloop) are known; a span of any other
    instrumentation is of kind SPAN. Token counts are a step's usage if it is a model call; an agent's span repeats
    those of its model calls.
    """
    if not attributes:
        return Mapped(StepKind.SPAN, None, None, None, (), None)
    kind = _kind(attributes)
    usage = None
    if kind is StepKind.LLM or kind is StepKind.EMBEDDING:
        counts = {field: _first(attributes, keys) for field, keys in _USAGE.items()}
        if any(count is not None for count in counts.values()):  # a call that failed has none
            usage = token_usage(counts)
    return Mapped(
        kind,
        _payload(attributes, _INPUTS, _FLAT_INPUTS if kind is StepKind.LLM else ()),
        _payload(attributes, _OUTPUTS, _FLAT_OUTPUTS if kind is StepKind.LLM else ()),
        usage,
        _tags(attributes.get("tag.tags")),
        _metadata(attributes.get("metadata")),
    )


def _kind(attributes: Mapping[str, Any]) -> StepKind:
    for key, kinds in _KINDS.items():
        said = attributes.get(key)
        if isinstance(said, str) and (kind := kinds.get(said.lower())) is not None:
            return kind
    return StepKind.SPAN


def _first(attributes: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((attributes[key] for key in keys if key in attributes), None)


def _payload(attributes: Mapping[str, Any], keys: Iterable[str], flat: Iterable[tuple[str, str]]) -> Captured:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            # "text/plain" may look like JSON, a number for instance; all other text is JSON by convention, if it is
            # well-formed.
            mime = attributes.get(key.replace(".value", ".mime_type")) if key.endswith(".value") else None
            if isinstance(value, str):
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


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (capture_label(value),)
    if isinstance(value, Iterable):
        return tuple(capture_label(each) for each in value)
    return ()
