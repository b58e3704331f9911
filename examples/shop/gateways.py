"""What the shop reaches outside of itself: its database, its suppliers, the queue of its worker."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import httpx
from taskiq import AsyncBroker, InMemoryBroker
from taskiq_redis import ListQueueBroker

from nat_observability import Span, SpanExporter
from nat_observability.containers import ExporterBuilder, delivering
from nat_observability.integrations.clients.httpx import instrument
from nat_observability.settings import CustomExporterSettings, ObservabilitySettings
from nat_observability.sinks import LoopSink

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS tea (name TEXT PRIMARY KEY, degrees INTEGER);
    INSERT OR IGNORE INTO tea VALUES ('green', 70), ('black', 95), ('white', 80);
    CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, tea TEXT, price TEXT, delivered INTEGER DEFAULT 0);
    CREATE TABLE IF NOT EXISTS span (span_id TEXT PRIMARY KEY, parent_id TEXT, trace_id TEXT, name TEXT, tags TEXT);
"""
_PATIENCE = 20.0  # seconds that a connection waits for another process to finish writing


class Pool:
    """A few connections to the database, for the event loop that opens them."""

    def __init__(self) -> None:
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._size = 0

    async def open(self, path: Path, size: int) -> None:
        """Open the connections."""
        for _ in range(size):
            self._idle.put_nowait(await aiosqlite.connect(path, timeout=_PATIENCE))
            self._size += 1
        async with self.connection() as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.executescript(_SCHEMA)

    async def close(self) -> None:
        """Wait for the connections that are lent, and close all."""
        while self._size:
            await (await self._idle.get()).close()
            self._size -= 1

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[aiosqlite.Connection]:
        """Lend a connection, and commit its changes if nothing failed."""
        if not self._size:
            raise RuntimeError("The pool is closed.")
        connection = await self._idle.get()
        try:
            yield connection
            await connection.commit()
        except BaseException:
            await connection.rollback()
            raise
        finally:
            self._idle.put_nowait(connection)


async def open_pool(path: Path, size: int) -> AsyncIterator[Pool]:
    """Open the pool for as long as the process, or the container, lives."""
    pool = Pool()
    try:
        await pool.open(path, size)
        yield pool
    finally:
        await pool.close()


def database_builder(pool: Pool) -> ExporterBuilder:
    """Return what makes an exporter of type `database`, which writes through the pool, on its loop."""

    async def write(batch: Sequence[Span]) -> None:
        rows = [
            (span.span_id, span.parent_id, span.run.trace_id, span.name, repr(dict(span.run.tags)))
            for span in batch
        ]
        async with pool.connection() as connection:
            # A batch that comes again is the same.
            await connection.executemany("INSERT OR REPLACE INTO span VALUES (?, ?, ?, ?, ?)", rows)

    def build(name: str, own: CustomExporterSettings, settings: ObservabilitySettings) -> SpanExporter:
        exporter = delivering(name, own, settings, LoopSink(write, retry_on=sqlite3.OperationalError))
        assert isinstance(exporter, SpanExporter)
        return exporter

    return build


class Suppliers:
    """Asks what a tea costs, in the trace of the run that asks."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=10.0)
        instrument(self._client)

    async def price(self, tea: str) -> str:
        """Return a price."""
        answer = await self._client.get(f"/price/{tea}")
        answer.raise_for_status()
        return str(answer.json())

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def open_suppliers(url: str) -> AsyncIterator[Suppliers]:
    """Open the client for as long as the container lives."""
    suppliers = Suppliers(url)
    try:
        yield suppliers
    finally:
        await suppliers.close()


def make_broker(redis_url: str | None) -> AsyncBroker:
    """Return the queue of the worker, not yet started."""
    return InMemoryBroker(await_inplace=True) if redis_url is None else ListQueueBroker(redis_url)
