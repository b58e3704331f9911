"""MetricsExporterSettings: an exporter that records finished spans as OpenTelemetry metrics."""

# Annotations are evaluated here, not postponed, as in base.py.
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from nat_observability.settings.exporters.base import ExporterSettings, SpansOnly


class MetricsExporterSettings(ExporterSettings):
    """Records the durations and tokens of finished spans as OpenTelemetry metrics."""

    type: Literal["metrics"] = Field(
        default="metrics",
        description="Records durations and tokens as the GenAI conventions' metrics, by the application's meter "
        "provider; of every run, whatever the sampling of others leaves out.",
    )
    record: SpansOnly = Field(
        default="spans", description="What it gets: finished spans; it cannot record steps."
    )
    # Content is never looked at, so it need not be searched for secrets.
    redact: bool = Field(default=False, description="Whether secrets are redacted; no content is measured.")
    capture_inputs: bool = Field(default=False, description="Whether inputs reach it; it does not need them.")
    capture_outputs: bool = Field(
        default=False, description="Whether outputs reach it; it does not need them."
    )

    @model_validator(mode="before")
    @classmethod
    def _takes_every_run(cls, data: object) -> object:
        # That of the process is for what is sent: a number of calls would be wrong without the others.
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if not str(name).startswith("sampling_")}
