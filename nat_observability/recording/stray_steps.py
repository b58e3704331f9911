"""Stray steps and runs: a line about steps outside every run, those without a block, and runs without exporters."""

from __future__ import annotations

import sys
import threading
from typing import NoReturn

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


def report_unentered_step(kind: StepKind) -> None:
    """Log a step that was made in a run and freed without a block. It names the line of code that freed it."""
    get_logger().warning(
        "step_not_entered",
        kind=kind.value,
        place=_place(),
        cure="Nothing is recorded without a block: write `with step(...):`, or `@step(...)` above a function.",
    )


def report_unentered_run() -> None:
    """Log a run that was made and freed without a block. It names the line of code that freed it."""
    get_logger().warning(
        "run_not_entered",
        place=_place(),
        cure="A run is a block: write `async with manager.start(...):`, or `with run_scope(container):`.",
    )


def report_unrecorded_run(run_id: str, *, has_exporters: bool) -> None:
    """Log, once in a process for each reason, that no exporter takes part in a run."""
    if has_exporters:
        what, cure = "none_selects_it", "Give the run the tags or ids that one of the exporters selects."
    else:
        what, cure = "no_exporter", "Call add_exporter(), or take the manager from a container."
    if what not in _unrecorded:
        _unrecorded.add(what)
        get_logger().warning("run_not_recorded", workflow_run_id=run_id, reason=what, cure=cure)


def refuse_block(run: object, *_: object) -> NoReturn:
    """Stand for `__enter__` and `__await__` of a run that begins and ends in an event loop."""
    raise TypeError(
        "start() is for `async with`: write `async with manager.start(...):`, or without an event loop "
        "`with run_scope(container):` of nat_observability.integrations."
    )


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
