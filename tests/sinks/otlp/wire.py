"""scope_spans_of(): what a request holds, by instrumentation scope."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2


def scope_spans_of(request: bytes) -> list[trace_pb2.ScopeSpans]:
    """Return every ScopeSpans of a request, which has one resource."""
    (resource_spans,) = ExportTraceServiceRequest.FromString(request).resource_spans
    return list(resource_spans.scope_spans)
