"""SpanEncoder: spans as an OTLP ExportTraceServiceRequest, written straight into the protobuf wire format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import msgspec

from nat_observability.dialects.dialect import AttributeValue
from nat_observability.dialects.messages import genai_payload, single_message
from nat_observability.dialects.vocabulary import EVERYBODYS, Vocabulary, decoded_attributes
from nat_observability.events import Captured, Run, Span, SpanKind, Status, StepKind, TokenUsage
from nat_observability.resource import Resource
from nat_observability.sinks.otlp.scopes import scope_field, spans_by_scope
from nat_observability.sinks.otlp.span_message import (
    INCOMPLETE_MARK,
    NO_SPAN,
    SPAN_KINDS,
    STATUS_OK,
    encodable,
    encodable_attribute,
    events_and_links,
    exception_event,
    has_exception_event,
    hashed_ids,
    hex_ids,
    id_bytes,
    retyped,
    status_field,
)
from nat_observability.sinks.otlp.wire_format import (
    NOT_ENCODABLE,
    VALUE_BYTES,
    ByName,
    PayloadHeaders,
    attribute,
    attribute_header,
    keep,
    length_delimited,
    payload_headers,
    varint,
)
from nat_observability.version import __version__

SLICE_SPANS = 64
"""Spans encoded in one stretch, about a third of a millisecond."""

SLICE_BYTES = 256 * 1024
"""Bytes after which a stretch ends earlier."""

# Fields may come in any order, so fields of a fixed size are packed together.

# The flags, and the tags of start_time_unix_nano (7) and end_time_unix_nano (8) with their values.
_TIMES = struct.Struct("<6sBQBQ")

_INTERNAL, _INTERNAL_KIND = SpanKind.INTERNAL, SPAN_KINDS[SpanKind.INTERNAL]
_LLM, _OK, _Raw = StepKind.LLM, Status.OK, msgspec.Raw  # looked up for every span

# Sampled, which is what an exported span is, and 0x100 or 0x300 for a parent in this service or in another one.
_LOCAL_PARENT, _REMOTE_PARENT = b"\x85\x01\x01\x01\x00\x00", b"\x85\x01\x01\x03\x00\x00"

# Their values hardly ever recur: caching them would only fill the cache.
_UNIQUE = frozenset(
    {
        *("input.value", "output.value", "metadata", "exception.message", "exception.stacktrace"),
        *("gen_ai.input.messages", "gen_ai.output.messages"),
        *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.retrieval.query.text"),
        *("langfuse.observation.input", "langfuse.observation.output", "langfuse.observation.metadata"),
        *("langfuse.observation.completion_start_time", "langfuse.observation.usage_details"),
        *("langfuse.observation.cost_details", "langfuse.observation.model.parameters"),
    }
)
_CACHED_HEAD = 2048
_origin = attrgetter("origin")


def encode(batch: Sequence[Span], resource: Resource) -> bytes:
    """Return an ExportTraceServiceRequest; to encode more than once, keep a `SpanEncoder`."""
    return SpanEncoder(resource).encode(batch)


class SpanEncoder:
    """
    Encodes spans for one resource. Any thread may use it, even several at once.

    - Ids of 16 and 32 hex digits are taken as they are. Others, such as the UUIDs of the reference toolkit, become
      8 and 16 bytes of a hash, the same ones in every process; such a span has its own id as `nat.span.id`.
    - The status is unset if a step ended well, as the conventions on recording errors demand, and ERROR if it failed or
      never ended: in the latter case `nat.span.incomplete` is true.
    - An exception becomes an event `exception` at the end of the span, and is also in its attributes.
    - A span of another instrumentation has the name, attributes, events, links, status, trace state and scope that it
      was given, as the SDK's own exporter would send it, and `nat.*` beside them. There is one ScopeSpans for each
      scope.
    - What cannot be encoded (a lone surrogate, NaN, an integer above 64 bits, a time before 1970) is replaced by
      text or by the nearest value, and named in `nat.span.replaced`. No span is ever left out.

    Args:
        resource: The attributes of the resource; `service.name` is "unknown_service" if it is missing.
        vocabulary: The dialects of the back end.
        schema_url: Of the resource.
    """

    def __init__(
        self, resource: Resource, vocabulary: Vocabulary = EVERYBODYS, schema_url: str | None = None
    ) -> None:
        self._vocabulary = vocabulary
        attributes = {"service.name": "unknown_service", **vocabulary.resource(resource)}
        encoded = b"".join(
            attribute(1, *encodable_attribute(str(key), value)) for key, value in attributes.items()
        )
        self._resource = length_delimited(1, encoded)
        if schema_url is not None:
            self._resource += length_delimited(3, schema_url.encode())
        scope = length_delimited(1, b"nat_observability") + length_delimited(2, __version__.encode())
        self._scope = length_delimited(1, scope)
        if vocabulary.schema_url is not None:
            self._scope += length_delimited(3, vocabulary.schema_url.encode())
        # For each attribute the bytes of its values; and, for values that hardly ever come twice, those that stand
        # before them, which depend on their type and length alone.
        self._values: ByName[str] = ByName()
        self._headers: dict[type, ByName[int]] = {kind: ByName() for kind in VALUE_BYTES}
        # What spans of one kind and name have in common, and the length of a span as an encoded field.
        self._heads: dict[tuple[StepKind, str, str | None], bytes] = {}
        self._lengths: dict[int, bytes] = {}
        # The last run of the batch before, which a long one goes on with.
        self._last_run: tuple[Run | None, tuple[bytes, bytes]] = None, (b"", b"")
        self._input, self._output = (
            payload_headers(vocabulary.payload_name(side)) for side in ("input", "output")
        )
        self._message = PayloadHeaders("llm.input_messages.0.message.content")
        self._metadata = PayloadHeaders(vocabulary.payload_name("metadata"))
        self._tells_run_tags = vocabulary.tells_run_tags
        self._reads_every_call = vocabulary.reads_every_call
        self._spoken_inputs, self._spoken_outputs = (
            {kind: PayloadHeaders(name) for kind, name in names.items()}
            for names in vocabulary.spoken.values()
        )
        self._speaking = frozenset({*self._spoken_inputs, *self._spoken_outputs})
        # For each count of tokens: whether it is written if it is 0, and the bytes before its varint, by its length.
        self._usage = tuple(
            (
                always,
                tuple(
                    [b"", *(attribute_header(name, int, length) for length in range(1, 11))] for name in names
                ),
            )
            for names, always in vocabulary.usage
        )

    def encode(self, batch: Sequence[Span]) -> bytes:
        """Return the request for the whole batch, in one stretch."""
        return b"".join(self.encode_in_slices(batch))

    def encode_in_slices(
        self, batch: Sequence[Span], between: Callable[[], object] | None = None
    ) -> list[bytes]:
        """
        Return the request in pieces, to join or to compress one after the other.

        Args:
            between: Called between two stretches of `SLICE_SPANS` or `SLICE_BYTES`.
        """
        pieces = [b""]
        length = 0
        is_ours = not any(map(_origin, batch))
        for scope, spans in [(None, batch)] if is_ours else spans_by_scope(batch):
            place = len(pieces) - 1
            slices: list[bytes] = []
            for encoded in self._slices(spans):
                if (slices or place) and between is not None:
                    between()
                slices.append(encoded)
            own = self._scope if scope is None else scope_field(scope)
            of_scope = len(own) + sum(map(len, slices))
            header = b"\x12" + varint(of_scope) + own
            length += len(header) + of_scope - len(own)
            # To the end of the piece before: a piece is a stretch's.
            pieces[place] += header
            pieces += slices
        header = b"\x0a" + varint(len(self._resource) + length) + self._resource
        return [header + pieces[0], *pieces[1:]]

    def _slices(self, batch: Sequence[Span]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        runs: dict[int, tuple[bytes, bytes]] = {}  # by their address, while the batch keeps them
        for span in batch:
            try:
                encoded = self._usual_span(span, runs) or self._span(span, self._attributes(span))
            except NOT_ENCODABLE:
                encoded = self._span(*encodable(span, self._attributes))
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

        None if it is unusual: another instrumentation made it, an id is not hex digits, a payload is neither text nor
        JSON, or an attribute replaces one that is derived.
        """
        if span.origin is not None or (self._tells_run_tags and span.tags and span.run.tags):
            return None
        run, name, span_id, parent_id = span.run, span.name, span.span_id, span.parent_id
        trace_id, of_run = runs.get(id(run)) or self._run(run, runs)
        if not trace_id or len(span_id) != 16 or span_id == NO_SPAN:
            return None
        flags = _LOCAL_PARENT
        try:
            if parent_id is None:
                ids = bytes.fromhex(f"1208{span_id}")
                if len(ids) != 10:
                    return None
            else:
                ids = bytes.fromhex(f"1208{span_id}2208{parent_id}")
                if len(ids) != 20 or len(parent_id) != 16 or parent_id == NO_SPAN:
                    return None
                if parent_id == run.parent_span_id:
                    flags = _REMOTE_PARENT
        except ValueError:
            return None
        kind = span.kind
        head = (kind, name, run.workflow_name)
        parts = [
            trace_id,
            ids,
            self._heads.get(head) or self._head(*head),
            of_run,
            _TIMES.pack(flags, 0x39, span.start_ns, 0x41, span.end_ns),
            _INTERNAL_KIND if span.span_kind is _INTERNAL else SPAN_KINDS[span.span_kind],
        ]
        if span.attributes is not None:
            attributes = decoded_attributes(span.attributes)
            if self._vocabulary.is_derived(attributes):
                return None
            self._add(parts, attributes)
        if self._reads_every_call and kind is _LLM:
            self._add_messages(parts, span)
        events = span.events
        if (
            events
            or span.links
            or span.dropped_attributes_count
            or span.dropped_events_count
            or span.dropped_links_count
        ):
            parts.append(events_and_links(span))
        given, result = span.input, span.output
        if kind in self._speaking:
            given, result = self._add_spoken(parts, span)
        for value, (texts, documents) in ((given, self._input), (result, self._output)):
            if value is None:
                continue
            if type(value) is str:
                data = value.encode()
                parts.append(texts.get(len(data)) or texts.header(len(data)))
            elif type(value) is _Raw:
                data = bytes(value)
                if not data.isascii():
                    str(data, "utf-8")  # raises if it is not UTF-8
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
        is_wrong = span.status is not _OK
        if is_wrong:
            self._add_status(parts, span)
        usage = span.usage
        if usage is not None:
            self._add_usage(parts, usage)
        if (
            is_wrong
            or span.tags
            or span.first_chunk_ns is not None
            or span.error is not None
            or span.cost is not None
            or events
            or (usage is not None and self._tells_run_tags)
        ):
            self._add(parts, self._vocabulary.outcome_attributes(span))
        return b"".join(parts)

    def _span(self, span: Span, attributes: dict[str, AttributeValue]) -> bytes:
        run, parent_id = span.run, span.parent_id
        ids = hex_ids(run.trace_id, span.span_id, parent_id)
        if ids is None:
            ids = hashed_ids(run.trace_id, span.span_id, parent_id)
            attributes["nat.span.id"] = span.span_id
        if span.status is Status.INCOMPLETE:
            attributes.pop("nat.span.incomplete", None)  # it comes with the status
        flags = _REMOTE_PARENT if parent_id is not None and parent_id == run.parent_span_id else _LOCAL_PARENT
        if span.origin is not None:
            flags = _REMOTE_PARENT if span.origin.parent_is_remote else flags
            flags = b"%b%c%b" % (flags[:2], span.origin.trace_flags & 0xFF, flags[3:])
        parts = [
            ids,
            length_delimited(5, self._vocabulary.span_name(span, attributes).encode()),
            _TIMES.pack(flags, 0x39, span.start_ns, 0x41, span.end_ns),
            SPAN_KINDS[span.span_kind],
        ]
        if span.origin is not None and span.origin.trace_state is not None:
            parts.append(length_delimited(3, span.origin.trace_state.encode()))
        if _has_more(span):
            parts.append(events_and_links(span))
        if span.status is not Status.OK:
            self._add_status(parts, span)
        elif span.origin is not None and span.origin.ok:
            parts.append(STATUS_OK)
        self._add(parts, attributes)
        return b"".join(parts)

    def _attributes(self, span: Span) -> dict[str, AttributeValue]:
        attributes = self._vocabulary.span_attributes(span)
        if span.origin is not None and span.origin.retyped:
            attributes |= retyped(span.origin, "attributes", attributes)
        return attributes

    def _add_status(self, parts: list[bytes], span: Span) -> None:
        parts.append(status_field(span))
        # What another instrumentation has recorded of its error it has recorded itself.
        if span.error is not None and span.origin is None and not has_exception_event(span, span.error):
            parts.append(exception_event(span.error, span.end_ns))
        if span.status is Status.INCOMPLETE:
            parts.append(INCOMPLETE_MARK)

    def _add_spoken(self, parts: list[bytes], span: Span) -> tuple[Captured, Captured]:
        """Add input and output in the conventions' own attributes; return what of them has none."""
        kind, given, result = span.kind, span.input, span.output
        if given is not None and (spoken := self._spoken_inputs.get(kind)) is not None:
            data = genai_payload(span, "input", given)
            parts.append(spoken.get(len(data)) or spoken.header(len(data)))
            parts.append(data)
            given = None
        if result is not None and (spoken := self._spoken_outputs.get(kind)) is not None:
            data = genai_payload(span, "output", result)
            parts.append(spoken.get(len(data)) or spoken.header(len(data)))
            parts.append(data)
            result = None
        return given, result

    def _add_messages(self, parts: list[bytes], span: Span) -> None:
        """Add the messages of a model call in OpenInference's flat names."""
        given = span.input
        if type(given) is msgspec.Raw and type(span.output) is not msgspec.Raw:
            data = bytes(given)
            if (single := single_message(data)) is not None:
                role, text = single
                roles = self._values["llm.input_message_role"]
                parts.append(roles.get(role) or _recurring("llm.input_messages.0.message.role", role, roles))
                parts.append(self._message.get(len(text)) or self._message.header(len(text)))
                parts.append(text)
                return
        elif type(given) is not msgspec.Raw and type(span.output) is not msgspec.Raw:
            return
        self._add(parts, self._vocabulary.own_attributes(span, {}))

    def _add_usage(self, parts: list[bytes], usage: TokenUsage) -> None:
        for (always, headers), count in zip(self._usage, msgspec.structs.astuple(usage), strict=True):
            if count or always:
                data = varint(count) if 0 <= count < 2**63 else VALUE_BYTES[int](count)
                for header in headers:
                    parts.append(header[len(data)])
                    parts.append(data)

    def _add(self, parts: list[bytes], attributes: dict[str, AttributeValue]) -> None:
        add = parts.append
        for key, value in attributes.items():
            if type(value) is str and key not in _UNIQUE:
                values = self._values[key]
                add(values.get(value) or _recurring(key, value, values))
            else:
                kind = type(value)
                data = VALUE_BYTES[kind](value)
                headers = self._headers[kind][key]
                header = headers.get(len(data))
                if header is None:
                    header = attribute_header(key, kind, len(data))
                    keep(headers, len(data), header)
                add(header)
                add(data)

    def _run(self, run: Run, runs: dict[int, tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """Return the trace id, empty if it is not valid, and the attributes shared by all spans of a run."""
        last, known = self._last_run
        if last is run:
            runs[id(run)] = known
            return known
        trace_id = id_bytes(run.trace_id, 16)
        known = (
            b"\x0a\x10" + trace_id if trace_id.hex() == run.trace_id.lower() else b"",
            b"".join(
                [attribute(9, key, value) for key, value in self._vocabulary.run_attributes(run).items()]
            ),
        )
        runs[id(run)] = known
        self._last_run = run, known
        return known

    def _head(self, kind: StepKind, name: str, workflow_name: str | None) -> bytes:
        """Return the name and the attributes shared by all spans of this kind and name."""
        attributes = self._vocabulary.step_attributes(kind, name, workflow_name).items()
        head = b"".join(
            [
                length_delimited(5, self._vocabulary.step_name(kind, name, workflow_name).encode()),
                *(attribute(9, key, value) for key, value in attributes),
            ]
        )
        keep(self._heads, (kind, name, workflow_name), head, _CACHED_HEAD)
        return head

    def _length(self, length: int) -> bytes:
        encoded = b"\x12" + varint(length)
        keep(self._lengths, length, encoded)
        return encoded


def _has_more(span: Span) -> bool:
    return bool(
        span.events
        or span.links
        or span.dropped_attributes_count
        or span.dropped_events_count
        or span.dropped_links_count
    )


def _recurring(key: str, value: str, values: dict[str, bytes]) -> bytes:
    encoded = attribute(9, key, value)
    keep(values, value, encoded)
    return encoded
