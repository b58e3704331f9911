"""Losses: the one door through which a delivery gives items up: counted for exporter and run, and logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from nat_observability.delivery import locking
from nat_observability.delivery.lease import Destination, Lease
from nat_observability.delivery.ledger import Ledger
from nat_observability.delivery.loss_reasons import DropReason, FailureReason, is_intended
from nat_observability.logs import RepeatedEvent, get_logger, is_writing
from nat_observability.system.fork_hooks import at_fork

_NAMED_RUNS = 3  # in a line
_NAMED_EXPORTERS = 1000  # in the totals; those that lose something after that are counted together
_OTHERS = "(others)"
_log = get_logger()


class Losses:
    """
    Gives items up: each is counted in the ledger and for its run, and is in a log line, with the reason.

    The first is logged at once, then there is a line every half minute and one at the end of the delivery; what was not
    logged outlives the delivery, for `log_all` to find. All its lines together account for every item that failed or
    was dropped, except intended drops. When the process ends, `log_all` adds the totals of each exporter.

    Args:
        exporter: Its name.
        ledger: Of the delivery.
        destination: The delivery, as leases know it.

    Attributes:
        unlogged: Whether there is something that is not logged yet.

    `fail`, `drop`, `kept_without` and `when_written` are called under the deliveries' lock. It is not held while a line
    is written, because the application's log processors are foreign code.
    """

    def __init__(self, exporter: str, ledger: Ledger, destination: Destination) -> None:
        self._exporter = exporter
        self._ledger = ledger
        self._destination = destination
        self._failed: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._failed_runs: dict[str, None] = {}  # the first few, in order
        self._dropped_runs: dict[str, None] = {}
        self._error: str | None = None
        self.unlogged = False
        self._failed_event, self._dropped_event = RepeatedEvent(), RepeatedEvent()
        self._writing = 0  # threads that write lines about what they have taken
        self._when_written: list[Callable[[], None]] = []

    def fail(self, lease: Lease, reason: FailureReason, error: str | None, items: int) -> None:
        """Give up pending items that the back end has refused, or that it cannot be reached for."""
        self._ledger.fail(items)
        lease.count_failed(self._destination, items)
        self._failed[reason] += items
        self._error = error
        self._note(lease, reason, items, self._failed_runs)

    def drop(self, lease: Lease, reason: DropReason, items: int) -> None:
        """Give up pending items that were never sent."""
        self._ledger.drop(reason, items)
        lease.count_dropped(self._destination, reason, items)
        if not is_intended(reason):
            self._dropped[reason] += items
            self._note(lease, reason, items, self._dropped_runs)

    def kept_without(self, lease: Lease, items: int) -> None:
        """Note that a run is kept after all, without items that were dropped from its buffer as if it were not."""
        self._dropped["sampling_buffer_full"] += items
        self._note(lease, "sampling_buffer_full", items, self._dropped_runs)

    def _note(self, lease: Lease, reason: str, items: int, runs: dict[str, None]) -> None:
        self.unlogged = True
        if lease.run_id is not None and len(runs) < _NAMED_RUNS:
            runs[lease.run_id] = None
        _unlogged.add(self)
        name = self._exporter
        if name not in _totals and len(_totals) >= _NAMED_EXPORTERS:
            name = _OTHERS
        _totals.setdefault(name, Counter())[reason] += items

    def log(self, *, last: bool = False) -> None:
        """
        Log what is due. From any thread, without the lock.

        Args:
            last: Whether to log now, however little time has passed since the last line.
        """
        # A line written while this thread writes another is dropped, and its counts would be lost.
        if not self.unlogged or is_writing():
            return
        failed: dict[str, int] = {}
        dropped: dict[str, int] = {}
        failed_runs: dict[str, None] = {}
        dropped_runs: dict[str, None] = {}
        with locking.lock:
            if self._failed and (self._failed_event.due() is not None or last):
                failed, self._failed = dict(self._failed), Counter()
                failed_runs, self._failed_runs = self._failed_runs, {}
            if self._dropped and (self._dropped_event.due() is not None or last):
                dropped, self._dropped = dict(self._dropped), Counter()
                dropped_runs, self._dropped_runs = self._dropped_runs, {}
            self.unlogged = bool(self._failed or self._dropped)
            if not self.unlogged:
                _unlogged.discard(self)
            error, all_dropped = self._error, dict(self._ledger.dropped or ())
            self._writing += 1
        try:
            self._write(failed, failed_runs, error, dropped, dropped_runs, all_dropped)
        finally:
            with locking.lock:
                self._writing -= 1
                if not self._writing:
                    waiting, self._when_written = self._when_written, []
                    for call in waiting:
                        call()

    def when_written(self, call: Callable[[], None]) -> None:
        """Call this under the lock when no thread is writing a line: at once if none is."""
        if self._writing:
            self._when_written.append(call)
        else:
            call()

    def _write(
        self,
        failed: Mapping[str, int],
        failed_runs: Iterable[str],
        error: str | None,
        dropped: Mapping[str, int],
        dropped_runs: Iterable[str],
        all_dropped: Mapping[str, int],
    ) -> None:
        if failed:
            _log.error(
                "delivery_failed",
                exporter=self._exporter,
                items=sum(failed.values()),
                reasons=failed,
                runs=list(failed_runs),
                error=error,
            )
        if dropped:
            _log.warning(
                "delivery_dropped",
                exporter=self._exporter,
                items=sum(dropped.values()),
                reasons=dropped,
                runs=list(dropped_runs),
                dropped=all_dropped,
            )


def log_due() -> None:
    """Log what is due, of whichever delivery: for code that has given up items of several. Not under the lock."""
    for losses in list(_unlogged):
        losses.log()


def log_abandoned(lost: Iterable[tuple[str, int]]) -> None:
    """Log that exporters were abandoned at a deadline, each with the number of items that it has lost by that."""
    for name, items in lost:
        _log.warning("exporter_abandoned", exporter=name, lost=items)


def is_any_unlogged() -> bool:
    """Whether `log_all` has anything to log."""
    return bool(_unlogged or _totals)


def log_all(abandoned: Iterable[tuple[str, int]]) -> None:
    """
    Log what was not logged yet, of deliveries that no longer exist too, and then the totals: the process is ending.

    Totals are logged again only if more was lost since.
    """
    log_abandoned(abandoned)
    for losses in list(_unlogged):
        losses.log(last=True)
    with locking.lock:
        totals = {name: dict(_totals[name]) for name in sorted(_totals)}
        _totals.clear()
    for name, reasons in totals.items():
        _log.warning("delivery_lost_in_all", exporter=name, items=sum(reasons.values()), reasons=reasons)


_unlogged: set[Losses] = set()
_totals: dict[str, Counter[str]] = {}  # of the process, by exporter and reason


def _start_clean() -> None:
    """The parent logs what was lost before a fork."""
    _unlogged.clear()
    _totals.clear()


at_fork(after_in_child=_start_clean)
