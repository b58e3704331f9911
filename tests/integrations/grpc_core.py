"""A fixture that keeps the core of asynchronous gRPC up while the tests of a module run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import grpc.aio
import pytest


@pytest.fixture(scope="module", autouse=True)
def grpc_core() -> Iterator[None]:
    """Keep it up: whatever collects the last channel as garbage would wait for its thread, on an event loop too."""
    asyncio.run(_begin())
    yield
    gc.collect()
    grpc.aio.shutdown_grpc_aio()


async def _begin() -> None:
    grpc.aio.init_grpc_aio()
