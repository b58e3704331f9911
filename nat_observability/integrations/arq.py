"""arq: each execution of a job is a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import wraps
from pickle import dumps, loads
from typing import Any

from nat_observability.context import outgoing_headers
from nat_observability.errors import MissingExtraError
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, run_scope
from nat_observability.integrations.workers.worker_start import worker_start

try:
    from arq import ArqRedis, Retry, Worker, func
    from arq.worker import RetryJob
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.arq", "arq") from error

__all__ = ["instrument", "instrument_pool"]

check_version("arq", at_least="0.25", below="1")

# A member of the job beside arq's own, which a worker that does not know it ignores.
_HEADERS = "nat_observability"

# arq reads a job in the task that executes it.
_received: ContextVar[Mapping[str, object] | None] = ContextVar("nat_observability_arq_headers", default=None)


def instrument(
    worker: Any, container: Container, *, around: bool = True, env_file: EnvFile | None = None
) -> None:
    """
    Make each execution of a worker's jobs a run.

    The exporters open when the worker starts, and are drained when it shuts down, before its connections to Redis are
    closed. A run continues the trace of the job's sender; a job that is sent inside a run carries the run's trace and
    ids, if what sends it is known: `ctx["redis"]` is, for others see `instrument_pool`. Each try of a job is a run of
    its own, in the same trace.

    A worker whose required exporters do not open does not start.

    Args:
        worker: What the command `arq` is given, a class or a dict of settings, once it has its functions; or a
            `Worker`.
        container: An `ObservabilityContainer`.
        around: Whether the exporters are opened before the worker's `on_startup`, and drained after its `on_shutdown`.
            With False they are opened after the former, and drained before the latter: for exporters that need
            something that these open and close, such as a pool.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    if not isinstance(worker, dict):
        check_instrumented(worker, "settings or a Worker of arq", "__dict__", or_class=True)
    read_env_file(container, env_file)
    process = ProcessScope(container, "instrument()")
    settings = worker if isinstance(worker, dict) else dict(vars(worker))
    on_startup, on_shutdown = settings.get("on_startup"), settings.get("on_shutdown")

    async def opens() -> None:
        with worker_start():
            await process.open()

    async def starts(ctx: dict[Any, Any]) -> None:
        instrument_pool(ctx["redis"])
        if around:
            await opens()
        if on_startup is not None:
            await on_startup(ctx)
        if not around:
            await opens()

    async def ends(ctx: dict[Any, Any]) -> None:
        try:
            if not around:
                await process.close()
            if on_shutdown is not None:
                await on_shutdown(ctx)
        finally:
            await process.close()

    changed: dict[str, Any] = {
        "on_startup": starts,
        "on_shutdown": ends,
        "job_serializer": _serializer(settings.get("job_serializer")),
        "job_deserializer": _deserializer(settings.get("job_deserializer")),
    }
    if isinstance(worker, Worker):
        for job in {id(each): each for each in [*worker.functions.values(), *worker.cron_jobs]}.values():
            job.coroutine = _observed(job, container)
    else:
        jobs = [func(each) for each in settings.get("functions", ())]
        crons = settings.get("cron_jobs") or ()
        changed["functions"] = [replace(job, coroutine=_observed(job, container)) for job in jobs]
        changed["cron_jobs"] = [replace(job, coroutine=_observed(job, container)) for job in crons]
    if isinstance(worker, dict):
        worker.update(changed)
    else:
        for name, value in changed.items():
            setattr(worker, name, value)


def instrument_pool(pool: ArqRedis) -> ArqRedis:
    """
    Have the jobs that are sent through a pool carry the trace and the ids of the run that sends them; return the pool.

    Outside a run nothing is added. A worker without an integration executes such jobs as any others.
    """
    pool.job_serializer = _serializer(pool.job_serializer)
    return pool


class _Serializer:
    """Adds the headers of the current run to the jobs that are sent."""

    def __init__(self, inner: Callable[[dict[str, Any]], bytes]) -> None:
        self._inner = inner

    def __call__(self, message: dict[str, Any]) -> bytes:
        # Results come here as well.
        if "r" not in message and (headers := outgoing_headers()):
            message = {**message, _HEADERS: headers}
        return self._inner(message)


def _serializer(given: Callable[[dict[str, Any]], bytes] | None) -> _Serializer:
    return given if isinstance(given, _Serializer) else _Serializer(given or dumps)


def _deserializer(given: Callable[[bytes], dict[str, Any]] | None) -> Callable[[bytes], dict[str, Any]]:
    inner = given or loads  # as arq itself does

    def deserialize(data: bytes) -> dict[str, Any]:
        message: dict[str, Any] = inner(data)
        headers = message.get(_HEADERS)
        _received.set(headers if isinstance(headers, Mapping) else None)
        return message

    return deserialize


def _observed(job: Any, container: Container) -> Callable[..., Any]:
    """Return the coroutine function of a job, each call of which is a run."""
    coroutine, name = job.coroutine, job.name

    @wraps(coroutine)
    async def observed(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        again: BaseException
        scope = run_scope(container, headers=_received.get(), job=name, metadata=_metadata(ctx))
        async with scope:
            try:
                return await coroutine(ctx, *args, **kwargs)
            except (Retry, RetryJob) as error:
                # A job that asks for a retry without an exception has not failed.
                scope.error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
                again = error
        try:
            raise again
        finally:
            del again  # its traceback holds this frame

    return observed


def _metadata(ctx: Mapping[Any, Any]) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38; the last one is arq's own.
    metadata: dict[str, object] = {
        "messaging.system": "arq",
        "messaging.operation.type": "process",
        "messaging.message.id": ctx.get("job_id"),
    }
    if (tries := ctx.get("job_try", 1)) > 1:
        metadata["arq.job_try"] = tries
    return metadata
