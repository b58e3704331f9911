"""Scenarios of bridged spans: frameworks of agents and pipelines, and Logfire."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from tests.integrations.bridged_scenarios import PROCESSORS, Scenarios
from tests.integrations.bridged_server import ASKED


async def llama_index_calls(_: str) -> None:
    """A model's call, and a query over documents."""
    from llama_index.core import Document, SummaryIndex
    from llama_index.core.llms import ChatMessage, MockLLM

    model = MockLLM(max_tokens=5)
    await model.achat([ChatMessage(role="user", content="Which tea?")])
    engine: Any = SummaryIndex.from_documents([Document(text="green tea")]).as_query_engine(llm=model)
    await asyncio.to_thread(engine.query, "Which tea?")


async def dspy_calls(_: str) -> None:
    """A prediction."""
    import dspy
    from dspy.utils import DummyLM

    def call() -> None:
        with dspy.context(lm=DummyLM([{"answer": "green"}])):
            dspy.Predict("question -> answer")(question="Which tea?")

    await asyncio.to_thread(call)


async def haystack_calls(_: str) -> None:
    """A pipeline of two components, and a run of it that fails."""
    from haystack import Pipeline
    from haystack.components.builders import PromptBuilder

    pipeline: Any = Pipeline()
    pipeline.add_component("leaf", PromptBuilder(template="{{ leaf }}", required_variables=["leaf"]))
    pipeline.add_component("ask", PromptBuilder(template="Which {{ tea }}{{ 1 // size }}?"))
    pipeline.connect("leaf.prompt", "ask.tea")
    for size in (1, 0):
        with suppress(Exception):
            await asyncio.to_thread(pipeline.run, {"leaf": {"leaf": "tea"}, "ask": {"size": size}})


async def smolagents_calls(url: str) -> None:
    """An agent with a tool, until it has made enough steps."""
    import smolagents

    @smolagents.tool
    def brew(leaf: str) -> str:
        """
        Brew a leaf.

        Args:
            leaf: What to brew.
        """
        return f"hot {leaf}"

    model = smolagents.OpenAIServerModel("tea-model", api_base=f"{url}/v1", api_key="none")
    agent: Any = smolagents.ToolCallingAgent(tools=[brew], model=model, max_steps=2, verbosity_level=0)
    await asyncio.to_thread(agent.run, "Which tea?")


async def logfire_calls(_: str) -> None:
    """Spans and lines with values of several kinds, and one that fails."""
    import logfire

    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=PROCESSORS
    )
    with logfire.span("brew {leaf}", leaf="green", nested={"a": [1, 2.5, None]}, _tags=["x"]) as span:
        logfire.info("hot {grade}", grade=2)
        span.set_attribute("late", ["a", "b"])
    with suppress(ValueError), logfire.span("fail"):
        raise ValueError("no tea")


async def openai_calls_by_logfire(url: str) -> None:
    """A model's call, as its own instrumentation of OpenAI's client has it."""
    import logfire
    import openai

    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=PROCESSORS
    )
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", max_retries=0) as client:
        logfire.instrument_openai(client)
        await client.chat.completions.create(model="tea-model", messages=ASKED)
        with suppress(openai.NotFoundError):
            await client.chat.completions.create(model="broken", messages=ASKED)


def _of(calls: Any, module: str, instrumentor: str) -> Any:
    return calls, module, (instrumentor,)


SCENARIOS: Scenarios = {
    "logfire": (logfire_calls, "", ()),
    "logfire-openai": (openai_calls_by_logfire, "", ()),
    "openinference-dspy": _of(dspy_calls, "openinference.instrumentation.dspy", "DSPyInstrumentor"),
    "openinference-haystack": _of(
        haystack_calls, "openinference.instrumentation.haystack", "HaystackInstrumentor"
    ),
    "openinference-llama-index": _of(
        llama_index_calls, "openinference.instrumentation.llama_index", "LlamaIndexInstrumentor"
    ),
    "openinference-smolagents": _of(
        smolagents_calls, "openinference.instrumentation.smolagents", "SmolagentsInstrumentor"
    ),
    "openllmetry-llama-index": _of(
        llama_index_calls, "opentelemetry.instrumentation.llamaindex", "LlamaIndexInstrumentor"
    ),
}
"""By name."""
