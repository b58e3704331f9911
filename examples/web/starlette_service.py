"""A Starlette service whose requests are runs: `uvicorn starlette_service:app`, then `curl localhost:8000/ask/tea`."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.starlette import instrument

os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")


async def ask(request: Request) -> PlainTextResponse:
    """Search for an answer."""
    with step("tool", "search", input=request.path_params["topic"]) as search:
        search.output = f"green {request.path_params['topic']}"
    return PlainTextResponse(search.output)


app = Starlette(routes=[Route("/ask/{topic}", ask)])
instrument(app, ObservabilityContainer(), health="/health")
