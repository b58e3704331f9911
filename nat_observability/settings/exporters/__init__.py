"""The settings of exporters, one module per type, each loaded on demand: a process uses few of them."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.settings.exporters.base import ExporterSettings
    from nat_observability.settings.exporters.console import ConsoleExporterSettings
    from nat_observability.settings.exporters.custom import CustomExporterSettings
    from nat_observability.settings.exporters.file import FileExporterSettings
    from nat_observability.settings.exporters.langfuse import LangfuseExporterSettings
    from nat_observability.settings.exporters.memory import MemoryExporterSettings
    from nat_observability.settings.exporters.metrics import MetricsExporterSettings
    from nat_observability.settings.exporters.models import BUILT_IN, MODELS, AnyExporterSettings
    from nat_observability.settings.exporters.otlp import OtlpExporterSettings
    from nat_observability.settings.exporters.phoenix import PhoenixExporterSettings
    from nat_observability.settings.exporters.preset import PresetExporterSettings
    from nat_observability.settings.exporters.sending import SendingExporterSettings
    from nat_observability.settings.exporters.sqlite import SqliteExporterSettings

__all__ = [
    "BUILT_IN",
    "MODELS",
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
    "SendingExporterSettings",
    "SqliteExporterSettings",
]

_HOMES = {
    "nat_observability.settings.exporters.base": ("ExporterSettings",),
    "nat_observability.settings.exporters.console": ("ConsoleExporterSettings",),
    "nat_observability.settings.exporters.custom": ("CustomExporterSettings",),
    "nat_observability.settings.exporters.file": ("FileExporterSettings",),
    "nat_observability.settings.exporters.langfuse": ("LangfuseExporterSettings",),
    "nat_observability.settings.exporters.phoenix": ("PhoenixExporterSettings",),
    "nat_observability.settings.exporters.memory": ("MemoryExporterSettings",),
    "nat_observability.settings.exporters.metrics": ("MetricsExporterSettings",),
    "nat_observability.settings.exporters.models": (
        "BUILT_IN",
        "MODELS",
        "AnyExporterSettings",
    ),
    "nat_observability.settings.exporters.otlp": ("OtlpExporterSettings",),
    "nat_observability.settings.exporters.preset": ("PresetExporterSettings",),
    "nat_observability.settings.exporters.sending": ("SendingExporterSettings",),
    "nat_observability.settings.exporters.sqlite": ("SqliteExporterSettings",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
