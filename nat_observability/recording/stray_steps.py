"""Stray steps and runs: a line about steps outside every run, and about runs without exporters."""

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
_unrecorded: set[str] = set()


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
    get_logger().warning(
        "step_outside_run",
        kind=kind.value,
        place=_place(),
        thread=threading.current_thread().name,
        cure="A thread does not inherit the run: start it with nat_observability.bind_context(function).",
    )


def report_unrecorded_run(run_id: str, *, has_exporters: bool) -> None:
    """Log, once in a process for each reason, that no exporter takes part in a run."""
    reason = "none_selects_it" if has_exporters else "no_exporter"
    if reason in _unrecorded:
        return
    _unrecorded.add(reason)
    if has_exporters:  # a selection may leave a run out on purpose
        get_logger().info("run_not_recorded", workflow_run_id=run_id, reason=reason)
    else:
        cure = "Call add_exporter(), or take the manager from a container."
        get_logger().warning("run_not_recorded", workflow_run_id=run_id, reason=reason, cure=cure)


def report_unselected_run(run_id: str) -> None:
    """Log one of the runs of a runtime that has recorded none, because no exporter selects them."""
    cure = "Give the runs the tags or ids that one of the exporters selects."
    get_logger().warning("run_not_recorded", workflow_run_id=run_id, reason="none_selects_it", cure=cure)


def _place() -> str:
    """Return the innermost line of code outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        _PACKAGE,
        "contextlib",
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _forget() -> None:
    """In a forked child: the runs are the parent's."""
    open_runs.clear()


at_fork(after_in_child=_forget)
