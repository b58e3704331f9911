"""What the service reaches outside of itself: its database, and its suppliers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import aiosqlite

from examples.service.settings import TlsSettings

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS tea (name TEXT PRIMARY KEY, degrees INTEGER);
    INSERT OR IGNORE INTO tea VALUES ('green', 70), ('black', 95), ('white', 80);
    CREATE TABLE IF NOT EXISTS step (run TEXT, user TEXT, boundary TEXT, kind TEXT, name TEXT, time_ns INTEGER);
"""


class Pool:
    """A few connections to the database, for the event loop that opens them."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            self._idle.put_nowait(await aiosqlite.connect(self._path))
        async with self.connection() as connection:
            await connection.executescript(_SCHEMA)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in range(self._size):
            await (await self._idle.get()).close()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[aiosqlite.Connection]:
        """Lend a connection, and commit its changes if nothing failed."""
        connection = await self._idle.get()
        try:
            yield connection
            await connection.commit()
        except BaseException:
            await connection.rollback()
            raise
        finally:
            self._idle.put_nowait(connection)


class Suppliers:
    """Asks what a tea costs, over HTTPS."""

    def __init__(self, url: str | None, tls: TlsSettings) -> None:
        self._url = url
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._url is not None:
            context = await asyncio.to_thread(self._context)
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def price(self, tea: str) -> str:
        """Return a price, "unknown" if there are no suppliers."""
        if self._session is None:
            return "unknown"
        async with self._session.get(f"{self._url}/price/{tea}") as answer:
            answer.raise_for_status()
            return await answer.text()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._tls.ca_file)
        if self._tls.client_certificate is not None:
            context.load_cert_chain(self._tls.client_certificate, self._tls.client_key)
        return context
