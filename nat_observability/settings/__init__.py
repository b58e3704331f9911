"""The settings: frozen models, read from the environment, an env file and secret files; they build nothing."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.settings.exporters import (
        AnyExporterSettings,
        ConsoleExporterSettings,
        CustomExporterSettings,
        ExporterSettings,
        FileExporterSettings,
        LangfuseExporterSettings,
        MemoryExporterSettings,
        MetricsExporterSettings,
        OtlpExporterSettings,
        PhoenixExporterSettings,
        PresetExporterSettings,
        SqliteExporterSettings,
    )
    from nat_observability.settings.observability import EnvFile, ObservabilitySettings

__all__ = [
    "AnyExporterSettings",
    "ConsoleExporterSettings",
    "CustomExporterSettings",
    "EnvFile",
    "ExporterSettings",
    "FileExporterSettings",
    "LangfuseExporterSettings",
    "MemoryExporterSettings",
    "MetricsExporterSettings",
    "ObservabilitySettings",
    "OtlpExporterSettings",
    "PhoenixExporterSettings",
    "PresetExporterSettings",
    "SqliteExporterSettings",
]

_HOMES = {
    "nat_observability.settings.exporters": (
        "AnyExporterSettings",
        "ConsoleExporterSettings",
        "CustomExporterSettings",
        "ExporterSettings",
        "FileExporterSettings",
        "LangfuseExporterSettings",
        "MemoryExporterSettings",
        "MetricsExporterSettings",
        "OtlpExporterSettings",
        "PhoenixExporterSettings",
        "PresetExporterSettings",
        "SqliteExporterSettings",
    ),
    "nat_observability.settings.observability": ("EnvFile", "ObservabilitySettings"),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
