"""A Litestar service whose requests are runs: `uvicorn litestar_service:app`, then `curl localhost:8000/ask/tea`."""

import os

from litestar import Litestar, get
from litestar.di import Provide

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.asgi import RequestState, current_state
from nat_observability.integrations.litestar import instrument

os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")


@get("/ask/{topic:str}", dependencies={"run": Provide(current_state)}, media_type="text/plain")
async def ask(topic: str, run: RequestState) -> str:
    """Search for an answer."""
    with step("tool", "search", input=topic) as search:
        search.output = run.root.output = f"green {topic}"
    return f"green {topic}"


app = Litestar([ask])
instrument(app, ObservabilityContainer(), health="/health")
