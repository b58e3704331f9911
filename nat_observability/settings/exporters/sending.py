"""SendingExporterSettings: the settings of every exporter that sends spans over OTLP, and their kinds of values."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from nat_observability.settings.exporters.base import (
    DialectNames,
    ExporterSettings,
    FilePath,
    Seconds,
    SpansOnly,
)
from nat_observability.validation import is_header_value, secret_text, url_problem

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


def _checked_key(key: SecretStr) -> SecretStr:
    if not key.get_secret_value().strip(" \t"):
        raise PydanticCustomError("unusable", "is blank", {"problem": "is blank"})
    return _checked_value(key)


# One function: of several, pydantic 2.10 keeps the last one only.
Key = Annotated[SecretStr, Field(min_length=1), AfterValidator(_checked_key)]


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
