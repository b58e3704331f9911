"""RunCounts: how many runs began in each hour, by status, workflow, name and tag, as the store has them now."""

from __future__ import annotations

import sqlite3
import struct
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from nat_observability.viewer.store_file import Reader, StoreFile, cut

MOST_WORDS = 2_000
"""Of a dimension; runs with further ones are counted as `BEYOND`."""

NOTHING, BEYOND = 0, -1
"""In place of a word's id: the run has none, or one that is not kept."""

DIMENSIONS = ("status", "workflow", "name")

RUN_COUNTS_SCHEMA = (
    "CREATE TABLE words (id INTEGER PRIMARY KEY, dimension TEXT NOT NULL, word TEXT NOT NULL, "
    "UNIQUE (dimension, word))",
    "CREATE TABLE cells (id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, status INTEGER NOT NULL, "
    "workflow INTEGER NOT NULL, name INTEGER NOT NULL, runs INTEGER NOT NULL, "
    "UNIQUE (hour, status, workflow, name))",
    "CREATE TABLE tag_hours (tag INTEGER NOT NULL, hour INTEGER NOT NULL, runs INTEGER NOT NULL, "
    "PRIMARY KEY (tag, hour)) WITHOUT ROWID",
    # Where each run was counted, by a digest of its id, so that it can be counted elsewhere when it changes.
    "CREATE TABLE counted (key INTEGER PRIMARY KEY, cell INTEGER NOT NULL, tags TEXT NOT NULL)",
)

HOUR_NS = 3_600_000_000_000
_CHANGED_SPANS = 5_000  # of one step
_DELETED = 2_000
_OLDER_RUNS = 2_000
_MOST_TAGS = 30  # of a run
_LONGEST_TAG = 200  # characters


class _Position(NamedTuple):
    """How far the store was followed: its spans, its deletions, and its runs down from the newest of the beginning."""

    spans: int
    deletions: int
    runs: int


class _Batch(NamedTuple):
    """What the store has after a position, and the position then."""

    position: _Position
    again: bool  # deletions were forgotten before they were seen: everything has to be counted again
    gone: list[str]
    rows: list[tuple[Any, ...]]


class RunCounts:
    """
    Follows the runs of a store, for the thread that writes the index.

    Attributes:
        followed: The id of a span; runs with spans up to it are counted as they were then, once `older` is 0.
        older: Runs with rowids below it are not counted yet.
    """

    def __init__(self, store: StoreFile) -> None:
        self._store = store
        self.followed = -1
        self.older = -1

    def forget(self) -> None:
        """Know nothing: the index is being made anew."""
        self.followed = self.older = -1

    def covers(self, newest: int) -> bool:
        """Whether every run is counted as it was when the store's newest span had this id."""
        return self.older == 0 and self.followed >= newest

    def step(self, connection: sqlite3.Connection) -> bool:
        """Count some runs, in a transaction of its own; return whether there may be more."""
        position = _position(connection)
        batch = self._store.read_here(lambda reader: _changes(reader, position))
        if batch.position != position:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _position(connection) != position:
                    return True  # another viewer was quicker
                counting = _Counting(connection)
                if batch.again:
                    for table in ("cells", "tag_hours", "counted"):
                        connection.execute(f"DELETE FROM {table}")
                for run_id in batch.gone:
                    counting.remove(run_id)
                for row in batch.rows:
                    counting.put(*row[1:])
                counting.save()
                connection.executemany(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                    [(f"counted_{name}", str(value)) for name, value in batch.position._asdict().items()],
                )
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        self.followed, self.older = batch.position.spans, batch.position.runs
        return batch.position != position

    def prune(self, connection: sqlite3.Connection) -> None:
        """Forget the words of runs that are gone, in a transaction of its own."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("DELETE FROM cells WHERE runs <= 0")
            connection.execute("DELETE FROM tag_hours WHERE runs <= 0")
            # A word that came into use only now would be taken for that of all runs that have it.
            beyond = " OR ".join(f"{dimension} = {BEYOND}" for dimension in DIMENSIONS)
            if connection.execute(f"SELECT 1 FROM cells WHERE {beyond} LIMIT 1").fetchone() is None:
                used = " UNION ".join(f"SELECT {dimension} FROM cells" for dimension in DIMENSIONS)
                connection.execute(
                    f"DELETE FROM words WHERE id NOT IN ({used} UNION SELECT tag FROM tag_hours)"
                )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


class _Counting:
    """The counts of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._words: dict[tuple[str, str], int] = {}
        self._kept: dict[str, int] = {}  # words of each dimension
        self._cells: dict[tuple[int, ...], int] = {}
        self._runs: dict[int, int] = {}  # what is added to each cell
        self._tags: dict[tuple[int, int], int] = {}

    def put(self, run_id: str, start: int, status: str, workflow: str, name: str, tags: object) -> None:
        """Count a run as it is now, and no longer as it was."""
        hour = start // HOUR_NS
        words = (self._word("status", status), self._word("workflow", workflow), self._word("name", name))
        cell = self._cell(hour, *words)
        own = sorted({self._word("tag", tag) for tag in _tags(tags)} - {BEYOND})
        packed = ",".join(map(str, own))
        key = _digest(run_id)
        known = self._connection.execute("SELECT cell, tags FROM counted WHERE key = ?", (key,)).fetchone()
        if known == (cell, packed):
            return
        if known is not None:
            self._add(known[0], known[1], -1)
        self._add(cell, packed, 1, hour)
        self._connection.execute("INSERT OR REPLACE INTO counted VALUES (?, ?, ?)", (key, cell, packed))

    def remove(self, run_id: str) -> None:
        """Count a run no longer, if it was."""
        key = _digest(run_id)
        known = self._connection.execute("SELECT cell, tags FROM counted WHERE key = ?", (key,)).fetchone()
        if known is not None:
            self._add(known[0], known[1], -1)
            self._connection.execute("DELETE FROM counted WHERE key = ?", (key,))

    def save(self) -> None:
        self._connection.executemany(
            "UPDATE cells SET runs = runs + ? WHERE id = ?",
            [(runs, cell) for cell, runs in self._runs.items() if runs],
        )
        self._connection.executemany(
            "INSERT INTO tag_hours VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET runs = runs + excluded.runs",
            [(*place, runs) for place, runs in self._tags.items() if runs],
        )

    def _add(self, cell: int, tags: str, runs: int, hour: int | None = None) -> None:
        self._runs[cell] = self._runs.get(cell, 0) + runs
        if not tags:
            return
        if hour is None:
            (hour,) = self._connection.execute("SELECT hour FROM cells WHERE id = ?", (cell,)).fetchone()
        for tag in map(int, tags.split(",")):
            self._tags[tag, hour] = self._tags.get((tag, hour), 0) + runs

    def _cell(self, *place: int) -> int:
        found = self._cells.get(place)
        if found is None:
            row = self._connection.execute(
                "SELECT id FROM cells WHERE hour = ? AND status = ? AND workflow = ? AND name = ?", place
            ).fetchone()
            if row is None:
                row = self._connection.execute(
                    "INSERT INTO cells (hour, status, workflow, name, runs) VALUES (?, ?, ?, ?, 0) RETURNING id",
                    place,
                ).fetchone()
            found = self._cells[place] = row[0]
        return found

    def _word(self, dimension: str, word: str) -> int:
        if not word:
            return NOTHING
        found = self._words.get((dimension, word))
        if found is None:
            row = self._connection.execute(
                "SELECT id FROM words WHERE dimension = ? AND word = ?", (dimension, word)
            ).fetchone()
            if row is None and self._room(dimension):
                row = self._connection.execute(
                    "INSERT INTO words (dimension, word) VALUES (?, ?) RETURNING id", (dimension, word)
                ).fetchone()
            found = self._words[dimension, word] = BEYOND if row is None else row[0]
        return found

    def _room(self, dimension: str) -> bool:
        """Whether one more word of a dimension is kept; if so, it counts."""
        if dimension not in self._kept:
            (self._kept[dimension],) = self._connection.execute(
                "SELECT count(*) FROM words WHERE dimension = ?", (dimension,)
            ).fetchone()
        if self._kept[dimension] >= MOST_WORDS:
            return False
        self._kept[dimension] += 1
        return True


def _position(connection: sqlite3.Connection) -> _Position:
    meta = dict(connection.execute("SELECT name, value FROM meta WHERE name LIKE 'counted%'"))
    return _Position(*(int(meta.get(f"counted_{name}", -1)) for name in _Position._fields))


def _changes(reader: Reader, position: _Position) -> _Batch:
    # Each part is read after the mark up to which it counts: what changes meanwhile is above the mark, and comes next.
    newest = reader.newest()
    deleted = oldest = 0
    if reader.version >= 2:
        deleted = reader.value("SELECT max(id) FROM deletions") or 0
        oldest = reader.value("SELECT min(id) FROM deletions") or 0
    again = position.spans < 0 or newest < position.spans or 0 <= position.deletions < oldest - 1
    if again:
        position = _Position(newest, deleted, (reader.value("SELECT max(rowid) FROM runs") or 0) + 1)
    gone: list[str] = []
    if deleted > position.deletions:
        last = min(deleted, position.deletions + _DELETED)
        gone = [
            run_id
            for (run_id,) in reader.rows(
                "SELECT CAST(run_id AS TEXT) FROM deletions WHERE id > ? AND id <= ?",
                position.deletions,
                last,
            )
        ]
        position = position._replace(deletions=last)
    has_tags = reader.version >= 2 or reader.value(
        "SELECT 1 FROM pragma_table_info('runs') WHERE name = 'tags'"
    )
    columns = (
        "SELECT rowid, CAST(run_id AS TEXT), CAST(start_ns AS INTEGER), CAST(status AS TEXT), "
        f"{cut('workflow_name', 1000)}, {cut('name', 1000)}, "
        f"{'substr(tags, 1, 20000)' if has_tags else 'NULL'} FROM runs WHERE "
    )
    rows: list[tuple[Any, ...]] = []
    if newest > position.spans:
        last = min(newest, position.spans + _CHANGED_SPANS)
        rows += reader.rows(
            f"{columns} run_id IN (SELECT run_id FROM spans WHERE rowid > ? AND rowid <= ?)",
            position.spans,
            last,
        )
        position = position._replace(spans=last)
    if gone:
        # Some may be there again: what had been lost on the way was delivered once more.
        rows += reader.rows(
            f"{columns} run_id IN (SELECT value FROM json_each(?))", msgspec.json.encode(gone).decode()
        )
    if position.runs > 0:
        older = reader.rows(f"{columns} rowid < ? ORDER BY rowid DESC LIMIT {_OLDER_RUNS}", position.runs)
        rows += older
        position = position._replace(runs=older[-1][0] if len(older) == _OLDER_RUNS else 0)
    return _Batch(position, again, gone, rows)


def _tags(text: object) -> list[str]:
    """Return tags in the form in which the list is filtered by them; not those that it could not be filtered by."""
    try:
        tags = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, UnicodeError):
        return []
    if not isinstance(tags, dict):
        return []
    pairs = [f"{name}:{value}" for name, value in tags.items() if ":" not in name and isinstance(value, str)]
    return [pair for pair in pairs if len(pair) <= _LONGEST_TAG][:_MOST_TAGS]


def _digest(run_id: str) -> int:
    digest = blake2b(run_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int(struct.unpack("<q", digest)[0])
