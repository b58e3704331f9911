"""
One instrumentation's spans, sent by the SDK's OTLP exporter and through a run, to one receiver; what differs, as JSON.

A program for the environment that `make .venv-instrumentations/.installed` builds; its argument is one of `SCENARIOS`.
Every model, cache and service is a server of this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from nat_observability import ContextState, ExporterManager, SpanExporter, step
from nat_observability.integrations.opentelemetry import StepSpanProcessor
from nat_observability.sinks.otlp.http import OtlpHttpSink

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.integrations import bridged_clients, bridged_frameworks, bridged_services
from tests.integrations.bridged_scenarios import PROCESSORS, Scenarios
from tests.integrations.bridged_server import ASKED, TOOL, Cache, received, serving
from tests.integrations.otlp_comparison import Seen

# So that there is content to lose.
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental,http"
os.environ["OPENAI_API_KEY"] = os.environ["ANTHROPIC_API_KEY"] = "none"
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "0"
# Nobody is asked for prices, and nobody is told of the call.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

# -- Scenarios: each instruments, and makes spans inside a run --------------------------------------------------------


async def openai_calls(url: str) -> None:
    """A call, one with a tool, embeddings if they work, and one that fails."""
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", max_retries=0) as client:
        await client.chat.completions.create(model="tea-model", messages=ASKED, temperature=0.2, seed=7)
        await client.chat.completions.create(model="tea-model", messages=ASKED, tools=[TOOL])
        with suppress(openai.NotFoundError):
            await client.chat.completions.create(model="broken", messages=ASKED)


async def anthropic_calls(url: str) -> None:
    """A call and one that fails."""
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=url, max_retries=0) as client:
        asked: Any = [{"role": "user", "content": "Which tea?"}]
        await client.messages.create(model="claude-tea", max_tokens=9, messages=asked, system="Be brief.")
        with suppress(anthropic.NotFoundError):
            await client.messages.create(model="broken", max_tokens=9, messages=asked)


async def langchain_calls(url: str) -> None:
    """A chain of a retriever, a model and a tool."""
    from langchain_core.documents import Document
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableLambda
    from langchain_core.tools import tool

    class Leaves(BaseRetriever):
        """Finds two documents."""

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("green", metadata={"score": 0.5}), Document(query)]

    @tool
    def brew(leaf: str) -> str:
        """Brew a leaf."""
        return f"hot {leaf}"

    def broken(_: object) -> str:
        raise ValueError("no tea")

    chain = (
        Leaves() | RunnableLambda(str) | FakeListChatModel(responses=["green"]) | RunnableLambda(str) | brew
    )
    await chain.ainvoke("tea", {"metadata": {"team": "tea"}, "tags": ["x"]})
    with suppress(ValueError):
        await RunnableLambda(broken).ainvoke("tea")


async def httpx_calls(url: str) -> None:
    """One that works and one that does not."""
    import httpx

    async with httpx.AsyncClient() as client:
        await client.get(f"{url}/up?q=1")
        await client.get(f"{url}/missing")
        with suppress(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")


async def grpc_calls(_: str) -> None:
    """A call and its handling, one that fails, and a stream."""
    import grpc

    def fail(_: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no tea")
        return b""

    handlers: Any = {
        "Brew": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Stream": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request, request])),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Tea", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def call() -> None:
        opened: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
        with opened as channel:
            channel.unary_unary("/Tea/Brew")(b"x")
            with suppress(grpc.RpcError):
                channel.unary_unary("/Tea/Fail")(b"x")
            list(channel.unary_stream("/Tea/Stream")(b"x"))

    await asyncio.to_thread(call)
    await asyncio.to_thread(server.stop(None).wait)


async def sqlalchemy_calls(_: str) -> None:
    """Statements of two connections, one of which fails."""
    import sqlalchemy
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(":memory:"))
    SQLAlchemyInstrumentor().instrument(
        engine=engine, tracer_provider=trace.get_tracer_provider(), skip_dep_check=True
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE tea (leaf TEXT)"))
        connection.execute(sqlalchemy.text("INSERT INTO tea VALUES (:leaf)"), [{"leaf": "a"}, {"leaf": "b"}])
        with suppress(sqlalchemy.exc.OperationalError):
            connection.execute(sqlalchemy.text("SELECT * FROM coffee"))


async def redis_calls(_: str) -> None:
    """Commands, a pipeline, and one that fails."""
    import redis

    with ThreadingTCPServer(("127.0.0.1", 0), Cache) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        client: Any = redis.Redis(port=server.server_address[1], protocol=2)
        client.set("tea", "green")
        with suppress(redis.ResponseError):
            client.get("broken")
        client.pipeline(transaction=False).set("a", 1).get("a").execute()
        client.close()
        server.shutdown()
        serving.join()


async def util_genai_calls(_: str) -> None:
    """What instrumentations that are built on it record."""
    from opentelemetry.util.genai.handler import TelemetryHandler
    from opentelemetry.util.genai.types import InputMessage, OutputMessage, Text

    handler = TelemetryHandler(tracer_provider=trace.get_tracer_provider())
    with handler.inference("openai", request_model="tea-model") as call:
        call.input_messages = [InputMessage(role="user", parts=[Text(content="Which tea?")])]
        call.output_messages = [OutputMessage(role="assistant", parts=[Text("green")], finish_reason="stop")]
        call.input_tokens, call.output_tokens = 7, 3
        call.attributes = {"extra": 1, "many": ("a", "b")}
    with handler.tool("brew"):
        pass
    with suppress(ValueError), handler.workflow(name="tea"):
        raise ValueError("no tea")


async def pydantic_ai_calls(url: str) -> None:
    """An agent with a tool."""
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings, InstrumentedModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    settings = InstrumentationSettings(tracer_provider=trace.get_tracer_provider())
    model = OpenAIChatModel("tea-model", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    agent = Agent(InstrumentedModel(model, settings), system_prompt="Be brief.", name="tea agent")

    @agent.tool_plain
    def brew(leaf: str) -> str:
        """Brew a leaf."""
        return f"hot {leaf}"

    await agent.run("Which tea?")


async def openai_agents_calls(url: str) -> None:
    """An agent with a tool."""
    import agents
    import openai

    @agents.function_tool
    def brew(leaf: str) -> str:
        """Brew a leaf."""
        return f"hot {leaf}"

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", max_retries=0) as client:
        model = agents.OpenAIChatCompletionsModel("tea-model", client)
        agent = agents.Agent(name="tea agent", instructions="Be brief.", model=model, tools=[brew])
        await agents.Runner.run(agent, "Which tea?")


async def google_adk_calls(_: str) -> None:
    """An agent with a tool, and a model of our own."""
    from google.adk.agents import LlmAgent
    from google.adk.models import BaseLlm, LlmResponse
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    class Model(BaseLlm):
        """Calls the tool, and then answers."""

        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            done = any(part.function_response for each in llm_request.contents for part in each.parts or ())
            call = types.FunctionCall(name="brew", args={"leaf": "green"})
            part = types.Part(text="green tea") if done else types.Part(function_call=call)
            usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=7, candidates_token_count=3)
            yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=usage)

    def brew(leaf: str) -> str:
        """Brew a leaf."""
        return f"hot {leaf}"

    runner = InMemoryRunner(
        LlmAgent(name="tea_agent", model=Model(model="tea-model"), tools=[brew]), app_name="tea"
    )
    session = await runner.session_service.create_session(app_name="tea", user_id="u")
    asked = types.Content(role="user", parts=[types.Part(text="Which tea?")])
    async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=asked):
        pass


SCENARIOS: Scenarios = {
    "openinference-openai": (openai_calls, "openinference.instrumentation.openai", ("OpenAIInstrumentor",)),
    "openllmetry-openai": (openai_calls, "opentelemetry.instrumentation.openai", ("OpenAIInstrumentor",)),
    "opentelemetry-openai": (
        openai_calls,
        "opentelemetry.instrumentation.genai.openai",
        ("OpenAIInstrumentor",),
    ),
    "openinference-anthropic": (
        anthropic_calls,
        "openinference.instrumentation.anthropic",
        ("AnthropicInstrumentor",),
    ),
    "openllmetry-anthropic": (
        anthropic_calls,
        "opentelemetry.instrumentation.anthropic",
        ("AnthropicInstrumentor",),
    ),
    "opentelemetry-anthropic": (
        anthropic_calls,
        "opentelemetry.instrumentation.genai.anthropic",
        ("AnthropicInstrumentor",),
    ),
    "openinference-langchain": (
        langchain_calls,
        "openinference.instrumentation.langchain",
        ("LangChainInstrumentor",),
    ),
    "openllmetry-langchain": (
        langchain_calls,
        "opentelemetry.instrumentation.langchain",
        ("LangchainInstrumentor",),
    ),
    "opentelemetry-langchain": (
        langchain_calls,
        "opentelemetry.instrumentation.genai.langchain",
        ("LangChainInstrumentor",),
    ),
    "httpx": (httpx_calls, "opentelemetry.instrumentation.httpx", ("HTTPXClientInstrumentor",)),
    "grpc": (
        grpc_calls,
        "opentelemetry.instrumentation.grpc",
        ("GrpcInstrumentorServer", "GrpcInstrumentorClient"),
    ),
    "sqlalchemy": (sqlalchemy_calls, "", ()),
    "redis": (redis_calls, "opentelemetry.instrumentation.redis", ("RedisInstrumentor",)),
    "util-genai": (util_genai_calls, "", ()),
    "pydantic-ai": (pydantic_ai_calls, "", ()),
    "openinference-openai-agents": (
        openai_agents_calls,
        "openinference.instrumentation.openai_agents",
        ("OpenAIAgentsInstrumentor",),
    ),
    "openllmetry-openai-agents": (
        openai_agents_calls,
        "opentelemetry.instrumentation.openai_agents",
        ("OpenAIAgentsInstrumentor",),
    ),
    "opentelemetry-openai-agents": (
        openai_agents_calls,
        "opentelemetry.instrumentation.genai.openai_agents",
        ("OpenAIAgentsInstrumentor",),
    ),
    "google-adk": (google_adk_calls, "", ()),
    **bridged_clients.SCENARIOS,
    **bridged_frameworks.SCENARIOS,
    **bridged_services.SCENARIOS,
}
"""By name."""


async def run(name: str, url: str) -> None:
    """Instrument, and make the spans of a scenario inside a run."""
    calls, module, instrumentors = SCENARIOS[name]
    provider = TracerProvider()
    sdk = OTLPSpanExporter(f"{url}/sdk/v1/traces", compression=Compression.NoCompression)
    PROCESSORS[:] = [StepSpanProcessor(), SimpleSpanProcessor(sdk)]
    for each in PROCESSORS:
        provider.add_span_processor(each)
    trace.set_tracer_provider(provider)
    if calls is openai_agents_calls:
        import agents

        agents.set_trace_processors([])  # it would send to OpenAI
    for kind in instrumentors:
        getattr(__import__(module, fromlist=[kind]), kind)().instrument(
            tracer_provider=provider, skip_dep_check=True
        )
    sink = OtlpHttpSink(traces_endpoint=f"{url}/ours/v1/traces", compression="none")
    manager = ExporterManager.from_exporters({"ours": SpanExporter(sink, flush="delivered")})
    async with manager.start(ContextState()):
        with step("task", "around"):
            await calls(url)
    provider.shutdown()


def compared(sdk: dict[bytes, Seen], ours: dict[bytes, Seen]) -> dict[str, Any]:
    """Return how much of each part arrived equal."""
    table = {"spans": [0, len(sdk)], "attributes": [0, 0], "events": [0, 0], "links": [0, 0]}
    table |= {"names": [0, 0], "kinds": [0, 0], "statuses": [0, 0], "scopes": [0, 0]}
    different: list[str] = []

    def count(part: str, theirs: Any, mine: Any, where: str) -> None:
        table[part][1] += 1
        if theirs == mine:
            table[part][0] += 1
        else:
            different.append(f"{where}: {theirs!r} != {mine!r}")

    for span_id, theirs in sdk.items():
        mine = ours.get(span_id)
        if mine is None:
            different.append(f"{theirs.name} is missing")
            continue
        table["spans"][0] += 1
        for attribute, value in theirs.attributes.items():
            count("attributes", value, mine.attributes.get(attribute), f"{theirs.name}: {attribute}")
        for event, mine_too in zip(theirs.events, [*mine.events, *[None] * len(theirs.events)], strict=False):
            count("events", event, mine_too, theirs.name)
        for link, mine_link in zip(theirs.links, [*mine.links, *[None] * len(theirs.links)], strict=False):
            count("links", link, mine_link, theirs.name)
        count("names", theirs.name, mine.name, theirs.name)
        count("kinds", theirs.kind, mine.kind, theirs.name)
        count("statuses", theirs.status, mine.status, theirs.name)
        count("scopes", (theirs.scope, theirs.times), (mine.scope, mine.times), theirs.name)
        if (rest := mine._replace(scope=theirs.scope)) != theirs and not different:
            different.append(f"{theirs.name}: {theirs!r} != {rest!r}")
    return {"table": table, "different": different}


if __name__ == "__main__":
    with serving() as address:
        asyncio.run(run(sys.argv[1], address))
        sys.stdout.write(json.dumps(compared(received("sdk"), received("ours"))))
