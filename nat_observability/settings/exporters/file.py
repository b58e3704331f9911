"""FileExporterSettings: an exporter that appends items to a file."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from nat_observability.settings.exporters.base import Bytes, DialectNames, ExporterSettings, FilePath


class FileExporterSettings(ExporterSettings):
    """Appends items to a file, as JSON lines of ours or of OTLP."""

    type: Literal["file"] = Field(
        default="file", description="Appends items to a file, one JSON object a line."
    )
    path: FilePath = Field(description="The file.", examples=["var/observability.jsonl"])
    max_bytes: Bytes = Field(
        default=100 * 2**20, description="Bytes at which the file rolls over to path.1, path.2 and so on."
    )
    backups: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="Number of rolled files to keep."
    )
    dialect: DialectNames = Field(
        default=("genai", "openinference"), description="In which words OTLP has the spans."
    )
    format: Literal["jsonl", "otlp_json"] = Field(
        default="jsonl",
        description="What a line is: an item as it was recorded, or an OTLP request of many spans as JSON, which "
        "collectors read.",
    )

    @field_validator("format")
    @classmethod
    def _carries_what_is_recorded(cls, format: str, info: ValidationInfo) -> str:  # noqa: A002
        if format == "otlp_json" and info.data.get("record") == "steps":
            raise ValueError(
                "cannot be otlp_json if RECORD is steps, which OTLP does not carry; allowed: jsonl"
            )
        return format
