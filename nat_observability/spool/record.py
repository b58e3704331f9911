"""The spool's record: one item as bytes, and back."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from nat_observability.errors import ObservabilityError
from nat_observability.events import (
    Boundary,
    Captured,
    ErrorDetails,
    IntermediateStep,
    Item,
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.recording.capture import capture_json, capture_text

_FORMAT = 1
_HEADER = 5  # bytes: the format, and the CRC-32 of what follows
_LIMIT = 2**63


class UnreadableRecordError(ObservabilityError, ValueError):
    """Raised when bytes are not a record that this version can read."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"A record of the spool cannot be read: {problem}. Set it aside with Spool.reject.")


# As arrays, without field names. The run is a record within the record: it is encoded once for all items of a
# run, and decoded once for all that are taken together. A value is text, or bytes where it was JSON.
_EventRecord = tuple[str, int, bytes | None, int]


class _LinkRecord(msgspec.Struct, array_like=True, gc=False):
    trace_id: str
    span_id: str
    attributes: bytes | None
    trace_state: str | None
    trace_flags: int
    dropped_attributes_count: int
    is_remote: bool | None = None  # records of earlier versions end before it


class _OriginRecord(msgspec.Struct, array_like=True, gc=False):
    scope_name: str
    scope_version: str | None
    scope_attributes: bytes | None
    schema_url: str | None
    trace_state: str | None
    ok: bool
    retyped: tuple[tuple[str, str], ...]
    # Records of earlier versions end before these.
    trace_flags: int = 1
    parent_is_remote: bool = False


class _SpanRecord(msgspec.Struct, array_like=True, tag=0, gc=False):
    run: bytes
    kind: StepKind
    name: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    status: Status
    input: Any
    output: Any
    metadata: bytes | None
    tags: tuple[str, ...]
    usage: TokenUsage | None
    error: ErrorDetails | None
    chunks: int
    first_chunk_ns: int | None
    # Records of earlier versions, and those of items that have none of it, end before these.
    attributes: bytes | None = None
    events: tuple[_EventRecord, ...] = ()
    links: tuple[_LinkRecord, ...] = ()
    span_kind: SpanKind | None = None
    status_message: str | None = None
    dropped: tuple[int, int, int] = (0, 0, 0)
    origin: _OriginRecord | None = None
    cost: TokenCost | None = None


class _StepRecord(msgspec.Struct, array_like=True, tag=1, gc=False):
    run: bytes
    kind: StepKind
    boundary: Boundary
    name: str
    step_id: str
    parent_id: str | None
    time_ns: int
    input: Any
    output: Any
    chunk: Any
    metadata: bytes | None
    tags: tuple[str, ...]
    usage: TokenUsage | None
    error: ErrorDetails | None
    # Records of earlier versions, and those of items that have none of it, end before these.
    attributes: bytes | None = None
    events: tuple[_EventRecord, ...] = ()
    links: tuple[_LinkRecord, ...] = ()
    span_kind: SpanKind | None = None
    status_message: str | None = None
    dropped: tuple[int, int, int] = (0, 0, 0)
    status_set: Status | None = None
    origin: _OriginRecord | None = None


class _RunRecord(msgspec.Struct, array_like=True, gc=False):
    run_id: str
    trace_id: str
    conversation_id: str | None
    user_id: str | None
    workflow_name: str | None
    parent_span_id: str | None
    tags: tuple[tuple[str, str], ...] = ()  # records of earlier versions end before it


_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_SpanRecord | _StepRecord).decode
_decode_run = msgspec.msgpack.Decoder(_RunRecord).decode


def encode_item(item: Item) -> bytes:
    """
    Return `item` as a record.

    Never raises for the content of a text or a number: text that UTF-8 cannot hold gets backslash escapes, an integer
    over 64 bits becomes the nearest that fits, and a value that is neither text nor JSON becomes JSON.
    """
    run = item.run
    try:
        body = _encode(_fields(item, _encoded_run(run)))
    except (UnicodeEncodeError, OverflowError):
        body = _encode(_mended(_fields(item, _encode(_mended(_run_fields(run))))))
    return b"%c%b%b" % (_FORMAT, zlib.crc32(body).to_bytes(4, "little"), body)


def decode_item(record: bytes, runs: dict[bytes, Run] | None = None) -> Item:
    """
    Return the item that was encoded.

    Args:
        record: What `encode_item` returned, in this version or an earlier one.
        runs: The runs met so far, to which this adds: items decoded with the same dict share the run's object.

    Raises:
        UnreadableRecordError: The bytes are damaged, foreign, or a newer version's.
    """
    if len(record) < _HEADER or record[0] != _FORMAT:
        problem = (
            f"it has the format {record[0]}, and this version knows {_FORMAT}" if record else "it is empty"
        )
        raise UnreadableRecordError(problem)
    body = memoryview(record)[_HEADER:]
    if zlib.crc32(body) != int.from_bytes(record[1:_HEADER], "little"):
        raise UnreadableRecordError("it is damaged: its checksum is wrong")
    try:
        fields = _decode(body)
        run = runs.get(fields.run) if runs is not None else None
        if run is None:
            run = Run(*msgspec.structs.astuple(_decode_run(fields.run)))
            if runs is not None:
                runs[fields.run] = run
        return _item(fields, run)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise UnreadableRecordError(str(error)) from error


def _fields(item: Item, run: bytes) -> tuple[object, ...]:
    usual: tuple[object, ...]
    if isinstance(item, Span):
        usual = (
            0,
            run,
            item.kind,
            item.name,
            item.span_id,
            item.parent_id,
            item.start_ns,
            item.end_ns,
            item.status,
            _value(item.input),
            _value(item.output),
            _value(item.metadata),
            item.tags,
            item.usage,
            item.error,
            item.chunks,
            item.first_chunk_ns,
        )
        span_kind = None if item.span_kind is item.kind.span_kind else item.span_kind
        if _has_details(item) or span_kind is not None or item.cost is not None:
            return usual + _details(item, span_kind, item.cost)
        return usual
    usual = (
        1,
        run,
        item.kind,
        item.boundary,
        item.name,
        item.step_id,
        item.parent_id,
        item.time_ns,
        _value(item.input),
        _value(item.output),
        _value(item.chunk),
        _value(item.metadata),
        item.tags,
        item.usage,
        item.error,
    )
    if _has_details(item) or item.span_kind is not None or item.status is not None:
        return usual + _details(item, item.span_kind, item.status)
    return usual


def _has_details(item: Item) -> bool:
    return bool(
        item.attributes is not None
        or item.events
        or item.links
        or item.status_message is not None
        or item.origin is not None
        or item.dropped_attributes_count
        or item.dropped_events_count
        or item.dropped_links_count
    )


def _details(item: Item, span_kind: SpanKind | None, more: TokenCost | Status | None) -> tuple[object, ...]:
    """
    Return what only some items have.

    Args:
        span_kind: None for that of the item's kind.
        more: A span's cost, or a step's status.
    """
    dropped = item.dropped_attributes_count, item.dropped_events_count, item.dropped_links_count
    origin = None if item.origin is None else _origin(item.origin)
    return (
        _value(item.attributes),
        tuple(
            (each.name, each.time_ns, _value(each.attributes), each.dropped_attributes_count)
            for each in item.events
        ),
        tuple(
            (
                each.trace_id,
                each.span_id,
                _value(each.attributes),
                each.trace_state,
                each.trace_flags,
                each.dropped_attributes_count,
                each.is_remote,
            )
            for each in item.links
        ),
        span_kind,
        item.status_message,
        dropped,
        *((origin, more) if isinstance(item, Span) else (more, origin)),
    )


def _origin(origin: SpanOrigin) -> tuple[object, ...]:
    return (
        origin.scope_name,
        origin.scope_version,
        _value(origin.scope_attributes),
        origin.schema_url,
        origin.trace_state,
        origin.ok,
        origin.retyped,
        origin.trace_flags,
        origin.parent_is_remote,
    )


def _run_fields(run: Run) -> tuple[object, ...]:
    ids = (
        run.run_id,
        run.trace_id,
        run.conversation_id,
        run.user_id,
        run.workflow_name,
        run.parent_span_id,
    )
    return (*ids, run.tags) if run.tags else ids


@functools.lru_cache(64)
def _encoded_run(run: Run) -> bytes:
    return _encode(_run_fields(run))


def _value(value: Captured) -> str | bytes | None:
    if value is None or type(value) is str:
        return value
    # A processor of the application may have put anything there.
    return bytes(value if isinstance(value, msgspec.Raw) else capture_json(value))


def _mended(value: Any) -> Any:
    """Copy a value for encoding, with text and integers that cannot be encoded replaced by some that can."""
    if isinstance(value, str):
        return capture_text(str(value))
    if isinstance(value, int):
        return max(-_LIMIT, min(value, _LIMIT - 1))
    if isinstance(value, tuple):
        return tuple(_mended(each) for each in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(*_mended(msgspec.structs.astuple(value)))
    return value


def _item(fields: _SpanRecord | _StepRecord, run: Run) -> Item:
    attributes = None if fields.attributes is None else msgspec.Raw(fields.attributes)
    events = _events(fields.events) if fields.events else ()
    links = _links(fields.links) if fields.links else ()
    details = (attributes, events, links)
    origin = None
    if fields.origin is not None:
        name, version, scope_attributes, *others = msgspec.structs.astuple(fields.origin)
        origin = SpanOrigin(name, version, _raw(scope_attributes), *others)
    metadata = _raw(fields.metadata)
    given, result = _captured(fields.input), _captured(fields.output)
    if isinstance(fields, _SpanRecord):
        return Span(
            run,
            fields.kind,
            fields.name,
            fields.span_id,
            fields.parent_id,
            fields.start_ns,
            fields.end_ns,
            fields.status,
            given,
            result,
            metadata,
            fields.tags,
            fields.usage,
            fields.error,
            fields.chunks,
            fields.first_chunk_ns,
            *details,
            fields.span_kind or fields.kind.span_kind,
            fields.status_message,
            *fields.dropped,
            origin,
            fields.cost,
        )
    return IntermediateStep(
        run,
        fields.kind,
        fields.boundary,
        fields.name,
        fields.step_id,
        fields.parent_id,
        fields.time_ns,
        given,
        result,
        _captured(fields.chunk),
        metadata,
        fields.tags,
        fields.usage,
        fields.error,
        *details,
        fields.span_kind,
        fields.status_set,
        fields.status_message,
        *fields.dropped,
        origin,
    )


def _events(records: tuple[_EventRecord, ...]) -> tuple[SpanEvent, ...]:
    return tuple(
        SpanEvent(name, time_ns, _raw(attributes), dropped) for name, time_ns, attributes, dropped in records
    )


def _links(records: tuple[_LinkRecord, ...]) -> tuple[SpanLink, ...]:
    return tuple(
        SpanLink(trace_id, span_id, _raw(attributes), *others)
        for trace_id, span_id, attributes, *others in map(msgspec.structs.astuple, records)
    )


def _raw(data: bytes | None) -> msgspec.Raw | None:
    return None if data is None else msgspec.Raw(data)


def _captured(value: object) -> Captured:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return msgspec.Raw(value)
    raise TypeError(f"a value is of type {type(value).__name__}")
