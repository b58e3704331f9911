"""Taskiq: each execution of a task is a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nat_observability.context import ContextState
from nat_observability.errors import MissingExtraError
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunScope, run_scope
from nat_observability.integrations.workers.worker_start import worker_start

try:
    from taskiq import (
        AsyncBroker,
        NoResultError,
        TaskiqEvents,
        TaskiqMessage,
        TaskiqMiddleware,
        TaskiqResult,
        TaskiqState,
    )
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.taskiq", "taskiq") from error

__all__ = ["TaskMiddleware", "instrument"]

check_version("taskiq", at_least="0.12.0", below="1")

_STARTUP = (TaskiqEvents.WORKER_STARTUP, TaskiqEvents.CLIENT_STARTUP)
_SHUTDOWN = (TaskiqEvents.WORKER_SHUTDOWN, TaskiqEvents.CLIENT_SHUTDOWN)
_EXECUTION = "__nat_observability_execution"  # an attribute of the message, as other middlewares do it


class TaskMiddleware(TaskiqMiddleware):
    """
    A middleware for a broker: `broker.with_middlewares(TaskMiddleware(container))`.

    It opens the exporters when the broker starts, in the worker and in the client, and drains them when it shuts down.
    A run continues the trace of the task's sender; a task that is sent inside a run carries the run's trace and ids in
    its labels. Each try of a retried task is a run of its own, in the same trace.

    It has to come first, which `instrument` takes care of: what later middlewares record and send is then part of the
    run.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """

    def __init__(self, container: Container) -> None:
        super().__init__()
        self._container = container
        self._process = ProcessScope(container, "TaskMiddleware")
        self._ending: set[asyncio.Task[None]] = set()

    async def startup(self) -> None:
        """
        Open the exporters.

        Raises:
            ExporterStartError: A required exporter did not open: the broker does not start.
        """
        with worker_start():
            await self._process.open()

    async def shutdown(self) -> None:
        """Write what is queued and close the exporters, within the shutdown timeout."""
        await self._process.close()

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Put the current run's trace and ids into the labels."""
        if ContextState.current() is not None:
            # Not into the caller's own dict, which may be sent again, in another run.
            message.labels = dict(message.labels)
            write_headers(message.labels)
        return message

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Begin the run."""
        # In case the broker was never started: then it is not shut down either, and the interpreter's exit drains.
        await self._process.open()
        scope = run_scope(
            self._container, headers=message.labels, job=message.task_name, metadata=_metadata(message)
        )
        await scope.__aenter__()
        execution = _Execution(scope, self._end)
        # Pydantic refuses attributes that are not fields.
        object.__setattr__(message, _EXECUTION, execution)
        return message

    def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        """Keep what the task raised for the end of the run."""
        # NoResultError only decides what happens to the result: nothing went wrong.
        execution: _Execution | None = getattr(message, _EXECUTION, None)
        if execution is not None and not isinstance(exception, NoResultError):
            execution.scope.error = exception

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """End the run."""
        execution: _Execution | None = getattr(message, _EXECUTION, None)
        if execution is not None:
            execution.forget_task()
            await execution.scope.__aexit__(None, None, None)

    def _end(self, scope: RunScope) -> None:
        ending = asyncio.ensure_future(scope.__aexit__(None, None, None))
        self._ending.add(ending)  # an event loop holds its tasks only weakly
        ending.add_done_callback(self._ending.discard)


def instrument(
    broker: AsyncBroker, container: Container, *, around: bool = True, env_file: EnvFile | None = None
) -> TaskMiddleware:
    """
    Make each execution of a broker's tasks a run: gives the broker a `TaskMiddleware`, before its other middlewares.

    Call it before the broker starts.

    Args:
        broker: The broker.
        container: An `ObservabilityContainer`.
        around: Whether the exporters are opened before the handlers of the broker's startup events are called, and
            drained after those of its shutdown events. With False they are opened after the former, and drained before
            the latter: for exporters that need something which these handlers open and close, such as a pool.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """
    check_instrumented(broker, "a Taskiq broker", "add_middlewares", "event_handlers")
    read_env_file(container, env_file)
    middleware = TaskMiddleware(container)
    broker.add_middlewares(middleware)
    broker.middlewares.insert(0, broker.middlewares.pop())

    async def opens(_: TaskiqState) -> None:
        await middleware.startup()

    async def drains(_: TaskiqState) -> None:
        await middleware.shutdown()

    # The broker calls its middlewares after all handlers.
    for event in _STARTUP if around else _SHUTDOWN:
        broker.event_handlers[event].insert(0, opens if around else drains)
    return middleware


class _Execution:
    """A run, and the asyncio task that has to end it: a cancelled one, say, never reaches `post_execute`."""

    def __init__(self, scope: RunScope, end: Callable[[RunScope], None]) -> None:
        self.scope = scope
        self._end = end
        self._task = asyncio.current_task()
        if self._task is not None:
            self._task.add_done_callback(self._task_is_done)

    def forget_task(self) -> None:
        """Leave the end of the run to the caller."""
        if self._task is not None:
            self._task.remove_done_callback(self._task_is_done)

    def _task_is_done(self, task: asyncio.Task[Any]) -> None:
        # Never asks the task for its exception: that would mark it as retrieved, and asyncio would not log it.
        self.scope.error = (
            asyncio.CancelledError()
            if task.cancelled()
            else RuntimeError("The execution ended outside the task, in another middleware perhaps.")
        )
        self._end(self.scope)


def _metadata(message: TaskiqMessage) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38; the last one is taskiq's own label.
    metadata: dict[str, object] = {
        "messaging.system": "taskiq",
        "messaging.operation.type": "process",
        "messaging.message.id": message.task_id,
    }
    if (retries := message.labels.get("_retries")) is not None:
        metadata["taskiq.retries"] = retries
    return metadata
