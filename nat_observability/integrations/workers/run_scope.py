"""RunScope: one message, job or call as one run, for asynchronous and synchronous code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack

from nat_observability.context import ContextState, CurrentScope, enter_run, leave_run
from nat_observability.errors import MissingContainerError
from nat_observability.exporter_manager import ExporterManager
from nat_observability.integrations.shared.container_argument import Embedded
from nat_observability.integrations.workers.run_thread import BackgroundRun, LooplessRun, sync_run
from nat_observability.propagation.headers import read_headers
from nat_observability.recording.step import step
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.run.report import ManagerReport
from nat_observability.run.run_context import RunContext
from nat_observability.runtime import ObservabilityRuntime

_LONGER_THAN_THE_STOP = 1.0  # seconds: the stop has its own deadline, which only a blocked thread misses


class ObservabilityProviders(Protocol):
    """What an integration needs from an `ObservabilityContainer`."""

    @property
    def exporter_manager(self) -> Callable[[], ExporterManager]: ...

    @property
    def manager_options(self) -> Callable[[], ManagerOptions]: ...

    @property
    def runtime_object(self) -> Callable[[], ObservabilityRuntime]: ...


Container = ObservabilityProviders | Embedded
"""An `ObservabilityContainer`, on its own or inside another."""


class RunIds(TypedDict, total=False):
    """What may be given for a run when it begins: the arguments of `ContextState`."""

    run_id: str | None
    trace_id: str | None
    conversation_id: str | None
    user_id: str | None
    workflow_name: str | None
    traceparent: str | None
    tags: Mapping[str, str] | None
    tracestate: str | None
    baggage: str | Mapping[str, str] | None


class RunScope:
    """
    Makes a block one run of its own; what `run_scope` returns.

    With `async with` the exporters run in the caller's event loop; with `with` on a background thread, so that it works
    without a loop, and in a thread whose loop is busy. If no thread can be started, the block still runs: what it
    records goes to the exporters that are open, and the others count it as dropped.

    Attributes:
        state: The run's ids and its stream.
        manager: The run's exporters.
        error: Set it to record an exception that does not leave the block; ignored if there is no `job`.
    """

    def __init__(
        self, manager: ExporterManager, state: ContextState, job: Callable[[], step] | None, timeout: float
    ) -> None:
        self.manager = manager
        self.state = state
        self.error: BaseException | None = None
        self._new_job = job
        self._job: step | None = None
        self._timeout = timeout
        self._entered = False
        self._run: RunContext[ExporterManager] | None = None
        self._background: BackgroundRun | LooplessRun | None = None
        self._loopless: LooplessRun | None = None
        self._previous: CurrentScope | None = None

    @property
    def report(self) -> ManagerReport:
        """What the run's exporters have done so far, or in total once it has ended."""
        return self.manager.report if self._loopless is None else self._loopless.report

    async def __aenter__(self) -> Self:
        self._enter()
        run = self.manager.start(self.state)
        await run.__aenter__()
        self._run = run
        self._begin_job()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_job(exc)
        run, self._run = self._run, None
        if run is not None:
            await run.__aexit__(exc_type, exc, traceback)

    def __enter__(self) -> Self:
        self._enter()
        background = sync_run(self.manager, self.state)
        if isinstance(background, LooplessRun):
            self._loopless = background
        background.start()
        self._background = background
        self._previous = enter_run(self.state)
        self._begin_job()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_job(exc)
        if (background := self._leave()) is not None:
            background.stop(self._timeout)

    def let_go(self) -> None:
        """End the run as a `with` block does, without waiting for its exporters, where nothing may wait."""
        self._end_job(None)
        if (background := self._leave()) is not None:
            background.let_go(self._timeout)

    def _leave(self) -> BackgroundRun | LooplessRun | None:
        background, self._background = self._background, None
        if background is not None:
            previous, self._previous = self._previous, None
            leave_run(self.state, previous)
        return background

    def _enter(self) -> None:
        if self._entered:
            raise RuntimeError("A run was entered before. Call run_scope() for each block.")
        self._entered = True

    def _begin_job(self) -> None:
        if self._new_job is not None:
            self._job = self._new_job()
            self._job.__enter__()

    def _end_job(self, error: BaseException | None) -> None:
        job, self._job = self._job, None
        if job is not None:
            error = error if self.error is None else self.error
            job.__exit__(type(error) if error is not None else None, error, None)


def run_scope(
    container: Container,
    *,
    headers: Mapping[Any, object] | Iterable[tuple[object, object]] | None = None,
    job: str | None = None,
    metadata: Mapping[str, object] | None = None,
    **ids: Unpack[RunIds],
) -> RunScope:
    """
    Return a context manager, for `async with` and for `with`, that makes its block one run.

    Args:
        container: An `ObservabilityContainer`, whose exporters take part.
        headers: The message's headers: `traceparent`, `tracestate` and `baggage` make the run part of its sender's
            trace, and give it the ids of the conversation and the user, and the tags that the setting `PROPAGATE_TAGS`
            names. `ids` takes precedence, of the tags each for itself; malformed headers are ignored.
        job: The name of the job. If given, the block is also recorded as a step of the kind `task`, with its error if
            an exception leaves it.
        metadata: The metadata of that step.
        **ids: The arguments of `ContextState`. `workflow_name` is `job` by default.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        ExporterStartError: On entering: a required exporter did not start.
        ValueError: `trace_id` is malformed.
    """
    check_container("run_scope()", container)
    options = container.manager_options()
    arguments = read_headers(headers).arguments(options.propagate_tags)
    tags = arguments.get("tags")
    arguments.update(ids)
    if tags is not None and isinstance(own := arguments["tags"], Mapping | None):
        arguments["tags"] = {**tags, **(own or {})}
    if job is not None:
        arguments.setdefault("workflow_name", job)
    return RunScope(
        container.exporter_manager(),
        ContextState(**arguments),
        partial(step, "task", job, metadata=metadata) if job is not None else None,
        options.shutdown_timeout + _LONGER_THAN_THE_STOP,
    )


def check_container(feature: str, container: object) -> None:
    """
    Check what an integration was given.

    Raises:
        MissingContainerError: It is not a container of observability; the message names `feature`.
    """
    needed = ("exporter_manager", "manager_options", "runtime_object")
    missing = (
        needed
        if isinstance(container, type)
        else [each for each in needed if not callable(getattr(container, each, None))]
    )
    if missing:
        raise MissingContainerError(feature, container, missing)
