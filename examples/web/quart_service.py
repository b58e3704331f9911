"""A Quart service whose requests are runs: `hypercorn quart_service:app`, then `curl localhost:8000/ask/tea`."""

import os

from quart import Quart

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.quart import instrument

os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")

app = Quart(__name__)
instrument(app, ObservabilityContainer(), health="/health")


@app.get("/ask/<topic>")
async def ask(topic: str) -> str:
    """Search for an answer, and remember it when the client has it: the run stays open until then."""
    with step("tool", "search", input=topic) as search:
        search.output = f"green {topic}"
    app.add_background_task(remember, topic)
    return f"green {topic}"


async def remember(topic: str) -> None:
    """Do what the client need not wait for."""
    with step("function", "remember", input=topic):
        pass
