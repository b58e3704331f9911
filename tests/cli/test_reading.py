"""The commands that read a store: what they find, show and export, and what hostile content does to them."""

from __future__ import annotations

import html.parser
import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability.events import ErrorDetails, Run, SpanEvent, SpanLink, Status, StepKind, TokenUsage
from nat_observability.sinks import SqliteSink
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.sinks.protocol import RunLedger
from nat_observability.store import Store
from tests.cli.builders import command
from tests.cli.invoking import invoke
from tests.sinks.builders import make_span
from tests.store.old_stores import make_old_store
from tests.viewer.stores import make_hostile_store
from tests.warm_interpreter import run_warm

TRACE = "ab" * 16
FRONT = Run("front-1", TRACE, "c-1", "ada", "chat", None, (("tenant", "acme"),))
BACK = Run("back-1", TRACE, parent_span_id="f" * 16)
NS = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a trace over two services, and a run that failed."""
    path = tmp_path / "s.db"
    write(path)
    return path


def write(path: Path) -> None:
    start = 1_700_000_000 * NS
    sink = SqliteSink(path)
    sink.open()
    sink.write(
        [
            make_span(
                run=FRONT,
                span_id="e" * 16,
                name="root",
                kind=StepKind.WORKFLOW,
                start_ns=start,
                end_ns=start + 3 * NS,
            ),
            make_span(
                run=FRONT,
                span_id="f" * 16,
                parent_id="e" * 16,
                name="call",
                kind=StepKind.LLM,
                start_ns=start + NS,
                end_ns=start + 2 * NS,
                input=msgspec.Raw(b'{"question":"why?"}'),
                output="because " * 500,
                usage=TokenUsage(10, 20, 0, 0, 30),
                attributes=msgspec.Raw(b'{"gen_ai.request.model":"m1","gen_ai.usage.cost":0.25}'),
                events=(SpanEvent("retry", start + NS, msgspec.Raw(b'{"n":1}')),),
                links=(SpanLink("1" * 32, "2" * 16),),
            ),
            make_span(
                run=BACK,
                span_id="0" * 16,
                parent_id="f" * 16,
                name="served",
                start_ns=start + NS + 1,
                end_ns=start + NS + 2,
            ),
            make_span(
                run=Run("bad", "0" * 32),
                name="broken",
                status=Status.ERROR,
                error=ErrorDetails("ValueError", "no", "Traceback"),
                start_ns=start + 9 * NS,
                end_ns=start + 10 * NS,
            ),
        ]
    )
    sink.write_report([RunLedger("front-1", "main", 2, 1, 0, 0, {"queue_full": 1})])
    sink.close()


def ids(*arguments: object) -> list[str]:
    shown = invoke("runs", "--json", *arguments)
    assert shown.exit_code == 0, shown.stderr
    return [run["run_id"] for run in shown.json]


def test_runs_as_json(path: Path) -> None:
    """One list of objects on one line, the newest first, with ids, counters and times."""
    runs = invoke("runs", "--json", "--store", path).json
    assert [run["run_id"] for run in runs] == ["bad", "back-1", "front-1"]
    front = runs[-1]
    assert {
        key: front[key] for key in ("trace_id", "user_id", "tags", "status", "duration_ms", "started")
    } == {
        "trace_id": TRACE,
        "user_id": "ada",
        "tags": {"tenant": "acme"},
        "status": "ok",
        "duration_ms": 3000.0,
        "started": "2023-11-14T22:13:20.000000000Z",
    }
    assert (front["span_count"], front["llm_calls"], front["total_tokens"], front["cost"]) == (2, 1, 30, 0.25)
    assert invoke("runs", "--json", "--user", "nobody", "--store", path).stdout == "[]\n"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "error"], ["bad"]),
        (["--name", "ro*"], ["front-1"]),
        (["--user", "ada"], ["front-1"]),
        (["--conversation", "c-1"], ["front-1"]),
        (["--workflow", "chat"], ["front-1"]),
        (["--trace", TRACE], ["back-1", "front-1"]),
        (["--tag", "tenant=acme"], ["front-1"]),
        (["--tag", "tenant=other"], []),
        (["--kind", "LLM"], ["front-1"]),
        (["--since", "2023-11-14T22:13:25+00:00"], ["bad"]),
        (["--until", "2023-11-14T22:13:25+00:00"], ["back-1", "front-1"]),
        (["--since", "1h"], []),
        (["--min-duration", "2s"], ["front-1"]),
        (["--max-duration", "5ms"], ["back-1"]),
        (["--limit", "1000000000"], ["bad", "back-1", "front-1"]),
        (["--text", "WHY?"], ["front-1"]),
        (["--text", "nothing"], []),
    ],
)
def test_runs_are_selected(path: Path, options: list[str], found: list[str]) -> None:
    """Each option selects, in a store of either version."""
    assert ids("--store", path, *options) == found
    old = path.with_name("old.db")
    make_old_store(old)
    write(old)
    assert ids("--store", old, *options) == found


def test_ids_in_errors_are_on_one_line(tmp_path: Path) -> None:
    """Ids that are listed are shown as they would be in a table; the step that is missing comes with the run's id."""
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span(run=Run(f"r\n{n}", f"{n}" * 32), span_id=f"s\n{n}") for n in range(2)])
    sink.close()
    shown = invoke("show", "r", "--store", path)
    assert shown.stderr.splitlines() == [
        "error: 'r' is the beginning of several ids: r\\n0, r\\n1. Give more of it."
    ]
    assert invoke("show", "r\n0", "--span", "x", "--store", path).stderr.endswith(
        "nat-observability show r\\n0\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--since", "yesterday"], "--since 'yesterday' is not a time. Give an age such as 90m"),
        (["--min-duration", "5"], "--min-duration '5' is not a duration"),
        (["--tag", "tenant"], "--tag 'tenant' has no value"),
    ],
)
def test_what_cannot_be_meant_is_an_error(path: Path, options: list[str], problem: str) -> None:
    """A wrong value is exit code 2, and the message shows a right one."""
    shown = invoke("runs", "--store", path, *options)
    assert shown.exit_code == 2
    assert problem in shown.stderr


def test_show_has_content_counts_and_ledger(path: Path) -> None:
    """What the run was asked and answered, long values folded with their length, and what became of its items."""
    shown = invoke("show", "front-1", "--store", path).stdout
    assert "main: 1 of 2 delivered, 1 dropped (queue_full)" in shown
    assert "tenant=acme" in shown
    assert '{"question":"why?"}' in shown
    assert "3,000 of 4,000 characters left out: --full, or --span ID" in shown
    assert "10 prompt, 20 completion, 30 total" in shown
    assert "retry +0 µs  n=1" in shown
    whole = invoke("show", "front-1", "--full", "--store", path).stdout
    assert whole.count("because") == 500


def test_show_of_a_trace_joins_its_runs(path: Path) -> None:
    """A run hangs below the step of the other service that called it."""
    for given in (TRACE, TRACE[:6]):
        lines = invoke("show", given, "--store", path).stdout.splitlines()
        tree = [line for line in lines if "└─" in line or line.startswith("root")]
        assert tree[0].startswith("root")
        assert ["call" in tree[1], "served" in tree[2]] == [True, True]
        assert tree[2].index("served") > tree[1].index("call")
    runs = invoke("show", TRACE, "--json", "--store", path).json["runs"]
    assert [run["run_id"] for run in runs] == ["front-1", "back-1"]
    assert [span["name"] for span in runs[0]["spans"]] == ["root", "call"]
    assert runs[0]["spans"][1]["input"] == {"question": "why?"}
    assert runs[0]["ledgers"]["main"]["dropped"] == {"queue_full": 1}


def test_one_step_is_shown_whole(path: Path) -> None:
    """--span shows a step with all of its content; an unknown one and one of several are errors that help."""
    shown = invoke("show", "front-1", "--span", "ff", "--store", path)
    assert shown.stdout.count("because") == 500
    assert invoke("show", "front-1", "--span", "ff", "--json", "--store", path).json["kind"] == "LLM"
    assert "has no step 'x'" in invoke("show", "front-1", "--span", "x", "--store", path).stderr
    assert "several steps: " in invoke("show", "front-1", "--span", "", "--store", path).stderr


def test_export_as_json_lines_and_otlp(path: Path) -> None:
    """A line for each span; and OTLP as JSON that, read by protobuf's own reader, is what an exporter would send."""
    lines = [json.loads(line) for line in invoke("export", "front-1", "--store", path).stdout.splitlines()]
    assert [line["name"] for line in lines] == ["root", "call"]
    request = invoke("export", "front-1", "--format", "otlp-json", "--store", path).json
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    by_name = {span["name"].split()[-1]: span for span in spans}
    call = next(span for span in spans if span["spanId"] == "f" * 16)
    assert len(spans) == len(by_name) == 2
    assert (call["traceId"], call["parentSpanId"], call["kind"]) == (TRACE, "e" * 16, 3)
    assert (call["startTimeUnixNano"], call["endTimeUnixNano"]) == (
        "1700000001000000000",
        "1700000002000000000",
    )
    attributes = {each["key"]: each["value"] for each in call["attributes"]}
    assert attributes["gen_ai.usage.input_tokens"] == {"intValue": "10"}
    assert attributes["gen_ai.usage.cost"] == {"doubleValue": 0.25}
    assert [event["name"] for event in call["events"]] == ["retry"]
    assert call["links"][0]["traceId"] == "1" * 32


def test_otlp_json_is_the_protobuf_request(path: Path) -> None:
    """The official reader of OTLP's JSON gets the very bytes that the exporters send."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    exported = invoke("export", "front-1", "--format", "otlp-json", "--store", path).json
    for resource in exported["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for part in (span, *span.get("links", ())):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in part:  # hex in OTLP, base64 in protobuf's own JSON
                            part[key] = msgspec.json.decode(msgspec.json.encode(bytes.fromhex(part[key])))
    request = json_format.ParseDict(exported, service.ExportTraceServiceRequest())
    with_store = path.with_name("copy.db")
    write(with_store)
    with Store(with_store) as store:
        spans = sorted(store.spans("front-1"), key=lambda span: span.start_ns)
    sent = service.ExportTraceServiceRequest.FromString(encode(spans, {"service.name": "nat-observability"}))
    assert request == sent


def exported_runs(page: str) -> list[Any]:
    """Return what a page that was exported holds of its runs."""
    data = page.partition('id="data">')[2].partition("</script>")[0]
    runs: list[Any] = json.loads(data)["runs"]
    return runs


class Page(html.parser.HTMLParser):
    """Collects the tags of a page, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202egpj.exe\0\x1b[31m"


def hostile(path: Path) -> None:
    deep = "[" * 20_000 + "]" * 20_000
    run = Run("h", "0" * 32, HOSTILE, HOSTILE, HOSTILE, None, ((HOSTILE, HOSTILE),))
    spans = [
        make_span(
            run=run,
            span_id="a",
            parent_id="b",
            name=HOSTILE,
            input=HOSTILE,
            output=msgspec.Raw(deep.encode()),
            attributes=msgspec.Raw(b'{"__proto__":{"a":"javascript:alert(1)"}}'),
            start_ns=9,
            end_ns=5,
            error=ErrorDetails(HOSTILE, HOSTILE, HOSTILE),
            status=Status.ERROR,
        ),
        make_span(run=run, span_id="b", parent_id="a", name="n" * 100_000, input=msgspec.Raw(b"{not json")),
        make_span(run=run, span_id="c", parent_id="c", name="", start_ns=0, end_ns=2**63 - 1),
    ]
    sink = SqliteSink(path)
    sink.open()
    sink.write(spans)
    sink.close()


def test_hostile_content_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    """No command fails over it, no control or bidi character reaches a terminal, and nothing becomes markup."""
    path = tmp_path / "s.db"
    hostile(path)
    for arguments in (
        ["runs"],
        ["show", "h"],
        ["show", "h", "--full"],
        ["show", "h", "--span", "a"],
        ["tail"],
        ["stats"],
        ["stats", "--by", "model"],
    ):
        shown = invoke(*arguments, "--store", path)
        assert (shown.exit_code, shown.stderr) == (0, ""), arguments
        assert not set("\u202e\0\x1b") & set(shown.stdout)
        assert "\\u202e" in shown.stdout or arguments[0] == "stats"
    spans = {
        span["span_id"]: span
        for span in invoke("show", "h", "--json", "--store", path).json["runs"][0]["spans"]
    }
    assert spans["a"]["input"] == HOSTILE
    assert spans["a"]["output"] == "[" * 20_000 + "]" * 20_000
    assert spans["b"]["input"] == "{not json"
    assert len(invoke("export", "h", "--store", path).stdout.splitlines()) == 3
    assert invoke("export", "h", "--format", "otlp-json", "--store", path).exit_code == 0
    exported = invoke("export", "h", "--format", "html", "--store", path).stdout
    page = Page(exported)
    assert page.tags == {"html", "head", "meta", "title", "style", "body", "div", "script"}
    assert not {name for name in page.attributes if name.startswith("on")} | page.attributes & {"src", "href"}
    assert not set("\u202e\0\x1b") & set(exported)
    assert "<script>alert(1)</script>" not in page.text
    (held,) = exported_runs(exported)
    assert (held["run"]["run"]["id"], held["content"]["a"]["name"]) == ("h", HOSTILE)
    assert "default-src 'none'" in exported


def test_rows_of_another_program_are_shown_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    """One row with cells of a wrong type costs no command any other row, and says of itself what is wrong."""
    names = ["bytes where text was due", "text where numbers were due", "JSON that is not", "names of Object"]
    path = make_hostile_store(tmp_path / "s.db", names)
    for arguments in (["runs"], ["tail"], ["stats"], *(["show", f"hostile-{at}"] for at in range(4))):
        shown = invoke(*arguments, "--store", path)
        assert (shown.exit_code, shown.stderr) == (0, ""), (arguments, shown.stderr)
    assert len(invoke("runs", "--store", path).stdout.splitlines()) == 1 + len(names)
    assert "kind (cannot be read)" in invoke("show", "hostile-3", "--store", path).stdout
    (span,) = invoke("show", "hostile-2", "--json", "--store", path).json["runs"][0]["spans"]
    assert (span["input"], span["attributes"]) == ("{not json", "[1")
    assert {"tags (cannot be read)", "links (cannot be read)"} <= {event["name"] for event in span["events"]}
    for kind in ("jsonl", "otlp-json"):
        assert invoke("export", "hostile-1", "--format", kind, "--store", path).exit_code == 0


def test_names_of_attributes_are_not_markup(tmp_path: Path) -> None:
    """What an attribute is called is printed as it is, and neither styles nor ends the command."""
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    named = msgspec.json.encode({"[/x]": 1, "[red]y": 2, "z\x1b[31m": 3})
    sink.write([make_span(run=Run("m", TRACE), span_id="s", attributes=msgspec.Raw(named))])
    sink.close()
    for options in ([], ["--full"], ["--span", "s"]):
        shown = invoke("show", "m", *options, "--store", path)
        assert shown.exit_code == 0
        assert {"[/x]", "[red]y", "z\\x1b[31m"} <= set(shown.stdout.split())


OUTPUTS = """
import os, sys
from nat_observability.cli.entry import main

path, results = sys.argv[1], sys.stdout
def broken():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")
for command in (["runs"], ["show", "front-1"], ["export", "front-1"]):
    for opened in (
        lambda: open("/dev/full", "w"), broken, lambda: None, lambda: open(path + ".txt", "w", encoding="ascii")
    ):
        sys.argv[1:], sys.stdout = [*command, "--store", path], opened()
        try:
            main()
        except SystemExit as ended:
            print(ended.code, file=results)
        sys.stdout.close()
"""


def test_output_that_cannot_be_written(path: Path) -> None:
    """A full disk is one line and exit code 1; a reader that has gone, no stdout and a poor encoding are no errors."""
    ended = run_warm(OUTPUTS, [str(path)], cwd=path.parent, env=dict(os.environ), timeout=15)
    assert ended.stdout.split() == ["1", "0", "0", "0"] * 3, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: The output cannot be written: No space left") for line in lines)


def test_json_is_one_visible_line(tmp_path: Path) -> None:
    """Recorded JSON with lines of its own stays on one, and what a terminal would obey is an escape."""
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    text = "\x7f\x9b31m\u202e\u2028 Zürich 東京 \U000e0001 \\u202e"
    pretty = json.dumps({"a": [1, text], "b\r\n": {}}, indent=2, ensure_ascii=False).replace("\n", "\r\n")
    sink.write([make_span(run=Run("p", TRACE), input=msgspec.Raw(pretty.encode()), output=text)])
    sink.close()
    for arguments in (
        ["show", "p", "--json"],
        ["export", "p"],
        ["tail", "--json"],
        ["export", "p", "--format", "otlp-json"],
    ):
        shown = invoke(*arguments, "--store", path).stdout
        assert shown.endswith("\n")
        assert shown[:-1].isprintable()
        assert "Zürich 東京" in shown
    span = invoke("export", "p", "--store", path).json
    assert (span["input"], span["output"]) == ({"a": [1, text], "b\r\n": {}}, text)


def test_a_deep_run_is_shown(tmp_path: Path) -> None:
    """Steps nested deeper than Python's stack are printed, exported and counted."""
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    sink.write(
        [make_span(span_id=f"{n}", parent_id=f"{n - 1}" if n else None, start_ns=n) for n in range(3000)]
    )
    sink.close()
    shown = invoke("show", "run-1", "--store", path)
    assert "2,000 of 3,000 steps. All of them: --full" in shown.stdout
    (held,) = exported_runs(invoke("export", "run-1", "--format", "html", "--store", path).stdout)
    assert len(held["content"]) == 3000
    assert len(invoke("export", "run-1", "--store", path).stdout.splitlines()) == 3000


def test_a_step_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    """A step that was open when its process ended is not shown as running, as a line and as an object."""
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    sink.write_running([make_span()])
    assert "running" in invoke("show", "run-1", "--store", path).stdout
    sink.close()
    shown = invoke("show", "run-1", "--store", path).stdout
    assert "died" in shown
    assert "running" not in shown
    assert invoke("export", "run-1", "--store", path).json["status"] == "died"


def test_a_trace_is_one_page(path: Path) -> None:
    """A trace over two services is exported as one file that holds both runs, the first one first."""
    page = invoke("export", TRACE, "--format", "html", "--store", path).stdout
    assert [held["run"]["run"]["id"] for held in exported_runs(page)] == ["front-1", "back-1"]
    assert page.count("<script") == 2


def test_an_exported_page_needs_no_server(path: Path) -> None:
    """The page is written without the extra of the viewer's server."""
    program = "import sys; sys.modules['aiohttp'] = None; from nat_observability.cli import main; main()"
    arguments = ["export", "back-1", "--format", "html", "--store", str(path)]
    shown = run_warm(program, arguments, cwd=path.parent, env=dict(os.environ), timeout=15)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert len(exported_runs(shown.stdout)) == 1


def test_statistics_as_json(path: Path) -> None:
    """Rows by key with percentiles in nanoseconds, and whether all was counted."""
    found = invoke("stats", "--by", "model", "--json", "--store", path).json
    assert (found["by"], found["complete"], found["runs"], found["left_out"]) == ("model", True, 3, 0)
    [row] = found["rows"]
    assert (row["key"], row["count"], row["p99_ns"], row["total_tokens"], row["cost"]) == (
        "m1",
        1,
        NS,
        30,
        0.25,
    )
    shown = invoke("stats", "--by", "kind", "--limit", 1, "--store", path).stdout
    assert "2 more: --limit 3" in shown


def test_tail_follows_a_store_that_is_replaced(tmp_path: Path) -> None:
    """
    It waits for a store, prints what comes as JSON lines, goes on with another file, and ends well with Ctrl-C. What it
    waits for is said again when that has changed.
    """
    path = tmp_path / "s.db"
    with command("tail", "--follow", "--json", "--store", path, cwd=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018
        assert "does not exist" in process.stderr.readline()
        for number in range(2):
            sink = SqliteSink(path)
            sink.open()
            # More than it begins with in a store that is there: all of it is new.
            sink.write([make_span(name=f"step-{number}", span_id=f"s{n}") for n in range(25)])
            for _ in range(25):
                assert json.loads(process.stdout.readline())["name"] == f"step-{number}"
            sink.write([make_span(name=f"later-{number}")])
            assert json.loads(process.stdout.readline())["name"] == f"later-{number}"
            sink.close()
            for suffix in ("", "-wal", "-shm"):
                (tmp_path / f"s.db{suffix}").unlink(missing_ok=True)
            path.write_bytes(b"no database at all" * 200)
            while "file is not a database" not in process.stderr.readline():
                pass
            path.unlink()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.parametrize("old", [False, True])
def test_tail_prints_the_newest_that_are_left(tmp_path: Path, old: bool) -> None:
    """Where spans were deleted or replaced since, it goes further back."""
    path = tmp_path / "s.db"
    if old:
        make_old_store(path)
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span(run=FRONT, name=f"left-{n}", span_id=f"s{n}") for n in range(3)])
    sink.write([make_span(run=BACK, name="gone", span_id=f"s{n}") for n in range(9)])
    sink.close()
    invoke("delete", "--run", BACK.run_id, "--yes", "--store", path)
    lines = invoke("tail", "-n", 2, "--store", path).stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["left-1", "left-2"]
    assert invoke("tail", "-n", 0, "--store", path).stdout == ""


def test_tail_prints_the_newest(path: Path) -> None:
    """Without --follow it ends; steps that are open come only if they are asked for."""
    sink = SqliteSink(path)
    sink.open()
    sink.write_running([make_span(name="open-step")])
    lines = invoke("tail", "-n", 2, "--store", path).stdout.splitlines()
    running = invoke("tail", "-n", 2, "--running", "--store", path).stdout.splitlines()
    shown = invoke("show", "run-1", "--store", path).stdout
    assert ids("--status", "running", "--store", path) == ["run-1"]
    sink.close()
    assert [line.split()[3] for line in lines] == ["served", "broken"]
    assert [line.split()[3] for line in running] == ["broken", "open-step"]
    assert ["status", "running"] in [line.split() for line in shown.splitlines()]
