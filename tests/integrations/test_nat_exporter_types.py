"""Each type of the toolkit's exporters, with a server that plays its maker's: a run that ends at once loses nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
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


class Maker:
    """Plays the APIs of Agent 365, Elasticsearch and W&B, 10 ms a request, as far as their clients need them."""

    def __init__(self) -> None:
        self.a365: list[str] = []
        self.documents = 0
        self.started: set[str] = set()
        self.ended: set[str] = set()
        self.asked: set[str] = set()
        maker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(maker.get(self.path))

            do_HEAD = do_GET  # noqa: N815

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                time.sleep(0.01)  # a server that is no faster
                self._answer(maker.post(self.path, body))

            do_PUT = do_POST  # noqa: N815

            def _answer(self, told: Any) -> None:
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header(
                    "x-elastic-product", "Elasticsearch"
                )  # without it, its client refuses to go on
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def get(self, path: str) -> Any:
        """Answer what a client asks about the server."""
        if path == "/server_info":
            return {"min_required_weave_python_version": "0.0.0"}
        return {"version": {"number": "8.17.0"}, "tagline": "You Know, for Search"}

    def post(self, path: str, body: bytes) -> Any:
        """Take what is sent, and answer as the maker does."""
        with self._lock:
            if path == "/_bulk":
                count = len(body.splitlines()) // 2  # each document after a line that says what to do with it
                self.documents += count
                item = {"index": {"_index": "i", "_id": "1", "status": 201, "result": "created"}}
                return {"errors": False, "took": 1, "items": [item] * count}
            told = json.loads(body)
            if path == "/graphql":
                return {"data": {"viewer": {"username": "u"}, "project": {"name": "p"}}}
            if path == "/call/upsert_batch":
                for each in told["batch"]:
                    (self.started if each["mode"] == "start" else self.ended).add(
                        each["req"][each["mode"]]["id"]
                    )
                return {"res": [{} for _ in told["batch"]]}
            if "resourceSpans" in told:
                self.a365 += _names(told)
                return {}
            self.asked.add(path)
            return {"digest": "0", "object_id": "o"}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _names(told: dict[str, Any]) -> list[str]:
    return [
        span["name"]
        for each in told["resourceSpans"]
        for scope in each["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.fixture
def maker() -> Iterator[Maker]:
    """One of the test's own."""
    opened = Maker()
    yield opened
    opened.close()


_PROGRAM = Path(__file__).with_name("nat_process_of_type.py")
_MODULES = {
    "a365": "nat.plugins.a365",
    "data_flywheel_elasticsearch": "nat.plugins.data_flywheel",
    "weave": "nat.plugins.weave",
}


def process(kind: str, url: str, whose: str) -> dict[str, Any]:
    """Let a process record a run with an exporter of this type, and end; return what its ledger says."""
    if find_spec(_MODULES[kind]) is None:
        pytest.skip(f"{_MODULES[kind]} is installed apart. Cure: make test-nat")
    # Of what the packages that the toolkit imports warn.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(_PROGRAM.parents[2])}
    ran = subprocess.run(
        [sys.executable, _PROGRAM, kind, url, whose],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("kind", _MODULES)
def test_nothing_of_a_process_that_ends_is_lost(kind: str, maker: Maker) -> None:
    """The same for types that keep a client of their maker's in the process; each call of W&B's has begun and ended."""
    told = process(kind, maker.url, "ours")
    arrived = {
        "a365": len(maker.a365),
        "data_flywheel_elasticsearch": maker.documents,
        "weave": len(maker.started & maker.ended),
    }
    assert arrived[kind] == _SPANS, told
    assert (told["closed"], told["failed"], told["dropped"], told["pending"]) == (True, 0, {}, 0)
    assert told["delivered"] == told["accepted"] == _SPANS + 1
