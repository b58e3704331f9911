"""SqliteExporterSettings: an exporter that stores spans in an SQLite file."""

# Annotations are evaluated here, not postponed, as in base.py.
from typing import Annotated, Literal

from pydantic import Field

from nat_observability.settings.exporters.base import ExporterSettings, FilePath, SpansOnly


class SqliteExporterSettings(ExporterSettings):
    """Stores spans in an SQLite file, which the command and `Store` read."""

    type: Literal["sqlite"] = Field(
        default="sqlite", description="Stores spans in an SQLite file, which the command and Store read."
    )
    path: FilePath = Field(description="The database file.", examples=["var/observability.sqlite3"])
    record: SpansOnly = Field(
        default="spans", description="What it gets: finished spans; it cannot record steps."
    )
    synchronous: Literal["normal", "full", "off"] = Field(
        default="normal",
        description="What a batch survives: normal the end of the process, full a power cut too; "
        "with off, a power cut can damage the file.",
    )
    keep_for: Annotated[float, Field(gt=0, le=3_155_760_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Seconds after its end for which a run is kept; by default for ever.",
        examples=[604800],
    )
    keep_size: Annotated[int, Field(ge=64 * 1024, le=2**53)] | None = Field(
        default=None,
        description="Bytes that the store may hold; whole finished runs go when it is more, the oldest first. By "
        "default it may grow for ever.",
        examples=[1073741824],
    )
