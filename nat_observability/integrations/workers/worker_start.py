"""worker_start(): a worker that cannot start ends with one message instead of a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from nat_observability.errors import ObservabilityError
from nat_observability.foreign_errors import describe


@contextmanager
def worker_start(*, plain: bool = False) -> Iterator[None]:
    """
    Wrap what opens the exporters of a worker.

    Args:
        plain: Whether only a SystemExit, and no other exception, ends this worker.

    Raises:
        SystemExit: For an error of this package, with its message; it is also that error, if it is not `plain`. Not in
            an event loop that has other tasks too, which it would end: there the error is raised as it is.
    """
    try:
        yield
        return
    except ObservabilityError as error:
        if _others_run():
            raise
        said = f"The worker does not start. {describe(error)}"
        if plain:
            raise SystemExit(said) from error
        ended = ending(error, said)
    raise ended


def ending(error: ObservabilityError, said: str) -> ObservabilityError:
    """Return an error that is also a SystemExit: if nothing catches it, the program says this and no more."""
    kind = type(error)
    if issubclass(kind, SystemExit):
        return error
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    ended: ObservabilityError = kind.__new__(type(kind.__name__, (kind, SystemExit), names))
    ended.args = error.args
    ended.__dict__.update(error.__dict__)
    ended.__cause__ = error.__cause__
    ended.code = said  # type: ignore[attr-defined]
    return ended


def _others_run() -> bool:
    try:
        return len(asyncio.all_tasks()) > 1
    except RuntimeError:  # no event loop
        return False
