"""
A process that records one run with an exporter of the toolkit's, and ends; prints what the ledger says.

A program for an environment that has the toolkit and the packages of these types. Its arguments are one of `TYPES`, the
URL of a server that plays the maker's, and whose manager runs the exporter: "ours" or "theirs".
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nat.builder.context import ContextState as ToolkitState
from nat.builder.workflow_builder import WorkflowBuilder
from nat.data_models.intermediate_step import (
    IntermediateStep,
    IntermediateStepPayload,
    IntermediateStepType,
    StreamEventData,
    TraceMetadata,
)
from nat.data_models.invocation_node import InvocationNode
from nat.observability.exporter_manager import ExporterManager as ToolkitManager

from nat_observability import ExporterManager
from nat_observability.integrations.nat import close_deliveries, ledger_of

STEPS = 1000


@asynccontextmanager
async def weave(url: str) -> AsyncIterator[Any]:
    """W&B's own client, which asks two servers: that of accounts, over GraphQL, and that of traces."""
    os.environ.update(
        WANDB_API_KEY="0" * 40,  # then nobody is asked to log in
        WANDB_BASE_URL=url,
        WF_TRACE_SERVER_URL=url,
        WANDB_ERROR_REPORTING="false",
        WEAVE_PRINT_CALL_LINK="false",
    )
    from nat.plugins.weave.register import WeaveTelemetryExporter, weave_telemetry_exporter

    async with weave_telemetry_exporter(WeaveTelemetryExporter(entity="e", project="p"), None) as exporter:
        yield exporter


@asynccontextmanager
async def a365(url: str) -> AsyncIterator[Any]:
    """Agent 365, with a token of one of the toolkit's own providers."""
    os.environ["A365_OBSERVABILITY_DOMAIN_OVERRIDE"] = url
    from nat.authentication import register as _register  # noqa: F401
    from nat.authentication.api_key.api_key_auth_provider_config import APIKeyAuthProviderConfig
    from nat.plugins.a365.telemetry.register import A365TelemetryExporter, a365_telemetry_exporter

    async with WorkflowBuilder() as builder:
        await builder.add_auth_provider("token", APIKeyAuthProviderConfig(raw_key="not-a-secret"))
        config = A365TelemetryExporter(agent_id="agent", tenant_id="tenant", token_resolver="token")
        async with a365_telemetry_exporter(config, builder) as exporter:
            yield exporter


@asynccontextmanager
async def data_flywheel(url: str) -> AsyncIterator[Any]:
    """The records of model calls, in Elasticsearch."""
    from nat.plugins.data_flywheel.observability import register

    config = register.DFWElasticsearchTelemetryExporter(
        client_id="c", index="i", endpoint=url, headers={"authorization": "ApiKey none"}
    )
    async with register.dfw_elasticsearch_telemetry_exporter(config, None) as exporter:
        yield exporter


TYPES: dict[str, Callable[[str], Any]] = {
    "a365": a365,
    "data_flywheel_elasticsearch": data_flywheel,
    "weave": weave,
}


def event(kind: IntermediateStepType, number: int) -> Any:
    """One boundary of a model's call."""
    spoken = TraceMetadata(
        chat_inputs=[{"type": "human", "content": "Which tea?"}],
        chat_responses=[
            {
                "message": {
                    "content": "green",
                    "response_metadata": {"finish_reason": "stop", "model_name": "m"},
                }
            }
        ],
    )
    return IntermediateStep(
        parent_id="root",
        function_ancestry=InvocationNode(function_name="f", function_id="f"),
        payload=IntermediateStepPayload(
            event_type=kind,
            UUID=str(number),
            name="tea-model",
            framework="langchain",
            data=StreamEventData(input="x", output="y"),
            metadata=spoken,
        ),
    )


async def run(kind: str, url: str, manager: Any) -> Any:
    """Record the run, which is over before any could be exported."""
    async with TYPES[kind](url) as exporter:
        state = ToolkitState.get()
        async with manager.from_exporters({kind: exporter}).get().start(state):
            stream = state.event_stream.get()
            for number in range(STEPS):
                stream.on_next(event(IntermediateStepType.LLM_START, number))
                stream.on_next(event(IntermediateStepType.LLM_END, number))
        return exporter


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    whose = ExporterManager if sys.argv[3] == "ours" else ToolkitManager
    ran = asyncio.run(run(sys.argv[1], sys.argv[2], whose))
    closed, ledger = close_deliveries(60), ledger_of(ran)
    fields = () if ledger is None else ("accepted", "delivered", "failed", "dropped", "pending")
    told = {name: getattr(ledger, name) for name in fields}
    sys.stdout.write("\n" + json.dumps({"closed": closed, **told}))
