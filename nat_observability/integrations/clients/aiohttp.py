"""aiohttp: what is requested inside a run carries the run's headers."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp

from nat_observability.integrations.shared.headers import write_headers

__all__ = ["trace_config"]


def trace_config() -> aiohttp.TraceConfig:
    """
    Return what puts the current run's headers into each request of a session, its websockets included.

    `aiohttp.ClientSession(trace_configs=[trace_config()])`. Outside a run nothing happens.
    """
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_add_headers)
    return config


async def _add_headers(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
) -> None:
    write_headers(params.headers)
