"""A workflow of the NeMo Agent Toolkit under our manager: its steps and ours, in one run of the embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from nat.builder.builder import Builder
from nat.builder.workflow_builder import WorkflowBuilder
from nat.cli.register_workflow import register_function
from nat.data_models.component_ref import FunctionRef
from nat.data_models.config import Config
from nat.data_models.function import FunctionBaseConfig

from nat_observability import ExporterManager, SpanExporter, step
from nat_observability.integrations.nat import use_manager
from nat_observability.sinks import SqliteSink
from nat_observability.store import SpanNode, Store


class WeatherConfig(FunctionBaseConfig, name="weather"):  # type: ignore[misc, call-arg]
    """A tool that the workflow calls."""


class AnswerConfig(FunctionBaseConfig, name="answer"):  # type: ignore[misc, call-arg]
    """The workflow itself."""

    tool: FunctionRef


async def weather(config: WeatherConfig, builder: Builder) -> AsyncGenerator[object, None]:
    """Build the tool; inside it, a step of ours."""

    async def ask(city: str) -> str:
        with step("tool", "forecast", input={"city": city}) as current:
            current.output = "sunny"
        if city == "Atlantis":
            raise LookupError(f"no city named {city}")
        return f"{city}: {current.output}"

    yield ask


async def answer(config: AnswerConfig, builder: Builder) -> AsyncGenerator[object, None]:
    """Build the workflow."""
    tool = await builder.get_function(config.tool)

    async def reply(question: str) -> str:
        return str(await tool.ainvoke(question))

    yield reply


register_function(config_type=WeatherConfig)(weather)
register_function(config_type=AnswerConfig)(answer)


async def main(store: Path) -> None:
    """Run the workflow twice; the second run fails, and the store has its error."""
    manager = ExporterManager.from_exporters({"store": SpanExporter(SqliteSink(store), flush="delivered")})
    config = Config(functions={"weather": WeatherConfig()}, workflow=AnswerConfig(tool="weather"))
    async with WorkflowBuilder() as builder:
        await builder.populate_builder(config)
        workflow = await builder.build()
        use_manager(workflow, manager)
        for city in ("Lisbon", "Atlantis"):
            try:
                async with workflow.run(city) as runner:
                    print(await runner.result(to_type=str))
            except LookupError as error:
                print(error)


def show(node: SpanNode, depth: int = 0) -> None:
    """Print a span and what it encloses."""
    span = node.span
    print(
        "  " * depth
        + f"{span.kind.value} {span.name}: {span.error.message if span.error else span.status.value}"
    )
    for child in node.children:
        show(child, depth + 1)


if __name__ == "__main__":
    path = Path("var/observability.sqlite3")
    asyncio.run(main(path))
    with Store(path) as opened:
        for run in reversed(opened.runs()):
            for root in opened.tree(run.run.run_id):
                show(root)
