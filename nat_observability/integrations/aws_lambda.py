"""AWS Lambda: each invocation of a handler is a run, delivered before the environment may be frozen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from nat_observability.errors import ServerStatusError, ThreadRefusedError
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunScope, run_scope
from nat_observability.integrations.workers.run_thread import run_loop
from nat_observability.logs import get_logger
from nat_observability.propagation.formats import formats
from nat_observability.run.report import FlushReceipt

__all__ = ["instrument"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_FOR_THE_ANSWER = 0.2  # seconds of an invocation that are left when the delivery has to be over
_log = get_logger()


def instrument(
    handler: HandlerT,
    container: Container,
    *,
    trusted: bool = True,
    flush: bool = True,
    env_file: EnvFile | None = None,
) -> HandlerT:
    """
    Return a handler that makes each invocation a run.

    The first invocation opens the exporters: what was opened earlier would be part of a snapshot. Lambda freezes the
    process as soon as the handler has returned, so what the run has recorded is delivered before, within the
    invocation's time. What is not is delivered during the next invocation.

    The run continues the trace of the HTTP request that API Gateway, a load balancer or a function URL passes on, of
    the message of SQS or SNS whose attributes have `traceparent`, or of the caller that has put it into the client
    context's `custom`. Messages of one batch from several senders start a new trace. An answer with a `statusCode` of
    500 or more is an error.

    Args:
        handler: A handler, a function of event and context; a coroutine function for an adapter that awaits it.
        container: An `ObservabilityContainer`.
        trusted: Whether to believe the event about trace, conversation, user and tags.
        flush: Whether an invocation ends only when its run is delivered. Without it, use `SPOOL=always` or accept that
            what is queued may wait for the next invocation, or for ever.
        env_file: A file with variables, which the environment takes precedence over.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(handler, "a handler of Lambda", "__call__", or_class=True)
    read_env_file(container, env_file)
    process = ProcessScope(container, "instrument()")
    cold = True

    def begin(event: object, context: object) -> RunScope:
        nonlocal cold
        metadata = _metadata(event, context, cold)
        cold = False
        return run_scope(
            container,
            headers=_headers(event, context) if trusted else None,
            job=str(getattr(context, "function_name", None) or "invocation"),
            metadata=metadata,
        )

    @wraps(handler)
    def synchronous(event: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        process.open_now()
        scope = begin(event, context)
        try:
            with scope:
                answer = handler(event, context, *args, **kwargs)
                _note_status(scope, answer)
            return answer
        finally:
            if flush and (timeout := _time_left(context, container)) > 0:
                _note_flush(_flushed(scope, timeout), scope)

    @wraps(handler)
    async def asynchronous(event: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        await process.open()
        scope = begin(event, context)
        try:
            async with scope:
                answer = await handler(event, context, *args, **kwargs)
                _note_status(scope, answer)
            return answer
        finally:
            if flush and (timeout := _time_left(context, container)) > 0:
                _note_flush(await scope.manager.flush(timeout), scope)

    return cast(HandlerT, asynchronous if inspect.iscoroutinefunction(handler) else synchronous)


def _flushed(scope: RunScope, timeout: float) -> FlushReceipt:
    try:
        lease = run_loop()
    except ThreadRefusedError:  # the run has said so
        return FlushReceipt(complete=True, exporters={})
    try:
        return lease.call(scope.manager.flush(timeout))
    finally:
        lease.release()


def _note_flush(receipt: FlushReceipt, scope: RunScope) -> None:
    if not receipt.complete:
        pending = {name: ledger.pending for name, ledger in receipt.exporters.items() if ledger.pending}
        _log.warning("invocation_not_delivered", workflow_run_id=scope.state.run.run_id, pending=pending)


def _time_left(context: object, container: Container) -> float:
    """Return the seconds that the delivery of an invocation may take."""
    most = container.manager_options().shutdown_timeout
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return most if remaining is None else min(most, remaining() / 1000 - _FOR_THE_ANSWER)


def _note_status(scope: RunScope, answer: object) -> None:
    status = answer.get("statusCode") if isinstance(answer, Mapping) else None
    if isinstance(status, int) and status >= 500:
        scope.error = ServerStatusError(status)


def _headers(event: object, context: object) -> list[tuple[object, object]]:
    """Return what the sender of an event says about its trace; nothing if there are several who disagree."""
    if isinstance(event, Mapping):
        records = event.get("Records")
        if isinstance(records, list) and records:
            senders = [_attributes(record) for record in records]
            return senders[0] if all(each == senders[0] for each in senders) else []
        if isinstance(headers := event.get("headers"), Mapping) and headers:
            return list(headers.items())
        if isinstance(headers := event.get("multiValueHeaders"), Mapping):
            return [(name, value) for name, values in headers.items() for value in values or ()]
    custom = getattr(getattr(context, "client_context", None), "custom", None)
    return list(custom.items()) if isinstance(custom, Mapping) else []


def _attributes(record: object) -> list[tuple[object, object]]:
    """Return those attributes of a message of SQS or SNS that are headers of ours."""
    if not isinstance(record, Mapping):
        return []
    notice = record.get("Sns")
    given = (
        notice.get("MessageAttributes") if isinstance(notice, Mapping) else record.get("messageAttributes")
    )
    if not isinstance(given, Mapping):
        return []
    return [
        (name, value.get("stringValue", value.get("Value")))
        for name, value in sorted(given.items())
        if name in formats().read and isinstance(value, Mapping)
    ]


def _metadata(event: object, context: object, cold: bool) -> dict[str, object]:
    # Names of the OpenTelemetry conventions for functions as a service, 1.38.
    known = {
        "faas.invocation_id": getattr(context, "aws_request_id", None),
        "cloud.resource_id": getattr(context, "invoked_function_arn", None),
        "faas.trigger": _trigger(event),
    }
    return {"faas.coldstart": cold, **{name: value for name, value in known.items() if value is not None}}


def _trigger(event: object) -> str:
    if isinstance(event, Mapping):
        if isinstance(event.get("requestContext"), Mapping):
            return "http"
        if isinstance(records := event.get("Records"), list) and records and isinstance(records[0], Mapping):
            source = records[0].get("eventSource", records[0].get("EventSource"))
            return "pubsub" if source in ("aws:sqs", "aws:sns") else "datasource"
        if event.get("source") == "aws.events":
            return "timer"
    return "other"
