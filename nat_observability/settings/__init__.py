"""The settings: frozen models, read from the environment, an env file and secret files; they build nothing."""

from nat_observability.settings.exporters import (
    ConsoleExporterSettings,
    CustomExporterSettings,
    ExporterSettings,
    FileExporterSettings,
    MemoryExporterSettings,
    MetricsExporterSettings,
    SqliteExporterSettings,
)
from nat_observability.settings.observability import AnyExporterSettings, EnvFile, ObservabilitySettings
from nat_observability.settings.otlp import (
    LangfuseExporterSettings,
    OtlpExporterSettings,
    PhoenixExporterSettings,
    PresetExporterSettings,
)

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
