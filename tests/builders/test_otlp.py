"""Contract of the builders of OTLP exporters: from variables to spans at a receiver, and what a wrong one says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import BaseModel, SecretStr

from nat_observability import ContextState, ExporterManager, StepKind, step
from nat_observability.builders import build_exporters
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingExtraError, SettingsError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.settings import ObservabilitySettings
from tests.otlp_receiver import OtlpReceiver

PREFIX = "NAT_OBSERVABILITY_EXPORTERS__MAIN"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any of our variables, the standard ones and a proxy."""
    for name in os.environ:
        if name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


def settings(main: Mapping[str, Any], **process: Any) -> ObservabilitySettings:
    """Settings with one exporter, `main`, and what is to be known of the process."""
    return ObservabilitySettings(exporters={"main": main}, **process)


def one_run(settings: ObservabilitySettings) -> None:
    """A run of one step that waits until the back end has it."""
    exporters = build_exporters(settings)

    async def run() -> None:
        manager = ExporterManager.from_exporters(exporters)
        async with manager.start(ContextState()):
            with step(StepKind.TOOL, "answer"):
                pass

    asyncio.run(run())


class GrpcReceiver:
    """Keeps the calls that it gets over gRPC: their metadata and requests."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str | bytes]] = []
        self.requests: list[ExportTraceServiceRequest] = []

    def export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> bytes:
        """Take one."""
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.requests.append(request)
        return b""


@contextmanager
def grpc_receiver() -> Iterator[tuple[GrpcReceiver, str]]:
    """A receiver on the loopback interface, and its address without a scheme."""
    receiver = GrpcReceiver()
    method: Any = grpc.unary_unary_rpc_method_handler(
        receiver.export, request_deserializer=ExportTraceServiceRequest.FromString
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": method})])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield receiver, f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


class TestWhatArrives:
    def test_over_http(self) -> None:
        """Variables are enough: spans arrive at the path for traces, with headers and resource."""
        with OtlpReceiver() as receiver:
            headers = {"Authorization": "Bearer key"}
            own = {"type": "otlp", "endpoint": receiver.url, "headers": headers, "flush": "delivered"}
            one_run(settings(own, service_name="shop", resource_attributes={"region": "eu"}))
            (request,) = receiver.requests
        assert request.path == "/v1/traces"
        assert request.headers["authorization"] == "Bearer key"
        assert request.headers["content-encoding"] == "gzip"
        assert any(span.name.endswith("answer") for span in request.spans)
        resource = attributes(request.resources[0])
        assert (resource["service.name"], resource["region"]) == ("shop", "eu")

    def test_over_http_to_an_address_for_traces(self) -> None:
        """An address for traces wins, and is taken as it is; compression can be switched off."""
        with OtlpReceiver() as receiver:
            own = {"endpoint": "http://127.0.0.1:1", "traces_endpoint": f"{receiver.url}/custom?key=1"}
            one_run(settings({"type": "otlp", "compression": "none", "flush": "delivered", **own}))
            (request,) = receiver.requests
        assert request.path.startswith("/custom")
        assert "content-encoding" not in request.headers

    def test_as_the_standard_variables_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A configuration for another OTLP exporter works for ours."""
        with OtlpReceiver() as receiver:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{receiver.url}/base/")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b")
            monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
            one_run(settings({"type": "otlp", "flush": "delivered"}))
            (request,) = receiver.requests
        assert (request.path, request.headers["x-key"]) == ("/base/v1/traces", "a b")
        assert attributes(request.resources[0])["service.name"] == "shop"

    def test_over_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same over gRPC, here to an address without a scheme; headers go as metadata."""
        with grpc_receiver() as (receiver, address):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b")
            one_run(settings({"type": "otlp", "protocol": "grpc", "flush": "delivered"}, service_name="shop"))
        assert receiver.metadata[0]["x-key"] == "a b"
        resource_spans = receiver.requests[0].resource_spans[0]
        assert any(span.name.endswith("answer") for span in resource_spans.scope_spans[0].spans)
        assert attributes(resource_spans.resource)["service.name"] == "shop"

    def test_over_grpc_to_an_address_for_traces(self) -> None:
        """It wins over gRPC as over HTTP."""
        with grpc_receiver() as (receiver, address):
            own = {"endpoint": "http://127.0.0.1:1", "traces_endpoint": f"http://{address}"}
            one_run(settings({"type": "otlp", "protocol": "grpc", "flush": "delivered", **own}))
        assert receiver.requests

    def test_to_phoenix(self) -> None:
        """The key is a bearer token, and the project is an attribute beside those of the process."""
        with OtlpReceiver() as receiver:
            own = {"endpoint": receiver.url, "api_key": "key", "project": "orders", "flush": "delivered"}
            one_run(settings({"type": "phoenix", **own}, service_name="shop"))
            (request,) = receiver.requests
        assert (request.path, request.headers["authorization"]) == ("/v1/traces", "Bearer key")
        resource = attributes(request.resources[0])
        assert (resource["service.name"], resource["openinference.project.name"]) == ("shop", "orders")

    def test_to_langfuse(self) -> None:
        """The keys are Basic authentication."""
        with OtlpReceiver() as receiver:
            own = {"host": receiver.url, "public_key": "pk", "secret_key": "sk", "flush": "delivered"}
            one_run(settings({"type": "langfuse", **own}))
            (request,) = receiver.requests
        assert request.path == "/api/public/otel/v1/traces"
        assert request.headers["authorization"] == "Basic cGs6c2s="


def attributes(resource: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in resource.attributes}


def refused(settings: ObservabilitySettings) -> tuple[str, ...]:
    """What the container says to settings that cannot be built."""
    container = ObservabilityContainer()
    container.settings.override(settings)
    with pytest.raises(SettingsError) as caught:
        container.exporters()
    assert caught.value.__context__ is None
    return caught.value.problems


TLS = {
    "endpoint": "https://127.0.0.1:1",
    "host": "https://127.0.0.1:1",
    "public_key": "pk",
    "secret_key": "sk",
}


def of_type(kind: str) -> dict[str, str]:
    fields = {
        "otlp": ("endpoint",),
        "phoenix": ("endpoint",),
        "langfuse": ("host", "public_key", "secret_key"),
    }
    return {"type": kind, **{key: TLS[key] for key in fields[kind]}}


class TestWhatIsRefused:
    @pytest.mark.parametrize("kind", ["otlp", "phoenix", "langfuse"])
    @pytest.mark.parametrize("option", ["ca_file", "client_certificate"])
    def test_a_certificate_that_does_not_exist(self, kind: str, option: str) -> None:
        """It is found before anything is sent; the error names the exporter's variables, the option and the file."""
        (line,) = refused(settings({**of_type(kind), option: "none.pem"}))
        assert line.startswith(f"{PREFIX}: {option} none.pem: cannot be read: No such file or directory.")

    def test_a_certificate_that_does_not_exist_over_grpc(self) -> None:
        """It is the same over gRPC."""
        (line,) = refused(settings({**of_type("otlp"), "protocol": "grpc", "ca_file": "none.pem"}))
        assert line.startswith(f"{PREFIX}: ca_file none.pem: cannot be read")

    def test_a_certificate_that_is_not_one(self, tmp_path: Path) -> None:
        """A file that holds something else is found too."""
        (tmp_path / "ca.pem").write_text("no certificate")
        (line,) = refused(settings({**of_type("otlp"), "ca_file": tmp_path / "ca.pem"}))
        assert line.startswith(f"{PREFIX}: ca_file {tmp_path / 'ca.pem'}: cannot be used")

    def test_certificates_without_tls(self) -> None:
        """Options that do not go together are reported with the name of the exporter's variables."""
        (line,) = refused(settings({"type": "otlp", "ca_file": "ca.pem"}))
        assert line.startswith(f"{PREFIX}: ca_file, client_certificate and client_key need an endpoint")

    def test_a_path_over_grpc(self) -> None:
        """gRPC has none."""
        (line,) = refused(settings({"type": "otlp", "protocol": "grpc", "endpoint": "http://a/v1/traces"}))
        assert line.startswith(f"{PREFIX}: endpoint has a path")

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_a_header_that_the_sink_sets(self, protocol: str) -> None:
        """The error names the header, and not its value."""
        headers = {"content-type": "s3cr3t"}
        (line,) = refused(settings({"type": "otlp", "protocol": protocol, "headers": headers}))
        assert line.startswith(f"{PREFIX}: headers: 'content-type' is set by the sink")
        assert "s3cr3t" not in line

    def test_every_exporter_is_reported_at_once(self) -> None:
        """One error has the problems of all exporters."""
        wrong = {"type": "otlp", "ca_file": "ca.pem"}
        lines = refused(ObservabilitySettings(exporters={"a": wrong, "b": wrong, "c": {"type": "memory"}}))
        assert [line.split(":")[0][-3:] for line in lines] == ["__A", "__B"]

    @pytest.mark.parametrize(
        ("own", "package", "extra"),
        [
            ({"type": "otlp"}, "aiohttp", "otlp"),
            ({"type": "otlp", "protocol": "grpc"}, "grpc", "grpc"),
            ({"type": "phoenix"}, "aiohttp", "otlp"),
            ({"type": "langfuse", "public_key": "pk", "secret_key": "sk"}, "aiohttp", "otlp"),
        ],
    )
    def test_a_missing_extra_names_the_exporter(
        self, monkeypatch: pytest.MonkeyPatch, own: dict[str, str], package: str, extra: str
    ) -> None:
        """The error has the exporter, its type, and the command that installs what it needs."""
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        with pytest.raises(MissingExtraError) as caught:
            build_exporters(settings(own))
        assert str(caught.value) == (
            f"Exporter 'main' of type '{own['type']}' needs an extra: pip install 'nat-observability[{extra}]'"
        )

    def test_nothing_is_built_if_nothing_is_recorded(self) -> None:
        """A process that is switched off needs no certificate."""
        assert build_exporters(settings({**of_type("otlp"), "ca_file": "none.pem"}, enabled=False)) == {}


class QueueOptions(BaseModel):
    """What a custom type validates."""

    workers: int
    token: SecretStr


class TestCustomTypes:
    def test_a_model_that_does_not_validate_shows_no_value(self) -> None:
        """A custom type's own validation error becomes lines with its variables, and without its values (G14)."""

        def build(name: str, own: Any, _: ObservabilitySettings) -> BaseExporter:
            QueueOptions.model_validate(own.options())
            raise AssertionError

        with pytest.raises(SettingsError) as caught:
            build_exporters(settings({"type": "queue", "workers": "s3cr3t"}), {"queue": build})
        assert caught.value.problems == (
            f"{PREFIX}__WORKERS is not a whole number.",
            f"{PREFIX}__TOKEN is not set.",
        )
        assert caught.value.__context__ is None

    def test_what_a_builder_refuses_is_reported_under_its_variables(self) -> None:
        """A ValueError of a builder's own, and a SettingsError, keep their words."""

        def refuse(name: str, own: Any, _: ObservabilitySettings) -> BaseExporter:
            raise ValueError("there is no queue of that name")

        def refuse_as_we_do(name: str, own: Any, _: ObservabilitySettings) -> BaseExporter:
            raise SettingsError(["TOPIC is not set."])

        with pytest.raises(SettingsError, match=f"{PREFIX}: there is no queue of that name"):
            build_exporters(settings({"type": "queue"}), {"queue": refuse})
        with pytest.raises(SettingsError) as caught:
            build_exporters(settings({"type": "queue"}), {"queue": refuse_as_we_do})
        assert caught.value.problems == ("TOPIC is not set.",)

    def test_a_mistake_in_a_builder_is_not_hidden(self) -> None:
        """An error that is not a refusal is passed on unchanged."""

        def fail(name: str, own: Any, _: ObservabilitySettings) -> BaseExporter:
            raise KeyError("address")

        with pytest.raises(KeyError):
            build_exporters(settings({"type": "queue"}), {"queue": fail})


class TestImports:
    @pytest.mark.parametrize(
        "code",
        [
            "import nat_observability.builders",
            "import nat_observability.containers",
            "from nat_observability.settings import *\n"
            "from nat_observability.builders import build_exporters\n"
            "build_exporters(ObservabilitySettings(exporters={'main': {'type': 'memory'}}))",
        ],
    )
    def test_a_process_that_sends_nothing_imports_nothing(self, code: str) -> None:
        """Neither a client nor the protocol's package is imported before an exporter needs it."""
        heavy = "('aiohttp', 'grpc', 'opentelemetry', 'google.protobuf')"
        # dependency-injector imports web frameworks wherever it finds them, and they what they please.
        hidden = "import sys\nsys.modules.update(dict.fromkeys(('fast_depends', 'fastapi', 'flask', 'starlette')))\n"
        code = f"{hidden}{code}\nprint([name for name in sys.modules if name.startswith({heavy})])"
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == "[]"
