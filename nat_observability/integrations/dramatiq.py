"""Dramatiq: each execution of a message is a run, in threads and for asynchronous actors."""

from __future__ import annotations

import threading
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
    from dramatiq import Broker, Message, Middleware
    from dramatiq.broker import MessageProxy
    from dramatiq.errors import RateLimitExceeded, Retry
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.dramatiq", "dramatiq") from error

__all__ = ["MessageMiddleware", "instrument"]

check_version("dramatiq", at_least="2.0", below="3")


class MessageMiddleware(Middleware):
    """
    A middleware for a broker: what an actor records and sends, and what later middlewares do, belongs to one run.

    A run continues the trace of the message's sender; a message that is sent inside a run carries the run's trace and
    ids in its options. Each try of a retried message is a run of its own, below the one that failed.

    `instrument` puts it before the others, and opens the exporters; with the middleware alone, each run opens what it
    needs.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self.process = ProcessScope(container, type(self).__name__)
        self._thread = threading.local()  # a thread sends, or executes, one message at a time

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Put the current run's trace and ids into the options."""
        self._thread.given = None
        if ContextState.current() is not None:
            self._thread.given = message, dict(message.options)
            write_headers(message.options)

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Take them out again: the caller may send the message once more, in another run."""
        sent, given = self._thread.given or (None, {})
        if sent is message:
            message.options.clear()
            message.options.update(given)
        self._thread.given = None

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin the run."""
        scope = run_scope(
            self._container, headers=message.options, job=message.actor_name, metadata=_metadata(message)
        )
        scope.__enter__()
        self._thread.scope = scope

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """End the run."""
        self._end(_failure(exception))

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End the run of a message that another middleware, or the actor, has skipped."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        scope: RunScope | None = self._thread.__dict__.pop("scope", None)
        if scope is not None:
            scope.__exit__(type(error) if error is not None else None, error, None)


class ProcessMiddleware(Middleware):
    """Opens the exporters before a worker's threads start, and drains them when those have ended."""

    def __init__(self, process: ProcessScope) -> None:
        self._process = process

    def before_worker_boot(self, broker: Broker, worker: object) -> None:
        """Open the exporters."""
        with worker_start(plain=True):
            self._process.open_now()

    def after_worker_shutdown(self, broker: Broker, worker: object) -> None:
        """Write what is queued and close the exporters, within the shutdown timeout."""
        self._process.close_now()


def instrument(
    broker: Broker, container: Container, *, around: bool = True, env_file: EnvFile | None = None
) -> MessageMiddleware:
    """
    Make each execution of a broker's messages a run: gives the broker a `MessageMiddleware`, before its others.

    A worker whose required exporters do not open does not start.

    Args:
        broker: The broker, with its middlewares.
        container: An `ObservabilityContainer`.
        around: Whether the exporters are opened before the broker's middlewares hear that a worker starts, and drained
            after they hear that it has ended. With False they are opened after them, and drained before them: for
            exporters that need something that these open and close, such as a pool. Of middlewares that are added
            later, it is the other way round.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(broker, "a Dramatiq broker", "add_middleware")
    read_env_file(container, env_file)
    messages = MessageMiddleware(container)
    processes = ProcessMiddleware(messages.process)
    # What ends comes to the middlewares in the opposite order.
    for middleware, first in ((processes, around), (messages, True)):
        broker.add_middleware(middleware)
        if first:
            broker.middleware.insert(0, broker.middleware.pop())
    return messages


def _failure(raised: BaseException | None) -> BaseException | None:
    """Return what went wrong, if anything did: asking for another try alone is not a failure."""
    if isinstance(raised, Retry | RateLimitExceeded):
        return raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    return raised


def _metadata(message: MessageProxy) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38; the last one is Dramatiq's own.
    metadata: dict[str, object] = {
        "messaging.system": "dramatiq",
        "messaging.operation.type": "process",
        "messaging.message.id": message.message_id,
        "messaging.destination.name": message.queue_name,
    }
    if retries := message.options.get("retries"):
        metadata["dramatiq.retries"] = retries
    return metadata
