"""LANGFUSE: a span in Langfuse's own words, so that it counts no token twice and finds metadata and tags."""

# What its ingestion reads: langfuse/langfuse, packages/shared/src/server/otel: attributes.ts, ObservationTypeMapper.ts
# and OtelIngestionProcessor.ts, as of August 2026. `usage_details` wins over both vocabularies of tokens.

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from nat_observability.dialects.dialect import Attributes, Dialect
from nat_observability.events import Run, Span, StepKind, TokenCost, TokenUsage
from nat_observability.resource import Resource

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_MOST_SCORES = 100
_VERSION = re.compile(r"[0-9]{1,18}")  # which fits into an integer of OTLP

_TYPES = {
    **dict.fromkeys(StepKind, "span"),
    StepKind.LLM: "generation",
    StepKind.EMBEDDING: "embedding",
    StepKind.AGENT: "agent",
    StepKind.TOOL: "tool",
    StepKind.CHAIN: "chain",
    StepKind.WORKFLOW: "chain",
    StepKind.RETRIEVER: "retriever",
    StepKind.EVALUATOR: "evaluator",
    StepKind.GUARDRAIL: "guardrail",
}


def usage_details(usage: TokenUsage) -> str:
    """Return counts of which none is part of another, as Langfuse adds them up, as a JSON object."""
    given, result = usage.prompt_tokens, usage.completion_tokens
    parts = ""
    if count := usage.cached_tokens:
        given -= count
        parts = f',"input_cached_tokens":{count}'
    if count := usage.cache_write_tokens:
        given -= count
        parts += f',"input_cache_creation":{count}'
    if count := usage.audio_input_tokens:
        given -= count
        parts += f',"input_audio_tokens":{count}'
    if count := usage.image_input_tokens:
        given -= count
        parts += f',"input_image_tokens":{count}'
    if count := usage.reasoning_tokens:
        result -= count
        parts += f',"output_reasoning_tokens":{count}'
    if count := usage.audio_output_tokens:
        result -= count
        parts += f',"output_audio_tokens":{count}'
    return f'{{"input":{max(given, 0)},"output":{max(result, 0)}{parts},"total":{usage.total_tokens}}}'


def _cost_details(cost: TokenCost) -> dict[str, float]:
    return {"input": cost.input, "output": cost.output, "total": cost.total}


@lru_cache(64)
def _second(second: int) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00"


def _run(run: Run) -> Attributes:
    found: Attributes = {f"langfuse.trace.metadata.{name}": text for name, text in run.tags}
    if run.tags:
        found["langfuse.trace.tags"] = tuple(f"{name}:{text}" for name, text in run.tags)
    return found


def _outcome(span: Span) -> Attributes:
    found: Attributes = {}
    if span.first_chunk_ns is not None:
        second, nanoseconds = divmod(span.first_chunk_ns, 10**9)
        found["langfuse.observation.completion_start_time"] = f"{_second(second)}.{nanoseconds // 1000:06d}Z"
    if span.usage is not None:
        found["langfuse.observation.usage_details"] = usage_details(span.usage)
    if span.cost is not None:
        found["langfuse.observation.cost_details"] = _json(_cost_details(span.cost))
    if span.tags and span.run.tags:
        # Of the same name as those of the run, which it replaces.
        found["langfuse.trace.tags"] = (*(f"{name}:{text}" for name, text in span.run.tags), *span.tags)
    for event in span.events[:_MOST_SCORES]:
        if event.name == "gen_ai.evaluation.result" and event.attributes is not None:
            found |= _score(_object(event.attributes))
    return found


def _score(told: dict[str, Any]) -> Attributes:
    # It takes scores by another way only; in the metadata they can be seen and searched for.
    name = told.get("gen_ai.evaluation.name")
    value = told.get("gen_ai.evaluation.score.value", told.get("gen_ai.evaluation.score.label"))
    if not isinstance(name, str) or not isinstance(value, str | int | float):
        return {}
    return {f"langfuse.observation.metadata.score.{name}": value}


def _own(_: Span, own: dict[str, Any]) -> Attributes:
    found: Attributes = {}
    for attribute in ("gen_ai.response.model", "gen_ai.request.model"):
        if isinstance(model := own.get(attribute), str):
            found["langfuse.observation.model.name"] = model
            break
    parameters = {
        name.removeprefix("gen_ai.request."): value
        for name, value in own.items()
        if name.startswith("gen_ai.request.") and name != "gen_ai.request.model"
    }
    if parameters:
        found["langfuse.observation.model.parameters"] = _json(parameters)
    if isinstance(prompt := own.get("gen_ai.prompt.name"), str):
        found["langfuse.observation.prompt.name"] = prompt
        # A number there: a version that is not one has no place.
        if _VERSION.fullmatch(version := str(own.get("gen_ai.prompt.version"))):
            found["langfuse.observation.prompt.version"] = int(version)
    return found


def langfuse_resource(resource: Resource) -> Resource:
    """Return the resource with what Langfuse calls environment, release and version."""
    added = {
        "langfuse.environment": resource.get("deployment.environment.name")
        or resource.get("deployment.environment"),
        "langfuse.release": resource.get("service.version"),
    }
    return {name: text for name, text in added.items() if text} | dict(resource)


def _json(value: object) -> str:
    return _encode(value).decode()


def _object(attributes: msgspec.Raw) -> dict[str, Any]:
    try:
        decoded = _decode(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}  # the application made it itself
    return decoded if isinstance(decoded, dict) else {}


LANGFUSE = Dialect(
    name="langfuse",
    prefixes=("langfuse.", "session.id", "user.id"),
    kinds={kind: {"langfuse.observation.type": word} for kind, word in _TYPES.items()},
    named={
        StepKind.LLM: ("langfuse.observation.model.name",),
        StepKind.EMBEDDING: ("langfuse.observation.model.name",),
    },
    run={"conversation_id": "session.id", "user_id": "user.id", "workflow_name": "langfuse.trace.name"},
    of_run=_run,
    payloads={
        "input": "langfuse.observation.input",
        "output": "langfuse.observation.output",
        "metadata": "langfuse.observation.metadata",
    },
    tags="langfuse.trace.tags",
    of_outcome=_outcome,
    of_own=_own,
)
"""The table."""
