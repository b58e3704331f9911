"""
A function of AWS Lambda whose invocations are runs: `examples.aws_lambda.handler.handler` is what Lambda calls.

It takes orders from a queue (SQS), or from HTTP (API Gateway, a function URL). `python -m examples.aws_lambda.handler`
invokes it once, here.
"""

import json
from typing import Any

from nat_observability import ContextState, outgoing_headers, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.aws_lambda import instrument


def handle_order(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the work of one invocation."""
    bodies = (
        [record["body"] for record in event["Records"]] if "Records" in event else [event.get("body", "")]
    )
    for order in bodies:
        with step("tool", "charge", input={"order": order}) as charge:
            charge.output = "paid"
    return {"statusCode": 200, "body": json.dumps({"paid": len(bodies)})}


handler = instrument(handle_order, ObservabilityContainer())


def message(order: str) -> dict[str, Any]:
    """Return a message for `sqs.send_message(QueueUrl=..., **message)`, which carries the current run's trace."""
    attributes = {
        name: {"DataType": "String", "StringValue": value} for name, value in outgoing_headers().items()
    }
    return {"MessageBody": order, "MessageAttributes": attributes}


def received(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the event that SQS makes of it."""
    attributes = {
        name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
        for name, value in sent["MessageAttributes"].items()
    }
    return {"eventSource": "aws:sqs", "body": sent["MessageBody"], "messageAttributes": attributes}


if __name__ == "__main__":
    with ContextState(user_id="somebody").attach(), step("workflow", "order"):
        records = [received(message(order)) for order in ("tea", "milk")]
    print(handler({"Records": records}, None)["body"])
