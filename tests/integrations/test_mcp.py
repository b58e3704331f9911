"""MCP servers of the official SDK: a run for each request, with the client's trace and names that exist."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dependency_injector import providers

pytest.importorskip("mcp", reason="There is no MCP SDK here. Cure: pip install mcp")

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.server.mcpserver import Context, MCPServer

from nat_observability import ContextState, Span, SpanExporter, SpanKind, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.mcp import instrument

ROOT = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
META: Any = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": "user.id=u-1"}


def server() -> MCPServer:
    made = MCPServer("test")

    @made.tool()
    async def search(words: str, ctx: Context) -> list[str]:
        """Search."""
        await ctx.report_progress(1, 2)
        with step("retriever", "index"):
            return [words.upper()]

    @made.tool()
    def broken() -> str:
        """Fail."""
        raise RuntimeError("no database")

    @made.prompt()
    def greeting(name: str) -> str:
        """Greet."""
        return f"Hello, {name}"

    return made


async def record(use: Any, **options: Any) -> list[Span]:
    """Use a server by a client while the exporters are open; return the spans."""
    spans: list[Span] = []
    made = server()
    container = ObservabilityContainer()
    container.exporters.override(providers.Object({"kept": SpanExporter(spans.extend)}))
    instrument(made, container, **options)
    async with ProcessScope(container, "mcp"), Client(made) as client:
        await use(client)
    assert ContextState.current() is None
    return spans


def attributes(span: Span) -> dict[str, Any]:
    """Return them as Python values."""
    found: dict[str, Any] = msgspec.json.decode(span.attributes or b"{}")
    return found


async def test_requests_are_runs() -> None:
    """Tools have their arguments, their results, their errors and their steps; a client invents no names."""
    reported: list[float] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        reported.append(progress)

    async def use(client: Client) -> None:
        await client.call_tool("invented", {})
        await client.list_tools()
        await client.call_tool("search", {"words": "tea"}, meta=META, progress_callback=noted)
        await client.call_tool("broken", {})
        await client.get_prompt("greeting", {"name": "Ann"})
        with pytest.raises(MCPError):
            await client.get_prompt("invented", {})

    spans = await record(use)
    assert reported == [1]
    roots = [span for span in spans if span.name != "index"]
    named = [
        (span.name, span.kind, span.error.type.rpartition(".")[2] if span.error else None) for span in roots
    ]
    calls = [each for each in named if each[0] != "tools/list"]
    assert calls == [
        ("tools/call", "TOOL", "ToolFailedError"),
        ("tools/call search", "TOOL", None),
        ("tools/call broken", "TOOL", "ToolFailedError"),
        ("prompts/get greeting", "WORKFLOW", None),
        ("prompts/get", "WORKFLOW", "ValueError"),
    ]
    assert ("tools/list", "WORKFLOW", None) in named
    found = next(span for span in spans if span.name == "tools/call search")
    assert (found.run.trace_id, found.run.user_id, found.span_kind) == (TRACE, "u-1", SpanKind.SERVER)
    assert msgspec.json.decode(found.input or b"") == {"words": "tea"}
    assert "TEA" in str(msgspec.json.decode(found.output or b""))
    assert attributes(found)["mcp.method.name"] == "tools/call"
    assert attributes(found)["gen_ai.tool.name"] == "search"
    inner = next(span for span in spans if span.name == "index")
    assert (inner.run.run_id, inner.parent_id) == (found.run.run_id, found.span_id)
    broken = next(span for span in spans if span.name == "tools/call broken")
    assert broken.error is not None


async def test_clients_that_are_not_believed() -> None:
    """They choose neither trace nor user."""

    async def use(client: Client) -> None:
        await client.call_tool("search", {"words": "tea"}, meta=META)

    spans = await record(use, trusted=False)
    assert all(span.run.trace_id != TRACE and span.run.user_id is None for span in spans)


def test_without_a_container() -> None:
    """It is refused at once."""
    with pytest.raises(MissingContainerError):
        instrument(server(), object())  # type: ignore[arg-type]


async def test_the_example(tmp_path: Path) -> None:
    """A process of its own, over standard input and output; what it recorded is there when the client has left."""
    recorded = tmp_path / "spans.jsonl"
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(ROOT / "examples" / "mcp" / "search_server.py")],
        env={
            "PYTHONPATH": str(ROOT),
            "NAT_OBSERVABILITY_EXPORTERS__KEPT__TYPE": "file",
            "NAT_OBSERVABILITY_EXPORTERS__KEPT__PATH": str(recorded),
        },
    )

    async def ignored(progress: float, total: float | None, message: str | None) -> None:
        pass

    async with Client(stdio_client(parameters)) as client:
        result = await client.call_tool("search", {"topic": "tea"}, progress_callback=ignored)
        assert "green tea" in str(result.content)
    spans = {span["name"]: span for span in map(json.loads, recorded.read_text().splitlines())}
    assert spans["index"]["parent_id"] == spans["tools/call search"]["span_id"]
    assert "mcp.progress_token" in spans["tools/call search"]["attributes"]
