"""Each type of the toolkit's exporters that needs no service of its maker: a run that ends at once loses nothing."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("nat.plugins.opentelemetry", reason="the toolkit is installed apart. Cure: make test-nat")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    import grpc
    from nat.builder.context import ContextState as ToolkitState
    from nat.data_models.intermediate_step import (
        IntermediateStep,
        IntermediateStepPayload,
        IntermediateStepType,
        StreamEventData,
    )
    from nat.data_models.invocation_node import InvocationNode
    from nat.plugins.opentelemetry import register as types
    from nat.plugins.phoenix import register as phoenix
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from nat_observability import ExporterManager
from nat_observability.integrations.nat import close_deliveries, ledger_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.may_block,  # the toolkit's exporters do, on the delivery's loop
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages that the toolkit imports
    pytest.mark.timeout(120),
]

_SPANS = 1000


class Collector:
    """Takes OTLP over HTTP and gRPC, 10 ms a request, and counts the spans."""

    def __init__(self) -> None:
        self.spans = 0
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
                collector.take(request)
                return trace_service_pb2.ExportTraceServiceResponse()

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._pool = ThreadPoolExecutor(2)
        self._grpc = grpc.server(self._pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), self._grpc)  # type: ignore[no-untyped-call]
        self.http = f"http://127.0.0.1:{self._http.server_address[1]}/v1/traces"
        self.grpc = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()

    def take(self, request: Any) -> None:
        time.sleep(0.01)  # a back end that is no faster
        with self._lock:
            self.spans += sum(
                len(scope.spans) for each in request.resource_spans for scope in each.scope_spans
            )

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._grpc.stop(None).wait()
        self._pool.shutdown()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One of the test's own."""
    opened = Collector()
    yield opened
    opened.close()


TYPES: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "arize_ax": (
        types.arize_ax_telemetry_exporter,
        types.ArizeAxTelemetryExporter,
        {"endpoint": "grpc", "project": "p", "api_key": "k", "space_id": "s"},
    ),
    "galileo": (
        types.galileo_telemetry_exporter,
        types.GalileoTelemetryExporter,
        {"endpoint": "http", "project": "p", "api_key": "k", "logstream": "l"},
    ),
    "langfuse": (
        types.langfuse_telemetry_exporter,
        types.LangfuseTelemetryExporter,
        {"endpoint": "http", "public_key": "a", "secret_key": "b"},
    ),
    "langsmith": (
        types.langsmith_telemetry_exporter,
        types.LangsmithTelemetryExporter,
        {"endpoint": "http", "project": "p", "api_key": "k"},
    ),
    "mlflow": (
        types.mlflow_telemetry_exporter,
        types.MLflowTelemetryExporter,
        {"endpoint": "http", "experiment_name": "0"},
    ),
    "otelcollector": (
        types.otel_telemetry_exporter,
        types.OtelCollectorTelemetryExporter,
        {"endpoint": "http", "project": "p"},
    ),
    "patronus": (
        types.patronus_telemetry_exporter,
        types.PatronusTelemetryExporter,
        {"endpoint": "grpc", "project": "p", "api_key": "k"},
    ),
    "phoenix": (
        phoenix.phoenix_telemetry_exporter,
        phoenix.PhoenixTelemetryExporter,
        {"endpoint": "http", "project": "p"},
    ),
}


def event(kind: IntermediateStepType, number: int) -> Any:
    """One boundary of a tool's step."""
    return IntermediateStep(
        parent_id="root",
        function_ancestry=InvocationNode(function_name="f", function_id="f"),
        payload=IntermediateStepPayload(
            event_type=kind,
            UUID=str(number),
            name=f"step {number}",
            data=StreamEventData(input="x", output="y"),
        ),
    )


@pytest.mark.parametrize("kind", TYPES)
def test_nothing_of_a_run_that_ends_is_lost(kind: str, collector: Collector) -> None:
    """1000 spans, and the run's event loop is over: under the toolkit's own manager none arrives."""
    make, config, options = TYPES[kind]
    endpoint = {"http": collector.http, "grpc": collector.grpc}[options["endpoint"]]

    async def run() -> Any:
        async with make(config(**{**options, "endpoint": endpoint}), None) as exporter:
            state = ToolkitState.get()
            async with ExporterManager.from_exporters({kind: exporter}).start(state):
                stream = state.event_stream.get()
                for number in range(_SPANS):
                    stream.on_next(event(IntermediateStepType.TOOL_START, number))
                    stream.on_next(event(IntermediateStepType.TOOL_END, number))
        return exporter

    exporter = asyncio.run(run())
    assert close_deliveries(60)
    ledger = ledger_of(exporter)
    assert ledger is not None
    assert (collector.spans, ledger.delivered, ledger.failed, ledger.dropped) == (_SPANS, _SPANS + 1, 0, {})
