"""NatLine: one line of the reference toolkit's event stream, and the step that it stands for."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nat_observability.errors import ObservabilityError
from nat_observability.events import Boundary, Captured, IntermediateStep, Run, StepKind, TokenUsage

_ROOT = "root"
_NULL = msgspec.Raw(b"null")
_ONE_CHUNK_TYPE = {StepKind.LLM: "LLM_NEW_TOKEN", StepKind.SPAN: "SPAN_CHUNK"}

_EVENTS = {
    **{f"{kind}_START": (kind, Boundary.START) for kind in StepKind},
    **{f"{kind}_END": (kind, Boundary.END) for kind in StepKind},
    **{name: (kind, Boundary.CHUNK) for kind, name in _ONE_CHUNK_TYPE.items()},
}

# Bounds that keep values storable: 64 bits of nanoseconds, and of tokens over many spans.
Seconds = Annotated[float, msgspec.Meta(ge=0, lt=9e9)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Id = Annotated[str, msgspec.Meta(min_length=1)]


class NatLineError(ObservabilityError, ValueError):
    """Raised for a line that is not a step of the reference toolkit; the message is the reason, without the line."""


class NatRun(msgspec.Struct, frozen=True):
    """The ids of a run, as far as one line has them."""

    run_id: str
    trace_id: str | None = None
    conversation_id: str | None = None


class NatLine(msgspec.Struct, frozen=True):
    """
    One line. `uuid` is the span's, `parent_id` is None for a root.

    `run` is what the line itself says about its run: in the sidecar form always something, in the plain form only on
    the START and the END of a workflow. `attributed` says whether it is the sidecar form.
    """

    uuid: str
    parent_id: str | None
    kind: StepKind
    boundary: Boundary
    name: str
    time_ns: int
    input: Captured
    output: Captured
    chunk: Captured
    metadata: msgspec.Raw | None
    tags: tuple[str, ...]
    usage: TokenUsage | None
    run: NatRun | None
    attributed: bool

    def step(self, run: Run) -> IntermediateStep:
        """Return the line as a step of `run`."""
        return IntermediateStep(
            run,
            self.kind,
            self.boundary,
            self.name,
            self.uuid,
            self.parent_id,
            self.time_ns,
            self.input,
            self.output,
            self.chunk,
            self.metadata,
            self.tags,
            self.usage,
        )


def parse_line(line: bytes) -> NatLine:
    """
    Read one line in either form, without its line break.

    What the toolkit records but a step has no field for goes into the metadata, under names that begin with `nat.`.
    Token usage is taken from an END only: with streaming, an earlier chunk repeats the same tokens.

    Raises:
        NatLineError: The line is torn, not JSON, or JSON of something else.
    """
    try:
        # Checked completely, UTF-8 and numbers too: what is kept as raw JSON would otherwise fail in an exporter.
        text = line.decode()
        _check(text)
    except UnicodeDecodeError:
        raise NatLineError("not UTF-8") from None
    except msgspec.ValidationError as error:
        raise NatLineError(f"no step of the toolkit: {error}") from None
    except msgspec.DecodeError as error:
        raise NatLineError(f"not JSON, or torn: {error}" if line.strip() else "empty") from None
    except RecursionError:
        raise NatLineError("nested too deeply") from None
    return parse_json(text)


def parse_json(text: str | msgspec.Raw) -> NatLine:
    """
    Read one line that is certainly JSON, because a serializer has just written it.

    Raises:
        NatLineError: The line is JSON of something else.
    """
    try:
        wire = _decode_line(text)
        if wire.step is not None:
            if wire.workflow_run_id is None:
                raise NatLineError("no step of the toolkit: `step` without `workflow_run_id`")
            return _line(
                wire.step, NatRun(wire.workflow_run_id, wire.workflow_trace_id, wire.conversation_id)
            )
        if wire.payload == _NULL:
            raise NatLineError("no step of the toolkit: it has neither `payload` nor `step`")
        return _line(_WireStep(wire.payload, wire.parent_id, wire.function_ancestry), None)
    except msgspec.ValidationError as error:
        raise NatLineError(f"no step of the toolkit: {error}") from None
    except RecursionError:
        raise NatLineError("nested too deeply") from None


class _WireUsage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0
    reasoning_tokens: Count = 0
    total_tokens: Count = 0


class _WireUsageInfo(msgspec.Struct):
    token_usage: _WireUsage | None = None


class _WirePayload(msgspec.Struct):
    event_type: str
    event_timestamp: Seconds
    UUID: Id
    name: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    data: dict[str, msgspec.Raw] | None = None
    usage_info: _WireUsageInfo | None = None


class _WireStep(msgspec.Struct):
    payload: msgspec.Raw
    parent_id: str | None = None
    function_ancestry: msgspec.Raw = _NULL


class _WireLine(msgspec.Struct):
    payload: msgspec.Raw = _NULL
    parent_id: str | None = None
    function_ancestry: msgspec.Raw = _NULL
    workflow_run_id: Id | None = None
    workflow_trace_id: str | None = None
    conversation_id: str | None = None
    step: _WireStep | None = None


class _WireRun(msgspec.Struct):
    workflow_run_id: Id | None = None
    workflow_trace_id: str | None = None
    conversation_id: str | None = None


_check = msgspec.json.Decoder().decode
_decode_line = msgspec.json.Decoder(_WireLine).decode
_decode_payload = msgspec.json.Decoder(_WirePayload).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_run = msgspec.json.Decoder(_WireRun).decode
_encode = msgspec.json.Encoder().encode

_KNOWN = {*_WirePayload.__struct_fields__, "span_event_timestamp"}
_VALUES = {"input", "output", "chunk"}


def _line(step: _WireStep, sidecar: NatRun | None) -> NatLine:
    payload = _decode_payload(step.payload)
    event = _EVENTS.get(payload.event_type)
    if event is None:
        raise NatLineError(f"no step of the toolkit: event type {payload.event_type[:40]!r}")
    kind, boundary = event
    data = payload.data or {}
    run = sidecar
    if run is None and kind is StepKind.WORKFLOW:
        run = _run(payload.metadata)
    return NatLine(
        payload.UUID,
        None if step.parent_id == _ROOT else step.parent_id,
        kind,
        boundary,
        payload.name or kind.value.lower(),
        _nanoseconds(payload.event_timestamp),
        _captured(data.get("input")),
        _captured(data.get("output")),
        _captured(data.get("chunk")),
        _metadata(step, payload),
        tuple(payload.tags or ()),
        _usage(payload) if boundary is Boundary.END else None,
        run,
        sidecar is not None,
    )


def _nanoseconds(seconds: float) -> int:
    # The fraction separately: the whole product has more digits than a float.
    whole = int(seconds)
    return whole * 10**9 + round((seconds - whole) * 1e9)


def _captured(value: msgspec.Raw | None) -> Captured:
    if value is None or value == _NULL:
        return None
    # A copy, because a raw value would keep the whole line in memory.
    return _decode_text(value) if _first(value) == b'"' else value.copy()


def _metadata(step: _WireStep, payload: _WirePayload) -> msgspec.Raw | None:
    fields = dict(payload.metadata or {})
    for key, value in (payload.data or {}).items():
        if key not in _VALUES:
            fields[f"nat.data.{key}"] = value
    for key, value in _decode_object(step.payload).items():
        if key not in _KNOWN:
            fields[f"nat.{key}"] = value
    fields["nat.function_ancestry"] = step.function_ancestry
    told = {key: value for key, value in fields.items() if value != _NULL}
    return msgspec.Raw(_encode(told)) if told else None


def _usage(payload: _WirePayload) -> TokenUsage | None:
    usage = payload.usage_info.token_usage if payload.usage_info is not None else None
    if usage is None:
        return None
    counts = msgspec.structs.astuple(usage)
    return TokenUsage(*counts) if any(counts) else None


def _run(metadata: dict[str, msgspec.Raw] | None) -> NatRun | None:
    provided = (metadata or {}).get("provided_metadata", _NULL)
    if _first(provided) != b"{":
        return None
    run = _decode_run(provided)
    if run.workflow_run_id is None:
        return None
    return NatRun(run.workflow_run_id, run.workflow_trace_id, run.conversation_id)


def _first(value: msgspec.Raw) -> bytes:
    return bytes(memoryview(value)[:1])
