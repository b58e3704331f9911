"""Steps that are nested deeper than Python calls functions: recorded, delivered to every sink, and shown."""

from __future__ import annotations

import io
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nat_observability import BaseExporter, ContextState, ExporterManager, SpanExporter, StepExporter, step
from nat_observability.cli.commands import cli
from nat_observability.sinks.console import ConsoleSink
from nat_observability.sinks.file import FileSink
from nat_observability.sinks.memory import MemorySink
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store import Store
from nat_observability.testing import CapturingExporter
from nat_observability.testing.step_tree import StepTree


def shown(*arguments: object) -> list[str]:
    """Return the lines that a command prints into a pipe."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        cli([str(argument) for argument in arguments], prog_name="nat-observability")
    assert not ended.value.code
    return printed.getvalue().splitlines()


@pytest.mark.may_block
@pytest.mark.timeout(60)
@pytest.mark.parametrize("depth", [1000, pytest.param(5000, marks=pytest.mark.slow)])
async def test_a_deep_run_arrives_everywhere_and_is_shown(tmp_path: Path, depth: int) -> None:
    """No sink and no command is a level short: a tree is not walked by recursion."""
    memory, lines, capturing = MemorySink(), io.StringIO(), CapturingExporter()
    exporters: dict[str, BaseExporter] = {
        "memory": SpanExporter(memory, flush="delivered"),
        "store": SpanExporter(SqliteSink(tmp_path / "s.db"), flush="delivered"),
        "file": SpanExporter(FileSink(tmp_path / "spans.jsonl"), flush="delivered"),
        "steps": StepExporter(FileSink(tmp_path / "steps.jsonl"), flush="delivered"),
        "console": SpanExporter(ConsoleSink(stream=lines), flush="delivered"),
        "capturing": capturing,
    }
    names = [f"step-{number}" for number in range(depth)]
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start(ContextState(run_id="deep")):
        with ExitStack() as opened:
            for name in names:
                opened.enter_context(step("tool", name))
    assert [span.name for span in memory.spans] == names[::-1]
    assert lines.getvalue().count("\n") == depth
    assert (tmp_path / "spans.jsonl").read_text().count("\n") == depth
    assert (tmp_path / "steps.jsonl").read_text().count("\n") == 2 * depth
    request = ExportTraceServiceRequest.FromString(encode(memory.spans, {}))
    assert len(request.resource_spans[0].scope_spans[0].spans) == depth
    with Store(tmp_path / "s.db") as store:
        assert store.counts()["max_depth"] == depth
    tree = shown("show", "deep", "--full", "--store", tmp_path / "s.db")
    assert [name for line in tree for name in line.split() if name.startswith("step-")] == names
    assert max(map(len, tree)) < 200, "the lines grow with the depth"
    assert str(StepTree(capturing.steps)).count("\n") == depth
