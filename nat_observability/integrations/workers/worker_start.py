"""worker_start(): a worker that cannot start ends with one message instead of a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from nat_observability.errors import ObservabilityError
from nat_observability.foreign_errors import describe


@contextmanager
def worker_start() -> Iterator[None]:
    """
    Wrap what opens the exporters of a worker.

    Raises:
        SystemExit: In place of an error of this package, with its message; the error is the cause. Not in an event loop
            that has other tasks too: it would end those.
    """
    try:
        yield
    except ObservabilityError as error:
        if _others_run():
            raise
        raise SystemExit(f"The worker does not start. {describe(error)}") from error


def _others_run() -> bool:
    try:
        return len(asyncio.all_tasks()) > 1
    except RuntimeError:  # no event loop
        return False
