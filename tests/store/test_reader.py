"""Store: what was written is what is read, in the right numbers, from files that are stores."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Sequence
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
    Run,
    Span,
    SpanEvent,
    SpanKind,
    SpanLink,
    Status,
    StepKind,
    TokenUsage,
)
from nat_observability.sinks import SqliteSink
from nat_observability.store import RunCounters, SpanNode, Store, StoredRun, schema
from tests.sinks.builders import RUN, make_span, run_python
from tests.store.old_stores import make_old_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def write(path: Path, spans: Sequence[Span]) -> None:
    sink = SqliteSink(path)
    sink.open()
    sink.write(spans)
    sink.close()


class Overtaken(sqlite3.Connection):
    """Another process creates the store just after the first statement."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        answer = super().execute(sql, *parameters).fetchone()
        (_, _, path) = super().execute("PRAGMA database_list").fetchone()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            schema.create_schema(other, path)
        return super().execute("SELECT ?", answer or (None,))


def outline(nodes: list[SpanNode]) -> list[Any]:
    """The names of a tree: [name, [child, ...]]."""
    return [[node.span.name, outline(node.children)] if node.children else node.span.name for node in nodes]


def nested(*names_and_parents: tuple[str, str | None], run: Run = RUN) -> list[Span]:
    """Spans whose ids are their names, which start one after the other."""
    return [
        make_span(run=run, name=name, span_id=name, parent_id=parent, start_ns=index)
        for index, (name, parent) in enumerate(names_and_parents)
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
INTEGERS = st.integers(0, 2**63 - 1)
SPANS = st.builds(
    Span,
    run=st.just(
        Run("run-1", "0" * 32, "conv", "user", "workflow", "parent", (("plan", 'a"b'), ("tenant", "Zürich")))
    ),
    kind=st.sampled_from(StepKind),
    name=TEXT,
    span_id=TEXT,
    parent_id=st.none() | TEXT,
    start_ns=INTEGERS,
    end_ns=INTEGERS,
    status=st.sampled_from(Status),
    input=st.none() | TEXT | JSON,
    output=st.none() | TEXT | JSON,
    metadata=st.none() | JSON,
    tags=st.lists(TEXT, max_size=3).map(tuple),
    usage=st.none() | st.builds(TokenUsage, INTEGERS, INTEGERS, INTEGERS, INTEGERS, INTEGERS),
    error=st.none() | st.builds(ErrorDetails, TEXT, TEXT, st.none() | TEXT),
    chunks=INTEGERS,
    first_chunk_ns=st.none() | INTEGERS,
)


@given(spans=st.lists(SPANS, unique_by=lambda span: span.span_id, min_size=1, max_size=5))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, spans: list[Span]
) -> None:
    """Every field of a span comes back as it was: text as text, JSON byte for byte, nothing as nothing."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    write(path, spans)
    with Store(path) as store:
        stored = store.spans("run-1")
    assert sorted(stored, key=lambda span: span.span_id) == sorted(spans, key=lambda span: span.span_id)


def test_spans_come_by_start_time(path: Path) -> None:
    """Spans arrive children first, and are read in the order in which they started, the enclosing one first."""
    inner, outer = make_span(start_ns=5, end_ns=6), make_span(start_ns=5, end_ns=9)
    later = make_span(start_ns=7, end_ns=8)
    write(path, [later, inner, outer])
    with Store(path) as store:
        assert store.spans("run-1") == [outer, inner, later]


def test_an_unknown_run_has_no_spans(path: Path) -> None:
    """An unknown run is not an error."""
    write(path, [make_span()])
    with Store(path) as store:
        assert store.spans("nothing") == []
        assert store.tree("nothing") == []


# Runs


def test_runs_come_newest_first(path: Path) -> None:
    """`runs` gives the newest, and no more than the limit."""
    write(path, [make_span(run=Run(f"run-{number}", "0" * 32), start_ns=number) for number in range(5)])
    with Store(path) as store:
        assert [row.run.run_id for row in store.runs(limit=3)] == ["run-4", "run-3", "run-2"]


def test_a_run_is_whole(path: Path) -> None:
    """A run comes with its ids, and with what its spans add up to."""
    run = Run("r", "t" * 32, "c", "u", "w", "p")
    failed = make_span(
        run=run, name="root", parent_id="p", status=Status.ERROR, error=ErrorDetails("E", "no")
    )
    write(path, [failed])
    with Store(path) as store:
        counters = RunCounters(1, 1, 0, 0, 0, 0, 0, 0, None)
        assert store.runs() == [
            StoredRun(run, "root", "error", failed.start_ns, failed.end_ns, "E: no", counters)
        ]


def test_a_store_from_before_run_tags_existed_is_read_and_written(path: Path) -> None:
    """A reader of a store from an earlier release finds no tags, and a writer adds them."""
    make_old_store(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO runs (run_id, trace_id, status, start_ns, end_ns) VALUES ('old', ?, 'ok', 1, 2)",
            ("0" * 32,),
        )
        connection.commit()
    with Store(path) as store:
        assert [row.run for row in store.runs()] == [Run("old", "0" * 32)]
    tagged = Run("new", "0" * 32, tags=(("tenant", "acme"),))
    write(path, [make_span(run=tagged, start_ns=2)])
    with Store(path) as store:
        assert [row.run for row in store.runs()] == [tagged, Run("old", "0" * 32)]
        assert [span.run for span in store.spans("new")] == [tagged]


def test_what_a_span_says_is_read_as_it_was_written(path: Path) -> None:
    """Attributes byte for byte, events, links, span kind, status message, dropped counts and every token count."""
    said = make_span(
        kind=StepKind.RETRIEVER,
        status=Status.ERROR,
        attributes=msgspec.Raw(b'{"a.b": 1.50, "c":[true,null,"Z\xc3\xbcrich"]}'),
        events=(SpanEvent("e", 5, msgspec.Raw(b'{"n":1}'), 2), SpanEvent("f", 6)),
        links=(
            SpanLink("a" * 32, "b" * 16, msgspec.Raw(b'{"n":1}'), "v=x", 1, 3, True),
            SpanLink("a" * 32, "b" * 16),
        ),
        span_kind=SpanKind.CONSUMER,
        status_message="no",
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
        usage=TokenUsage(1, 2, 3, 4, 5, 6, 7, 8, 9),
    )
    bare = make_span(kind=StepKind.LLM, start_ns=said.start_ns + 1)
    write(path, [said, bare])
    with Store(path) as store:
        assert store.spans("run-1") == [said, bare]


def test_a_store_from_before_spans_had_attributes_is_read_and_written(path: Path) -> None:
    """A reader of a store from an earlier version finds none, and the kind's own span kind; a writer adds them."""
    make_old_store(path)
    old = make_span(kind=StepKind.LLM, usage=TokenUsage(1, 2, 3, 4, 5))
    write(path, [old])
    with closing(sqlite3.connect(path)) as connection:
        for column in (
            *("attributes", "events", "links", "span_kind", "status_message", "dropped"),
            *("cache_write_tokens", "audio_input_tokens", "audio_output_tokens", "image_input_tokens"),
        ):
            connection.execute(f"ALTER TABLE spans DROP COLUMN {column}")
    with Store(path) as store:
        assert store.spans("run-1") == [old]
        assert old.span_kind is SpanKind.CLIENT
    new = make_span(
        start_ns=old.start_ns + 1, attributes=msgspec.Raw(b'{"a":1}'), events=(SpanEvent("e", 1),)
    )
    write(path, [new])
    with Store(path) as store:
        assert store.spans("run-1") == [old, new]


def test_runs_are_found_by_status_and_conversation(path: Path) -> None:
    """Both conditions narrow the runs down, alone and together."""
    spans = [
        make_span(run=Run(f"{conversation}-{status.value}", "0" * 32, conversation), status=status)
        for conversation in ("a", "b")
        for status in Status
    ]
    write(path, [*spans, make_span(run=Run("a-open", "0" * 32, "a"), parent_id="x")])
    with Store(path) as store:

        def found(**conditions: Any) -> list[str]:
            return sorted(row.run.run_id for row in store.runs(**conditions))

        assert found(status="ok") == ["a-ok", "b-ok"]
        assert found(status="open") == ["a-open"]
        assert found(conversation_id="b") == ["b-error", "b-incomplete", "b-ok"]
        assert found(status="error", conversation_id="a") == ["a-error", "a-incomplete"]


def test_runs_are_found_by_the_start_of_their_id(path: Path) -> None:
    """A prefix is text, not a pattern: what it has in common with a wildcard means itself."""
    write(path, [make_span(run=Run(run_id, "0" * 32)) for run_id in ("ab1", "ab2", "a%", "b")])
    with Store(path) as store:
        assert sorted(row.run.run_id for row in store.runs(id_prefix="ab")) == ["ab1", "ab2"]
        assert [row.run.run_id for row in store.runs(id_prefix="a%")] == ["a%"]


# Trees


def test_a_tree_nests_by_parent_and_start(path: Path) -> None:
    """Each span stands below its parent, and siblings by their start."""
    spans = nested(("root", None), ("first", "root"), ("inner", "first"), ("second", "root"))
    write(path, spans[::-1])
    with Store(path) as store:
        assert outline(store.tree("run-1")) == [["root", [["first", ["inner"]], "second"]]]


def test_a_span_without_its_parent_is_a_root(path: Path) -> None:
    """A parent that has not arrived, or is a span of another run, hides nothing."""
    other = Run("run-2", "0" * 32)
    write(path, nested(("root", None), ("orphan", "gone"), ("stray", "elsewhere")))
    write(path, nested(("elsewhere", None), run=other))
    with Store(path) as store:
        assert outline(store.tree("run-1")) == ["root", "orphan", "stray"]


def test_spans_in_a_cycle_are_in_the_tree(path: Path) -> None:
    """A span that is its own parent is a root, and so is the first of those that enclose each other."""
    write(
        path, nested(("below", "b"), ("a", "c"), ("b", "a"), ("c", "b"), ("self", "self"), ("leaf", "self"))
    )
    with Store(path) as store:
        assert outline(store.tree("run-1")) == [["a", [["b", ["below", "c"]]]], ["self", ["leaf"]]]


# Counts


def test_an_empty_store_counts_nothing(path: Path) -> None:
    """Each number is there, and is 0."""
    sink = SqliteSink(path)
    sink.open()
    sink.close()
    with Store(path) as store:
        assert store.counts() == {
            "runs": 0,
            "runs_ok": 0,
            "runs_failed": 0,
            "spans": 0,
            "spans_paired": 0,
            "spans_unpaired": 0,
            "spans_by_category": {},
            "max_depth": 0,
            "llm_calls": 0,
            "token_usage_of_llm_ends": {
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "cached_tokens": 0,
                "reasoning_tokens": 0,
                "total_tokens": 0,
            },
        }


def test_counts_are_those_of_the_spans(path: Path) -> None:
    """Spans count once each however often they came, per run, and tokens count where a model used them."""
    other = Run("run-2", "0" * 32)
    spans = [
        make_span(span_id="1", kind=StepKind.WORKFLOW),
        make_span(span_id="2", kind=StepKind.LLM, parent_id="1", usage=TokenUsage(1, 2, 3, 4, 5)),
        make_span(span_id="3", kind=StepKind.LLM, parent_id="2", usage=TokenUsage(10, 20, 30, 40, 50)),
        make_span(span_id="4", kind=StepKind.TOOL, parent_id="1", usage=TokenUsage(100, 100, 100, 100, 100)),
        make_span(span_id="1", run=other, kind=StepKind.WORKFLOW, status=Status.INCOMPLETE),
        make_span(span_id="2", run=other, kind=StepKind.LLM, parent_id="1", status=Status.ERROR),
        make_span(span_id="1", run=Run("run-3", "0" * 32), parent_id="not yet here"),
    ]
    write(path, spans)
    write(path, spans)
    with Store(path) as store:
        assert store.counts() == {
            "runs": 3,
            "runs_ok": 1,
            "runs_failed": 1,
            "spans": 7,
            "spans_paired": 6,
            "spans_unpaired": 1,
            "spans_by_category": {"FUNCTION": 1, "LLM": 3, "TOOL": 1, "WORKFLOW": 2},
            "max_depth": 3,
            "llm_calls": 3,
            "token_usage_of_llm_ends": {
                "prompt_tokens": 11,
                "completion_tokens": 22,
                "cached_tokens": 33,
                "reasoning_tokens": 44,
                "total_tokens": 55,
            },
        }


def test_counts_of_some_runs_are_theirs_alone(path: Path) -> None:
    """With ids, only these runs are counted; an unknown id adds nothing."""
    for name in ("a", "b"):
        run = Run(name, "0" * 32)
        write(path, nested(("1", None), ("2", "1"), run=run))
        write(path, [make_span(run=run, kind=StepKind.LLM, parent_id="2", usage=TokenUsage(1, 2, 0, 0, 3))])
    with Store(path) as store:
        counts, everything, nothing = store.counts(["a", "unknown"]), store.counts(), store.counts([])
    assert (counts["runs"], counts["spans"], counts["max_depth"], counts["llm_calls"]) == (1, 3, 3, 1)
    assert counts["token_usage_of_llm_ends"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "total_tokens": 3,
    }
    assert (everything["runs"], everything["spans"]) == (2, 6)
    assert (nothing["runs"], nothing["spans"], nothing["max_depth"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("spans", "depth"),
    [
        ([("a", None)], 1),
        ([("a", "gone"), ("b", "a"), ("c", "b")], 3),
        ([("c", "b"), ("b", "a"), ("a", None), ("d", "a")], 3),
        ([("a", "a"), ("b", "a")], 2),
        ([("a", "c"), ("b", "a"), ("c", "b"), ("d", "c")], 4),
        ([("0", None), *((str(number), str(number - 1)) for number in range(1, 5_000))], 5_000),
    ],
)
def test_depth_survives_what_is_not_a_tree(
    path: Path, spans: list[tuple[str, str | None]], depth: int
) -> None:
    """Missing parents, circles, and nesting deeper than Python's own stack have a depth."""
    write(path, nested(*spans))
    with Store(path) as store:
        assert store.counts()["max_depth"] == depth


# Files


def test_a_store_is_read_while_it_is_written(path: Path) -> None:
    """A reader sees each batch as soon as it is stored, and never half of one."""
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span()])
    with Store(path) as store:
        for number in range(2, 20):
            sink.write([make_span(), make_span(run=Run(f"run-{number}", "0" * 32))])
            counts = store.counts()
            assert (counts["runs"], counts["spans"]) == (number, 2 * number - 1)
    sink.write([make_span()])
    sink.close()


def test_a_store_is_read_after_its_writer_was_killed(path: Path) -> None:
    """What stands in the log of a dead process is read too."""
    run_python(
        """
import os, signal, sys
from nat_observability.sinks import SqliteSink
from tests.sinks.builders import make_span
sink = SqliteSink(sys.argv[1])
sink.open()
sink.write([make_span() for _ in range(100)])
os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
        returncode=-signal.SIGKILL,
    )
    with Store(path) as store:
        assert len(store.spans("run-1")) == 100


def test_reading_changes_nothing(path: Path) -> None:
    """A store that is only read is the same afterwards, byte for byte."""
    write(path, [make_span()])
    before = path.read_bytes()
    with Store(path) as store:
        store.runs()
        store.counts()
        store.tree("run-1")
    assert path.read_bytes() == before


def test_a_path_with_special_characters_is_a_path(tmp_path: Path) -> None:
    """Characters with a meaning in a URI are read as part of the name."""
    path = tmp_path / "50% #1?mode=rw.db"
    write(path, [make_span()])
    with Store(path) as store:
        assert len(store.runs()) == 1


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("dear diary\n" * 100)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (run_id)")


def no_text(path: Path) -> None:
    """Python cannot decode what SQLite says of such a schema."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    path.write_bytes(path.read_bytes().replace(b"tablerunsruns", b"tablerun\xffrun\xfe"))


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (missing, "does not exist. Give the path that a SQLite exporter writes to"),
        (empty, "is empty. Give the path that a SQLite exporter writes to"),
        (text, "file is not a database"),
        (directory, "is not a file"),
        (no_text, "cannot be read: 'utf-8' codec can't decode .* Move it away"),
        (foreign, "is another program's database"),
        (newer, "has schema version 3, and this version knows 2. Upgrade nat-observability"),
    ],
)
def test_what_is_not_a_store_is_a_clear_error(path: Path, prepare: Any, problem: str) -> None:
    """Entering names the file, what is wrong with it and the cure, and creates no file there."""
    write(path, [make_span()])
    prepare(path)
    existed = path.exists()
    with pytest.raises(SinkError, match=rf"runs\.db: .*{problem}"), Store(path):
        pass
    assert path.exists() == existed


def test_a_store_damaged_further_in_is_a_clear_error(path: Path) -> None:
    """Damage that only a query meets is an error of the same kind, and the store can be left."""
    write(path, [make_span(input="x" * 1000) for _ in range(500)])
    with path.open("r+b") as file:
        file.seek(150_000)
        file.write(b"\xff" * 150_000)
    with Store(path) as store, pytest.raises(SinkError, match=r"runs\.db: cannot be read: .*malformed"):
        store.spans("run-1")


WRONG: tuple[object, ...] = (b"\xff\0", "soon", "[1", "[1]", "{}", 2**63 - 1, -(2**63), 1e300)


@pytest.mark.parametrize("wrong", [*WRONG, "not UTF-8"])
def test_cells_of_a_wrong_type_hide_nothing_else(path: Path, wrong: object) -> None:
    """Whatever another program has put into a row, that row and all others are read."""
    write(path, nested(("first", None), ("second", "first"), run=Run("run-1", "0" * 32, tags=(("a", "b"),))))
    write(path, [make_span(run=Run("run-2", "1" * 32))])
    value = "CAST(x'61ff62' AS TEXT)" if wrong == "not UTF-8" else "?"
    given = () if wrong == "not UTF-8" else (wrong,)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER span_removed")
        connection.execute("INSERT INTO ledgers VALUES (1, 'run-1', 'main', 5, 3, 0, 0, NULL, 1)")
        for table, kept, where in (
            ("runs", {"run_id", "process_id"}, "run_id = 'run-1'"),
            ("spans", {"id", "run_id", "span_id"}, "span_id = 'second'"),
            ("ledgers", {"id", "run_id", "exporter", "accepted", "delivered", "failed", "pending"}, "1"),
            ("kinds", {"kind"}, "1"),
        ):
            columns = [
                row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in kept
            ]
            set_all = ", ".join(f"{column} = {value}" for column in columns)
            connection.execute(f"UPDATE {table} SET {set_all} WHERE {where}", given * len(columns))
    with Store(path) as store:
        runs = {run.run.run_id: run for run in store.runs()}
        assert set(runs) == {"run-1", "run-2"}
        assert (runs["run-1"].status, runs["run-2"].status) == ("open", "ok")
        assert "status" in (runs["run-1"].error or "")
        counters = runs["run-1"].counters
        assert counters is not None
        assert all(type(number) is int for number in msgspec.structs.astuple(counters)[:-1])
        spans = {span.span_id: span for span in store.spans("run-1")}
        assert spans["first"].events == ()
        assert (spans["second"].kind, spans["second"].status) == (StepKind.CUSTOM, Status.INCOMPLETE)
        assert {"kind (cannot be read)", "status (cannot be read)"} <= {
            event.name for event in spans["second"].events
        }
        second = spans["second"]
        assert {type(each) for each in (second.name, second.start_ns, second.end_ns, second.chunks)} == {
            str,
            int,
        }
        assert {type(each) for each in (second.input, second.attributes)} <= {str, msgspec.Raw}
        assert sum(store.ledgers("run-1")["main"].dropped.values()) == (0 if wrong == "{}" else 2)
        assert store.counts()["runs"] == 2
        for by in ("name", "kind", "model", "workflow"):
            assert store.statistics(by).complete
        assert store.search("first").complete


def test_reading_needs_a_with_statement(path: Path) -> None:
    """A store that was not entered, or was left, says so."""
    write(path, [make_span()])
    store = Store(path)
    with pytest.raises(SinkError, match="Use the store in a with statement"):
        store.runs()
    with store:
        store.runs()
    with pytest.raises(SinkError, match="Use the store in a with statement"):
        store.counts()


def test_a_store_that_is_created_while_it_is_looked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a store, or not one yet, and never taken for another program's: its tables and its id came at once."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    monkeypatch.setattr(
        schema, "connect_to_read", lambda path: sqlite3.connect(path, isolation_level=None, factory=Overtaken)
    )
    assert schema.has_store(str(path)) in (True, False)
