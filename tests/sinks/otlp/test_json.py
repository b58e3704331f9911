"""json_request(): what a decoder of protobuf's JSON reads is the request that was encoded; and the ways to send it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from nat_observability.errors import PermanentWriteError
from nat_observability.events import ErrorDetails, Span, SpanEvent, SpanLink, Status
from nat_observability.sinks.file import FileSink
from nat_observability.sinks.otlp.body import BodyMaker
from nat_observability.sinks.otlp.http import OtlpHttpSink
from nat_observability.sinks.otlp.json import SPANS_BETWEEN, json_request
from nat_observability.sinks.otlp.span_encoder import SpanEncoder, encode
from tests.otlp_receiver import Answer, OtlpReceiver, request_from_json
from tests.sinks.builders import make_span, make_step

RESOURCE = {"service.name": "checkout"}


def rich_spans() -> list[Span]:
    attributes = msgspec.Raw(
        b'{"text":"\xc3\xa4\\n","yes":true,"no":false,"big":9007199254740993,"minus":-3,"half":0.5,'
        b'"list":["a","b"],"empty":[],"numbers":[1,2]}'
    )
    return [
        make_span(
            input="question",
            attributes=attributes,
            events=(SpanEvent("retry", 1_700_000_000_000_000_123, attributes, 2),),
            links=(SpanLink("ab" * 16, "cd" * 8, attributes, "vendor=1", 1, 3, True),),
            parent_id="ef" * 8,
            dropped_attributes_count=4,
        ),
        make_span(status=Status.ERROR, error=ErrorDetails("ValueError", "no", "Traceback")),
    ]


def test_a_decoder_of_protobuf_s_json_reads_the_same_request() -> None:
    """Every field of a rich span: attributes of each type, events, links, status, times, counts."""
    request = SpanEncoder(RESOURCE, schema_url="https://schema").encode(rich_spans())
    assert request_from_json(json_request(request)) == ExportTraceServiceRequest.FromString(request)


def test_values_that_json_cannot_hold_have_the_names_of_the_mapping() -> None:
    """NaN, the infinities, bytes, nested lists and maps, in an attribute that another encoder has made."""
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add(name="s")
    values = [
        AnyValue(double_value=float("inf")),
        AnyValue(double_value=float("-inf")),
        AnyValue(bytes_value=b"\x00\xff"),
        AnyValue(int_value=-(2**63)),
    ]
    inner = AnyValue()
    inner.kvlist_value.values.add(key="k").value.array_value.values.extend(values)
    inner.kvlist_value.values.add(key="none").value.kvlist_value.SetInParent()
    span.attributes.add(key="deep").value.CopyFrom(inner)
    assert request_from_json(json_request(message.SerializeToString())) == message
    span.attributes.add(key="nan").value.double_value = float("nan")
    assert b'{"doubleValue":"NaN"}' in json_request(message.SerializeToString())


def test_integers_of_64_bits_are_text_and_ids_hexadecimal() -> None:
    """As the section on JSON of the OTLP specification demands, with names in lowerCamelCase and numbers for enums."""
    (span, _) = rich_spans()
    line = json.loads(json_request(encode([span], RESOURCE)))
    (sent,) = line["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (sent["traceId"], sent["spanId"]) == (span.run.trace_id, span.span_id)
    assert sent["parentSpanId"] == "ef" * 8
    assert sent["startTimeUnixNano"] == str(span.start_ns)
    assert sent["kind"] == 1
    assert {"key": "big", "value": {"intValue": "9007199254740993"}} in sent["attributes"]


def test_between_is_called_between_stretches() -> None:
    """So that a batch of many spans does not hold the interpreter lock for long."""
    calls: list[None] = []
    request = encode([make_span() for _ in range(2 * SPANS_BETWEEN + 1)], RESOURCE)
    json_request(request, lambda: calls.append(None))
    assert len(calls) == 2


def test_bytes_that_are_not_a_request_are_refused() -> None:
    """A ValueError, and never half a line."""
    with pytest.raises(ValueError, match="cut off"):
        json_request(encode([make_span()], RESOURCE)[:-3])


async def test_an_unknown_encoding_is_refused() -> None:
    """When it is made, and not with the first batch."""
    with pytest.raises(ValueError, match="protobuf' or 'json', not 'xml'"):
        BodyMaker(None, "none", "xml")  # type: ignore[arg-type]


async def test_over_http_the_content_type_says_so() -> None:
    """A collector decides by `content-type`; its answer, in JSON too, is understood."""
    span = make_span(output="yes")
    with OtlpReceiver() as receiver:
        refused = b'{"partialSuccess":{"rejectedSpans":"1"}}'
        receiver.behave(Answer(body=refused, headers={"content-type": "application/json"}))
        sink = OtlpHttpSink(receiver.url, encoding="json", resource=RESOURCE)
        await sink.open()
        try:
            assert await sink.write([span]) == 1
        finally:
            await sink.close()
        (request,) = receiver.requests
    assert request.headers["content-type"] == "application/json"
    assert request.path == "/v1/traces"
    assert request_from_json(request.body) == ExportTraceServiceRequest.FromString(encode([span], RESOURCE))


async def test_json_is_compressed_like_protobuf() -> None:
    """The encoding is inside the compression."""
    span = make_span()
    body = await BodyMaker(RESOURCE, "gzip", "json").make([span])
    assert request_from_json(gzip.decompress(body)) == ExportTraceServiceRequest.FromString(
        encode([span], RESOURCE)
    )


class TestFile:
    def test_each_line_is_one_request(self, tmp_path: Path) -> None:
        """As the specification of the OTLP file exporter has it."""
        url = "https://schema"
        sink = FileSink(
            tmp_path / "spans.jsonl", format="otlp_json", resource=RESOURCE, resource_schema_url=url
        )
        batches = [rich_spans(), [make_span()]]
        sink.open()
        try:
            for batch in batches:
                sink.write(batch)
        finally:
            sink.close()
        lines = (tmp_path / "spans.jsonl").read_bytes().splitlines()
        encoder = SpanEncoder(RESOURCE, schema_url=url)
        expected = [ExportTraceServiceRequest.FromString(encoder.encode(batch)) for batch in batches]
        assert [request_from_json(line) for line in lines] == expected

    def test_steps_are_refused(self, tmp_path: Path) -> None:
        """OTLP has none: the batch has failed for good, and the error names the cure."""
        sink = FileSink(tmp_path / "spans.jsonl", format="otlp_json")
        sink.open()
        try:
            with pytest.raises(PermanentWriteError, match="record spans"):
                sink.write([make_step()])
        finally:
            sink.close()

    def test_an_unknown_format_is_refused(self, tmp_path: Path) -> None:
        """When it is made."""
        with pytest.raises(ValueError, match="'otlp_json', not 'csv'"):
            FileSink(tmp_path / "x", format="csv")  # type: ignore[arg-type]
