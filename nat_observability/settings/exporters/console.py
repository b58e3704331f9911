"""ConsoleExporterSettings: an exporter that prints items for people to read."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Literal

from pydantic import Field

from nat_observability.settings.exporters.base import ExporterSettings


class ConsoleExporterSettings(ExporterSettings):
    """Prints items to a stream of the process."""

    type: Literal["console"] = Field(default="console", description="Prints items for people to read.")
    stream: Literal["stdout", "stderr"] = Field(default="stderr", description="Where it prints.")
    color: Literal["auto", "always", "never"] = Field(
        default="auto", description="Whether the output is coloured; auto colours it on a terminal."
    )
