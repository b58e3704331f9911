"""nothing_pending(): wait until a runtime's exporters have delivered everything."""

from __future__ import annotations

import asyncio

from nat_observability import ObservabilityRuntime


async def nothing_pending(runtime: ObservabilityRuntime) -> None:
    """Return when nothing is pending, items of former processes and of ended runs included."""
    # A flush waits for one run, and a shutdown gives up early: neither fits here.
    while runtime.health().ledger.pending:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
