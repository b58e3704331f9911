"""ManagerReport and ExporterReport: what a run's exporters did."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nat_observability.delivery.ledger import LedgerSnapshot, total


class ExporterState(StrEnum):
    """Where an exporter is in one run."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    ABANDONED = "abandoned"


class ExporterReport(msgspec.Struct, frozen=True):
    """
    One exporter in one run.

    Durations are in seconds, None while they last. `ledger` is None for an exporter that keeps none (one written
    for the reference toolkit). `oddities` counts irregular steps, such as `end_without_start`.
    """

    state: ExporterState
    start_duration_s: float | None = None
    stop_duration_s: float | None = None
    ledger: LedgerSnapshot | None = None
    error: str | None = None
    oddities: dict[str, int] = {}


class ManagerReport(msgspec.Struct, frozen=True):
    """
    A manager's current run, or its last one if none is running; all None and empty before the first.

    `unheard` is the number of steps that were recorded while no exporter listened, after the run's end for example.
    """

    running: bool
    workflow_run_id: str | None = None
    trace_id: str | None = None
    start_duration_s: float | None = None
    stop_duration_s: float | None = None
    unheard: int = 0
    exporters: dict[str, ExporterReport] = {}

    @property
    def ledger(self) -> LedgerSnapshot:
        """The sum of the exporters' ledgers."""
        return total(report.ledger for report in self.exporters.values() if report.ledger is not None)


class FlushReceipt(msgspec.Struct, frozen=True):
    """
    The outcome of one run's items at the end of a flush, per exporter.

    `complete` is true if nothing of the run was pending any more; exporters without a ledger do not count.
    """

    complete: bool
    exporters: dict[str, LedgerSnapshot]
