"""A span of the OpenTelemetry SDK, handed to our exporters: the caller's CPU beside the SDK's BatchSpanProcessor."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from statistics import median

from benchmarks.report import Row, beside, report
from benchmarks.timing import rounds
from nat_observability import DeliveryLimits, SpanExporter
from nat_observability.sinks import MemorySink

SPANS = 4000
ROUNDS = rounds(7)
ATTRIBUTES: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 7,
}


def measure() -> list[Row]:
    """Spans with three attributes, ended on one thread; that thread's CPU time and the whole process's."""
    if find_spec("opentelemetry.sdk") is None:
        return []
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.export import SpanExporter as SdkExporter

    from nat_observability.integrations.opentelemetry import ObservabilitySpanProcessor
    from nat_observability.settings import ObservabilitySettings

    class Nowhere(SdkExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    def ours() -> SpanProcessor:
        exporter = SpanExporter(MemorySink(1), name="memory", limits=DeliveryLimits(queue_items=2 * SPANS))
        return ObservabilitySpanProcessor(ObservabilitySettings(exporters={}), exporters={"memory": exporter})

    def theirs() -> SpanProcessor:
        return BatchSpanProcessor(Nowhere(), max_queue_size=2 * SPANS)

    def cost(make: Callable[[], SpanProcessor]) -> tuple[float, float]:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(make())
        tracer = provider.get_tracer("benchmark")
        gc.collect()
        whole = time.process_time()
        # In batches with pauses, as requests come: neither queue ever overflows.
        spent = 0.0
        for start in range(0, SPANS, 500):
            began = time.thread_time()
            for _ in range(start, start + 500):
                tracer.start_span("chat m", attributes=ATTRIBUTES).end()
            spent += time.thread_time() - began
            time.sleep(0.02)
        provider.force_flush(10_000)
        all_threads = time.process_time() - whole
        provider.shutdown()
        return spent / SPANS * 1e6, all_threads / SPANS * 1e6

    took: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        took["ours"].append(cost(ours))
        took["theirs"].append(cost(theirs))
    figures = {name: (median(a for a, _ in each), median(b for _, b in each)) for name, each in took.items()}
    peer = "BatchSpanProcessor"
    return [
        beside("a span of the SDK, caller's thread", "µs", figures["ours"][0], peer, figures["theirs"][0]),
        beside(
            "a span of the SDK, all threads",
            "µs",
            figures["ours"][1],
            f"{peer}, to nowhere",
            figures["theirs"][1],
        ),
    ]


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure))
