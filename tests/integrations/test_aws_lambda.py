"""AWS Lambda: each invocation is a run, delivered when the handler returns."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability import SpanExporter, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError
from nat_observability.events import Status
from nat_observability.integrations.aws_lambda import instrument
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.settings import ObservabilitySettings
from tests.integrations.workers import observed

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
BAGGAGE = "user.id=u-1,session.id=c-1,tenant=acme"
HEADERS = {"traceparent": TRACEPARENT, "baggage": BAGGAGE}


def context(left_ms: int = 3000, **attributes: Any) -> Any:
    """What Lambda passes beside the event."""
    return SimpleNamespace(
        function_name="shop",
        aws_request_id="r-1",
        invoked_function_arn="arn:aws:lambda:eu:1:function:shop",
        get_remaining_time_in_millis=lambda: left_ms,
        client_context=None,
        **attributes,
    )


def queued(*headers: dict[str, str]) -> dict[str, Any]:
    """An event of SQS, with the attributes of each message."""
    return {
        "Records": [
            {
                "eventSource": "aws:sqs",
                "messageAttributes": {
                    name: {"dataType": "String", "stringValue": value} for name, value in each.items()
                },
            }
            for each in headers
        ]
    }


def notified(headers: dict[str, str]) -> dict[str, Any]:
    """An event of SNS."""
    attributes = {name: {"Type": "String", "Value": value} for name, value in headers.items()}
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageAttributes": attributes}}]}


def test_an_invocation_is_delivered_when_it_returns() -> None:
    """Lambda may freeze the process then. The second invocation is not a cold start."""
    worker = observed()

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        with step("tool", "brew", input=event["body"]):
            return {"statusCode": 200}

    handler = instrument(handler, worker.container)
    with ProcessScope(worker.container, "the test"):  # a process of Lambda is never shut down
        for number in (1, 2):
            assert handler({"body": "tea", "requestContext": {}}, context()) == {"statusCode": 200}
            assert len(worker.spans("shop")) == len(worker.spans("brew")) == number
    cold, warm = worker.spans("shop")
    metadata = [json.loads(bytes(span.metadata or b"")) for span in (cold, warm)]
    assert metadata[0] == {
        "faas.coldstart": True,
        "faas.invocation_id": "r-1",
        "cloud.resource_id": "arn:aws:lambda:eu:1:function:shop",
        "faas.trigger": "http",
    }
    assert metadata[1]["faas.coldstart"] is False
    assert worker.spans("brew")[0].parent_id == cold.span_id


@pytest.mark.parametrize(
    "event",
    [
        {"headers": {"Traceparent": TRACEPARENT, "Baggage": BAGGAGE}, "requestContext": {}},
        {"multiValueHeaders": {"traceparent": [TRACEPARENT], "baggage": BAGGAGE.split(",")}},
        queued(HEADERS),
        queued(HEADERS, HEADERS),
        notified(HEADERS),
        "client context",
    ],
    ids=["http", "balancer", "queue", "batch", "topic", "invoke"],
)
def test_the_senders_trace_goes_on(event: Any) -> None:
    """With its conversation, user and tags, from whatever brings the event. Nothing of it if it is not trusted."""
    worker = observed(ObservabilitySettings(propagate_tags=["tenant"]))
    custom = context()
    if isinstance(event, str):
        custom.client_context = SimpleNamespace(custom=HEADERS)
    with ProcessScope(worker.container, "the test"):
        instrument(lambda event, context: None, worker.container)(event, custom)
        instrument(lambda event, context: None, worker.container, trusted=False)(event, custom)
    trusted, other = worker.spans("shop")
    assert (trusted.parent_id, trusted.run.trace_id) == (SPAN, TRACE)
    assert (trusted.run.user_id, trusted.run.conversation_id) == ("u-1", "c-1")
    assert trusted.run.tags == (("tenant", "acme"),)
    assert (other.parent_id, other.run.user_id, other.run.tags) == (None, None, ())


@pytest.mark.parametrize(
    "event",
    [
        queued(HEADERS, {}),
        queued({"traceparent": "00-zz-01"}),
        {"Records": [None, 3]},
        {"Records": []},
        {"headers": None, "multiValueHeaders": {"traceparent": None}},
        {"headers": {"traceparent": 7}},
        [1, 2],
        None,
        7,
    ],
)
def test_any_other_event_starts_a_new_trace(event: Any) -> None:
    """Several senders, malformed headers, anything that JSON has; without a context of Lambda too."""
    worker = observed()
    with ProcessScope(worker.container, "the test"):
        assert instrument(lambda event, context: event, worker.container)(event, None) == event
    assert worker.span("invocation").parent_id is None


def raises(event: Any, context: Any) -> Any:
    """Raise."""
    raise LookupError("no tea")


def answers_500(event: Any, context: Any) -> Any:
    """Answer that the service has failed."""
    return {"statusCode": 503}


@pytest.mark.parametrize(("handler", "error"), [(raises, "no tea"), (answers_500, "503")])
def test_a_failure_ends_the_step_and_is_delivered(handler: Callable[..., Any], error: str) -> None:
    """Whether the handler raises, or says so in its answer."""
    worker = observed()
    observing = instrument(handler, worker.container)
    with ProcessScope(worker.container, "the test"):
        try:
            observing({}, context())
        except LookupError:
            assert handler is raises
        span = worker.span("shop")
    assert span.status is Status.ERROR
    assert span.error is not None
    assert error in span.error.message


async def test_a_coroutine_function_is_awaited() -> None:
    """For adapters that have a loop."""
    worker = observed()

    @lambda handler: instrument(handler, worker.container)
    async def handler(event: Any, context: Any) -> int:
        await asyncio.sleep(0)
        return 1

    async with ProcessScope(worker.container, "the test"):
        assert await handler({}, context()) == 1
        assert worker.span("shop").status is Status.OK


def test_a_delivery_that_takes_too_long_is_left_for_the_next() -> None:
    """The invocation returns within its time, and a warning says what is pending; without `flush` it does not wait."""
    going_on = threading.Event()

    def write(batch: Sequence[object]) -> None:
        going_on.wait(10)

    container = ObservabilityContainer()
    container.exporters.override({"slow": SpanExporter(write, name="slow")})
    with ProcessScope(container, "the test"), capture_logs() as lines:
        try:
            instrument(lambda event, context: None, container, flush=False)({}, context())
            assert "invocation_not_delivered" not in [line["event"] for line in lines]
            instrument(lambda event, context: None, container)({}, context(left_ms=250))
        finally:
            going_on.set()
    (line,) = [line for line in lines if line["event"] == "invocation_not_delivered"]
    assert (line["log_level"], line["pending"]) == ("warning", {"slow": 1})


@pytest.mark.parametrize("given", [None, object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """When the handler is made."""
    with pytest.raises(MissingContainerError, match=r"needs an ObservabilityContainer"):
        instrument(raises, given)
