"""The store that is measured: ordinary runs, of which a sink writes some and SQLite copies the rest, and large ones."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks.sqlite import SqliteSink
from tests.viewer.stores import BEGIN_NS, as_json, large_run

LARGE = (5_000, 50_000, 100_000)
"""The spans of the large runs."""

SPANS_OF_A_RUN = 14
_WRITTEN = 1_000  # runs that go through a sink; SQLite copies them, which is quicker
_APART_NS = 26_000_000_000
_WORDS = "where is my parcel today please find the depot that holds it and tell me when it comes home again"


def _ordinary(number: int, spans: int = SPANS_OF_A_RUN) -> Iterator[Span]:
    run = Run(
        f"{number:08d}-bench",
        f"{number + 1:032x}",
        f"talk-{number // 5}",
        f"user-{number % 500}",
        ("support", "search", "billing")[number % 3],
        tags=(("team", f"team-{number % 20}"),),
    )
    words = _WORDS.split()
    start = BEGIN_NS + number * _APART_NS
    text = " ".join(words[(number * 7 + at) % len(words)] for at in range(60))
    for at in range(spans):
        kind = (StepKind.WORKFLOW, StepKind.LLM, StepKind.TOOL, StepKind.RETRIEVER, StepKind.FUNCTION)[
            at and 1 + at % 4
        ]
        failed = number % 50 == 7 and at in (0, 5)
        begin = start + at * 40_000_000
        length = 900_000_000 if at == 0 else 10_000_000 + (number * 7919 + at * 104_729) % 300_000_000
        yield Span(
            run=run,
            kind=kind,
            name=f"{('answer', 'model', 'tool', 'search', 'step')[at and 1 + at % 4]}-{at % 6}",
            span_id=f"{number:010x}{at:06x}",
            parent_id=None if at == 0 else f"{number:010x}{0:06x}",
            start_ns=begin,
            end_ns=begin + length,
            status=Status.ERROR if failed else Status.OK,
            input=as_json({"question": text, "number": number * 100 + at}),
            output=f"{text[at * 9 :]} ({number})",
            usage=TokenUsage(300, 60, 0, 0, 360) if kind is StepKind.LLM else None,
            attributes=as_json({"gen_ai.request.model": f"model-{number % 4}"})
            if kind is StepKind.LLM
            else None,
            span_kind=kind.span_kind,
        )


def make_bench_store(path: Path, runs: int, spans: int = SPANS_OF_A_RUN) -> None:
    """Make the store, unless it is there: so many runs of so many spans, and large ones."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        sink = SqliteSink(unfinished, synchronous="off")
        sink.open()
        written = min(runs, _WRITTEN)
        sink.write([span for number in range(written) for span in _ordinary(number, spans)])
        _multiply(unfinished, written, runs)
        for at, many in enumerate(LARGE):
            # The newest of all, a minute apart.
            run = large_run((runs * 26) // 60 + 10 + at, many)
            for begin in range(0, len(run), 5_000):
                sink.write(run[begin : begin + 5_000])
        sink.close()
        print(file=sys.stderr)
        unfinished.rename(path)


def _multiply(path: Path, written: int, runs: int) -> None:
    """Copy the runs that a sink has written, under ids and at times of their own, until there are enough."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('runs')")]
    number = "(CAST(substr(run_id, 1, 8) AS INTEGER) + :shift)"
    times = {
        name: f"{name} + :shift * {_APART_NS}"
        for name in ("start_ns", "end_ns", "root_start_ns", "first_chunk_ns")
    }
    run_id = {"run_id": f"printf('%08d-bench', {number})"}
    of_runs = {
        **run_id,
        **times,
        "trace_id": f"printf('%032x', {number} + 1)",
        "conversation_id": f"printf('talk-%d', {number} / 5)",
        "user_id": f"printf('user-%d', {number} % 500)",
    }
    of_spans = {
        **run_id,
        **times,
        "span_id": f"printf('%010x', {number}) || substr(span_id, 11)",
        "parent_id": f"printf('%010x', {number}) || substr(parent_id, 11)",
        "output": f"replace(output, printf(' (%d)', {number} - :shift), printf(' (%d)', {number}))",
    }
    spans = [
        name for (name,) in connection.execute("SELECT name FROM pragma_table_info('spans')") if name != "id"
    ]
    last = f"{written:08d}"
    for shift in range(written, runs, written):
        connection.execute("BEGIN")
        for table, names, changed in (
            ("runs", columns, of_runs),
            ("run_tags", ["run_id", "name", "value", "start_ns"], of_runs),
            ("spans", spans, of_spans),
        ):
            copied = ", ".join(changed.get(each, each) for each in names)
            connection.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {copied} FROM {table} "
                "WHERE run_id < :last ORDER BY run_id",
                {"shift": shift, "last": last},
            )
        connection.execute("COMMIT")
        print(f"\r{shift + written:,} of {runs:,} runs", end="", file=sys.stderr)
    times_as_many = max(1, runs // written)
    sums = [
        name
        for (name,) in connection.execute("SELECT name FROM pragma_table_info('kinds')")
        if name != "kind"
    ]
    connection.execute(f"UPDATE kinds SET {', '.join(f'{name} = {name} * {times_as_many}' for name in sums)}")
    connection.close()
