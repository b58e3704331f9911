"""A FastAPI service whose requests are runs: `uvicorn fastapi_service:app`, then `curl localhost:8000/ask/tea`."""

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.asgi import header
from nat_observability.integrations.fastapi import CurrentState, instrument

os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")

app = FastAPI()
instrument(
    app,
    ObservabilityContainer(),
    health="/health",
    ids=lambda scope: {"user_id": header(scope, "x-user")},
)


@app.get("/ask/{topic}")
async def ask(topic: str, state: CurrentState) -> StreamingResponse:
    """Answer piece by piece: the run is open until the last of them."""
    state.root.output = topic

    async def answer() -> AsyncIterator[str]:
        with step("llm", "small-model", input=topic) as call:
            for piece in ("green ", topic):
                call.chunk(piece)
                yield piece

    return StreamingResponse(answer(), media_type="text/plain")
