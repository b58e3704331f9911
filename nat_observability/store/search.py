"""search_runs(): the newest runs in which a text occurs, within a time."""

from __future__ import annotations

import re
import string
from collections.abc import Collection

import msgspec

from nat_observability.errors import SinkError
from nat_observability.store.query import ReadConnection, is_out_of_time
from nat_observability.store.records import FoundRuns, RunFilter, RunKey, StoredRun
from nat_observability.store.selection import NextPage
from nat_observability.system.clock import monotonic

_PAGE = 200  # runs
_PLAIN_OF_RUN = ("run_id", "trace_id", "conversation_id", "user_id", "workflow_name", "name", "error")
_PLAIN_OF_SPAN = ("span_id", "name", "error_type", "error_message", "status_message", "error_traceback")
_EITHER = ("input", "output")
_JSON_OF_SPAN = ("tags", "metadata", "attributes", "events", "links")
_LONGEST_PATTERN = 50_000  # bytes (https://sqlite.org/limits.html, SQLITE_MAX_LIKE_PATTERN_LENGTH)
_WILD = re.compile(r"[%_\\]")
_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}  # as `lower` of SQLite does it


def search_runs(
    next_page: NextPage, query: ReadConnection, text: str, limit: int, wanted: RunFilter, seconds: float
) -> FoundRuns:
    """As `Store.search`."""
    until = monotonic() + seconds
    found: list[StoredRun] = []
    scanned: RunKey | None = None
    wording = _Wording(text)
    of_run = wording.among(_PLAIN_OF_RUN, ("tags",) if query.has_tags else ())
    of_span = wording.among((*_PLAIN_OF_SPAN, *_EITHER), (*_EITHER, *_JSON_OF_SPAN), lacking=query.lacking)
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
                    if query.first(matches, {**wording.values, "run_id": key.run_id})[0]:
                        found.append(run)
                        if len(found) == limit:
                            return FoundRuns(found, complete=True)
                    scanned = key
                if len(page) < _PAGE:
                    return FoundRuns(found, complete=True)
    except SinkError as error:
        if not is_out_of_time(error):
            raise
        return FoundRuns(found, complete=False, scanned_to_ns=scanned and scanned.start_ns)


class _Wording:
    """A text as it may stand in a column: as it is, or within a string of JSON."""

    def __init__(self, text: str) -> None:
        try:
            quoted = msgspec.json.encode(text).decode()[1:-1]
        except UnicodeEncodeError:
            quoted = text  # the query says what is wrong with it
        self._same = text == quoted
        self.values: dict[str, object] = {}
        for name, form in (("plain", text), ("quoted", quoted)):
            escaped = _WILD.sub(r"\\\g<0>", form)
            self.values[f"{name}_pattern"] = f"%{escaped}%"
            self.values[name] = form.translate(_LOWER)

    def among(self, plain: Collection[str], quoted: Collection[str], *, lacking: Collection[str] = ()) -> str:
        """Return the condition that the text is in one of these columns, as text or in their JSON."""
        conditions = [self._is_in(column, "plain") for column in (*plain, *quoted) if column not in lacking]
        if not self._same:
            conditions += [self._is_in(column, "quoted") for column in quoted if column not in lacking]
        return " OR ".join(dict.fromkeys(conditions))

    def _is_in(self, column: str, name: str) -> str:
        anywhere = f"instr(lower({column}), :{name})"
        pattern = str(self.values[f"{name}_pattern"])
        # LIKE takes a third of the time, but ends at a NUL in the pattern or the column, and its pattern has a limit.
        if "\0" in pattern or 4 * len(pattern) > _LONGEST_PATTERN:
            return anywhere
        like = f"{column} LIKE :{name}_pattern ESCAPE '\\'"
        return f"{like} OR (instr({column}, char(0)) AND {anywhere})"
