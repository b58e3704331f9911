"""An MCP server over standard input and output whose requests are runs: `python examples/mcp/search_server.py`."""

import asyncio
import os

from mcp.server.mcpserver import MCPServer

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.mcp import instrument

# Standard output is the protocol's.
os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")
os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__STREAM", "stderr")

server, container = MCPServer("search"), ObservabilityContainer()
instrument(server, container)


@server.tool()
async def search(topic: str) -> str:
    """Search for an answer."""
    with step("retriever", "index", input=topic) as index:
        index.output = f"green {topic}"
    return f"green {topic}"


async def main() -> None:
    """Serve until the client leaves."""
    async with ProcessScope(container, "mcp"):
        await server.run_stdio_async()


if __name__ == "__main__":
    asyncio.run(main())
