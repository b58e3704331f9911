"""Changes: what a store's writers have added since a moment, as a stream of lines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator
from typing import Any

from nat_observability.errors import SinkError
from nat_observability.viewer.store_file import Reader, ReadTimeoutError, StoreFile

_PERIOD = 0.25
_BEAT = 40  # periods after which an unchanged store is reported too, so that a broken connection is noticed
_MOST_RUNS = 500


async def changes(
    store: StoreFile, cursor: int | None, ended: asyncio.Event
) -> AsyncGenerator[dict[str, Any], None]:
    """
    Yield the ids of the runs with spans or a ledger since a cursor, and the new cursor, at most four times a second.

    Args:
        cursor: From an earlier answer; None for now.
        ended: Ends the changes once it is set.
    """
    # Both before the first answer: what the reader does after it would be missed, or end the stream.
    seen, ledger = await store.read(_newest)
    at = seen if cursor is None else min(cursor, seen)
    yield {"cursor": at, "runs": []}
    unchanged = 0
    while not ended.is_set():
        try:
            newest, newest_ledger = await store.read(_newest)
            if newest < at:
                at = 0  # another file is at the path now
            if newest > at or newest_ledger != ledger:
                runs = await store.read(functools.partial(_runs, since=at, to=newest, ledger=ledger))
                at, ledger, unchanged = newest, newest_ledger, 0
                yield {"cursor": at, "runs": runs}
        except (ReadTimeoutError, SinkError):
            pass  # moved, or being replaced: what comes next is seen
        unchanged += 1
        if unchanged >= _BEAT:
            unchanged = 0
            yield {"cursor": at, "runs": []}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _PERIOD)


def _newest(reader: Reader) -> tuple[int, int]:
    """Return the ids of the last span and of the last ledger."""
    ledger = reader.value("SELECT max(id) FROM ledgers") if reader.version >= 2 else None
    return reader.newest(), ledger or 0


def _runs(reader: Reader, since: int, to: int, ledger: int) -> list[str]:
    rows = reader.rows(
        "SELECT DISTINCT CAST(run_id AS TEXT) FROM "
        f"(SELECT run_id FROM spans WHERE rowid > ? AND rowid <= ? ORDER BY rowid DESC LIMIT 20000) LIMIT {_MOST_RUNS}",
        since,
        to,
    )
    if reader.version >= 2:
        rows += reader.rows(
            f"SELECT DISTINCT CAST(run_id AS TEXT) FROM ledgers WHERE id > ? LIMIT {_MOST_RUNS}", ledger
        )
    return list(dict.fromkeys(run_id for (run_id,) in rows))
