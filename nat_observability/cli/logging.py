"""logging_to_stderr(): structlog, configured for a command; the library itself never configures it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog

from nat_observability.cli.entry import OwnProcess


class _Stderr:
    """Whatever sys.stderr is at the time of writing: a progress bar replaces it while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def logging_to_stderr(*, verbose: bool) -> Iterator[None]:
    """
    Write log lines to stderr: warnings and errors, or with `verbose` each step of every lifecycle too.

    In an application that runs the command, its own configuration is back after the block.
    """
    context = click.get_current_context(silent=True)
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        if context is None or context.find_object(OwnProcess) is None:
            structlog.reset_defaults()
            if before is not None:
                structlog.configure(**before)


def silence_logs() -> None:
    """Write no more log lines within `logging_to_stderr`; not if lifecycles are to be logged."""
    if structlog.get_config()["wrapper_class"] is not structlog.make_filtering_bound_logger(logging.INFO):
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
