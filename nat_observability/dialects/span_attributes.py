"""span_attributes(): a span in the words of the OpenTelemetry GenAI conventions and of OpenInference, both at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from nat_observability.dialects.openinference import INDEXED_PREFIXES, openinference_attributes
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage

AttributeValue = str | int | float | bool | tuple[str, ...] | list[Any] | dict[str, Any] | None

_KINDS = {kind: kind.value for kind in StepKind}
_decode = msgspec.json.Decoder().decode

# OpenInference says CHAIN for "a starting point or a link between different LLM application steps", and AGENT for
# "a reasoning block that acts on tools using the guidance of an LLM". A workflow may be either and does not say which,
# so it gets the one that is always true. So do the kinds that OpenInference has no word for.
_OPENINFERENCE_KINDS = {
    StepKind.LLM: "LLM",
    StepKind.TOOL: "TOOL",
    StepKind.WORKFLOW: "CHAIN",
    StepKind.TASK: "CHAIN",
    StepKind.FUNCTION: "CHAIN",
    StepKind.CUSTOM: "CHAIN",
    StepKind.SPAN: "CHAIN",
    StepKind.TTC: "CHAIN",
    StepKind.AGENT: "AGENT",
    StepKind.RETRIEVER: "RETRIEVER",
    StepKind.EMBEDDING: "EMBEDDING",
    StepKind.RERANKER: "RERANKER",
    StepKind.GUARDRAIL: "GUARDRAIL",
    StepKind.EVALUATOR: "EVALUATOR",
    StepKind.PROMPT: "PROMPT",
    StepKind.CHAIN: "CHAIN",
}


def span_attributes(span: Span) -> dict[str, AttributeValue]:
    """
    Return the attributes of a span for OTLP, in a new dict. Ids, times, name and status are not among them.

    - `gen_ai.*`, `error.type`: the OpenTelemetry GenAI conventions, release 0.1.0 of
      https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/client-inference.md,
      execute-tool.md and gen-ai-agent-spans.md). A model call is taken to be a `chat`, and the name of its step to be
      the model's; likewise of an embedding. Model calls, tools, workflows, agents, embeddings and retrievals have an
      operation there. `gen_ai.workflow.name` is that
      release's name for `gen_ai.agent.name`; both are set, for viewers that know the previous one (1.41). What is
      unknown here (`gen_ai.provider.name`) or would repeat the payload in another form (`gen_ai.input.messages`,
      `gen_ai.tool.call.arguments`, all opt-in) is left out.
    - `openinference.*`, `input.*`, `output.*`, `llm.*`, `tool.*`, `session.id`, `user.id`, `metadata`, `tag.tags`,
      `exception.*`: OpenInference, https://arize-ai.github.io/openinference/spec/attributes/semantic-conventions.html
      and the package openinference-semantic-conventions 0.1.42.
    - `nat.*`: the kind of the step and the id of the run, for which neither has a word, under the names that the
      NeMo Agent Toolkit gives them; and each tag of the run, `tenant` as `nat.tag.tenant`.

    Of the messages of a model call, its tools and parameters, a tool's arguments, the texts of embeddings and the
    documents that were found, OpenInference's names are added if the step has attributes of the conventions, such as
    `step.response` and `step.documents` set, and up to 64 KiB of each.

    An attribute that the application set wins over one of the same name that is derived here.

    Counts that no model gives for every call (cached and reasoning tokens, for example) are left out if they are 0. An
    incomplete span has the `error.type` "incomplete", and one that failed without an exception "_OTHER".
    """
    attributes = step_attributes(span.kind, span.name, span.run.workflow_name) | run_attributes(span.run)
    if span.input is not None:
        attributes["input.value"], attributes["input.mime_type"] = _payload(span.input)
    if span.output is not None:
        attributes["output.value"], attributes["output.mime_type"] = _payload(span.output)
    if span.metadata is not None:
        attributes["metadata"] = str(bytes(span.metadata), "utf-8")
    attributes |= outcome_attributes(span)
    if span.attributes is None:
        return attributes
    own = decoded_attributes(span.attributes)
    attributes |= openinference_attributes(span.kind, own, span.input, span.output)
    # The application's own say it as it wants it said.
    return attributes | own


def decoded_attributes(attributes: msgspec.Raw | None) -> dict[str, Any]:
    """Return recorded attributes as Python values. A processor of the application may have made them something else."""
    if attributes is None:
        return {}
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _decode(attributes)
        if isinstance(decoded, dict):
            return decoded
        return {"value": decoded}
    return {"value": bytes(attributes).decode("utf-8", "backslashreplace")}


def is_derived(names: Mapping[str, Any]) -> bool:
    """Whether one of these names is, or may be, that of an attribute that is derived from a span here."""
    return not _DERIVED.isdisjoint(names) or any(name.startswith(_DERIVED_PREFIXES) for name in names)


# The same in four parts, each of which an encoder may cache or write in its own way: the step, the run, the payloads
# (input, output and metadata), and the outcome.

_DERIVED = frozenset(
    {
        "embedding.model_name",
        "error.type",
        "metadata",
        "reranker.model_name",
        "session.id",
        "tag.tags",
        "tool.id",
        "tool.name",
        "tool.parameters",
        "user.id",
    }
)
_DERIVED_PREFIXES = (
    *("exception.", "gen_ai.", "input.", "llm.", "nat.", "openinference.", "output."),
    *INDEXED_PREFIXES,
)


def step_attributes(kind: StepKind, name: str, workflow_name: str | None) -> dict[str, AttributeValue]:
    """Return the attributes shared by every step of this kind and name in a run of that workflow."""
    attributes: dict[str, AttributeValue] = {
        "openinference.span.kind": _OPENINFERENCE_KINDS[kind],
        "nat.span.kind": _KINDS[kind],
    }
    if kind is StepKind.LLM:
        attributes["gen_ai.operation.name"] = "chat"
        attributes["gen_ai.request.model"] = attributes["llm.model_name"] = name
    elif kind is StepKind.TOOL:
        attributes["gen_ai.operation.name"] = "execute_tool"
        attributes["gen_ai.tool.name"] = attributes["tool.name"] = name
    elif kind is StepKind.WORKFLOW:
        attributes["gen_ai.operation.name"] = "invoke_workflow"
        attributes["gen_ai.agent.name"] = attributes["gen_ai.workflow.name"] = workflow_name or name
    elif kind is StepKind.AGENT:
        attributes["gen_ai.operation.name"] = "invoke_agent"
        attributes["gen_ai.agent.name"] = name
    elif kind is StepKind.EMBEDDING:
        attributes["gen_ai.operation.name"] = "embeddings"
        attributes["gen_ai.request.model"] = attributes["embedding.model_name"] = name
    elif kind is StepKind.RETRIEVER:
        attributes["gen_ai.operation.name"] = "retrieval"
    elif kind is StepKind.RERANKER:
        attributes["reranker.model_name"] = name
    return attributes


def run_attributes(run: Run) -> dict[str, AttributeValue]:
    """Return the attributes shared by every span of the run."""
    attributes: dict[str, AttributeValue] = {"nat.workflow.run_id": run.run_id}
    if run.conversation_id is not None:
        attributes["gen_ai.conversation.id"] = attributes["session.id"] = run.conversation_id
    if run.user_id is not None:
        attributes["user.id"] = run.user_id
    for tag, text in run.tags:
        attributes[f"nat.tag.{tag}"] = text
    return attributes


def outcome_attributes(span: Span) -> dict[str, AttributeValue]:
    """Return the attributes of streaming, tags, tokens and errors."""
    attributes: dict[str, AttributeValue] = {}
    if span.first_chunk_ns is not None and span.kind is StepKind.LLM:
        attributes["gen_ai.request.stream"] = True
        attributes["gen_ai.response.time_to_first_chunk"] = (span.first_chunk_ns - span.start_ns) / 1e9
    if span.tags:
        attributes["tag.tags"] = span.tags
    if span.usage is not None:
        _add_usage(attributes, span.usage)
    if span.error is not None or span.status is not Status.OK:
        _add_error(attributes, span)
    return attributes


def _payload(value: str | msgspec.Raw) -> tuple[str, str]:
    if isinstance(value, msgspec.Raw):
        return str(bytes(value), "utf-8"), "application/json"
    return value, "text/plain"


def _add_usage(attributes: dict[str, AttributeValue], usage: TokenUsage) -> None:
    attributes["gen_ai.usage.input_tokens"] = attributes["llm.token_count.prompt"] = usage.prompt_tokens
    attributes["gen_ai.usage.output_tokens"] = attributes["llm.token_count.completion"] = (
        usage.completion_tokens
    )
    attributes["llm.token_count.total"] = usage.total_tokens
    if usage.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        attributes["llm.token_count.prompt_details.cache_read"] = usage.cached_tokens
    if usage.cache_write_tokens:
        attributes["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
        attributes["llm.token_count.prompt_details.cache_write"] = usage.cache_write_tokens
    if usage.audio_input_tokens:
        attributes["llm.token_count.prompt_details.audio"] = usage.audio_input_tokens
    if usage.audio_output_tokens:
        attributes["llm.token_count.completion_details.audio"] = usage.audio_output_tokens
    if usage.image_input_tokens:
        attributes["nat.usage.image_input_tokens"] = usage.image_input_tokens
    if usage.reasoning_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
        attributes["llm.token_count.completion_details.reasoning"] = usage.reasoning_tokens


def _add_error(attributes: dict[str, AttributeValue], span: Span) -> None:
    error = span.error
    if error is None:
        attributes["error.type"] = "incomplete" if span.status is Status.INCOMPLETE else "_OTHER"
        return
    attributes["error.type"] = attributes["exception.type"] = error.type
    attributes["exception.message"] = error.message
    if error.traceback is not None:
        attributes["exception.stacktrace"] = error.traceback
