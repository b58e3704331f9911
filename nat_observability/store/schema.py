"""The file of the embedded store: its schema, and the check that a file is a store."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

from nat_observability.errors import SinkError
from nat_observability.system.disk import disk_error
from nat_observability.system.sqlite_errors import DATABASE_ERRORS, database_error, primary_code

APPLICATION_ID = int.from_bytes(b"NaOb")
"""Marks a SQLite file as ours (the header's bytes 68 to 71, https://sqlite.org/fileformat2.html#application_id)."""

SCHEMA_VERSION = 2
"""The `user_version` of stores that are made now. Those of version 1 are read and written as they are."""

INDEX_SUFFIX = "-index"
"""Added to a store's path, gives that of the index that a viewer may keep beside it, and that deletions empty too."""

RUNNING = "running"
"""The status of a step that is still open, beside those of a finished span."""

SPAN_COLUMNS = (
    "run_id, span_id, parent_id, kind, name, start_ns, end_ns, status, input, input_type, output, output_type, "
    "metadata, tags, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, "
    "error_type, error_message, error_traceback, chunks, first_chunk_ns, "
    "attributes, events, links, span_kind, status_message, dropped, "
    "cache_write_tokens, audio_input_tokens, audio_output_tokens, image_input_tokens, "
    "origin, input_cost, output_cost, total_cost"
)
"""In a store of either version. Version 2 has `id` and `cost` too: what the step cost, by a price or its attributes."""

# Columns that stores of version 1 may lack: releases that do not know them ignore them.
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
# has to read. What is long comes last in a row: SQLite walks over it to whatever comes after it.
_SCHEMA = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY NOT NULL, trace_id TEXT NOT NULL, conversation_id TEXT, user_id TEXT,
        workflow_name TEXT, parent_span_id TEXT, name TEXT, root_start_ns INTEGER, status TEXT NOT NULL,
        start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, error TEXT, tags TEXT,
        span_count INTEGER NOT NULL DEFAULT 0, error_count INTEGER NOT NULL DEFAULT 0,
        incomplete_count INTEGER NOT NULL DEFAULT 0,
        llm_calls INTEGER NOT NULL DEFAULT 0, tool_calls INTEGER NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
        total_tokens INTEGER NOT NULL DEFAULT 0, cost REAL, depth INTEGER, process_id TEXT
    )
    """,
    "CREATE INDEX runs_by_time ON runs (start_ns)",
    "CREATE INDEX runs_by_status ON runs (status, start_ns)",
    "CREATE INDEX runs_by_trace ON runs (trace_id)",
    "CREATE INDEX runs_by_depth ON runs (depth)",
    "CREATE INDEX runs_by_conversation ON runs (conversation_id, start_ns) WHERE conversation_id IS NOT NULL",
    "CREATE INDEX runs_by_user ON runs (user_id, start_ns) WHERE user_id IS NOT NULL",
    "CREATE INDEX runs_by_workflow ON runs (workflow_name, start_ns) WHERE workflow_name IS NOT NULL",
    """
    CREATE TABLE spans (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT, kind TEXT NOT NULL, start_ns INTEGER NOT NULL,
        end_ns INTEGER NOT NULL, status TEXT NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER,
        cached_tokens INTEGER, reasoning_tokens INTEGER, total_tokens INTEGER, cache_write_tokens INTEGER,
        audio_input_tokens INTEGER, audio_output_tokens INTEGER, image_input_tokens INTEGER, cost REAL,
        input_cost REAL, output_cost REAL, total_cost REAL, chunks INTEGER NOT NULL, first_chunk_ns INTEGER,
        span_kind TEXT, dropped TEXT, input_type TEXT, output_type TEXT, error_type TEXT, name TEXT NOT NULL,
        status_message TEXT, error_message TEXT, tags TEXT, input TEXT, output TEXT, metadata TEXT,
        attributes TEXT, events TEXT, links TEXT, origin TEXT, error_traceback TEXT,
        UNIQUE (run_id, span_id)
    )
    """,
    """
    CREATE TABLE kinds (
        kind TEXT PRIMARY KEY NOT NULL, span_count INTEGER NOT NULL, error_count INTEGER NOT NULL,
        incomplete_count INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE run_tags (
        run_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, start_ns INTEGER NOT NULL,
        PRIMARY KEY (run_id, name)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX run_tags_by_value ON run_tags (name, value, start_ns)",
    """
    CREATE TABLE ledgers (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, exporter TEXT NOT NULL,
        accepted INTEGER NOT NULL, delivered INTEGER NOT NULL, failed INTEGER NOT NULL, pending INTEGER NOT NULL,
        dropped TEXT, at_ns INTEGER NOT NULL, UNIQUE (run_id, exporter)
    )
    """,
    """
    CREATE TABLE processes (
        process_id TEXT PRIMARY KEY NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL, started_ns INTEGER NOT NULL,
        heartbeat_ns INTEGER NOT NULL, ended_ns INTEGER
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE deletions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, at_ns INTEGER NOT NULL
    )
    """,
    "CREATE TABLE store (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
)

# What a batch adds is counted by the writer, once for each run and kind, and what is replaced or deleted by these.
_TRIGGERS = (
    """
    CREATE TRIGGER span_removed AFTER DELETE ON spans
    WHEN old.status <> 'running' AND EXISTS (SELECT 1 FROM runs WHERE run_id = old.run_id) BEGIN
        UPDATE runs SET
            span_count = span_count - 1,
            error_count = error_count - (old.status = 'error'),
            incomplete_count = incomplete_count - (old.status = 'incomplete'),
            llm_calls = llm_calls - (old.kind = 'LLM'),
            tool_calls = tool_calls - (old.kind = 'TOOL'),
            prompt_tokens = prompt_tokens - iif(old.kind = 'LLM', coalesce(old.prompt_tokens, 0), 0),
            completion_tokens = completion_tokens - iif(old.kind = 'LLM', coalesce(old.completion_tokens, 0), 0),
            total_tokens = total_tokens - iif(old.kind = 'LLM', coalesce(old.total_tokens, 0), 0),
            cost = cost - iif(old.kind IN ('AGENT', 'CHAIN', 'WORKFLOW'), 0, coalesce(old.cost, 0))
        WHERE run_id = old.run_id;
        UPDATE kinds SET
            span_count = span_count - 1,
            error_count = error_count - (old.status = 'error'),
            incomplete_count = incomplete_count - (old.status = 'incomplete'),
            prompt_tokens = prompt_tokens - coalesce(old.prompt_tokens, 0),
            completion_tokens = completion_tokens - coalesce(old.completion_tokens, 0),
            cached_tokens = cached_tokens - coalesce(old.cached_tokens, 0),
            reasoning_tokens = reasoning_tokens - coalesce(old.reasoning_tokens, 0),
            total_tokens = total_tokens - coalesce(old.total_tokens, 0)
        WHERE kind = old.kind;
    END
    """,
    """
    CREATE TRIGGER run_removed AFTER DELETE ON runs BEGIN
        DELETE FROM run_tags WHERE run_id = old.run_id;
        DELETE FROM ledgers WHERE run_id = old.run_id;
        INSERT INTO deletions (run_id, at_ns)
            VALUES (old.run_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000000);
    END
    """,
)

_MOVE_AWAY = "Move it away, with its -wal and -shm files, or choose another path; nothing in it was changed."


def connect_to_read(path: str) -> sqlite3.Connection:
    """
    Return a connection that can neither change nor create the file.

    A store without a log in a folder that cannot be written is opened as unchangeable: SQLite could not make the index
    that it needs otherwise.
    """
    uri = f"{Path(path).as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except sqlite3.OperationalError as error:
        connection.close()
        if not _refused(error):
            raise
        if _has_log(path):
            # It may hold what the file lacks, and a writer may be adding to it.
            raise SinkError(
                path,
                f"has a log (-wal), which cannot be read there: {error}",
                "Copy it, with its -wal file, into a folder that you can write.",
            ) from error
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    except BaseException:
        connection.close()
        raise
    return connection


def _refused(error: sqlite3.OperationalError) -> bool:
    return primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _has_log(path: str) -> bool:
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except OSError:
        return False


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
    if found.st_size == 1:  # for SQLite such a file is empty, and it would write into it
        raise SinkError(path, "is not a database", _MOVE_AWAY)
    if not os.access(path, os.R_OK):
        raise SinkError(path, "cannot be read: permission denied", "Give this user read permission.")
    try:
        with contextlib.closing(connect_to_read(path)) as connection:
            # In this order: another process may create the store between the two, and who sees its tables sees its id.
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
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
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        cure = "Upgrade nat-observability, or choose another path."
        raise SinkError(path, f"has schema version {version}, and this version knows {SCHEMA_VERSION}", cure)
    if version:
        connection.execute("SELECT 1 FROM runs, spans LIMIT 0")
    return bool(version)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of a store's schema, 0 if it has none yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def prepare_empty(connection: sqlite3.Connection) -> None:
    """Let a file that is still empty give back space later. SQLite ignores this once it has written the file."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def create_schema(connection: sqlite3.Connection, path: str) -> int:
    """
    Create the tables of the store in one transaction, unless another process has done so in the meantime.

    A store of version 1 gets the columns that its version has gained, and stays one of version 1.

    Returns:
        The store's version.
    """
    connection.execute("BEGIN IMMEDIATE")
    if not check_schema(connection, path):
        create_tables(connection)
    version = schema_version(connection)
    if version == 1:
        for table, columns in _ADDED.items():
            for column in missing_columns(connection, table):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")
    connection.execute("COMMIT")
    return version


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of the current version in a file without any of their names, within a transaction."""
    for statement in (*_SCHEMA, *_TRIGGERS):
        connection.execute(statement)
    connection.execute("INSERT INTO store VALUES ('store_id', lower(hex(randomblob(16))))")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def missing_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that a table of a store of version 1 lacks, because only earlier releases wrote to it."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    known = {name for (name,) in rows}
    return [column for column in _ADDED[table] if column not in known]
