"""RequestState: the run of one request or websocket, and how its handler gets at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nat_observability.context import ContextState
from nat_observability.errors import NoRequestRunError
from nat_observability.exporter_manager import ExporterManager
from nat_observability.integrations.asgi.source import Source
from nat_observability.recording.step import step


class RequestState(ContextState):
    """
    The state of one request's run, or one websocket's.

    Attributes:
        source: The container, which the manager comes from.
        route: The path's template, if the application knows it better than its framework.
        baggage: What the caller sent along.
        failure: The exception behind a response of 500 or more, if one of the application's handlers has caught it.
        held: The tasks that keep the run open; see `keep_open`.
    """

    __slots__ = ("_manager", "_root", "baggage", "failure", "held", "route", "source")

    def __init__(
        self,
        source: Source,
        manager: ExporterManager,
        root: step,
        baggage: Mapping[str, str],
        ids: Mapping[str, Any],
    ) -> None:
        super().__init__(**ids)
        self.source = source
        self._manager: ExporterManager | None = manager
        self._root: step | None = root
        self.baggage = baggage
        self.route: str | None = None
        self.failure: BaseException | None = None
        self.held: set[asyncio.Future[Any]] | None = None

    @property
    def manager(self) -> ExporterManager:
        """
        The run's manager.

        Raises:
            NoRequestRunError: The run has ended.
        """
        if self._manager is None:
            raise NoRequestRunError("RequestState.manager")
        return self._manager

    @property
    def root(self) -> step:
        """
        The run's outermost step. The application may set its `output`, its `metadata` and its name, which defaults to
        the method and the route.

        Raises:
            NoRequestRunError: The run has ended.
        """
        if self._root is None:
            raise NoRequestRunError("RequestState.root")
        return self._root

    def let_go(self) -> None:
        """Drop what refers back to this state: a finished run is freed at once, and not by the garbage collector."""
        self._manager = self._root = self.failure = self.held = None

    def keep_open(self, work: asyncio.Future[Any]) -> None:
        """Keep the run open until `work`, a task that outlives its request, is done, whatever becomes of it."""
        if self.held is None:
            self.held = set()
        self.held.add(work)

    async def until_unheld(self) -> None:
        """Wait until nothing keeps the run open any longer."""
        while self.held:
            await asyncio.wait(self.held)
            self.held = {work for work in self.held if not work.done()}


# Coroutine functions, though they wait for nothing: a framework that injects what they return calls a plain function
# in another thread.


async def current_state() -> RequestState:
    """
    Return the state of the request's run.

    Raises:
        NoRequestRunError: No request's run is current.
    """
    return request_state("current_state()")


async def current_manager() -> ExporterManager:
    """
    Return the manager of the request's run.

    Raises:
        NoRequestRunError: No request's run is current.
    """
    return request_state("current_manager()").manager


async def current_source() -> Source:
    """
    Return the container, which the manager of the request's run comes from.

    Raises:
        NoRequestRunError: No request's run is current.
    """
    return request_state("current_source()").source


def request_state(feature: str) -> RequestState:
    """
    Return the state of the request's run, for code that is not a coroutine.

    Raises:
        NoRequestRunError: No request's run is current; the message names `feature`.
    """
    state = ContextState.current()
    if not isinstance(state, RequestState):
        raise NoRequestRunError(feature)
    return state


def keep_open(work: asyncio.Future[Any]) -> None:
    """
    Keep the request's run open until `work` is done: a task that outlives the request, and records steps.

    Raises:
        NoRequestRunError: No request's run is current.
    """
    request_state("keep_open()").keep_open(work)
