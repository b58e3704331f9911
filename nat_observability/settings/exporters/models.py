"""Which model validates the settings of which exporter type; each is imported when it is first used."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, cast, get_args

from pydantic import Discriminator, GetCoreSchemaHandler, GetJsonSchemaHandler, Tag, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from nat_observability.settings.exporters.base import ExporterSettings
from nat_observability.settings.processing import built

PresetName = Literal[
    "arize",
    "datadog",
    "dynatrace",
    "galileo",
    "grafana",
    "honeycomb",
    "langsmith",
    "mlflow",
    "patronus",
    "weave",
]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

_PRESET = "preset"
_CUSTOM = "custom"


class ExporterModels(Mapping[str, type[ExporterSettings]]):
    """
    Models by name; the module of each is imported when it is asked for.

    Args:
        homes: The model's module, in this package, and its class, by the model's name.
    """

    def __init__(self, homes: Mapping[str, tuple[str, str]]) -> None:
        self._homes = homes

    def __getitem__(self, name: str) -> type[ExporterSettings]:
        module, model = self._homes[name]
        return cast(type[ExporterSettings], getattr(import_module(f"{__package__}.{module}"), model))

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


_OWN = {
    "memory": ("memory", "MemoryExporterSettings"),
    "metrics": ("metrics", "MetricsExporterSettings"),
    "console": ("console", "ConsoleExporterSettings"),
    "file": ("file", "FileExporterSettings"),
    "sqlite": ("sqlite", "SqliteExporterSettings"),
    "otlp": ("otlp", "OtlpExporterSettings"),
    "phoenix": ("phoenix", "PhoenixExporterSettings"),
    "langfuse": ("langfuse", "LangfuseExporterSettings"),
}
_OF_PRESETS = ("preset", "PresetExporterSettings")

TAGS_OF_SEVERAL = (_PRESET, _CUSTOM)
"""The tags of models that are no types themselves."""

BUILT_IN: Mapping[str, type[ExporterSettings]] = ExporterModels(
    {**_OWN, **dict.fromkeys(PRESET_NAMES, _OF_PRESETS)}
)
"""The built-in exporter types, and the settings of each."""

MODELS: Mapping[str, type[ExporterSettings]] = ExporterModels(
    {
        **_OWN,
        **dict.fromkeys(PRESET_NAMES, _OF_PRESETS),
        _PRESET: _OF_PRESETS,
        _CUSTOM: ("custom", "CustomExporterSettings"),
    }
)
"""The models of exporters by their tag in the union."""


def _tag(entry: Any) -> str:
    kind = entry.get("type") if isinstance(entry, Mapping) else getattr(entry, "type", None)
    if not isinstance(kind, str) or kind not in BUILT_IN:
        return _CUSTOM
    return _PRESET if kind in PRESET_NAMES else kind


def _validator(tag: str) -> CoreSchema:
    def validate(entry: object) -> ExporterSettings:
        model = MODELS[tag]
        built(model)
        return model.model_validate(entry)

    return core_schema.no_info_plain_validator_function(validate)


class _ByType:
    """
    Validates an entry by the model of its type, and imports and builds no other: all of them take as long as the rest.

    What is reported about an entry has its tag after the exporter's name, as with a union of pydantic's.
    """

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices: dict[Hashable, CoreSchema] = {tag: _validator(tag) for tag in _TAGS}
        return core_schema.tagged_union_schema(choices, _tag)

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        models: Any = tuple(Annotated[MODELS[tag], Tag(tag)] for tag in _TAGS)
        return handler(TypeAdapter(Annotated[Union[models], Discriminator(_tag)]).core_schema)  # noqa: UP007


_TAGS = (*_OWN, _PRESET, _CUSTOM)

if TYPE_CHECKING:
    from nat_observability.settings.exporters.console import ConsoleExporterSettings
    from nat_observability.settings.exporters.custom import CustomExporterSettings
    from nat_observability.settings.exporters.file import FileExporterSettings
    from nat_observability.settings.exporters.langfuse import LangfuseExporterSettings
    from nat_observability.settings.exporters.memory import MemoryExporterSettings
    from nat_observability.settings.exporters.metrics import MetricsExporterSettings
    from nat_observability.settings.exporters.otlp import OtlpExporterSettings
    from nat_observability.settings.exporters.phoenix import PhoenixExporterSettings
    from nat_observability.settings.exporters.preset import PresetExporterSettings
    from nat_observability.settings.exporters.sqlite import SqliteExporterSettings

    AnyExporterSettings: TypeAlias = (
        MemoryExporterSettings
        | MetricsExporterSettings
        | ConsoleExporterSettings
        | FileExporterSettings
        | SqliteExporterSettings
        | OtlpExporterSettings
        | PhoenixExporterSettings
        | LangfuseExporterSettings
        | PresetExporterSettings
        | CustomExporterSettings
    )
else:
    AnyExporterSettings = Annotated[ExporterSettings, _ByType]
