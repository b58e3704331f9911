"""SqliteSink: whole batches, one row a span, runs that add up, and files that are ours."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.errors import SinkError
from nat_observability.events import (
    ErrorDetails,
    Item,
    Run,
    Span,
    SpanEvent,
    SpanOrigin,
    Status,
    StepKind,
    TokenCost,
    TokenUsage,
)
from nat_observability.sinks import SqliteSink
from nat_observability.sinks.protocol import Batch, BlockingSink
from nat_observability.store import Store
from tests.sinks.builders import RUN, make_span, make_step, run_python, run_together


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def write(path: Path, *batches: Batch) -> None:
    sink = SqliteSink(path)
    sink.open()
    try:
        for batch in batches:
            sink.write(batch)
    finally:
        sink.close()


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def runs(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY run_id")]


def span_ids(path: Path) -> list[str]:
    return [span_id for (span_id,) in query(path, "SELECT span_id FROM spans ORDER BY rowid")]


def test_is_a_blocking_sink() -> None:
    """A delivery calls it on a worker thread."""
    assert isinstance(SqliteSink("runs.db"), BlockingSink)


def test_a_span_is_a_row(path: Path) -> None:
    """Each field of a span is a column that SQL can use: payloads as text, or as JSON if they are JSON."""
    span = make_span(
        kind=StepKind.LLM,
        name="gpt-4",
        parent_id="p",
        status=Status.ERROR,
        input=msgspec.Raw('{"city":"Zürich"}'.encode()),
        output="sunny",
        metadata=msgspec.Raw(b'{"a":[1]}'),
        tags=("x", "y"),
        usage=TokenUsage(1, 2, 3, 4, 5),
        error=ErrorDetails("ValueError", "no", "Traceback"),
        chunks=6,
        first_chunk_ns=7,
        attributes=msgspec.Raw(b'{"a.b":1}'),
        events=(SpanEvent("e", 5),),
        status_message="no",
        dropped_attributes_count=1,
        origin=SpanOrigin("a library", "1.2", ok=True),
        cost=TokenCost(0.25, 0.5, 0.75),
    )
    write(path, [span])
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT *, input ->> 'city' AS city FROM spans").fetchall()
    assert dict(row) == {
        "run_id": "run-1",
        "span_id": span.span_id,
        "parent_id": "p",
        "kind": "LLM",
        "name": "gpt-4",
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "status": "error",
        "input": '{"city":"Zürich"}',
        "input_type": "json",
        "output": "sunny",
        "output_type": "text",
        "metadata": '{"a":[1]}',
        "tags": '["x","y"]',
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cached_tokens": 3,
        "reasoning_tokens": 4,
        "total_tokens": 5,
        "error_type": "ValueError",
        "error_message": "no",
        "error_traceback": "Traceback",
        "chunks": 6,
        "first_chunk_ns": 7,
        "attributes": '{"a.b":1}',
        "events": '[{"name":"e","time_ns":5}]',
        "links": None,
        "span_kind": None,
        "status_message": "no",
        "dropped": "[1,0,0]",
        "cache_write_tokens": 0,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "image_input_tokens": 0,
        "origin": '{"scope_name":"a library","scope_version":"1.2","ok":true}',
        "input_cost": 0.25,
        "output_cost": 0.5,
        "total_cost": 0.75,
        "id": 1,
        "cost": 0.75,
        "city": "Zürich",
    }


def test_what_a_span_lacks_is_null(path: Path) -> None:
    """Nothing is made up: a span without payload, usage and error has no values there."""
    write(path, [make_span()])
    columns = (
        "input, input_type, output, output_type, metadata, tags, total_tokens, error_type, first_chunk_ns"
    )
    assert query(path, f"SELECT {columns} FROM spans") == [(None,) * 9]


def test_spans_survive_close_and_open(path: Path) -> None:
    """A store is added to, over batches and over open and close."""
    spans = [make_span() for _ in range(4)]
    write(path, spans[:1], spans[1:3])
    write(path, spans[3:])
    assert span_ids(path) == [span.span_id for span in spans]


def test_a_span_delivered_again_is_one_row(path: Path) -> None:
    """A span replaces itself, within a batch and across; the same id in another run is another span."""
    span, other_run = make_span(), Run("run-2", "0" * 32)
    write(path, [span, span], [span, make_span(span_id=span.span_id, run=other_run)])
    assert query(path, "SELECT run_id, span_id FROM spans") == [
        ("run-1", span.span_id),
        ("run-2", span.span_id),
    ]


def test_the_last_delivery_of_a_span_is_kept(path: Path) -> None:
    """If a span comes again and has changed, the row is the one that came last."""
    write(path, [make_span(span_id="1", name="before")], [make_span(span_id="1", name="after")])
    assert query(path, "SELECT name FROM spans") == [("after",)]


def test_a_run_has_its_ids(path: Path) -> None:
    """A run's row has what its spans say of it."""
    write(path, [make_span(run=Run("r", "t" * 32, "c", "u", "w", "p")), make_span(run=Run("s", "0" * 32))])
    columns = ("run_id", "trace_id", "conversation_id", "user_id", "workflow_name", "parent_span_id")
    assert [tuple(run[column] for column in columns) for run in runs(path)] == [
        ("r", "t" * 32, "c", "u", "w", "p"),
        ("s", "0" * 32, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("roots", "status", "error"),
    [
        ([], "open", None),
        ([{"status": Status.OK}], "ok", None),
        ([{"status": Status.OK}, {"status": Status.OK}], "ok", None),
        (
            [{"status": Status.ERROR, "error": ErrorDetails("E", "no")}, {"status": Status.OK}],
            "error",
            "E: no",
        ),
        ([{"status": Status.INCOMPLETE, "name": "chat"}], "error", "incomplete: chat"),
        ([{"status": Status.ERROR, "name": "chat"}], "error", "error: chat"),
    ],
)
@pytest.mark.parametrize("parent_span_id", [None, "abcd"])
def test_the_status_of_a_run_is_that_of_its_roots(
    path: Path, roots: list[dict[str, Any]], status: str, error: str | None, parent_span_id: str | None
) -> None:
    """A run is open until a root span has come, failed when one has failed or is incomplete, and else ok."""
    run = Run("r", "0" * 32, parent_span_id=parent_span_id)
    inner = make_span(run=run, parent_id="x", status=Status.ERROR, error=ErrorDetails("Inner", "no matter"))
    write(path, [inner, *(make_span(run=run, parent_id=parent_span_id, **root) for root in roots)])
    assert [(row["status"], row["error"]) for row in runs(path)] == [(status, error)]


def test_a_run_has_the_name_of_its_first_root(path: Path) -> None:
    """The name is that of the root span which started first, and none while no root span has come."""
    write(path, [make_span(parent_id="x", name="inner", start_ns=1)])
    assert [row["name"] for row in runs(path)] == [None]
    write(path, [make_span(name="second", start_ns=20), make_span(name="first", start_ns=10)])
    assert [row["name"] for row in runs(path)] == ["first"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_roots_that_start_together_the_first_by_alphabet_names_the_run(path: Path, order: int) -> None:
    """The name of a run does not depend on which of them came first."""
    write(path, *[[make_span(name=name, start_ns=1)] for name in ("a", "b")[::order]])
    assert [row["name"] for row in runs(path)] == ["a"]


def test_a_run_lasts_from_its_first_span_to_its_last(path: Path) -> None:
    """A run's times are those of all its spans, not of the root alone."""
    write(path, [make_span(start_ns=50, end_ns=60)], [make_span(parent_id="x", start_ns=40, end_ns=90)])
    assert [(row["start_ns"], row["end_ns"]) for row in runs(path)] == [(40, 90)]


SPANS = st.builds(
    make_span,
    run=st.sampled_from([RUN, Run("run-2", "0" * 32, parent_span_id="root")]),
    parent_id=st.sampled_from([None, "root", "x"]),
    name=st.sampled_from(["a", "b"]),
    start_ns=st.integers(0, 3),
    end_ns=st.integers(3, 6),
    status=st.sampled_from(list(Status)),
    error=st.sampled_from([None, ErrorDetails("A", "a"), ErrorDetails("B", "b")]),
)


@given(spans=st.lists(SPANS, min_size=1, max_size=6), data=st.data())
def test_runs_do_not_depend_on_the_order_of_delivery(
    tmp_path_factory: pytest.TempPathFactory, spans: list[Span], data: st.DataObject
) -> None:
    """Delivered in any order, in any batches, and some of them again, the same spans make the same runs."""
    directory = tmp_path_factory.mktemp("runs")
    write(directory / "at-once.db", spans)
    again = data.draw(st.lists(st.sampled_from(spans)))
    order = data.draw(st.permutations(spans + again))
    size = data.draw(st.integers(1, 4))
    write(directory / "piecemeal.db", *(order[start : start + size] for start in range(0, len(order), size)))
    assert runs(directory / "at-once.db") == runs(directory / "piecemeal.db")
    assert sorted(span_ids(directory / "piecemeal.db")) == sorted(span.span_id for span in spans)


# Files


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    """The database, its log and its index are 0600, and created directories 0700, whatever the umask."""
    before = os.umask(0)
    try:
        path = tmp_path / "a" / "b" / "runs.db"
        sink = SqliteSink(path)
        sink.open()
        sink.write([make_span()])
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")}
        sink.close()
    finally:
        os.umask(before)
    assert modes == {"a": 0o700, "b": 0o700, "runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}


def test_readers_and_the_writer_do_not_wait_for_each_other(path: Path) -> None:
    """The store is in WAL mode: a reader sees the state of one moment while batches are added."""
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span()])
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)
        sink.write([make_span()])
        assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)
    sink.close()
    assert len(span_ids(path)) == 2


@pytest.mark.slow
def test_readers_that_never_stop_do_not_let_the_log_grow(path: Path) -> None:
    """With reads one after another, the log begins anew all the same, and the store grows by what is written alone."""
    sink = SqliteSink(path)
    sink.open()
    ended = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(path)) as connection:
            while not ended.is_set():
                connection.execute("SELECT count(*), sum(length(input)) FROM spans").fetchone()

    reader = threading.Thread(target=read)
    reader.start()
    longest = 0
    try:
        for number in range(44):
            sink.write([make_span(span_id=f"{number + 1:016x}", input="x" * 1_000_000)])
            longest = max(longest, path.with_name(f"{path.name}-wal").stat().st_size)
    finally:
        ended.set()
        reader.join()
        sink.close()
    assert longest < 36 * 1024 * 1024
    with Store(path) as store:
        assert len(store.spans("run-1")) == 44


@pytest.mark.parametrize("synchronous", ["off", "normal", "full"])
def test_each_kind_of_synchronous_stores(path: Path, synchronous: Any) -> None:
    """Whenever SQLite is to wait for the disk, the spans are stored."""
    sink = SqliteSink(path, synchronous=synchronous)
    sink.open()
    sink.write([make_span()])
    sink.close()
    assert len(span_ids(path)) == 1


def test_an_unknown_synchronous_is_refused(path: Path) -> None:
    """A typing error in the configuration is not handed to SQLite, which would take it for "off"."""
    with pytest.raises(ValueError, match="'off', 'normal' or 'full', not 'nomral'"):
        SqliteSink(path, synchronous="nomral")  # type: ignore[arg-type]


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """A file that was only touched, or a database without tables, belongs to no program."""
    path.touch()
    write(path, [make_span()])
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    write(other, [make_span()])
    assert len(span_ids(path)) == len(span_ids(other)) == 1


def foreign_text(path: Path) -> None:
    path.write_text("dear diary\n" * 100)


def one_byte(path: Path) -> None:
    """For SQLite it is empty, as a file without any is."""
    path.write_bytes(b"\n")


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (run_id)")


def foreign_open_log(path: Path) -> None:
    """Another program's database whose log was never merged, as a crash leaves it."""
    live = path.with_suffix(".live")
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (run_id)")
        path.write_bytes(live.read_bytes())
        Path(f"{path}-wal").write_bytes(Path(f"{live}-wal").read_bytes())


def foreign_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 1")


def newer(path: Path) -> None:
    write(path, [make_span()])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")


def without_tables(path: Path) -> None:
    write(path, [make_span()])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE runs")


def damaged(path: Path) -> None:
    write(path, [make_span()])
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def truncated(path: Path) -> None:
    write(path, [make_span()])
    os.truncate(path, 1000)


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (foreign_text, "file is not a database. Move it away"),
        (one_byte, "is not a database. Move it away"),
        (foreign_database, "is another program's database. Move it away"),
        (foreign_open_log, "is another program's database. Move it away"),
        (foreign_application, "is another program's database. Move it away"),
        (newer, "has schema version 3, and this version knows 2. Upgrade nat-observability"),
        (without_tables, "no such table: runs. Move it away"),
        (damaged, "malformed.* Move it away"),
        (truncated, "(malformed|not a database).* Move it away"),
    ],
)
def test_what_is_not_a_store_is_refused_and_left(path: Path, prepare: Any, problem: str) -> None:
    """Another program's, a damaged or a newer file is a clear error on open, and not a byte of it changes."""
    prepare(path)
    before = {
        each.name: each.read_bytes() for each in path.parent.glob("runs.db*") if each.suffix != ".db-shm"
    }
    with pytest.raises(SinkError, match=rf"runs\.db: .*{problem}"):
        SqliteSink(path).open()
    after = {
        each.name: each.read_bytes() for each in path.parent.glob("runs.db*") if each.suffix != ".db-shm"
    }
    assert {name: after[name] for name in before} == before


def test_a_directory_is_a_sink_error(tmp_path: Path) -> None:
    """A directory is not a file, and the cure says so."""
    with pytest.raises(SinkError, match=r"is not a file\. Give the path of a file"):
        SqliteSink(tmp_path).open()


def test_a_path_below_a_file_is_a_sink_error(path: Path) -> None:
    """A path that cannot exist is named when the sink is opened, with the cure."""
    path.touch()
    with pytest.raises(SinkError, match=r"runs\.db/deep/runs\.db: cannot be opened: .*choose another path"):
        SqliteSink(path / "deep" / "runs.db").open()


@pytest.mark.parametrize("change", ["move", "delete"])
def test_a_file_moved_or_deleted_while_open_is_created_again(path: Path, change: str) -> None:
    """Spans do not vanish into an invisible file; what was moved away is complete."""
    sink, first, second, third = SqliteSink(path), *(make_span() for _ in range(3))
    sink.open()
    sink.write([first])
    if change == "move":
        path.rename(path.with_name("moved.db"))
    else:
        path.unlink()
    sink.write([second])
    sink.write([third])
    sink.close()
    assert span_ids(path) == [second.span_id, third.span_id]
    if change == "move":
        assert span_ids(path.with_name("moved.db")) == [first.span_id]


# What goes wrong


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (make_step(), "stores spans, and was given an item of type IntermediateStep. Use SqliteSink with"),
        (make_span(name="\ud800"), "a span of the batch cannot be stored: .*surrogates.* valid Unicode"),
        (make_span(start_ns=2**63), "a span of the batch cannot be stored: .*too large"),
    ],
)
def test_a_batch_that_cannot_be_stored_is_rolled_back_whole(path: Path, bad: Item, problem: str) -> None:
    """One bad item fails its batch, of which nothing is stored, and the next batch is stored."""
    sink, last = SqliteSink(path), make_span()
    sink.open()
    with pytest.raises(SinkError, match=rf"runs\.db: {problem}"):
        sink.write([make_span(), bad])
    sink.write([last])
    sink.close()
    assert span_ids(path) == [last.span_id]


def test_the_error_of_a_span_does_not_show_it(path: Path) -> None:
    """The message of the error, which is logged, holds nothing of the payload."""
    sink = SqliteSink(path)
    sink.open()
    with pytest.raises(SinkError) as caught:
        sink.write([make_span(input="password\ud800")])
    sink.close()
    assert "password" not in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB, if the test may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_rolls_the_batch_back(small_disk: Path) -> None:
    """A batch that does not fit on the disk fails whole, and can be delivered again when there is space."""
    path, ballast = small_disk / "runs.db", small_disk / "ballast"
    sink, first = SqliteSink(path), make_span()
    sink.open()
    sink.write([first])
    ballast.write_bytes(b"x" * 600_000)
    large = [make_span(input="x" * 100_000) for _ in range(4)]
    with pytest.raises(SinkError, match=r"runs\.db: cannot be written: .*full.* Free space"):
        sink.write([make_span(), *large])
    assert span_ids(path) == [first.span_id]
    ballast.unlink()
    sink.write(large[:1])
    sink.close()
    assert span_ids(path) == [first.span_id, large[0].span_id]


def test_a_limit_on_the_size_rolls_the_batch_back(path: Path) -> None:
    """The same for an I/O error: the limit on file sizes stops SQLite in the middle of a write."""
    output = run_python(
        """
import resource, sys
from nat_observability.errors import SinkError
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
sink = SqliteSink(sys.argv[1])
sink.open()
sink.write([make_span(name="first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    sink.write([make_span(), make_span(input="x" * 400_000)])
except SinkError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write([make_span(name="last")])
sink.close()
""",
        path,
    )
    assert (
        "cannot be written: disk I/O error. Check that disk" in output or "Free space on that disk" in output
    )
    assert query(path, "SELECT name FROM spans ORDER BY rowid") == [("first",), ("last",)]


def test_a_killed_process_loses_no_batch(path: Path) -> None:
    """What `write` has returned for is stored, even if the process is killed right after."""
    run_python(
        """
import os, signal, sys
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
sink = SqliteSink(sys.argv[1])
sink.open()
for number in range(20):
    sink.write([make_span(span_id=str(number))])
os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
        returncode=-signal.SIGKILL,
    )
    last = make_span()
    write(path, [last])
    assert span_ids(path) == [*map(str, range(20)), last.span_id]


MANY = """
import sys
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
print("ready", flush=True)
sys.stdin.readline()
sink = SqliteSink(sys.argv[1])
sink.open()
for number in range(50):
    sink.write([make_span(span_id=f"{sys.argv[2]}-{number}-{part}") for part in range(4)])
sink.close()
"""


def test_processes_create_and_write_one_store(path: Path) -> None:
    """Several processes may create the same store at the same moment, and write to it."""
    run_together(MANY, path)
    assert sorted(span_ids(path)) == sorted(
        f"{a}-{n}-{p}" for a in "abcd" for n in range(50) for p in range(4)
    )


@pytest.mark.parametrize("sink", ["opened anew", "as it was", "another"])
def test_a_forked_child_has_a_connection_of_its_own(path: Path, sink: str) -> None:
    """After a fork both sides write to the store, whatever the child does with the sink that it has inherited."""
    run_python(
        """
import os, sys
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
sink = SqliteSink(sys.argv[1])
sink.open()
sink.write([make_span()])
child = os.fork()
name = "parent" if child else "child"
inherited = sink
if not child and sys.argv[2] == "another":
    sink = SqliteSink(sys.argv[1])
if not child and sys.argv[2] != "as it was":
    sink.open()
for number in range(100):
    sink.write([make_span(span_id=f"{name}-{number}")])
sink.close()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
        path,
        sink,
    )
    assert len(span_ids(path)) == 201
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_fork_in_the_middle_of_a_batch_is_safe(path: Path) -> None:
    """A fork does not wait forever for a batch; the child then refuses the store, and the parent's batch is kept."""
    output = run_python(
        """
import os, sqlite3, sys, threading
from nat_observability.errors import SinkError
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
sink = SqliteSink(sys.argv[1])
sink.open()
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")  # the batch waits for this
thread = threading.Thread(target=sink.write, args=([make_span()],))
thread.start()
child = os.fork()
if not child:
    for call in (sink.open, lambda: sink.write([make_span()])):
        try:
            call()
        except SinkError as error:
            print(error, flush=True)
    sink.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
other.execute("ROLLBACK")
thread.join()
sink.write([make_span()])
sink.close()
""",
        path,
    )
    assert (
        output.count("was being written when this process was forked off. Fork before the exporters start")
        == 2
    )
    assert len(span_ids(path)) == 2


def test_write_needs_open(path: Path) -> None:
    """A sink that is not open says so, and creates nothing."""
    with pytest.raises(SinkError, match=r"Call open\(\) before write\(\)"):
        SqliteSink(path).write([make_span()])
    assert not path.exists()


def test_close_may_be_called_at_any_time(path: Path) -> None:
    """Closing what is not open does nothing."""
    sink = SqliteSink(path)
    sink.close()
    sink.open()
    sink.close()
    sink.close()


@pytest.mark.parametrize(
    ("table", "condition"),
    [
        *(
            (table, condition)
            for table in ("runs",)
            for condition in (
                "status = 'ok'",
                "start_ns > 5",
                "trace_id = 't'",
                "user_id = 'u'",
                "workflow_name = 'w'",
            )
        ),
        ("runs", "run_id >= 'a' AND run_id < 'b'"),
        ("run_tags", "name = 'n' AND value = 'v'"),
        ("runs", "run_id = 'r'"),
        ("runs", "conversation_id = 'c'"),
        ("spans", "run_id = 'r' AND span_id = 's'"),
    ],
)
def test_runs_and_spans_are_found_by_index(path: Path, table: str, condition: str) -> None:
    """Look-ups of runs by what they are selected by, and of spans by their run, scan no table."""
    write(path, [make_span()])
    ((*_, plan),) = query(path, f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {condition}")
    assert plan.startswith((f"SEARCH {table} USING INDEX", f"SEARCH {table} USING COVERING INDEX"))
