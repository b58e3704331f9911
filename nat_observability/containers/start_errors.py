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
    ObservabilityError,
    SettingsError,
    UnknownExporterError,
    UnknownExporterTypeError,
)

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
        ending = _ending(error)
    raise ending


def _ending(error: ObservabilityError) -> ObservabilityError:
    kind = type(error)
    if issubclass(kind, SystemExit):
        return error
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    ending: ObservabilityError = kind.__new__(type(kind.__name__, (kind, SystemExit), names))
    ending.args = error.args
    ending.__dict__.update(error.__dict__)
    ending.__cause__ = error.__cause__
    ending.code = f"error: {error}"  # type: ignore[attr-defined]
    return ending


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
