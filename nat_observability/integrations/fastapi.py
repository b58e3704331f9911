"""instrument() for FastAPI, and the dependencies for a request's handler."""

# Annotations are not postponed here: FastAPI reads them at run time.
from typing import Annotated

from fastapi import Depends

from nat_observability.exporter_manager import ExporterManager
from nat_observability.integrations.asgi import (
    RequestState,
    Source,
    current_manager,
    current_source,
    current_state,
)
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.starlette import instrument

check_version("fastapi", at_least="0.115", below="1")

CurrentManager = Annotated[ExporterManager, Depends(current_manager)]
"""The manager of the request's run: `async def ask(manager: CurrentManager)`."""

CurrentState = Annotated[RequestState, Depends(current_state)]
"""The state of the request's run."""

CurrentSource = Annotated[Source, Depends(current_source)]
"""The container, which the manager comes from."""

__all__ = ["CurrentManager", "CurrentSource", "CurrentState", "instrument"]
