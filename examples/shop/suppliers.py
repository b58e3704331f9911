"""The suppliers' service, which the shop calls: a run of its own for each request, in the shop's trace."""

from fastapi import FastAPI

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.fastapi import instrument

app = FastAPI()
instrument(app, ObservabilityContainer(), health="/health")


@app.get("/price/{tea}")
async def price(tea: str) -> str:
    """Return what a tea costs."""
    with step("tool", "look-up", input=tea):
        return f"{len(tea)} coins"
