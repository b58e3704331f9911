"""ExporterRecord: one exporter in one run: its state, its task, its times, and the first error of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Protocol

from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.errors import StopTimeoutError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.subscription import Subscription
from nat_observability.foreign_errors import describe, locate
from nat_observability.logs import get_logger
from nat_observability.run.report import ExporterReport, ExporterState

_log = get_logger()
_OURS = StopTimeoutError.__module__


class StartupWait(Protocol):
    """A wait for an exporter to be ready; see `nat_observability.run.foreign_readiness`."""

    def cancel(self) -> None: ...


class ExporterRecord:
    """One exporter in one cycle. Times are seconds of `clock.perf_counter()`. `task` is None where it needs none."""

    __slots__ = (
        "cleaned_up",
        "ended_at",
        "error",
        "exporter",
        "name",
        "opening",
        "readiness",
        "ready_at",
        "state",
        "subscription",
        "task",
    )

    def __init__(self, name: str, exporter: BaseExporter) -> None:
        self.name = name
        self.exporter = exporter
        self.state = ExporterState.STARTING
        self.error: BaseException | None = None
        self.subscription: Subscription | None = None
        self.opening: Awaitable[None] | None = None
        self.readiness: StartupWait | None = None
        self.task: asyncio.Task[None] | None = None
        self.ready_at: float | None = None
        self.ended_at: float | None = None
        self.cleaned_up = False

    def fail(self, error: BaseException) -> BaseException:
        """Keep the first error; return it."""
        if self.error is None:
            self.error = error
        return self.error

    @property
    def problem(self) -> str | None:
        """The error in one line, without its message where that may hold what was to be redacted."""
        error = self.error
        if error is None:
            return None
        # An exporter's own code has seen steps since it was ready; a delivery's sees them redacted.
        own = getattr(self.exporter, "delivery", None) is None and type(error).__module__ != _OURS
        return locate(error) if own and self.ready_at is not None else describe(error)

    def log_end(self, run_id: str) -> None:
        """Log how it has ended, unless it never started, which is logged then."""
        name = self.name
        if self.state is ExporterState.ABANDONED:
            _log.warning("exporter_abandoned", exporter=name, workflow_run_id=run_id, error=self.problem)
        elif self.state is ExporterState.FAILED and self.ready_at is not None:
            _log.warning("exporter_stop_failed", exporter=name, workflow_run_id=run_id, error=self.problem)
        elif self.state is ExporterState.STOPPED:
            _log.info("exporter_stopped", exporter=name, workflow_run_id=run_id)

    def report(self, began_at: float, ending_at: float | None) -> ExporterReport:
        """Return what is known of it now."""
        subscription = self.subscription
        ledger: LedgerSnapshot | None = None
        problem, oddities = self.problem, {}
        if subscription is not None:
            ledger, oddities = subscription.ledger, subscription.oddities
            if problem is None:
                problem = subscription.problem
        return ExporterReport(
            self.state,
            None if self.ready_at is None else self.ready_at - began_at,
            None if self.ended_at is None or ending_at is None else max(0.0, self.ended_at - ending_at),
            ledger,
            problem,
            oddities,
        )


def log_ends(
    run_id: str, records: Iterable[ExporterRecord], members: Iterable[str], seconds: float | None
) -> None:
    """
    Log how each exporter of a run has ended, and then the run.

    Args:
        run_id: The run's.
        records: Of the exporters that have one.
        members: The names of the others, which have stopped.
        seconds: What the run's stop took.
    """
    for record in records:
        record.log_end(run_id)
    for name in members:
        _log.info("exporter_stopped", exporter=name, workflow_run_id=run_id)
    _log.info("manager_stopped", workflow_run_id=run_id, duration_s=seconds)
