"""The file of the embedded store: its schema, and the check that a file is a store."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

from nat_observability.errors import SinkError
from nat_observability.system.disk import disk_error
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error

APPLICATION_ID = int.from_bytes(b"NaOb")
"""Marks a SQLite file as ours (the header's bytes 68 to 71, https://sqlite.org/fileformat2.html#application_id)."""

SCHEMA_VERSION = 1
"""The `user_version` of the schema below."""

SPAN_COLUMNS = (
    "run_id, span_id, parent_id, kind, name, start_ns, end_ns, status, input, input_type, output, output_type, "
    "metadata, tags, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, "
    "error_type, error_message, error_traceback, chunks, first_chunk_ns, "
    "attributes, events, links, span_kind, status_message, dropped, "
    "cache_write_tokens, audio_input_tokens, audio_output_tokens, image_input_tokens, "
    "origin, input_cost, output_cost, total_cost"
)

# Columns that stores of earlier versions lack. Those versions ignore them, so they need no new schema version.
_ADDED = {
    "runs": {"tags": "TEXT"},
    "spans": {
        "attributes": "TEXT",
        "events": "TEXT",
        "links": "TEXT",
        "span_kind": "TEXT",
        "status_message": "TEXT",
        "dropped": "TEXT",
        "cache_write_tokens": "INTEGER",
        "audio_input_tokens": "INTEGER",
        "audio_output_tokens": "INTEGER",
        "image_input_tokens": "INTEGER",
        "origin": "TEXT",
        "input_cost": "REAL",
        "output_cost": "REAL",
        "total_cost": "REAL",
    },
}

# Tables with rowids: rows hold whole prompts, and a WITHOUT ROWID table keeps its rows in the pages that every look-up
# has to read.
_SCHEMA = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY NOT NULL, trace_id TEXT NOT NULL, conversation_id TEXT, user_id TEXT,
        workflow_name TEXT, parent_span_id TEXT, name TEXT, root_start_ns INTEGER, status TEXT NOT NULL,
        start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, error TEXT
    )
    """,
    "CREATE INDEX runs_by_time ON runs (start_ns)",
    "CREATE INDEX runs_by_status ON runs (status, start_ns)",
    "CREATE INDEX runs_by_conversation ON runs (conversation_id, start_ns) WHERE conversation_id IS NOT NULL",
    """
    CREATE TABLE spans (
        run_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT, kind TEXT NOT NULL, name TEXT NOT NULL,
        start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, status TEXT NOT NULL,
        input TEXT, input_type TEXT, output TEXT, output_type TEXT, metadata TEXT, tags TEXT,
        prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER,
        total_tokens INTEGER, error_type TEXT, error_message TEXT, error_traceback TEXT,
        chunks INTEGER NOT NULL, first_chunk_ns INTEGER,
        PRIMARY KEY (run_id, span_id)
    )
    """,
    "CREATE INDEX spans_by_time ON spans (start_ns)",
    "CREATE INDEX spans_by_status ON spans (status, start_ns)",
)

_MOVE_AWAY = "Move it away, with its -wal and -shm files, or choose another path; nothing in it was changed."


def connect_to_read(path: str) -> sqlite3.Connection:
    """Return a connection that can neither change nor create the file."""
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, isolation_level=None)


def has_store(path: str) -> bool:
    """
    Return whether a store is at `path`; False if nothing is there, an empty file, or a database without tables.

    SQLite is asked, and not the file: closing a file that this process has open elsewhere through SQLite would
    drop SQLite's locks on it (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).

    Raises:
        SinkError: The file is another program's, damaged, or from a newer version of this package.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk_error(path, "cannot be opened", error) from error
    if not stat.S_ISREG(found.st_mode):
        raise SinkError(path, "is not a file", "Give the path of a file.")
    if not found.st_size:
        return False
    try:
        with contextlib.closing(connect_to_read(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application == APPLICATION_ID:
                return check_schema(connection, path)
    except DATABASE_ERRORS as error:
        raise database_error(path, "cannot be read", error) from error
    if application or tables:
        raise SinkError(path, "is another program's database", _MOVE_AWAY)
    return False


def check_schema(connection: sqlite3.Connection, path: str) -> bool:
    """
    Return whether the store has its tables; False if its creation was not completed.

    Raises:
        SinkError: A newer version of this package wrote the store.
        sqlite3.Error, UnicodeDecodeError: The file is damaged.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        cure = "Upgrade nat-observability, or choose another path."
        raise SinkError(path, f"has schema version {version}, and this version knows {SCHEMA_VERSION}", cure)
    if version:
        connection.execute("SELECT 1 FROM runs, spans LIMIT 0")
    return bool(version)


def create_schema(connection: sqlite3.Connection, path: str) -> None:
    """
    Create the tables of the store in one transaction, unless another process has done so in the meantime.

    A store of an earlier version gets the columns that it lacks.
    """
    connection.execute("BEGIN IMMEDIATE")
    if not check_schema(connection, path):
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for table, columns in _ADDED.items():
        for column in missing_columns(connection, table):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")
    connection.execute("COMMIT")


def missing_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that a table of a store lacks, because only earlier versions have written to it."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    known = {name for (name,) in rows}
    return [column for column in _ADDED[table] if column not in known]
