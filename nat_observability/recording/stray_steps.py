"""Stray steps: those recorded outside every run while a run of this process is open; the first one is reported."""

from __future__ import annotations

import sys
import threading

from nat_observability.events import StepKind
from nat_observability.logs import get_logger
from nat_observability.system.fork_hooks import at_fork

_PACKAGE = __name__.partition(".")[0]

open_runs: dict[int, None] = {}
"""The runs that are open, until the first stray step was reported; for `step`, which cannot afford a call."""

_reported: list[bool] = []


def run_opened(run: int) -> None:
    """Note that a run has started, by its id."""
    if not _reported:
        open_runs[run] = None


def run_closed(run: int) -> None:
    """Note that a run has ended."""
    open_runs.pop(run, None)


def report_stray_step(kind: StepKind) -> None:
    """
    Log the first step outside every run while one is open, and look for no other.

    It names the line of code, and not the step, whose name may hold what is to be redacted.
    """
    if _reported:
        return
    _reported.append(True)
    open_runs.clear()
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        _PACKAGE,
        "contextlib",
    ):
        frame = frame.f_back
    get_logger().warning(
        "step_outside_run",
        kind=kind.value,
        place=f"{frame.f_code.co_filename}:{frame.f_lineno}",
        thread=threading.current_thread().name,
        cure="A thread does not inherit the run: start it with nat_observability.bind_context(function).",
    )


def _forget() -> None:
    """In a forked child: the runs are the parent's."""
    open_runs.clear()


at_fork(after_in_child=_forget)
