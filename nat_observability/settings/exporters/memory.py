"""MemoryExporterSettings: an exporter that keeps items in the memory of the process."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Literal

from pydantic import Field

from nat_observability.settings.exporters.base import Count, ExporterSettings


class MemoryExporterSettings(ExporterSettings):
    """Keeps items in the process's memory."""

    type: Literal["memory"] = Field(default="memory", description="Keeps items in this process's memory.")
    limit: Count = Field(default=10_000, description="Items kept at most; the oldest goes first.")
