"""Upkeep: what a blocking sink does about twice a second beside writing: ledgers, open steps, tidying."""

from __future__ import annotations

from collections.abc import Callable

from nat_observability.delivery.sending.run_feed import RunFeed
from nat_observability.foreign_errors import describe
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.sinks.protocol import ReportSink, RunLedger, RunningSink, TidySink
from nat_observability.system.clock import monotonic

EVERY = 0.5
"""Seconds between two rounds."""

_log = get_logger()


class Upkeep:
    """
    The rounds of one sink, on its worker's thread. What fails is logged, and tried again in the next round.

    Attributes:
        feed: The runs that the sink is told of.
    """

    def __init__(self, sink: object) -> None:
        self.feed = RunFeed()
        self._sink_name = type(sink).__name__
        self._reports = sink if isinstance(sink, ReportSink) else None
        self._running = sink if isinstance(sink, RunningSink) else None
        self._tidy = sink if isinstance(sink, TidySink) else None
        self._unwritten: list[RunLedger] = []
        self._shown = False
        self._tidy_at = 0.0
        self._failed = RepeatedEvent()

    def round(self) -> None:
        """Do what is due."""
        self._guard(self._report)
        self._guard(self._show)
        self._guard(self._clean)

    def last_round(self) -> None:
        """Write the ledgers that were not final yet: the sink closes."""
        self._guard(lambda: self._report(last=True))

    def _report(self, *, last: bool = False) -> None:
        if self._reports is None:
            return
        self._unwritten += self.feed.ledgers(last=last)
        if self._unwritten:
            self._reports.write_report(self._unwritten)
            self._unwritten = []

    def _show(self) -> None:
        if self._running is None:
            return
        spans = self.feed.open_spans()
        if spans or self._shown:
            self._running.write_running(spans)
            self._shown = bool(spans)

    def _clean(self) -> None:
        if self._tidy is not None and monotonic() >= self._tidy_at:
            self._tidy_at = monotonic() + max(0.0, float(self._tidy.tidy()))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  a sink is foreign code, and its thread goes on
            if (suppressed := self._failed.due()) is not None:
                _log.warning(
                    "sink_upkeep_failed", sink=self._sink_name, error=describe(error), suppressed=suppressed
                )


def upkeep_of(sink: object) -> Upkeep | None:
    """Return the upkeep of a sink, None if it needs none."""
    return Upkeep(sink) if isinstance(sink, ReportSink | RunningSink | TidySink) else None
