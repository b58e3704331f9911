"""erase_runs(): deletes runs from a store so that nothing of them is left in its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from nat_observability.store.deletion import AT_ONCE, delete_runs, give_back
from nat_observability.store.schema import schema_version
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error

_LOG_PATIENCE_MS = 2_000  # until a reader ends its transaction


class Erased(NamedTuple):
    """How many runs were erased, and whether the log still has what they held, because of a reader."""

    runs: int
    is_in_log: bool


def erase_runs(
    path: Path, ids: Sequence[str], advance: Callable[[int], object] = lambda runs: None
) -> Erased:
    """
    Delete runs, overwrite what they held, and give the space back.

    Raises:
        SinkError: The store cannot be changed. Some of the runs may be gone.
    """
    deleted = 0
    try:
        with closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
            for first in range(0, len(ids), AT_ONCE):
                connection.execute("BEGIN IMMEDIATE")
                deleted += delete_runs(connection, ids[first : first + AT_ONCE], schema_version(connection))
                connection.execute("COMMIT")
                advance(len(ids[first : first + AT_ONCE]))
            while give_back(connection):
                pass
            # The log has what was deleted until it is begun anew.
            connection.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE_MS}")
            (is_kept, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except DATABASE_ERRORS as error:
        raise database_error(path, "cannot be changed", error) from error
    return Erased(deleted, bool(is_kept))
