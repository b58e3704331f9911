"""PhoenixExporterSettings: an exporter that sends spans to Phoenix."""

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
