"""SpanEncoder: spans as an OTLP ExportTraceServiceRequest, written straight into the protobuf wire format."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import msgspec

from nat_observability.dialects.span_attributes import (
    AttributeValue,
    outcome_attributes,
    run_attributes,
    span_attributes,
    step_attributes,
)
from nat_observability.events import Captured, Run, Span, Status, StepError, StepKind
from nat_observability.recording.capture import capture, capture_json, capture_text
from nat_observability.sinks.otlp.protobuf import DOUBLE, FIXED64, length_delimited, varint


def _version() -> str:
    try:
        return version("nat-observability")
    except PackageNotFoundError:  # a copy of the package that was not installed
        return ""


# Read once and here: it reads files, which is not to happen on an event loop.
PACKAGE_VERSION = _version()
"""The version of this package, for the back end to know."""

SLICE_SPANS = 64
"""Spans that are encoded at a stretch, about a third of a millisecond."""

SLICE_BYTES = 256 * 1024
"""Bytes after which a stretch ends earlier."""

# Written by hand, because the messages of opentelemetry-proto take 2.3 times as long, which misses the bar; its tests
# decode with them. Numbers of fields and their types: opentelemetry/proto/trace/v1/trace.proto and
# common/v1/common.proto, release 1.10. Fields may come in any order, so what has a fixed size is packed together.

# The flags, and the tags of start_time_unix_nano (7) and end_time_unix_nano (8) with their values.
_TIMES = struct.Struct("<6sBQBQ")
_MAX_TIME = 2**64 - 1
_MAX_INT = 2**63

# The GenAI conventions want CLIENT (3) for a model call, and INTERNAL (1) for tools and workflows (client-inference.md,
# execute-tool.md, gen-ai-agent-spans.md). Nothing here knows whether the model runs in this process.
_INTERNAL, _CLIENT = b"\x30\x01", b"\x30\x03"
_KINDS = {kind: _CLIENT if kind is StepKind.LLM else _INTERNAL for kind in StepKind}

# Sampled, which is what an exported span is, and 0x100 or 0x300 for a parent in this service or in another one.
_LOCAL_PARENT, _REMOTE_PARENT = b"\x85\x01\x01\x01\x00\x00", b"\x85\x01\x01\x03\x00\x00"

_STATUS_ERROR = b"\x18\x02"
_INCOMPLETE = "The run ended before this step did."

_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16

# Their values hardly ever come twice: caching them would only fill the cache.
_UNIQUE = frozenset({"input.value", "output.value", "metadata", "exception.message", "exception.stacktrace"})
_CACHED_LENGTH = 256
_CACHED_VALUES = 1024
_CACHED_HEAD = 2048

_NOT_ENCODABLE = (LookupError, OverflowError, ValueError, TypeError, AttributeError, struct.error)


KeyT = TypeVar("KeyT")


def encode(batch: Sequence[Span], resource: Mapping[str, str]) -> bytes:
    """Return an ExportTraceServiceRequest; who encodes more than once keeps a `SpanEncoder`."""
    return SpanEncoder(resource).encode(batch)


class SpanEncoder:
    """
    Encodes spans for one resource. Any thread may use it, several at once too.

    - Ids of 16 and 32 hex digits are taken as they are. Others, such as the UUIDs of the reference toolkit, become
      8 and 16 bytes of a hash, the same ones in every process; such a span has its own id as `nat.span.id`.
    - The status is unset where a step ended well, as the conventions on recording errors demand, and ERROR where it
      did not, or never did: then `nat.span.incomplete` is true.
    - An exception is an event `exception` at the end of the span, and in its attributes.
    - What cannot be encoded (a lone surrogate, NaN, an integer above 64 bits, a time before 1970) is replaced by
      text or by the nearest value, and named in `nat.span.replaced`. No span is ever left out.

    Args:
        resource: The attributes of the resource; `service.name` is "unknown_service" where it is missing.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        attributes = {"service.name": "unknown_service", **resource}
        encoded = b"".join(
            _attribute(1, capture_text(str(key)), capture_text(str(value)))
            for key, value in attributes.items()
        )
        self._resource = length_delimited(1, encoded)
        scope = length_delimited(1, b"nat_observability") + length_delimited(2, PACKAGE_VERSION.encode())
        self._scope = length_delimited(1, scope)
        # For each attribute the bytes of its values; and, for values that hardly ever come twice, those that stand
        # before them, which depend on their type and length alone.
        self._values: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._headers: dict[type, defaultdict[str, dict[int, bytes]]] = {
            kind: defaultdict(dict) for kind in _DATA
        }
        # What spans of one kind and name have in common, and the length of a span as the field that it is.
        self._heads: dict[tuple[StepKind, str, str | None], bytes] = {}
        self._lengths: dict[int, bytes] = {}
        self._input, self._output = _payload_headers("input"), _payload_headers("output")
        self._metadata = _Headers("metadata")

    def encode(self, batch: Sequence[Span]) -> bytes:
        """Return the request for the whole batch, at one stretch."""
        return b"".join(self.encode_in_slices(batch))

    def encode_in_slices(
        self, batch: Sequence[Span], between: Callable[[], object] | None = None
    ) -> list[bytes]:
        """
        Return the request in pieces, to be joined or compressed one after the other.

        Args:
            between: Called between two stretches of `SLICE_SPANS` or `SLICE_BYTES`.
        """
        slices: list[bytes] = []
        for encoded in self._slices(batch):
            if slices and between is not None:
                between()
            slices.append(encoded)
        scope_spans_length = len(self._scope) + sum(map(len, slices))
        scope_spans = b"\x12" + varint(scope_spans_length)
        resource_spans_length = len(self._resource) + len(scope_spans) + scope_spans_length
        header = b"\x0a" + varint(resource_spans_length) + self._resource + scope_spans + self._scope
        return [header, *slices]

    def _slices(self, batch: Sequence[Span]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        runs: dict[int, tuple[bytes, bytes]] = {}  # by their address, while the batch keeps them
        for span in batch:
            try:
                encoded = self._usual_span(span, runs) or self._span(span, span_attributes(span))
            except _NOT_ENCODABLE:
                encoded = self._span(*_encodable(span))
            length = len(encoded)
            parts.append(self._lengths.get(length) or self._length(length))
            parts.append(encoded)
            size += length
            if size >= SLICE_BYTES or len(parts) == 2 * SLICE_SPANS:
                yield b"".join(parts)
                parts.clear()
                size = 0
        if parts:
            yield b"".join(parts)

    def _usual_span(self, span: Span, runs: dict[int, tuple[bytes, bytes]]) -> bytes | None:
        """
        Return a span as `_span` does, from what is known of its run, and of other spans of its kind and name.

        None where it is not a usual one: an id is no hex digits, or a payload neither text nor JSON.
        """
        run, name, span_id, parent_id = span.run, span.name, span.span_id, span.parent_id
        trace_id, of_run = runs.get(id(run)) or self._run(run, runs)
        if not trace_id or len(span_id) != 16 or span_id == _NO_SPAN:
            return None
        flags = _LOCAL_PARENT
        try:
            if parent_id is None:
                ids = bytes.fromhex(f"1208{span_id}")
                if len(ids) != 10:
                    return None
            else:
                ids = bytes.fromhex(f"1208{span_id}2208{parent_id}")
                if len(ids) != 20 or len(parent_id) != 16 or parent_id == _NO_SPAN:
                    return None
                if parent_id == run.parent_span_id:
                    flags = _REMOTE_PARENT
        except ValueError:
            return None
        head = (span.kind, name, run.workflow_name)
        parts = [
            trace_id,
            ids,
            self._heads.get(head) or self._head(*head),
            of_run,
            _TIMES.pack(flags, 0x39, span.start_ns, 0x41, span.end_ns),
        ]
        for value, (texts, documents) in ((span.input, self._input), (span.output, self._output)):
            if value is None:
                continue
            if type(value) is str:
                data = value.encode()
                parts.append(texts.get(len(data)) or texts.header(len(data)))
            elif type(value) is msgspec.Raw:
                data = bytes(value)
                if not data.isascii():
                    str(data, "utf-8")  # raises where it is none
                parts.append(documents.get(len(data)) or documents.header(len(data)))
            else:
                return None
            parts.append(data)
        if span.metadata is not None:
            data = bytes(span.metadata)
            if not data.isascii():
                str(data, "utf-8")
            parts.append(self._metadata.get(len(data)) or self._metadata.header(len(data)))
            parts.append(data)
        if span.status is not Status.OK:
            self._add_status(parts, span)
        if (
            span.usage is not None
            or span.tags
            or span.first_chunk_ns is not None
            or span.error is not None
            or span.status is not Status.OK
        ):
            self._add(parts, outcome_attributes(span))
        return b"".join(parts)

    def _span(self, span: Span, attributes: dict[str, AttributeValue]) -> bytes:
        run, name, parent_id = span.run, span.name, span.parent_id
        ids = _hex_ids(run.trace_id, span.span_id, parent_id)
        if ids is None:
            ids = _hashed_ids(run.trace_id, span.span_id, parent_id)
            attributes["nat.span.id"] = span.span_id
        flags = _REMOTE_PARENT if parent_id is not None and parent_id == run.parent_span_id else _LOCAL_PARENT
        parts = [
            ids,
            length_delimited(5, name.encode()),
            _TIMES.pack(flags, 0x39, span.start_ns, 0x41, span.end_ns),
            _KINDS[span.kind],
        ]
        if span.status is not Status.OK:
            self._add_status(parts, span)
        self._add(parts, attributes)
        return b"".join(parts)

    def _add_status(self, parts: list[bytes], span: Span) -> None:
        parts.append(_status(span))
        if span.error is not None:
            parts.append(_exception_event(span.error, span.end_ns))
        if span.status is Status.INCOMPLETE:
            parts.append(_INCOMPLETE_MARK)

    def _add(self, parts: list[bytes], attributes: dict[str, AttributeValue]) -> None:
        add = parts.append
        for key, value in attributes.items():
            if type(value) is str and key not in _UNIQUE:
                values = self._values[key]
                add(values.get(value) or _recurring(key, value, values))
            else:
                kind = type(value)
                data = _DATA[kind](value)
                headers = self._headers[kind][key]
                header = headers.get(len(data))
                if header is None:
                    header = _header(key, kind, len(data))
                    _keep(headers, len(data), header)
                add(header)
                add(data)

    def _run(self, run: Run, runs: dict[int, tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """Return the trace id, empty where it is no valid one, and the attributes that all spans of a run have."""
        trace_id = _id_bytes(run.trace_id, 16)
        known = (
            b"\x0a\x10" + trace_id if trace_id.hex() == run.trace_id.lower() else b"",
            b"".join([_attribute(9, key, value) for key, value in run_attributes(run).items()]),
        )
        runs[id(run)] = known
        return known

    def _head(self, kind: StepKind, name: str, workflow_name: str | None) -> bytes:
        """Return name, kind and the attributes that all spans of this kind and name have."""
        attributes = step_attributes(kind, name, workflow_name).items()
        head = b"".join(
            [
                length_delimited(5, name.encode()),
                _KINDS[kind],
                *(_attribute(9, key, value) for key, value in attributes),
            ]
        )
        _keep(self._heads, (kind, name, workflow_name), head, _CACHED_HEAD)
        return head

    def _length(self, length: int) -> bytes:
        encoded = b"\x12" + varint(length)
        _keep(self._lengths, length, encoded)
        return encoded


class _Headers(dict[int, bytes]):
    """
    What stands before a text in an attribute, by the length of the text.

    Args:
        key: The attribute's name.
        before: What comes before that, which is the attribute that says what the text is.
    """

    def __init__(self, key: str, before: bytes = b"") -> None:
        super().__init__()
        self._key, self._before = key, before

    def header(self, length: int) -> bytes:
        """Return it for a length that is not known yet."""
        encoded = self._before + _header(self._key, str, length)
        _keep(self, length, encoded)
        return encoded


def _keep(cache: dict[KeyT, bytes], key: KeyT, encoded: bytes, longest: int = _CACHED_LENGTH) -> None:
    if len(encoded) > longest:
        return
    if len(cache) >= _CACHED_VALUES:
        # Cheaper than to keep count of what is used: what recurs is back after one span.
        cache.clear()
    cache[key] = encoded


def _recurring(key: str, value: str, values: dict[str, bytes]) -> bytes:
    encoded = _attribute(9, key, value)
    _keep(values, value, encoded)
    return encoded


def _payload_headers(name: str) -> tuple[_Headers, _Headers]:
    """Return the headers of an input or output that is text, and of one that is JSON."""
    texts, documents = (
        _Headers(f"{name}.value", _attribute(9, f"{name}.mime_type", kind))
        for kind in ("text/plain", "application/json")
    )
    return texts, documents


def _header(key: str, kind: type, length: int) -> bytes:
    """Return what stands before the `length` bytes of a value in the attribute of a span."""
    tag = _tag(kind, length)
    key_value = length_delimited(1, key.encode()) + b"\x12" + varint(len(tag) + length) + tag
    return b"\x4a" + varint(len(key_value) + length) + key_value


def _attribute(number: int, key: str, value: AttributeValue) -> bytes:
    """Return a KeyValue as the field `number`: 9 in a span, 3 in an event, 1 in a resource."""
    return length_delimited(
        number, length_delimited(1, key.encode()) + length_delimited(2, _any_value(value))
    )


def _any_value(value: AttributeValue) -> bytes:
    data = _DATA[type(value)](value)
    return _tag(type(value), len(data)) + data


def _tag(kind: type, length: int) -> bytes:
    return _TAGS[kind] + varint(length) if kind in (str, tuple) else _TAGS[kind]


def _integer(value: int) -> bytes:
    if 0 <= value < _MAX_INT:
        return varint(value)
    if not -_MAX_INT <= value < 0:
        raise OverflowError("not a 64-bit integer")
    return varint(value + 2**64)


def _double(value: float) -> bytes:
    # A protobuf double can be NaN, but the JSON in which most back ends keep attributes has no such number.
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return DOUBLE.pack(value)


def _array(value: tuple[str, ...]) -> bytes:
    return b"".join([length_delimited(1, _any_value(item)) for item in value])


# The fields of AnyValue.
_TAGS: dict[type, bytes] = {str: b"\x0a", bool: b"\x10", int: b"\x18", float: b"\x21", tuple: b"\x2a"}
_DATA: dict[type, Callable[[Any], bytes]] = {
    str: str.encode,
    bool: {False: b"\x00", True: b"\x01"}.__getitem__,
    int: _integer,
    float: _double,
    tuple: _array,
}


_INCOMPLETE_MARK = _attribute(9, "nat.span.incomplete", True)


def _hex_ids(trace_id: str, span_id: str, parent_id: str | None) -> bytes | None:
    """Return the fields of the ids, or None where one of them is no valid id of OpenTelemetry."""
    if len(trace_id) != 32 or len(span_id) != 16 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    try:
        # fromhex() skips white space, so the length tells whether all of it was digits.
        if parent_id is None:
            ids = bytes.fromhex(f"0a10{trace_id}1208{span_id}")
            return ids if len(ids) == 28 else None
        if len(parent_id) != 16 or parent_id == _NO_SPAN:
            return None
        ids = bytes.fromhex(f"0a10{trace_id}1208{span_id}2208{parent_id}")
        return ids if len(ids) == 38 else None
    except ValueError:
        return None


def _hashed_ids(trace_id: str, span_id: str, parent_id: str | None) -> bytes:
    ids = length_delimited(1, _id_bytes(trace_id, 16)) + length_delimited(2, _id_bytes(span_id, 8))
    return ids if parent_id is None else ids + length_delimited(4, _id_bytes(parent_id, 8))


def span_id_bytes(step_id: str) -> bytes:
    """Return the 8 bytes that a step's id is sent as: what its hex digits say, or a hash of another id."""
    return _id_bytes(step_id, 8)


def _id_bytes(text: str, size: int) -> bytes:
    """Return the bytes of an id: those that its hex digits say, else a hash, which is never all zero."""
    try:
        encoded = bytes.fromhex(text)
        if len(text) == 2 * size == 2 * len(encoded) and any(encoded):
            return encoded
    except ValueError:
        pass
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return digest if any(digest) else bytes(size - 1) + b"\x01"


def _status(span: Span) -> bytes:
    """Return the status ERROR, with the exception's message as the conventions on recording errors say."""
    error = span.error
    if error is not None:
        message = error.message or error.type
    else:
        message = _INCOMPLETE if span.status is Status.INCOMPLETE else ""
    described = length_delimited(2, message.encode()) if message else b""
    return length_delimited(15, described + _STATUS_ERROR)


def _exception_event(error: StepError, time_ns: int) -> bytes:
    """Return the event of https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/."""
    event = b"\x09" + FIXED64.pack(time_ns) + length_delimited(2, b"exception")
    event += _attribute(3, "exception.type", error.type) + _attribute(3, "exception.message", error.message)
    if error.traceback is not None:
        event += _attribute(3, "exception.stacktrace", error.traceback)
    return length_delimited(11, event)


def _encodable(span: Span) -> tuple[Span, dict[str, AttributeValue]]:
    """Return a span and its attributes with what cannot be encoded replaced, and named in `nat.span.replaced`."""
    replaced: list[str] = []

    def kept(name: str, before: Any, after: Any) -> Any:
        if before != after or not isinstance(before, type(after)):
            replaced.append(name)
        return after

    def payload(name: str, value: Captured) -> Captured:
        if isinstance(value, msgspec.Raw):
            try:
                str(value, "utf-8")
            except UnicodeDecodeError:
                replaced.append(name)
                return bytes(value).decode("utf-8", "backslashreplace")
            return value
        clean: Captured = kept(name, value, capture(value))
        return clean

    error = span.error
    if error is not None:
        trace = error.traceback
        error = StepError(
            kept("exception.type", error.type, _text(error.type)),
            kept("exception.message", error.message, _text(error.message)),
            trace if trace is None else kept("exception.stacktrace", trace, _text(trace)),
        )
    metadata = payload("metadata", span.metadata)
    clean = msgspec.structs.replace(
        span,
        name=kept("name", span.name, _text(span.name)),
        start_ns=kept("start_time", span.start_ns, _time(span.start_ns)),
        end_ns=kept("end_time", span.end_ns, _time(span.end_ns)),
        input=payload("input.value", span.input),
        output=payload("output.value", span.output),
        metadata=capture_json(metadata) if isinstance(metadata, str) else metadata,
        error=error,
    )
    attributes = {key: kept(key, value, _value(value)) for key, value in span_attributes(clean).items()}
    if replaced:
        attributes["nat.span.replaced"] = tuple(dict.fromkeys(replaced))
    return clean, attributes


def _value(value: object) -> AttributeValue:
    if isinstance(value, tuple | list):
        return tuple(_text(item) for item in value)
    try:
        _any_value(value)  # type: ignore[arg-type]  # whether it is one is what this asks
    except _NOT_ENCODABLE:
        return _text(value)
    return value  # type: ignore[return-value]


def _text(value: object) -> str:
    if isinstance(value, str):
        return capture_text(value)
    if isinstance(value, float):
        return str(value)
    return str(bytes(capture_json(value)), "utf-8")


def _time(value: object) -> int:
    return min(max(value, 0), _MAX_TIME) if isinstance(value, int) else 0
