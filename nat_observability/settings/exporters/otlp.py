"""OtlpExporterSettings: an exporter that sends spans to anything that accepts OTLP."""

# Annotations are evaluated here, not postponed, as in base.py.
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from nat_observability.settings.exporters.base import Seconds
from nat_observability.settings.exporters.sending import HeaderValue, SendingExporterSettings, Url
from nat_observability.settings.standard_variables.opentelemetry import DEFAULT_ENDPOINTS, parse_headers
from nat_observability.settings.variables import PAIRS
from nat_observability.validation import is_header_name


class OtlpExporterSettings(SendingExporterSettings):
    """Sends spans to anything that accepts OTLP."""

    type: Literal["otlp"] = Field(default="otlp", description="Sends spans to anything that accepts OTLP.")
    protocol: Literal["http", "http/json", "grpc"] = Field(
        default="http",
        description="How it sends: protobuf over HTTP, JSON over HTTP, or gRPC. Without it, "
        "OTEL_EXPORTER_OTLP_PROTOCOL is honoured.",
    )
    endpoint: Url = Field(
        default_factory=lambda validated: DEFAULT_ENDPOINTS[validated.get("protocol", "http")],
        description="The address of the back end for all signals; over HTTP, /v1/traces is added. With grpc, the port "
        "of the default is 4317. Without it, OTEL_EXPORTER_OTLP_ENDPOINT is honoured.",
        examples=["https://collector.example:4318"],
    )
    traces_endpoint: Url | None = Field(
        default=None,
        description="The address for spans, taken as it is instead of endpoint. Without both, "
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is honoured.",
        examples=["https://collector.example/v1/traces"],
    )
    headers: dict[str, HeaderValue] = Field(
        default_factory=dict,
        description="Headers to send, such as a key; also as variables of their own, such as "
        "HEADERS__AUTHORIZATION. Without it and an address, OTEL_EXPORTER_OTLP_HEADERS is honoured.",
    )
    compression: Literal["gzip", "none"] = Field(
        default_factory=lambda validated: "none" if validated.get("protocol") == "grpc" else "gzip",
        description="How requests are compressed. With grpc the default is none: gRPC's own compression stops the "
        "application for 20 ms per megabyte. Without it, OTEL_EXPORTER_OTLP_COMPRESSION is honoured.",
    )
    timeout: Seconds = Field(
        default=10.0,
        description="Seconds for one request, to the end of its response; write_timeout ends it too. "
        "Without it, OTEL_EXPORTER_OTLP_TIMEOUT (milliseconds) is honoured.",
    )

    @field_validator("headers", mode="before")
    @classmethod
    def _parsed(cls, headers: object) -> object:
        if isinstance(headers, str):
            members = sum(1 for member in headers.split(",") if member.strip())
            try:
                headers = parse_headers(headers)
            except ValueError as error:
                raise ValueError(f"{error}; allowed: {PAIRS}") from None
            if len(headers) < members:
                raise ValueError("holds one header twice; allowed: each once")
        if not isinstance(headers, Mapping):
            return headers
        lower = {str(name).lower(): value for name, value in headers.items()}
        # The name is not shown: if a key was pasted into the wrong place, the name is the secret.
        if not all(map(is_header_name, lower)):
            raise ValueError("holds a name that is not made of letters, digits and hyphens")
        if len(lower) < len(headers):
            raise ValueError("holds two headers whose names differ in case only; allowed: one")
        return lower
