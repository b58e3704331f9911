"""search_runs(): the newest runs in which a text occurs, within a time."""

from __future__ import annotations

from nat_observability.errors import SinkError
from nat_observability.store.query import ReadConnection
from nat_observability.store.records import FoundRuns, RunFilter, RunKey, StoredRun
from nat_observability.store.selection import NextPage
from nat_observability.system.clock import monotonic

_PAGE = 200  # runs
_OF_RUN = ("run_id", "trace_id", "conversation_id", "user_id", "workflow_name", "name", "error", "tags")
_OF_SPAN = (
    "span_id", "name", "error_type", "error_message", "status_message", "tags", "input", "output", "metadata",
    "attributes", "events", "links", "error_traceback",
)  # fmt: skip


def search_runs(
    next_page: NextPage, query: ReadConnection, text: str, limit: int, wanted: RunFilter, seconds: float
) -> FoundRuns:
    """As `Store.search`."""
    until = monotonic() + seconds
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = f"%{escaped}%"
    found: list[StoredRun] = []
    scanned: RunKey | None = None
    of_run = _any_of(_OF_RUN if query.has_tags else _OF_RUN[:-1])
    of_span = _any_of([column for column in _OF_SPAN if column not in query.lacking])
    matches = (
        f"SELECT EXISTS (SELECT 1 FROM runs WHERE run_id = :run_id AND ({of_run})) "
        f"OR EXISTS (SELECT 1 FROM spans WHERE run_id = :run_id AND ({of_span}))"
    )
    try:
        with query.limited(seconds):
            while True:
                page = next_page(_PAGE, wanted, scanned)
                for run in page:
                    key = RunKey(run.start_ns, run.run.run_id)
                    if monotonic() >= until:
                        return FoundRuns(found, complete=False, scanned_to_ns=scanned and scanned.start_ns)
                    if query.first(matches, {"run_id": key.run_id, "pattern": pattern})[0]:
                        found.append(run)
                        if len(found) == limit:
                            return FoundRuns(found, complete=True)
                    scanned = key
                if len(page) < _PAGE:
                    return FoundRuns(found, complete=True)
    except SinkError as error:
        if not query.is_out_of_time(error):
            raise
        return FoundRuns(found, complete=False, scanned_to_ns=scanned and scanned.start_ns)


def _any_of(columns: tuple[str, ...] | list[str]) -> str:
    return " OR ".join(f"{column} LIKE :pattern ESCAPE '\\'" for column in columns)
