"""ContentSwitch: whether inputs and outputs leave the process at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from nat_observability.events import IntermediateStep, Item, SpanEvent, SpanLink, StepKind

PartT = TypeVar("PartT", SpanEvent, SpanLink)

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

# The attributes in which conventions and SDKs put inputs and outputs: OpenTelemetry GenAI (and its first versions),
# OpenInference, OpenLLMetry, Langfuse, MLflow, Logfire, Pydantic AI and Google's ADK. Names that end in a dot stand for
# all that begin with them. Conversations hold both.
_CONVERSATIONS = ("all_messages_events", "gcp.vertex.agent.data", "pydantic_ai.all_messages")
_INPUTS = (
    *_CONVERSATIONS,
    "input.value",
    "embedding.embeddings.",
    "embedding.text",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.tool_call_args",
    "gen_ai.input.messages",
    "gen_ai.prompt",
    "gen_ai.prompt.",
    "gen_ai.retrieval.query.text",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "langfuse.observation.input",
    "langfuse.trace.input",
    "llm.input_messages",
    "llm.input_messages.",
    "llm.prompt_template.",
    "llm.prompts",
    "llm.prompts.",
    "mlflow.spanInputs",
    "reranker.input_documents",
    "reranker.input_documents.",
    "request_data",
    "reranker.query",
    "tool.parameters",
    "tool_arguments",
    "traceloop.entity.input",
)
_OUTPUTS = (
    *_CONVERSATIONS,
    "output.value",
    "final_result",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_response",
    "gen_ai.completion",
    "gen_ai.completion.",
    "gen_ai.output.messages",
    "gen_ai.retrieval.documents",
    "gen_ai.tool.call.result",
    "langfuse.observation.output",
    "langfuse.trace.output",
    "llm.completions",
    "llm.completions.",
    "llm.output_messages",
    "llm.output_messages.",
    "mlflow.spanOutputs",
    "reranker.output_documents",
    "reranker.output_documents.",
    "response_data",
    "retrieval.documents",
    "retrieval.documents.",
    "tool_response",
    "traceloop.entity.output",
)
# Events of the GenAI conventions whose attributes are a message, except those that only say what kind of one.
_INPUT_EVENTS = frozenset(
    {"gen_ai.assistant.message", "gen_ai.system.message", "gen_ai.tool.message", "gen_ai.user.message"}
)
_OUTPUT_EVENTS = frozenset({"gen_ai.choice"})
_OF_MESSAGES = frozenset({"finish_reason", "gen_ai.provider.name", "gen_ai.system", "index", "role"})

Capture = bool | Mapping[StepKind | str, bool]
"""Yes or no for all kinds of steps, or for some; the others are captured."""


class ContentSwitch:
    """
    Removes inputs and outputs, and the attributes in which conventions put them (`gen_ai.input.messages`,
    `output.value`), of events and links too. Names, times, tokens, metadata, other attributes and errors stay.

    Args:
        capture_inputs: Whether inputs are kept.
        capture_outputs: Whether outputs are kept, including chunks.

    Raises:
        UnknownStepKindError: No kind of step has that name.
    """

    __slots__ = ("_no_inputs", "_no_outputs")

    name = "content"

    def __init__(self, *, capture_inputs: Capture = True, capture_outputs: Capture = True) -> None:
        self._no_inputs = _left_out(capture_inputs)
        self._no_outputs = _left_out(capture_outputs)

    def __call__(self, item: Item) -> Item:
        """Return `item` without what is not captured: the same object if nothing is removed."""
        no_input, no_output = item.kind in self._no_inputs, item.kind in self._no_outputs
        if not (no_input or no_output):
            return item
        changes: dict[str, Any] = {}
        if item.attributes is not None or item.events or item.links:
            names = (_INPUTS if no_input else ()) + (_OUTPUTS if no_output else ())
            events = (_INPUT_EVENTS if no_input else frozenset()) | (
                _OUTPUT_EVENTS if no_output else frozenset()
            )
            changes = {
                "attributes": _without(item.attributes, names),
                "events": tuple(_part(each, names, messages=each.name in events) for each in item.events),
                "links": tuple(_part(each, names) for each in item.links),
            }
            if all(getattr(item, field) == value for field, value in changes.items()):
                changes = {}
        if item.input is not None and no_input:
            changes["input"] = None
        if no_output:
            if item.output is not None:
                changes["output"] = None
            if isinstance(item, IntermediateStep) and item.chunk is not None:
                changes["chunk"] = None
        return msgspec.structs.replace(item, **changes) if changes else item

    def __repr__(self) -> str:
        inputs, outputs = (
            f"not {', '.join(sorted(kinds))}" if kinds else "all"
            for kinds in (self._no_inputs, self._no_outputs)
        )
        return f"ContentSwitch(inputs: {inputs}; outputs: {outputs})"


def _part(part: PartT, names: tuple[str, ...], *, messages: bool = False) -> PartT:
    return msgspec.structs.replace(part, attributes=_without(part.attributes, names, messages=messages))


def _without(
    attributes: msgspec.Raw | None, names: tuple[str, ...], *, messages: bool = False
) -> msgspec.Raw | None:
    """Return attributes without those of these names; the same object if it has none of them."""
    if attributes is None:
        return None
    try:
        fields = _object(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the application made it itself, so it may be anything
    prefixes = tuple(name for name in names if name.endswith("."))
    kept = {
        name: value
        for name, value in fields.items()
        if (name in _OF_MESSAGES if messages else not (name in names or name.startswith(prefixes)))
    }
    if len(kept) == len(fields):
        return attributes
    return msgspec.Raw(_encode(kept)) if kept else None


def _left_out(capture: Capture) -> frozenset[StepKind]:
    if isinstance(capture, bool):
        return frozenset() if capture else frozenset(StepKind)
    return frozenset(StepKind.parse(kind) for kind, kept in capture.items() if not kept)
