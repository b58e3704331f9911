"""Stores of version 1, as earlier releases made them: the first of them without tags of runs and details of spans."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_SCHEMA = """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY NOT NULL, trace_id TEXT NOT NULL, conversation_id TEXT, user_id TEXT,
        workflow_name TEXT, parent_span_id TEXT, name TEXT, root_start_ns INTEGER, status TEXT NOT NULL,
        start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, error TEXT
    );
    CREATE INDEX runs_by_time ON runs (start_ns);
    CREATE INDEX runs_by_status ON runs (status, start_ns);
    CREATE INDEX runs_by_conversation ON runs (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;
    CREATE TABLE spans (
        run_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT, kind TEXT NOT NULL, name TEXT NOT NULL,
        start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, status TEXT NOT NULL,
        input TEXT, input_type TEXT, output TEXT, output_type TEXT, metadata TEXT, tags TEXT,
        prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER,
        total_tokens INTEGER, error_type TEXT, error_message TEXT, error_traceback TEXT,
        chunks INTEGER NOT NULL, first_chunk_ns INTEGER,
        PRIMARY KEY (run_id, span_id)
    );
    CREATE INDEX spans_by_time ON spans (start_ns);
    CREATE INDEX spans_by_status ON spans (status, start_ns);
    PRAGMA application_id = 1315000162;
    PRAGMA user_version = 1;
"""


def make_old_store(path: Path) -> None:
    """Make an empty store of the first release; a sink that writes to it adds the columns of later ones."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
