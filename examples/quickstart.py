"""The shortest use: one run with one step, kept in memory and printed."""

import asyncio
import os

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer


async def main() -> None:
    """Open the exporters, run one workflow, close them."""
    os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")
    # The annotations of dependency-injector do not know that both awaits below always have something to await.
    container = ObservabilityContainer()
    await container.init_resources()  # type: ignore[misc]
    async with container.exporter_manager().start(ContextState(conversation_id="c-1")):
        with step("tool", "search", input={"q": "tea"}) as current:
            current.output = ["green", "black"]
    await container.shutdown_resources()  # type: ignore[misc]


if __name__ == "__main__":
    asyncio.run(main())
