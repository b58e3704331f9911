"""serve(): a viewer's server from its first port to a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError

from nat_observability.viewer.security import new_token
from nat_observability.viewer.server import build_app

_GRACE = 1.0
_TRIED_PORTS = 20


def viewer_url(host: str, port: int, token: str) -> str:
    """Return the address to open; its fragment, which no browser sends, holds the token."""
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return (
        f"http://[{shown}]:{port}/#token={token}" if ":" in shown else f"http://{shown}:{port}/#token={token}"
    )


def serve(
    path: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    index: bool = True,
    ready: Callable[[str], None],
) -> None:
    """
    Show a store until SIGINT or SIGTERM.

    Args:
        port: 0 for any; None for 4320, or one of the next that is free.
        index: Whether to keep an index beside the store.
        ready: Is called with the address once the server listens.

    Raises:
        OSError: The port cannot be had.
    """
    token = new_token()
    app = build_app(path, token, host=host, index=index)
    asyncio.run(_serve(app, host, port, lambda chosen: ready(viewer_url(host, chosen, token))))


async def _serve(app: web.Application, host: str, port: int | None, ready: Callable[[int], None]) -> None:
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=_GRACE,
        handle_signals=False,
        logger=_requests_log(),
    )
    await runner.setup()
    try:
        chosen = await _listen(runner, host, port)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, ended.set)
        ready(chosen)
        await ended.wait()
    finally:
        await runner.cleanup()


def _requests_log() -> logging.Logger:
    """Return a logger of failures of the viewer's own: what is no HTTP has been answered, and is no news."""
    log = logging.getLogger("nat_observability.viewer")
    log.addFilter(_is_own_failure)
    return log


def _is_own_failure(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


async def _listen(runner: web.AppRunner, host: str, port: int | None) -> int:
    tried = [port] if port is not None else [*range(4320, 4320 + _TRIED_PORTS), 0]
    for number in tried:
        site = web.TCPSite(runner, host, number)
        try:
            await site.start()
        except OSError:
            if number == tried[-1]:
                raise
            continue
        address: tuple[str, int] = runner.addresses[-1]
        return address[1]
    raise AssertionError("the last port was tried")
