"""log_to_stderr(): structlog, configured for the command; the library itself never configures it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


class _Stderr:
    """Whatever sys.stderr is at the time of writing: a progress bar replaces it while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def log_to_stderr(*, verbose: bool) -> None:
    """Write log lines to stderr: warnings and errors, or with `verbose` each step of every lifecycle too."""
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


def silence_logs_for_good() -> None:
    """Write no log line from now on, and none of those at the process's end; not if lifecycles are to be logged."""
    if structlog.get_config()["wrapper_class"] is not structlog.make_filtering_bound_logger(logging.INFO):
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def silence_logs() -> Iterator[None]:
    """Write no log line for a block, whose caller says itself what went wrong; not if lifecycles are to be logged."""
    before = structlog.get_config()
    if before["wrapper_class"] is structlog.make_filtering_bound_logger(logging.INFO):
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
