"""The shortest use: one run with one step, kept in memory and printed."""

import asyncio
import os

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer


async def main() -> None:
    """Open the exporters, run one workflow, close them."""
    os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")
    container = ObservabilityContainer()
    await container.init_resources()
    async with container.exporter_manager().start(ContextState(conversation_id="c-1")):
        with step("tool", "search", input={"q": "tea"}) as current:
            current.output = ["green", "black"]
    await container.shutdown_resources()


if __name__ == "__main__":
    asyncio.run(main())
