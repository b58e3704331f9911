"""A pool, an exporter that writes through it, and a run: what any container is to open, hand out and close."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from dependency_injector import providers

from nat_observability import ContextState, ExporterManager, Span, SpanExporter, step
from nat_observability.containers import ExporterBuilder, ObservabilityContainer
from nat_observability.integrations import ProcessScope
from nat_observability.settings import CustomExporterSettings, ObservabilitySettings
from nat_observability.sinks import LoopSink


class Pool:
    """Stands for a pool of connections, which belongs to the event loop."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.is_open = True

    async def insert(self, rows: list[str]) -> None:
        """Insert rows."""
        if not self.is_open:
            raise RuntimeError("The pool is closed.")
        self.rows += rows


@asynccontextmanager
async def open_pool() -> AsyncGenerator[Pool]:
    """Open the pool, and close it at the end of the block."""
    pool = Pool()
    try:
        yield pool
    finally:
        pool.is_open = False


def database_builder(pool: Pool) -> ExporterBuilder:
    """Return what makes an exporter of type `database`, which writes through the pool."""

    async def write(batch: Sequence[Span]) -> None:
        await pool.insert([span.name for span in batch])

    def build(name: str, own: CustomExporterSettings, settings: ObservabilitySettings) -> SpanExporter:
        return SpanExporter(LoopSink(write), name=name)

    return build


@asynccontextmanager
async def open_observability(pool: Pool) -> AsyncGenerator[ObservabilityContainer]:
    """Open the exporters; drain and close them at the end of the block, which the pool has to outlive."""
    container = ObservabilityContainer(
        settings=ObservabilitySettings(exporters={"main": {"type": "database"}}),
        exporter_types=providers.Object({"database": database_builder(pool)}),
    )
    async with ProcessScope(container, "the shop"):
        yield container


async def brew(manager: ExporterManager) -> None:
    """Do a piece of work, as one run."""
    async with manager.start(ContextState()):
        with step("tool", "brew"):
            pass
