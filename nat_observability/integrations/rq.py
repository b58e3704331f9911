"""RQ: each execution of a job is a run, in workers that fork, spawn, or do neither."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any, TypeVar

from nat_observability.context import ContextState
from nat_observability.errors import MissingExtraError, UnsupportedPoolError
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, run_scope
from nat_observability.integrations.workers.worker_start import worker_start

try:
    from rq import Queue, SimpleWorker, SpawnWorker
    from rq.job import Job
    from rq.worker import BaseWorker
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.rq", "rq") from error

__all__ = ["instrument", "instrument_queue"]

check_version("rq", at_least="2.6.1", below="4")

QueueT = TypeVar("QueueT", bound=Queue | type[Queue])
WorkerT = TypeVar("WorkerT", bound=BaseWorker | type[BaseWorker])


def instrument(worker: WorkerT, container: Container, *, env_file: EnvFile | None = None) -> WorkerT:
    """
    Make each execution of a worker's jobs a run.

    A work horse, the process that executes one job, opens the exporters when it starts and drains them before it ends.
    A `SimpleWorker` opens them when it starts to work, and drains them before it returns. A run continues the trace of
    the job's sender, if that has an instrumented queue: see `instrument_queue`. Each try of a job is a run of its own,
    in the same trace; what is done at its end, such as the callbacks, belongs to it.

    A worker whose required exporters do not open does not start.

    Args:
        worker: A worker, or a class of workers of your own, as `rq worker --worker-class` is given: its subclasses are
            instrumented too.
        container: An `ObservabilityContainer`.
        env_file: A file with variables, which the environment takes precedence over.

    Returns:
        The worker.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
        UnsupportedPoolError: An instance of `SpawnWorker`, whose processes know its class only.
    """
    check_instrumented(worker, "a worker of RQ or its class", "work", "perform_job", or_class=True)
    read_env_file(container, env_file)
    process = ProcessScope(container, "instrument()")
    if isinstance(worker, SpawnWorker):
        raise UnsupportedPoolError(
            "RQ", "of an instance of SpawnWorker", ["its class, given to instrument()"]
        )

    def work(self: BaseWorker, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with worker_start(plain=True):
            if isinstance(self, SimpleWorker):
                process.open_now()
            elif container.manager_options().required:
                # Each work horse opens its own. This is the last place where a worker can be kept from starting.
                with process:
                    pass
        try:
            return inner(*args, **kwargs)
        finally:
            process.close_now()

    def perform_job(
        self: BaseWorker, inner: Callable[..., Any], job: Job, queue: Queue, *args: Any, **kwargs: Any
    ) -> Any:
        if not self.is_horse:
            return _perform(container, job, queue, lambda: inner(job, queue, *args, **kwargs))
        process.open_now()
        try:
            return _perform(container, job, queue, lambda: inner(job, queue, *args, **kwargs))
        finally:
            # It ends with os._exit(): nothing else drains it.
            process.close_now(whoever_opened=True)

    _wrap(worker, "work", work)
    _wrap(worker, "perform_job", perform_job)
    return worker


def instrument_queue(queue: QueueT) -> QueueT:
    """
    Have the jobs that are put into a queue carry the trace and the ids of the run that sends them, in their `meta`.

    Outside a run nothing is added.

    Args:
        queue: A queue, or a class of queues of your own.

    Returns:
        The queue.
    """

    def create_job(self: Queue, inner: Callable[..., Job], *args: Any, **kwargs: Any) -> Job:
        job = inner(*args, **kwargs)
        if ContextState.current() is not None:
            # Not into the caller's own dict, which may be sent again, in another run.
            job.meta = dict(job.meta)
            write_headers(job.meta)
        return job

    _wrap(queue, "create_job", create_job)
    return queue


def _perform(container: Container, job: Job, queue: Queue, execute: Callable[[], Any]) -> Any:
    name = job.func_name or "job"
    scope = run_scope(container, headers=job.meta, job=name, metadata=_metadata(job, queue))
    perform = job.perform

    def performed() -> Any:
        try:
            return perform()
        except BaseException as error:
            # The worker keeps it to itself.
            scope.error = error
            raise

    with scope:
        job.perform = performed  # type: ignore[method-assign]
        try:
            return execute()
        finally:
            del job.perform


def _wrap(target: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a method of an object or a class by a function that gets the object, the method and its arguments."""
    method = getattr(target, name)

    @wraps(method)
    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = MethodType(method, self) if isinstance(target, type) else method
        return around(self, inner, *args, **kwargs)

    setattr(target, name, replaced if isinstance(target, type) else MethodType(replaced, target))


def _metadata(job: Job, queue: Queue) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38; the last one is RQ's own.
    metadata: dict[str, object] = {
        "messaging.system": "rq",
        "messaging.operation.type": "process",
        "messaging.message.id": job.id,
        "messaging.destination.name": queue.name,
    }
    if (left := job.retries_left) is not None:
        metadata["rq.retries_left"] = left
    return metadata
