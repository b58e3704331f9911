"""short_start_errors(): a program that cannot start ends with one message instead of a traceback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nat_observability.errors import (
    AsynchronousProviderError,
    ExporterStartError,
    InvalidExporterError,
    MissingExtraError,
    SettingsError,
    UnknownExporterError,
    UnknownExporterTypeError,
)
from nat_observability.integrations.workers.worker_start import ending

START_ERRORS = (
    AsynchronousProviderError,
    ExporterStartError,
    InvalidExporterError,
    MissingExtraError,
    SettingsError,
    UnknownExporterError,
    UnknownExporterTypeError,
)
"""What is wrong with a configuration: the message says it all, and where it was raised says nothing."""


@contextmanager
def short_start_errors() -> Iterator[None]:
    """Raise such an error as one that is also a SystemExit, if it would end the program: in the main thread alone."""
    try:
        yield
        return
    except START_ERRORS as error:
        # In other threads a SystemExit is ignored in silence, and in an event loop it stops the loop.
        if threading.current_thread() is not threading.main_thread() or _loop_runs():
            raise error.with_traceback(None) from error.__cause__
        ended = ending(error, f"error: {error}")
    raise ended


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
