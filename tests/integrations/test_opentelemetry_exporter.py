"""The SDK's spans through our exporters: nothing of them is lost, in translation or when the process is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from structlog.testing import capture_logs

from nat_observability import SpanExporter
from nat_observability.errors import SettingsError
from nat_observability.integrations.opentelemetry import (
    ObservabilitySpanExporter,
    ObservabilitySpanProcessor,
)
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks import MemorySink
from tests.integrations.otlp_comparison import decoded, of_otlp, of_the_sdk, plain
from tests.otlp_receiver import ACCEPT, OtlpReceiver, refuse
from tests.processes import run_program

ROOT = Path(__file__).parents[2]
OTHER = SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "x")]))
REMOTE = trace.set_span_in_context(
    trace.NonRecordingSpan(SpanContext(0xAB, 0xCD, True, TraceFlags(3), TraceState([("a", "1")])))
)


ODD: dict[str, Any] = {
    "a": {"x\ny": {"back\\slash": b"\xff", "list": [1.0, None, b"x", {}, [float("nan"), -(2**63)]]}},
    "a\nx": float("-inf"),
    "empty": [],
    "zero": -0.0,
    "error.type": "theirs",
    "mixed": ("1", 1, True, 1.0, b"1"),
}
"""Attributes with names in each other's way, and values that JSON has no types for, inside one another."""


def record(provider: TracerProvider) -> None:
    """A trace that continues another service's, with everything that a span may hold."""
    tracer = provider.get_tracer("shop.client", "1.2", "https://schema", {"team": "a", "key": b"x"})
    provider.get_tracer("shop.client", "1.2", "https://schema", {"team": "a", "key": "x"}).start_span(
        "odd", links=[Link(OTHER, ODD)], attributes=ODD
    ).end()
    with tracer.start_as_current_span(
        "GET /tea",
        context=REMOTE,
        kind=SpanKind.SERVER,
        attributes={"http.request.method": "GET", "bytes": b"\xff", "inf": float("inf")},
        links=[Link(OTHER, {"why": "batch"})],
    ):
        with tracer.start_as_current_span("chat m", kind=SpanKind.CLIENT) as span:
            span.set_attributes(
                {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
            )
            span.add_event("first token", {"n": 1}, timestamp=1_700_000_000_000_000_123)
            span.set_status(StatusCode.OK)
        with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("fails"):
            raise ValueError("no")


@contextmanager
def provided(*processors: Any, resource: Resource | None = None) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False, resource=resource)
    for each in processors:
        provider.add_span_processor(each)
    try:
        yield provider
    finally:
        provider.shutdown()


def otlp_to(receiver: OtlpReceiver, **settings: Any) -> ObservabilitySettings:
    return ObservabilitySettings(
        exporters={"main": {"type": "otlp", "endpoint": receiver.url, "compression": "none"}}, **settings
    )


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without variables of ours and OpenTelemetry's."""
    for name in os.environ:
        if name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)


def schema_urls_of(bodies: list[bytes]) -> set[str]:
    """Return the schema URLs of the resources of requests."""
    requests = map(ExportTraceServiceRequest.FromString, bodies)
    return {each.schema_url for request in requests for each in request.resource_spans}


class Unreadable(dict[str, Any]):
    """Attributes that cannot be read."""

    def items(self) -> Any:
        raise LookupError


class TestLossless:
    def test_what_the_sdk_holds_is_what_arrives(self) -> None:
        """Names, kinds, status, attributes of each type, events, links, scope, parents and resource."""
        seen = InMemorySpanExporter()
        attributes: dict[str, Any] = {
            "service.name": "shop",
            "zone": 3,
            "on": True,
            "share": 0.5,
            "many": ["a", "b"],
        }
        resource = Resource(attributes, "https://schema/resource")
        with OtlpReceiver() as receiver:
            ours = ObservabilitySpanProcessor(otlp_to(receiver))
            with provided(ours, SimpleSpanProcessor(seen), resource=resource) as provider:
                record(provider)
            bodies = [request.body for request in receiver.requests]
            spans = {span.span_id: span for span in receiver.spans}
            (found,) = [request.resources[0].attributes for request in receiver.requests][-1:]
        arrived = {span_id: each for body in bodies for span_id, each in of_otlp(body).items()}
        finished = seen.get_finished_spans()
        assert len(finished) == 4
        for span in finished:
            key = span.get_span_context().span_id.to_bytes(8)  # type: ignore[union-attr]
            assert arrived[key] == of_the_sdk(span)
            # In the same order, and of the same types: 1 and True are equal.
            assert repr(arrived[key]) == repr(of_the_sdk(span))
            assert spans[key].flags & 0xFF == span.get_span_context().trace_flags  # type: ignore[union-attr]
            assert spans[key].parent_span_id == (span.parent.span_id.to_bytes(8) if span.parent else b"")
            assert int.from_bytes(spans[key].trace_id) == span.get_span_context().trace_id  # type: ignore[union-attr]
        assert plain(resource.attributes).items() <= decoded(found).items()
        assert "telemetry.sdk.name" in decoded(found)
        assert schema_urls_of(bodies) == {"https://schema/resource"}

    def test_redaction_and_limits_are_those_of_the_settings(self) -> None:
        """An application with the SDK alone sends no secret."""
        with OtlpReceiver() as receiver:
            settings = otlp_to(receiver, attribute_value_length_limit=20)
            with provided(ObservabilitySpanProcessor(settings)) as provider:
                span = provider.get_tracer("t").start_span("s")
                span.set_attributes({"api_key": "sk-very-secret-0123456789", "long": "x" * 90})
                span.end()
            (sent,) = receiver.spans
        values = {each.key: each.value.string_value for each in sent.attributes}
        assert values["api_key"].startswith("[redacted")
        assert len(values["long"]) < 90

    def test_a_secret_in_bytes_that_are_no_text_is_redacted(self) -> None:
        """Whatever stands around it, and wherever it is; the other bytes stay as they are."""
        key = b"sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
        every = bytes(range(256))
        attributes: dict[str, Any] = {"a": b"\xff" + key, "b": {"x": [key + b"\xfe", every]}, "c": every}
        with OtlpReceiver() as receiver, provided(ObservabilitySpanProcessor(otlp_to(receiver))) as provider:
            span = provider.get_tracer("t", attributes=attributes).start_span("s", attributes=attributes)
            span.add_event("e", attributes)
            span.add_link(OTHER, attributes)
            span.end()
            provider.force_flush(10_000)
            body = ExportTraceServiceRequest.FromString(receiver.requests[0].body)
            scope = body.resource_spans[0].scope_spans[0].scope
            (sent,) = receiver.spans
        for found in (sent, sent.events[0], sent.links[0], scope):
            values = decoded(found.attributes)
            assert values["a"] == b"\xff[redacted:openai_key]"
            assert values["b"] == {"x": [b"[redacted:openai_key]\xfe", every]}
            assert values["c"] == every

    def test_attributes_with_names_of_ours_stay_where_they_were(self) -> None:
        """Theirs come first, in their order, and ours behind them."""
        theirs = {"b": "1", "nat.workflow.run_id": "x", "session.id": "s", "a": "2"}
        with OtlpReceiver() as receiver, provided(ObservabilitySpanProcessor(otlp_to(receiver))) as provider:
            provider.get_tracer("t").start_span("s", attributes=theirs).end()
            provider.force_flush(10_000)
            (sent,) = receiver.spans
        assert list(decoded(sent.attributes).items())[:4] == list(theirs.items())

    def test_session_and_user_of_a_span_are_those_of_its_run(self) -> None:
        """So that a store finds the trace by them; other spans of the trace get no attributes of them."""
        sink = MemorySink(10)
        exporters = {"memory": SpanExporter(sink, name="memory")}
        ours = ObservabilitySpanProcessor(ObservabilitySettings(exporters={}), exporters=exporters)
        with provided(ours) as provider:
            tracer = provider.get_tracer("t")
            with tracer.start_as_current_span("root", attributes={"session.id": "s", "user.id": "u"}):
                tracer.start_span("child").end()
        runs = {span.name: span.run for span in sink.spans}
        assert (runs["root"].conversation_id, runs["root"].user_id) == ("s", "u")
        assert (runs["child"].conversation_id, runs["child"].user_id) == (None, None)
        assert runs["child"].run_id == runs["root"].run_id

    def test_a_span_that_cannot_be_read_is_counted_and_logged(self) -> None:
        """Of a library that makes its attributes late, and fails: the others go on."""
        with OtlpReceiver() as receiver, capture_logs() as lines:
            processor = ObservabilitySpanProcessor(otlp_to(receiver))
            with provided(processor) as provider:
                processor.on_end(ReadableSpan("unread", OTHER, attributes=Unreadable(a=1)))
                provider.get_tracer("t").start_span("s").end()
                provider.force_flush()
            assert [span.name for span in receiver.spans] == ["s"]
        assert [line["log_level"] for line in lines if line["event"] == "sdk_span_not_read"] == ["warning"]
        assert [line["dropped"] for line in lines if line["event"] == "delivery_dropped"] == [{"not_read": 1}]

    def test_ours_win_over_the_sdk_s_resource(self) -> None:
        """A name that our settings give stays."""
        with OtlpReceiver() as receiver:
            ours = ObservabilitySpanExporter(otlp_to(receiver, service_name="ours"))
            with provided(
                BatchSpanProcessor(ours), resource=Resource({"service.name": "theirs", "zone": "1"})
            ) as p:
                p.get_tracer("t").start_span("s").end()
            (request,) = receiver.requests
        found = {each.key: each.value.string_value for each in request.resources[0].attributes}
        assert (found["service.name"], found["zone"]) == ("ours", "1")


class RecordOnly(Sampler):
    """Records spans, and leaves them out of what is exported."""

    def should_sample(self, *arguments: Any, **more: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordOnly"


class TestDelivery:
    def test_a_flush_waits_for_the_back_end(self) -> None:
        """As `force_flush` of the SDK promises; every span is in the ledger."""
        sink = MemorySink(1000)
        exporter = SpanExporter(sink, name="memory")
        ours = ObservabilitySpanProcessor(ObservabilitySettings(exporters={}), exporters={"memory": exporter})
        with provided(ours) as provider:
            tracer = provider.get_tracer("t")
            for number in range(100):
                tracer.start_span(f"s{number}").end()
            assert provider.force_flush(10_000)
            assert [span.name for span in sink.spans] == [f"s{number}" for number in range(100)]
        assert exporter.delivery.health().ledger.delivered == 100

    def test_a_flush_of_the_exporter_delivers_what_the_sdk_s_processor_has_flushed(self) -> None:
        spans: list[Any] = []
        gate = threading.Event()

        def write(batch: Any) -> None:
            gate.wait(10)
            spans.extend(batch)

        exporter = SpanExporter(write, name="slow")
        ours = ObservabilitySpanExporter(ObservabilitySettings(exporters={}), exporters={"slow": exporter})
        with provided(BatchSpanProcessor(ours, schedule_delay_millis=60_000)) as provider:
            provider.get_tracer("t").start_span("s").end()
            assert provider.force_flush(10_000)
            opens = threading.Timer(0.05, gate.set)
            opens.start()
            assert ours.force_flush(10_000)
            arrived = len(spans)
            opens.join()
        assert arrived == 1

    def test_first_spans_that_end_in_several_threads_are_all_delivered(self) -> None:
        """They open the exporters once: spans of a second opening would escape each flush and the shutdown."""
        with OtlpReceiver() as receiver, provided(ObservabilitySpanProcessor(otlp_to(receiver))) as provider:
            tracer, together = provider.get_tracer("shop"), threading.Barrier(8)

            def end_one() -> None:
                span = tracer.start_span("first")
                together.wait(10)
                span.end()

            threads = [threading.Thread(target=end_one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert provider.force_flush(10_000)
            arrived = len(receiver.spans)
        assert arrived == 8

    def test_a_flush_that_takes_too_long_says_so(self) -> None:
        """A back end that is down, and a deadline."""
        with OtlpReceiver(behaviour=refuse(503)) as receiver:
            settings = otlp_to(receiver, shutdown_timeout=0.2)
            with provided(ObservabilitySpanProcessor(settings)) as provider:
                provider.get_tracer("t").start_span("s").end()
                assert not provider.force_flush(50)

    def test_a_flush_of_what_is_in_the_spool_says_what_the_back_end_has(self, tmp_path: Path) -> None:
        """Saved is not delivered: not while the back end is down, and again when it is back."""
        with OtlpReceiver(behaviour=refuse(503)) as receiver:
            main = {
                "type": "otlp",
                "endpoint": receiver.url,
                "retry_initial": 0.01,
                "retry_max": 0.02,
                "spool": "always",
                "spool_path": str(tmp_path),
                "breaker_failures": 1000,
            }
            settings = ObservabilitySettings(exporters={"main": main})
            with provided(ObservabilitySpanProcessor(settings)) as provider:
                provider.get_tracer("t").start_span("s").end()
                while_down = provider.force_flush(50)
                receiver.behaviour = ACCEPT
                assert provider.force_flush(10_000)
                arrived = len(receiver.spans)
        assert (while_down, arrived) == (False, 1)

    def test_a_flush_says_once_that_something_was_lost(self) -> None:
        """A span that the back end refuses for good is not delivered, and the next one is."""
        with (
            OtlpReceiver(behaviour=refuse(400)) as receiver,
            provided(ObservabilitySpanProcessor(otlp_to(receiver))) as provider,
        ):
            provider.get_tracer("t").start_span("refused").end()
            refused = provider.force_flush()
            receiver.behaviour = ACCEPT
            provider.get_tracer("t").start_span("taken").end()
            assert provider.force_flush()
        assert not refused

    def test_a_forked_child_delivers_its_own(self, tmp_path: Path) -> None:
        """Of a processor that its parent has used (G15), without waiting for a run; the parent goes on."""
        program = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from nat_observability.integrations.opentelemetry import ObservabilitySpanProcessor
from nat_observability.settings import ObservabilitySettings
settings = ObservabilitySettings(exporters={"main": {"type": "sqlite", "path": sys.argv[1]}})
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(ObservabilitySpanProcessor(settings))
def end(name):
    provider.get_tracer("t").start_span(name).end()
    assert provider.force_flush(10_000)
end("before")
child = os.fork()
if not child:
    end("in the child")
    provider.shutdown()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
end("after")
provider.shutdown()
"""
        path = tmp_path / "spans.sqlite3"
        run_program(program, path, measured=False)
        with closing(sqlite3.connect(path)) as store:
            names = {name for (name,) in store.execute("SELECT name FROM spans")}
        assert names == {"before", "in the child", "after"}

    def test_what_the_sampler_leaves_out_stays_out(self) -> None:
        """The sampler is the provider's."""
        sink = MemorySink(10)
        exporters = {"memory": SpanExporter(sink, name="memory")}
        ours = ObservabilitySpanProcessor(ObservabilitySettings(exporters={}), exporters=exporters)
        provider = TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False)
        provider.add_span_processor(ours)
        provider.get_tracer("t").start_span("s").end()
        provider.force_flush()
        provider.shutdown()
        assert sink.spans == []

    def test_what_comes_after_a_shutdown_is_said(self) -> None:
        """It is dropped, and a line says so (G20); neither an error nor a thread is left."""
        sink = MemorySink(10)
        exporters = {"memory": SpanExporter(sink, name="memory")}
        ours = ObservabilitySpanExporter(ObservabilitySettings(exporters={}), exporters=exporters)
        with provided(SimpleSpanProcessor(ours)) as provider:
            provider.get_tracer("t").start_span("before").end()
        late = TracerProvider(shutdown_on_exit=False)
        late.add_span_processor(SimpleSpanProcessor(ours))
        with capture_logs() as logs:
            late.get_tracer("t").start_span("after").end()
        assert [span.name for span in sink.spans] == ["before"]
        assert [(each["event"], each["span"]) for each in logs] == [("sdk_span_came_late", "after")]

    def test_one_exporter_by_its_own_settings(self, tmp_path: Path) -> None:
        """As a configuration file of the SDK gives them."""
        path = tmp_path / "spans.jsonl"
        ours = ObservabilitySpanExporter(type="file", path=str(path))
        with provided(BatchSpanProcessor(ours)) as provider:
            provider.get_tracer("t").start_span("s").end()
        assert b'"name":"s"' in path.read_bytes()

    @pytest.mark.parametrize(
        ("main", "said"),
        [
            ({"type": "memory", "record": "steps"}, "cannot take the SDK's spans"),
            ({"type": "otlp", "ca_file": "none.pem", "endpoint": "https://a"}, "none.pem"),
        ],
    )
    def test_a_wrong_setting_stops_the_start(self, main: dict[str, Any], said: str) -> None:
        """And not the first span."""
        with pytest.raises(SettingsError, match=said):
            ObservabilitySpanExporter(ObservabilitySettings(exporters={"main": main}))

    def test_a_configuration_that_records_nothing_says_so(self) -> None:
        """Once (G20)."""
        with capture_logs() as logs:
            ObservabilitySpanProcessor(ObservabilitySettings(exporters={})).shutdown()
        assert [each["event"] for each in logs] in (["no_exporter_configured"], [])


# A program with the SDK alone: what follows is what auto-instrumentation does before it.
PROGRAM = """
import itertools, os, sys
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure(auto_instrumentation_version="1")
from opentelemetry import trace
tracer = trace.get_tracer("app")
life = sys.argv[1]
most = int(sys.argv[2])
for number in itertools.count():
    if number == most:
        break
    with tracer.start_as_current_span(f"{life}-{number}"):
        with tracer.start_as_current_span(f"{life}-{number}-inner"):
            pass
    os.write(1, f"{life}-{number}\\n".encode())
"""


@pytest.fixture
def entry_point(tmp_path: Path) -> str:
    """A folder with the metadata of an installed package, for a checkout that is not installed."""
    folder = tmp_path / "metadata" / "nat_observability_checkout-0.0.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nat-observability-checkout\nVersion: 0.0.0\n"
    )
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    section = pyproject.partition("[project.entry-points.opentelemetry_traces_exporter]\n")[2].splitlines()[0]
    point = section.replace('"', "")
    (folder / "entry_points.txt").write_text(f"[opentelemetry_traces_exporter]\n{point}\n")
    return str(folder.parent)


def started(entry_point: str, variables: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    environment = {key: text for key, text in os.environ.items() if not key.startswith(("OTEL_", "NAT_"))}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={
            **environment,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{entry_point}",
            "OTEL_TRACES_EXPORTER": "nat_observability",
            "OTEL_SERVICE_NAME": "shop",
            **variables,
        },
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_killed_application_with_the_sdk_alone_loses_nothing(entry_point: str, tmp_path: Path) -> None:
    """With `spool=always`: what had ended when it was killed is delivered by its successor, without any code (G6)."""
    prefix = "NAT_OBSERVABILITY_EXPORTERS__MAIN__"
    with OtlpReceiver(behaviour=refuse(503)) as receiver:
        variables = {
            f"{prefix}TYPE": "otlp",
            f"{prefix}ENDPOINT": receiver.url,
            f"{prefix}SPOOL": "always",
            f"{prefix}SPOOL_PATH": str(tmp_path / "spool"),
        }
        ended: list[str] = []
        for life in range(2):
            with started(entry_point, variables, str(life), "-1") as process:
                assert process.stdout is not None
                ended += [process.stdout.readline().strip() for _ in range(40)]
                process.send_signal(signal.SIGKILL)
                ended += [line.strip() for line in process.stdout if line.endswith("\n")]
        receiver.behaviour = ACCEPT
        with started(entry_point, variables, "last", "3") as process:
            assert process.stdout is not None
            ended += process.stdout.read().split()
            assert process.wait(30) == 0
        arrived = {span.name for span in receiver.spans}
        services = {
            each.value.string_value
            for request in receiver.requests
            for each in request.resources[0].attributes
            if each.key == "service.name"
        }
    names = set(ended)
    assert len(names) >= 83
    assert names <= arrived
    assert {f"{name}-inner" for name in names} <= arrived
    assert services == {"shop"}
