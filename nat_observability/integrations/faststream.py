"""FastStream: each message that a subscriber handles is a run, for every broker that FastStream supports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nat_observability.context import ContextState
from nat_observability.errors import MissingExtraError
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunScope, run_scope
from nat_observability.integrations.workers.worker_start import worker_start
from nat_observability.propagation.formats import formats

try:
    from faststream import BaseMiddleware, FastStream
    from faststream.exceptions import AckMessage, SkipMessage, StopApplication, StopConsume
except ImportError as error:
    raise MissingExtraError("nat_observability.integrations.faststream", "faststream") from error

if TYPE_CHECKING:
    from faststream import ContextRepo
    from faststream.message import StreamMessage
    from faststream.response import PublishCommand

__all__ = ["MessageMiddleware", "instrument"]

check_version("faststream", at_least="0.7.0", below="1")

# What a handler raises to decide the message's fate, and not because something went wrong.
_NO_ERRORS = (AckMessage, SkipMessage, StopApplication, StopConsume)


class MessageMiddleware:
    """
    A middleware for a broker: `NatsBroker(middlewares=[MessageMiddleware(container)])`.

    What a handler records, what it publishes and its reply belong to one run, which ends when the message is processed.
    The run continues the trace of the message's sender; what is published inside a run, in a handler or anywhere else,
    carries that run's trace and ids in its headers.

    Use `instrument` if there is a FastStream application: it also opens the exporters and drains them. With the
    middleware alone, the application has to do that, with `await container.init_resources()` for example. If it has not
    by the first message, the middleware opens them, and the interpreter's exit drains them.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """

    def __init__(self, container: Container) -> None:
        self.container = container
        self.process = ProcessScope(container, "MessageMiddleware")

    def __call__(self, msg: Any, /, *, context: ContextRepo) -> _MessageScope:
        return _MessageScope(msg, context=context, owner=self)


class _MessageScope(BaseMiddleware[Any, Any]):
    """What `MessageMiddleware` does with one message."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, owner: MessageMiddleware) -> None:
        super().__init__(msg, context=context)
        self._owner = owner
        self._scope: RunScope | None = None

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        name = _handler_name(self.context)
        await self._owner.process.open()
        scope = run_scope(self._owner.container, headers=_headers(msg), job=name, metadata=_metadata(msg))
        await scope.__aenter__()
        self._scope = scope
        try:
            return await call_next(msg)
        except _NO_ERRORS:
            raise
        except BaseException as error:
            # Kept for the end of the step: until then another middleware may have replaced it.
            scope.error = error
            raise

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        scope, self._scope = self._scope, None
        if scope is not None:
            if isinstance(exc_val, _NO_ERRORS):
                exc_type = exc_val = exc_tb = None
            await scope.__aexit__(exc_type, exc_val, exc_tb)
        return False

    async def publish_scope(
        self, call_next: Callable[[PublishCommand], Awaitable[Any]], cmd: PublishCommand
    ) -> Any:
        if ContextState.current() is not None:
            # Not into the caller's own dict, which may be sent again, in another run.
            cmd.headers = dict(cmd.headers or {})
            write_headers(cmd.headers)
        return await call_next(cmd)


def instrument(
    app: FastStream, container: Container, *, around: bool = True, env_file: EnvFile | None = None
) -> MessageMiddleware:
    """
    Give every broker of an application the middleware; open the exporters before it starts, drain them after it stops.

    Call it after the application's brokers were added, before it runs.

    Args:
        app: The application, with its hooks; what is added later comes later.
        container: An `ObservabilityContainer`.
        around: Whether the exporters are opened before the application's own lifespan and hooks, and drained after
            them. With False they are opened after the application's `on_startup`, and drained as soon as its brokers
            have stopped, before its `after_shutdown` hooks: for exporters that need something that the application
            opens and closes there or in its lifespan, such as its pool.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        ValueError: The application has no broker yet.
    """
    check_instrumented(app, "a FastStream application", "brokers", "lifespan_context")
    read_env_file(container, env_file)
    middleware = MessageMiddleware(container)
    if not app.brokers:
        raise ValueError("The application has no broker. Call instrument() after app.add_broker().")
    for broker in app.brokers:
        # The outermost, so that the run exists before the others' scopes and outlives them.
        broker.insert_middleware(middleware)

    process, entered, inside = middleware.process, app.lifespan_context, False

    async def open_exporters() -> None:
        with worker_start():
            await process.open()

    @asynccontextmanager
    async def lifespan(*args: Any, **kwargs: Any) -> AsyncIterator[None]:
        nonlocal inside
        await open_exporters()
        inside = True
        try:
            async with entered(*args, **kwargs):
                yield
        finally:
            inside = False
            await process.close()

    async def drain_exporters() -> None:
        if not inside:  # otherwise the application's own lifespan has not ended yet
            await process.close()

    if around:
        app.lifespan_context = lifespan
        # A start without a lifespan, as in `async with app`.
        app.on_startup(open_exporters)
        _first(app._on_startup_calling)
        app.after_shutdown(drain_exporters)
    else:
        app.after_startup(open_exporters)
        _first(app._after_startup_calling)
        app.after_shutdown(drain_exporters)
        _first(app._after_shutdown_calling)
    return middleware


def _first(hooks: list[Any]) -> None:
    hooks.insert(0, hooks.pop())


def _handler_name(context: ContextRepo) -> str:
    subscriber = context.get_local("handler_")
    specification = getattr(subscriber, "specification", None)
    return str(getattr(specification, "call_name", None) or "message")


def _headers(msg: StreamMessage[Any]) -> Mapping[str, object] | None:
    # The messages of one batch may come from several traces: the run belongs to a sender only if there is just one.
    read = formats().read
    batch = [tuple(each.get(name) for name in read) for each in msg.batch_headers]
    return None if len(set(batch)) > 1 else msg.headers


def _metadata(msg: StreamMessage[Any]) -> dict[str, object]:
    # Names of the OpenTelemetry messaging conventions, 1.38.
    module = type(msg).__module__.split(".")
    known = {
        "messaging.system": module[1] if module[0] == "faststream" else None,
        "messaging.operation.type": "process",
        "messaging.destination.name": _destination(msg.raw_message),
        "messaging.message.id": msg.message_id,
        "messaging.message.conversation_id": msg.correlation_id,
        "messaging.batch.message_count": len(msg.batch_headers) or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _destination(raw: Any) -> object:
    """Return where a broker's own message came from, or None if that is not known."""
    first = raw[0] if isinstance(raw, list | tuple) and raw else raw
    if isinstance(first, Mapping):  # redis
        return first.get("channel") or first.get("list") or first.get("stream")
    named = (getattr(first, name, None) for name in ("subject", "routing_key", "topic"))
    return next((each for each in named if isinstance(each, str)), None)
