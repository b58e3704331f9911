"""The settings of exporters that send spans over OTLP: to any endpoint, and to known back ends; builds nothing."""

# Annotations are evaluated here, not postponed, as in exporters.py.
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from nat_observability.settings.exporters import (
    DialectNames,
    ExporterSettings,
    FilePath,
    Seconds,
    SpansOnly,
    Text,
)
from nat_observability.settings.presets import PRESETS, Preset, PresetName
from nat_observability.settings.standard_variables.opentelemetry import DEFAULT_ENDPOINTS, parse_headers
from nat_observability.settings.variables import PAIRS
from nat_observability.validation import is_header_name, is_header_value, secret_text, url_problem

_OTHER_SIGNALS = ("/v1/metrics", "/v1/logs")


def _checked_url(value: object) -> str | SecretStr:
    text = secret_text(value)
    problem = url_problem(text) if isinstance(text, str) else "is not text"
    if problem is not None or not isinstance(text, str):
        raise PydanticCustomError("unusable", "is not a URL to send to", {"problem": problem})
    if (path := urlsplit(text).path.rstrip("/")).endswith(_OTHER_SIGNALS):
        other = path.rpartition("/")[2]
        raise PydanticCustomError(
            "unusable", "is not for spans", {"problem": f"is an address for {other}, not for spans"}
        )
    return SecretStr(text) if "?" in text else text


Url = Annotated[str | SecretStr, BeforeValidator(_checked_url)]
"""An address to send to. With a query, which may hold a key, it is a secret."""


def _checked_value(value: SecretStr) -> SecretStr:
    if not is_header_value(value.get_secret_value()):
        raise ValueError(
            "holds a character that no header can, such as a line break; look for one where the secret ends"
        )
    return value


HeaderValue = Annotated[SecretStr, AfterValidator(_checked_value)]
Key = Annotated[SecretStr, Field(min_length=1), AfterValidator(_checked_value)]


def _dialect_of(preset: object) -> tuple[str, ...]:
    return tuple(PRESETS[preset].dialect.split(",")) if preset in PRESETS else ("genai", "openinference")  # type: ignore[index]


class SendingExporterSettings(ExporterSettings):
    """The settings of every exporter that sends spans over OTLP."""

    record: SpansOnly = Field(
        default="spans", description="What it receives: finished spans; it cannot record steps."
    )
    batches_in_flight: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="Number of batches sent at the same time at most."
    )
    timeout: Seconds = Field(
        default=10.0,
        description="Seconds for one request, to the end of its response; write_timeout ends it too.",
    )
    dialect: DialectNames = Field(
        default=("genai", "openinference"),
        description="In which words spans are sent; the first also says how they are called.",
        examples=["genai"],
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="The certificates (PEM) to trust instead of the system's.",
        examples=["/etc/ssl/our-ca.pem"],
    )
    client_certificate: FilePath | None = Field(
        default=None,
        description="The client's certificate (PEM), for a back end that asks for one.",
        examples=["/etc/ssl/client.pem"],
    )
    client_key: FilePath | None = Field(
        default=None,
        description="The private key (PEM, without a passphrase) of that certificate, if it is not in the same file.",
        examples=["/etc/ssl/client.key"],
    )

    @model_validator(mode="after")
    def _has_a_certificate_for_its_key(self) -> Self:
        if self.client_key is not None and self.client_certificate is None:
            context = {"sibling": "client_certificate", "of": "client_key"}
            raise PydanticCustomError("missing_sibling", "needs client_certificate", context)
        return self


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


class PhoenixExporterSettings(SendingExporterSettings):
    """Sends spans to Phoenix."""

    type: Literal["phoenix"] = Field(default="phoenix", description="Sends spans to Phoenix.")
    dialect: DialectNames = Field(
        default=("openinference",),
        description="In which words spans are sent; the first also says how they are called.",
    )
    endpoint: Url = Field(
        default="http://localhost:6006",
        description="The address of the Phoenix server.",
        examples=["https://phoenix.example"],
    )
    api_key: Key | None = Field(
        default=None, description="An API key for that server; a local one needs none by default."
    )
    project: Text | None = Field(
        default=None,
        description="The project that spans go to; without it, Phoenix's default.",
        examples=["shop"],
    )


class LangfuseExporterSettings(SendingExporterSettings):
    """Sends spans to Langfuse."""

    type: Literal["langfuse"] = Field(default="langfuse", description="Sends spans to Langfuse.")
    dialect: DialectNames = Field(
        default=("langfuse", "genai"),
        description="In which words spans are sent; the first also says how they are called.",
    )
    host: Url = Field(
        default="https://cloud.langfuse.com",
        description="The address of the region, or of your own server.",
        examples=["https://us.cloud.langfuse.com"],
    )
    public_key: Key = Field(description="The public key of the project.", examples=["pk-lf-0123"])
    secret_key: Key = Field(description="The secret key of the project.", examples=["sk-lf-0123"])
    environment: Text | None = Field(
        default=None, description="The environment that spans belong to there.", examples=["production"]
    )
    release: Text | None = Field(
        default=None, description="The release that they come from.", examples=["v2.1"]
    )


class PresetExporterSettings(SendingExporterSettings):
    """Sends spans to a back end whose address, headers and paths are known; see `PRESETS`."""

    type: PresetName = Field(description="The back end that spans are sent to.")
    dialect: DialectNames = Field(
        default_factory=lambda validated: _dialect_of(validated.get("type")),
        description="In which words spans are sent; without it, those that the back end reads best.",
    )
    endpoint: Url | None = Field(
        default=None,
        description="The address of the region, or of your own server; without it, the maker's.",
        examples=["https://eu.example"],
    )
    api_key: Key | None = Field(
        default=None, description="An API key for that back end.", examples=["key-0123"]
    )
    project: Text | None = Field(
        default=None,
        description="The project that spans go to; some makers call it dataset, experiment id or application.",
        examples=["shop"],
    )
    account: Text | None = Field(
        default=None,
        description="What some makers ask for besides: a space id, an entity, an instance id, a log stream.",
        examples=["acme"],
    )

    @property
    def preset(self) -> Preset:
        """The row of data for its type."""
        return PRESETS[self.type]

    @model_validator(mode="after")
    def _has_what_the_back_end_asks_for(self) -> Self:
        for name in self.preset.required:
            if getattr(self, name) is None and not (name == "endpoint" and self.preset.endpoint):
                context = {"sibling": name, "of": "type"}
                raise PydanticCustomError("missing_sibling", "needs {sibling}", context)
        return self
