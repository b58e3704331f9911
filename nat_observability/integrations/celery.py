"""Celery: each execution of a task is a run, by Celery's signals, in prefork, threads and solo pools."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from nat_observability.context import ContextState
from nat_observability.errors import MissingExtraError, UnsupportedPoolError
from nat_observability.foreign_errors import describe
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunScope, run_scope
from nat_observability.propagation.formats import formats

try:
    from celery import Celery, Task, signals
    from celery.concurrency.prefork import TaskPool as PreforkPool
    from celery.concurrency.solo import TaskPool as SoloPool
    from celery.concurrency.thread import TaskPool as ThreadPool
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.celery", "celery") from error

__all__ = ["CeleryObservability", "instrument"]

check_version("celery", at_least="5.7.0", below="6")

_EXECUTION = "_nat_observability_run"  # an attribute of the task's request, which belongs to one execution
_POOLS = {"prefork": PreforkPool, "processes": PreforkPool, "solo": SoloPool, "threads": ThreadPool}


class _Execution(NamedTuple):
    """What is kept for a task while it executes: its run, and the exception being handled when it began."""

    scope: RunScope
    handling: BaseException | None


class CeleryObservability:
    """
    What `instrument` returns: the receivers of one application's signals.

    Celery logs what a receiver raises and goes on, so it never reaches a task.
    """

    def __init__(self, app: Celery, container: Container) -> None:
        self._app = app
        self._container = container
        self._process = ProcessScope(container, "instrument()")
        self._uid = f"nat_observability.{id(app)}"
        self._receivers = {
            signals.worker_init: self._worker_begins,
            signals.worker_process_init: self._process_begins,
            signals.worker_process_shutdown: self._process_ends,
            signals.worker_shutdown: self._worker_ends,
            signals.before_task_publish: self._task_is_sent,
            signals.task_prerun: self._task_begins,
            signals.task_failure: self._task_failed,
            signals.task_retry: self._task_is_tried_again,
            signals.task_postrun: self._task_ends,
        }

    def connect(self) -> None:
        """Receive the signals, in place of earlier receivers for the same application."""
        for signal, receiver in self._receivers.items():
            # Celery compares these ids; without them it leaves the older of two receivers in place.
            signal.disconnect(dispatch_uid=self._uid)
            signal.connect(receiver, weak=False, dispatch_uid=self._uid)
            if signal in (signals.worker_process_shutdown, signals.worker_shutdown):
                # What the application's receivers close, an exporter may need for its last batches.
                signal.receivers.insert(0, signal.receivers.pop())

    def disconnect(self) -> None:
        """Stop receiving the signals."""
        for signal in self._receivers:
            signal.disconnect(dispatch_uid=self._uid)

    def _worker_begins(self, sender: Any, **_: object) -> None:
        if sender.app is not self._app:
            return
        try:
            pool = _pool(sender.pool_cls)
            if not issubclass(pool, PreforkPool):
                self._process.open_now()
            elif self._container.manager_options().required:
                # Each child opens its own. This is the last place where a worker can be kept from starting.
                with self._process:
                    pass
        except Exception as error:
            # Celery goes on after everything that a receiver raises, except this.
            raise SystemExit(f"The worker does not start. {describe(error)}") from error

    def _process_begins(self, **_: object) -> None:
        # Celery kills a child that has not started within this time (4 s by default).
        self._process.open_now(timeout=self._app.conf.worker_proc_alive_timeout / 2)

    def _process_ends(self, **_: object) -> None:
        # The child of a prefork pool ends with os._exit(): nothing else drains it.
        self._process.close_now(whoever_opened=True)

    def _worker_ends(self, **_: object) -> None:
        self._process.close_now()

    def _task_is_sent(self, headers: MutableMapping[str, Any], **_: object) -> None:
        write_headers(headers)

    def _task_begins(self, task: Task, task_id: str, **_: object) -> None:
        if task.app is not self._app:
            return
        request = task.request
        headers = {name: getattr(request, name, None) for name in formats().read}
        if request.is_eager and ContextState.current() is not None:
            write_headers(headers)
        scope = run_scope(
            self._container, headers=headers, job=task.name, metadata=_metadata(request, task_id)
        )
        scope.__enter__()
        # An eager task may be called while an exception is being handled, which is still current when the task ends.
        setattr(request, _EXECUTION, _Execution(scope, sys.exception()))

    def _task_failed(self, sender: Task, exception: BaseException, **_: object) -> None:
        _note(sender, exception)

    def _task_is_tried_again(self, sender: Task, reason: object, **_: object) -> None:
        # A task that asks for a retry without an exception has not failed.
        cause = getattr(reason, "exc", None)
        if isinstance(cause, BaseException):
            _note(sender, cause)

    def _task_ends(self, task: Task, **_: object) -> None:
        execution: _Execution | None = task.request.__dict__.pop(_EXECUTION, None)
        if execution is None:
            return
        # If the worker ends inside the task, no other signal has said so.
        error = sys.exception()
        if execution.scope.error is not None or error is execution.handling:
            error = None
        execution.scope.__exit__(type(error) if error is not None else None, error, None)


def instrument(app: Celery, container: Container, *, env_file: EnvFile | None = None) -> CeleryObservability:
    """
    Make each execution of an application's tasks a run; call it right after making the application.

    The exporters open in each process that executes tasks when it starts, and are drained when it ends, before the
    application's own receivers of `worker_process_shutdown` are called. A run continues
    the trace of the task's sender; a task that is sent inside a run carries the run's trace and ids in its headers.
    Each try of a retried task is a run of its own, in the same trace.

    A worker whose pool is not supported (gevent, eventlet), or whose required exporters do not open, does not start.

    Args:
        app: The application.
        container: An `ObservabilityContainer`.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(app, "a Celery application", "register_task")
    read_env_file(container, env_file)
    observability = CeleryObservability(app, container)
    observability.connect()
    return observability


def _pool(given: object) -> type:
    """Return the class of a worker's pool, which the command line gives as a class and other callers by name."""
    pool = _POOLS.get(given) if isinstance(given, str) else given
    if isinstance(pool, type) and issubclass(pool, tuple(_POOLS.values())):
        return pool
    name = (
        given
        if isinstance(given, str)
        else f"{getattr(given, '__module__', '')}.{getattr(given, '__qualname__', given)}"
    )
    raise UnsupportedPoolError("Celery", name, sorted(_POOLS))


def _note(task: Task, error: BaseException) -> None:
    execution: _Execution | None = getattr(task.request, _EXECUTION, None)
    if execution is not None:
        execution.scope.error = error


def _metadata(request: Any, task_id: str) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38; the last one is Celery's own.
    metadata: dict[str, object] = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.message.id": task_id,
    }
    if destination := (request.delivery_info or {}).get("routing_key"):
        metadata["messaging.destination.name"] = destination
    if request.retries:
        metadata["celery.retries"] = request.retries
    return metadata
