"""Tasks that did not stop in time: each is held until it ends, because an event loop holds its tasks only weakly."""

from __future__ import annotations

import asyncio

_abandoned: set[asyncio.Task[None]] = set()


def abandon(task: asyncio.Task[None]) -> None:
    """Hold a task that nobody waits for any more until it ends, and take what it raises."""
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[None]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that the event loop does not report it as unheard
