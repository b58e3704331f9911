"""PresetExporterSettings: exporters to back ends that need no more than a key and a project."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nat_observability.settings.exporters.base import DialectNames, Text
from nat_observability.settings.exporters.models import PresetName
from nat_observability.settings.exporters.sending import Key, SendingExporterSettings, Url
from nat_observability.settings.presets import PRESETS, Preset


def _dialect_of(preset: object) -> tuple[str, ...]:
    return tuple(PRESETS[preset].dialect.split(",")) if preset in PRESETS else ("genai", "openinference")  # type: ignore[index]


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
