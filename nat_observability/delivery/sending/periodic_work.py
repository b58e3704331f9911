"""Upkeep: what a blocking sink does about twice a second beside writing, and the runs that it is told of then."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.threads.worker import Worker
from nat_observability.errors import ThreadRefusedError
from nat_observability.events import Span
from nat_observability.foreign_errors import describe
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.sinks.protocol import ReportSink, RunLedger, RunningSink, TidySink
from nat_observability.system.clock import monotonic
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

if TYPE_CHECKING:
    from nat_observability.delivery.pipeline.intake import ProcessorPipeline

OPEN_FOR_NS = 500_000_000
"""How long a step has been open, in nanoseconds, before it is shown."""

_log = get_logger()
_EVERY = 0.5  # seconds between two rounds
_MOST_RUNS = 50_000  # that have ended and whose ledgers are to be written
_AT_ONCE = 2_000
_PAUSE = 10  # looks at fresh runs between two at those that had items pending


class OpenRun(Protocol):
    """A run's open steps, which any thread may ask for."""

    def unfinished(self, open_for_ns: int = 0) -> list[Span]:
        """Return the steps that have been open for so long as INCOMPLETE spans, and leave them open."""
        ...


class ExporterOutcome(Protocol):
    """One exporter in one run."""

    @property
    def ledger(self) -> LedgerSnapshot | None: ...


class RunOutcome(Protocol):
    """What a run's exporters did."""

    @property
    def workflow_run_id(self) -> str | None: ...

    @property
    def stop_duration_s(self) -> float | None: ...

    @property
    def exporters(self) -> Mapping[str, ExporterOutcome]: ...


class EndedRun(Protocol):
    """A run whose end has begun."""

    def report(self, *, running: bool) -> RunOutcome: ...


class RunFeed:
    """
    Knows the runs that a delivery takes part in, and reads them only if its sink asks.

    An application's thread does no more than to add a run to it when the run begins and when it ends. The rest is
    called on the sink's thread.

    Attributes:
        pipeline: What a span passes through on its way to the sink; None if nothing.
    """

    def __init__(self) -> None:
        self.pipeline: ProcessorPipeline | None = None
        self._open: WeakRegistry[OpenRun] = WeakRegistry()
        self._ended: deque[EndedRun] = deque(maxlen=_MOST_RUNS)
        self._waiting: deque[EndedRun] = deque()  # those with items that were pending at the last look
        self._looks = 0
        self._processed: dict[tuple[str, str], tuple[Span, Span | None]] = {}
        _feeds.add(self)

    # On the application's threads:

    def begun(self, run: OpenRun) -> None:
        """Note a run, for as long as something else keeps it."""
        self._open.add(run)

    def ended(self, run: EndedRun) -> None:
        """Note that a run ends; its ledgers are read when nothing of it is pending any more."""
        self._ended.append(run)

    # On the sink's thread:

    def open_spans(self) -> list[Span]:
        """Return the steps that have been open for half a second as the processors let them pass, INCOMPLETE as yet."""
        before, self._processed = self._processed, {}
        shown: list[Span] = []
        for run in self._open.all():
            try:
                spans = run.unfinished(OPEN_FOR_NS)
            except RuntimeError:
                continue  # it has recorded something at this moment; the next look will succeed
            for span in spans:
                key = span.run.run_id, span.span_id
                known = before.get(key)
                result = known[1] if known is not None and _same(known[0], span) else self._pass(span)
                self._processed[key] = span, result
                if result is not None:
                    shown.append(result)
        return shown

    def ledgers(self, *, last: bool = False) -> list[RunLedger]:
        """
        Return the ledgers of the runs that have ended and of which nothing is pending, each of them once.

        Args:
            last: Whether to return the others too, as they are.
        """
        self._looks += 1
        ledgers: list[RunLedger] = []
        looks = [(self._ended, len(self._ended) if last else _AT_ONCE)]
        if last or self._looks % _PAUSE == 0:
            looks.insert(0, (self._waiting, len(self._waiting) if last else _AT_ONCE))
        for runs, most in looks:
            for _ in range(min(most, len(runs))):
                run = runs.popleft()
                settled, found = _outcome(run)
                if settled or last:
                    ledgers += found
                else:
                    self._waiting.append(run)
        while len(self._waiting) > _MOST_RUNS:
            ledgers += _outcome(self._waiting.popleft())[1]
        return ledgers

    def forget(self) -> None:
        """Forget the parent's runs, in a forked child."""
        self._open = WeakRegistry()
        self._ended = deque(maxlen=_MOST_RUNS)
        self._waiting = deque()
        self._processed = {}

    def _pass(self, span: Span) -> Span | None:
        if self.pipeline is None:
            return span
        result = self.pipeline.apply_apart(span)
        return result if isinstance(result, Span) else None


def _same(before: Span, now: Span) -> bool:
    # Equal but for the end, which is the moment of the look. The fields that change are compared by what they are.
    return (
        before.attributes == now.attributes
        and before.events == now.events
        and before.links == now.links
        and before.name == now.name
        and before.status_message == now.status_message
        and before.start_ns == now.start_ns
    )


def _outcome(run: EndedRun) -> tuple[bool, list[RunLedger]]:
    report = run.report(running=False)
    run_id = report.workflow_run_id or ""
    ledgers = [
        RunLedger(
            run_id,
            name,
            ledger.accepted,
            ledger.delivered,
            ledger.failed,
            ledger.pending,
            dict(ledger.dropped),
        )
        for name, exporter in report.exporters.items()
        if (ledger := exporter.ledger) is not None
    ]
    settled = report.stop_duration_s is not None and not any(ledger.pending for ledger in ledgers)
    return settled, ledgers


class Upkeep:
    """
    The rounds of one sink, on its worker's thread, by a timer. What fails is logged, and tried again in the next round.

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
        self._round: Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # On the loop:

    def begin(self, worker: Worker) -> None:
        """Have a round on this worker now and then, until `end`."""
        self._round = (
            None  # one of another worker, or of the process that has forked this one, ends before, or never
        )
        self._plan(worker)

    def _plan(self, worker: Worker) -> None:
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self.due, worker)

    def due(self, worker: Worker) -> None:
        """Have a round, unless the last one is still under way, and the next one later."""
        if self._round is None or self._round.done():
            with suppress(ThreadRefusedError):
                self._round = worker.submit(self.round)
        self._plan(worker)

    def end(self) -> None:
        """Have no further round."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # On the worker's thread:

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


_feeds: WeakRegistry[RunFeed] = WeakRegistry()


def _forget() -> None:
    for feed in _feeds.all():
        feed.forget()


at_fork(after_in_child=_forget)
