"""Encoding spans for OTLP, beside the encoder of the OpenTelemetry SDK's exporter."""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from benchmarks.report import Row, at_most, report
from benchmarks.timing import rounds
from nat_observability.dialects.span_attributes import span_attributes
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks.otlp.span_encoder import SpanEncoder

SPANS = 512
SPANS_PER_RUN = 16
ROUNDS = rounds(30)
BAR = 1 / 5

Work = Callable[[], object]

_numbers = itertools.count(1)


def tool_spans() -> list[Span]:
    """Spans with 8 attributes, whose ids, times and payloads never come again."""
    return [
        Span(
            run=run,
            kind=StepKind.FUNCTION,
            name="lookup",
            span_id=f"{number:016x}",
            parent_id=f"{number + 1:016x}",
            start_ns=1_700_000_000_000_000_000 + number,
            end_ns=1_700_000_000_250_000_000 + number,
            status=Status.OK,
            input=msgspec.Raw(b'{"city":"Paris","number":%d}' % number),
            output=f"The weather in Paris is fine, with {number} clouds",
        )
        for run, number in _runs()
    ]


def model_spans() -> list[Span]:
    """Model calls with everything that the conventions have for them: 22 attributes."""
    return [
        Span(
            run=run,
            kind=StepKind.LLM,
            name="gpt-example",
            span_id=f"{number:016x}",
            parent_id=f"{number + 1:016x}",
            start_ns=1_700_000_000_000_000_000 + number,
            end_ns=1_700_000_000_250_000_000 + number,
            status=Status.OK,
            input=msgspec.Raw(b'[{"role":"user","content":"%d"}]' % number),
            output=f"The weather in Paris is fine, with {number} clouds",
            usage=TokenUsage(number, number // 2, 3, 4, number * 2),
            first_chunk_ns=1_700_000_000_100_000_000 + number,
        )
        for run, number in _runs()
    ]


def large_spans() -> list[Span]:
    """Spans with payloads of 8 KB."""
    return [msgspec.structs.replace(span, output="cloud " * 1365 + span.span_id) for span in tool_spans()]


def _runs() -> list[tuple[Run, int]]:
    runs = [
        Run(f"run-{next(_numbers)}", f"{next(_numbers):032x}", user_id="user-1")
        for _ in range(SPANS // SPANS_PER_RUN)
    ]
    return [(runs[index // SPANS_PER_RUN], next(_numbers)) for index in range(SPANS)]


def peer_spans(spans: Sequence[Span]) -> list[object] | None:
    """Return the same spans as SDK spans, with the same attributes, or None if the SDK is not installed."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    except ImportError:
        return None
    resource = Resource({"service.name": "benchmark"})
    scope = InstrumentationScope("nat_observability", "1")

    def context(span: Span, span_id: str) -> SpanContext:
        return SpanContext(int(span.run.trace_id, 16), int(span_id, 16), False, TraceFlags(1))

    return [
        ReadableSpan(
            name=span.name,
            context=context(span, span.span_id),
            parent=context(span, span.parent_id or ""),
            resource=resource,
            attributes=span_attributes(span),
            kind=SpanKind.INTERNAL,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=scope,
        )
        for span in spans
    ]


def medians_of(*contenders: Callable[[], Work | None]) -> list[float | None]:
    """
    Return the median CPU microseconds per span of each contender, measured in turns, so that all meet the same machine.

    Args:
        contenders: Each prepares a batch that was never encoded before, unmeasured, and returns the work.
    """
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for index, prepare in enumerate(contenders):
            work = prepare()
            if work is None:
                continue
            gc.collect(0)
            began = time.process_time()
            work()
            taken[index].append((time.process_time() - began) / SPANS * 1e6)
    return [median(figures) if figures else None for figures in taken]


def measure() -> list[Row]:
    """Measure each kind of span."""
    encoder = SpanEncoder({"service.name": "benchmark"})
    rows: list[Row] = []

    def ours(spans: Callable[[], list[Span]]) -> Callable[[], Work]:
        def prepare() -> Work:
            batch = spans()
            return lambda: encoder.encode(batch)

        return prepare

    def theirs(spans: Callable[[], list[Span]]) -> Callable[[], Work | None]:
        def prepare() -> Work | None:
            batch = peer_spans(spans())
            if batch is None:
                return None
            # By name: only the benchmarks' own environment has it.
            encoder = importlib.import_module("opentelemetry.exporter.otlp.proto.common.trace_encoder")
            return lambda: encoder.encode_spans(batch).SerializeToString()

        return prepare

    gc.freeze()
    for name, spans in (
        ("encode, 8 attributes", tool_spans),
        ("encode, 22 attributes (a model call)", model_spans),
        ("encode, 8 attributes, one of 8 KB", large_spans),
    ):
        mine, peer = medians_of(ours(spans), theirs(spans))
        assert mine is not None
        beside = "opentelemetry-exporter-otlp-proto-common"
        if peer is None:
            rows.append(Row(name, "µs CPU a span", mine, beside, None, "at most 0.2x", None))
        elif spans is large_spans:
            rows.append(Row(name, "µs CPU a span", mine, beside, peer, "", None))
        else:
            rows.append(at_most(name, "µs CPU a span", mine, beside, peer, BAR))
    request = encoder.encode(tool_spans())
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    compressed = compressor.compress(request) + compressor.flush()
    rows.append(
        Row(
            "size, 8 attributes, gzip",
            "bytes a span",
            len(compressed) / SPANS,
            "not compressed",
            len(request) / SPANS,
            "",
            None,
        )
    )
    return rows


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure))
