"""A client of the viewer's server: the real application on a real port, asked as its page asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from nat_observability.viewer.server import build_app

TOKEN = "t" * 43


class Viewer:
    """Asks one viewer; every answer has to be JSON."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def get(self, path: str, expected: int = 200, /, **query: object) -> Any:
        """Return an answer, which has to have the expected status."""
        response = await self.ask(path, **query)
        content = await response.json()
        assert response.status == expected, (path, response.status, content)
        return content

    async def ask(self, path: str, **query: object) -> ClientResponse:
        parameters = {name.rstrip("_"): str(value) for name, value in query.items()}
        return await self.client.get(path, params=parameters, headers={"Authorization": f"Bearer {TOKEN}"})

    async def indexed(self) -> None:
        """Wait until the index covers the store."""
        while not (await self.get("/api/stats"))["complete"]:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def viewer(path: Path, *, index: bool = False, host: str = "127.0.0.1") -> AsyncIterator[Viewer]:
    """A viewer of the store at `path`, until the block ends."""
    app = await asyncio.to_thread(build_app, str(path), TOKEN, host=host, index=index)
    async with TestClient(TestServer(app)) as client:
        yield Viewer(client)
