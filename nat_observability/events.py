"""Steps and spans: the frozen data that goes from a run to its exporters; no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from nat_observability.errors import UnknownStepKindError

Captured = str | msgspec.Raw | None
"""A recorded value: text as it was, anything else as its JSON at that moment, or nothing."""


class SpanKind(StrEnum):
    """A span's role in a call between two services, in OpenTelemetry's words."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class StepKind(StrEnum):
    """
    What a step is, in the categories of the reference toolkit and of OpenInference.

    Attributes:
        span_kind: The role of such a step unless it says otherwise. The GenAI conventions want CLIENT for calls of
            models and of data sources.
    """

    span_kind: SpanKind

    LLM = "LLM"
    TOOL = "TOOL"
    WORKFLOW = "WORKFLOW"
    TASK = "TASK"
    FUNCTION = "FUNCTION"
    CUSTOM = "CUSTOM"
    SPAN = "SPAN"
    TTC = "TTC"
    AGENT = "AGENT"
    RETRIEVER = "RETRIEVER"
    EMBEDDING = "EMBEDDING"
    RERANKER = "RERANKER"
    GUARDRAIL = "GUARDRAIL"
    EVALUATOR = "EVALUATOR"
    PROMPT = "PROMPT"
    CHAIN = "CHAIN"

    @classmethod
    def parse(cls, kind: object) -> StepKind:
        """
        Return the kind of this name, in any case.

        Raises:
            UnknownStepKindError: The kind does not exist.
        """
        known = STEP_KINDS.get(kind.lower()) if isinstance(kind, str) else None
        if known is None:
            upper = isinstance(kind, str) and kind.isupper()  # so that the nearest name is found
            raise UnknownStepKindError(kind, [each.value if upper else each.value.lower() for each in cls])
        return known


for _kind in StepKind:
    # An attribute and not a property: `step` reads it each time.
    _calls = _kind in (StepKind.LLM, StepKind.EMBEDDING, StepKind.RETRIEVER)
    _kind.span_kind = SpanKind.CLIENT if _calls else SpanKind.INTERNAL


STEP_KINDS: Final[Mapping[str, StepKind]] = {
    name: kind for kind in StepKind for name in (kind.value, kind.value.lower())
}
"""By name, in upper and lower case: for `step`, which cannot afford a call."""


class Boundary(StrEnum):
    """Which moment of a step an `IntermediateStep` stands for."""

    START = "START"
    CHUNK = "CHUNK"
    END = "END"


class Status(StrEnum):
    """How a span ended."""

    OK = "ok"
    ERROR = "error"
    INCOMPLETE = "incomplete"


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """
    Tokens that a model call used. `total_tokens` is prompt plus completion unless the model says otherwise.

    The others are parts of these two: `cached_tokens` (read from a cache), `cache_write_tokens`, `audio_input_tokens`
    and `image_input_tokens` of the prompt, `reasoning_tokens` and `audio_output_tokens` of the completion. 0 is also
    what a model does not say.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0


class ErrorDetails(msgspec.Struct, frozen=True, gc=False):
    """The exception that ended a step: its class, its message and its traceback as text."""

    type: str
    message: str
    traceback: str | None = None


class SpanEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Something that happened at one moment of a step.

    `time_ns` is nanoseconds since the epoch. `attributes` is a JSON object, as those of a span. What went over the
    limits is counted in `dropped_attributes_count`.
    """

    name: str
    time_ns: int
    attributes: msgspec.Raw | None = None
    dropped_attributes_count: int = 0


class SpanLink(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Another span, of any trace, that a step is related to without being its child.

    `trace_id` is 32 lower-case hex digits and `span_id` 16; `trace_flags` and `trace_state` are those of the W3C
    headers. `attributes` is a JSON object, as those of a span. What went over the limits is counted in
    `dropped_attributes_count`. `is_remote` says whether its context came from another process, if that is known.
    """

    trace_id: str
    span_id: str
    attributes: msgspec.Raw | None = None
    trace_state: str | None = None
    trace_flags: int = 0
    dropped_attributes_count: int = 0
    is_remote: bool | None = None


class SpanOrigin(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    What a span has beside its attributes if another instrumentation made it, and no `step` of ours.

    Attributes:
        scope_name: The instrumentation scope's name.
        scope_version: Its version.
        scope_attributes: Its attributes, a JSON object as those of a span.
        schema_url: The schema of the conventions that the instrumentation follows.
        trace_state: Of its own context, as in the W3C header.
        ok: Whether its status was set to OK, and not left unset.
        retyped: Where its attributes, or those of its events, links and scope, have a value that JSON has no type for,
            and what it was: "bytes" that are recorded as UTF-8, "latin-1" for other bytes, "double" for NaN or an
            infinity. A place is names and indices with a line feed between two: `attributes`, `a.b`, `0`. In a name a
            line feed is `\\n` and a backslash `\\\\`.
        trace_flags: Of its own context, as in the W3C header.
        parent_is_remote: Whether the context of its parent came from another process, or as if from one.
    """

    scope_name: str = ""
    scope_version: str | None = None
    scope_attributes: msgspec.Raw | None = None
    schema_url: str | None = None
    trace_state: str | None = None
    ok: bool = False
    retyped: tuple[tuple[str, str], ...] = ()
    trace_flags: int = 1
    parent_is_remote: bool = False


class TokenCost(msgspec.Struct, frozen=True, gc=False):
    """What a model call cost, by the user's own prices and in their currency; `total` is `input` plus `output`."""

    input: float = 0.0
    output: float = 0.0
    total: float = 0.0


class Run(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    The ids of one run; every step and span of the run points at the same object.

    `trace_id` is 32 lower-case hex digits, `parent_span_id` 16 (the span of another service that this run continues,
    from its `traceparent`). `tags` are pairs of name and value, sorted by name, each name once; look one up with
    `dict(run.tags)`.
    """

    run_id: str
    trace_id: str
    conversation_id: str | None = None
    user_id: str | None = None
    workflow_name: str | None = None
    parent_span_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


class IntermediateStep(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    One boundary of a step.

    `step_id` is shared by the START, the CHUNKs and the END of one step; `parent_id` is the step_id of the
    enclosing step, None at the top of a run. `time_ns` is nanoseconds since the epoch.

    `attributes`, `links` and `span_kind` of a START are those that the step begins with. An END has what was added
    since: attributes of the same name replace the START's; and the `status` and `status_message`, if they were set.
    With an `origin`, it has everything, and replaces what the START had.
    """

    run: Run
    kind: StepKind
    boundary: Boundary
    name: str
    step_id: str
    parent_id: str | None
    time_ns: int
    input: Captured = None
    output: Captured = None
    chunk: Captured = None
    metadata: msgspec.Raw | None = None
    tags: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    error: ErrorDetails | None = None
    attributes: msgspec.Raw | None = None
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    span_kind: SpanKind | None = None
    status: Status | None = None
    status_message: str | None = None
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0
    origin: SpanOrigin | None = None


class Span(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    A finished step: its START and its END joined.

    `status` is INCOMPLETE if the run ended before the step did; `end_ns` is then the run's end. `output` is what the
    step set, or its chunks joined. `first_chunk_ns` is when its first chunk came.

    `attributes` is a JSON object with the names that were given, dots and all, and typed values; NaN and the infinities
    are the texts "NaN", "Infinity" and "-Infinity", bytes are text if they are UTF-8. What went over the limits is
    counted in `dropped_attributes_count`, `dropped_events_count` and `dropped_links_count`.

    `origin` is set if another instrumentation made the span, and `cost` if the process has a price for its model.
    """

    run: Run
    kind: StepKind
    name: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    status: Status
    input: Captured = None
    output: Captured = None
    metadata: msgspec.Raw | None = None
    tags: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    error: ErrorDetails | None = None
    chunks: int = 0
    first_chunk_ns: int | None = None
    attributes: msgspec.Raw | None = None
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    span_kind: SpanKind = SpanKind.INTERNAL
    status_message: str | None = None
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0
    origin: SpanOrigin | None = None
    cost: TokenCost | None = None


Item = IntermediateStep | Span
"""What a delivery carries."""
