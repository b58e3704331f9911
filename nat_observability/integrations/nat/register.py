"""The toolkit's plugin: `_type: nat_observability` in `general.telemetry.tracing`, an exporter of this package."""

# Annotations are evaluated here, not postponed: the toolkit and pydantic read those of the class.
import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field, field_validator

from nat_observability.builders import build_exporters, check_exporter_types
from nat_observability.errors import SettingsError, UnknownExporterTypeError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.integrations.nat.managers import use_manager_for_all
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.variables import EXPORTERS, variable

try:
    from nat.builder.builder import Builder
    from nat.cli.register_workflow import register_telemetry_exporter
    from nat.data_models.telemetry_exporter import TelemetryExporterBaseConfig
except ModuleNotFoundError:
    from nat_observability.errors import MissingExtraError

    raise MissingExtraError("_type: nat_observability", "nat") from None

_NAME = "nat_observability"
_OWN = re.compile(rf"{variable(EXPORTERS, _NAME)}__([A-Z0-9_]+)")


class NatObservabilityTelemetryExporter(TelemetryExporterBaseConfig, name="nat_observability"):  # type: ignore[misc, call-arg]
    """A telemetry exporter of nat_observability: any of its types, with its delivery, redaction and sampling."""

    exporter: dict[str, Any] = Field(
        description="The exporter: what NAT_OBSERVABILITY_EXPORTERS__NAME__… can say, in lower case. type chooses it, "
        "such as sqlite, file, otlp, phoenix or langfuse; the others are its settings, such as path, endpoint, flush, "
        "redact_personal, sampling_ratio, spool and spool_path.",
        examples=[{"type": "sqlite", "path": "var/observability.sqlite3", "flush": "delivered"}],
    )
    manager: bool = Field(
        default=True,
        description="Whether workflows that are built from now on run under the manager of nat_observability, which "
        "puts a delivery around the toolkit's own exporters too.",
    )

    @field_validator("exporter")
    @classmethod
    def _is_an_exporter(cls, section: dict[str, Any]) -> dict[str, Any]:
        try:
            check_exporter_types(_settings(section), ())
        except SettingsError as error:
            problem = " ".join(error.problems)
        except UnknownExporterTypeError as error:
            problem = str(error)
        else:
            return section
        # Outside the handler: the error's context would hold the values. In the file's words instead of those of the
        # environment.
        raise ValueError(_OWN.sub(lambda match: f"exporter.{match[1].lower()}", problem))


def _settings(section: dict[str, Any]) -> ObservabilitySettings:
    settings = ObservabilitySettings(exporters={_NAME: section})
    only = {_NAME: settings.exporters[_NAME]}  # not those that the environment names
    return settings.model_copy(update={EXPORTERS: only})


def _exporters(section: dict[str, Any]) -> dict[str, BaseExporter]:
    return build_exporters(_settings(section))


@register_telemetry_exporter(config_type=NatObservabilityTelemetryExporter)  # type: ignore[untyped-decorator]
async def nat_observability_telemetry_exporter(
    config: NatObservabilityTelemetryExporter, builder: Builder
) -> AsyncIterator[BaseExporter]:
    """Yield the exporter; settings of the process come from the environment."""
    # Off the loop: settings and certificates are files.
    exporters = await asyncio.to_thread(_exporters, config.exporter)
    if config.manager:
        use_manager_for_all(ExporterManager())
    try:
        yield exporters.get(_NAME) or _Nothing()
    finally:
        if config.manager:
            use_manager_for_all(None)


class _Nothing(BaseExporter):
    """Stands for the exporter if NAT_OBSERVABILITY_ENABLED is false."""

    def export(self, event: object) -> None:
        """Do nothing."""
