"""Contract of the presets: what arrives at a receiver is what each maker's documentation requires."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from nat_observability import ContextState, ExporterManager, StepKind, step
from nat_observability.builders import build_exporters
from nat_observability.errors import SettingsError
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.presets import PRESETS
from tests.otlp_receiver import OtlpReceiver


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any variable of ours, of OpenTelemetry or of a maker."""
    makers = {name for row in PRESETS.values() for names in row.variables.values() for name in names}
    for name in os.environ:
        ours = name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")) or name.upper().endswith("_PROXY")
        if ours or name in makers:
            monkeypatch.delenv(name)


class Required(NamedTuple):
    """What a maker's documentation says that a request has to have; `source` is where."""

    source: str
    settings: Mapping[str, str]
    path: str
    headers: Mapping[str, str]
    resource: Mapping[str, str] = {}


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# Written from the pages named, and not from the rows: a wrong row has to fail.
REQUIRED = {
    "arize": Required(
        "Arize AX, arize-otel: headers authorization and arize-space-id; project in the resource",
        {"api_key": "k", "account": "U3BhY2U6MQ==", "project": "shop"},
        "/v1/traces",
        {"authorization": "k", "arize-space-id": "U3BhY2U6MQ==", "api_key": "k", "space_id": "U3BhY2U6MQ=="},
        {"openinference.project.name": "shop"},
    ),
    "datadog": Required(
        "docs.datadoghq.com, LLM Observability, OpenTelemetry Instrumentation: dd-api-key and dd-otlp-source=llmobs",
        {"api_key": "k", "project": "shop"},
        "/v1/traces",
        {"dd-api-key": "k", "dd-otlp-source": "llmobs", "content-type": "application/x-protobuf"},
        {"service.name": "shop"},
    ),
    "dynatrace": Required(
        "docs.dynatrace.com, OTLP export: <base>/api/v2/otlp/v1/traces, HTTP with binary protobuf, Api-Token",
        {"api_key": "dt0c01.k"},
        "/api/v2/otlp/v1/traces",
        {"authorization": "Api-Token dt0c01.k", "content-type": "application/x-protobuf"},
    ),
    "galileo": Required(
        "docs.galileo.ai, OpenTelemetry: https://api.galileo.ai/otel/traces; Galileo-API-Key, project, logstream",
        {"api_key": "k", "project": "shop", "account": "live"},
        "/otel/traces",
        {"galileo-api-key": "k", "project": "shop", "logstream": "live"},
    ),
    "grafana": Required(
        "grafana.com, Send data to the Grafana Cloud OTLP endpoint: .../otlp, Basic <instance id>:<token>",
        {"api_key": "glc_k", "account": "1546554"},
        "/otlp/v1/traces",
        {"authorization": basic("1546554", "glc_k")},
    ),
    "honeycomb": Required(
        "docs.honeycomb.io, Send data with OpenTelemetry: x-honeycomb-team",
        {"api_key": "hcaik_k"},
        "/v1/traces",
        {"x-honeycomb-team": "hcaik_k"},
    ),
    "langsmith": Required(
        "docs.langchain.com, Trace with OpenTelemetry: <endpoint>/otel, x-api-key, Langsmith-Project",
        {"api_key": "lsv2_k", "project": "shop", "account": "ws-1"},
        "/otel/v1/traces",
        {"x-api-key": "lsv2_k", "langsmith-project": "shop", "x-tenant-id": "ws-1"},
    ),
    "mlflow": Required(
        "mlflow.org, Collect OpenTelemetry traces: /v1/traces of the server, x-mlflow-experiment-id",
        {"project": "7", "api_key": "token"},
        "/v1/traces",
        {"x-mlflow-experiment-id": "7", "authorization": "Bearer token"},
    ),
    "patronus": Required(
        "docs.patronus.ai, tracing: x-api-key and pat-project-name",
        {"api_key": "k", "project": "shop"},
        "/v1/traces",
        {"x-api-key": "k", "pat-project-name": "shop"},
    ),
    "weave": Required(
        "docs.wandb.ai, Send OpenTelemetry traces to Weave: /otel/v1/traces, wandb-api-key, two resource attributes",
        {"api_key": "k", "account": "acme", "project": "shop"},
        "/otel/v1/traces",
        {"wandb-api-key": "k", "content-type": "application/x-protobuf"},
        {"wandb.entity": "acme", "wandb.project": "shop"},
    ),
}


def one_run(main: Mapping[str, Any]) -> None:
    """A run of one step that waits until the back end has it."""
    exporters = build_exporters(ObservabilitySettings(exporters={"main": {"flush": "delivered", **main}}))

    async def run() -> None:
        async with ExporterManager.from_exporters(exporters).start(ContextState()):
            with step(StepKind.TOOL, "answer"):
                pass

    import asyncio

    asyncio.run(run())


def test_each_preset_is_checked_here() -> None:
    """A new row needs what its maker requires."""
    assert set(REQUIRED) == set(PRESETS)


def test_what_arrives_is_what_the_makers_require() -> None:
    """Paths, header names and values, resource attributes; and spans, for each preset."""
    with OtlpReceiver() as receiver:
        for kind, required in REQUIRED.items():
            receiver.take()
            one_run({"type": kind, "endpoint": receiver.url, **required.settings})
            (request,) = receiver.requests
            assert request.path == required.path, required.source
            assert {name: request.headers[name] for name in required.headers} == required.headers
            found = {each.key: each.value.string_value for each in request.resources[0].attributes}
            assert {name: found[name] for name in required.resource} == required.resource
            assert any(span.name.endswith("answer") for span in request.spans)


@pytest.mark.parametrize(
    ("kind", "address", "expected"),
    [
        ("langsmith", "https://eu.api.smith.langchain.com", "/otel/v1/traces"),
        ("langsmith", "https://host.example/api/v1", "/api/v1/otel/v1/traces"),
        ("langsmith", "https://host.example/otel/", "/otel/v1/traces"),
        ("weave", "https://acme.wandb.io/traces", "/traces/otel/v1/traces"),
        ("weave", "https://trace.wandb.ai/otel/v1/traces", "/otel/v1/traces"),
        ("weave", "https://trace.wandb.ai/agents", "/agents/otel/v1/traces"),
        ("arize", "https://otlp.eu-west-1a.arize.com/v1", "/v1/traces"),
        ("galileo", "https://api.galileo.ai/otel/traces", "/otel/traces"),
        ("dynatrace", "https://x.live.dynatrace.com/api/v2/otlp", "/api/v2/otlp/v1/traces"),
        ("grafana", "https://otlp-gateway-prod-eu.grafana.net/otlp", "/otlp/v1/traces"),
    ],
)
def test_an_address_in_any_form_that_makers_show(kind: str, address: str, expected: str) -> None:
    """Of the server, of its OTLP, or whole: nothing is added twice."""
    from nat_observability.builders.presets import target_of

    entry = ObservabilitySettings(
        exporters={
            "main": {"type": kind, "endpoint": address, "api_key": "k", "account": "a", "project": "p"}
        }
    ).exporters["main"]
    target = target_of(entry)  # type: ignore[arg-type]
    host = address.split("/")[2]
    assert target.traces_endpoint == f"https://{host}{expected}"
    assert "k" not in str(target.headers.get("x-api-key", ""))


@pytest.mark.parametrize("kind", sorted(PRESETS))
def test_what_is_missing_is_named(kind: str) -> None:
    """Without a key, a project or an address that the back end needs, the start stops with the variable to set."""
    with pytest.raises(SettingsError) as caught:
        ObservabilitySettings(exporters={"main": {"type": kind}})
    first = PRESETS[kind].required[0].upper()  # type: ignore[index]
    (problem,) = caught.value.problems
    assert problem == (
        f"NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE needs NAT_OBSERVABILITY_EXPORTERS__MAIN__{first}: set it too."
    )


def test_no_key_is_shown() -> None:
    """In no repr, dump or error."""
    settings = ObservabilitySettings(exporters={"main": {"type": "honeycomb", "api_key": "very-secret-key"}})
    assert "very-secret-key" not in f"{settings!r}{settings.model_dump()}{settings.model_dump_json()}"
