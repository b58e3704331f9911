"""Version 2 of the store: counters that are right, changes that are complete, and runs that are found."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.errors import SinkError
from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks import SqliteSink
from nat_observability.sinks.protocol import RunLedger
from nat_observability.store import RunCounters, RunFilter, RunKey, Store, StoredLedger
from nat_observability.store.migration import migrate
from tests.sinks.builders import make_span
from tests.store.old_stores import make_old_store

RUNS = [Run(f"run-{n}", "0" * 32, tags=(("tenant", f"t{n}"),) if n else ()) for n in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def write(path: Path, *batches: Sequence[Span]) -> None:
    sink = SqliteSink(path)
    sink.open()
    for batch in batches:
        sink.write(batch)
    sink.close()


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


SPANS = st.builds(
    make_span,
    run=st.sampled_from(RUNS),
    span_id=st.sampled_from("abcde"),
    parent_id=st.sampled_from([None, *"abcdex"]),
    kind=st.sampled_from([StepKind.LLM, StepKind.TOOL, StepKind.AGENT]),
    start_ns=st.integers(0, 5),
    end_ns=st.integers(5, 9),
    status=st.sampled_from(list(Status)),
    usage=st.none() | st.builds(TokenUsage, *[st.integers(0, 9)] * 5),
    attributes=st.none()
    | st.sampled_from([msgspec.Raw(b'{"llm.cost.total":2}'), msgspec.Raw(b'{"cost":[]}')]),
)


@given(
    batches=st.lists(st.lists(SPANS, min_size=1, max_size=5), min_size=1, max_size=4), running=st.lists(SPANS)
)
def test_counters_are_those_of_the_spans(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Span]], running: list[Span]
) -> None:
    """However spans come, come again, replace themselves or were shown as open, the counters are what a count gives."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    sink = SqliteSink(path)
    sink.open()
    sink.write(batches[0])
    sink.write_running(running)
    for batch in batches[1:]:
        sink.write(batch)
    sink.write_running([])
    with Store(path) as store:
        stored = store.runs()
        spans = {run.run.run_id: store.spans(run.run.run_id) for run in stored}
        assert store.counts() == store.counts([run.run.run_id for run in stored])
        tagged = [run.run.run_id for run in store.runs(wanted=RunFilter(tags=(("tenant", "t1"),)))]
    sink.close()
    for run in stored:
        own = spans[run.run.run_id]
        calls = [span for span in own if span.kind is StepKind.LLM]
        usages = [span.usage for span in calls if span.usage is not None]
        costs = [
            2.0
            for s in own
            if s.kind is not StepKind.AGENT and s.attributes and b"llm" in bytes(s.attributes)
        ]
        assert run.counters is not None
        assert msgspec.structs.replace(run.counters, cost=run.counters.cost or None) == RunCounters(
            len(own),
            sum(span.status is Status.ERROR for span in own),
            sum(span.status is Status.INCOMPLETE for span in own),
            len(calls),
            sum(span.kind is StepKind.TOOL for span in own),
            sum(usage.prompt_tokens for usage in usages),
            sum(usage.completion_tokens for usage in usages),
            sum(usage.total_tokens for usage in usages),
            sum(costs) or None,
        )
    assert tagged == ["run-1"] * ("run-1" in spans)


def test_token_counts_beyond_64_bits_are_stored(path: Path) -> None:
    """Absurd counts of several spans together do not keep a batch from being stored."""
    most = 2**63 - 1
    write(
        path, [make_span(kind=StepKind.LLM, usage=TokenUsage(most, most, most, most, most)) for _ in range(3)]
    )
    with Store(path) as store:
        assert store.counts()["spans"] == 3


def test_changes_after_a_cursor_are_complete(path: Path) -> None:
    """A span that is added or replaced has a new id, greater than all before it, also after deletions."""
    sink = SqliteSink(path)
    sink.open()
    cursor, seen = 0, []
    batches = [["a", "b"], ["b"], ["c", "a", "c"]]
    with Store(path) as store:
        for batch in batches:
            sink.write([make_span(span_id=each) for each in batch])
            changes = store.changes(cursor)
            seen.append([change.span_id for change in changes])
            cursor = store.cursor
            assert cursor == changes[-1].id
        assert [span.span_id for span in store.light_spans("run-1", after=0)] == ["b", "c", "a"]
        assert store.light_spans("run-1", after=cursor) == []
    sink.close()
    assert seen == [["a", "b"], ["b"], ["c", "a"]]


def test_an_open_step_is_shown_until_it_ends(path: Path) -> None:
    """It is a span with the status running, which no counter has, and which the finished span replaces."""
    open_step = make_span(span_id="a", name="root", status=Status.INCOMPLETE, kind=StepKind.LLM)
    sink = SqliteSink(path)
    sink.open()
    sink.write_running([open_step])
    with Store(path) as store:
        (run,) = store.runs(wanted=RunFilter(status="running"))
        assert (run.name, run.status, run.activity) == ("root", "open", "running")
        assert run.counters == RunCounters(0, 0, 0, 0, 0, 0, 0, 0, None)
        assert store.spans("run-1") == []
        assert [node.running for node in store.tree("run-1")] == [True]
        assert store.counts()["spans"] == 0
        cursor = store.cursor
        sink.write_running([msgspec.structs.replace(open_step, end_ns=open_step.end_ns + 9)])
        assert store.cursor == cursor, "nothing has changed but the time"
        sink.write([msgspec.structs.replace(open_step, status=Status.OK)])
        sink.write_running([])
        (run,) = store.runs()
        assert (run.status, run.activity) == ("ok", None)
        assert [change.status for change in store.changes(cursor)] == ["ok"]
        assert store.counts()["spans"] == 1
    sink.close()


def test_an_open_step_never_replaces_a_finished_span(path: Path) -> None:
    """An id that is used twice does not take a span away."""
    span = make_span()
    sink = SqliteSink(path)
    sink.open()
    sink.write([span])
    sink.write_running([span])
    sink.close()
    with Store(path) as store:
        assert store.spans("run-1") == [span]


def test_a_run_whose_process_has_ended_has_died(path: Path) -> None:
    """An open run does not run on for ever: its process closed the store, or has not reported for long."""
    for run, ended in ((RUNS[0], True), (RUNS[1], False)):
        sink = SqliteSink(path)
        sink.open()
        sink.write_running([make_span(run=run)])
        if ended:
            sink.close()
    with Store(path) as store:
        assert {run.run.run_id: run.activity for run in store.runs()} == {"run-0": "died", "run-1": "running"}
        assert len(store.processes()) == 2
        nodes = [store.tree(run_id)[0] for run_id in ("run-0", "run-1")]
        assert [(node.running, node.status) for node in nodes] == [(True, "died"), (True, "running")]
        one = store.span("run-0", nodes[0].span.span_id)
        assert one is not None
        assert one.status == "died"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE processes SET heartbeat_ns = heartbeat_ns - 20000000000")
    with Store(path) as store:
        assert {run.activity for run in store.runs(wanted=RunFilter(status="died"))} == {"died"}
        assert len(store.runs(wanted=RunFilter(status="died"))) == 2
    sink.close()


def test_ledgers_are_those_of_known_runs(path: Path) -> None:
    """A run's ledger is kept for each exporter, the last one wins, and none is kept of a run without spans."""
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span()])
    sink.write_report([RunLedger("run-1", "a", 2, 1, 0, 1, {}), RunLedger("nothing", "a", 1, 1, 0, 0, {})])
    sink.write_report(
        [RunLedger("run-1", "a", 2, 1, 0, 0, {"closed": 1}), RunLedger("run-1", "b", 1, 0, 1, 0, {})]
    )
    sink.close()
    with Store(path) as store:
        ledgers = store.ledgers("run-1")
        assert store.ledgers("nothing") == {}
    assert [msgspec.structs.replace(each, at_ns=0) for each in ledgers.values()] == [
        StoredLedger(2, 1, 0, 0, {"closed": 1}, 0),
        StoredLedger(1, 0, 1, 0, {}, 0),
    ]


MANY = [
    make_span(
        run=Run(
            f"{n:02d}-r",
            f"{n:032d}",
            f"c{n % 2}",
            f"u{n % 3}",
            "w",
            tags=(("even", str(n % 2 == 0)), ("n", "1")),
        ),
        name=f"root-{n % 4}",
        start_ns=n * 10,
        end_ns=n * 10 + n,
        kind=StepKind.AGENT if n % 5 == 0 else StepKind.TOOL,
        status=Status.ERROR if n == 3 else Status.OK,
        input="needle Käse" if n in (2, 7) else None,
    )
    for n in range(12)
]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (RunFilter(), range(12)),
        (RunFilter(status="error"), [3]),
        (RunFilter(status="running"), []),
        (RunFilter(user_id="u1", conversation_id="c0"), [4, 10]),
        (RunFilter(workflow_name="w", name="root-1"), [1, 5, 9]),
        (RunFilter(name="root-[1]"), []),
        (RunFilter(name="*-1"), [1, 5, 9]),
        (RunFilter(tags=(("even", "True"),)), range(0, 12, 2)),
        (RunFilter(tags=(("even", "True"), ("n", "1")), min_duration_ns=9), [10]),
        (RunFilter(tags=(("even", "no"),)), []),
        (RunFilter(kind="agent"), [0, 5, 10]),
        (RunFilter(since_ns=30, until_ns=50), [3, 4]),
        (RunFilter(min_duration_ns=3, max_duration_ns=4), [3, 4]),
        (RunFilter(id_prefix="1"), [10, 11]),
        (RunFilter(trace_id=f"{7:032d}"), [7]),
    ],
)
def test_runs_are_selected_page_by_page(
    path: Path, wanted: RunFilter, numbers: Sequence[int], old: bool
) -> None:
    """Each condition holds in stores of both versions, and pages join to the whole, newest first."""
    if old:
        make_old_store(path)
    write(path, MANY)
    with Store(path) as store:
        found = [int(run.run.run_id[:2]) for run in store.runs(wanted=wanted)]
        assert found == sorted(numbers, reverse=True)
        paged: list[int] = []
        before: RunKey | None = None
        while page := store.runs(2, wanted=wanted, before=before):
            paged += [int(run.run.run_id[:2]) for run in page]
            before = RunKey(page[-1].start_ns, page[-1].run.run_id)
        assert paged == found


@pytest.mark.parametrize("old", [False, True])
def test_a_text_is_found_wherever_it_is(path: Path, old: bool) -> None:
    """A search looks into content and ids, heeds no wildcards, and says whether it is complete."""
    if old:
        make_old_store(path)
    write(path, MANY)
    with Store(path) as store:
        found = store.search("NEEDLE")
        assert ([run.run.run_id for run in found.runs], found.complete) == (["07-r", "02-r"], True)
        assert [run.run.run_id for run in store.search("needle", wanted=RunFilter(until_ns=30)).runs] == [
            "02-r"
        ]
        assert len(store.search("needle", limit=1).runs) == 1
        assert store.search("need_e").runs == store.search("%").runs == []
        late = store.search("needle", seconds=0)
        assert (late.runs, late.complete) == ([], False)


def test_bytes_that_are_not_utf_8_cost_no_batch(path: Path) -> None:
    """What a processor has put in place of JSON is stored as far as it is text, and the spans beside it as they are."""
    raw = msgspec.Raw(b'{"a":"\xff"}')
    spoilt = make_span(run=RUNS[0], name="spoilt", input=raw, output=raw, metadata=raw, attributes=raw)
    write(path, [spoilt, make_span(run=RUNS[0], name="beside")])
    with Store(path) as store:
        assert {span.name: span.input for span in store.spans("run-0")} == {
            "spoilt": msgspec.Raw('{"a":"\ufffd"}'.encode()),
            "beside": None,
        }


@pytest.mark.parametrize("old", [False, True])
def test_a_text_is_found_as_it_reads(path: Path, old: bool) -> None:
    """Behind a NUL, within JSON that escapes it, or longer than a pattern of SQLite may be."""
    if old:
        make_old_store(path)
    long = "x%" * 30_000
    content = (
        "before\0Behind",
        msgspec.Raw(msgspec.json.encode({"q": 'say "hi"\nto C:\\dir', "n": "a\0B"})),
        long,
    )
    write(path, [make_span(run=Run(f"r{n}", "0" * 32), input=each) for n, each in enumerate(content)])
    with Store(path) as store:
        for text, found in (
            ("behind", ["r0"]),
            ("E\0b", ["r0"]),
            ("a\0b", ["r1"]),
            ('SAY "hi"\nto', ["r1"]),
            ("c:\\d", ["r1"]),
            (long[1:], ["r2"]),
            (long + "y", []),
            ("x_x", []),
        ):
            assert [run.run.run_id for run in store.search(text).runs] == found, text[:20]
        with pytest.raises(SinkError, match="is too large"):
            store.runs(2**63)
        with pytest.raises(SinkError, match="is not valid Unicode"):
            store.search("\udcff")
        with pytest.raises(SinkError, match="is not valid Unicode"):
            store.runs(wanted=RunFilter(user_id="\udcff"))


@pytest.mark.parametrize("by", ["name", "kind", "model", "workflow"])
@pytest.mark.parametrize("old", [False, True])
def test_statistics_are_by_any_key(path: Path, by: Any, old: bool) -> None:
    """Percentiles are of the durations, keys come by frequency, and what has no time left says so."""
    if old:
        make_old_store(path)
    model = msgspec.Raw(b'{"gen_ai.request.model":"m1"}')
    write(
        path,
        MANY,
        [make_span(run=MANY[1].run, kind=StepKind.LLM, name="m", attributes=model, start_ns=1, end_ns=2)],
    )
    with Store(path) as store:
        statistics = store.statistics(by)
        counts = {row.key: row.count for row in statistics.rows}
        assert (statistics.complete, statistics.runs) == (True, 12)
        assert (
            counts
            == {
                "name": {"m": 1, "root-0": 3, "root-1": 3, "root-2": 3, "root-3": 3},
                "kind": {"TOOL": 9, "AGENT": 3, "LLM": 1},
                "model": {"m1": 1},
                "workflow": {"w": 12},
            }[by]
        )
        assert [a.count >= b.count for a, b in pairwise(statistics.rows)] == [True] * (len(counts) - 1)
        late = store.statistics(by, seconds=0)
        assert (late.rows, late.complete) == ([], False)
    if by == "kind":
        tools = statistics.rows[0]
        assert (tools.errors, tools.p50_ns, tools.p99_ns) == (1, 6, 11)


def test_content_comes_in_pieces(path: Path) -> None:
    """Any part of a span is read in pieces, with its whole length, NULs included; what it lacks is None."""
    write(path, [make_span(span_id="s", input="a\0" * 50, output=msgspec.Raw(b"[1]"))])
    with Store(path) as store:
        piece = store.content("run-1", "s", "input", offset=90, length=20)
        assert piece is not None
        assert (piece.text, piece.offset, piece.length, piece.type) == ("a\0" * 5, 90, 100, "text")
        output = store.content("run-1", "s", "output")
        assert output is not None
        assert (output.text, output.type) == ("[1]", "json")
        assert store.content("run-1", "s", "events") is store.content("run-1", "x", "input") is None
        with pytest.raises(ValueError, match="part is one of"):
            store.content("run-1", "s", "id")


def test_a_call_that_takes_too_long_ends(path: Path) -> None:
    """The limit is an error that says so, and the store can be used on."""
    write(path, [make_span(span_id=f"{n}") for n in range(3000)])
    with Store(path, time_limit=1e-9) as store, pytest.raises(SinkError, match="took too long to read"):
        store.counts(["run-1"])
    with Store(path) as store:
        assert store.counts()["spans"] == 3000


def as_reader_only(work: Callable[[], bool]) -> bool:
    """Do something in a forked child that may write nowhere, and return what it returns."""
    child = os.fork()
    if not child:
        result = False
        try:
            if not os.geteuid():
                os.setuid(65_534)
            result = work()
        finally:
            os._exit(not result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def can_be_counted(path: Path) -> bool:
    with Store(path) as store:
        return store.counts()["spans"] == len(store.spans("run-1")) == 1


def has_a_log(path: Path) -> bool:
    with pytest.raises(
        SinkError, match=r"has a log \(-wal\), which cannot be read there: .*Copy it, with its -wal"
    ):
        Store(path).__enter__()
    return True


def test_a_copy_in_a_folder_that_cannot_be_written_is_read() -> None:
    """Without a log beside it a store needs no index; with one the error says what to do."""
    with tempfile.TemporaryDirectory() as folder:  # whose parents every user may enter
        path, live, copy = (Path(folder, name) for name in ("runs.db", "live.db", "copy.db"))
        write(path, [make_span()])
        sink = SqliteSink(live)
        sink.open()
        sink.write([make_span()])
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{live}{suffix}").read_bytes())
        sink.close()
        for file in Path(folder).iterdir():
            file.chmod(0o644)
        Path(folder).chmod(0o555)
        try:
            assert as_reader_only(lambda: can_be_counted(path))
            assert as_reader_only(lambda: has_a_log(copy))
        finally:
            Path(folder).chmod(0o700)


@pytest.mark.parametrize("old", [False, True])
def test_an_old_store_stays_old_until_it_is_migrated(path: Path, old: bool) -> None:
    """A migrated store has what a new one has, and a new one is left as it is; a sink that is open goes on."""
    if old:
        make_old_store(path)
    sink = SqliteSink(path)
    sink.open()
    sink.write(MANY[:6])
    cost = make_span(span_id="c", run=MANY[0].run, attributes=msgspec.Raw(b'{"llm.cost.total":2}'))
    sink.write([cost])
    with Store(path) as store:
        before = [store.spans(run.run.run_id) for run in store.runs()]
        assert store.version == (1 if old else 2)
    done: list[int] = []
    assert migrate(path, done.append) is old
    sink.write(MANY[6:])
    sink.write([cost])
    sink.close()
    write(path.with_name("new.db"), [*MANY, cost])
    with Store(path) as store, Store(path.with_name("new.db")) as new:
        assert store.version == 2
        assert [store.spans(run.run.run_id) for run in store.runs()][6:] == before
        assert store.runs() == new.runs()
        assert store.counts() == new.counts()
        assert store.problems() == []
        assert len(store.runs(wanted=RunFilter(tags=(("even", "True"),)))) == 6
    assert query(path, "PRAGMA auto_vacuum") == [(2,)]
    assert query(path, "SELECT run_id, depth FROM runs ORDER BY 1") == query(
        path.with_name("new.db"), "SELECT run_id, depth FROM runs ORDER BY 1"
    )


def test_what_is_not_a_store_is_not_migrated(path: Path) -> None:
    """A missing, a foreign and a newer file are errors, and are left as they are."""
    with pytest.raises(SinkError, match="is not a store"):
        migrate(path)
    path.write_text("dear diary\n" * 100)
    with pytest.raises(SinkError, match="not a database"):
        migrate(path)
    assert path.read_text() == "dear diary\n" * 100


# Keeping it small


def old_runs(number: int) -> list[Span]:
    return [
        make_span(
            run=Run(f"{n:04d}", "0" * 32, tags=(("t", "v"),)), start_ns=n, end_ns=n + 1, input="x" * 2000
        )
        for n in range(number)
    ]


def tidied(sink: SqliteSink) -> None:
    while sink.tidy() == 0.0:
        pass


def test_a_store_keeps_runs_for_their_time(path: Path) -> None:
    """Whole finished runs that are older go with all that belongs to them; open runs of a process that reports stay."""
    sink = SqliteSink(path, keep_for=5 * 365 * 86_400)
    sink.open()
    sink.write(old_runs(50))
    sink.write([make_span(run=RUNS[1])])
    sink.write_running([make_span(run=RUNS[2], start_ns=1, end_ns=2)])
    sink.write_report([RunLedger("0001", "a", 1, 1, 0, 0, {})])
    tidied(sink)
    with Store(path) as store:
        assert {run.run.run_id for run in store.runs()} == {"run-1", "run-2"}
        assert store.counts() == store.counts(["run-1", "run-2"])
        assert store.ledgers("0001") == {}
        assert [deletion.run_id for deletion in store.deletions()] == [f"{n:04d}" for n in range(50)]
    sink.close()
    assert query(path, "SELECT DISTINCT run_id FROM run_tags ORDER BY 1") == [("run-1",), ("run-2",)]


def test_a_store_keeps_within_its_size(path: Path) -> None:
    """The oldest runs go until it fits, and the file itself gets smaller."""
    sink = SqliteSink(path, keep_size=300_000)
    sink.open()
    sink.write(old_runs(400))
    sink.close()
    before = path.stat().st_size
    sink.open()
    tidied(sink)
    with Store(path) as store:
        kept = [run.run.run_id for run in store.runs(1000)]
        assert store.counts() == store.counts(kept)
    sink.close()
    assert before > 800_000 > 310_000 > path.stat().st_size
    assert kept == [f"{n:04d}" for n in range(399, 399 - len(kept), -1)]


@pytest.mark.parametrize("limits", [{"keep_for": 0}, {"keep_size": -1}])
def test_a_limit_of_nothing_is_refused(path: Path, limits: dict[str, int]) -> None:
    """A store that keeps nothing is a mistake."""
    with pytest.raises(ValueError, match="is more than 0"):
        SqliteSink(path, **limits)  # type: ignore[arg-type]
