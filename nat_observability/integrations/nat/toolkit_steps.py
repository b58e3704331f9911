"""The toolkit's steps: read_step() takes one of them as ours, write_step() makes one of them of ours."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

from nat_observability.events import Boundary, Captured, IntermediateStep, StepKind
from nat_observability.integrations.nat.event_lines import NatLine, parse_json
from nat_observability.recording.capture import capture_json, holds_generator

ROOT = "root"
"""The toolkit's name for what encloses the outermost step of a run."""

_CHUNK = Boundary.CHUNK
# The toolkit has a word for the chunks of these kinds alone.
_CHUNKS = {StepKind.LLM: "LLM_NEW_TOKEN", StepKind.SPAN: "SPAN_CHUNK"}

# The toolkit has no words for these kinds.
_KINDS = dict.fromkeys(
    (
        StepKind.AGENT,
        StepKind.RETRIEVER,
        StepKind.EMBEDDING,
        StepKind.RERANKER,
        StepKind.GUARDRAIL,
        StepKind.EVALUATOR,
        StepKind.PROMPT,
        StepKind.CHAIN,
    ),
    StepKind.FUNCTION,
)
# The toolkit counts no others.
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")

_decode = msgspec.json.Decoder().decode


def read_step(foreign: Any) -> NatLine:
    """
    Read a step of the toolkit's, as if its file exporter had written it.

    Raises:
        NatLineError: It is none.
    """
    payload, text = foreign.payload, None
    # Foreign code: a value that pydantic cannot write, and for which the toolkit has no line.
    with suppress(Exception):
        if not holds_generator(payload.data, payload.metadata, payload.model_extra):
            text = foreign.model_dump_json(warnings=False)
    if text is not None:
        return parse_json(text)
    step = {
        "parent_id": foreign.parent_id,
        "function_ancestry": foreign.function_ancestry,
        "payload": dict(payload),
    }
    return parse_json(capture_json(step))


def write_step(step: IntermediateStep, function_ancestry: object) -> Any:
    """
    Write a step of ours as one of the toolkit's; None where the toolkit has no word for it.

    Args:
        function_ancestry: The toolkit's function that is active.
    """
    words = _words()
    if step.boundary is _CHUNK:
        event_type = _CHUNKS.get(step.kind)
        if event_type is None:
            return None
    else:
        event_type = f"{_KINDS.get(step.kind, step.kind).value}_{step.boundary.value}"
    metadata = _plain(step.metadata)
    if metadata is not None and not isinstance(metadata, dict):
        metadata = {"metadata": metadata}
    if step.attributes is not None:
        metadata = {**(metadata or {}), "attributes": _plain(step.attributes)}
    if step.error is not None:
        metadata = {**(metadata or {}), "error": {"type": step.error.type, "message": step.error.message}}
    usage = None
    if step.usage is not None:
        usage = words.UsageInfo(
            token_usage=words.TokenUsageBaseModel(**{field: getattr(step.usage, field) for field in _TOKENS}),
            num_llm_calls=int(step.kind is StepKind.LLM),
        )
    return words.IntermediateStep(
        parent_id=step.parent_id or ROOT,
        function_ancestry=function_ancestry,
        payload=words.IntermediateStepPayload(
            event_type=event_type,
            event_timestamp=step.time_ns / 1e9,
            name=step.name,
            tags=list(step.tags) or None,
            metadata=metadata,
            data=words.StreamEventData(
                input=_plain(step.input), output=_plain(step.output), chunk=_plain(step.chunk)
            ),
            usage_info=usage,
            UUID=step.step_id,
        ),
    )


@lru_cache(maxsize=1)
def _words() -> Any:
    # Only where a run of the toolkit is under way, and it is imported.
    from nat.data_models import intermediate_step

    return intermediate_step


def _plain(value: Captured) -> Any:
    return _decode(value) if isinstance(value, msgspec.Raw) else value
