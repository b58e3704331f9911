"""request_attributes(): the parameters of a call of a model under the conventions' names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from nat_observability.recording.answers.fields import MAX_ITEMS, field, is_given, some_items, text_of

# OpenTelemetry GenAI, docs/gen-ai/client-inference.md and client-embeddings.md; the makers' names for the same.
_NAMES = {
    "dimensions": "gen_ai.embeddings.dimension.count",
    "encoding_format": "gen_ai.request.encoding_formats",
    "frequencyPenalty": "gen_ai.request.frequency_penalty",
    "k": "gen_ai.request.top_k",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_new_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "max_tokens_to_sample": "gen_ai.request.max_tokens",
    "maxOutputTokens": "gen_ai.request.max_tokens",
    "maxTokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "num_predict": "gen_ai.request.max_tokens",
    "outputDimensionality": "gen_ai.embeddings.dimension.count",
    "output_dimension": "gen_ai.embeddings.dimension.count",
    "output_dimensionality": "gen_ai.embeddings.dimension.count",
    "p": "gen_ai.request.top_p",
    "presencePenalty": "gen_ai.request.presence_penalty",
    "previous_response_id": "gen_ai.request.previous_response.id",
    "candidate_count": "gen_ai.request.choice.count",
    "candidateCount": "gen_ai.request.choice.count",
    "random_seed": "gen_ai.request.seed",
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "service_tier": "openai.request.service_tier",
    "stop": "gen_ai.request.stop_sequences",
    "stopSequences": "gen_ai.request.stop_sequences",
    "topK": "gen_ai.request.top_k",
    "topP": "gen_ai.request.top_p",
}
# Parameters that are kept in one more object.
_NESTED = frozenset(
    {
        "config",
        "extra_body",
        "generation_config",
        "generationConfig",
        "inferenceConfig",
        "model_kwargs",
        "options",
    }
)
_LISTS = frozenset({"gen_ai.request.stop_sequences", "gen_ai.request.encoding_formats"})
_INSTRUCTIONS = frozenset({"instructions", "preamble", "system", "system_instruction", "systemInstruction"})
_TOOLS = frozenset({"functions", "tool_config", "toolConfig", "tools"})
_INPUTS = frozenset({"contents", "input", "messages", "prompt"})
_SPECIAL = _NESTED | _TOOLS | _INSTRUCTIONS | _INPUTS | {"response_format", "reasoning"}
_OUTPUT_TYPES = {"json_object": "json", "json_schema": "json", "json": "json", "text": "text"}


def request_attributes(parameters: Mapping[str, Any], *, nested: bool = False) -> dict[str, Any]:
    """Return the parameters of a call under the conventions' names; one without a name there keeps its own."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if not is_given(value):
            continue
        key = None if nested else _key(name)
        if key is not None:
            found[key] = value
        elif name in _NESTED and not nested and (inside := _fields(value)) is not None:
            found |= request_attributes(inside, nested=True)
        elif name in _TOOLS:
            found["gen_ai.tool.definitions"] = tool_definitions(value)
        elif name in _INSTRUCTIONS:
            found["gen_ai.system_instructions"] = _instructions(value)
        elif name in _INPUTS:
            found["gen_ai.input.messages"] = value
        elif name == "response_format" and (kind := _OUTPUT_TYPES.get(text_of(field(value, "type")) or "")):
            found["gen_ai.output.type"] = kind
        elif name == "reasoning" and (effort := text_of(field(value, "effort"))) is not None:
            found["gen_ai.request.reasoning.level"] = effort
        else:
            key = _named(name)
            if key in _LISTS and some_items(value, 1) is None:
                value = [value]
            found[key] = value
    return found


@functools.lru_cache(maxsize=256)
def _key(name: str) -> str | None:
    """Return the name of a parameter whose value is recorded as it is; None if its value may mean something else."""
    return None if name in _SPECIAL or _named(name) in _LISTS else _named(name)


def _named(name: str) -> str:
    return _NAMES.get(name, f"gen_ai.request.{name}")


def _fields(value: object) -> dict[str, Any] | None:
    held = value if isinstance(value, dict) else field(value, "__dict__")
    return dict(held) if isinstance(held, dict) else None


def _instructions(value: object) -> list[Any]:
    parts: list[Any] = []
    listed = some_items(value)
    for each in [value] if listed is None else listed:
        text = text_of(each) if text_of(each) is not None else text_of(field(each, "text", "content"))
        parts.append(each if text is None else {"type": "text", "content": text})
    return parts


def tool_definitions(tools: object) -> list[Any]:
    """Return tools as the conventions' `gen_ai.tool.definitions`, whichever maker's or framework's they are."""
    found: list[Any] = []
    inside = some_items(field(tools, "tools"))
    listed = some_items(tools) if inside is None else inside
    for tool in [tools] if listed is None else listed:
        several = some_items(field(tool, "function_declarations", "functionDeclarations"))
        found += map(_definition, [tool] if several is None else several)
        if len(found) >= MAX_ITEMS:
            break
    return found


def _definition(tool: object) -> Any:
    held = field(tool, "function", "toolSpec")
    kind = text_of(field(tool, "type"))
    tool_is = tool if held is None else held
    name = text_of(field(tool_is, "name"))
    if name is None and callable(tool):
        return {"type": "function", "name": field(tool, "__name__"), **_described(field(tool, "__doc__"))}
    if name is None or (kind not in (None, "function", "custom") and held is None):
        return tool  # one of the maker's own, with its own type
    schema = field(tool_is, "parameters", "input_schema", "inputSchema", "parameters_json_schema")
    inner = field(schema, "json") if isinstance(schema, dict) else None
    definition = {"type": "function", "name": name, **_described(field(tool_is, "description"))}
    if schema is not None:
        definition["parameters"] = schema if inner is None else inner
    return definition


def _described(description: object) -> dict[str, str]:
    text = text_of(description)
    return {"description": text.strip()} if text and text.strip() else {}
