"""PhoenixExporterSettings and LangfuseExporterSettings: exporters to back ends with settings of their own."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Literal

from pydantic import Field

from nat_observability.settings.exporters.base import DialectNames, Text
from nat_observability.settings.exporters.sending import Key, SendingExporterSettings, Url


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
