"""Stores for the viewer's tests: an ordinary one, one with large runs, and those that somebody made to do harm."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

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
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store.schema import create_schema

BEGIN_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def as_json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def make_run(number: int, **fields: Any) -> Run:
    """Return a run with ids that follow from its number; `fields` replace the defaults."""
    defaults = {
        "run_id": f"run-{number:06d}",
        "trace_id": f"{number + 1:032x}",
        "conversation_id": f"talk-{number // 3}",
        "user_id": f"user-{number % 4}",
        "workflow_name": "support" if number % 2 else "search",
        "tags": (("team", "red" if number % 2 else "blue"),),
    }
    return Run(**{**defaults, **fields})


def spans_of(run: Run, number: int) -> list[Span]:
    """Return the spans of an ordinary run: an agent that searches, asks a model twice and calls a tool."""
    start = BEGIN_NS + number * 60 * SECOND
    failed = number % 5 == 4

    def span(at: int, kind: StepKind, name: str, begin: int, length: int, **fields: Any) -> Span:
        parent = None if at == 0 else f"{number:012x}{0:04x}"
        return Span(
            **{
                "run": run,
                "kind": kind,
                "name": name,
                "span_id": f"{number:012x}{at:04x}",
                "parent_id": parent,
                "start_ns": start + begin * 1_000_000,
                "end_ns": start + (begin + length) * 1_000_000,
                "status": Status.OK,
                "span_kind": kind.span_kind,
                **fields,
            }
        )

    question = f"Where is parcel {number}? It holds a “Schlüssel”, 鍵 and مفتاح."
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    call = {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "track", "arguments": '{"parcel": 7}'}}],
    }
    model = as_json(
        {"gen_ai.request.model": "swift-1" if number % 2 else "slow-1", "gen_ai.usage.cost": 0.0012}
    )
    error = (
        ErrorDetails("ConnectionError", "the depot does not answer", "Traceback: depot.py, line 7")
        if failed
        else None
    )
    return [
        span(0, StepKind.AGENT, "answer", 0, 3000, input=as_json({"messages": messages}), output=f"It is in Bern ({number}).",
             status=Status.ERROR if failed else Status.OK, error=error),
        span(1, StepKind.RETRIEVER, "find_documents", 20, 300, input="parcel",
             output=as_json([{"id": "faq.md", "page_content": "Parcels are slow.", "score": 0.91}, {"id": "b.md", "page_content": "Depots close at six.", "score": 0.4}])),
        span(2, StepKind.LLM, "swift-1", 350, 900, input=as_json({"messages": messages}), output=as_json(call),
             usage=TokenUsage(120, 30, 0, 0, 150), first_chunk_ns=start + 500_000_000, chunks=12, attributes=model),
        span(3, StepKind.TOOL, "track", 1300, 700, input=as_json({"parcel": number, "key": "[redacted:api-key]"}),
             output=as_json({"place": "Bern", "note": "late [cut:12345]"}), status=Status.ERROR if failed else Status.OK, error=error,
             events=(SpanEvent("retry", start + 1_500_000_000, as_json({"attempt": 2})),),
             links=(SpanLink("ab" * 16, "cd" * 8, as_json({"why": "cause"})),)),
        span(4, StepKind.LLM, "swift-1", 2050, 900, input=as_json({"messages": [*messages, call]}),
             output=as_json({"choices": [{"message": {"role": "assistant", "content": "It is in Bern."}}]}),
             usage=TokenUsage(200, 20, 0, 0, 220), first_chunk_ns=start + 2_300_000_000, chunks=5, attributes=model, tags=("final",),
             span_kind=SpanKind.CLIENT),
    ]  # fmt: skip


def write(path: Path, spans: list[Span]) -> None:
    """Add spans to a store, as an exporter would."""
    sink = SqliteSink(path)
    sink.open()
    try:
        for at in range(0, len(spans), 5000):
            sink.write(spans[at : at + 5000])
    finally:
        sink.close()


def make_store(path: Path, runs: int = 12) -> Path:
    """Make a store with so many ordinary runs, a minute apart."""
    write(path, [span for number in range(runs) for span in spans_of(make_run(number), number)])
    return path


def large_run(number: int, spans: int) -> list[Span]:
    """Return a run of so many spans: a root, its branches of a hundred, and repeats among them."""
    run = make_run(number, run_id=f"large-{spans}", conversation_id=None, user_id=None, tags=())
    start = BEGIN_NS + number * 60 * SECOND
    made = []
    for at in range(spans):
        parent = None if at == 0 else 0 if at % 100 == 1 or at < 3 else at - at % 100 + 1
        if parent is not None and parent >= at:
            parent = 0
        begin = 0 if at == 0 else at * 1_000_000
        length = spans * 1_000_000 if at == 0 else 80_000_000 if at % 100 == 1 else 900_000
        kind = (
            StepKind.WORKFLOW
            if at == 0
            else StepKind.LLM
            if at % 7 == 0
            else StepKind.TOOL
            if at % 3
            else StepKind.FUNCTION
        )
        made.append(
            Span(run=run, kind=kind, name=f"step {at % 12}" if at else "large run", span_id=f"{at:016x}",
                 parent_id=None if parent is None else f"{parent:016x}", start_ns=start + begin, end_ns=start + begin + length,
                 status=Status.ERROR if at % 997 == 996 else Status.OK, input=f"input {at}", span_kind=kind.span_kind)
        )  # fmt: skip
    return made


Rows = list[dict[str, Any]]


def hostile(**fields: Any) -> Rows:
    return [fields]


def _circle() -> Rows:
    return [{"span_id": f"c{at}", "parent_id": f"c{(at + 1) % 5}"} for at in range(5)] + [
        {"span_id": "own", "parent_id": "own"}
    ]


def _deep() -> Rows:
    return [
        {"span_id": f"d{at}", "parent_id": f"d{at - 1}" if at else None, "start_ns": BEGIN_NS + at}
        for at in range(3000)
    ]


_BRACKETS = "[" * 20_000 + "]" * 20_000
_SCRIPT = "<script>document.title='owned'</script>"
_HANDLER = "<img src=x onerror=\"document.title='owned'\">"
_BIDI = "invoice\u202egpj.exe\u2066hidden\u2069"

HOSTILE: dict[str, Callable[[], Rows]] = {
    "script in the name": lambda: hostile(name=_SCRIPT),
    "script in the input": lambda: hostile(input=_SCRIPT, input_type="text"),
    "script in JSON": lambda: hostile(output=json.dumps({"a": _SCRIPT, _SCRIPT: 1}), output_type="json"),
    "end of a script in content": lambda: hostile(output="</script><script>document.title='owned'</script>", output_type="text"),
    "handler in the name": lambda: hostile(name=_HANDLER),
    "handler in a message": lambda: hostile(input=json.dumps({"messages": [{"role": "user", "content": _HANDLER}]}), input_type="json"),
    "svg in the output": lambda: hostile(output="<svg onload=document.title='owned'>", output_type="text"),
    "javascript: as a link": lambda: hostile(output="[click](javascript:document.title='owned')", output_type="text"),
    "javascript: as a document's source": lambda: hostile(output=json.dumps([{"text": "t", "source": "javascript:alert(1)"}]), output_type="json", kind="RETRIEVER"),
    "image of another host": lambda: hostile(output="![x](http://192.0.2.1/x.png)", output_type="text"),
    "link to another trace": lambda: hostile(links=json.dumps([{"trace_id": "javascript:alert(1)", "span_id": _SCRIPT}])),
    "bidi in the name": lambda: hostile(name=_BIDI),
    "bidi in the input": lambda: hostile(input=_BIDI, input_type="text"),
    "control characters": lambda: hostile(name="a\x1b[31mred\x07\x08b", input="".join(map(chr, range(32))), input_type="text"),
    "NUL in the name": lambda: hostile(name="before\0after"),
    "NUL in the input": lambda: hostile(input="before\0after", input_type="text"),
    "tags in the dark": lambda: hostile(name="ab\U000e0041\U000e0042c\u200b‌‍d"),
    "10 MB in the input": lambda: hostile(input="x" * 10_000_000, input_type="text"),
    "10 MB of JSON": lambda: hostile(output=json.dumps(["y" * 1000] * 10_000), output_type="json"),
    "20,000 brackets": lambda: hostile(input=_BRACKETS, input_type="json"),
    "20,000 brackets as attributes": lambda: hostile(attributes=_BRACKETS),
    "20,000 objects in another": lambda: hostile(output='{"a":' * 20_000 + "1" + "}" * 20_000, output_type="json"),
    "__proto__": lambda: hostile(input='{"__proto__": {"toString": 1}, "constructor": {"prototype": 1}}', input_type="json", attributes='{"__proto__": "p"}'),
    "names of Object": lambda: hostile(name="__proto__", kind="constructor", status="toString"),
    "a circle of parents": _circle,
    "3,000 levels": _deep,
    "a name of 100,000 characters": lambda: hostile(name="n" * 100_000),
    "a name without a space in another script": lambda: hostile(name="字" * 50_000),
    "ends before it starts": lambda: hostile(start_ns=BEGIN_NS + SECOND, end_ns=BEGIN_NS),
    "begins in 1677": lambda: hostile(start_ns=-(2**63), end_ns=-(2**63) + 5),
    "ends in 2262": lambda: hostile(start_ns=0, end_ns=2**63 - 1),
    "first chunk before the start": lambda: hostile(first_chunk_ns=BEGIN_NS - 5 * SECOND, chunks=-3),
    "tokens beyond 53 bits": lambda: hostile(total_tokens=2**63 - 1, prompt_tokens=-5, kind="LLM"),
    "bytes where text was due": lambda: hostile(name=b"\xff\xfe\x00", input=b"\xc3(", input_type=b"\xff"),
    "text where numbers were due": lambda: hostile(start_ns="soon", end_ns="late", chunks="many", total_tokens="some"),
    "JSON that is not": lambda: hostile(input="{not json", input_type="json", attributes="[1", events="{", links="nul", tags="x", metadata="-", dropped="["),
    "events of the wrong form": lambda: hostile(events='[1, null, {"name": 5, "time_ns": "x", "attributes": [1]}]', links='[null, 3, {"trace_id": 5}]'),
    "messages of the wrong form": lambda: hostile(input='{"messages": [{"role": 1}, null, {"role": "user", "content": [1, null, {"text": 5}, []]}]}', input_type="json"),
    "lone surrogates": lambda: hostile(input='["\\ud800", "\\udc00\\ud800"]', input_type="json", name=b"\xed\xa0\x80"),
    "an id that is a path": lambda: [{"span_id": "../../etc/passwd?x=1#y"}, {"span_id": "%2e%2e%2f"}, {"span_id": ""}, {"span_id": "a b/c"}],
    "an error of 5 MB": lambda: hostile(status="error", error_type="E" * 5000, error_message=_SCRIPT * 100_000, error_traceback="\n" * 50_000),
    "right to left": lambda: hostile(name="مرحبا بالعالم", input="שלום עולם " * 500, input_type="text"),
    "tokens beyond 64 bits together": lambda: [{"span_id": f"t{at}", "prompt_tokens": 2**63 - 1, "total_tokens": 2**63 - 1, "kind": "LLM"} for at in range(3)],
    "50,000 combining marks": lambda: hostile(name="a" + "̀" * 50_000),
}  # fmt: skip
"""Makes the spans of each hostile run; what a span lacks is ordinary."""

_SPAN: dict[str, Any] = {
    "parent_id": None,
    "kind": "FUNCTION",
    "name": "step",
    "start_ns": BEGIN_NS,
    "end_ns": BEGIN_NS + SECOND,
    "status": "ok",
    "chunks": 0,
}


def make_hostile_store(path: Path, names: list[str] | None = None) -> Path:
    """Make a store with one run for each hostile thing, by rows: no sink of ours would write them all."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    create_schema(connection, str(path))
    connection.execute("BEGIN")
    for number, name in enumerate(names or HOSTILE):
        rows = HOSTILE[name]()
        first = {**_SPAN, **rows[0]}
        connection.execute(
            "INSERT INTO runs (run_id, trace_id, name, status, start_ns, end_ns, tags, user_id, workflow_name, error) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                f"hostile-{number}",
                f"{number:032x}",
                first["name"],
                first["status"],
                BEGIN_NS + number * SECOND,
                BEGIN_NS + (number + 1) * SECOND,
                json.dumps({_SCRIPT: _BIDI}) if number % 2 else None,
                _HANDLER,
                name,
                first.get("error_message"),
            ),
        )
        for at, row in enumerate(rows):
            span = {"run_id": f"hostile-{number}", "span_id": f"s{at}", **_SPAN, **row}
            connection.execute(
                f"INSERT INTO spans ({', '.join(span)}) VALUES ({', '.join('?' * len(span))})",
                tuple(span.values()),
            )
    connection.execute("COMMIT")
    connection.close()
    return path


def damaged(path: Path, source: Path) -> Iterator[tuple[str, Path]]:
    """Yield files that are no whole store, each with what it is."""
    whole = source.read_bytes()
    cases = {
        "truncated": whole[: len(whole) // 2],
        "foreign": b"SQLite format 3\0" + b"\0" * 2000,
        "no database": b"Dear Sir or Madam, " * 300,
        "empty": b"",
        "damaged pages": whole[:8192] + b"\xff" * 20_000 + whole[28_192:],
    }
    for name, content in cases.items():
        target = path / f"{name.replace(' ', '-')}.sqlite3"
        target.write_bytes(content)
        yield name, target
