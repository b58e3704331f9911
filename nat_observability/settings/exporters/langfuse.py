"""LangfuseExporterSettings: an exporter that sends spans to Langfuse."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Literal

from pydantic import Field

from nat_observability.settings.exporters.base import DialectNames, Text
from nat_observability.settings.exporters.sending import Key, SendingExporterSettings, Url


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
