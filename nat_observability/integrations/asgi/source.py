"""Source: gives each request its manager, and has to be open while requests are served."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from nat_observability.errors import MissingContainerError, RuntimeNotOpenError
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeState
from nat_observability.integrations.shared.container_argument import Embedded
from nat_observability.runtime import ObservabilityRuntime

_NEEDED = ("exporter_manager", "runtime_object", "init_resources", "shutdown_resources")

OPENS = "nat_observability.opens"
"""In the scope of a lifespan: a wrapper opens the runtime when the application has said that it has started."""


class ContainerSource(Protocol):
    """An `ObservabilityContainer`, or without a container a `RuntimeSource`."""

    @property
    def exporter_manager(self) -> Callable[[], ExporterManager]: ...

    @property
    def runtime_object(self) -> Callable[[], ObservabilityRuntime]: ...

    @property
    def init_resources(self) -> Callable[[], Any]: ...

    @property
    def shutdown_resources(self) -> Callable[[], Any]: ...


Source = ContainerSource | Embedded
"""What the requests' managers come from, and has to be open while requests are served."""


class RuntimeSource:
    """
    A runtime, and what makes the managers of its exporters.

    Args:
        runtime: Opened when the application starts; drained and closed when it ends.
        exporter_manager: Returns a new manager for each request. Its options name the runtime as their `observer`,
            so that a shutdown waits for the requests that are still open.
    """

    def __init__(
        self, runtime: ObservabilityRuntime, exporter_manager: Callable[[], ExporterManager]
    ) -> None:
        self._runtime = runtime
        self.exporter_manager = exporter_manager

    def runtime_object(self) -> ObservabilityRuntime:
        """Return the runtime, in any state."""
        return self._runtime

    async def init_resources(self) -> None:
        """Open the runtime, if it is not open."""
        if self._runtime.state in (RuntimeState.NEW, RuntimeState.CLOSED):
            await self._runtime.init()

    async def shutdown_resources(self) -> None:
        """Drain and close it."""
        await self._runtime.shutdown()


def check_source(feature: str, source: object) -> None:
    """
    Check what an integration was given.

    Raises:
        MissingContainerError: It gives no managers, or has no runtime; the message names `feature`.
    """
    missing = (
        _NEEDED
        if isinstance(source, type)
        else [each for each in _NEEDED if not callable(getattr(source, each, None))]
    )
    if missing:
        raise MissingContainerError(feature, source, missing)


def check_open(feature: str, source: Source) -> None:
    """
    Check that what the requests need is open.

    Raises:
        RuntimeNotOpenError: It is not; the message names `feature`.
    """
    state = source.runtime_object().state
    if state is not RuntimeState.OPEN:
        raise RuntimeNotOpenError(
            feature,
            state,
            "Open it in the application's lifespan: lifespan(container), ObservabilityLifespan(app, container), "
            "or await container.init_resources().",
        )


async def open_source(source: Source) -> None:
    """
    Open what the requests need.

    Raises:
        ExporterStartError: A required exporter could not be opened.
    """
    opening = source.init_resources()
    if inspect.isawaitable(
        opening
    ):  # dependency-injector has nothing to await if no resource is asynchronous
        await opening


async def close_source(source: Source) -> None:
    """Drain and close it, within the runtime's shutdown timeout."""
    closing = source.shutdown_resources()
    if inspect.isawaitable(closing):
        await closing
